"""Derivatives of batched vector functions f: (n, *sample) -> (n, *sample).

The functions treat each sample by itself.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from dfx.errors import PersonError, choose

_PROBES = {"rademacher": jax.random.rademacher, "normal": jax.random.normal}


def jacobian(f, x):
    """Return J with J[i, a, b] = d f_a / d x_b at sample i, shape (n, d, d), d the size of one
    sample.

    Exact to rounding. Costs d forward derivatives of f, all at once in memory.

    >>> jacobian(lambda x: x**2, jnp.ones((1, 2)))
    Array([[[2., 0.],
            [0., 2.]]], dtype=float32)
    """
    columns = jax.vmap(lambda tangent: _slope(f, x, tangent), out_axes=-1)(_basis(x))
    return columns.reshape(x.shape[0], -1, math.prod(x.shape[1:]))


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
        d = math.prod(x.shape[1:])
        slopes = jax.vmap(lambda tangent: _slope(f, x, tangent))(_basis(x))
        return jnp.einsum("ana->n", slopes.reshape(d, x.shape[0], d))
    draw = choose("probe", probe, _PROBES)
    if num_probes < 1:
        raise PersonError(f"num_probes = {num_probes}: at least 1 probe is needed")
    z = draw(key, (x.shape[0], num_probes, *x.shape[1:]), x.dtype)
    slopes = jax.vmap(lambda tangent: _slope(f, x, tangent), 1, 1)(z)
    return jnp.sum((z * slopes).reshape(x.shape[0], -1), axis=1) / num_probes


def _slope(f, x, tangent):
    return jax.jvp(f, (x,), (jnp.broadcast_to(tangent, x.shape),))[1]


def _basis(x):
    d = math.prod(x.shape[1:])
    return jnp.eye(d, dtype=x.dtype).reshape(d, *x.shape[1:])
