"""A small classifier of pictures, to judge samples by: which class, how sure, how far apart."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from dfx.nets.initial import lecun_normal
from dfx.nets.layers import Conv
from dfx.nets.net import check_picture, check_sizes


class Classifier(NamedTuple):
    """A classifier: a triple of pure functions, hashable.

        init(key) -> params              a plain nested dict of float32 arrays
        apply(params, x) -> logits       shape (n, num_classes)
        features(params, x) -> array     shape (n, num_features), what the last layer sees

    x has shape (n, height, width, channels).
    """

    init: Callable[..., Any]
    apply: Callable[..., jax.Array]
    features: Callable[..., jax.Array]


class ConvClassifier(nn.Module):
    """See `classifier`."""

    num_classes: int
    width: int
    num_features: int

    def setup(self):
        self.conv1 = Conv(self.width, stride=2)
        self.conv2 = Conv(2 * self.width, stride=2)
        self.hidden = nn.Dense(self.num_features, kernel_init=lecun_normal)
        self.outputs = nn.Dense(self.num_classes, kernel_init=lecun_normal)

    def __call__(self, x):
        return self.outputs(self.features(x))

    def features(self, x):
        """The last hidden layer."""
        h = nn.relu(self.conv2(nn.relu(self.conv1(x))))
        return nn.relu(self.hidden(h.reshape(len(h), -1)))


@cache
def classifier(
    shape: tuple[int, int, int], num_classes: int = 10, width: int = 16, num_features: int = 128
) -> Classifier:
    """Return two 3x3 convolutions of stride 2, a hidden layer and a linear one, with rectifiers.

    The strides keep it cheap on a CPU: 28 x 28 pictures have 7 x 7 places after the second
    convolution.

    Args:
      shape: (height, width, channels) of a picture.
      num_classes: the number of classes, at least 2.
      width: channels of the first convolution, half those of the second.
      num_features: width of the hidden layer.

    Raises:
      PersonError: not a picture's shape, a size that is none, or fewer than two classes.
    """
    check_picture("classifier", shape)
    check_sizes("classifier", width=width, num_features=num_features)
    check_sizes("classifier", 2, num_classes=num_classes)
    module = ConvClassifier(num_classes, width, num_features)

    @jax.jit
    def init(key):
        return module.init(key, jnp.zeros((1, *shape), jnp.float32))["params"]

    def apply(params, x):
        return module.apply({"params": params}, x)

    def features(params, x):
        return module.apply({"params": params}, x, method="features")

    return Classifier(init, apply, features)
