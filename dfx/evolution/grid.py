"""Uniform grids in one and two dimensions, and densities on them.

A density on a grid is the array of its cell averages, of the grid's shape (cells,) or (cells,
cells). The average of a smooth function over a cell is its value at the centre up to spacing^2, so
both are used for one another, and what is made of them is of order 2 in the spacing unless said
otherwise.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from dfx.errors import PersonError
from dfx.pytree import pytree
from dfx.targets.arithmetic import einsum


@pytree
@dataclasses.dataclass(frozen=True)
class Grid:
    """Equal cells that fill a box; made by `make_grid`.

    Attributes:
      low, high: the ends of the box along each axis, shape (d,), d = 1 or 2.
      shape: the number of cells along each axis; part of the compiled program.
    """

    low: Any
    high: Any
    shape: tuple[int, ...] = dataclasses.field(metadata={"static": True})

    @property
    def dim(self) -> int:
        """The dimension d."""
        return len(self.shape)

    @property
    def spacing(self):
        """The side of a cell along each axis, shape (d,)."""
        return (self.high - self.low) / np.array(self.shape)

    @property
    def volume(self):
        """The volume of one cell."""
        return self.spacing.prod()

    def axis(self, i: int):
        """Return the centres along axis i, shape (shape[i],)."""
        return self.low[i] + (np.arange(self.shape[i]) + 0.5) * self.spacing[i]

    def edges(self, i: int):
        """Return the ends of the cells along axis i, shape (shape[i] + 1,)."""
        return self.low[i] + np.arange(self.shape[i] + 1) * self.spacing[i]

    def centres(self, dtype=None):
        """Return the centres of all cells, shape (cells, d), in the order of a raveled density."""
        return _points([self.axis(i) for i in range(self.dim)], dtype)

    def faces(self, i: int, dtype=None):
        """Return the centres of the inner faces across axis i, shape (faces, d).

        In the order of a raveled array of the grid's shape with one entry less along axis i.
        """
        inside = self.edges(i)[1:-1]
        return _points([inside if j == i else self.axis(j) for j in range(self.dim)], dtype)


def make_grid(low, high, cells) -> Grid:
    """Return the grid of `cells` cells between `low` and `high`.

    Args:
      low, high: numbers (one dimension), or one per axis, shape (d,).
      cells: the number of cells along each axis, one per axis or one for all; at least 3.

    Raises:
      PersonError: not one or two axes, an empty box or too few cells.

    >>> make_grid(-1, 1, 4).axis(0)
    array([-0.75, -0.25,  0.25,  0.75])
    """
    low, high = (np.atleast_1d(np.asarray(a, np.float64)) for a in (low, high))
    shape = np.full(low.shape, cells) if np.ndim(cells) == 0 else np.asarray(cells)
    if not (low.shape == high.shape == shape.shape and low.shape in ((1,), (2,))):
        raise PersonError(
            f"low {low.tolist()}, high {high.tolist()}, cells {shape.tolist()}: give one number "
            "each, or one per axis for the same one or two axes"
        )
    if not (low < high).all():
        raise PersonError(f"low {low.tolist()} must lie below high {high.tolist()}")
    if not (shape.dtype.kind == "i" and (shape >= 3).all()):
        raise PersonError(f"cells = {shape.tolist()}: whole numbers, at least 3 along each axis")
    return Grid(low, high, tuple(int(n) for n in shape))


def on_grid(log_prob: Callable, grid: Grid, dtype=None):
    """Return the density of a law on the grid, of mass exactly 1 (to rounding).

    Args:
      log_prob: points (n, d) -> log-density, shape (n,); a constant may be missing.
      dtype: of the result; None is JAX's default float.
    """
    return from_log(log_prob(grid.centres(dtype)), grid)


def from_log(log_density, grid: Grid):
    """Return the density of mass 1 that is proportional to exp(log_density), shape (cells,)."""
    p = jnp.exp(log_density - jnp.max(log_density)).reshape(grid.shape)
    return p / (jnp.sum(p) * grid.volume)


def mass(grid: Grid, density):
    """Return the integral of a density, or of any cell averages, over the box."""
    return jnp.sum(density) * grid.volume


def moments(grid: Grid, density):
    """Return mean (d,) and covariance (d, d) of the points at the cells' centres, normalised.

    The density that is constant in each cell has spacing^2 / 12 more variance along each axis.
    """
    x, weights = grid.centres(density.dtype), density.ravel() / jnp.sum(density)
    mean = einsum("n,ni->i", weights, x)
    offset = x - mean
    return mean, einsum("n,ni,nj->ij", weights, offset, offset)


def score_on_grid(grid: Grid, density):
    """Return grad log of a positive density at the centres, shape (cells, d).

    Central differences of the logarithm, one-sided at the border, order 2; not a number where the
    density is 0. For laws that are known on a grid alone.
    """
    log_density = jnp.log(density)
    slopes = [_differences(log_density, i).ravel() for i in range(grid.dim)]
    return jnp.stack(slopes, -1) / jnp.asarray(grid.spacing, density.dtype)


def _differences(values, axis):
    """Central differences per cell; beyond the border lies the parabola of the last three cells."""
    f = jnp.moveaxis(values, axis, 0)
    first, last = (3 * (a - b) + c for a, b, c in (f[:3], f[:-4:-1]))
    f = jnp.concatenate([first[None], f, last[None]])
    return jnp.moveaxis(0.5 * (f[2:] - f[:-2]), 0, axis)


def coarsen(grid: Grid, density, cells) -> tuple[Grid, Any]:
    """Return the grid of fewer cells on the same box and the density on it, of the same mass.

    Args:
      cells: the number of cells along each axis, one per axis or one for all; a divisor of the
        grid's.

    Raises:
      PersonError: it does not divide.
    """
    cells = np.broadcast_to(cells, (grid.dim,))
    factors = np.array(grid.shape) // cells
    if (factors * cells != np.array(grid.shape)).any():
        raise PersonError(f"cells = {cells.tolist()} must divide the grid's {list(grid.shape)}")
    blocks = sum(((int(n), int(f)) for n, f in zip(cells, factors)), ())
    means = density.reshape(blocks).mean(axis=tuple(range(1, 2 * grid.dim, 2)))
    return Grid(grid.low, grid.high, tuple(int(n) for n in cells)), means


def check_density(grid: Grid, density) -> None:
    """Raise PersonError unless the array has the shape of the grid."""
    if density.shape != grid.shape:
        raise PersonError(f"a density of shape {density.shape} on a grid of shape {grid.shape}")


def shares(grid: Grid, density) -> np.ndarray:
    """Return the share of the mass in each cell, on the host in float64; negative cells are empty.

    Raises:
      PersonError: a density of another shape, or without a positive and finite mass.
    """
    check_density(grid, density)
    masses = np.maximum(np.asarray(density, np.float64), 0)
    total = masses.sum()
    if not 0 < total < np.inf:
        raise PersonError(f"a density of mass {total:g}: must be positive and finite")
    return masses / total


def _points(axes, dtype):
    mesh = jnp.meshgrid(*(jnp.asarray(a, dtype) for a in axes), indexing="ij")
    return jnp.stack([a.ravel() for a in mesh], -1)
