"""The leading directions of data read once, chunk by chunk, without a (d, d) matrix.

The update of `dfx.moments`, on a truncated basis.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from dfx.errors import PersonError
from dfx.moments import CHUNK, blocks, some


class Totals(NamedTuple):
    """Mean (d,) of n = `size` flattened points, and the trace of their covariance."""

    size: int
    mean: np.ndarray
    trace: float


class Modes(NamedTuple):
    """The leading directions of `size` flattened points.

    Attributes:
      size: n.
      mean: shape (d,).
      trace: of the whole covariance, divided by n.
      basis: orthonormal columns, the largest variance first, shape (d, r).
      spectrum: variances along them, shape (r,).
    """

    size: int
    mean: np.ndarray
    trace: float
    basis: np.ndarray
    spectrum: np.ndarray


def leading_modes(
    data, rank: int, spare: int = 16, chunk: int = 512, prepare: Callable | None = None
) -> Modes:
    """Return the leading `rank` directions of the data and the variances along them.

    One pass by incremental singular value decomposition: after every chunk rank + spare directions
    are kept, so nothing larger than (rank + spare + chunk, d) is held. Mean and trace are exact.
    The spectrum is exact if the data span no more than rank + spare dimensions, or fit in one
    chunk; else it lies below, by what each cut has taken from a direction, which is little where
    the spectrum falls steeply behind the kept ones.

    Args:
      data, chunk, prepare: as for `moments`; larger chunks are cut less often.
      rank: r, at least 1; fewer are returned if there are fewer dimensions or points.
      spare: directions kept beyond r until the end.

    Raises:
      PersonError: as `moments`, or a rank below 1.

    Source: Ross, Lim, Lin & Yang 2008, algorithm of section 3.1.
    """
    if rank < 1 or spare < 0:
        raise PersonError(f"rank = {rank}, spare = {spare}: at least 1 and 0")
    total: Totals | None = None
    rows = np.zeros((0, 0))
    for block in blocks(data, chunk, prepare):
        part = _totals(block)
        stack = block - part.mean
        if total is not None:
            gap, weight = part.mean - total.mean, total.size * part.size
            jump = np.sqrt(weight / (total.size + part.size)) * gap
            stack = np.vstack([rows, stack, jump])
        _, roots, right = np.linalg.svd(stack, full_matrices=False)
        kept = slice(rank + spare)
        rows = roots[kept, None] * right[kept]
        total = part if total is None else _together(total, part)
    total = some(total)
    spectrum = roots[:rank] ** 2 / total.size
    return Modes(total.size, total.mean, total.trace, right[:rank].T, spectrum)


def totals(data, chunk: int = CHUNK, prepare: Callable | None = None) -> Totals:
    """Return number, mean and trace of the covariance; arguments and errors as for `moments`.

    One pass that holds nothing larger than a chunk.
    """
    total = None
    for block in blocks(data, chunk, prepare):
        part = _totals(block)
        total = part if total is None else _together(total, part)
    return some(total)


def _totals(block) -> Totals:
    mean = block.mean(0)
    return Totals(len(block), mean, float(np.sum((block - mean) ** 2) / len(block)))


def _together(one: Totals, other: Totals) -> Totals:
    gap, share = other.mean - one.mean, other.size / (one.size + other.size)
    trace = (1 - share) * one.trace + share * other.trace + (1 - share) * share * gap @ gap
    return Totals(one.size + other.size, one.mean + share * gap, float(trace))
