"""Nearest neighbours and balls between two large sets, block by block.

Sets are (n, ...), each entry flattened to d numbers: features, or pictures as bytes or numbers.
Distances are Euclidean, in float32, or in float64 if the sets have it and JAX's x64 mode is on. The
distances that are returned come from differences, so that those of near copies have all their
digits. The blocks in which neighbours are ranked and balls are judged do too in up to 16
dimensions; in more they come from |x|^2 + |y|^2 - 2 x.y about a common centre, in which distances
below about 1e-3 of the size of the sets are rounding in float32.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dfx.errors import PersonError

#: In up to so many dimensions a block comes from differences, at about the cost of a product.
_FEW = 16

#: Candidates kept beyond k: blocks rank near ties by rounding, the exact distances decide.
_SLACK = 4


class Neighbours(NamedTuple):
    """distance: (n, k), rising. row: (n, k), which points, by their row."""

    distance: np.ndarray
    row: np.ndarray


class Balls(NamedTuple):
    """of_query: in how many balls each query lies, (n,). of_ball: how many lie in each, (m,)."""

    of_query: np.ndarray
    of_ball: np.ndarray


def nearest(queries, points, k: int = 1, *, same: bool = False, chunk: int = 2048) -> Neighbours:
    """Return the k nearest points of each query.

    Args:
      queries: (n, ...). points: (m, ...), entries of the same size.
      k: at most m, or m - 1 with `same`.
      same: the queries are the points, row by row, and none is a neighbour of itself; another row
        with the same numbers is.
      chunk: rows of a block; memory is about 3 chunk^2 + 2 chunk d numbers.

    Raises:
      PersonError: shapes that do not fit, numbers that are not finite, or k out of range.
    """
    queries, points = _checked(queries, points)
    allowed = len(points) - same
    if not 1 <= k <= allowed or (same and len(queries) != len(points)):
        raise PersonError(
            f"{k} neighbours among {allowed} points for {len(queries)} queries, allowed: k from 1 "
            "to the number of points; with same=True two equal sets"
        )
    keep = min(k + _SLACK, allowed)
    centre = _centre(points, chunk)
    distances, indices = [], []
    for start, block, count in _blocks(queries, chunk):
        best = _none_yet(len(block), keep, _type(block))
        for first, other, size in _blocks(points, chunk):
            limits = np.array([start if same else -1, first, size])
            best = _nearer(best, block, other, centre, limits)
        index = np.asarray(best[1])
        columns = [_exact(block, points[column]) for column in index.T]
        exact, index = np.stack(columns, 1)[:count], index[:count]
        order = np.argsort(exact, axis=1, kind="stable")[:, :k]
        distances.append(np.take_along_axis(exact, order, 1))
        indices.append(np.take_along_axis(index, order, 1))
    return Neighbours(np.concatenate(distances), np.concatenate(indices))


def in_balls(queries, centres, radii, *, chunk: int = 2048) -> Balls:
    """Return how many closed balls hold each query, and how many queries each ball holds.

    A query at the radius itself, to within the rounding of a block, counts as inside.

    Args:
      queries: (n, ...). centres: (m, ...). radii: (m,), not negative.
      chunk: rows of a block.

    Raises:
      PersonError: shapes that do not fit, or numbers that are not finite.
    """
    queries, centres = _checked(queries, centres)
    radii = np.asarray(radii)
    if radii.shape != (len(centres),):
        raise PersonError(f"radii are {radii.shape}, allowed: ({len(centres)},)")
    middle = _centre(centres, chunk)
    of_query, of_ball = np.zeros(len(queries), np.int64), np.zeros(len(centres), np.int64)
    for start, block, count in _blocks(queries, chunk):
        for first, other, size in _blocks(centres, chunk):
            radius = np.zeros(len(other), radii.dtype)
            radius[:size] = radii[first : first + size]
            inside = _inside(block, other, radius, middle, np.array([count, size]))
            of_query[start : start + count] += np.asarray(inside[0])[:count]
            of_ball[first : first + size] += np.asarray(inside[1])[:size]
    return Balls(of_query, of_ball)


def _checked(queries, points):
    queries, points = np.asarray(queries), np.asarray(points)
    if min(queries.ndim, points.ndim) < 2 or queries.shape[1:] != points.shape[1:]:
        raise PersonError(
            f"sets are {queries.shape} and {points.shape}, allowed: (n, ...) and (m, ...)"
        )
    if not queries.size or not points.size:
        raise PersonError(f"sets are {queries.shape} and {points.shape}, allowed: not empty")
    if not np.isfinite([end for a in (queries, points) for end in (a.min(), a.max())]).all():
        raise PersonError("sets hold numbers that are not finite: they have no neighbours")
    return queries.reshape(len(queries), -1), points.reshape(len(points), -1)


def _blocks(rows: np.ndarray, chunk: int) -> Iterator[tuple[int, np.ndarray, int]]:
    """Yield (first row, block, rows that count); the last block is filled up to one shape."""
    chunk = min(chunk, len(rows))
    for start in range(0, len(rows), chunk):
        block = rows[start : start + chunk]
        count = len(block)
        yield start, np.concatenate([block, rows[: chunk - count]]), count


def _centre(points: np.ndarray, chunk: int) -> np.ndarray:
    """About the mean: norms about it are of the size of the distances."""
    sums = [points[i : i + chunk].sum(0, np.float64) for i in range(0, len(points), chunk)]
    return (np.sum(sums, 0) / len(points)).astype(_type(points))


def _type(rows: np.ndarray):
    wide = rows.dtype if rows.dtype.kind == "f" else np.dtype(np.float32)
    return jax.dtypes.canonicalize_dtype(np.promote_types(wide, np.float32))


def _none_yet(num_rows: int, keep: int, dtype):
    return jnp.full((num_rows, keep), jnp.inf, dtype), jnp.zeros((num_rows, keep), jnp.int32)


def _squares(queries, points, centre):
    """The matrix of squared distances, and the scale of its rounding, (n, m) both."""
    x, y = (a.astype(centre.dtype) for a in (queries, points))
    if x.shape[1] <= _FEW:
        squares = norms = sum((x[:, i, None] - y[:, i]) ** 2 for i in range(x.shape[1]))
    else:
        x, y = x - centre, y - centre
        norms = (x**2).sum(1)[:, None] + (y**2).sum(1)
        squares = norms - 2 * jnp.matmul(x, y.T, precision="highest")
    return squares, norms * jnp.finfo(centre.dtype).eps


@functools.partial(jax.jit, donate_argnums=0)
def _nearer(best, queries, points, centre, limits):
    """The best candidates so far and those of one more block."""
    self_start, first, size = limits
    squares, _ = _squares(queries, points, centre)
    column = jnp.arange(len(points))
    itself = (self_start >= 0) & (first + column == self_start + jnp.arange(len(queries))[:, None])
    squares = jnp.where((column >= size) | itself, jnp.inf, squares)
    keep = best[0].shape[1]
    found, place = jax.lax.top_k(-squares, min(keep, len(points)))
    values = jnp.concatenate([best[0], -found], 1)
    indices = jnp.concatenate([best[1], (first + place).astype(jnp.int32)], 1)
    values, place = jax.lax.top_k(-values, keep)
    return -values, jnp.take_along_axis(indices, place, 1)


@jax.jit
def _exact(queries, chosen):
    """|q - p| of each query and a point of its own."""
    dtype = _type(queries)
    return jnp.sqrt(((queries.astype(dtype) - chosen.astype(dtype)) ** 2).sum(1))


@jax.jit
def _inside(queries, centres, radii, middle, counts):
    """Of each query and each ball, how many of the other it meets."""
    squares, rounding = _squares(queries, centres, middle)
    # Eight roundings: a sum of d terms errs by less in practice.
    inside = squares <= radii.astype(squares.dtype) ** 2 + 8 * rounding
    inside &= (jnp.arange(len(queries)) < counts[0])[:, None]
    inside &= jnp.arange(len(centres)) < counts[1]
    return inside.sum(1), inside.sum(0)
