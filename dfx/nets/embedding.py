"""Features of a time and of a class: how a net is told where it is.

Times are embedded in float32 or better: in bfloat16 neighbouring steps of a thousand would
coincide.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import scipy.special

from dfx.errors import PersonError
from dfx.nets.initial import lecun_normal


def sinusoidal(t, width: int, base: float = 10000.0):
    """Return sines and cosines of t at `width / 2` frequencies, geometric from 1 down to 1 / base.

        [sin(w_0 t), .., sin(w_{h-1} t), cos(w_0 t), .., cos(w_{h-1} t)],
        w_i = base^{-i / (h - 1)},  h = width / 2

    Args:
      t: times of any shape; the frequencies suit step numbers 0..1000, not times in [0, 1].
      width: an even number of features, at least 4.

    Returns:
      Shape (*t.shape, width), float32 or the wider dtype of t.

    Raises:
      PersonError: another width.

    Source: the first half sine, second half cosine layout of Ho et al. (2020).
    """
    if width < 4 or width % 2:
        raise PersonError(f"time features: width {width}: allowed are even numbers from 4 up")
    half = width // 2
    t = _at_least_float32(t)
    angles = t[..., None] * jnp.asarray(base ** (-np.arange(half) / (half - 1)), t.dtype)
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


def fourier(t, width: int, scale: float = 16.0):
    """Return sines and cosines of 2 pi w_i t at `width / 2` fixed frequencies.

    They are spread as |N(0, scale^2)|: its quantiles at (i + 1/2) / h instead of draws, so that no
    random state has to be kept beside the parameters.

    Args:
      t: times or log noise levels of order one, any shape.
      width: an even number of features, at least 2.
      scale: the deviation of that normal law, in turns per unit of t; positive.

    Returns:
      Shape (*t.shape, width), float32 or the wider dtype of t.

    Raises:
      PersonError: another width.

    Source: Song et al. (2021), appendix C.2, with drawn frequencies.
    """
    if width < 2 or width % 2:
        raise PersonError(f"Fourier features: width {width}: allowed are even numbers from 2 up")
    half = width // 2
    t = _at_least_float32(t)
    frequencies = scale * scipy.special.ndtri(0.5 + (np.arange(half) + 0.5) / (2 * half))
    angles = t[..., None] * jnp.asarray(2 * np.pi * frequencies, t.dtype)
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


def sinusoidal_grid(height: int, width: int, num_features: int) -> np.ndarray:
    """Return fixed features of the places of a grid in reading order, shape (h w, num_features).

    The first half holds sines, then cosines, of the row i at the frequencies 10000^{-k / q} with
    k = 0..q - 1 and q = num_features / 4, the second half those of the column.

    Source: Peebles & Xie (2023), whose grids are square.
    """
    quarter = num_features // 4
    frequencies = 10000.0 ** (-np.arange(quarter) / quarter)
    rows, columns = np.mgrid[:height, :width].reshape(2, -1, 1) * frequencies
    waves = [np.sin(rows), np.cos(rows), np.sin(columns), np.cos(columns)]
    return np.concatenate(waves, axis=1).astype(np.float32)


def _at_least_float32(t):
    t = jnp.asarray(t)
    return t.astype(jnp.promote_types(t.dtype, jnp.float32))


class TimeEmbedding(nn.Module):
    """Features of t through linear, SiLU, linear: shape (*t.shape, width), at least float32."""

    width: int
    num_features: int
    dtype: Any = None
    features: Callable = sinusoidal

    @nn.compact
    def __call__(self, t):
        dtype = self.dtype and jnp.promote_types(self.dtype, jnp.float32)
        dense = partial(nn.Dense, self.width, kernel_init=lecun_normal, dtype=dtype)
        hidden = nn.silu(dense(name="inputs")(self.features(t, self.num_features)))
        return dense(name="outputs")(hidden)


class ClassEmbedding(nn.Module):
    """One learned vector a class, and a last one for the null class, which is also cond = None."""

    num_classes: int
    width: int
    dtype: Any = None

    @nn.compact
    def __call__(self, cond, num_samples: int):
        cond = jnp.full(num_samples, self.num_classes) if cond is None else cond
        return nn.Embed(self.num_classes + 1, self.width, dtype=self.dtype, name="table")(cond)
