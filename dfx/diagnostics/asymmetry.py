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

from dfx.diagnostics.directions import CHUNK, check_probes, directions
from dfx.errors import PersonError
from dfx.fields.field import as_pytree


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
    chunk: int = CHUNK,
) -> Asymmetry:
    """Return |J - J^T|_F^2 and |J|_F^2 of the Jacobian of f at each sample.

    For any v with E[v v^T] = I, E|(J - J^T) v|^2 = |J - J^T|_F^2, and |J|_F^2 is the mean of
    (|J v|^2 + |J^T v|^2) / 2. One jvp and one vjp of f a direction: d directions without a key,
    exact; `num_probes` with one, unbiased.

    Args:
      f: (n, *sample) -> (n, *sample), each sample by itself; `prediction_at(field, level, "eps")`.
      x: points, shape (n, *sample), floating.
      key: of the probes; None is exact.
      num_probes: at least 1; at least 2 for a standard error.
      probe: "rademacher" or "normal".
      coordinates: None for all, or indices into the flattened sample: then J is the block of the
        Jacobian with these rows and columns.
      chunk: how many directions are taken at once.

    Raises:
      PersonError: probes or coordinates that are not allowed.

    Source: Hutchinson 1990 for the estimate.
    """
    d = math.prod(x.shape[1:])
    if probe == "hutch++":
        raise PersonError("probe 'hutch++' estimates traces: take 'rademacher' or 'normal'")
    check_probes(num_probes, probe)
    chosen = np.arange(d) if coordinates is None else np.unique(coordinates).astype(int)
    if len(chosen) == 0 or chosen[0] < 0 or chosen[-1] >= d:
        raise PersonError(f"coordinates {coordinates}: need indices from 0 to {d - 1}")
    mask = np.zeros(d)
    mask[chosen] = 1
    plan = tuple(chosen) if key is None else num_probes, probe, chunk
    return _asymmetry(as_pytree(f), x, key, mask.reshape(x.shape[1:]), plan)


@functools.partial(jax.jit, static_argnames="plan")
def _asymmetry(f, x, key, mask, plan) -> Asymmetry:
    chosen, probe, chunk = plan
    mask = jnp.asarray(mask, x.dtype)
    if key is None:
        vectors = directions(f, x).vectors[np.asarray(chosen)]
    else:
        vectors = mask * directions(f, x, key, chosen, probe).vectors
    _, slope = jax.linearize(f, x)
    pull = jax.linear_transpose(slope, x)

    def squares(v):
        v = jnp.broadcast_to(v, x.shape)
        row, column = mask * slope(v), mask * pull(v)[0]
        return _square(row - column), 0.5 * (_square(row) + _square(column))

    values = jax.lax.map(squares, vectors, batch_size=min(chunk, len(vectors)))
    if key is None:
        exact = jnp.zeros(x.shape[0], x.dtype)
        return Asymmetry(values[0].sum(0), values[1].sum(0), exact, exact)
    errors = [jnp.std(v, axis=0, ddof=1) / len(v) ** 0.5 for v in values]
    return Asymmetry(values[0].mean(0), values[1].mean(0), errors[0], errors[1])


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


def _square(a):
    return jnp.sum((a * a).reshape(a.shape[0], -1), axis=1)
