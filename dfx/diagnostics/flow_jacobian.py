"""The flow's Jacobian: how the deterministic path carries small differences from noise to data.

Along du / dtheta = v(u, theta) (`dfx.solvers.adaptive`), with x = r u, a difference z of starting
points moves by dz / dtheta = (d v / d u) z.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dfx.errors import PersonError
from dfx.fields.field import as_pytree
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


class FlowJacobian(NamedTuple):
    """What `flow_jacobian` finds at each of k times, for each of n samples.

    Attributes:
      matrix: d x_t / d x_start times the directions, shape (k, n, d, m); NaN where not `reached`.
      points: x_t, shape (k, n, *sample).
      evaluations: of the field and its m forward derivatives, up to that time, shape (k, n).
      reached: by the path with every column, shape (k, n).
    """

    matrix: jax.Array
    points: jax.Array
    evaluations: jax.Array
    reached: jax.Array


def flow_jacobian(
    schedule,
    field: Callable,
    x,
    times,
    start=None,
    *,
    y=None,
    directions=None,
    at_once: int | None = None,
    num_steps: int | None = None,
    rtol: float = 1e-6,
    atol: float = 1e-8,
    method: str = "dopri5",
    last_noise: float = LAST_NOISE,
    max_steps: int = 4096,
) -> FlowJacobian:
    """Return Y = d x_t / d x_start of the probability-flow path through x, at each of `times`.

    With v the velocity of the path, dY / dt = (d v / d x) Y, Y = I at the start; each column is a
    forward derivative. For Gaussian data the singular values are sqrt(v_i(t) / v_i(start)), v_i the
    variances of x_t along its axes: at the data they are the deviations of the data, not 1.

    Args:
      schedule: the forward process.
      field: (x, level) -> x0_hat, differentiable in forward mode.
      x: points at time `start`, shape (n, *sample), floating.
      times: monotone, away from the start on one side, shape (k,). Where sigma is 0, the path ends
        at sigma / alpha = `last_noise`.
      start: the time of x; None is the end time of the schedule. alpha may be 0.
      y: endpoints of the mean term, shape of x.
      directions: shape (m, *sample), such as `random_directions`; None is all d axes. Through m
        random ones a rank up to m is seen.
      at_once: the number of columns carried together, which bounds the memory at n d at_once; each
        group goes along the path anew. None is all.
      num_steps: None for adaptive steps, or the fixed number of them between two times, of equal
        ratio in the angle of the noise level; the error then has the order of the method.
      rtol, atol, method, last_noise, max_steps: as in `solvers.sample_adaptive`, for the path and
        its columns together.

    Raises:
      PersonError: impossible or repeated times, numbers that are not positive, unknown method, a
        schedule with a mean term without y.

    Source: Horvat & Pfister 2024, section 5.
    """
    check_options(rtol, atol, method, last_noise)
    for name, count in {"at_once": at_once, "num_steps": num_steps}.items():
        if count is not None and count < 1:
            raise PersonError(f"{name} = {count}: must be 1 or more, or None")
    stops = [start, *np.asarray(times, np.float64).tolist()]
    spans = [angles(schedule, field, a, b, last_noise) for a, b in itertools.pairwise(stops)]
    if len({math.copysign(1, b - a) for (a, b), _ in spans}) != 1:
        raise PersonError(f"times {stops[1:]} must go one way from the start, and be at least one")
    if directions is None:
        directions = jnp.eye(x[0].size, dtype=x.dtype).reshape(-1, *x.shape[1:])
    check_endpoint(schedule, y, "the flow")
    shared = (schedule, as_pytree(field), y)
    plan = Plan(method, max_steps if num_steps is None else max(max_steps, num_steps + 1))
    walk = functools.partial(_walk, shared, x, spans, (rtol, atol), num_steps, plan)
    size = len(directions) if at_once is None else at_once
    groups = [walk(directions[i : i + size]) for i in range(0, len(directions), size)]
    matrix = jnp.concatenate([group.matrix for group in groups], axis=-1)
    evaluations = sum(group.evaluations for group in groups)
    reached = functools.reduce(jnp.logical_and, (group.reached for group in groups))
    return FlowJacobian(matrix, groups[0].points, evaluations, reached)


def random_directions(key, shape, num: int, dtype=jnp.float32):
    """Return `num` orthonormal directions for samples of that shape, shape (num, *shape).

    Uniform; the first axis counts them.

    Raises:
      PersonError: not 0 < num <= d.
    """
    if not 0 < num <= math.prod(shape):
        raise PersonError(f"num = {num}: there are {math.prod(shape)} orthogonal directions")
    normal = jax.random.normal(key, (math.prod(shape), num), dtype)
    return jnp.linalg.qr(normal)[0].T.reshape(num, *shape)


def _walk(shared, x, spans, tolerances, num_steps, plan, directions):
    """The path and one group of columns, from stop to stop."""
    directions = jnp.asarray(directions, x.dtype)
    (first, _), (clean, _) = spans[0]
    (u, radius), kept = _begin(shared, x, first, clean=clean), []
    state = u, jnp.broadcast_to(directions, (len(x), *directions.shape))
    evaluations, reached = jnp.zeros(len(x), int), jnp.ones(len(x), bool)
    for ends, _ in spans:
        grid = None if num_steps is None else np.geomspace(ends[0], ends[1], num_steps + 1)
        path, matrix, points = _segment(shared, state, radius, ends, tolerances, grid, plan=plan)
        state, reached = path.state, reached & path.reached
        evaluations = evaluations + path.evaluations
        kept.append(FlowJacobian(matrix, points, evaluations, reached))
    return jax.tree.map(lambda *a: jnp.stack(a), *kept)


@functools.partial(jax.jit, static_argnames="clean")
def _begin(shared, x, first, clean):
    return to_angle(shared, x, jnp.asarray(first, x.dtype), clean)


@functools.partial(jax.jit, static_argnames="plan")
def _segment(shared, state, radius, ends, tolerances, grid, plan):
    """The path between two angles, d x_t / d x_start times the directions, and x_t."""
    dtype = state[0].dtype
    ends = tuple(jnp.asarray(end, dtype) for end in ends)
    grid = None if grid is None else jnp.asarray(grid, dtype)
    path = integrate(_rate, shared, state, ends, plan, tolerances, grid)
    u, columns = path.state
    rows = (level_at(shared[0], ends[1])[1] / radius * columns).reshape(*columns.shape[:2], -1)
    return path, jnp.swapaxes(rows, 1, 2), from_angle(shared, u, ends[1])[0]


def _rate(shared, state, theta):
    u, columns = state
    slope = functools.partial(velocity, shared, theta=theta)
    return slope(u), jax.vmap(lambda z: jax.jvp(slope, (u,), (z,))[1], 1, 1)(columns)
