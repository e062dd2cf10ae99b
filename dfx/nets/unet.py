"""A small U-Net for pictures, x of shape (n, height, width, channels).

Down through levels of halving size, up again with every kept feature joined on, residual blocks
throughout and one attention at the lowest level: the layout of DDPM (Ho et al. 2020), whose time
enters each block as a shift.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from dfx.errors import PersonError
from dfx.nets.compute import as_dtype, at_least_float32, attend, check_compute, rematerialised
from dfx.nets.embedding import ClassEmbedding, TimeEmbedding
from dfx.nets.layers import Conv, Dense, GroupNorm
from dfx.nets.net import Net, check_picture, check_sizes, from_linen
from dfx.nets.patches import fold, unfold


class ResidualBlock(nn.Module):
    """skip(h) + conv(act(norm(conv(act(norm(h))) + time))) with act = SiLU.

    skip is a 1x1 convolution if the widths differ.
    """

    width: int
    groups: int
    dtype: Any = None

    @nn.compact
    def __call__(self, h, features):
        norm = partial(GroupNorm, self.groups, silu=True, dtype=self.dtype)
        conv = partial(Conv, self.width, dtype=self.dtype)
        inner = conv(name="conv1")(norm(name="norm1")(h))
        dense = Dense(self.width, dtype=self.dtype, name="time")
        inner = inner + dense(nn.silu(features))[:, None, None, :]
        inner = conv(name="conv2")(norm(name="norm2")(inner))
        skip = h if h.shape[-1] == self.width else conv(size=1, name="skip")(h)
        return skip + inner


class SpatialAttention(nn.Module):
    """h + linear(attention over all positions of norm(h))."""

    heads: int
    groups: int
    dtype: Any = None
    attention: str = "xla"

    @nn.compact
    def __call__(self, h):
        n, height, width, channels = h.shape
        dense = partial(Dense, dtype=self.dtype)
        tokens = GroupNorm(self.groups, dtype=self.dtype, name="norm")(h)
        qkv = dense(3 * channels, name="qkv")(tokens.reshape(n, height * width, channels))
        q, k, v = jnp.split(qkv.reshape(n, height * width, 3 * self.heads, -1), 3, axis=2)
        mixed = attend(q, k, v, self.attention).reshape(n, height, width, channels)
        return h + dense(channels, name="outputs")(mixed)


class UNet(nn.Module):
    """See `unet`."""

    base: int
    multipliers: tuple[int, ...]
    blocks: int
    groups: int
    heads: int
    num_classes: int
    patch: int = 1
    dtype: Any = None
    remat: str = "none"
    attention: str = "xla"

    @nn.compact
    def __call__(self, x, t, cond=None):
        x = fold(x, self.patch)
        conv = partial(Conv, dtype=self.dtype)
        made = rematerialised(ResidualBlock, self.remat)
        block = partial(made, groups=self.groups, dtype=self.dtype)
        widths = [self.base * m for m in self.multipliers]
        features = TimeEmbedding(4 * self.base, self.base, self.dtype, name="time")(t)
        if self.num_classes:
            embed = ClassEmbedding(self.num_classes, 4 * self.base, name="classes")
            features = features + embed(cond, len(x))

        h = conv(self.base, name="inputs")(x)
        kept = [h]
        for i, width in enumerate(widths):
            for j in range(self.blocks):
                h = block(width, name=f"down_{i}_{j}")(h, features)
                kept.append(h)
            if i < len(widths) - 1:
                h = conv(width, stride=2, name=f"down_{i}")(h)
                kept.append(h)

        h = block(widths[-1], name="middle_0")(h, features)
        attention = rematerialised(SpatialAttention, self.remat)
        h = attention(self.heads, self.groups, self.dtype, self.attention, name="attention")(h)
        h = block(widths[-1], name="middle_1")(h, features)

        for i, width in reversed(list(enumerate(widths))):
            for j in range(self.blocks + 1):
                joined = jnp.concatenate([h, kept.pop()], axis=-1)
                h = block(width, name=f"up_{i}_{j}")(joined, features)
            if i > 0:
                h = conv(width, name=f"up_{i}")(h.repeat(2, axis=1).repeat(2, axis=2))

        h = GroupNorm(self.groups, silu=True, name="norm")(at_least_float32(h))
        return unfold(Conv(x.shape[-1], name="outputs")(h), self.patch)


def unet(
    shape: tuple[int, int, int],
    base: int = 32,
    multipliers: Sequence[int] = (1, 2, 2),
    blocks: int = 2,
    groups: int = 8,
    heads: int = 8,
    num_classes: int = 0,
    patch: int = 1,
    dtype: Any = None,
    remat: str = "none",
    attention: str = "xla",
) -> Net:
    """Return a U-Net; t of shape (n,) is a step number 0..1000.

    The defaults have 1,539,329 parameters for 28 x 28 x 1. `features` tells the pictures
    (n, h, w, c) after each block: down_0_0, .., middle_0, attention, middle_1, .., up_0_0, ..,
    numbered by level and block, beside what lies between.

    Args:
      shape: (height, width, channels); height and width divisible by patch 2^(levels - 1).
      base: width of the top level, divisible by `groups` and `heads`.
      multipliers: width of each level over `base`, from the top.
      blocks: residual blocks a level on the way down; one more on the way up.
      groups: groups of the group norms.
      heads: attention heads at the lowest level.
      num_classes: with more than zero, cond holds classes 0..num_classes - 1; num_classes or None
        is the null class.
      patch: side of the patches that become channels first: 2 halves every level's side, which on
        a CPU buys twice the width for less time.
      dtype: the dtype of the computation, also by name; None promotes x and the float32
        parameters. See `dfx.nets.compute` for what stays float32.
      remat: what the backward pass computes again, a key of `dfx.nets.compute.REMAT`.
      attention: "xla", or "cudnn" on a GPU in half precision (`dfx.nets.compute.attend`).

    Raises:
      PersonError: a size that is none, or sizes that do not divide; an unknown choice.
    """
    multipliers = tuple(multipliers)
    check_sizes("unet", base=base, multipliers=multipliers, blocks=blocks, groups=groups)
    check_sizes("unet", heads=heads, patch=patch)
    check_sizes("unet", 0, num_classes=num_classes)
    check_picture("unet", shape, patch * 2 ** (len(multipliers) - 1))
    dtype = as_dtype("unet", dtype)
    check_compute("unet", remat, attention, dtype)
    if base % groups or base % heads:
        raise PersonError(f"unet: base {base} must be a multiple of {groups} groups, {heads} heads")
    options = (num_classes, patch, dtype, remat, attention)
    module = UNet(base, multipliers, blocks, groups, heads, *options)
    return from_linen(module, tuple(shape), num_classes > 0)
