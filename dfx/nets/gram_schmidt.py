"""Orthonormal bases in products alone, for programs that are differentiated, vmapped and spread."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def gram_schmidt(matrices) -> jax.Array:
    """Return the orthonormal Q of matrices = Q R, R with a positive diagonal; shape (.., n, r).

    Columns come one by one, each made free of those before it, twice: after the first time a part
    of eps times the condition number is left, after the second of eps. So the columns of Q are
    orthonormal to rounding whatever the condition number, as long as it is below some 1 / (r eps),
    1e6 in float32. Beyond that a column is a rounding error of those before it, and its direction
    means nothing; a column of zeros, or of what is exactly in the span of others, gives nan.

    `jnp.linalg.qr` is a call of LAPACK on CPU, which holds a thread of the pool that all CPU
    devices share: a program over several of them can wait for itself for ever (jax 0.10.2). Here
    is nothing but products, unrolled over the r columns, which are meant to be few. Cost
    O(n r^2) a matrix, forwards and backwards.

    Args:
      matrices: shape (.., n, r), r at most n, of independent columns.

    Source: Giraud, Langou & Rozloznik 2005 (that twice is enough).
    """
    first, *others = jnp.moveaxis(matrices, -1, 0)
    found = _unit(first)[..., None]
    for column in others:
        column = _unit(_without(found, _without(found, column)))
        found = jnp.concatenate([found, column[..., None]], axis=-1)
    return found


def _unit(column):
    return column * jax.lax.rsqrt((column**2).sum(-1, keepdims=True))


def _without(basis, column):
    """The column less its part in the span of an orthonormal basis."""
    inside = jnp.einsum("...nr,...n->...r", basis, column, precision="highest")
    return column - jnp.einsum("...nr,...r->...n", basis, inside, precision="highest")
