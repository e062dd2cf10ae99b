"""Euler steps: for the probability-flow equation, and for the reverse stochastic one."""

from __future__ import annotations

import numpy as np

from dfx.errors import PersonError
from dfx.schedules.schedule import is_known
from dfx.solvers.ddim import ddim
from dfx.solvers.steps import check_noisy, ends_clean, namespace, pairs, record
from dfx.solvers.tableau import Tableau

VARIABLES = ("sigma", "time")


def euler(schedule, grid, variable: str = "sigma") -> Tableau:
    """Return Euler's method for the probability-flow equation, in one of two variables:

        sigma:  d(x/alpha) / d(sigma/alpha) = eps_hat,    x_t = alpha_t x0_hat + sigma_t eps_hat
        time:   dx / dt = velocity,                       x_t = x_s + (t - s) velocity

    "sigma" is the Euler method of Karras et al. on any schedule, the same tableau as DDIM and exact
    for a constant denoiser; it may start where alpha = 0 and ends at sigma = 0 with x0_hat. "time"
    is the Euler method of flow matching and needs sigma_dot finite along the grid but its last
    point. On a schedule with alpha = 1 - t, sigma = t the two are one. Order 1, one evaluation a
    step, one lane.

    Args:
      schedule, grid: as in `record`; tokens may have their own times, in "sigma" at sigma = 0 too.
      variable: "sigma" or "time".

    Raises:
      PersonError: unknown variable, or a bad grid.

    Source: Karras et al. 2022, section 3; Lipman et al. 2023 (time).
    """
    if variable not in VARIABLES:
        raise PersonError(f"variable = {variable!r}: allowed are {', '.join(VARIABLES)}")
    if variable == "sigma":
        return ddim(schedule, grid)
    r, levels = record(schedule, grid)
    check_noisy(levels, "euler", end=False)
    x = r.start
    for s, t in pairs(levels):
        x = x + (t.t - s.t) * r.at(x, s).velocity
    return r.tableau(x)


def euler_maruyama(schedule, grid) -> Tableau:
    """Return the Euler-Maruyama method for the reverse equation dx = (f x - g^2 score) dt + g dw:

        x_t = x_s - (s - t) (f x_s + g^2 eps_hat / sigma_s) + g sqrt(s - t) z,
        f = alpha_dot / alpha,    g^2 = 2 sigma (sigma_dot - f sigma),    all at s.

    Ito, weak order 1 (its noise is additive, so strong order 1 too), one evaluation a step, one
    lane. A grid that ends in clean data ends without noise. `ddpm` takes longer steps for the same
    error: it is exact for a constant denoiser.

    Args:
      schedule, grid: as in `record`; alpha must be positive at the start.

    Raises:
      PersonError: f or g is not finite at a grid point but the last, or a bad grid.

    Source: Song et al. 2021 (score SDE), eq. 6 and appendix D.
    """
    r, levels = record(schedule, grid)
    check_noisy(levels, "euler_maruyama", end=False)
    xp, clean = namespace(levels), ends_clean(levels)
    x = r.start
    for s, t in pairs(levels):
        e = r.at(x, s)
        step = s.t - t.t
        with np.errstate(divide="ignore", invalid="ignore"):
            f = s.alpha_dot / s.alpha
            variance = 2 * s.sigma * (s.sigma_dot - f * s.sigma)
        _check_finite(variance, s)
        x = x - step * (f * x + variance / s.sigma * e.eps)
        if clean and t is levels[-1]:
            break
        x = x + xp.sqrt(variance * step) * r.noise()
    return r.tableau(x)


def _check_finite(variance, level):
    if is_known(variance) and not np.isfinite(variance).all():
        raise PersonError(
            f"the reverse equation has no finite coefficients at t = {np.max(level.t):g}: "
            "start where alpha > 0"
        )
