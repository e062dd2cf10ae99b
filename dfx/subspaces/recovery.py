"""How far subspaces are from other subspaces, and whether a set of them has been found.

Subspaces are orthonormal columns; (d, d) matrices are never made. Distances are taken from sines,
(I - U U^T) V, which keep all digits where subspaces nearly agree; 1 - cos^2 would keep half.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import linear_sum_assignment

from dfx.errors import PersonError

#: So many subspaces are matched by looking at all orders: 720 of them.
MOST_TO_PERMUTE = 6


def principal_angles(u, v):
    """Return the principal angles of two subspaces in radians, falling, shape (min(p, q),).

    Each is atan2(sine, cosine), accurate at both ends.

    Args:
      u, v: orthonormal columns, (d, p) and (d, q); no columns of zeros.

    Source: Bjorck & Golub 1973, equations 12 and 13.
    """
    if u.shape[1] < v.shape[1]:
        u, v = v, u
    overlap = _dot(u.T, v)
    cosines = jnp.linalg.svd(overlap, compute_uv=False)
    sines = jnp.linalg.svd(v - _dot(u, overlap), compute_uv=False)
    return jnp.arctan2(sines, cosines[::-1])


def projection_distance(u, v):
    """Return the Frobenius norm of U U^T - V V^T: sqrt(2 sum sin^2) for equal dimensions.

    Args:
      u, v: columns orthonormal or zero, (d, p) and (d, q).
    """
    overlap = _dot(u.T, v)
    squares = ((v - _dot(u, overlap)) ** 2).sum() + ((u - _dot(v, overlap.T)) ** 2).sum()
    return jnp.sqrt(squares)


def distances(bases, truth):
    """Return the projection distances of all pairs, shape (k, l), row = found, column = true."""
    pairs = jax.vmap(jax.vmap(projection_distance, (None, 0)), (0, None))
    return pairs(bases, truth)


def match(bases, truth) -> np.ndarray:
    """Return which found subspace stands for each true one, shape (k,), on the host.

    bases[match] is then in the order of the truth; the sum of squared projection distances is the
    least possible (Hungarian method).

    Raises:
      PersonError: different numbers of subspaces.
    """
    _check_numbers(bases, truth)
    found, true = linear_sum_assignment(np.asarray(distances(bases, truth), np.float64) ** 2)
    return found[np.argsort(true)]


def match_by_permutations(bases, truth):
    """Return what `match` returns, by looking at all orders: for `jit` and `vmap`, k! costs.

    Raises:
      PersonError: different numbers of subspaces, or more than `MOST_TO_PERMUTE`.
    """
    _check_numbers(bases, truth)
    k = len(truth)
    if k > MOST_TO_PERMUTE:
        raise PersonError(f"{k} subspaces: at most {MOST_TO_PERMUTE}, or use match")
    orders = jnp.asarray(list(itertools.permutations(range(k))))
    costs = (distances(bases, truth) ** 2)[orders, jnp.arange(k)].sum(1)
    return orders[costs.argmin()]


class Recovery(NamedTuple):
    """How well true subspaces are found, in the best order.

    Attributes:
      order: bases[order] stand for the true ones, shape (k,).
      errors: projection distances of the pairs, shape (k,).
      recovered: whether all errors are at most the tolerance.
    """

    order: jax.Array
    errors: jax.Array
    recovered: jax.Array


def recovery(bases, truth, tolerance: float = 0.5) -> Recovery:
    """Return the errors of found subspaces against the true ones, up to their order.

    Pure, for `jit` and `vmap`, as `match_by_permutations`. One whole direction of error is a
    distance of sqrt(2).

    Args:
      bases, truth: shape (k, d, r), columns orthonormal or zero.
      tolerance: the largest projection distance that counts as found.
    """
    order = match_by_permutations(bases, truth)
    errors = jax.vmap(projection_distance)(bases[order], truth)
    return Recovery(order, errors, (errors <= tolerance).all())


def misassigned(labels, truth, k: int) -> float:
    """Return the share of points with a wrong label under the best renaming, on the host.

    Args:
      labels, truth: integers from 0 to k - 1, shape (n,).
    """
    table = np.zeros((k, k))
    np.add.at(table, (np.asarray(labels), np.asarray(truth)), 1)
    right = table[linear_sum_assignment(table, maximize=True)].sum()
    return float(1 - right / table.sum())


def _dot(a, b):
    return jnp.matmul(a, b, precision="highest")


def _check_numbers(bases, truth):
    if len(bases) != len(truth):
        raise PersonError(f"{len(bases)} subspaces cannot be matched with {len(truth)}")
