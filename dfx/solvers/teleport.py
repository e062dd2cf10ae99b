"""Start-up in closed form: the noisy part of a path is jumped over, not integrated.

At high noise the score of most data is close to that of the Gaussian with their mean and
covariance, whose flow is known (`evolution.gaussian_flow`). A start at a later time and the rest
of the grid are all that any solver needs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from dfx.errors import PersonError
from dfx.fields.guidance import Interval, interval
from dfx.solvers.steps import record


class Start(NamedTuple):
    """Where a solver starts: x, of the shape it was given in, and the times from there."""

    x: Any
    grid: Any


def teleport(schedule, move: Callable, x, grid, skip: int) -> Start:
    """Return the start that leaves out the first `skip` steps of a grid:

        start = teleport(schedule, gaussian_flow(law).move, x, grid, skip)
        sample(make(name, schedule, start.grid), field, start.x, key)

    The times left are those of the grid, so a method of E evaluations a step saves E skip of them:
    2 skip for Heun. Exact if the data are the Gaussian; else x is off by what the two flows differ
    in above the noise level skipped to, where a Gaussian score has a relative error of order
    sigma^-3. A solver with memory starts anew there; to give it a past, see `handover`.

    Args:
      schedule, grid: as in `record`, without a mean term, shape (n+1,).
      move: (x, from_level, to_level) -> x, the closed form of a flow.
      x: points at grid[0], shape (n, *sample), for example from `prior`.
      skip: from 0 (all is left as it is) to the number of steps less 1.

    Raises:
      PersonError: a bad grid, a skip outside it, or a mean term.

    Source: Wang & Vastola 2024 (Gaussian score approximation), "analytical teleportation".
    """
    grid = grid if isinstance(grid, jax.Array) else np.asarray(grid, np.float64)
    if schedule.has_mean or grid.ndim != 1:
        raise PersonError("teleport needs a schedule without a mean term, and one time for all")
    _, levels = record(schedule, grid)
    if isinstance(skip, bool) or not isinstance(skip, int | np.integer):
        raise PersonError(f"skip = {skip!r}: must be a whole number")
    if not 0 <= skip < len(levels) - 1:
        raise PersonError(f"skip = {skip}: this grid allows 0 to {len(levels) - 2}")
    return Start(move(x, levels[0], levels[skip]) if skip else x, grid[skip:])


def handover(before: Callable, after: Callable, schedule, t: float) -> Interval:
    """Return the field that is `before` at more noise than at time t, `after` from there on.

    It gives a multistep method a past. Skip some steps fewer, as many as the method remembers, and
    let the closed-form denoiser answer there instead of the net, at next to no cost:

        start = teleport(schedule, flow.move, x, grid, skip - 3)
        field = handover(oracle(law), net_field, schedule, grid[skip])

    The evaluations of `after` are those of `teleport(.., skip)`; what the method errs in the steps
    between is its own error on a Gaussian. One-step methods gain nothing, and those whose last
    stage lies at t evaluate `after` there once more.

    Args:
      before, after: fields (x, level) -> x0_hat; of a tuple the denoiser is taken.
      schedule, t: the noise level from which `after` answers, alpha > 0.

    Raises:
      PersonError: alpha = 0 at t.
    """
    level = schedule.at(float(t))
    if not level.alpha > 0:
        raise PersonError(f"no signal is left at t = {t:g}: hand over at a time after it")
    return interval(before, after, float(level.sigma / level.alpha), np.inf)
