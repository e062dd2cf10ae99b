"""DDIM, the deterministic step between two noise levels, and its stochastic family."""

from __future__ import annotations

from dfx.errors import PersonError
from dfx.solvers.phi import ddim_step, shrink
from dfx.solvers.steps import ends_clean, namespace, pairs, record, root
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
    return renoised(schedule, grid, eta)


def renoised(schedule, grid, eta: float) -> Tableau:
    """Return DDIM(eta) for any eta >= 0, its std at most sigma_t: then all noise is fresh."""
    r, levels = record(schedule, grid)
    xp, clean = namespace(levels), ends_clean(levels)
    x = r.start
    for s, t in pairs(levels):
        x0 = r.at(x, s).x0
        if eta == 0 or (clean and t is levels[-1]):
            x = ddim_step(x, x0, s, t)
            continue
        down = shrink(s, t)
        share = xp.minimum(1.0, eta**2 * (1 - down**2))  # std^2 / sigma_t^2
        kept = down if eta == 1 else root(1 - share)  # the same, but smooth where alpha_s = 0
        x = ddim_step(x, x0, s, t, kept) + root(share) * t.sigma * r.noise()
    return r.tableau(x)
