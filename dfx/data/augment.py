"""What is done to a batch on the device: pure functions of (key, batch), compiled into the step.

Noise i is a function of (key, i), the same in a batch of any size. Mirroring is
`dfx.data.random_flip`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from dfx.errors import PersonError

#: The width of a cell of `dequantise`, for `dfx.metrics.bits_per_dimension`.
CELL = 2 / 256


def dequantise(key, images):
    """Return pixels 0..255 as numbers in [-1, 1) that are uniform in their cell:

        x = (pixel + u) / 128 - 1,    u uniform on [0, 1).

    The density of x is the probability of the pixel over the cell of width 2 / 256, so the mean of
    `bits_per_dimension(log p(x), d, CELL)` bounds the bits of a lossless code from above.

    Args:
      key: a typed key.
      images: uint8 (n, ...).

    Returns:
      float32 of the same shape.

    Source: Theis, van den Oord and Bethge 2016, section 3.1.
    """
    keys = _keys(key, len(images))
    noise = jax.vmap(lambda k: jax.random.uniform(k, images.shape[1:], jnp.float32))(keys)
    # Rounding could carry 255 + u to 256, out of the last cell.
    x = (images.astype(jnp.float32) + noise) / 128 - 1
    return jnp.minimum(x, 1 - 2.0**-24)


def draw_latents(key, moments, scale: float = 1.0):
    """Return latents drawn from what an encoder says of each picture: scale (mean + std eps).

    Args:
      key: a typed key.
      moments: (n, ..., 2 c), means in the first c channels and standard deviations in the others.
      scale: makes the latents of about unit variance; 0.18215 for the encoder of Stable Diffusion.

    Raises:
      PersonError: an odd number of channels.
    """
    if moments.shape[-1] % 2:
        raise PersonError(f"moments have {moments.shape[-1]} channels, allowed: an even number")
    mean, std = jnp.split(moments.astype(jnp.float32), 2, axis=-1)
    keys = _keys(key, len(moments))
    eps = jax.vmap(lambda k: jax.random.normal(k, mean.shape[1:], jnp.float32))(keys)
    return scale * (mean + std * eps)


def _keys(key, n: int):
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(n))
