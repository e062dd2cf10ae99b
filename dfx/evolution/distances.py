"""Wasserstein distances between densities on grids; on the host, in float64."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from dfx.errors import PersonError
from dfx.evolution.grid import Grid, coarsen, shares

#: Iterations of the network simplex; two million serve two full histograms of 64 x 64.
MAX_ITERATIONS = 2_000_000


def wasserstein_grid_1d(grid: Grid, first, second, p: float = 2.0) -> float:
    """Return W_p between two densities that are constant in each cell, exact to rounding.

    Their quantile functions are broken lines, so W_p^p = int_0^1 |F^-1 - G^-1|^p du is a sum of
    integrals of |a line|^p. Of smooth laws W_p is then exact up to spacing^2. Each density is
    divided by its mass; negative cells count as empty.

    Raises:
      PersonError: a grid in two dimensions, a density of another shape or without mass, or p < 1.

    Source: Villani 2003, theorem 2.18.

    >>> from dfx.evolution import make_grid
    >>> grid = make_grid(0, 4, 4)
    >>> round(wasserstein_grid_1d(grid, np.array([1, 1, 0, 0]), np.array([0, 0, 1, 1])), 12)
    2.0
    """
    if grid.dim != 1:
        raise PersonError(f"wasserstein_grid_1d needs one dimension, the grid has {grid.dim}")
    if not p >= 1:
        raise PersonError(f"p = {p}: the order must be 1 or more")
    laws = [_distribution(grid, density) for density in (first, second)]
    levels = np.unique(np.concatenate(laws))
    widths = np.diff(levels)
    # Where a distribution function is flat its inverse jumps: each side of a level is its own.
    gaps = [
        _inverse(laws[0], grid, levels, side) - _inverse(laws[1], grid, levels, side)
        for side in ("right", "left")
    ]
    return float(np.sum(widths * _mean_power(gaps[0][:-1], gaps[1][1:], p)) ** (1 / p))


def wasserstein_2d(grid: Grid, first, second, cells: int | tuple[int, int] = 32) -> float:
    """Return the exact W_2 between two densities as histograms of `cells` per axis.

    Earth mover's distance with squared Euclidean cost between the centres of the cells, by network
    simplex: about a second for 32 x 32, minutes for 64 x 64.

    Histograms are further apart than the laws: mass that moves by m + r cells along an axis, r in
    [0, 1), must be split, which adds r (1 - r) side^2. That is about cell^2 / 6, of the diagonal of
    a cell, to the square of a distance of several cells; of laws that are closer than a cell the
    square is linear in the displacement, |shift| side along each axis. What `sinkhorn_divergence`
    returns is free of this.

    Args:
      grid: of one or two dimensions.
      first, second: densities on it.
      cells: per axis, a divisor of the grid's.

    Raises:
      PersonError: POT is not installed, cells do not divide the grid, or a density without mass.

    Source: Bonneel et al. 2011 (the solver of POT).
    """
    coarse, first = _histogram(grid, first, cells)
    _, second = _histogram(grid, second, cells)
    return _earth_movers(coarse, first, second)


def sampling_floor_2d(
    grid: Grid, density, key, num_samples: int, cells: int | tuple[int, int] = 32
) -> float:
    """Return W_2 between the histograms of two independent samples of one law: what one would read
    off samples of that size if both laws were equal.

    Args:
      grid, density, cells: as in `wasserstein_2d`, and as long.
      key: of the two samples.
      num_samples: the size of each.

    Raises:
      PersonError: see `wasserstein_2d`, or num_samples < 1.
    """
    if num_samples < 1:
        raise PersonError(f"num_samples = {num_samples}: at least 1")
    coarse, masses = _histogram(grid, density, cells)
    return _earth_movers(coarse, *(_draw(k, masses, num_samples) for k in jax.random.split(key)))


def _distribution(grid, density):
    """The distribution function at the edges, from 0 to 1."""
    total = np.cumsum(shares(grid, density))
    return np.concatenate([[0.0], total / total[-1]])


def _inverse(law, grid, levels, side):
    """The limit of the quantile function from that side of each level."""
    edges = grid.edges(0)
    upper = np.searchsorted(law, levels, side)
    upper = np.clip(upper, 1, len(law) - 1)
    low, high = law[upper - 1], law[upper]
    share = np.where(high > low, (levels - low) / np.where(high > low, high - low, 1), 0)
    return edges[upper - 1] + np.clip(share, 0, 1) * (edges[upper] - edges[upper - 1])


def _mean_power(a, b, p):
    """int_0^1 |a + (b - a) u|^p du."""
    if p == 2:
        return (a * a + a * b + b * b) / 3
    primitive = lambda v: np.sign(v) * np.abs(v) ** (p + 1) / (p + 1)  # noqa: E731
    near = np.abs(b - a) < 1e-6 * (np.abs(a) + np.abs(b)) + 1e-300
    ends = (primitive(b) - primitive(a)) / np.where(near, 1, b - a)
    return np.where(near, np.abs(0.5 * (a + b)) ** p, ends)


def _histogram(grid, density, cells):
    coarse, density = coarsen(grid, shares(grid, density), cells)
    return coarse, density.ravel() / density.sum()


def _draw(key, masses, n):
    index = jax.random.choice(key, masses.size, (n,), p=jnp.asarray(masses))
    return np.bincount(np.asarray(index), minlength=masses.size) / n


def _earth_movers(grid, first, second) -> float:
    try:
        import ot
    except ImportError:
        raise PersonError("W_2 in two dimensions needs POT: pip install 'dfx[ot]'") from None
    a, b = first > 0, second > 0
    centres = np.asarray(grid.centres(), np.float64)
    cost = np.sum((centres[a][:, None] - centres[b][None]) ** 2, axis=-1)
    squared = ot.emd2(first[a], second[b], cost, numItermax=MAX_ITERATIONS)
    return float(np.sqrt(max(squared, 0.0)))
