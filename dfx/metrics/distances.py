"""Distances between two sets of samples.

W_p is the Wasserstein distance of order p with the Euclidean cost. All are computed in float64 on
the host.
"""

from __future__ import annotations

import jax
import numpy as np

from dfx.errors import PersonError


def wasserstein_1d(x, y, p: float = 2.0) -> float:
    """Return the exact W_p between two sets of numbers, (n,) and (m,), each point of equal mass.

    W_p^p = int_0^1 |F^-1(u) - G^-1(u)|^p du, and the quantile functions F^-1, G^-1 are constant
    between the levels i/n and j/m. The cost is that of sorting. Source: Villani 2003, theorem 2.18.

    Args:
      p: the order, 1 or more.

    Raises:
      PersonError: a set is empty or not a vector, or p < 1.

    >>> wasserstein_1d([0.0, 1.0], [3.0, 4.0, 3.0, 4.0])
    3.0
    """
    x, y = (np.sort(np.asarray(a, np.float64)) for a in (x, y))
    if x.ndim != 1 or y.ndim != 1 or not x.size or not y.size:
        raise PersonError(f"shapes are {x.shape} and {y.shape}, allowed: (n,) and (m,), not empty")
    return float(_cost_1d(x, y, _order(p)) ** (1 / p))


def sliced_wasserstein(key, x, y, num_directions: int = 200, p: float = 2.0) -> float:
    """Return the sliced W_p of two sets of points, (n, d) and (m, d), over random directions.

    SW_p^p = E_theta W_p^p(theta . x, theta . y) with theta uniform on the sphere. A shift by v
    alone gives |v| / sqrt(d) for p = 2; its square is estimated with a relative standard error
    below sqrt(2 / num_directions). Direction i is a function of (key, i).
    Source: Rabin et al. 2011; Bonneel et al. 2015.

    Raises:
      PersonError: the dimensions differ, a set is empty, no directions, or p < 1.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or not x.size or not y.size:
        raise PersonError(f"shapes are {x.shape} and {y.shape}, allowed: (n, d) and (m, d)")
    if num_directions < 1:
        raise PersonError(f"num_directions is {num_directions}, allowed: 1 or more")
    normal = jax.random.normal(key, (num_directions, x.shape[1]), np.float32)
    theta = np.asarray(normal, np.float64)
    theta /= np.linalg.norm(theta, axis=1, keepdims=True)
    # Direction by direction: all projections at once would need num_directions times the memory.
    costs = [_cost_1d(np.sort(x @ t), np.sort(y @ t), _order(p)) for t in theta]
    return float(np.mean(costs) ** (1 / p))


def _cost_1d(x, y, p: float) -> float:
    """W_p^p of two sorted vectors; their levels, in units of 1 / (n m), are integers."""
    n, m = len(x), len(y)
    if n == m:
        return float(np.mean(np.abs(x - y) ** p))
    levels = np.union1d(np.arange(0, n + 1) * m, np.arange(0, m + 1) * n)
    start, width = levels[:-1], np.diff(levels)
    return float(np.sum(np.abs(x[start // m] - y[start // n]) ** p * width) / (n * m))


def _order(p: float) -> float:
    if p < 1:
        raise PersonError(f"p is {p}, allowed: 1 or more")
    return p
