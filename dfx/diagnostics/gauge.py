"""Gauge freedom: errors of a score that change no law, and the residual that tells them.

Let r be the error of a score at one noise level, s = grad log p the exact score. If

    R_w = div r + r . s = div(p r) / p = 0        (the gauge condition)

at every level, the probability flow and every reverse stochastic equation of the erroneous score
still carry p_t, in continuous time: their Fokker-Planck equations differ by a multiple of div(p r).
The condition is weighted by p; div r = 0 alone neither implies nor follows from it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dfx.diagnostics.directions import check_probes, directions
from dfx.errors import PersonError
from dfx.fields.blocks import rows_at_once
from dfx.fields.derivatives import divergence_along, total, unit_vectors
from dfx.fields.field import as_pytree
from dfx.targets.arithmetic import einsum


class GaugeResidual(NamedTuple):
    """The two parts of R_w at each sample, shape (n,); see `gauge_residual`.

    Attributes:
      divergence: div r.
      along_score: r . s.
    """

    divergence: Any
    along_score: Any

    @property
    def weighted(self):
        """R_w = div r + r . s, zero for a gauge field."""
        return self.divergence + self.along_score


def gauge_residual(
    remainder: Callable,
    score: Callable,
    x,
    key=None,
    num_probes: int = 1,
    probe: str = "rademacher",
    *,
    chunk: int | None = None,
) -> GaugeResidual:
    """Return div r and r . s at x; their sum is zero for a gauge field.

    That both vanish is a stronger condition, sufficient and not necessary. Over p the mean of R_w
    is zero for every r, and -E[psi R_w] = E[grad psi . r] for every psi.

    Args:
      remainder: r as a function of x, for example `score_error(field, exact, level)`.
      score: s as a function of x, for example `prediction_at(exact, level)`.
      x: points, shape (n, *sample).
      key, num_probes, probe: as in `directions`; without a key exact, at d derivatives of r.
      chunk: how many directions are taken at once; by default as many as stay in cache.

    Raises:
      PersonError: probes that are not allowed.

    Source: Horvat & Pfister 2024, the gauge condition.
    """
    check_probes(num_probes, probe)
    functions = as_pytree(remainder), as_pytree(score)
    return _residual(functions, x, key, (num_probes, probe, chunk))


@functools.partial(jax.jit, static_argnames="plan")
def _residual(functions, x, key, plan) -> GaugeResidual:
    (remainder, score), (num_probes, probe, chunk) = functions, plan
    along = directions(remainder, x, key, num_probes, probe)
    product = (remainder(x) * score(x)).reshape(x.shape[0], -1)
    return GaugeResidual(divergence_along(remainder, x, along, chunk), jnp.sum(product, axis=1))


def gauge_field(matrix: Callable, score: Callable, x, chunk: int | None = None):
    """Return the gauge field of a matrix field, shape of x, exact for every p:

        r = div(p A) / p = div A + A s,    (div A)_a = sum_b d A_ab / d x_b,

    with A = (W - W^T) / 2 the antisymmetric part of W: div(p r) = sum_ab d_a d_b (p A_ab) = 0.
    Every smooth gauge field that decays has this form; a constant A gives A s.

    Args:
      matrix: x -> W, (n, *sample) -> (n, d, d), each sample by itself.
      score: s as a function of x.
      x: points, shape (n, *sample).
      chunk: how many of the d derivatives of W are taken at once; by default as many as stay in
        cache.

    Raises:
      PersonError: W of another shape.
    """
    n, d = x.shape[0], math.prod(x.shape[1:])

    def antisymmetric(x):
        w = matrix(x)
        if w.shape != (n, d, d):
            raise PersonError(f"a matrix field gives shape {(n, d, d)}, got {w.shape}")
        return 0.5 * (w - jnp.swapaxes(w, 1, 2))

    if chunk is None:
        chunk = max(1, rows_at_once(antisymmetric, x) // n)
    rows = total(lambda e: _column_slope(antisymmetric, x, e), unit_vectors(x), chunk)
    turned = einsum("nab,nb->na", antisymmetric(x), score(x).reshape(n, d))
    return (rows + turned).reshape(x.shape)


def _column_slope(matrix, x, e):
    """d A_ab / d x_b for the b of the unit vector e, shape (n, d)."""
    slope = jax.jvp(matrix, (x,), (jnp.broadcast_to(e, x.shape),))[1]
    return einsum("nab,b->na", slope, e.reshape(-1))
