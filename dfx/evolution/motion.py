"""Motions: the stochastic equations whose laws the solvers of this folder find.

A motion has a drift b(x, t) and a diffusion D(t) >= 0 and stands for

    dx = b(x, t) dt + sqrt(2 D(t)) dw,      dp = -div(b p) dt + D Laplacian p |dt|,

run along times that rise or fall. b is per unit of t whatever the direction: along falling times,
from the noise to the data, dt is negative and what the diffusion adds is still |dt| D.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dfx.errors import PersonError
from dfx.fields import as_prediction
from dfx.fields.field import as_pytree
from dfx.pytree import pytree
from dfx.schedules.derived import diffusion, drift_coefficient

#: Points at which a field is evaluated at once: 2 ** 15 points of a net of width 256 are 32 MiB a
#: layer in float32.
BLOCK = 2**15


@pytree
@dataclasses.dataclass(frozen=True)
class Given:
    """The motion of two plain functions; made by `given`."""

    of_drift: Callable
    of_diffusion: Callable

    def drift(self, x, t):
        return self.of_drift(x, t)

    def diffusion(self, t):
        return self.of_diffusion(t)


@pytree
@dataclasses.dataclass(frozen=True)
class Forward:
    """The noising of a schedule; made by `forward`."""

    schedule: Any

    def drift(self, x, t):
        return jnp.asarray(drift_coefficient(self.schedule, t), x.dtype) * x

    def diffusion(self, t):
        return 0.5 * diffusion(self.schedule, t)


@pytree
@dataclasses.dataclass(frozen=True)
class Flow:
    """The probability-flow ODE of a field; made by `reverse` with noise level 0."""

    schedule: Any
    field: Callable

    def drift(self, x, t):
        return as_prediction(self.field, "velocity")(x, self.schedule.at(t))

    def diffusion(self, t):
        return 0.0 * t


@pytree
@dataclasses.dataclass(frozen=True)
class Reverse:
    """The generative motion of a field with noise; made by `reverse`."""

    schedule: Any
    field: Callable
    noise_level: Any

    def drift(self, x, t):
        score = as_prediction(self.field, "score")(x, self.schedule.at(t))
        velocity = Flow(self.schedule, self.field).drift(x, t)  # f x - g^2/2 s
        return velocity - jnp.asarray(self.diffusion(t), x.dtype) * score

    def diffusion(self, t):
        return 0.5 * self.noise_level**2 * diffusion(self.schedule, t)


def reverse(schedule, field: Callable, noise_level=1.0) -> Flow | Reverse:
    """Return the generative motion of a field, to be run along falling times:

        b = f x - (1 + lam^2)/2 g^2 s,      D = lam^2 g^2 / 2,      lam = noise_level,

    with s the score of the field. lam = 1 is the reverse SDE, lam = 0 the probability-flow ODE; for
    the exact score all lam have the law p_t at every t.

    Args:
      schedule: the forward process, without a mean term.
      field: (x, level) -> x0_hat for x of shape (n, d). Its score is taken from x0_hat and loses
        alpha |x0| / sigma^2 roundings where sigma is small: use float64 there.
      noise_level: lam >= 0, a number. Where it is not 0, alpha must not be 0.

    Raises:
      PersonError: a negative lam or a mean term.

    Source: Song et al. 2021 (score SDE), equation 6 and appendix D.1; Albergo et al. 2023
    (stochastic interpolants; the family).
    """
    _check_no_mean(schedule)
    if not isinstance(noise_level, jax.core.Tracer):
        if not 0 <= float(noise_level) < np.inf:
            raise PersonError(f"noise_level = {noise_level}: must be 0 or positive, and finite")
        if float(noise_level) == 0:
            return Flow(schedule, as_pytree(field))
    return Reverse(schedule, as_pytree(field), noise_level)


def forward(schedule) -> Forward:
    """Return the noising dx = f x dt + g dw, b = f x and D = g^2 / 2, run along rising times.

    Raises:
      PersonError: a schedule with a mean term.
    """
    _check_no_mean(schedule)
    return Forward(schedule)


def given(drift: Callable, diffusion: Callable | float = 0.0) -> Given:
    """Return the motion with drift (x (n, d), t) -> (n, d) and diffusion t -> D, or a number D.

    Keep one function object: a new one is a new program.
    """
    of_diffusion = diffusion if callable(diffusion) else Constant(diffusion)
    return Given(as_pytree(drift), as_pytree(of_diffusion))


@pytree
@dataclasses.dataclass(frozen=True)
class Constant:
    """The function of t that is one number."""

    value: Any

    def __call__(self, t):
        return self.value + 0.0 * t


def steps_of(times, dtype):
    """Return starts and signed lengths of the steps along a grid of times.

    Raises:
      PersonError: fewer than two times, or times that neither rise nor fall.
    """
    if not isinstance(times, jax.core.Tracer):
        times = np.asarray(times, np.float64)
        lengths = np.diff(times)
        if times.ndim != 1 or len(times) < 2 or not (lengths.min() > 0 or lengths.max() < 0):
            raise PersonError(f"times of shape {times.shape} must strictly rise or fall, 2 or more")
    return jnp.asarray(times[:-1], dtype), jnp.asarray(times[1:] - times[:-1], dtype)


def _check_no_mean(schedule):
    if schedule.has_mean:
        raise PersonError(f"{schedule!r} has a mean term: only schedules without one evolve here")
