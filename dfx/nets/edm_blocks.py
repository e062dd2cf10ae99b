"""The residual block of `edm_unet`, with changes of size, dropout and attention inside."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from dfx.nets.compute import attend
from dfx.nets.initial import xavier_uniform
from dfx.nets.layers import Conv, Dense, GroupNorm
from dfx.nets.resample import downsample, upsample

_RESIZE = {"down": downsample, "up": upsample}


class Design(NamedTuple):
    """What the blocks of one net have in common.

    Attributes:
      adaptive: time and class scale and shift after the second norm; or they are added before it.
      rescale: every sum of two paths is divided by sqrt(2), so that its variance stays.
      resample: the filter of changes of size, "box" or "fir" (`dfx.nets.resample`).
      project: the way past a change of size has a 1x1 convolution, also where the widths agree.
      head_width: channels of an attention head; 0 for one head of all channels.
      epsilon: of the norms.
      dropout: the share of features left out before the last convolution of a block.
      dtype, attention: as for `dfx.nets.edm_unet`.
    """

    adaptive: bool
    rescale: bool
    resample: str
    project: bool
    head_width: int
    epsilon: float
    dropout: float
    dtype: Any
    attention: str


def num_groups(channels: int) -> int:
    """Return the number of groups of a norm: 32 at most, of 4 channels at least, that divides.

    >>> num_groups(128), num_groups(64), num_groups(12)
    (32, 16, 3)
    """
    return max(g for g in range(1, 33) if channels % g == 0 and 4 * g <= max(channels, 4))


class EdmBlock(nn.Module):
    """One residual block, then attention over all places if `attends`.

        inner = resize(silu(norm(h)))
        inner = drop(silu(time(norm(conv(inner)))))
        h = (skip(resize(h)) + conv(inner)) / sqrt(2)        (the division if the design says so)

    The last convolution, and that after the attention, start at zero.
    """

    width: int
    design: Design
    resize: str | None = None
    attends: bool = False
    drops: bool = False

    @nn.compact
    def __call__(self, h, features):
        design = self.design
        conv = partial(Conv, self.width, kernel_init=xavier_uniform, dtype=design.dtype)
        skip = conv(size=1, name="skip") if self.has_skip(h.shape[-1]) else lambda h: h
        inner = self.norm(h, "norm1", silu=True)
        if self.resize:
            inner = _RESIZE[self.resize](inner, design.resample)
            h = _RESIZE[self.resize](h, design.resample)
        inner = self.join_time(conv(name="conv1")(inner), features)
        inner = nn.Dropout(design.dropout)(inner, deterministic=not self.drops)
        h = self.add(skip(h), conv(kernel_init=nn.initializers.zeros, name="conv2")(inner))
        return self.add(h, self.attend(h)) if self.attends else h

    def has_skip(self, channels):
        return channels != self.width or (self.resize is not None and self.design.project)

    def norm(self, h, name, extra=None, silu=False):
        """The group norm of that name."""
        options = dict(epsilon=self.design.epsilon, silu=silu, dtype=self.design.dtype)
        return GroupNorm(num_groups(h.shape[-1]), **options, name=name)(h, extra)

    def join_time(self, inner, features):
        """The second norm and SiLU, with time and class inside or before."""
        width = self.width * (2 if self.design.adaptive else 1)
        time = Dense(width, kernel_init=xavier_uniform, dtype=self.design.dtype, name="time")
        change = time(features)
        if self.design.adaptive:
            return self.norm(inner, "norm2", jnp.split(change, 2, axis=-1), silu=True)
        return self.norm(inner + change[:, None, None, :], "norm2", silu=True)

    def add(self, one, other):
        return (one + other) * math.sqrt(0.5) if self.design.rescale else one + other

    def attend(self, h):
        """Attention over all places, through a 1x1 convolution that starts at zero."""
        n, height, width, channels = h.shape
        heads = channels // self.design.head_width if self.design.head_width else 1
        conv = partial(Conv, size=1, kernel_init=xavier_uniform, dtype=self.design.dtype)
        qkv = conv(3 * channels, name="qkv")(self.norm(h, "norm3"))
        q, k, v = jnp.split(qkv.reshape(n, height * width, 3 * heads, -1), 3, axis=2)
        mixed = attend(q, k, v, self.design.attention).reshape(h.shape)
        return conv(channels, kernel_init=nn.initializers.zeros, name="attention")(mixed)
