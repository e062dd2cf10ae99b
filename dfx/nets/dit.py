"""A diffusion transformer for pictures, x of shape (n, height, width, channels).

The adaLN-zero form of Peebles & Xie (2023): a picture is cut into patches, one token each. Time
and class act on every block through a shift and a scale after each norm and a gate on each branch.
The gates start at zero, so the blocks start as the identity; so does the last layer, so the net
starts as the zero function.
"""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp

from dfx.errors import PersonError, choose
from dfx.nets.compute import as_dtype, at_least_float32, attend, check_compute, rematerialised
from dfx.nets.embedding import ClassEmbedding, TimeEmbedding, sinusoidal_grid
from dfx.nets.initial import xavier_uniform
from dfx.nets.layers import Dense
from dfx.nets.net import Net, check_picture, check_sizes, from_linen
from dfx.nets.patches import fold, unfold

_TIME_FEATURES = 256  # as in the paper

_norm = partial(nn.LayerNorm, epsilon=1e-6, use_bias=False, use_scale=False)
_dense = partial(Dense, kernel_init=xavier_uniform)
_zero_dense = partial(Dense, kernel_init=nn.initializers.zeros)


class Block(nn.Module):
    """h + gate attention(modulated norm(h)), then h + gate mlp(modulated norm(h))."""

    heads: int
    expansion: int
    dtype: Any = None
    attention: str = "xla"

    @nn.compact
    def __call__(self, h, c):
        n, tokens, width = h.shape
        dense = partial(_dense, dtype=self.dtype)
        modulation = _zero_dense(6 * width, dtype=self.dtype, name="modulation")(nn.silu(c))
        shift1, scale1, gate1, shift2, scale2, gate2 = jnp.split(modulation, 6, axis=-1)

        inner = modulate(_norm(dtype=self.dtype, name="norm1")(h), shift1, scale1)
        qkv = dense(3 * width, name="qkv")(inner).reshape(n, tokens, 3 * self.heads, -1)
        q, k, v = jnp.split(qkv, 3, axis=2)
        mixed = attend(q, k, v, self.attention).reshape(n, tokens, width)
        h = h + gate1 * dense(width, name="attention")(mixed)

        inner = modulate(_norm(dtype=self.dtype, name="norm2")(h), shift2, scale2)
        inner = nn.gelu(dense(self.expansion * width, name="mlp1")(inner))
        return h + gate2 * dense(width, name="mlp2")(inner)


def modulate(h, shift, scale):
    """Return h (1 + scale) + shift."""
    return h * (1 + scale) + shift


class DiT(nn.Module):
    """See `dit`."""

    patch: int
    width: int
    depth: int
    heads: int
    expansion: int
    num_classes: int
    dtype: Any = None
    remat: str = "none"
    scan: bool = False
    attention: str = "xla"
    places: str = "learned"

    repeated: ClassVar = {"blocks": "block"}

    @nn.compact
    def __call__(self, x, t, cond=None):
        c = TimeEmbedding(self.width, _TIME_FEATURES, self.dtype, name="time")(t)
        c = c if t.ndim == 2 else c[:, None, :]
        if self.num_classes:
            c = (
                c
                + ClassEmbedding(self.num_classes, self.width, name="classes")(cond, len(x))[
                    :, None
                ]
            )

        grid = fold(x, self.patch)
        patches = grid.reshape(len(x), -1, grid.shape[-1])  # in reading order
        h = _dense(self.width, dtype=self.dtype, name="inputs")(patches)
        h = h + self.positions(*grid.shape[1:3]).astype(h.dtype)
        h = at_least_float32(self.blocks(h, c))

        shift, scale = jnp.split(_zero_dense(2 * self.width, name="modulation")(nn.silu(c)), 2, -1)
        h = modulate(_norm(name="norm")(h), shift, scale)
        h = _zero_dense(patches.shape[-1], name="outputs")(h)
        return unfold(h.reshape(grid.shape), self.patch)

    def positions(self, height, width):
        """What is added to the token of each place, shape (T, width)."""
        if self.places == "fixed":
            return jnp.asarray(sinusoidal_grid(height, width, self.width))
        shape = (height * width, self.width)
        return self.param("position", nn.initializers.normal(0.02), shape)

    def blocks(self, h, c):
        """All blocks, one after the other."""
        make = partial(
            rematerialised(Block, self.remat),
            *(self.heads, self.expansion, self.dtype, self.attention),
        )
        if not self.scan:
            for i in range(self.depth):
                h = make(name=f"block_{i}")(h, c)
            return h
        scan = nn.scan(
            lambda block, h, c: (block(h, c), None),
            variable_axes={"params": 0, "intermediates": 0},
            split_rngs={"params": True},
            in_axes=nn.broadcast,
            length=self.depth,
        )
        return scan(make(name="blocks"), h, c)[0]


def dit(
    shape: tuple[int, int, int],
    patch: int = 4,
    width: int = 192,
    depth: int = 6,
    heads: int = 6,
    expansion: int = 4,
    num_classes: int = 0,
    dtype: Any = None,
    remat: str = "none",
    scan: bool = False,
    attention: str = "xla",
    places: str = "learned",
) -> Net:
    """Return a diffusion transformer.

    t is a step number 0..1000, of shape (n,), or (n, T) for one time per token. The defaults have
    4,174,864 parameters for 28 x 28 x 1. `features` tells block_0, block_1, .., the tokens after
    each block, shape (n, T, width), beside the embeddings and the last layers.

    Args:
      shape: (height, width, channels); height and width divisible by `patch`.
      patch: side of a patch; T = height width / patch^2 tokens, in reading order.
      width: width of a token, divisible by `heads`.
      depth: number of blocks.
      heads: attention heads.
      expansion: hidden width of a block's perceptron over `width`.
      num_classes: with more than zero, cond holds classes 0..num_classes - 1; num_classes or None
        is the null class.
      dtype: the dtype of the computation, also by name; None promotes x and the float32
        parameters. See `dfx.nets.compute` for what stays float32.
      remat: what the backward pass computes again, a key of `dfx.nets.compute.REMAT`.
      scan: one compiled block for all: compilation takes the time of one. The parameters of the
        blocks are then stacked along a first axis, under "blocks".
      attention: "xla", or "cudnn" on a GPU in half precision (`dfx.nets.compute.attend`).
      places: "learned", or "fixed" sines and cosines of row and column, as in the paper.

    Raises:
      PersonError: a size that is none, or sizes that do not divide; an unknown choice.
    """
    check_sizes("dit", patch=patch, width=width, heads=heads, expansion=expansion)
    check_sizes("dit", 0, depth=depth, num_classes=num_classes)
    check_picture("dit", shape, patch)
    dtype = as_dtype("dit", dtype)
    check_compute("dit", remat, attention, dtype)
    choose("places of dit:", places, {"learned": None, "fixed": None})
    if width % heads:
        raise PersonError(f"dit: width {width} must be a multiple of heads {heads}")
    if places == "fixed" and width % 4:
        raise PersonError(f"dit: width {width} must be a multiple of 4 for fixed places")
    options = (num_classes, dtype, remat, scan, attention, places)
    module = DiT(patch, width, depth, heads, expansion, *options)
    return from_linen(module, tuple(shape), num_classes > 0)
