"""Is a field a gradient? The antisymmetric part of its Jacobian J.

The convention, for a sample and for averages alike:

    size = |J|_F^2,    difference = |J - J^T|_F^2,    normalised = |J - J^T|_F^2 / (4 |J|_F^2),

so that normalised = |(J - J^T) / 2|^2 / |J|^2 lies in [0, 1]: 0 for a gradient, 1 for a pure
rotation, c^2 / (1 + c^2) for (I + c A) x with A antisymmetric and orthogonal. It is a share, not an
error size: a large gradient error has none of it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dfx.diagnostics.directions import check_probes
from dfx.errors import PersonError
from dfx.fields.blocks import is_pointwise, rows_at_once
from dfx.fields.derivatives import dot, over_points, slopes, unit_vectors
from dfx.fields.field import as_pytree
from dfx.fields.probes import draw_probes

#: Bytes of the largest Jacobian that is held whole; beyond, J and J^T are applied to vectors.
LARGEST = 2**28


class Asymmetry(NamedTuple):
    """The asymmetry of a Jacobian at each sample, all of shape (n,); see `asymmetry`.

    Attributes:
      difference: |J - J^T|_F^2.
      size: |J|_F^2.
      difference_error, size_error: their standard errors from the spread of the probes; 0 if exact,
        NaN with one probe.
    """

    difference: Any
    size: Any
    difference_error: Any
    size_error: Any

    @property
    def absolute(self):
        """|J - J^T|_F; of an estimate biased downwards, as every root."""
        return self.difference**0.5

    @property
    def normalised(self):
        """|J - J^T|_F^2 / (4 |J|_F^2), in [0, 1]; NaN where J = 0. Of an estimate a ratio."""
        return self.difference / (4 * self.size)


class Pooled(NamedTuple):
    """The normalised asymmetry of many points; see `pooled`."""

    ratio: Any
    standard_error: Any
    median: Any


def asymmetry(
    f: Callable,
    x,
    key=None,
    num_probes: int = 1,
    probe: str = "rademacher",
    *,
    coordinates=None,
    chunk: int | None = None,
) -> Asymmetry:
    """Return |J - J^T|_F^2 and |J|_F^2 of the Jacobian of f at each sample.

    For any v with E[v v^T] = I, E|(J - J^T) v|^2 = |J - J^T|_F^2, and |J|_F^2 is the mean of
    (|J v|^2 + |J^T v|^2) / 2. Without a key exact, at d forward derivatives of f (and d reverse
    ones where the Jacobians would take more than 256 MiB); with one unbiased, at one forward and
    one reverse derivative a probe.

    Args:
      f: (n, *sample) -> (n, *sample), each sample by itself; `prediction_at(field, level, "eps")`.
      x: points, shape (n, *sample), floating.
      key: of the probes; None is exact.
      num_probes: at least 1; at least 2 for a standard error.
      probe: "rademacher" or "normal".
      coordinates: None for all, or indices into the flattened sample: then J is the block of the
        Jacobian with these rows and columns.
      chunk: how many directions are taken at once, at all points; by default as many directions and
        points as stay in cache.

    Raises:
      PersonError: probes or coordinates that are not allowed.

    Source: Hutchinson 1990 for the estimate.
    """
    d = math.prod(x.shape[1:])
    if probe == "hutch++":
        raise PersonError("probe 'hutch++' estimates traces: take 'rademacher' or 'normal'")
    check_probes(num_probes, probe)
    chosen = np.arange(d) if coordinates is None else np.unique(coordinates)
    if chosen.dtype.kind not in "iu" or len(chosen) == 0 or chosen[0] < 0 or chosen[-1] >= d:
        raise PersonError(f"coordinates {coordinates}: need indices from 0 to {d - 1}")
    if chunk is not None and chunk < 1:
        raise PersonError(f"chunk = {chunk}: at least 1 direction at a time")
    if key is None:
        return _exact(as_pytree(f), x, tuple(chosen), chunk)
    mask = np.zeros(d)
    mask[chosen] = 1
    return _estimate(as_pytree(f), x, key, mask.reshape(x.shape[1:]), (num_probes, probe, chunk))


@functools.partial(jax.jit, static_argnames=("chosen", "chunk"))
def _exact(f, x, chosen, chunk) -> Asymmetry:
    index, exact = np.asarray(chosen), jnp.zeros(x.shape[0], x.dtype)
    vectors, d = unit_vectors(x).vectors[index], x[0].size
    in_blocks = chunk is None and is_pointwise(f)
    if in_blocks or len(x) * len(index) * d * x.dtype.itemsize <= LARGEST:

        def squares(x, chunk):
            columns = slopes(f, x, vectors, chunk).reshape(len(x), len(index), d)
            block = columns if len(index) == d else columns[..., index]
            gap = block - jnp.swapaxes(block, 1, 2)
            return jnp.sum(gap**2, (1, 2)), jnp.sum(block**2, (1, 2))

        difference, size = over_points(squares, f, x, len(vectors), chunk)
        return Asymmetry(difference, size, exact, exact)
    mask = jnp.zeros(d, x.dtype).at[index].set(1).reshape(x.shape[1:])
    difference, size = (v.sum(0) for v in _pairs(f, x, vectors, mask, chunk))
    return Asymmetry(difference, size, exact, exact)


@functools.partial(jax.jit, static_argnames="plan")
def _estimate(f, x, key, mask, plan) -> Asymmetry:
    num_probes, probe, chunk = plan
    mask = jnp.asarray(mask, x.dtype)
    values = _pairs(f, x, mask * draw_probes(key, x, num_probes, probe), mask, chunk)
    errors = [jnp.std(v, axis=0, ddof=1) / len(v) ** 0.5 for v in values]
    return Asymmetry(values[0].mean(0), values[1].mean(0), errors[0], errors[1])


def _pairs(f, x, vectors, mask, chunk):
    """|J v - J^T v|^2 and (|J v|^2 + |J^T v|^2) / 2 along each vector, shape (m, n)."""
    _, slope = jax.linearize(f, x)
    pull = jax.linear_transpose(slope, x)

    def squares(v):
        v = jnp.broadcast_to(v, x.shape)
        row, column = mask * slope(v), mask * pull(v)[0]
        gap = row - column
        return dot(gap, gap), 0.5 * (dot(row, row) + dot(column, column))

    chunk = max(1, rows_at_once(f, x) // len(x)) if chunk is None else chunk
    return jax.lax.map(squares, vectors, batch_size=min(chunk, len(vectors)))


def pooled(found: Asymmetry) -> Pooled:
    """Return the ratio of means over the samples, sum |J - J^T|^2 / (4 sum |J|^2).

    With it the standard error over samples, by linearisation, which holds the noise of the probes
    too, and the median of the ratios of the single samples. Needs two samples for the error.
    """
    top, bottom = found.difference, 4 * found.size
    ratio = top.mean() / bottom.mean()
    n = top.shape[0]
    error = jnp.std(top - ratio * bottom, ddof=1) / (n**0.5 * bottom.mean())
    return Pooled(ratio, error, jnp.median(found.normalised))
