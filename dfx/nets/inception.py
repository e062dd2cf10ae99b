"""Inception-v3 as Frechet distances of pictures use it: the FID is taken in its 2048 features.

The net of Szegedy et al. 2016 in the version of December 2015, in which every published FID is
taken: means over 3 x 3 places count no padding, the last block takes maxima instead, and the
pictures are brought to 299 x 299 without a shift by half a pixel. Its weights are not part of dfx:
they come from the person who has them, under the names of the usual port to PyTorch.

Source: Szegedy et al. 2016; Heusel et al. 2017.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dfx.errors import PersonError

#: Pixels of a side, numbers of a picture's features, and classes of the version that is meant.
SIDE, NUM_FEATURES, NUM_CLASSES = 299, 2048, 1008
EPSILON = 1e-3  # of the batch norms
#: By name: the kernel (height, width, inputs, outputs) and the bias (outputs,) of a convolution.
Weights = dict[str, tuple[Any, Any]]

# (x, name, outputs, side or sides of the kernel, stride, padding) -> rectified convolution of x
_Conv = Callable[..., Any]


def array_shapes() -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of the arrays that `fold` needs.

    NAME.conv.weight (outputs, inputs, height, width); NAME.bn.weight, .bias, .running_mean and
    .running_var (outputs,); and fc.weight, which tells the version by its number of classes.
    """
    found: dict[str, tuple[int, ...]] = {"fc.weight": (NUM_CLASSES, NUM_FEATURES)}

    def conv(x, name, outputs, size=1, stride=1, padding="SAME"):
        height, width = _sides(size)
        found[f"{name}.conv.weight"] = (outputs, x.shape[-1], height, width)
        found.update({f"{name}.bn.{part}": (outputs,) for part in _NORM})
        return _convolve(x, jnp.zeros((height, width, x.shape[-1], outputs)), stride, padding)

    jax.eval_shape(functools.partial(_body, conv), jnp.zeros((1, SIDE, SIDE, 3)))
    return found


def fold(arrays: Mapping[str, np.ndarray]) -> Weights:
    """Return the weights with every batch norm taken into the convolution before it, float32.

        kernel = w gamma / sqrt(variance + EPSILON),  bias = beta - gamma mean / sqrt(...)

    computed in float64.

    Args:
      arrays: at least those of `array_shapes`.

    Raises:
      PersonError: an array is missing or of another shape, or a variance is below 0.
    """
    needed = array_shapes()
    for name, shape in needed.items():
        if name not in arrays:
            raise PersonError(f"weights of Inception: {name!r} is missing")
        if arrays[name].shape != shape:
            raise PersonError(
                f"weights of Inception: {name!r} is {arrays[name].shape}, allowed: {shape}"
            )
        if name.endswith("running_var") and not (arrays[name] >= 0).all():
            raise PersonError(f"weights of Inception: {name!r} holds variances below 0")
    units = (name.removesuffix(".conv.weight") for name in needed if name.endswith("conv.weight"))
    return {unit: _folded(arrays, unit) for unit in units}


def features(weights: Weights, pixels) -> jax.Array:
    """Return the features (n, 2048) of pictures, the means of the last block over its places.

    Args:
      weights: as `fold` returns them.
      pixels: (n, height, width, channels) of any size, 0 to 255; one channel is taken for all
        three.

    Raises:
      PersonError: neither one nor three channels.
    """
    if pixels.ndim != 4 or pixels.shape[-1] not in (1, 3):
        raise PersonError(
            f"pictures for Inception: shape {pixels.shape}, allowed: (n, h, w, 1) or (n, h, w, 3)"
        )

    def conv(x, name, outputs, size=1, stride=1, padding="SAME"):
        kernel, bias = weights[name]
        return jax.nn.relu(_convolve(x, kernel, stride, padding) + bias)

    x = jnp.broadcast_to(jnp.asarray(pixels, jnp.float32), (*pixels.shape[:-1], 3))
    return jnp.mean(_body(conv, (resize(x) - 128) / 128), axis=(1, 2))


def resize(x, side: int = SIDE) -> jax.Array:
    """Return pictures (n, h, w, c) at (n, side, side, c): pixel i is that at i h / side, between
    the two next to it along each axis; beyond the last one it is the last."""
    rows, columns = (jnp.asarray(_between(n, side), x.dtype) for n in x.shape[1:3])
    return jnp.einsum("ih,jw,nhwc->nijc", rows, columns, x, precision="highest")


def _between(n: int, side: int) -> np.ndarray:
    """The matrix (side, n) of the resize along one axis."""
    place = np.arange(side) * (n / side)
    first = np.floor(place).astype(int)
    weights = np.zeros((side, n))
    np.add.at(weights, (np.arange(side), first), 1 - (place - first))
    np.add.at(weights, (np.arange(side), np.minimum(first + 1, n - 1)), place - first)
    return weights


_NORM = ("weight", "bias", "running_mean", "running_var")


