"""Heun's method of EDM, with or without churn."""

from __future__ import annotations

import math

import numpy as np

from dfx.errors import PersonError
from dfx.schedules.derived import t_of_log_snr
from dfx.schedules.schedule import is_known
from dfx.solvers.steps import (
    check_noisy,
    check_start,
    ends_clean,
    euler_step,
    namespace,
    noise_of,
    pairs,
    record,
)
from dfx.solvers.tableau import Tableau

#: Agreement asked between the noise that churn wants and what the schedule has at the time found;
#: that of a time in float32 is rounded by more.
TIME_ACCURACY = 1e-6


def heun(
    schedule,
    grid,
    churn: float = 0.0,
    churn_min: float = 0.0,
    churn_max: float = math.inf,
    churn_noise: float = 1.0,
) -> Tableau:
    """Return the EDM sampler: with X = x/alpha, S = sigma/alpha, d = (X - x0_hat)/S = eps_hat,

        churn   S_hat = S_s (1 + gamma),  X_hat = X + sqrt(S_hat^2 - S_s^2) churn_noise z
        Euler   Y = X_hat + (S_t - S_hat) d(X_hat)
        Heun    X_t = X_hat + (S_t - S_hat) (d(X_hat) + d(Y)) / 2,    or Y itself if S_t = 0

    with gamma = min(churn / steps, sqrt(2) - 1) where churn_min <= S_s <= churn_max, otherwise 0.
    Without churn it is Heun's method for the probability-flow equation, order 2, at two evaluations
    a step and one in a last step to sigma = 0; two lanes. Churn goes back up by an exact step of
    the forward process and down again, which corrects errors made before and keeps the order, in
    law, at 2.

    Args:
      schedule, grid: as in `record`; tokens may have their own times, and end together. sigma /
        alpha must stay below 1e6. `grids.karras` is the usual grid.
      churn, churn_min, churn_max, churn_noise: S_churn, S_tmin, S_tmax, S_noise of the source; the
        bounds are levels sigma / alpha.

    Raises:
      PersonError: negative churn, bounds that are not ordered, noise beyond the end of the
        schedule, or a bad grid.

    Source: Karras et al. 2022, algorithms 1 (churn = 0) and 2.
    """
    if churn < 0 or churn_noise < 0 or not 0 <= churn_min <= churn_max:
        raise PersonError(
            f"churn = {churn}, churn_noise = {churn_noise}: must not be negative; "
            f"churn_min = {churn_min} must lie in [0, churn_max = {churn_max}]"
        )
    r, levels = record(schedule, grid)
    check_noisy(levels, "heun")
    check_start(levels, "heun")
    steps, clean = pairs(levels), ends_clean(levels)
    gamma = min(churn / len(steps), math.sqrt(2) - 1)
    x = r.start
    for s, t in steps:
        if churn > 0:
            within = (churn_min <= noise_of(s)) & (noise_of(s) <= churn_max)
            x, s = _raise(r, x, s, schedule, within * gamma, churn_noise)
        e = r.at(x, s)
        y = euler_step(e, t)
        if clean and t is levels[-1]:
            return r.tableau(y)
        start, step, d = x / s.alpha, noise_of(t) - noise_of(s), e.eps
        x = t.alpha * (start + step * (d + r.at(y, t).eps) / 2)
    return r.tableau(x)


def _raise(r, x, s, schedule, gamma, churn_noise):
    """Add fresh noise to x until its level is S_s (1 + gamma)."""
    xp = namespace([s])
    if is_known(gamma) and not np.any(gamma):
        return x + 0.0 * r.noise(), s
    raised = schedule.at(t_of_log_snr(schedule, -2 * xp.log(noise_of(s) * (1 + gamma))))
    _check_raised(raised, noise_of(s) * (1 + gamma))
    added = noise_of(s) * xp.sqrt(gamma * (2 + gamma))
    return raised.alpha * (x / s.alpha + churn_noise * added * r.noise()), raised


def _check_raised(raised, wanted):
    accuracy = max(TIME_ACCURACY, np.finfo(raised.t.dtype).eps ** 0.5)
    if is_known((raised, wanted)) and not np.allclose(noise_of(raised), wanted, rtol=accuracy):
        raise PersonError(
            f"churn raises sigma / alpha to {np.max(wanted):g}, beyond the end of the schedule "
            f"({np.max(noise_of(raised)):g}): lower churn_max or start the grid later"
        )
