"""Quantities that follow from alpha, beta and sigma (notation: `schedule.py`).

At every time x_t has the law of the linear equation

    dx = (f(t) x + h(t) y) dt + g(t) dw,

    f = alpha_dot / alpha,     h = beta_dot - f beta,     g^2 = d(sigma^2)/dt - 2 f sigma^2,

whose coefficients are `drift_coefficient`, `mean_drift` and `diffusion` (Kingma et al. 2021). All
are free functions of (schedule, t), so a new schedule has them at once. Numbers and NumPy arrays
give float64 NumPy, JAX arrays give JAX, as in `Schedule.at`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from dfx.errors import PersonError
from dfx.schedules.schedule import Level, Schedule, check_mean, numpy_or_jax

#: Halvings of [0, end_time] before the Newton step: times down to 1e-12 end_time are then found to
#: 1e-7 of themselves, and the Newton step squares that error.
NUM_BISECTIONS = 64


def log_snr(schedule: Schedule, t):
    """Return log(alpha^2 / sigma^2) at times t, same shape: inf without noise, -inf without x0."""
    return schedule.at(t).log_snr


def t_of_log_snr(schedule: Schedule, value):
    """Return the time at which log-SNR has this value: the inverse of `log_snr`, for any schedule.

    Bisection on [0, end_time] and one Newton step. The derivative is that of the inverse function,
    of any order, in `value` and in the numbers of the schedule. A value outside the range of the
    schedule, infinite ones included, gives the nearer end, where the derivative is zero.

    Args:
      schedule: one whose log-SNR falls strictly.
      value: log(alpha^2 / sigma^2), any shape.

    Returns:
      Times in [0, end_time], same shape; NaN where `value` is.
    """
    return _t_of_log_snr(schedule, value)


def drift_coefficient(schedule: Schedule, t):
    """Return f(t) = alpha_dot / alpha, per unit time, same shape as t; -inf where alpha is 0."""
    level = schedule.at(t)
    with np.errstate(divide="ignore"):
        return level.alpha_dot / level.alpha


def mean_drift(schedule: Schedule, t):
    """Return h(t) = beta_dot - f beta, the pull of y per unit time, same shape as t."""
    level = schedule.at(t)
    with np.errstate(divide="ignore", invalid="ignore"):
        pull = -level.beta * level.alpha_dot / level.alpha
    # Without a mean term the pull is zero also where f is infinite.
    xp = jnp if isinstance(pull, jax.Array) else np
    return level.beta_dot + xp.where(level.beta == 0, 0, pull)


@numpy_or_jax
def diffusion(schedule: Schedule, t):
    """Return g(t)^2 = d(sigma^2)/dt - 2 f sigma^2, the variance added per unit time.

    Same shape as t; inf where alpha is 0.
    """
    alpha, alpha_dot = _with_derivative(schedule.alpha, t)
    variance, variance_dot = _with_derivative(schedule.variance, t)
    return variance_dot - 2 * (alpha_dot / alpha) * variance


def marginal_sample(x0, eps, level: Level, y=None):
    """Return x_t = alpha x0 + beta y + sigma eps, the noisy point of x0 and eps.

    Args:
      x0: clean data, shape (n, *sample); its dtype is the result's.
      eps: standard normal noise, same shape.
      level: from `schedule.at(t, x0.ndim)`.
      y: endpoint of the mean term, broadcasting against x0; needed where beta is not zero.

    Raises:
      PersonError: x0 is not floating, or a mean term without y.
    """
    _check_clean(x0)
    check_mean(level.beta, y, "marginal_sample")
    level = level.astype(x0.dtype)
    x = level.alpha * x0 + level.sigma * eps
    return x if y is None else x + level.beta * y


def marginal_velocity(x0, eps, level: Level, y=None):
    """Return d x_t / dt = alpha_dot x0 + beta_dot y + sigma_dot eps; see `marginal_sample`."""
    _check_clean(x0)
    check_mean(level.beta_dot, y, "marginal_velocity")
    level = level.astype(x0.dtype)
    velocity = level.alpha_dot * x0 + level.sigma_dot * eps
    return velocity if y is None else velocity + level.beta_dot * y


def _check_clean(x0):
    if not jnp.issubdtype(x0.dtype, jnp.floating):
        raise PersonError(f"x0 must be floating, not {x0.dtype}: the level would be rounded to it")


@numpy_or_jax
def _t_of_log_snr(schedule, value):
    end_time = jnp.asarray(schedule.end_time, value.dtype)
    at_end = _log_snr(schedule, end_time)
    at_data = _log_snr(schedule, jnp.zeros_like(end_time))
    inside = (value >= at_end) & (value <= at_data) & jnp.isfinite(value)
    # Values outside are replaced before the root is sought: their derivatives would be NaN.
    safe = jnp.where(inside, value, jax.lax.stop_gradient(_log_snr(schedule, 0.5 * end_time)))
    root = _falling_root(lambda t: _log_snr(schedule, t) - safe, end_time + jnp.zeros_like(value))
    nearer_end = jnp.where(value <= at_end, end_time, jnp.where(value >= at_data, 0, jnp.nan))
    return jnp.where(inside, root, nearer_end)


def _falling_root(function, end):
    """Return the root in [0, end] of a falling, entrywise function, with implicit derivatives."""

    def solve(f, _):
        def halve(_, bracket):
            low, high = bracket
            middle = low + 0.5 * (high - low)
            above = f(middle) > 0
            return jnp.where(above, middle, low), jnp.where(above, high, middle)

        low, high = jax.lax.fori_loop(0, NUM_BISECTIONS, halve, (jnp.zeros_like(end), end))
        t = low + 0.5 * (high - low)
        value, slope = _with_derivative(f, t)
        newton = t - value / slope
        return jnp.where(jnp.isfinite(newton), jnp.clip(newton, 0, end), t)

    def tangent_solve(linear, y):
        return y / linear(jnp.ones_like(y))

    return jax.lax.custom_root(function, end, solve, tangent_solve)


def _log_snr(schedule, t):
    return 2 * (jnp.log(schedule.alpha(t)) - jnp.log(schedule.sigma(t)))


def _with_derivative(function, t):
    return jax.jvp(function, (t,), (jnp.ones_like(t),))
