"""Fields: pure functions (x, level) -> x0_hat, the estimate E[x0 | x_t = x] that is the library's
common currency.

x has shape (n, *sample), level is a `schedules.Level` whose entries broadcast against x, and the
result has the shape of x. A field may return a tuple; its first entry is the denoiser. Fields are
pytrees, so their numbers are arguments of a compiled program and fields of one shape share it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dfx.fields.convert import convert, pair
from dfx.pytree import pytree
from dfx.schedules.schedule import Level

#: Marks a part of a record that belongs to the compiled program instead of its arguments.
STATIC = {"static": True}


@pytree
@dataclasses.dataclass(frozen=True)
class Static:
    """A plain function as a pytree without leaves; the same object is the same program."""

    function: Callable = dataclasses.field(metadata=STATIC)

    def __call__(self, *args):
        return self.function(*args)


def as_pytree(f: Callable) -> Callable:
    """Return f itself if it is a pytree, otherwise f as `Static`."""
    return Static(f) if jax.tree_util.all_leaves([f]) else f


@pytree
@dataclasses.dataclass(frozen=True)
class OracleField:
    """The exact denoiser of a target; `target.denoise(x, level)` gives it.

    `pointwise` says that each sample is treated by itself and nothing is held per sample, so that
    `sample` may run the samples in blocks.
    """

    target: Any
    pointwise = True

    def __call__(self, x, level: Level):
        return self.target.denoise(x, level)


@pytree
@dataclasses.dataclass(frozen=True)
class FunctionField:
    """A denoiser from any callable (x, level) -> prediction; made by `from_function`."""

    function: Callable
    prediction: str = dataclasses.field(metadata=STATIC)

    def __call__(self, x, level: Level):
        return _to_denoiser(self.function(x, level), x, level, self.prediction)


@pytree
@dataclasses.dataclass(frozen=True)
class NetField:
    """A denoiser from a net `apply(params, x, t[, cond])`; made by `from_net`.

    The net gets t of shape (n,), or (n, T) where the level has one time per token. `apply`,
    `prediction` and `time` are part of the compiled program; `params` and `cond` are its arguments.
    """

    apply: Callable = dataclasses.field(metadata=STATIC)
    params: Any
    prediction: str = dataclasses.field(default="eps", metadata=STATIC)
    time: Callable | None = dataclasses.field(default=None, metadata=STATIC)
    cond: Any = None

    @property
    def pointwise(self):
        return self.cond is None

    def __call__(self, x, level: Level):
        return _to_denoiser(self.output(x, level), x, level, self.prediction)

    def output(self, x, level: Level):
        """Return what the net says: its own prediction, or a tuple that begins with it."""
        t = net_time(level.t if self.time is None else self.time(level), x)
        args = () if self.cond is None else (self.cond,)
        return self.apply(self.params, x, t, *args)


@pytree
@dataclasses.dataclass(frozen=True)
class Prediction:
    """A field seen as another prediction type; made by `as_prediction`."""

    field: Callable
    target: str = dataclasses.field(metadata=STATIC)

    def __call__(self, x, level: Level):
        return predict(self.field, x, level, self.target)


def predict(field: Callable, x, level: Level, target: str, y=None):
    """Return the quantity `target` of a field at x, shape of x; y as in `convert`.

    From a net it is converted from what the net says: on a detour through x0_hat a score or eps
    would lose digits where there is little noise.
    """
    if isinstance(field, NetField):
        return convert(denoiser(field.output(x, level)), x, level, field.prediction, target, y)
    return convert(denoiser(field(x, level)), x, level, "x0", target, y)


def oracle(target) -> OracleField:
    """Return the exact denoiser of `target` as a field."""
    return OracleField(target)


def from_net(net, params, prediction="eps", time=None, cond=None) -> NetField:
    """Return the field of a net.

    Args:
      net: a `nets.Net`, or anything with `apply(params, x, t, cond=None)`.
      params: its parameters.
      prediction: what the net predicts, one of `PREDICTIONS`.
      time: Level -> what the net gets as t; None gives `level.t`. Keep one function object: a new
        one is a new program.
      cond: what the net gets as `cond`, for example labels of shape (n,).

    Raises:
      PersonError: unknown prediction.
    """
    _check_name(prediction)
    return NetField(net.apply, params, prediction, time, cond)


def from_function(f: Callable, source: str = "velocity") -> FunctionField:
    """Return the field of a callable (x, level) -> prediction of the type `source`.

    Raises:
      PersonError: unknown prediction.
    """
    _check_name(source)
    return FunctionField(as_pytree(f), source)


def as_prediction(field: Callable, target: str) -> Prediction:
    """Return the callable (x, level) -> the quantity `target` that belongs to the field.

    Raises:
      PersonError: unknown prediction.
    """
    _check_name(target)
    return Prediction(as_pytree(field), target)


def denoiser(output):
    """Return the denoiser of what a field returned: the array itself, or the first of a tuple."""
    return output[0] if isinstance(output, tuple) else output


def net_time(t, x):
    """Return t as nets get it: shape (n,), or (n, T) if t varies over the first sample axis; in the
    dtype of x, float32 at least: half precision would make neighbouring times one.

    >>> net_time(0.5, np.zeros((3, 2), np.float32)).shape
    (3,)
    """
    t = jnp.asarray(t, jnp.promote_types(jnp.result_type(x), jnp.float32))
    t = t.reshape((1,) * (x.ndim - t.ndim) + t.shape)
    while t.ndim > 1 and t.shape[-1] == 1:
        t = t[..., 0]
    return jnp.broadcast_to(t, (x.shape[0], *t.shape[1:]))


def _to_denoiser(value, x, level, prediction):
    if isinstance(value, tuple):
        return (convert(value[0], x, level, prediction, "x0"), *value[1:])
    return convert(value, x, level, prediction, "x0")


def _check_name(prediction):
    pair(prediction, Level(*np.full(7, 0.5)))
