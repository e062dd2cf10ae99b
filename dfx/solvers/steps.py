"""The steps of a solver: a checked grid of times as noise levels, and a recorder for them."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from dfx.errors import PersonError
from dfx.schedules.schedule import Level, Schedule, is_known
from dfx.solvers.recorder import Evaluation, Lin, Recorder

#: How far, relative to the end time, a grid may overshoot [0, end_time] by rounding.
ROUNDING = 1e-9

#: Above this sigma / alpha a second stage would be weighted by as much; EDM starts at 80.
LARGEST_NOISE = 1e6


def record(schedule: Schedule, grid) -> tuple[Recorder, list[Level]]:
    """Return a recorder and the levels of the grid, from the noise to the data.

    NumPy grids give float64 levels on the host. A JAX array gives JAX levels, and coefficients of
    its dtype: in float32 they are off by 1e-4 at a thousand steps. A traced one is not checked.

    Args:
      schedule: the forward process.
      grid: times from the noise to the data, shape (n+1, *tok) where *tok broadcasts against one
        sample: (n+1,) for one time for all, (n+1, T, 1) for one per token. Tokens may
        stand still; at sigma = 0 only methods that need x0_hat alone allow that, others refuse it.

    Raises:
      PersonError: fewer than 2 points, not finite, increasing, or outside [0, end_time].
    """
    grid = grid if isinstance(grid, jax.Array) else np.asarray(grid, np.float64)
    if is_known((grid, schedule.end_time)):
        precision = np.finfo(jnp.promote_types(grid.dtype, jnp.float32)).eps
        _check(np.asarray(grid, np.float64), float(schedule.end_time), precision)
    stacked = schedule.at(grid)
    levels = [Level(*(entry[i] for entry in stacked)) for i in range(len(grid))]
    return Recorder((levels[0], levels[-1]) if schedule.has_mean else None), levels


def pairs(levels: list[Level]):
    """Return the steps (s, t), from level s to the next, less noisy, level t."""
    return list(itertools.pairwise(levels))


def ends_clean(levels: list[Level]) -> bool:
    """Whether the last level is clean, sigma = 0 for every token; of a traced grid: True."""
    sigma = levels[-1].sigma
    return not is_known(sigma) or bool(np.all(np.asarray(sigma) == 0))


def namespace(levels: list[Level]):
    """The array namespace of the levels, numpy or jax.numpy."""
    return jnp if isinstance(levels[0].sigma, jax.Array) else np


def ratio(a, b):
    """Return a / b for 0 <= a <= b, and 1 where b is 0: a token at its end stands still."""
    xp = jnp if isinstance(b, jax.Array) else np
    return xp.where(b == 0, 1.0, a / xp.where(b == 0, 1.0, b))[()]


def root(a):
    """Return sqrt(a) for a >= 0; where a is 0 its derivative, infinite, is given as 0."""
    xp = jnp if isinstance(a, jax.Array) else np
    return xp.where(a > 0, xp.sqrt(xp.where(a > 0, a, 1.0)), 0.0)[()]


def noise_of(level):
    """Return S = sigma / alpha."""
    return level.sigma / level.alpha


def euler_step(e: Evaluation, t: Level) -> Lin:
    """Return the end of Euler's step in sigma from an evaluation, which is x0_hat at clean t.

    Written without a division by alpha: it is Euler's step of x / alpha where alpha_s = 0 too.
    """
    return t.alpha * e.x0 + t.sigma * e.eps


def check_start(levels: list[Level], name: str) -> None:
    """Refuse a grid that starts where next to nothing of x0 is left: sigma / alpha is infinite."""
    start = levels[0]
    if is_known(levels) and not np.all(start.sigma < LARGEST_NOISE * start.alpha):
        raise PersonError(
            f"{name} needs sigma / alpha below {LARGEST_NOISE:g}, but the grid starts at "
            f"t = {np.max(start.t):g} where alpha = {np.min(start.alpha):g}: start later"
        )


def check_noisy(levels: list[Level], name: str, *, end: bool = True) -> None:
    """Refuse grids with clean data before the end and, with `end`, there for some tokens only."""
    if not is_known(levels):
        return
    clean = np.asarray(levels[-1].sigma) == 0
    partly = end and clean.any() and not clean.all()
    if partly or any(np.any(level.sigma == 0) for level in levels[:-1]):
        raise PersonError(
            f"{name} needs sigma > 0 for every token before the last time, and there for all or "
            "for none: let tokens that are ready stay at a small sigma, or use ddim"
        )


def check_single(levels: list[Level], name: str) -> None:
    """Refuse times per token, and clean data before the end."""
    shape = np.shape(levels[0].t)
    if shape:
        raise PersonError(
            f"{name} needs one time for all tokens, got times of shape {shape} a row: use lms, or "
            "a one-step method"
        )
    check_noisy(levels, name)


def _check(grid, end, precision):
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
    if grid.min() < 0 or grid.max() > end * (1 + max(ROUNDING, precision)):
        raise PersonError(
            f"the grid spans [{grid.min():g}, {grid.max():g}], outside the schedule's [0, {end:g}]"
        )
