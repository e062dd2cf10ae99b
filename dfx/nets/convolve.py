"""Convolution of pictures as a bilinear map whose transposes suit a CPU.

In pictures x (n, h, w, c_in) and kernel k (s, s, c_in, c_out), with `before` zeros before each axis
of x and s - 1 - before behind it,

    y[n, h, w, o] = sum_{i, j, c} x[n, h + i - before, w + j - before, c] k[i, j, c, o].

Both transposes are written out, because XLA's own are slow on a CPU. For the pictures it is the
convolution of the cotangent with the kernel turned about and its channels exchanged, zeros before
and behind exchanged; XLA leaves that exchange undone inside of loops, where the product then falls
to its plain nest of loops (28 x 28 x 32, batch 8: 190 ms against 6; jax issue 12868). For the
kernel, XLA's window is the whole picture, at a fifth of the speed of the forward pass; here it is
one matrix product for every two pictures, small enough for the cache, with the s shifts along the
rows side by side in x and those along the columns in g:

    dk[i, j, c, o] = sum_{n, h, w} x[n, h + i - before, w + j - before, c] g[n, h, w, o].

Derivatives of every kind and order follow from the two. On other devices the kernel's is XLA's.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

#: The name of the map among a traced program's operations.
NAME = "convolve_pictures"
# Pictures a product: one to four are alike, sixteen are slower by a fifth.
_BLOCK = 2


def convolve(x, kernel, stride: int = 1):
    """Return the convolution of pictures x (n, h, w, c_in) with kernel (s, s, c_in, c_out), s odd.

    Zeros are put around the pictures so that stride 1 keeps their size; stride 2 keeps every second
    place, the first among them.
    """
    if len(kernel) == 1 and stride == 1:
        return x @ kernel[0, 0]
    if stride == 1:
        return _map.bind(x, kernel, before=len(kernel) // 2)
    if stride == 2 and jax.default_backend() == "cpu":
        return _halving(x, kernel)
    return _plain(x, kernel, len(kernel) // 2, stride)


def _halving(x, kernel):
    """Stride 2 without a stride, whose transposes XLA takes place by place: the four pixels of a
    square become channels, the kernel reads squares."""
    size, _, channels, width = kernel.shape
    before = (size // 2 + 1) // 2  # squares
    taps = 2 * (before + 1 + (size // 2) // 2)
    first = 2 * before - size // 2
    spare = (first, taps - size - first)
    kernel = jnp.pad(kernel, (spare, spare, (0, 0), (0, 0)))
    kernel = kernel.reshape(taps // 2, 2, taps // 2, 2, channels, width)
    x = jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0)))
    n, height, columns, _ = x.shape
    x = x.reshape(n, height // 2, 2, columns // 2, 2, channels).transpose(0, 1, 3, 2, 4, 5)
    x = x.reshape(n, height // 2, columns // 2, 4 * channels)
    kernel = kernel.transpose(0, 2, 1, 3, 4, 5).reshape(taps // 2, taps // 2, 4 * channels, width)
    return _map.bind(x, kernel, before=before)


def _plain(x, kernel, before: int, stride: int = 1):
    """Return the convolution by XLA's operation."""
    padding = 2 * [(before, len(kernel) - 1 - before)]
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, dimension_numbers=numbers
    )


# Both arguments may have the same axes in front, those of a vmap over kernels: each is a map of its
# own.
_map = Primitive(NAME)


def _all(function):
    """Return the function of x (*lead, n, h, w, c) and another array with the same leading axes."""

    def mapped(x, other, **options):
        one = functools.partial(function, **options)
        for _ in range(x.ndim - 4):
            one = jax.vmap(one)
        return one(x, other)

    return mapped


_map.def_impl(jax.jit(_all(_plain), static_argnames="before"))
mlir.register_lowering(_map, mlir.lower_fun(_all(_plain), multiple_results=False))


@_map.def_abstract_eval
def _shape(x, kernel, *, before):
    return ShapedArray((*x.shape[:-1], kernel.shape[-1]), x.dtype)


def _transpose_in_x(g, x, kernel, *, before):
    turned = jnp.swapaxes(jnp.flip(kernel, (-4, -3)), -2, -1)
    return _map.bind(g, turned, before=kernel.shape[-3] - 1 - before)


def _transpose_in_kernel(g, x, kernel, *, before):
    size = kernel.aval.shape[-3]
    by_blocks = jax.default_backend() == "cpu" and x.dtype in (jnp.float32, jnp.float64)
    gradient = _by_blocks if by_blocks else _by_window
    return _all(gradient)(x, g, size=size, before=before)


ad.defbilinear(_map, _transpose_in_x, _transpose_in_kernel)


def _batch(arguments, axes, *, before):
    x, kernel = arguments
    if axes[1] is None:  # more pictures for the same kernel
        lead = kernel.ndim - 4
        x = jnp.moveaxis(x, axes[0], lead)
        rows = x.reshape(*x.shape[:lead], -1, *x.shape[lead + 2 :])
        out = _map.bind(rows, kernel, before=before)
        return out.reshape(*x.shape[: lead + 2], *out.shape[lead + 1 :]), lead
    kernel = jnp.moveaxis(kernel, axes[1], 0)
    if axes[0] is None:
        x = jnp.broadcast_to(x, (len(kernel), *x.shape))
    else:
        x = jnp.moveaxis(x, axes[0], 0)
    return _map.bind(x, kernel, before=before), 0


batching.primitive_batchers[_map] = _batch


def _by_window(x, g, *, size, before):
    """Return the gradient in the kernel as XLA has it."""
    shape = jax.ShapeDtypeStruct((size, size, x.shape[-1], g.shape[-1]), x.dtype)
    return jax.linear_transpose(lambda kernel: _plain(x, kernel, before), shape)(g)[0]


def _by_blocks(x, g, *, size, before):
    """Return the gradient in the kernel as the sum of one product for every few pictures."""
    block = _BLOCK if len(x) % _BLOCK == 0 else 1
    channels, width = x.shape[-1], g.shape[-1]

    def add(total, pictures):
        x, g = pictures
        rows = _shifted(x, 2, range(-before, size - before))
        columns = _shifted(g, 1, range(before, before - size, -1))
        product = rows.reshape(-1, size * channels).T @ columns.reshape(-1, size * width)
        return total + product, None

    start = jnp.zeros((size * channels, size * width), x.dtype)
    pictures = (a.reshape(-1, block, *a.shape[1:]) for a in (x, g))
    total, _ = jax.lax.scan(add, start, tuple(pictures))
    return total.reshape(size, channels, size, width).transpose(2, 0, 1, 3)


def _shifted(a, axis: int, shifts: range):
    """Return a[..., place + shift, ...] for every shift, side by side in the channels."""
    low, high = max(0, -min(shifts)), max(0, max(shifts))
    padded = jnp.pad(a, [(low, high) if k == axis else (0, 0) for k in range(a.ndim)])
    length = a.shape[axis]
    cut = functools.partial(jax.lax.slice_in_dim, padded, axis=axis)
    return jnp.concatenate([cut(low + s, low + s + length) for s in shifts], axis=-1)
