"""Derivatives of batched vector functions f: (n, *sample) -> (n, *sample), in bounded memory.

The functions treat each sample by itself. With vectors z_m and weights w_m such that
sum_m w_m z_m z_m^T is the identity, exactly or on average, and J the Jacobian of f,

    tr J      = sum_m w_m z_m . (J z_m)                               one jvp a direction,
    grad tr J = sum_m w_m d/dx along z_m of (J^T z_m)                 a jvp of a vjp a direction.

The unit vectors make it exact; random vectors make it an unbiased estimate. As many directions are
taken at once as stay in cache (`fields.blocks`). Along unit vectors, an f that says `pointwise`
also gets its points in blocks; then what depends on the direction alone is computed once for all.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dfx.blocks import by_blocks
from dfx.errors import PersonError
from dfx.fields.blocks import is_pointwise, rows_at_once
from dfx.fields.probes import draw_probes


class Directions(NamedTuple):
    """Vectors, shape (m, n or 1, *sample), and their weights, shape (m,)."""

    vectors: Any
    weights: Any


def unit_vectors(x) -> Directions:
    """Return the d unit vectors of one sample, each for all samples, with weight 1."""
    d = math.prod(x.shape[1:])
    vectors = jnp.eye(d, dtype=x.dtype).reshape(d, 1, *x.shape[1:])
    return Directions(vectors, jnp.ones(d, x.dtype))


def jacobian(f, x):
    """Return J with J[i, a, b] = d f_a / d x_b at sample i, shape (n, d, d), d the size of one
    sample.

    Exact to rounding. Costs d forward derivatives of f, as many at once as stay in cache.

    >>> jacobian(lambda x: x**2, jnp.ones((1, 2)))
    Array([[[2., 0.],
            [0., 2.]]], dtype=float32)
    """
    columns = slopes(f, x, unit_vectors(x).vectors)
    return jnp.moveaxis(columns.reshape(*columns.shape[:2], columns.shape[1]), 1, 2)


def divergence(f, x, key=None, num_probes: int = 1, probe: str = "rademacher"):
    """Return div f = sum_a d f_a / d x_a at each sample, shape (n,).

    Without a key it is exact and costs d forward derivatives of f (d the size of one sample). With
    a key it is the unbiased estimate mean_k z_k . J z_k over `num_probes` random z_k with E[z z^T]
    = I and costs `num_probes` derivatives. For symmetric J the variance of one probe is 2 (|J|^2 -
    |diag J|^2) with Rademacher and 2 |J|^2 with normal probes.

    Args:
      f: function of arrays of the shape of x that treats each sample by itself.
      x: points, shape (n, *sample).
      key: key of the probes; None for the exact value. Sample i has the same probes in every batch.
      num_probes: number of probes, at least 1.
      probe: "rademacher" (signs) or "normal".

    Raises:
      PersonError: `num_probes` below 1 or an unknown probe.

    Source: Hutchinson 1990; Skilling 1989.
    """
    if key is None:
        return divergence_along(f, x, unit_vectors(x))
    vectors = draw_probes(key, x, num_probes, probe)
    return divergence_along(f, x, Directions(vectors, jnp.full(num_probes, 1 / num_probes)))


def divergence_along(f: Callable, x, along: Directions, chunk: int | None = None):
    """Return div f = tr J at each sample, shape (n,), as a sum over the directions.

    Args:
      f: as in `divergence`.
      x: points, shape (n, *sample).
      along: the directions.
      chunk: how many are taken at once, at all points; None lets the cache decide.

    Raises:
      PersonError: `chunk` below 1.
    """

    def trace(x, chunk):
        _, slope = jax.linearize(f, x)
        return total(lambda z: dot(z, slope(jnp.broadcast_to(z, x.shape))), along, chunk)

    return over_points(trace, f, x, _shared(along), chunk)


def gradient_of_divergence(f: Callable, x, along: Directions, chunk: int | None = None):
    """Return grad_x div f, shape of x, forward over reverse along each direction.

    The directions count as constant in x. Of an estimate the mean is still exact, since the
    weighted sum of z z^T has the mean I even for directions that were found with the help of f.
    Arguments and errors as in `divergence_along`.
    """

    def gradient(x, chunk):
        return total(lambda z: slope_of_pull(f, x, z), along, chunk)

    return over_points(gradient, f, x, _shared(along), chunk)


def slope_of_pull(f: Callable, x, z):
    """Return d/dx along z of J^T z, shape of x: its mean over probes is grad tr J."""
    z = jnp.broadcast_to(z, x.shape)
    return jax.jvp(lambda x: jax.vjp(f, x)[1](z)[0], (x,), (z,))[1]


def slopes(f: Callable, x, vectors, chunk: int | None = None):
    """Return J z for vectors of shape (m, 1, *sample), shape (n, m, *sample); chunk as above."""

    def along_all(x, chunk):
        _, slope = jax.linearize(f, x)
        push = lambda z: slope(jnp.broadcast_to(z, x.shape))  # noqa: E731
        if len(vectors) <= chunk:
            return jax.vmap(push, out_axes=1)(vectors)
        return jnp.moveaxis(jax.lax.map(push, vectors, batch_size=chunk), 0, 1)

    return over_points(along_all, f, x, len(vectors), chunk)


def total(term: Callable, along: Directions, chunk: int):
    """Return sum_m w_m term(z_m); term takes a vector of shape (n or 1, *sample).

    Raises:
      PersonError: `chunk` below 1.
    """
    if chunk < 1:
        raise PersonError(f"chunk = {chunk}: at least 1 direction at a time")

    def part(block: Directions):
        values = jax.vmap(term)(block.vectors)
        weights = jnp.asarray(block.weights, values.dtype)
        return jnp.tensordot(weights, values, 1, precision="highest")

    count = len(along.weights)
    if count <= chunk:
        return part(along)
    # Filled up with directions of weight zero; the sum needs one block of them in memory.
    chunk = -(-count // -(-count // chunk))
    missing = -count % chunk
    fill = lambda a: jnp.pad(a, [(0, missing)] + [(0, 0)] * (a.ndim - 1))  # noqa: E731
    blocks = jax.tree.map(lambda a: fill(a).reshape(-1, chunk, *a.shape[1:]), along)
    zero = jnp.zeros_like(jax.eval_shape(term, along.vectors[0]))
    return jax.lax.scan(lambda sum_, block: (sum_ + part(block), None), zero, blocks)[0]


def dot(a, b):
    """Return the sum over the entries of each sample of a b, shape (n,), n that of b."""
    return jnp.sum((a * b).reshape(b.shape[0], math.prod(b.shape[1:])), axis=1)


def over_points(values: Callable, f, x, shared: int, chunk: int | None):
    """Return values(x, chunk) with the chunk that fits the cache, the points in blocks if they may.

    Args:
      values: (points, directions at once) -> a tree of arrays whose first axis counts the points.
      f: what is differentiated; it says whether it is `pointwise`.
      x: points, shape (n, *sample).
      shared: how many directions all points have alike; 0 says that each point has its own, and
        then the points stay together.
      chunk: how many are taken at once, at all points; None lets the cache decide.
    """
    if chunk is not None:
        return values(x, chunk)
    rows = rows_at_once(f, x)
    if not (shared and is_pointwise(f)):
        return values(x, max(1, rows // max(1, len(x))))
    one = lambda x: jax.tree.map(lambda a: a[0], values(x[None], rows))  # noqa: E731
    return by_blocks(jax.vmap(one), x, rows // shared)


def _shared(along: Directions) -> int:
    return len(along.weights) if along.vectors.shape[1] == 1 else 0
