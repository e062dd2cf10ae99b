"""Pictures (n, h, w, c) at half and at double size, by two filters.

"box" averages 2 x 2 pixels and repeats each pixel 2 x 2 times. "fir" has the taps (1, 3, 3, 1) / 8
along each axis, with zeros around the picture: smoother, so less aliasing (Karras et al. 2020, used
by NCSN++). Both act on each channel alone, and up is four times the transpose of down.
"""

from __future__ import annotations

import jax.numpy as jnp


def downsample(x, filter_name: str):
    """Return pictures of half the size; height and width are even."""
    return _along(_along(x, 1, _DOWN[filter_name]), 2, _DOWN[filter_name])


def upsample(x, filter_name: str):
    """Return pictures of twice the size."""
    return _along(_along(x, 1, _UP[filter_name]), 2, _UP[filter_name])


def _along(x, axis, function):
    return jnp.moveaxis(function(jnp.moveaxis(x, axis, 0)), 0, axis)


def _halve(x):
    even, odd = x[0::2], x[1::2]
    return (even + odd) / 2


def _halve_smoothly(x):
    even, odd = x[0::2], x[1::2]
    return (_before(odd) + 3 * even + 3 * odd + _after(even)) / 8


def _double(x):
    return _interleave(x, x)


def _double_smoothly(x):
    return _interleave((_before(x) + 3 * x) / 4, (3 * x + _after(x)) / 4)


def _before(x):
    """The row before each, zeros before the first."""
    return jnp.concatenate([jnp.zeros_like(x[:1]), x[:-1]])


def _after(x):
    return jnp.concatenate([x[1:], jnp.zeros_like(x[:1])])


def _interleave(even, odd):
    return jnp.stack([even, odd], axis=1).reshape(2 * len(even), *even.shape[1:])


_DOWN = {"box": _halve, "fir": _halve_smoothly}
_UP = {"box": _double, "fir": _double_smoothly}

#: The filters by name.
FILTERS = dict.fromkeys(_DOWN)
