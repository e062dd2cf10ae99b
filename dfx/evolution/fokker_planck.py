"""The law of a stochastic equation as a density on a grid: no samples, no sampling noise.

    dp/dt = -div(b p) + D Laplacian p,

solved by finite volumes (`finite_volume.py`) in one dimension, and in two by Strang's splitting:
half a step along the first axis, a step along the second, half a step along the first. Mass is kept
to rounding; the box is closed, so it must hold the law at all times.
"""

from __future__ import annotations

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np

from dfx.blocks import by_blocks
from dfx.errors import PersonError, choose
from dfx.evolution.finite_volume import METHODS, jump_rates
from dfx.evolution.grid import Grid, check_density
from dfx.evolution.motion import BLOCK, steps_of


def evolve(
    motion,
    grid: Grid,
    density,
    times,
    method: str = "crank_nicolson",
    keep: tuple[int, ...] | None = None,
):
    """Return the density that the motion makes of one, at the last of the times.

    Order 2 in spacing and steps ("implicit_euler": order 1 in steps); where the drift outweighs
    the diffusion by far, |b| h >> D, and where D = 0, order 1 in the spacing: take `ode_law` there.
    Coefficients are those of the middle of each step, so the field is not evaluated at the last
    time, which may be that of clean data. Each step costs the drift on all inner faces, about d
    evaluations of the field a cell, and 2 d - 1 tridiagonal solves, twice that for "patankar".

    Args:
      motion: what moves, for example `reverse(schedule, field)`.
      grid: the cells.
      density: cell averages at the first time, shape `grid.shape`; its dtype is the result's.
      times: rising or falling, shape (steps + 1,); falling for a reverse motion.
      method: "crank_nicolson" (positive for steps up to `positive_step`; for longer ones up to the
        error of the step), "patankar" (positive always, order 2, twice the solves) or
        "implicit_euler" (positive always, order 1).
      keep: None, or indices into `times` in any order: the densities there, stacked along a first
        axis, are returned instead.

    Raises:
      PersonError: times that neither rise nor fall, a density of another shape, an unknown method
        or an index out of range.

    Source: Scharfetter & Gummel 1969; Chang & Cooper 1970; Strang 1968.
    """
    choose("method", method, METHODS)
    check_density(grid, density)
    density = jnp.asarray(density, jnp.result_type(density, float))
    starts, lengths = steps_of(times, density.dtype)
    if keep is not None and not all(0 <= i <= len(lengths) for i in keep):
        raise PersonError(f"keep = {keep}: must lie in 0..{len(lengths)}, the indices of the times")
    slots = _slots(keep, len(lengths) + 1)
    count = 0 if keep is None else len(keep)
    end, kept = _evolve(motion, grid, density, starts, lengths, slots, count=count, method=method)
    return end if keep is None else kept


def positive_step(motion, grid: Grid, t, dtype=None):
    """Return a step up to which "crank_nicolson" keeps every density positive, in the unit of t.

    2 over the highest rate at which a cell is left along rising or falling times, so it serves
    both: spacing^2 / D without a drift, less with one.

    Args:
      motion, grid: as for `evolve`.
      t: the time at which the coefficients are taken, a number.
      dtype: of the computation; None is that of t, or JAX's default float.
    """
    return _positive_step(motion, grid, jnp.asarray(t, dtype or jnp.result_type(t, float)))


@jax.jit
def _positive_step(motion, grid, t):
    ways = itertools.product(range(grid.dim), (1, -1))
    leave = [_leaving(*_rates(motion, grid, t, i, sign, t.dtype)).max() for i, sign in ways]
    return 2 / jnp.max(jnp.stack(leave))


@functools.partial(jax.jit, static_argnames=("count", "method"))
def _evolve(motion, grid, density, starts, lengths, slots, count, method):
    kept = jnp.zeros((count, *grid.shape), density.dtype)

    def step(carry, now):
        p, kept = carry
        start, length, slot = now
        p = _step(motion, grid, p, start + 0.5 * length, length, METHODS[method])
        return (p, _store(kept, slot, p)), None

    carry = density, _store(kept, slots[0], density)
    return jax.lax.scan(step, carry, (starts, lengths, slots[1:]))[0]


def _step(motion, grid, p, middle, length, advance):
    dt, sign = jnp.abs(length), jnp.sign(length)
    rates = [_rates(motion, grid, middle, i, sign, p.dtype) for i in range(grid.dim)]
    if grid.dim == 1:
        return advance(p, *rates[0], dt)
    first, second = rates
    half = lambda p: advance(p.T, *first, 0.5 * dt).T  # noqa: E731
    return half(advance(half(p), *second, dt))


def _rates(motion, grid, t, axis, sign, dtype):
    """The rates across the faces of one axis, which comes last; sign: of the run of time."""
    x = grid.faces(axis, dtype)
    drift = by_blocks(lambda x: motion.drift(x, t)[:, axis], x, BLOCK)
    shape = tuple(n - (i == axis) for i, n in enumerate(grid.shape))
    return jump_rates(
        sign * jnp.moveaxis(drift.reshape(shape), axis, -1),
        jnp.asarray(motion.diffusion(t), dtype),
        jnp.asarray(grid.spacing[axis], dtype),
    )


def _leaving(up, down):
    pad = [(0, 0)] * (up.ndim - 1)
    return jnp.pad(up, [*pad, (0, 1)]) + jnp.pad(down, [*pad, (1, 0)])


def _slots(keep, count):
    """For each time the rows of the output that it fills, one-hot; shape (count, len(keep))."""
    keep = np.array([] if keep is None else keep, int)
    return jnp.asarray(np.arange(count)[:, None] == keep)


def _store(kept, slot, p):
    return jnp.where(slot.reshape(-1, *[1] * p.ndim), p, kept)
