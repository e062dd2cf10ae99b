"""The steps of a solver: a checked grid of times as noise levels, and a recorder for them."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from dfx.errors import PersonError
from dfx.schedules.schedule import Level, Schedule
from dfx.solvers.recorder import Recorder

#: How far, relative to the end time, a grid may overshoot [0, end_time] by rounding.
ROUNDING = 1e-9


def record(schedule: Schedule, grid) -> tuple[Recorder, list[Level]]:
    """Return a recorder and the levels of the grid, from the noise to the data.

    NumPy grids give float64 levels on the host; a JAX array (which may be traced) gives JAX levels
    and is not checked.

    Args:
      schedule: the forward process.
      grid: times from the noise to the data, shape (n+1, *tok) where *tok broadcasts against one
        sample: (n+1,) for one time for all, (n+1, T, 1) for one per token. Tokens may
        stand still; at sigma = 0 only `ddim` and `ddpm` allow that.

    Raises:
      PersonError: fewer than 2 points, not finite, increasing, or outside [0, end_time].
    """
    if not isinstance(grid, jax.Array):
        grid = _checked(np.asarray(grid, np.float64), schedule)
    stacked = schedule.at(grid)
    levels = [Level(*(entry[i] for entry in stacked)) for i in range(len(grid))]
    has_mean = type(schedule).beta is not Schedule.beta
    return Recorder((levels[0], levels[-1]) if has_mean else None), levels


def pairs(levels: list[Level]):
    """Return the steps (s, t), from level s to the next, less noisy, level t."""
    return list(itertools.pairwise(levels))


def ends_clean(levels: list[Level]) -> bool:
    """Whether the last level is clean, sigma = 0 for every token; of a traced grid: True."""
    sigma = levels[-1].sigma
    return isinstance(sigma, jax.core.Tracer) or bool(np.all(np.asarray(sigma) == 0))


def namespace(levels: list[Level]):
    """The array namespace of the levels, numpy or jax.numpy."""
    return jnp if isinstance(levels[0].sigma, jax.Array) else np


def ratio(a, b):
    """Return a / b for 0 <= a <= b, and 1 where b is 0: a token at its end stands still."""
    xp = jnp if isinstance(b, jax.Array) else np
    return xp.where(b == 0, 1.0, a / xp.where(b == 0, 1.0, b))[()]


def _checked(grid, schedule):
    if grid.ndim == 0 or len(grid) < 2:
        raise PersonError(f"a grid needs at least 2 times, got shape {grid.shape}")
    if not np.isfinite(grid).all():
        raise PersonError("the grid holds a time that is not finite")
    steps = np.diff(grid, axis=0)
    stands_still = steps >= 0 if grid.ndim == 1 else steps > 0
    if stands_still.any():
        where = int(np.argwhere(stands_still)[0][0])
        raise PersonError(
            f"the grid must decrease from the noise to the data: time {grid[where].flat[0]:g} "
            f"is followed by {grid[where + 1].flat[0]:g}"
        )
    end = float(schedule.end_time)
    if grid.min() < 0 or grid.max() > end * (1 + ROUNDING):
        raise PersonError(
            f"the grid spans [{grid.min():g}, {grid.max():g}], outside the schedule's [0, {end:g}]"
        )
    return grid
