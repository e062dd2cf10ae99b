"""The forward equation dx = F dt + g dw at given times and points, and what the laws of a field owe
it: the Fokker-Planck equation of a potential phi = log p and of its gradient, a score s.

    potential:   R   = d_t phi + div F + F . grad phi - (g^2 / 2) (Lap phi + |grad phi|^2),
    score:       eps = d_t s - grad[(g^2 / 2) (div s + |s|^2) - F . s - div F].

Both vanish on exact laws; R of a phi with gradient s has the gradient eps. Coefficients are made in
the precision of `Schedule.at`, float64 for plain numbers, and cast to that of x. How div and its
gradient are taken, exactly or by probes, is the caller's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dfx.errors import PersonError
from dfx.schedules.derived import diffusion, drift_coefficient, mean_drift
from dfx.schedules.schedule import Level, check_mean, expand, is_known, numpy_or_jax


class Equation(NamedTuple):
    """At the times asked, broadcasting against x: f, F, g^2 / 2, the level and its rate."""

    f: Any
    drift: Any
    half_noise: Any
    level: Level
    rate: Level


def at(schedule, x, t, y=None) -> Equation:
    """Return the equation at times t, () or (n,), seen from the points x, shape (n, *sample).

    Entries are cast to the dtype of x, so that float32 points stay float32. Of infinite f or g^2
    nothing is said here (`check_finite`).

    Raises:
      PersonError: x or t of another shape, a missing y.
    """
    if x.ndim < 2 or not jnp.issubdtype(x.dtype, jnp.floating):
        raise PersonError(f"x: shape {x.shape}, {x.dtype}: need floating points (n, *sample)")
    if np.ndim(t) > 0 and np.shape(t) != x.shape[:1]:
        raise PersonError(f"t: shape {np.shape(t)}: give one time, or one per point, {x.shape[:1]}")
    t = expand(t if isinstance(t, jax.Array) else np.asarray(t, np.float64), x.ndim)
    level, rate, f, noise, pull = jax.tree.map(
        lambda a: jnp.asarray(a, x.dtype), _coefficients(schedule, t)
    )
    check_mean(level.beta, y, "the residual")
    drift = jnp.broadcast_to(f * x if y is None else f * x + pull * y, x.shape)
    return Equation(f, drift, 0.5 * noise, level, rate)


@numpy_or_jax
def _coefficients(schedule, t):
    level, rate = jax.jvp(schedule.at, (t,), (jnp.ones_like(t),))
    return level, rate, *(c(schedule, t) for c in (drift_coefficient, diffusion, mean_drift))


def rate_of(f: Callable, eq: Equation):
    """Return d f(level) / dt."""
    return jax.jvp(f, (eq.level,), (eq.rate,))[1]


def potential_residual(potential: Callable, eq: Equation, x, trace: Callable):
    """Return R of a potential (x, level) -> (n,); d_t phi by the level's rate.

    Args:
      trace: f -> div f at x, exact or estimated, shape (.., n); R then has this shape.
    """
    gradient = lambda x: jax.grad(lambda x: jnp.sum(potential(x, eq.level)))(x)  # noqa: E731
    s = gradient(x)
    rate = rate_of(lambda level: potential(x, level), eq)
    spread = trace(lambda x: eq.half_noise * gradient(x)) + sum_entries(eq.half_noise * s**2, x)
    return rate + sum_entries(eq.f, x) + sum_entries(eq.drift * s, x) - spread


def score_residual(score: Callable, eq: Equation, x, trace_gradient: Callable):
    """Return eps of a score (x, level) -> s, which need not be a gradient.

    Args:
      trace_gradient: f -> grad div f at x, exact or estimated, shape (.., *x.shape), as eps then.
    """
    s, pull = jax.vjp(lambda x: score(x, eq.level), x)
    # grad |s|^2 = 2 J^T s and grad (F . s) = f s + J^T F.
    slope = pull(2 * eq.half_noise * s - eq.drift)[0] - eq.f * s
    rate = rate_of(lambda level: score(x, level), eq)
    return rate - slope - trace_gradient(lambda x: eq.half_noise * score(x, eq.level))


def check_potential(potential: Callable, x, level: Level) -> None:
    """Raise PersonError unless the potential gives one number per sample."""
    shape = jax.eval_shape(potential, x, level).shape
    if shape != x.shape[:1]:
        raise PersonError(f"a potential gives one number per sample, {x.shape[:1]}, got {shape}")


def check_finite(eq: Equation) -> None:
    """Raise PersonError where f or g^2 is known to be infinite: where alpha = 0."""
    for value in (eq.f, eq.half_noise):
        if is_known(value) and not np.isfinite(np.asarray(value)).all():
            times = np.ravel(eq.level.t)
            raise PersonError(f"t = {times}: f or g^2 is infinite there: keep away from the ends")


def check_noise(eq: Equation) -> None:
    """Raise PersonError where sigma is known to be zero: there is no score."""
    if is_known(eq.level.sigma) and not (np.asarray(eq.level.sigma) > 0).all():
        raise PersonError(f"t = {np.ravel(eq.level.t)}: sigma must be positive for a score")


def sum_entries(value, x):
    """Return the sum over the entries of each sample of what broadcasts against x, shape (n,)."""
    return jnp.sum(jnp.broadcast_to(value, x.shape).reshape(x.shape[0], -1), axis=1)
