"""Arithmetic that keeps float32 accurate where a result is a small difference of large numbers."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np


def split(value, dtype):
    """Return (high, low) with high of `dtype` and high + low = value.

    low is None if it is zero, or cannot be known because the value is a JAX array.
    """
    high = jnp.asarray(value, dtype)
    if isinstance(value, jax.Array):
        return high, None
    low = np.asarray(value, np.float64) - np.asarray(value).astype(dtype)
    return high, jnp.asarray(low, dtype) if low.any() else None


def residual(x, a, a_low, c):
    """x - (a + a_low) c, the products as if not rounded; a_low may be None.

    a c is split into an exact product and a small rest (Dekker 1971).
    """
    bits = jnp.finfo(x.dtype)

    def cut(z):
        return jax.lax.stop_gradient(jax.lax.reduce_precision(z, bits.nexp, bits.nmant // 2))

    a_high, c_high = cut(a), cut(c)
    rest = a_high * (c - c_high) + (a - a_high) * c
    return (x - a_high * c_high) - (rest if a_low is None else rest + a_low * c)


def difference(mean, low, centre):
    """w = mean + low - centre; low may be None."""
    return mean - centre if low is None else (mean - centre) + low


def closeness(mean, low, centre, slope, curvature):
    """w (slope - curvature w), w = mean + low - centre: a coordinate of g_k in `components.py`."""
    w = difference(mean, low, centre)
    return w * (slope - curvature * w)


@functools.partial(jax.jit, static_argnums=0)
def sum_rows(f: Callable, *arrays):
    """Return the sum over j of f(a[j], b[j], ..); an array may be None, or have one row for all j.

    As a scan: XLA's CPU backend does not vectorise a fused sum over a leading axis, and would
    compute what the rows are made of again for every component. The inputs of a scan exist once.
    Compiled once for each f and shapes, so f must not be a new function at every call.
    """
    size = max(a.shape[0] for a in arrays if a is not None)
    rows = [None if a is None else jnp.broadcast_to(a, (size, *a.shape[1:])) for a in arrays]
    one = jax.eval_shape(f, *(None if a is None else a[0] for a in rows))
    start = jnp.zeros(one.shape, one.dtype)
    return jax.lax.scan(lambda total, row: (total + f(*row), None), start, rows)[0]


def einsum(spec: str, *arrays):
    """`jnp.einsum` without the rounding of factors that accelerators do by default."""
    return jnp.einsum(spec, *arrays, precision="highest")


def product(a, b):
    """a @ b, of JAX arrays without that rounding; of two NumPy arrays as NumPy does it."""
    if isinstance(a, jax.Array) or isinstance(b, jax.Array):
        return jnp.matmul(a, b, precision="highest")
    return a @ b
