"""Laws on the line as quantile functions, and distances between them.

A law is the array x_i = Q(Phi(z_i)) of its quantiles at the normal scores z_i of `Nodes`, Phi the
normal distribution function. A Gaussian is then a straight line in z, sums over the nodes are
integrals over (0, 1) that converge faster than any power of the spacing for smooth x(z), and both
tails keep their digits. Where x(z) jumps, between modes with nothing between them, the order is
that of the spacing, the first. A flow on the line keeps the order of points, so `transport.move`
takes quantiles to quantiles.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import log_ndtr, logsumexp, ndtri

from dfx.errors import PersonError
from dfx.evolution.grid import Grid, shares

#: Halvings of the bracket of a quantile: 2^-80 of it is below the rounding of float64.
NUM_BISECTIONS = 80

#: Standard deviations of the widest component that the bracket reaches beyond the means: normal
#: scores up to 38 lie within.
REACH = 40.0


class Nodes(NamedTuple):
    """Normal scores and their weights, shape (n,) each; the weights sum to 1."""

    z: np.ndarray
    weights: np.ndarray


def normal_nodes(n: int = 4001, width: float = 8.0) -> Nodes:
    """Return n equally spaced scores in [-width, width], with weights proportional to exp(-z^2/2).

    What lies beyond has the mass 1e-15 at width 8.

    Raises:
      PersonError: fewer than 3 nodes or a width that is not positive.
    """
    if n < 3 or not width > 0:
        raise PersonError(f"n = {n}, width = {width}: at least 3 nodes, a positive width")
    z = np.linspace(-width, width, n)
    weights = np.exp(-0.5 * z**2)
    return Nodes(z, weights / weights.sum())


def mixture_quantiles(mixture, level, nodes: Nodes):
    """Return the quantiles of p_t of a one-dimensional mixture, shape (n,), to rounding.

    Bisection on the logarithm of the smaller tail. On the host, in float64.

    Args:
      mixture: a `targets.Mixture` with d = 1.
      level: of entries () ; sigma may be 0.

    Raises:
      PersonError: a mixture in more dimensions.
    """
    if mixture.dim != 1:
        raise PersonError(f"quantiles need one dimension, the mixture has {mixture.dim}")
    law = mixture.at(level)
    mean, variance = np.asarray(law.means)[:, 0], np.asarray(law.variance)
    variance = variance if law.spectrum is None else variance + np.asarray(law.spectrum)[:, 0]
    std, log_weights = np.sqrt(variance), np.asarray(law.log_weights)[:, None]
    side = np.where(nodes.z > 0, -1.0, 1.0)  # scores above 0 by the upper tail

    def excess(x):
        scores = side * (x - mean[:, None]) / std[:, None]
        tail = logsumexp(log_weights + log_ndtr(scores), axis=0)
        return side * (tail - log_ndtr(side * nodes.z))

    low = np.full(nodes.z.shape, mean.min() - REACH * std.max())
    high = np.full(nodes.z.shape, mean.max() + REACH * std.max())
    for _ in range(NUM_BISECTIONS):
        middle = 0.5 * (low + high)
        above = excess(middle) > 0
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return 0.5 * (low + high)


def grid_quantiles(grid: Grid, density, nodes: Nodes):
    """Return the quantiles of a density on a one-dimensional grid, shape (n,).

    The normal scores of the masses on either side of each cell border, each from its smaller side,
    interpolated linearly: order 2 in the spacing, exact at the borders. Beyond the outermost
    borders with mass on both sides they stay there. On the host, in float64.

    Raises:
      PersonError: a grid in two dimensions, or a density of another shape, without mass or with all
        of it in one cell.
    """
    _check_line(grid)
    masses = shares(grid, density)
    below, above = np.cumsum(masses)[:-1], np.cumsum(masses[::-1])[::-1][1:]
    scores = np.where(below < 0.5, ndtri(np.minimum(below, 0.5)), -ndtri(np.minimum(above, 0.5)))
    inside = np.isfinite(scores)
    if not inside.any():
        raise PersonError("all mass is in one cell: the grid does not resolve its quantiles")
    return np.interp(nodes.z, scores[inside], grid.edges(0)[1:-1][inside])


def wasserstein(x, y, nodes: Nodes, p: float = 2.0) -> float:
    """Return W_p of two laws given by their quantiles at the nodes, shape (n,) each:

        W_p^p = int_0^1 |Q_x(u) - Q_y(u)|^p du.

    Raises:
      PersonError: shapes other than that of the nodes, or p < 1.

    Source: Villani 2003, theorem 2.18.

    >>> nodes = normal_nodes()
    >>> round(wasserstein(1.0 + 2.0 * nodes.z, -3.0 * nodes.z[::-1], nodes), 12)
    1.414213562373
    """
    x, y = np.asarray(x, np.float64).ravel(), np.asarray(y, np.float64).ravel()
    if not x.shape == y.shape == nodes.z.shape:
        raise PersonError(f"{x.size} and {y.size} quantiles at {nodes.z.size} nodes")
    if not p >= 1:
        raise PersonError(f"p = {p}: the order must be 1 or more")
    return float(np.sum(nodes.weights * np.abs(x - y) ** p) ** (1 / p))


def _check_line(grid: Grid) -> None:
    if grid.dim != 1:
        raise PersonError(f"quantiles need one dimension, the grid has {grid.dim}")
