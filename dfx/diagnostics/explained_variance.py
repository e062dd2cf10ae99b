"""How much of a field another one explains, sample by sample.

    EV = 1 - |f - g|^2 / |f|^2

for f the field judged and g its model, as scores or as denoisers. Scores are dominated by the
restoring force at high noise, where every model with the right mean looks right: read 1 - EV on a
logarithmic scale, and the denoisers too.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dfx.blocks import by_blocks
from dfx.errors import PersonError
from dfx.fields.derivatives import dot
from dfx.fields.field import as_pytree, denoiser
from dfx.schedules.schedule import Level, expand


class Unexplained(NamedTuple):
    """1 - EV of each sample, shape (n,): 0 is a perfect model, above 1 it is worse than zero.

    Attributes:
      score: |s - s_model|^2 / |s|^2; the same for eps.
      denoiser: |D - D_model|^2 / |D - centre|^2.
    """

    score: Any
    denoiser: Any


def unexplained(
    field: Callable, model: Callable, x, level: Level, centre=None, chunk: int = 256
) -> Unexplained:
    """Return the shares 1 - EV of a field that a model leaves unexplained, at points x.

    With s = (alpha D - x) / sigma^2 the score's share is alpha^2 |D - D_model|^2 / |x - alpha D|^2,
    computed as that: no digits are lost at high noise. In float32 shares below about (1e-7 |D|)^2 /
    |x - alpha D|^2 are rounding. Two evaluations a sample.

    Args:
      field, model: (x, level) -> x0_hat; of a tuple the denoiser is taken. Each sample by itself.
      x: noisy points, shape (n, *sample), for example data + sigma eps.
      level: with beta = 0; one entry for all, or one per sample, (n, 1, .., 1).
      centre: subtracted from D in the denoiser's denominator, shape of a sample; None is zero. With
        the mean of the data, mean-only models have a share of 1.
      chunk: points evaluated at a time, at most.

    Raises:
      PersonError: a chunk below 1, a level with a mean term, or of neither one entry nor n.

    Source: Wang & Vastola 2024 (Gaussian score approximation), explained variance of scores; the
    mean over samples of EV is theirs.
    """
    if chunk < 1:
        raise PersonError(f"chunk = {chunk}: must be at least 1")
    x = jnp.asarray(x)
    entries = {jnp.size(entry) for entry in level}
    if not entries <= {1, len(x)}:
        raise PersonError(f"a level with {max(entries)} entries: need one, or one per sample")
    if not isinstance(level.beta, jax.core.Tracer) and np.any(level.beta):
        raise PersonError("this level has a mean term (beta is not 0): 1 - EV is that without one")
    shift = jnp.zeros((), x.dtype) if centre is None else jnp.asarray(centre, x.dtype)
    return _unexplained((as_pytree(field), as_pytree(model), shift), x, level, chunk=chunk)


@functools.partial(jax.jit, static_argnames="chunk")
def _unexplained(shared, x, level, chunk) -> Unexplained:
    field, model, centre = shared

    def judge(index):
        some = x[index]
        at = Level(*(_rows(entry, index, some) for entry in level))
        d, alpha = denoiser(field(some, at)), at.alpha
        noise = some / jnp.where(alpha == 0, 1, alpha) - d
        vectors = d - denoiser(model(some, at)), noise, d - centre
        gap, noise, spread = (dot(a, a) for a in vectors)
        no_signal = jnp.broadcast_to(jnp.ravel(alpha) == 0, gap.shape)
        return Unexplained(jnp.where(no_signal, 0, gap / noise), gap / spread)

    return by_blocks(judge, jnp.arange(len(x)), chunk)


def _rows(entry, index, x):
    entry = jnp.asarray(entry, x.dtype)
    if entry.size == 1:
        return entry.reshape(())
    return expand(entry.reshape(-1)[index], x.ndim)
