"""Noise as increments of one Brownian path, which a grid shares with its refinements.

`sample` draws the noise of row i by the number i, so runs on two grids have nothing to do with each
other. Here it is a function of the key, the sample and the interval of a clock that the step
covers, so that the error of a run against a finer one, path by path, can be measured: the strong
order.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dfx.errors import PersonError
from dfx.fields.field import STATIC
from dfx.pytree import pytree
from dfx.solvers.noise import START_ROW, draw

#: How far, relative to its length, a time may be from one of the finest grid and still be that one.
ROUNDING = 1e-9


@pytree
@dataclasses.dataclass(frozen=True)
class BrownianNoise:
    """Row -> z, the increment of a Brownian path over the row's step, divided by its deviation.

    Attributes:
      key: of the path.
      first: the cell of the finest grid where each step begins, and the end of the last step.
      weights: of each cell, the root of its share in the step that it belongs to.
      shape: of the noise, (n, *sample).
      dtype: of the noise.
      evaluations: rows a step.
    """

    key: Any
    first: Any
    weights: Any
    shape: tuple[int, ...] = dataclasses.field(metadata=STATIC)
    dtype: Any = dataclasses.field(metadata=STATIC)
    evaluations: int = dataclasses.field(default=1, metadata=STATIC)

    def __call__(self, row):
        if isinstance(row, int) and row < 0:
            return draw(self.key, START_ROW, self.shape, self.dtype)
        step = jnp.asarray(row) // self.evaluations
        last = len(self.first) - 1
        begin, end = (self.first[jnp.minimum(i, last)] for i in (step, step + 1))

        def add(cell, total):
            z = draw(self.key, cell, self.shape, self.dtype)
            return total + self.weights[cell].astype(self.dtype) * z

        return jax.lax.fori_loop(begin, end, add, jnp.zeros(self.shape, self.dtype))


def brownian(key, finest, grid, shape, dtype=jnp.float32, evaluations: int = 1) -> BrownianNoise:
    """Return the noise of the grid's steps as increments of a path that is drawn on a finest grid.

    The path has an increment sqrt(length) z for each cell between neighbours of `finest`, z a
    function of the key, the number of the cell and the number of the sample. A step over several
    cells gets their sum, divided by the root of its own length. So it is guaranteed that

    * z is standard normal, independent between steps, samples and entries, whatever the grid;
    * for any two grids in `finest`, sqrt(length) z summed over the steps of an interval that both
      have is the same number, up to rounding;
    * sample i has the same path in every batch;
    * the noise before the first row (churn) is independent of the path.

    Another `finest` is another path. Times are those of a clock in which the solver's noise has
    independent increments: for `euler_maruyama` the time itself; for `ddpm` with the small variance
    and `ddim` with eta = 1 the signal-to-noise ratio, in which alpha x / sigma^2 is a Brownian
    motion with drift; for `reverse_diffusion` with alpha = 1 the variance sigma^2. Another smooth
    clock couples up to an error of the order of the step.

    Rows after the last step of `grid` get zeros: leave a clean end out, where the ratio is
    infinite. The cost is one draw a cell, at no memory for the path.

    Args:
      key: a typed key, not that of the start.
      finest: times of the clock, shape (N + 1,), rising or falling.
      grid: some of these in the same order, shape (n + 1,).
      shape: of x, (n, *sample).
      dtype: of x.
      evaluations: rows a step; the noise is that of the step in each of them.

    Returns:
      A callable for the argument `noise` of `sample`.

    Raises:
      PersonError: times that are not finite or not monotone, or a grid that is not in `finest`.

    Source: Kloeden & Platen 1992, section 9.3 (strong errors on shared paths).

    >>> noise = brownian(jax.random.key(0), [1.0, 0.5, 0.0], [1.0, 0.0], (4, 2))
    >>> noise(0).shape
    (4, 2)
    """
    finest, grid = (np.asarray(times, np.float64) for times in (finest, grid))
    _check_clock("finest", finest)
    _check_clock("grid", grid)
    first = np.abs(finest[:, None] - grid).argmin(0)
    far = np.abs(finest[first] - grid) > ROUNDING * abs(finest[-1] - finest[0])
    if far.any() or not np.all(np.diff(first) > 0):
        where = grid[far][0] if far.any() else grid[0]
        raise PersonError(f"the time {where:g} of the grid is not in the finest grid, in its order")
    lengths = np.abs(np.diff(finest))
    steps = np.searchsorted(first, np.arange(len(lengths)), side="right") - 1
    inside = (steps >= 0) & (steps < len(grid) - 1)
    spans = np.abs(np.diff(grid))[np.clip(steps, 0, len(grid) - 2)]
    weights = np.where(inside, np.sqrt(lengths / spans), 0.0)
    return BrownianNoise(
        key, jnp.asarray(first), jnp.asarray(weights), tuple(shape), jnp.dtype(dtype), evaluations
    )


def _check_clock(name, times):
    steps = np.diff(times) if times.ndim == 1 else np.zeros(0)
    if not len(steps) or not np.isfinite(times).all():
        raise PersonError(f"{name} needs at least 2 finite times, shape (n + 1,)")
    if not (np.all(steps > 0) or np.all(steps < 0)):
        raise PersonError(f"{name} must rise or fall throughout")
