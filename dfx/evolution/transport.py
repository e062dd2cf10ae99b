"""Points and log-densities carried by an ordinary differential equation, in any dimension.

    dx/dt = b(x, t),        d log q / dt = -div b    along a path,

the continuity equation dq/dt = -div(b q) read along its characteristics. There is no grid and no
numerical diffusion: the density at a point is as exact as the path through it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from dfx.blocks import by_blocks
from dfx.errors import PersonError, choose
from dfx.evolution.motion import BLOCK, steps_of
from dfx.fields import divergence

#: Name -> explicit Runge-Kutta method, a row a stage: how far it goes along the slope of the stage
#: before, in steps, and the weight of its own slope. "midpoint": order 2, two evaluations; "rk4":
#: order 4, four.
METHODS = {
    "midpoint": ((0, 0), (1 / 2, 1)),
    "rk4": ((0, 1 / 6), (1 / 2, 1 / 3), (1 / 2, 1 / 3), (1, 1 / 6)),
}


def move(motion, x, times, method: str = "rk4"):
    """Return where the flow of a motion carries the points x, shape (n, d).

    Args:
      motion: one without diffusion, for example `reverse(schedule, field, 0.0)`.
      x: points at the first time, shape (n, d).
      times: rising or falling, shape (steps + 1,). "rk4" evaluates the field at all of them, and
        the velocity of a field is undefined where sigma = 0: end at a small time above it. What is
        left out is of the size of that time for schedules with g finite.
      method: one of `METHODS`.

    Raises:
      PersonError: a motion with diffusion, times that neither rise nor fall, an unknown method.
    """
    x, starts, lengths = _checked(motion, x, times, method)
    return _move(motion, x, starts, lengths, method=method)


def move_with_density(motion, x, times, method: str = "rk4"):
    """Return the ends of the points and log q_end - log q_start along their paths, shape (n,).

    The change is - int div b dt, in nats, at d forward derivatives an evaluation; arguments, order
    and errors as for `move`.
    """
    x, starts, lengths = _checked(motion, x, times, method)
    return _move_with_density(motion, x, starts, lengths, method=method)


def carried_log_density(motion, x, times, start_log_density: Callable, method: str = "rk4"):
    """Return log q at the last time, at points x (n, d), of the law carried there; shape (n,).

    log q_end(x) = log q_start(x_start) - int_start^end div b dt, with x_start the point whose path
    ends at x, found by going back. Arguments otherwise as for `move`.

    Args:
      start_log_density: points (n, d) -> log q at the first time, shape (n,).
    """
    x, change = move_with_density(motion, x, times[::-1], method)
    return start_log_density(x) - change


@functools.partial(jax.jit, static_argnames=("method",))
def _move(motion, x, starts, lengths, method):
    def path(x):
        return _integrate(motion.drift, x, starts, lengths, method)

    return by_blocks(path, x, BLOCK)


@functools.partial(jax.jit, static_argnames=("method",))
def _move_with_density(motion, x, starts, lengths, method):
    def rate(state, t):
        slope = lambda x: motion.drift(x, t)  # noqa: E731
        return slope(state[0]), -divergence(slope, state[0])

    def path(x):
        state = x, jnp.zeros(x.shape[0], x.dtype)
        return _integrate(rate, state, starts, lengths, method)

    return by_blocks(path, x, BLOCK)


def _integrate(rate, state, starts, lengths, method):
    """The state after all steps. Stages are turns of a loop: one copy of the field to compile."""
    stages = tuple(jnp.asarray(column, lengths.dtype) for column in zip(*METHODS[method]))

    def body(state, now):
        t, dt = now

        def stage(carry, entries):
            slope, total = carry
            share, weight = entries
            slope = rate(_add(state, slope, share * dt), t + share * dt)
            return (slope, _add(total, slope, weight)), None

        zero = jax.tree.map(jnp.zeros_like, state)
        (_, total), _ = jax.lax.scan(stage, (zero, zero), stages)
        return _add(state, total, dt), None

    return jax.lax.scan(body, state, (starts, lengths))[0]


def _add(state, slope, dt):
    return jax.tree.map(lambda a, b: a + dt * b, state, slope)


def _checked(motion, x, times, method):
    choose("method", method, METHODS)
    x = jnp.asarray(x, jnp.result_type(x, float))
    starts, lengths = steps_of(times, x.dtype)
    noise = motion.diffusion(starts[0] + 0.5 * lengths[0])
    if not isinstance(noise, jax.core.Tracer) and float(noise) != 0:
        raise PersonError(f"the motion has diffusion {float(noise):g}: only a flow carries points")
    return x, starts, lengths
