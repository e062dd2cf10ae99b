"""Along which vectors a trace is taken: unit vectors, random probes, or a sketch of the range.

How traces are summed along them is `fields.derivatives`.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from dfx.errors import PersonError
from dfx.fields import probes
from dfx.fields.derivatives import Directions, unit_vectors
from dfx.targets.arithmetic import einsum

#: How the directions of an estimate are drawn.
PROBES = (*probes.PROBES, "hutch++")


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
        return unit_vectors(x)
    if probe == "hutch++":
        return _sketched(f, x, key, num_probes // 3)
    vectors = probes.draw_probes(key, x, num_probes, probe)
    return Directions(vectors, jnp.full(num_probes, 1 / num_probes))


def check_probes(num_probes: int, probe: str) -> None:
    """Raise PersonError unless `directions` can make these probes."""
    probes.check_probes(num_probes, probe, PROBES)
    if probe == "hutch++" and num_probes % 3:
        raise PersonError(f"num_probes = {num_probes}: hutch++ needs a multiple of 3")


def _sketched(f, x, key, k: int) -> Directions:
    key_sketch, key_rest = jax.random.split(key)
    flat = (k, x.shape[0], -1)
    _, slope = jax.linearize(f, x)
    image = jax.vmap(slope)(probes.draw_probes(key_sketch, x, k)).reshape(flat)
    q = jnp.linalg.qr(jnp.moveaxis(image, 0, -1))[0]  # (n, d, min(d, k)), orthonormal columns
    rest = jnp.moveaxis(probes.draw_probes(key_rest, x, k).reshape(flat), 0, -1)
    inside = einsum("ndr,nrk->ndk", q, einsum("ndr,ndk->nrk", q, rest))
    vectors = jnp.moveaxis(jnp.concatenate([q, rest - inside], -1), -1, 0)
    weights = jnp.concatenate([jnp.ones(q.shape[-1]), jnp.full(k, 1 / k)])
    vectors = jax.lax.stop_gradient(vectors).reshape(len(weights), *x.shape)
    return Directions(vectors, weights)
