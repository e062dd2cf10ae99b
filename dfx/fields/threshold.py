"""Thresholds on the denoiser, for data that are known to lie in a box: fields made of fields.

They act on x0_hat, so solvers that step from x0_hat (all of dfx) use the thresholded value and the
noise that belongs to it, (x - alpha x0_hat) / sigma. They are meant for pixels, not for latent
spaces, and they make the field wrong wherever the exact denoiser leaves the box.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from dfx.errors import PersonError
from dfx.fields.field import as_pytree, denoiser
from dfx.pytree import pytree
from dfx.schedules.schedule import Level


@pytree
@dataclasses.dataclass(frozen=True)
class Clipped:
    """A field whose denoiser is clipped to [low, high]; made by `clip`."""

    field: Callable
    low: Any
    high: Any

    @property
    def pointwise(self):
        return getattr(self.field, "pointwise", False)

    def __call__(self, x, level: Level):
        output = self.field(x, level)
        x0 = denoiser(output)
        low, high = (jnp.asarray(a, x0.dtype) for a in (self.low, self.high))
        return _with_denoiser(output, jnp.clip(x0, low, high))


@pytree
@dataclasses.dataclass(frozen=True)
class DynamicallyThresholded:
    """A field thresholded sample by sample; made by `dynamic_threshold`."""

    field: Callable
    quantile: Any
    bound: Any
    ceiling: Any

    @property
    def pointwise(self):
        return getattr(self.field, "pointwise", False)

    def __call__(self, x, level: Level):
        output = self.field(x, level)
        x0 = denoiser(output)
        numbers = (self.quantile, self.bound, self.ceiling)
        quantile, bound, ceiling = (jnp.asarray(a, x0.dtype) for a in numbers)
        sizes = jnp.abs(x0).reshape(x0.shape[0], -1)
        s = jnp.clip(jnp.quantile(sizes, quantile, axis=1), bound, ceiling)
        s = s.reshape(-1, *(1,) * (x0.ndim - 1))
        return _with_denoiser(output, jnp.clip(x0, -s, s) * (bound / s))


def clip(field: Callable, low: float = -1.0, high: float = 1.0) -> Clipped:
    """Return the field with x0_hat clipped to [low, high], entry by entry.

    Further outputs of the field stay as they are.

    Raises:
      PersonError: low is not below high.

    Source: Ho, Jain & Abbeel 2020 (their code); "static thresholding" of Saharia et al. 2022.

    >>> clip(lambda x, level: 3 * x)(jnp.array([-1.0, 0.1]), None)
    Array([-1. ,  0.3], dtype=float32)
    """
    if not low < high:
        raise PersonError(f"low = {low}, high = {high}: low must be below high")
    return Clipped(as_pytree(field), low, high)


def dynamic_threshold(
    field: Callable, quantile: float = 0.995, bound: float = 1.0, ceiling: float = math.inf
) -> DynamicallyThresholded:
    """Return the field with x0_hat clipped at a quantile of its own sizes and shrunk to the box:

        s = the quantile of |x0_hat| over the entries of a sample, at least bound, at most ceiling,
        x0_hat <- clip(x0_hat, -s, s) bound / s.

    A sample most of which lies in the box is only clipped to it; one that reaches beyond keeps its
    contrast instead of saturating. Each sample by itself; quantiles between entries are
    interpolated linearly. Further outputs of the field stay as they are.

    Args:
      field: the field to be thresholded.
      quantile: from 0 to 1; the source takes 0.995.
      bound: the box of the data is [-bound, bound].
      ceiling: the largest s, at least `bound`; with `bound` it is static clipping.

    Raises:
      PersonError: a quantile outside [0, 1], a bound that is not positive, a ceiling below it.

    Source: Saharia et al. 2022 (Imagen), section 2.3; the ceiling is that of diffusers.
    """
    if not 0 <= quantile <= 1:
        raise PersonError(f"quantile = {quantile}: must lie in [0, 1]")
    if not 0 < bound <= ceiling:
        raise PersonError(f"bound = {bound}, ceiling = {ceiling}: 0 < bound <= ceiling is needed")
    return DynamicallyThresholded(as_pytree(field), quantile, bound, ceiling)


def _with_denoiser(output, x0):
    return (x0, *output[1:]) if isinstance(output, tuple) else x0
