"""DDIM, the deterministic step between two noise levels, and its stochastic family."""

from __future__ import annotations

from dfx.errors import PersonError
from dfx.solvers.steps import ends_clean, namespace, pairs, ratio, record
from dfx.solvers.tableau import Tableau


def ddim(schedule, grid, eta: float = 0.0) -> Tableau:
    """Return DDIM(eta): from level s to level t,

        std = eta sigma_t sqrt(1 - (alpha_s sigma_t / (alpha_t sigma_s))^2),
        x_t = alpha_t x0_hat + sqrt(sigma_t^2 - std^2) eps_hat + std z.

    eta = 0 is deterministic, of order 1, exact for a constant denoiser and on every schedule the
    same method as Euler for d(x/alpha)/d(sigma/alpha) = eps and as DPM-Solver-1; eta = 1 is DDPM
    with the small variance, weak order 1. One evaluation a step, one lane. At sigma_t = 0 it
    returns x0_hat.

    Args:
      schedule, grid: as in `record`; tokens may have their own times.
      eta: from 0 (no noise) to 1.

    Raises:
      PersonError: eta outside [0, 1], or a bad grid.

    Source: Song, Meng & Ermon 2021, eq. 12 and 16.
    """
    if not 0 <= eta <= 1:
        raise PersonError(f"eta = {eta}: must lie in [0, 1]")
    r, levels = record(schedule, grid)
    xp, clean = namespace(levels), ends_clean(levels)
    x = r.start
    for s, t in pairs(levels):
        x0 = r.at(x, s).x0
        noisy = eta > 0 and not (clean and t is levels[-1])
        kept = 1.0  # the share of sigma_t that eps_hat keeps, sqrt(1 - std^2 / sigma_t^2)
        if noisy:
            fresh = 1 - (ratio(s.alpha * t.sigma, t.alpha * s.sigma)) ** 2
            std = eta * t.sigma * xp.sqrt(fresh)
            kept = xp.sqrt(1 - eta**2 * fresh)
        # alpha_t x0_hat + kept sigma_t eps_hat with eps_hat = (x - alpha_s x0_hat) / sigma_s
        of_x = kept * ratio(t.sigma, s.sigma)
        x = of_x * x + (t.alpha - of_x * s.alpha) * x0
        if noisy:
            x = x + std * r.noise()
    return r.tableau(x)
