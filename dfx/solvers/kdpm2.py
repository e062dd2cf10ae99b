"""KDPM2: the midpoint method with the middle taken in log sigma."""

from __future__ import annotations

from dfx.schedules.derived import t_of_log_snr
from dfx.solvers.runge_kutta import stacked, unstacked
from dfx.solvers.steps import (
    check_noisy,
    check_start,
    ends_clean,
    euler_step,
    noise_of,
    pairs,
    record,
)
from dfx.solvers.tableau import Tableau


def kdpm2(schedule, grid) -> Tableau:
    """Return the midpoint sampler of k-diffusion: with X = x/alpha, S = sigma/alpha, d = eps_hat,

        S_m = sqrt(S_s S_t),
        Y   = X_s + (S_m - S_s) d(X_s, S_s),
        X_t = X_s + (S_t - S_s) d(Y, S_m).

    Order 2 at two evaluations a step, and one in a last step to sigma = 0, which returns x0_hat;
    two lanes. The middle of the step is that of the half log-SNR, so it is DPM-Solver-2S with r =
    1/2, to the letter. Choose it where the grid is uniform in log-SNR: steps in S then grow or
    shrink by a factor, and the middle in S lies too near the noise.

    Args:
      schedule, grid: as in `record`; tokens may have their own times, and end together. sigma /
        alpha must stay below 1e6.

    Raises:
      PersonError: too much noise at the start, or a bad grid.

    Source: Karras et al. 2022, appendix D.2 (two-stage methods; the middle in log sigma is that of
      k-diffusion); Lu et al. 2022, algorithm 1 (DPM-Solver-2).
    """
    r, levels = record(schedule, grid)
    check_noisy(levels, "kdpm2")
    check_start(levels, "kdpm2")
    clean = ends_clean(levels)
    middles = _middles(schedule, levels[:-1] if clean else levels)
    x = r.start
    for i, (s, t) in enumerate(pairs(levels)):
        if clean and t is levels[-1]:
            return r.tableau(euler_step(r.at(x, s), t))
        m = middles[i]
        e = r.at(x, s)
        start = x / s.alpha
        y = euler_step(e, m)
        x = t.alpha * (start + (noise_of(t) - noise_of(s)) * r.at(y, m).eps)
    return r.tableau(x)


def _middles(schedule, levels) -> list:
    if len(levels) < 2:
        return []
    s, t = stacked(levels[:-1]), stacked(levels[1:])
    return unstacked(schedule.at(t_of_log_snr(schedule, s.half_log_snr + t.half_log_snr)))
