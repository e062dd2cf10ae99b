"""Mixtures with every kind of covariance, and their oracles compiled once for all tests."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dfx import schedules
from dfx.schedules import VPLinear
from dfx.targets import Mixture

RNG = np.random.default_rng(0)
MEANS, WEIGHTS = RNG.normal(size=(4, 3)), np.array([0.1, 0.2, 0.3, 0.4])
FACTORS, VARIANCES = RNG.normal(size=(4, 3, 1)), RNG.uniform(0.1, 1.0, (4, 3))
DENSE = np.einsum("kir,kjr->kij", FACTORS, FACTORS) + 0.3 * np.eye(3)
POINTS = 1.5 * RNG.normal(size=(7, 3))
LEVEL = VPLinear().at(0.3)
CLEAN = jax.tree.map(np.float64, schedules.CLEAN)  # of the types of LEVEL: one compilation for both


def eye(scales):
    return np.asarray(scales)[:, None, None] * np.eye(3)


#: Every kind of covariance: the mixture, and its covariances written out.
KINDS = {
    "isotropic": (Mixture.isotropic(MEANS, VARIANCES[:, 0], WEIGHTS), eye(VARIANCES[:, 0] ** 2)),
    "isotropic shared": (Mixture.isotropic(MEANS, 0.4, WEIGHTS), eye([0.16] * 4)),
    "diagonal": (Mixture.diagonal(MEANS, VARIANCES, WEIGHTS), [np.diag(v) for v in VARIANCES]),
    "full": (Mixture.full(MEANS, DENSE, WEIGHTS), DENSE),
    "full shared": (Mixture.full(MEANS, DENSE[:1], WEIGHTS), DENSE[[0] * 4]),
    "low rank": (Mixture.low_rank(MEANS, FACTORS, 0.3, WEIGHTS), DENSE),
    "low rank shared": (Mixture.low_rank(MEANS, FACTORS[:1], 0.3, WEIGHTS), DENSE[[0] * 4]),
}
kinds = pytest.mark.parametrize("kind", KINDS)
NAMES = ["log_prob", "responsibilities", "denoise", "score", "posterior_covariance", "hessian"]


@jax.jit
def values(mixture, x, level):
    """Every method in one compiled function."""
    return {name: getattr(mixture, name)(x, level) for name in NAMES}


@jax.jit
def derivatives(mixture, x, level):
    """Gradient of the log density and Jacobian of the score by autodiff, per sample."""
    gradient = jax.grad(lambda x: mixture.log_prob(x, level).sum())(x)
    jacobian = jax.jacfwd(lambda x: mixture.score(x, level).sum(0))(x).swapaxes(0, 1)
    return gradient, jacobian


@functools.partial(jax.jit, static_argnums=(2, 3))
def draw(mixture, key, n, balanced=False):
    """Samples in float64."""
    return mixture.sample(key, n, jnp.float64, balanced=balanced)


@functools.cache
def known(kind):
    """Values of a kind at POINTS and LEVEL, compiled and computed once for all tests."""
    return jax.tree.map(np.asarray, values(KINDS[kind][0], POINTS, LEVEL))
