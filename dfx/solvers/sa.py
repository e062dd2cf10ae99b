"""SA-Solver: stochastic Adams predictor and corrector."""

from __future__ import annotations

import math
from collections.abc import Callable

from dfx.errors import PersonError
from dfx.solvers.dpm_sde import sde_step
from dfx.solvers.phi import correction, ddim_step, gap, make_corrector, moments, order_of_step
from dfx.solvers.steps import ends_clean, pairs, record
from dfx.solvers.tableau import Tableau

#: The most values that a predictor or a corrector uses.
LARGEST_ORDER = 4


def sa_solver(
    schedule,
    grid,
    predictor: int = 3,
    corrector: int = 4,
    tau: float | Callable = 1.0,
    tau_min: float = 0.0,
    tau_max: float = math.inf,
    lower_order_final: bool = False,
) -> Tableau:
    """Return SA-Solver in its data form: predictor and corrector of each step share one noise z,

        x_t = sigma_t / sigma_s exp(-tau^2 h) x_s + sigma_t sqrt(1 - exp(-2 tau^2 h)) z
              + (1 + tau^2) alpha_t int exp((1 + tau^2) (lambda - lambda_t)) P(lambda) dlambda,

    P the polynomial through x0_hat at s, s-1, .. (predictor, `predictor` values) or at t, s, s-1,
    .. (corrector, `corrector` values, t the predicted point). The corrected x_t is not evaluated
    again: one evaluation a step, none corrects the last step. tau = 0 is the probability-flow
    equation, of order max(predictor, corrector) if corrector is at most predictor + 1; with
    predictor up to 3 and corrector 0 it is the exact multistep DPM-Solver++. tau = 1 is the usual
    reverse equation. With noise the order in law is 2, as measured on normal laws, and 1 for one
    value without corrector. max(predictor, corrector - 1) lanes, one more with a corrector. A grid
    that ends in clean data ends with x0_hat, without noise.

    Args:
      schedule, grid: as in `dpm_multistep`.
      predictor: 1 to 4 values. The source prefers (3, 4) without guidance, (2, 2) with it.
      corrector: 2, 3 or 4 values, counting that of t; 0 does not correct.
      tau: at least 0, constant over a step; or a function of the level s where the step starts.
      tau_min, tau_max: levels sigma / alpha of s between which noise is used; outside tau = 0.
      lower_order_final: no more values than steps left (corrector: one more), as in published code.
        Off by default.

    Raises:
      PersonError: an option outside these, or a bad grid.

    Source: Xue et al. 2023 (SA-Solver), section 4 and algorithm 1.
    """
    _check(predictor, corrector, tau, tau_min, tau_max)
    r, levels = record(schedule, grid)
    steps, clean = pairs(levels), ends_clean(levels)
    nodes: list = []  # half log-SNR from the start, and predictions there, the newest first
    values: list = []
    point, now, correct = r.start, 0.0, None
    for i, (s, t) in enumerate(steps):
        m, h = r.at(point, s).x0, gap(s, t)
        x = r.let(correct(m)) if correct else point
        if clean and t is levels[-1]:
            return r.tableau(ddim_step(x, m, s, t))
        nodes, values, now = [now, *nodes], [m, *values], now + h
        eta = _eta(tau, s, tau_min, tau_max)
        # With its noise, which predictor and corrector share.
        base = sde_step(r, x, m, s, t, eta, noisy=callable(tau) or tau > 0)
        integrals = moments(LARGEST_ORDER, h, -(1 + eta), (1 + eta) * t.alpha)
        k = order_of_step(predictor, i, len(steps), clean, lower_order_final)
        point = base + correction(integrals, nodes[:k], values[:k])
        if corrector:
            k = order_of_step(corrector - 1, i, len(steps), clean, lower_order_final)
            correct = make_corrector(base, integrals, nodes[:k], values[:k], now)
    return r.tableau(point)


def _eta(tau, level, low, high):
    """tau^2 at a level."""
    eta = tau(level) ** 2 if callable(tau) else float(tau) ** 2
    if low > 0:
        eta = eta * (level.sigma >= low * level.alpha)
    if high < math.inf:
        eta = eta * (level.sigma <= high * level.alpha)
    return eta


def _check(predictor, corrector, tau, tau_min, tau_max):
    if predictor not in range(1, LARGEST_ORDER + 1):
        raise PersonError(f"predictor = {predictor!r}: allowed are 1 to {LARGEST_ORDER}")
    if corrector not in (0, *range(2, LARGEST_ORDER + 1)):
        raise PersonError(f"corrector = {corrector!r}: allowed are 0 and 2 to {LARGEST_ORDER}")
    if not callable(tau) and not tau >= 0:
        raise PersonError(f"tau = {tau}: must not be negative")
    if not 0 <= tau_min <= tau_max:
        raise PersonError(f"tau_min = {tau_min} must lie in [0, tau_max = {tau_max}]")
