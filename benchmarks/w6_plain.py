"""The nets of W6 as one would write them in flax, on the same parameters as those of `dfx.nets`.

Layers of flax, a Python loop over blocks, and nothing done for speed.
"""

from __future__ import annotations

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from dfx.nets.embedding import TimeEmbedding
from dfx.nets.patches import fold, unfold

_norm = partial(nn.LayerNorm, epsilon=1e-6, use_bias=False, use_scale=False)
_group_norm = partial(nn.GroupNorm, 8, epsilon=1e-5)


class Residual(nn.Module):
    """The residual block of the U-Net."""

    width: int

    @nn.compact
    def __call__(self, h, features):
        inner = nn.Conv(self.width, (3, 3), name="conv1")(nn.silu(_group_norm(name="norm1")(h)))
        inner = inner + nn.Dense(self.width, name="time")(nn.silu(features))[:, None, None, :]
        inner = nn.silu(_group_norm(name="norm2")(inner))
        inner = nn.Conv(self.width, (3, 3), name="conv2")(inner)
        return inner + (
            h if h.shape[-1] == self.width else nn.Conv(self.width, (1, 1), name="skip")(h)
        )


class Attention(nn.Module):
    """The attention of the U-Net's lowest level."""

    @nn.compact
    def __call__(self, h):
        n, height, width, channels = h.shape
        tokens = _group_norm(name="norm")(h).reshape(n, height * width, channels)
        qkv = nn.Dense(3 * channels, name="qkv")(tokens).reshape(n, height * width, 24, -1)
        mixed = jax.nn.dot_product_attention(*jnp.split(qkv, 3, axis=2)).reshape(h.shape)
        return h + nn.Dense(channels, name="outputs")(mixed)


class UNet(nn.Module):
    """The U-Net: base 32, widths (1, 2, 2), two blocks down and three up a level."""

    @nn.compact
    def __call__(self, x, t):
        widths = (32, 64, 64)
        features = TimeEmbedding(128, 32, name="time")(t)
        h = nn.Conv(32, (3, 3), name="inputs")(x)
        kept = [h]
        for i, width in enumerate(widths):
            for j in range(2):
                kept.append(Residual(width, name=f"down_{i}_{j}")(kept[-1], features))
            if i < 2:
                down = nn.Conv(width, (3, 3), 2, padding=1, name=f"down_{i}")
                kept.append(down(kept[-1]))
        h = Residual(64, name="middle_0")(kept[-1], features)
        h = Residual(64, name="middle_1")(Attention(name="attention")(h), features)
        for i, width in ((2, 64), (1, 64), (0, 32)):
            for j in range(3):
                joined = jnp.concatenate([h, kept.pop()], axis=-1)
                h = Residual(width, name=f"up_{i}_{j}")(joined, features)
            if i:
                h = h.repeat(2, axis=1).repeat(2, axis=2)
                h = nn.Conv(width, (3, 3), name=f"up_{i}")(h)
        return nn.Conv(1, (3, 3), name="outputs")(nn.silu(_group_norm(name="norm")(h)))


class Block(nn.Module):
    """The block of the transformer."""

    @nn.compact
    def __call__(self, h, c):
        modulation = nn.Dense(6 * 192, name="modulation")(nn.silu(c))
        shift1, scale1, gate1, shift2, scale2, gate2 = jnp.split(modulation, 6, axis=-1)
        inner = _norm(name="norm1")(h) * (1 + scale1) + shift1
        qkv = nn.Dense(3 * 192, name="qkv")(inner).reshape(*h.shape[:2], 18, -1)
        mixed = jax.nn.dot_product_attention(*jnp.split(qkv, 3, axis=2)).reshape(h.shape)
        h = h + gate1 * nn.Dense(192, name="attention")(mixed)
        inner = _norm(name="norm2")(h) * (1 + scale2) + shift2
        inner = nn.gelu(nn.Dense(768, name="mlp1")(inner))
        return h + gate2 * nn.Dense(192, name="mlp2")(inner)


class Transformer(nn.Module):
    """The transformer: patch 4, width 192, depth 6, 6 heads."""

    @nn.compact
    def __call__(self, x, t):
        c = TimeEmbedding(192, 256, name="time")(t)[:, None, :]
        grid = fold(x, 4)
        patches = grid.reshape(len(x), 49, 16)
        position = self.param("position", nn.initializers.normal(0.02), (49, 192))
        h = nn.Dense(192, name="inputs")(patches) + position
        for i in range(6):
            h = Block(name=f"block_{i}")(h, c)
        shift, scale = jnp.split(nn.Dense(2 * 192, name="modulation")(nn.silu(c)), 2, axis=-1)
        h = nn.Dense(16, name="outputs")(_norm(name="norm")(h) * (1 + scale) + shift)
        return unfold(h.reshape(grid.shape), 4)


#: Net -> apply(params, x, t).
APPLY = {
    "unet": lambda params, x, t: UNet().apply({"params": params}, x, t),
    "dit": lambda params, x, t: Transformer().apply({"params": params}, x, t),
}
