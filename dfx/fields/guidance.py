"""Guidance: fields made of fields, to sample more of what a condition asks for.

The convention of the weight w, here and everywhere in dfx: with a conditional field c and an
unconditional field u, the guided prediction, of whatever type, is

    guided = u + w (c - u) = c + (w - 1) (c - u),

so w = 0 is the unconditional field, w = 1 is the conditional one, "no guidance", to the last bit,
and w > 1 extrapolates. (Ho & Salimans write 1 + w for this w.) At a given x a prediction is an
affine function of x0_hat, so the formula holds for x0, eps, v, velocity and score alike.

A weight is a number, an array that broadcasts against x (one per sample: (n, 1, .., 1)), or a
function of the level. The guided field is in general not the denoiser of any law: neither the
deterministic nor the stochastic equation ends in p_u (p_c / p_u)^w, and the two end in different
laws.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dfx.errors import PersonError
from dfx.fields.field import STATIC, as_pytree, denoiser
from dfx.pytree import pytree
from dfx.schedules.schedule import Level

VARIABLES = ("noise", "half_log_snr")

#: Noise levels within this share above an end of an interval count as the end itself: more than
#: float32 rounds them, less than two neighbours of a grid differ by.
SAME_NOISE = 1e-4


@pytree
@dataclasses.dataclass(frozen=True)
class Guided:
    """`toward` + (weight - 1) (`toward` - `away`); made by `classifier_free`, `autoguidance`.

    With `both`, the output is a pair whose second entry is `away`.
    """

    toward: Callable
    away: Callable
    weight: Any
    both: bool = dataclasses.field(default=False, metadata=STATIC)

    @property
    def pointwise(self):
        return _pointwise(self.toward, self.away) and _is_shared(self.weight)

    def __call__(self, x, level: Level):
        toward, away = (denoiser(field(x, level)) for field in (self.toward, self.away))
        guided = toward + (_weight_at(self.weight, level, x) - 1) * (toward - away)
        return (guided, away) if self.both else guided


@pytree
@dataclasses.dataclass(frozen=True)
class Interval:
    """`guided` where low < sigma / alpha <= high, `plain` elsewhere; made by `interval`, which
    moves the ends up by what rounding may add to a level."""

    guided: Callable
    plain: Callable
    low: Any
    high: Any

    @property
    def pointwise(self):
        return _pointwise(self.guided, self.plain)

    def __call__(self, x, level: Level):
        alpha, sigma = jnp.asarray(level.alpha, x.dtype), jnp.asarray(level.sigma, x.dtype)
        low, high = jnp.asarray(self.low, x.dtype), jnp.asarray(self.high, x.dtype)
        # In products, since sigma / alpha may be infinite; 0 inf is NaN and compares as False.
        inside = (low * alpha < sigma) & ((sigma <= high * alpha) | jnp.isinf(high))
        if inside.ndim:
            return jnp.where(inside, *(denoiser(f(x, level)) for f in (self.guided, self.plain)))
        # One level for all: only the field that is asked for is evaluated.
        return jax.lax.cond(inside, *(_branch(f, level) for f in (self.guided, self.plain)), x)


@pytree
@dataclasses.dataclass(frozen=True)
class Classified:
    """A field moved along the gradient of a log-likelihood; made by `classifier`."""

    field: Callable
    log_likelihood: Callable
    weight: Any

    @property
    def pointwise(self):
        return _pointwise(self.field, self.log_likelihood) and _is_shared(self.weight)

    def __call__(self, x, level: Level):
        gradient = jax.grad(lambda x: jnp.sum(self.log_likelihood(x, level)))(x)
        alpha, sigma = jnp.asarray(level.alpha, x.dtype), jnp.asarray(level.sigma, x.dtype)
        scale = jnp.where(alpha == 0, 0, sigma**2 / jnp.where(alpha == 0, 1, alpha))
        shift = _weight_at(self.weight, level, x) * scale * gradient
        return denoiser(self.field(x, level)) + shift


def classifier_free(conditional: Callable, unconditional: Callable, weight) -> Guided:
    """Return the field with x0_hat = x0_u + w (x0_c - x0_u), two evaluations a call.

    In scores: s_u + w (s_c - s_u) = s_u + w grad log p(c | x_t) for exact fields.

    Args:
      conditional, unconditional: fields; of a tuple the denoiser is taken.
      weight: w, a number (w = 1 is `conditional` exactly, w = 0 `unconditional`), an array that
        broadcasts against x, or a function level -> w; keep one function object.

    Source: Ho & Salimans 2022, eq. 6, whose w is this one minus 1.

    >>> field = classifier_free(lambda x, level: 3 * x, lambda x, level: x, 2.0)
    >>> field(np.ones(2), None)
    Array([5., 5.], dtype=float32)
    """
    return Guided(as_pytree(conditional), as_pytree(unconditional), _as_weight(weight))


def autoguidance(good: Callable, bad: Callable, weight) -> Guided:
    """Return the field with x0_hat = x0_bad + w (x0_good - x0_bad), two evaluations a call.

    The bad field is a worse version of the good one, of the same condition: smaller, or less
    trained. Where bad is blurred by noise of a little more variance than good is, guidance undoes
    the blur of the good one too.

    Args:
      good, bad: fields; of a tuple the denoiser is taken.
      weight: as in `classifier_free`; w = 1 is `good` exactly.

    Source: Karras et al. 2024 (guiding with a bad version of itself), eq. 3 and section 4.
    """
    return Guided(as_pytree(good), as_pytree(bad), _as_weight(weight))


def cfg_plus_plus(conditional: Callable, unconditional: Callable, weight) -> Guided:
    """Return the field with two outputs, the guided x0_hat and the unconditional one.

    `solvers.cfgpp` puts the noise of the second back onto the first. Used as an ordinary field it
    is `classifier_free`, since a field's first output is its denoiser. For guidance in an interval
    give a weight that depends on the level: `interval` keeps the first output alone.

    Args:
      conditional, unconditional: fields; of a tuple the denoiser is taken.
      weight: as in `classifier_free`; the source takes it from [0, 1]. w = 0 gives the
        unconditional sampler; w = 1 does not give the conditional one.

    Source: Chung et al. 2024 (CFG++), algorithm 1.
    """
    return dataclasses.replace(classifier_free(conditional, unconditional, weight), both=True)


def interval(
    guided: Callable, plain: Callable, low: float, high: float, variable: str = "noise"
) -> Interval:
    """Return the field that is `guided` within an interval of noise levels, `plain` outside it:

        noise:         low <  sigma / alpha  <= high,
        half_log_snr:  low <= log(alpha / sigma) < high,   the same with ends exp(-high), exp(-low).

    Where the level is one for all samples, only the field in use is evaluated: outside the interval
    guidance then costs nothing.

    Args:
      guided, plain: fields; plain is usually the conditional one. Of a tuple the denoiser is taken.
      low, high: the ends, low < high; high = inf leaves the noisy side open. A noise level that is
        above one of them by less than 1e-4 of itself counts as equal, so that an end may be a level
        of the grid.
      variable: "noise" or "half_log_snr".

    Raises:
      PersonError: unknown variable, or ends that are not ordered.

    Source: Kynkäänniemi et al. 2024, eq. 4.
    """
    if variable not in VARIABLES:
        raise PersonError(f"variable = {variable!r}: allowed are {', '.join(VARIABLES)}")
    if not low < high or (variable == "noise" and high <= 0):
        raise PersonError(f"low = {low}, high = {high}: low must be below high, noise is positive")
    if variable == "half_log_snr":
        with np.errstate(over="ignore"):  # to an open side
            low, high = np.exp(-high), np.exp(-low)
    ends = ((1 + SAME_NOISE) * end for end in (low, high))
    return Interval(as_pytree(guided), as_pytree(plain), *ends)


def classifier(field: Callable, log_likelihood: Callable, weight=1.0) -> Classified:
    """Return the field guided by a classifier, by automatic differentiation:

        score = score_field + w grad_x log p(c | x_t),
        x0_hat = x0_field + w (sigma^2 / alpha) grad_x log p(c | x_t).

    With the exact log-likelihood and an unconditional field, w = 1 is the conditional field. Costs
    one evaluation of the field and one gradient. Where alpha = 0, x_t says nothing of c and the
    shift is left out.

    Args:
      field: the field to be guided; of a tuple the denoiser is taken.
      log_likelihood: (x, level) -> log p(c | x_t) of each sample, shape (n,), up to a constant;
        each sample by itself. A function is part of the compiled program, a pytree an argument.
      weight: w as in `classifier_free`; 0 is the field alone.

    Source: Dhariwal & Nichol 2021, eq. 10 to 13, with classifier scale w.
    """
    return Classified(as_pytree(field), as_pytree(log_likelihood), _as_weight(weight))


def _as_weight(weight):
    return as_pytree(weight) if callable(weight) else weight


def _weight_at(weight, level, x):
    return jnp.asarray(weight(level) if callable(weight) else weight, jnp.result_type(x))


def _is_shared(weight) -> bool:
    """Whether the weight is the same for all samples, so that they may run in blocks."""
    return callable(weight) or np.ndim(weight) == 0


def _branch(field, level):
    return lambda x: jnp.asarray(denoiser(field(x, level)), x.dtype)


def _pointwise(*fields) -> bool:
    return all(getattr(field, "pointwise", False) for field in fields)
