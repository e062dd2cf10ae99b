"""Mean and scatter of points that are read once, in pieces that can be added and taken away.

Two sets with sizes n, m, means a, b and scatters A, B (sums of squares about their means) are
together one with

    mean = a + (b - a) m / (n + m),    scatter = A + B + (b - a)(b - a)^T n m / (n + m):

sums of squares about a mean, never differences of large sums. In float64 on the host.
Source: Chan, Golub & LeVeque 1979.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np

from dfx.errors import PersonError

#: Points read at a time.
CHUNK = 4096


class Moments(NamedTuple):
    """Mean (d,) and scatter (d, d) about it of `size` points, each flattened to d numbers."""

    size: int
    mean: np.ndarray
    scatter: np.ndarray

    def covariance(self, ddof: int = 0) -> np.ndarray:
        """Return scatter / (size - ddof), shape (d, d): likeliest with 0, unbiased with 1.

        Raises:
          PersonError: no more points than ddof.
        """
        if self.size <= ddof:
            raise PersonError(f"a covariance of {self.size} points, allowed: {ddof + 1} or more")
        return self.scatter / (self.size - ddof)


def moments(data, chunk: int = CHUNK, prepare: Callable | None = None) -> Moments:
    """Return the moments of the flattened points.

    One pass; besides the data, three (d, d) matrices and a chunk are held.

    Args:
      data: an array (n, *sample), also memory-mapped, or an iterable of such arrays; bytes are
        numbers 0..255.
      chunk: points taken from an array at a time.
      prepare: applied to each chunk first, for example `data.to_unit` to pictures.

    Raises:
      PersonError: no points, points of unequal size, or one that is not finite.
    """
    total = None
    for block in blocks(data, chunk, prepare):
        mean = block.mean(0)
        offsets = block - mean
        part = Moments(len(block), mean, offsets.T @ offsets)
        total = part if total is None else merge(total, part)
    return some(total)


def given(mean, covariance, size: int) -> Moments:
    """Return the moments of `size` points with a given mean (d,) and unbiased covariance (d, d).

    For published reference statistics; the size matters only where moments are merged.

    Raises:
      PersonError: shapes that do not fit, or a size below 2.
    """
    mean, covariance = np.asarray(mean, np.float64), np.asarray(covariance, np.float64)
    if mean.ndim != 1 or covariance.shape != (mean.size, mean.size) or size < 2:
        raise PersonError(
            f"mean {mean.shape}, covariance {covariance.shape} of {size} points, allowed: (d,), "
            "(d, d) of two or more"
        )
    return Moments(size, mean, covariance * (size - 1))


def merge(one: Moments, other: Moments) -> Moments:
    """Return the moments of two sets together."""
    size, gap = one.size + other.size, other.mean - one.mean
    share = other.size / size
    scatter = one.scatter + other.scatter
    scatter += (one.size * share) * np.multiply.outer(gap, gap)
    return Moments(size, one.mean + share * gap, scatter)


def remove(whole: Moments, part: Moments) -> Moments:
    """Return the moments of a set without a part of it: the inverse of `merge`.

    Raises:
      PersonError: nothing would be left.
    """
    size = whole.size - part.size
    if size < 1:
        raise PersonError(f"{part.size} of {whole.size} points taken away, allowed: fewer")
    gap = (part.mean - whole.mean) * (whole.size / size)  # of the part from the rest
    mean = whole.mean - gap * (part.size / whole.size)
    between = np.multiply.outer(gap, gap) * (part.size * size / whole.size)
    return Moments(size, mean, whole.scatter - part.scatter - between)


def split(data, num_groups: int = 10, chunk: int = CHUNK) -> list[Moments]:
    """Return the moments of equal groups of an array: rows i, i + num_groups, ... are group i.

    Up to num_groups - 1 rows at the end are left out, so that the groups are equal.

    Raises:
      PersonError: fewer than two points a group, or fewer than two groups.
    """
    each = len(data) // num_groups if num_groups > 1 else 0
    if each < 2:
        raise PersonError(
            f"{len(data)} points in {num_groups} groups, allowed: two groups or more of two points "
            "or more"
        )
    rows = data[: each * num_groups]
    return [moments(rows[group::num_groups], chunk) for group in range(num_groups)]


def blocks(data, chunk: int = CHUNK, prepare: Callable | None = None) -> Iterator[np.ndarray]:
    """Yield the data as float64 arrays (m, d); arguments and errors as for `moments`."""
    size = None
    for block in _pieces(data, chunk):
        block = np.asarray(block if prepare is None else prepare(block))
        if not block.size:
            continue
        flat = block.reshape(len(block), -1).astype(np.float64)
        size = flat.shape[1] if size is None else size
        if block.ndim < 2 or flat.shape[1] != size:
            raise PersonError(f"points must have shape (n, *sample) of one size, got {block.shape}")
        if not np.isfinite(flat).all():
            raise PersonError("the data hold a number that is not finite")
        yield flat


def some(found):
    """Return what was found.

    Raises:
      PersonError: it is None: there were no points.
    """
    if found is None:
        raise PersonError("there are no points to take moments of")
    return found


def _pieces(data, chunk: int) -> Iterable:
    if chunk < 1:
        raise PersonError(f"chunk = {chunk}: must be at least 1")
    if not hasattr(data, "shape"):
        return data
    return (data[i : i + chunk] for i in range(0, len(data), chunk))
