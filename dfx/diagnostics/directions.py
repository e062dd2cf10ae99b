"""Traces of Jacobians, exact or estimated, in bounded memory: sums over directions.

With vectors z_m and weights w_m such that sum_m w_m z_m z_m^T is the identity, exactly or on
average, and J the Jacobian of f,

    tr J      = sum_m w_m z_m . (J z_m)                               one jvp a direction,
    grad tr J = sum_m w_m d/dx along z_m of (J^T z_m)                 a jvp of a vjp a direction.

The unit vectors make it exact; random vectors make it an unbiased estimate. Directions are taken
`chunk` at a time, so memory does not grow with their number.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dfx.errors import PersonError, unknown

#: How the directions of an estimate are drawn.
PROBES = ("rademacher", "normal", "hutch++")

#: How many directions are taken at once, by default.
CHUNK = 64


class Directions(NamedTuple):
    """Vectors, shape (m, n or 1, *sample), and their weights, shape (m,)."""

    vectors: Any
    weights: Any


def directions(
    f: Callable, x, key=None, num_probes: int = 1, probe: str = "rademacher"
) -> Directions:
    """Return the directions along which the Jacobian of f at x is looked at.

    Without a key they are the d unit vectors: exact, d derivatives. With a key there are
    `num_probes` random ones, and sample i has the same in every batch:

        rademacher, normal: independent, E[z z^T] = I (Hutchinson's estimate);
        hutch++:            an orthonormal basis Q of J S for k = num_probes / 3 random signs S,
                            and k signs G made orthogonal to Q: the part of J that Q holds is
                            exact, the rest estimated. Exact where k is at least the rank of J;
                            k further derivatives find Q.

    Args:
      f: (n, *sample) -> (n, *sample), each sample by itself; only "hutch++" calls it.
      x: points, shape (n, *sample).
      key: of the probes; None for the unit vectors.
      num_probes: at least 1; for "hutch++" a multiple of 3.
      probe: one of `PROBES`.

    Raises:
      PersonError: an unknown probe, or a number of probes that is not allowed.

    Source: Hutchinson 1990; Meyer et al. 2021 (Hutch++), algorithm 1.
    """
    check_probes(num_probes, probe)
    if key is None:
        d = math.prod(x.shape[1:])
        return Directions(
            jnp.eye(d, dtype=x.dtype).reshape(d, 1, *x.shape[1:]), jnp.ones(d, x.dtype)
        )
    if probe == "hutch++":
        return _sketched(f, x, key, num_probes // 3)
    draw = jax.random.rademacher if probe == "rademacher" else jax.random.normal
    vectors = _draw(draw, key, x, num_probes)
    return Directions(vectors, jnp.full(num_probes, 1 / num_probes))


def check_probes(num_probes: int, probe: str) -> None:
    """Raise PersonError unless `directions` can make these probes."""
    if probe not in PROBES:
        raise unknown("probe", probe, PROBES)
    if num_probes < 1:
        raise PersonError(f"num_probes = {num_probes}: at least 1 probe is needed")
    if probe == "hutch++" and num_probes % 3:
        raise PersonError(f"num_probes = {num_probes}: hutch++ needs a multiple of 3")


def total(term: Callable, along: Directions, chunk: int = CHUNK):
    """Return sum_m w_m term(z_m); term takes a vector of shape (n or 1, *sample)."""
    if chunk < 1:
        raise PersonError(f"chunk = {chunk}: at least 1 direction at a time")

    def part(block: Directions):
        values = jax.vmap(term)(block.vectors)
        return jnp.tensordot(jnp.asarray(block.weights, values.dtype), values, 1)

    count = len(along.weights)
    if count <= chunk:
        return part(along)
    # Filled up with directions of weight zero; the sum needs one block of them in memory.
    missing = -count % chunk
    fill = lambda a: jnp.pad(a, [(0, missing)] + [(0, 0)] * (a.ndim - 1))  # noqa: E731
    blocks = jax.tree.map(lambda a: fill(a).reshape(-1, chunk, *a.shape[1:]), along)
    zero = jnp.zeros_like(jax.eval_shape(term, along.vectors[0]))
    return jax.lax.scan(lambda sum_, block: (sum_ + part(block), None), zero, blocks)[0]


def divergence(f: Callable, x, along: Directions, chunk: int = CHUNK):
    """Return div f = tr J at each sample, shape (n,), as a sum over the directions."""
    _, slope = jax.linearize(f, x)
    return total(lambda z: _dot(z, slope(jnp.broadcast_to(z, x.shape))), along, chunk)


def gradient_of_divergence(f: Callable, x, along: Directions, chunk: int = CHUNK):
    """Return grad_x div f, shape of x, forward over reverse along each direction.

    The directions count as constant in x. Of an estimate the mean is still exact, since the
    weighted sum of z z^T has the mean I for whatever Q "hutch++" has found.
    """

    def term(z):
        z = jnp.broadcast_to(z, x.shape)
        return jax.jvp(lambda x: jax.vjp(f, x)[1](z)[0], (x,), (z,))[1]

    return total(term, along, chunk)


def _sketched(f, x, key, k: int) -> Directions:
    key_sketch, key_rest = jax.random.split(key)
    flat = (k, x.shape[0], -1)
    _, slope = jax.linearize(f, x)
    image = jax.vmap(slope)(_draw(jax.random.rademacher, key_sketch, x, k)).reshape(flat)
    q = jnp.linalg.qr(jnp.moveaxis(image, 0, -1))[0]  # (n, d, min(d, k)), orthonormal columns
    rest = jnp.moveaxis(_draw(jax.random.rademacher, key_rest, x, k).reshape(flat), 0, -1)
    inside = jnp.einsum("ndr,nrk->ndk", q, jnp.einsum("ndr,ndk->nrk", q, rest))
    vectors = jnp.moveaxis(jnp.concatenate([q, rest - inside], -1), -1, 0)
    weights = jnp.concatenate([jnp.ones(q.shape[-1]), jnp.full(k, 1 / k)])
    vectors = jax.lax.stop_gradient(vectors).reshape(len(weights), *x.shape)
    return Directions(vectors, weights)


def _draw(draw, key, x, count: int):
    """Random vectors, shape (count, n, *sample); those of sample i do not depend on n."""
    return jnp.moveaxis(draw(key, (x.shape[0], count, *x.shape[1:]), x.dtype), 1, 0)


def _dot(a, b):
    return jnp.sum((a * b).reshape(b.shape[0], -1), axis=1)
