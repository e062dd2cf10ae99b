"""DDPM ancestral sampling."""

from __future__ import annotations

from dfx.errors import PersonError
from dfx.solvers.phi import shrink
from dfx.solvers.steps import ends_clean, pairs, ratio, record, root
from dfx.solvers.tableau import Tableau

VARIANCES = ("small", "large")


def ddpm(schedule, grid, variance: str = "small") -> Tableau:
    """Return ancestral sampling: with a = alpha_s / alpha_t and beta = sigma_s^2 - a^2 sigma_t^2,

        x_t = (a sigma_t^2 / sigma_s^2) x_s + (alpha_t beta / sigma_s^2) x0_hat + std z,
        std^2 = beta sigma_t^2 / sigma_s^2   (small, the variance of q(x_t | x_s, x0)),
                beta                         (large).

    beta is that of the pair of grid points, as in a respaced chain. Weak order 1, one evaluation a
    step, one lane. The small variance equals DDIM with eta = 1, to the letter and with the same
    noise. A grid that ends in clean data ends with x0_hat, without noise.

    Args:
      schedule, grid: as in `record`.
      variance: "small" is exact in law for data at a point, "large" for normal data of unit
        variance.

    Raises:
      PersonError: unknown variance, or a bad grid.

    Source: Ho, Jain & Abbeel 2020, eq. 6, 7 and section 3.2.
    """
    if variance not in VARIANCES:
        raise PersonError(f"variance = {variance!r}: allowed are {', '.join(VARIANCES)}")
    r, levels = record(schedule, grid)
    clean = ends_clean(levels)
    x = r.start
    for s, t in pairs(levels):
        x0 = r.at(x, s).x0
        kept = shrink(s, t)  # a sigma_t / sigma_s
        fresh = 1 - kept**2  # beta / sigma_s^2
        std = (t.sigma if variance == "small" else s.sigma) * root(fresh)
        x = kept * ratio(t.sigma, s.sigma) * x + t.alpha * fresh * x0
        if clean and t is levels[-1]:
            break
        x = x + std * r.noise()
    return r.tableau(x)
