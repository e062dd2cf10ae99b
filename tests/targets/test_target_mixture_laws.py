"""Mixtures as laws: samples, total mass, evolution in time, posterior means by Monte Carlo."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mixture_kinds import (
    DENSE,
    FACTORS,
    KINDS,
    LEVEL,
    MEANS,
    POINTS,
    VARIANCES,
    WEIGHTS,
    draw,
    eye,
    known,
)

from dfx.schedules import VE, RectifiedLinear, SubVP, VPLinear
from dfx.targets import Mixture

pytestmark = pytest.mark.usefixtures("x64")

#: One kind without and one with a basis; the other kinds are sampled by the same two formulas.
FAST = ("diagonal", "low rank")


#: Besides all kinds: one set of factors or variances for components that share nothing else.
PARTLY_SHARED = {
    "factors": (
        Mixture.low_rank(MEANS, FACTORS[:1], VARIANCES[:, 0], WEIGHTS),
        FACTORS[0] @ FACTORS[0].T + eye(VARIANCES[:, 0]),
    ),
    "variances": (Mixture.diagonal(MEANS, VARIANCES[:1], WEIGHTS), [np.diag(VARIANCES[0])] * 4),
}


@pytest.mark.parametrize(
    ("mixture", "covariances"),
    [*KINDS.values(), *PARTLY_SHARED.values()],
    ids=[*KINDS, *PARTLY_SHARED],
)
def test_mean_and_covariance_are_those_between_and_within_the_components(mixture, covariances):
    mean = WEIGHTS @ MEANS
    np.testing.assert_allclose(mixture.mean(), mean, rtol=1e-12)
    seconds = np.asarray(covariances) + np.einsum("ki,kj->kij", *[MEANS - mean] * 2)
    expected = np.tensordot(WEIGHTS, seconds, 1)
    np.testing.assert_allclose(mixture.covariance(), expected, rtol=1e-12)


@pytest.mark.parametrize(
    "kind", [k if k in FAST else pytest.param(k, marks=pytest.mark.slow) for k in KINDS]
)
def test_samples_have_the_moments_of_the_mixture(kind):
    mixture, n = KINDS[kind][0], 20_000
    x = np.asarray(draw(mixture, jax.random.key(1), n))
    mean, expected = mixture.mean(), mixture.covariance()
    # 4.5 standard errors: a probability of 1e-4 over all 12 entries and 7 kinds.
    assert (np.abs(x.mean(0) - mean) < 4.5 * x.std(0) / np.sqrt(n)).all()
    products = np.einsum("ni,nj->nij", x - mean, x - mean)
    assert (np.abs(products.mean(0) - expected) < 4.5 * products.std(0) / np.sqrt(n)).all()


def test_the_noise_along_the_basis_is_not_that_of_the_floor():
    """One direction of variance 1 on a floor of 1: 2, and 4 if both were one draw."""
    x = draw(Mixture.low_rank([[0.0]], [[[1.0]]], 1.0), jax.random.key(4), 4000)
    assert abs(x.var() - 2) < 4.5 * 2 * np.sqrt(2 / 4000)  # standard errors


def test_density_integrates_to_one():
    u = np.linspace(-12, 12, 2001)
    # The trapezoidal rule converges faster than any power for a density that is 0 at the ends.
    line = Mixture.isotropic([[-1.0], [0.5], [2.0]], [0.3, 0.1, 0.5], [1, 2, 3])
    log_prob = jax.jit(lambda mixture, x, level: mixture.log_prob(x, level))
    for t in (0.01, 0.5, 1.0):
        p = np.exp(log_prob(line, u[:, None], VPLinear().at(t)))
        np.testing.assert_allclose(np.trapezoid(p, u), 1.0, rtol=1e-9)
    v = np.linspace(-12, 12, 301)
    grid = np.stack(np.meshgrid(v, v, indexing="ij"), -1).reshape(-1, 2)
    plane = Mixture.full(MEANS[:, :2], DENSE[:, :2, :2], WEIGHTS)
    p = np.exp(log_prob(plane, grid, LEVEL)).reshape(301, 301)
    np.testing.assert_allclose(np.trapezoid(np.trapezoid(p, v), v), 1.0, rtol=1e-9)


@functools.partial(jax.jit, static_argnums=0)
def evolution(schedule, mixture, x, t):
    """The rate of log p_t at x by autodiff, by the Fokker-Planck and by the continuity equation."""
    one, d = jnp.ones_like(t), x.shape[1]
    rate = jax.jvp(lambda t: mixture.log_prob(x, schedule.at(t)), (t,), (one,))[1]
    level = schedule.at(t)
    score, hessian = mixture.score(x, level), mixture.hessian(x, level)
    f = level.alpha_dot / level.alpha
    g2 = 2 * level.sigma * level.sigma_dot - 2 * f * level.sigma**2
    curvature = jnp.trace(hessian, axis1=1, axis2=2) + (score**2).sum(1)
    fokker_planck = -d * f - f * (x * score).sum(1) + 0.5 * g2 * curvature
    slopes = jax.jacfwd(lambda x: mixture.velocity(x, level).sum(0))(x)
    flow = mixture.velocity(x, level)
    continuity = -jnp.einsum("ini->n", slopes) - (flow * score).sum(1)
    return rate, fokker_planck, continuity


@pytest.mark.parametrize(
    ("schedule", "kind"),
    [
        (VPLinear(), "low rank"),
        (VE(), "isotropic"),
        (RectifiedLinear(), "diagonal"),
        pytest.param(SubVP(), "full shared", marks=pytest.mark.slow),
    ],
    ids=["vp", "ve", "rectified_linear", "sub_vp"],
)
def test_density_solves_the_fokker_planck_and_continuity_equations(schedule, kind):
    for t in (0.2, 0.7):
        rate, *others = evolution(schedule, KINDS[kind][0], POINTS, jnp.float64(t))
        for other in others:
            np.testing.assert_allclose(other, rate, rtol=1e-9, atol=1e-10)


@pytest.mark.slow
def test_denoiser_is_the_monte_carlo_posterior_mean():
    n, x, (a, s) = 200_000, POINTS[0], (LEVEL.alpha, LEVEL.sigma)
    mixture = KINDS["full"][0]
    x0 = np.asarray(draw(mixture, jax.random.key(2), n))
    weights = np.exp(-((x - a * x0) ** 2).sum(1) / (2 * s**2))
    mean = weights @ x0 / weights.sum()
    error = np.sqrt(((weights[:, None] * (x0 - mean)) ** 2).sum(0)) / weights.sum()
    # 4 standard errors: probability 2e-4 for three entries.
    assert (np.abs(known("full")["denoise"][0] - mean) < 4 * error).all()


def test_balanced_samples_take_the_components_in_turn():
    narrow, key = Mixture.isotropic(MEANS, 1e-3, WEIGHTS), jax.random.key(3)
    x = np.asarray(draw(narrow, key, 10, True))
    np.testing.assert_allclose(x, MEANS[np.arange(10) % 4], atol=6e-3)  # 6 standard deviations


def test_sample_i_is_the_same_for_every_number_of_samples():
    few, many = (draw(KINDS["low rank"][0], jax.random.key(1), n) for n in (10, 20_000))
    np.testing.assert_array_equal(many[:10], few)
