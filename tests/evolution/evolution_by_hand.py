"""What the tests of the evolution of laws share: a schedule, a mixture, a wrong score."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from dfx.fields import from_function
from dfx.pytree import pytree
from dfx.schedules.schedule import Schedule
from dfx.targets import Mixture

MIXTURE = Mixture.isotropic([[-1.0], [1.0]], 0.3)


@pytree
@dataclasses.dataclass(frozen=True)
class OU(Schedule):
    """dx = -x dt + dw: f = -1, g = 1, alpha = e^-t, sigma^2 = (1 - e^-2t) / 2."""

    length: float = 2.0

    @property
    def end_time(self):
        return self.length

    def alpha(self, t):
        return jnp.exp(-t)

    def variance(self, t):
        return -0.5 * jnp.expm1(-2 * t)


@jax.jit
def log_prob(mixture, x, level):
    return mixture.log_prob(x, level)


@jax.jit
def eta(x):
    """The bump exp(-x^2/2) sin(2x), its slope and its curvature."""
    bell, sin, cos = jnp.exp(-0.5 * x**2), jnp.sin(2 * x), jnp.cos(2 * x)
    slope = bell * (2 * cos - x * sin)
    return bell * sin, slope, bell * (-4 * sin - 4 * x * cos + (x**2 - 1) * sin)


@pytree
@dataclasses.dataclass(frozen=True)
class WrongScore:
    """grad (log p_t + e eta): consistent with no law."""

    error: float

    def __call__(self, x, level):
        return MIXTURE.score(x, level) + self.error * eta(x)[1]


def wrong_field(error):
    return from_function(WrongScore(error), "score")


@jax.jit
def residual(x, level, error):
    """R of phi = log p_t + e eta for OU, where p_t itself has R = 0; x (n, 1) -> (n,)."""
    _, slope, curvature = eta(x)
    score = MIXTURE.score(x, level)
    inside = -x * slope - 0.5 * curvature - slope * score - 0.5 * error * slope**2
    return error * inside[:, 0]


@jax.jit
def potential(x, level, error):
    return MIXTURE.log_prob(x, level) + error * eta(x)[0][:, 0]


def normal(mean, covariance):
    """The log-density of N(mean, covariance)."""
    covariance = np.atleast_2d(covariance)
    inverse, (_, log_det) = np.linalg.inv(covariance), np.linalg.slogdet(2 * np.pi * covariance)

    def of_normal(x):
        offset = np.asarray(x) - np.asarray(mean)
        return -0.5 * np.einsum("ni,ij,nj->n", offset, inverse, offset) - 0.5 * log_det

    return of_normal


def slope(errors, ratio=2.0):
    """The order that errors at resolutions growing by a ratio show, at the last two."""
    return np.log(errors[-2] / errors[-1]) / np.log(ratio)
