"""Initial weights of linear layers and convolutions, kernels of shape (*places, inputs, outputs).

The laws are the usual ones and so are the numbers, but they are drawn as one row: XLA compiles the
generator of a flat array several times faster than that of a four-dimensional one, and a U-Net has
dozens of them.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

# Standard deviation of N(0, 1) cut off at -2 and 2.
_CUT_STD = 0.87962566103423978


def lecun_normal(key, shape: tuple[int, ...], dtype=jnp.float32):
    """Return a normal draw cut off at two standard deviations, of variance 1 / fan-in."""
    std = math.sqrt(1 / math.prod(shape[:-1])) / _CUT_STD
    return std * jax.random.truncated_normal(key, -2, 2, (math.prod(shape),), dtype).reshape(shape)


def xavier_uniform(key, shape: tuple[int, ...], dtype=jnp.float32):
    """Return a uniform draw on [-b, b] with b^2 = 6 / (fan-in + fan-out)."""
    bound = math.sqrt(6 / (math.prod(shape[:-2]) * (shape[-2] + shape[-1])))
    return jax.random.uniform(key, (math.prod(shape),), dtype, -bound, bound).reshape(shape)