def _folded(arrays: Mapping[str, np.ndarray], unit: str) -> tuple[np.ndarray, np.ndarray]:
    kernel = np.asarray(arrays[f"{unit}.conv.weight"], np.float64)
    gamma, beta, mean, variance = (
        np.asarray(arrays[f"{unit}.bn.{part}"], np.float64) for part in _NORM
    )
    scale = gamma / np.sqrt(variance + EPSILON)
    folded = kernel.transpose(2, 3, 1, 0) * scale
    return folded.astype(np.float32), (beta - mean * scale).astype(np.float32)


def _convolve(x, kernel, stride: int, padding: str):
    # Published distances are of float32, which accelerators leave for less unless they are told.
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision="highest",
    )  # fmt: skip


def _sides(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size


def _body(conv: _Conv, x):
    """All but the last mean: (n, h, w, 3) to (n, h', w', 2048)."""
    x = conv(x, "Conv2d_1a_3x3", 32, 3, 2, "VALID")
    x = conv(x, "Conv2d_2a_3x3", 32, 3, 1, "VALID")
    x = _max(conv(x, "Conv2d_2b_3x3", 64, 3))
    x = conv(x, "Conv2d_3b_1x1", 80)
    x = _max(conv(x, "Conv2d_4a_3x3", 192, 3, 1, "VALID"))
    for letter, pooled in zip("bcd", (32, 64, 64)):
        x = _mixed_5(_inside(conv, f"Mixed_5{letter}"), x, pooled)
    x = _mixed_6a(_inside(conv, "Mixed_6a"), x)
    for letter, width in zip("bcde", (128, 160, 160, 192)):
        x = _mixed_6(_inside(conv, f"Mixed_6{letter}"), x, width)
    x = _mixed_7a(_inside(conv, "Mixed_7a"), x)
    x = _mixed_7(_inside(conv, "Mixed_7b"), x, _mean)
    return _mixed_7(_inside(conv, "Mixed_7c"), x, functools.partial(_max, stride=1, padding="SAME"))


def _inside(conv: _Conv, block: str) -> _Conv:
    return lambda x, name, *how: conv(x, f"{block}.{name}", *how)


def _chain(conv: _Conv, x, *layers):
    for layer in layers:
        x = conv(x, *layer)
    return x


def _mixed_5(conv: _Conv, x, pooled: int):
    return _together(
        conv(x, "branch1x1", 64),
        _chain(conv, x, ("branch5x5_1", 48), ("branch5x5_2", 64, 5)),
        _chain(
            conv, x, ("branch3x3dbl_1", 64), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3)
        ),
        conv(_mean(x), "branch_pool", pooled),
    )


def _mixed_6a(conv: _Conv, x):
    double = _chain(conv, x, ("branch3x3dbl_1", 64), ("branch3x3dbl_2", 96, 3))
    return _together(
        conv(x, "branch3x3", 384, 3, 2, "VALID"),
        conv(double, "branch3x3dbl_3", 96, 3, 2, "VALID"),
        _max(x),
    )


def _mixed_6(conv: _Conv, x, width: int):
    row, column = (1, 7), (7, 1)
    single = [("branch7x7_1", width), ("branch7x7_2", width, row), ("branch7x7_3", 192, column)]
    double = [
        ("branch7x7dbl_1", width), ("branch7x7dbl_2", width, column),
        ("branch7x7dbl_3", width, row), ("branch7x7dbl_4", width, column),
        ("branch7x7dbl_5", 192, row),
    ]  # fmt: skip
    return _together(
        conv(x, "branch1x1", 192),
        _chain(conv, x, *single),
        _chain(conv, x, *double),
        conv(_mean(x), "branch_pool", 192),
    )


def _mixed_7a(conv: _Conv, x):
    long = [("branch7x7x3_1", 192), ("branch7x7x3_2", 192, (1, 7)), ("branch7x7x3_3", 192, (7, 1))]
    return _together(
        _chain(conv, x, ("branch3x3_1", 192), ("branch3x3_2", 320, 3, 2, "VALID")),
        _chain(conv, x, *long, ("branch7x7x3_4", 192, 3, 2, "VALID")),
        _max(x),
    )


def _mixed_7(conv: _Conv, x, pool: Callable):
    def crossed(x, name: str):
        return _together(conv(x, f"{name}a", 384, (1, 3)), conv(x, f"{name}b", 384, (3, 1)))

    double = _chain(conv, x, ("branch3x3dbl_1", 448), ("branch3x3dbl_2", 384, 3))
    return _together(
        conv(x, "branch1x1", 320),
        crossed(conv(x, "branch3x3_1", 384), "branch3x3_2"),
        crossed(double, "branch3x3dbl_3"),
        conv(pool(x), "branch_pool", 192),
    )


def _together(*branches):
    return jnp.concatenate(branches, axis=-1)


def _max(x, stride: int = 2, padding: str = "VALID"):
    return _over_windows(x, jax.lax.max, -jnp.inf, stride, padding)


def _mean(x):
    """The mean over 3 x 3 places, of those that lie in the picture."""
    total = _over_windows(x, jax.lax.add, 0.0, 1, "SAME")
    return total / _over_windows(jnp.ones_like(x[:1, :, :, :1]), jax.lax.add, 0.0, 1, "SAME")


def _over_windows(x, combine, start: float, stride: int, padding: str):
    return jax.lax.reduce_window(x, start, combine, (1, 3, 3, 1), (1, stride, stride, 1), padding)
