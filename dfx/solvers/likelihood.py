"""Log-likelihoods by the instantaneous change of variables along the probability-flow equation.

A law p_t carried by the flow du / dtheta = v(u, theta) of `adaptive.py` obeys

    d log p / dtheta = -div v    along a path,

so the log-density at a point is that of the prior where its path ends, plus the integral of the
divergence over the way, plus d log(r_end / r_start), since x = r u.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dfx.errors import PersonError
from dfx.fields.derivatives import divergence, dot
from dfx.fields.field import as_pytree
from dfx.fields.probes import check_probes, draw_probes
from dfx.schedules.schedule import check_endpoint
from dfx.solvers.adaptive import (
    LAST_NOISE,
    Plan,
    angles,
    check_options,
    from_angle,
    integrate,
    level_at,
    to_angle,
    velocity,
)
from dfx.solvers.checks import as_points


class LogLikelihood(NamedTuple):
    """What `log_likelihood` finds, per sample.

    Attributes:
      value: log p(x) in nats, shape (n,); NaN where not `reached`.
      latent: the end of the path at the noise, shape of x.
      evaluations: of velocity and divergence together, shape (n,); each costs one evaluation of the
        field and one forward derivative per dimension, or per probe.
      reached: whether the path got to the end within the allowed number of steps, shape (n,).
    """

    value: jax.Array
    latent: jax.Array
    evaluations: jax.Array
    reached: jax.Array


def log_likelihood(
    schedule,
    field: Callable,
    x,
    time: float = 0.0,
    end=None,
    *,
    key=None,
    num_probes: int = 1,
    probe: str = "rademacher",
    prior: Callable | None = None,
    y=None,
    grid=None,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    method: str = "dopri5",
    last_noise: float = LAST_NOISE,
    max_steps: int = 4096,
) -> LogLikelihood:
    """Return log p_t(x) in nats of the law that the deterministic flow of the field has at time t:

        log p_t(x) = log prior(x_end) + integral of div v d theta + d log(r_end / r_t).

    Without a key the trace is exact, at d derivatives an evaluation. With one it is the
    Skilling-Hutchinson estimate: each sample has `num_probes` random probes that stay the same
    along its path; the value is then unbiased (up to the steps), its variance falls as
    1 / num_probes, and sample i has the same probes in every batch.

    Args:
      schedule: the forward process.
      field: (x, level) -> x0_hat; the level has one entry per sample.
      x: points, shape (n, *sample), floating; d is the size of one sample.
      time: t in [0, end_time]. Where sigma is 0, x is taken for the x / alpha of a point at
        sigma / alpha = `last_noise`: the law of the data, wider by that much noise. Where the data
        have the variance v that changes the log-density by about last_noise^2 / v.
      end: time at which the prior is taken; None is the end time of the schedule.
      key: key of the probes; None for the exact trace.
      num_probes, probe: as in `fields.divergence`.
      prior: (x, level) -> log-density of each sample at the end, shape (n,); None is
        N(beta y, sigma^2 I), which is the law there only up to what is left of x0: exact where
        alpha = 0.
      y: endpoints of the mean term, shape of x.
      grid: None for adaptive steps, or times from t to `end` for fixed steps; `time` and `end` are
        then its ends, and the error at the end has the order of the method.
      rtol, atol, method, last_noise, max_steps: as in `sample_adaptive`; the tolerances hold for
        the path and its log-density together.

    Raises:
      PersonError: x not floating, impossible times or grid, tolerances that are not positive, an
        unknown method or probe, a mean term without y, a net that says nothing of x0 at the end.

    Source: Chen et al. 2018 (neural ODE), theorem 1; Grathwohl et al. 2019 (probes); Song et al.
    2021 (score SDE), appendix D.2.
    """
    check_options(rtol, atol, method, last_noise)
    check_probes(num_probes, probe)
    if grid is not None:
        grid = np.asarray(grid, np.float64)
        time, end = _ends(grid)
    check_endpoint(schedule, y, "the flow")
    x, (span, (clean, _)) = as_points(x), angles(schedule, field, time, end, last_noise)
    if span[0] > span[1]:
        raise PersonError(f"time = {time:g} must be less noisy than the end, {end:g}")
    if grid is not None:
        levels = schedule.at(grid)
        grid = np.maximum(np.arctan2(levels.sigma, levels.alpha), math.atan(last_noise))
        if not np.all(np.diff(grid.astype(x.dtype)) > 0):
            raise PersonError(
                f"two times of the grid are one noise level: below sigma / alpha = {last_noise:g} "
                f"(last_noise), or closer than {x.dtype} tells apart"
            )
        # The ends are the grid's own: `angles` may round them otherwise, by a last digit.
        span = float(grid[0]), float(grid[-1])
        max_steps = max(max_steps, len(grid))
    # Drawn once, for the whole path.
    probes = None if key is None else draw_probes(key, x, num_probes, probe)
    shared = (schedule, as_pytree(field), y), probes
    plan = Plan(method, max_steps)
    latent, change, path = _log_change(shared, x, span, (rtol, atol), grid, plan=plan, clean=clean)
    level = schedule.at(schedule.end_time if end is None else float(end))
    at_end = _normal(latent, level, y) if prior is None else prior(latent, level)
    return LogLikelihood(at_end + change, latent, path.evaluations, path.reached)


@functools.partial(jax.jit, static_argnames=("plan", "clean"))
def _log_change(shared, x, span, tolerances, grid, plan, clean):
    """The latent, log p_t(x) - log prior(latent), and the path."""
    flow, _ = shared
    first, last = (jnp.asarray(angle, x.dtype) for angle in span)
    u, radius = to_angle(flow, x, first, clean)
    state = u, jnp.zeros(x.shape[0], x.dtype)
    grid = None if grid is None else jnp.asarray(grid, x.dtype)
    path = integrate(_rate, shared, state, (first, last), plan, tolerances, grid)
    u, change = path.state
    _, last_radius = level_at(flow[0], last)
    change = change + math.prod(x.shape[1:]) * jnp.log(last_radius / radius)
    return from_angle(flow, u, last)[0], change, path


def _rate(shared, state, theta):
    (flow, probes), (u, _) = shared, state
    slope = functools.partial(velocity, flow, theta=theta)
    if probes is None:
        return slope(u), divergence(slope, u)
    rate, push = jax.linearize(slope, u)
    return rate, jnp.mean(jax.vmap(lambda z: dot(z, push(z)))(probes), axis=0)


def _normal(x, level, y):
    """log N(x; beta y, sigma^2 I) of each sample."""
    sigma = jnp.asarray(level.sigma, x.dtype)
    z = (x if y is None else x - jnp.asarray(level.beta, x.dtype) * y) / sigma
    dim = math.prod(x.shape[1:])
    squares = jnp.sum(z.reshape(x.shape[0], -1) ** 2, axis=1)
    return -0.5 * squares - dim * (jnp.log(sigma) + 0.5 * math.log(2 * math.pi))


def _ends(grid):
    if grid.ndim != 1 or len(grid) < 2 or not np.all(np.diff(grid) > 0):
        raise PersonError("a grid of a likelihood must rise from the data to the noise")
    return float(grid[0]), float(grid[-1])
