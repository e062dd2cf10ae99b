"""Loss weightings: how much an error counts at each noise level.

A weighting is a function (level, prediction) -> factor of the squared error of that prediction.
All but `uniform` are defined as a weight w(level) on the squared error of x0, as their papers
state them, and moved to the net's own prediction p by the slope of the conversion at fixed x,

    w |x0 error|^2 = (sqrt(w) d x0 / d p)^2 |p error|^2,

so that one weighting is one loss whatever the net predicts. Throughout, snr = alpha^2 / sigma^2.
A new weighting is `on_x0(root)` with root(level) = sqrt(w).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from dfx.errors import call
from dfx.fields import pair
from dfx.losses.times import check_finite, check_positive
from dfx.schedules import Level

Weighting = Callable[[Level, str], jax.Array]


def uniform() -> Weighting:
    """Return the weighting 1 in the net's own prediction space: the plain mean square."""
    return lambda level, prediction: jnp.ones_like(level.alpha)


def on_x0(root: Callable[[Level], jax.Array]) -> Weighting:
    """Return the weighting that puts `root(level)` on the error of x0, root(level)^2 on its square.

    alpha and sigma are raised to the smallest normal number, so that root may divide by both: at
    the ends of a schedule the factor then takes its limit instead of 0 / 0. Roots and not
    weights, since squares of alpha leave the range of float32 where a DDPM table ends. A level at
    which the prediction does not determine x0 counts nothing: eps and score where alpha = 0, whose
    limits are infinite for some weightings.
    """

    def weighting(level, prediction):
        least = jnp.finfo(jnp.result_type(level.alpha)).tiny
        level = level._replace(sigma=jnp.maximum(level.sigma, least))
        # Of an alpha that was raised, eps would tell x0.
        signal = jnp.where(level.alpha < least, 0, level.alpha)
        slope = x0_slope(level._replace(alpha=signal), prediction)
        level = level._replace(alpha=jnp.maximum(level.alpha, least))
        return (root(level) * slope) ** 2

    return weighting


def x0_slope(level: Level, prediction: str):
    """Return d x0 / d prediction at fixed x, and zero where the prediction does not determine x0.

    From x = alpha x0 + sigma eps and p = c x0 + s eps: -sigma / (alpha s - sigma c).
    """
    c, s = pair(prediction, level)
    det = level.alpha * s - level.sigma * c
    return jnp.where(det == 0, 0, -level.sigma / jnp.where(det == 0, 1, det))


def snr() -> Weighting:
    """Return the weighting snr on x0, which is 1 on eps: the loss of DDPM (Ho et al. 2020)."""
    return on_x0(lambda level: level.alpha / level.sigma)


def min_snr(gamma: float = 5.0) -> Weighting:
    """Return the weighting min(snr, gamma) on x0 (Hang et al. 2023).

    Raises:
      PersonError: gamma is not positive and finite.
    """
    check_positive("gamma", gamma)
    return on_x0(lambda level: jnp.minimum(level.alpha / level.sigma, math.sqrt(gamma)))


def edm(sigma_data: float = 0.5) -> Weighting:
    """Return the weighting (s^2 + sigma_data^2) / (s sigma_data)^2 on x0, with s = sigma / alpha.

    That is snr + 1 / sigma_data^2, and 1 on the raw output F of the preconditioned net of that
    sigma_data (Karras et al. 2022, table 1).

    Raises:
      PersonError: sigma_data is not positive and finite.
    """
    check_positive("sigma_data", sigma_data)
    return on_x0(lambda level: jnp.hypot(level.alpha / level.sigma, 1 / sigma_data))


def sigmoid(bias: float = 0.0) -> Weighting:
    """Return the weighting sigmoid(bias - log_snr) on eps, so snr sigmoid(bias - log_snr) on x0.

    It falls to zero at the clean levels, from log_snr = bias on: a larger bias counts more of
    them (Kingma & Gao 2023).

    Raises:
      PersonError: bias is not finite.
    """
    check_finite("bias", bias)
    # snr sigmoid(b - log snr) = 1 / (1 / snr + exp(-b)), which has no overflow.
    noise = math.exp(-bias / 2)
    return on_x0(lambda level: 1 / jnp.hypot(level.sigma / level.alpha, noise))


REGISTRY = {"uniform": uniform, "snr": snr, "min_snr": min_snr, "edm": edm, "sigmoid": sigmoid}


def make(name: str, **options) -> Weighting:
    """Return the weighting of that name.

    Raises:
      PersonError: the name is not in `REGISTRY`, or the weighting has no such option.
    """
    return call("weighting", name, REGISTRY, **options)
