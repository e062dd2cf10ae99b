"""Multi-layer perceptrons for data of a few dimensions, x of shape (n, d).

The weight-tied net is the one of Aithal et al. (2024), "Understanding Hallucinations in Diffusion
Models through Mode Interpolation"; how it smooths the score is the subject of that study, so it
is built to the letter.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from dfx.nets.embedding import ClassEmbedding, TimeEmbedding, sinusoidal
from dfx.nets.initial import lecun_normal, xavier_uniform
from dfx.nets.net import Net, check_sizes, from_linen

_dense = partial(nn.Dense, kernel_init=xavier_uniform)
_leaky_relu = partial(nn.leaky_relu, negative_slope=0.02)
_layer_norm = partial(nn.LayerNorm, epsilon=1e-5)


class TemporalLayer(nn.Module):
    """h + W2 act(norm(W1 act(norm(h)) + time)), with act the leaky rectifier of slope 0.02."""

    width: int
    dtype: Any = None

    def setup(self):
        self.norm1 = _layer_norm(dtype=self.dtype)
        self.linear1 = _dense(self.width, use_bias=False, dtype=self.dtype)
        self.time = _dense(self.width, dtype=self.dtype)
        self.norm2 = _layer_norm(dtype=self.dtype)
        self.linear2 = _dense(self.width, use_bias=False, dtype=self.dtype)

    def __call__(self, h, time):
        inner = self.linear1(_leaky_relu(self.norm1(h))) + time
        return h + self.linear2(_leaky_relu(self.norm2(inner)))

    def embed(self, features):
        """The layer's linear map of the time features, apart so that tied layers share it."""
        return self.time(features)


class WeightTiedMLP(nn.Module):
    """See `weight_tied_mlp`: linear, `depth` temporal layers, norm, linear."""

    width: int
    depth: int
    shared: bool
    dtype: Any = None

    @nn.compact
    def __call__(self, x, t):
        features = sinusoidal(t, self.width)
        features = _leaky_relu(_dense(self.width, dtype=self.dtype, name="time")(features))
        h = _dense(self.width, use_bias=False, dtype=self.dtype, name="inputs")(x)
        names = ["layer"] if self.shared else [f"layer_{i}" for i in range(self.depth)]
        layers = [TemporalLayer(self.width, self.dtype, name=name) for name in names]
        times = [layer.embed(features) for layer in layers]
        for i in range(self.depth):
            h = layers[i % len(layers)](h, times[i % len(layers)])
        h = _layer_norm(dtype=self.dtype, name="norm")(h)
        return _dense(x.shape[-1], dtype=self.dtype, name="outputs")(h)


def weight_tied_mlp(
    dim: int, width: int = 128, depth: int = 3, shared: bool = True, dtype: Any = None
) -> Net:
    """Return the net of the mode-interpolation paper; t is the step number 0..999.

    Its `depth` residual layers share one set of weights, so it is one layer applied three times,
    with 66,817 parameters at dim 1. `shared=False` gives each layer its own, which is a different
    model. The first norm removes the size of x in one dimension: it enters only through the skip
    path.

    Args:
      dim: the dimension d of x, shape (n, d).
      width: the width of all layers and of the time features, even.
      depth: the number of layers applied.
      dtype: the dtype of the computation; None promotes x and the float32 parameters.

    Raises:
      PersonError: a size that is none.

    Source: Aithal et al. (2024), official code of the Gaussian experiments.
    """
    _check("weight_tied_mlp", dim, width, depth)
    return from_linen(WeightTiedMLP(width, depth, shared, dtype), (dim,))


class ResidualMLP(nn.Module):
    """See `residual_mlp`."""

    width: int
    depth: int
    num_classes: int
    dtype: Any = None

    @nn.compact
    def __call__(self, x, t, cond=None):
        dense = partial(nn.Dense, kernel_init=lecun_normal, dtype=self.dtype)
        norm = partial(nn.LayerNorm, dtype=self.dtype)
        features = TimeEmbedding(self.width, self.width, self.dtype, name="time")(t)
        if self.num_classes:
            embed = ClassEmbedding(self.num_classes, self.width, self.dtype, name="classes")
            features = features + embed(cond, len(x))
        features = nn.silu(features)
        h = dense(self.width, name="inputs")(x)
        for i in range(self.depth):
            inner = dense(self.width, name=f"linear1_{i}")(norm(name=f"norm_{i}")(h))
            inner = nn.silu(inner + dense(self.width, name=f"time_{i}")(features))
            h = h + dense(self.width, name=f"linear2_{i}")(inner)
        return dense(x.shape[-1], name="outputs")(norm(name="norm")(h))


def residual_mlp(
    dim: int, width: int = 128, depth: int = 3, num_classes: int = 0, dtype: Any = None
) -> Net:
    """Return a residual perceptron, `depth` times h + W2 silu(W1 norm(h) + time).

    t has shape (n,); its features resolve step numbers 0..1000 best, times in [0, 1] less well.

    Args:
      dim: the dimension d of x, shape (n, d).
      width: the width of all layers and of the time features, even.
      depth: the number of residual blocks.
      num_classes: with more than zero, cond holds classes 0..num_classes - 1; num_classes or None
        is the null class.
      dtype: the dtype of the computation; None promotes x and the float32 parameters.

    Raises:
      PersonError: a size that is none.
    """
    _check("residual_mlp", dim, width, depth, num_classes)
    return from_linen(ResidualMLP(width, depth, num_classes, dtype), (dim,), num_classes > 0)


class MLP(nn.Module):
    """See `mlp`."""

    width: int
    depth: int
    dtype: Any = None

    @nn.compact
    def __call__(self, x, t):
        h = jnp.concatenate([x, t[:, None]], axis=-1)
        dense = partial(nn.Dense, kernel_init=lecun_normal, dtype=self.dtype)
        for i in range(self.depth):
            h = nn.silu(dense(self.width, name=f"hidden_{i}")(h))
        return dense(x.shape[-1], name="outputs")(h)


def mlp(dim: int, width: int = 256, depth: int = 3, dtype: Any = None) -> Net:
    """Return the plain perceptron: (x, t) through `depth` hidden layers with SiLU to d outputs.

    t enters as it is, so it should be of order one; shape (n,).

    Args:
      dim: the dimension d of x, shape (n, d).
      width: the width of the hidden layers.
      depth: the number of hidden layers.
      dtype: the dtype of the computation; None promotes x and the float32 parameters.

    Raises:
      PersonError: a size that is none.
    """
    _check("mlp", dim, width, depth)
    return from_linen(MLP(width, depth, dtype), (dim,))


def _check(name: str, dim: int, width: int, depth: int, num_classes: int = 0):
    check_sizes(name, dim=dim, width=width)
    check_sizes(name, 0, depth=depth, num_classes=num_classes)
