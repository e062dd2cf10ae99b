"""Running averages of the parameters over the steps of a run.

An average is a pair of pure functions: `init(params) -> average` and
`update(average, params, done) -> average`, where `done` counts the steps done, 1 after the first.
Each update is `average + (1 - decay_t) (params - average)`, so that the weights of all parameters
seen sum to one and the average of a constant is that constant, to the bit. Nothing starts at zero,
so there is no bias to correct: `constant` starts at the initial parameters, `power` at those of
step 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dfx.errors import PersonError

# sigma_rel(gamma = 0): wider profiles have gamma < 0 and weigh the oldest parameters most.
WIDEST = 1.0 / 2.0 / 3.0**0.5


class Ema(NamedTuple):
    """A running average: how it starts and how it takes in the parameters of one more step."""

    init: Callable[[Any], Any]
    update: Callable[[Any, Any, jax.Array], Any]


def none() -> Ema:
    """Return the average that keeps nothing: its value is `()`."""
    return Ema(lambda params: (), lambda average, params, done: ())


def constant(decay: float) -> Ema:
    """Return the exponential moving average with a constant decay.

    After n steps the parameters of step i weigh (1 - decay) decay^(n - i), the first ones decay^n.

    Args:
      decay: in [0, 1); 0 keeps the newest parameters alone.

    Raises:
      PersonError: the decay is outside [0, 1).
    """
    if not 0.0 <= decay < 1.0:
        raise PersonError(f"ema decay {decay!r}: allowed are numbers in [0, 1)")
    return _decaying(lambda done: decay)


def power(gamma: float | None = None, *, sigma_rel: float | None = None) -> Ema:
    """Return the average with a power-function profile: the weight of step i grows as i^gamma.

    decay_t = (1 - 1/t)^(gamma + 1), t = 1, 2, ..: its length is a fixed share of the run so far.

    Args:
      gamma: exponent of the profile, 0 or larger (0 is the plain mean of all steps).
      sigma_rel: instead of gamma, the profile's width as a share of the run, in (0, 0.2887].

    Raises:
      PersonError: neither or both are given, or one is out of range.

    Source: Karras et al. 2024 (EDM2), section 3.1.
    """
    if (gamma is None) == (sigma_rel is None):
        raise PersonError("power ema: give gamma or sigma_rel, one of the two")
    exponent = gamma if gamma is not None else gamma_of_sigma_rel(sigma_rel or 0.0)
    if not exponent >= 0.0:  # nan too
        raise PersonError(f"power ema gamma {gamma!r}: allowed are numbers from 0 up")

    def decay(done):
        return (1.0 - 1.0 / jnp.asarray(done, jnp.result_type(float))) ** (exponent + 1.0)

    return _decaying(decay)


class Several(NamedTuple):
    """The values of several averages, by name."""

    averages: dict[str, Any]


def several(averages: dict[str, Ema]) -> Ema:
    """Return the average that keeps several at once: its value is a `Several` with their names.

    Raises:
      PersonError: there is none.

    >>> both = several({"short": constant(0.99), "long": constant(0.9999)})
    >>> sorted(both.init(jnp.zeros(3)).averages)
    ['long', 'short']
    """
    if not averages:
        raise PersonError("ema: give at least one average")

    def update(value, params, done):
        kept = value.averages
        return Several({name: a.update(kept[name], params, done) for name, a in averages.items()})

    return Ema(
        lambda params: Several({name: a.init(params) for name, a in averages.items()}), update
    )


def half_life(steps: float) -> Ema:
    """Return the exponential moving average in which a step's weight halves every so many steps.

    `constant(2^(-1 / steps))`. For a half-life in images divide by the batch size.

    Raises:
      PersonError: steps is not positive.

    Source: Karras et al. 2022 (EDM), table 7, counts half-lives in images.
    """
    if not steps > 0.0:
        raise PersonError(f"ema half-life {steps!r}: allowed are positive numbers of steps")
    return constant(2.0 ** (-1.0 / steps))


def sigma_rel_of_gamma(gamma: float) -> float:
    """Return the width of the power-function profile: its standard deviation over the run's
    length.

    sigma_rel = (gamma + 1)^(1/2) (gamma + 2)^(-1) (gamma + 3)^(-1/2).

    Source: Karras et al. 2024 (EDM2), section 3.1.

    >>> round(sigma_rel_of_gamma(6.94), 3)
    0.1
    """
    return float((gamma + 1.0) ** 0.5 / (gamma + 2.0) / (gamma + 3.0) ** 0.5)


def gamma_of_sigma_rel(sigma_rel: float) -> float:
    """Return the exponent whose power-function profile has the given width.

    The largest root of (gamma + 2)^2 (gamma + 3) = (gamma + 1) / sigma_rel^2.

    Raises:
      PersonError: sigma_rel is outside (0, 12^(-1/2)].

    Source: Karras et al. 2024 (EDM2), section 3.1 and algorithm 2.

    >>> round(gamma_of_sigma_rel(0.10), 2), round(gamma_of_sigma_rel(0.05), 2)
    (6.94, 16.97)
    """
    if not 0.0 < sigma_rel <= WIDEST:
        raise PersonError(f"ema sigma_rel {sigma_rel!r}: allowed are numbers in (0, {WIDEST:.4f}]")
    precision = sigma_rel**-2.0
    roots = np.roots([1.0, 7.0, 16.0 - precision, 12.0 - precision])
    return max(float(np.max(roots.real)), 0.0)


def _decaying(decay: Callable[[jax.Array], Any]) -> Ema:
    """Return the average whose update number t keeps `decay(t)` of what it was."""

    def update(average, params, done):
        share = 1.0 - decay(done)
        return jax.tree.map(lambda a, p: (a + share * (p - a)).astype(a.dtype), average, params)

    # A copy, since a state that holds one buffer twice cannot be donated.
    return Ema(lambda params: jax.tree.map(jnp.copy, params), update)
