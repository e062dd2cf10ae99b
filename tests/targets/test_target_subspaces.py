"""Unions of subspaces at 12 and 10,000 dimensions against the formulas written out; blocks."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from dfx import schedules, targets
from dfx.errors import PersonError
from dfx.targets import blocks

pytestmark = pytest.mark.usefixtures("x64")

VP = schedules.VPLinear()
SCHEDULES = (VP, schedules.VE(), schedules.SubVP(), schedules.RectifiedLinear())
DIMS, WEIGHTS = (2, 3, 1), np.array([0.2, 0.5, 0.3])
KEY = jax.random.key(0)


def posterior(bases, dims, weights, x, level):
    """The posterior mean of one point and J v by the formula, with bases of any angles."""
    a, s = level.alpha, level.sigma
    power = a**2 + s**2
    phi = a**2 / (2 * s**2 * power)
    parts = [u @ (u.T @ x) for u in bases]
    logits = [
        math.log(p) - d / 2 * math.log(power / s**2) + phi * (z @ z)
        for p, d, z in zip(weights, dims, parts)
    ]
    w = np.exp(np.array(logits) - max(logits))
    w /= w.sum()
    mean = w @ np.array(parts)

    def jacobian(v):
        inner = sum(p * (z @ v) * z for p, z in zip(w, parts)) - (mean @ v) * mean
        straight = sum(p * (u @ (u.T @ v)) for p, u in zip(w, bases))
        return a / power * (straight + 2 * phi * inner)

    return a / power * mean, jacobian


@functools.cache
def problem(n):
    """Bases of unequal dimensions with angles of 50 degrees, and their law."""
    bases = np.asarray(targets.random_bases(KEY, n, DIMS, math.radians(50), jnp.float64))
    return bases, targets.union_of_subspaces(bases, weights=WEIGHTS)


@jax.jit
def look(law, x, v, level):
    """Denoiser, score, gradient of the log density and J v."""
    mean, slope = jax.jvp(lambda x: law.denoise(x, level), (x,), (v,))
    gradient = jax.grad(lambda x: law.log_prob(x, level).sum())(x)
    return mean, slope, law.score(x, level), gradient


@jax.jit
def denoise(law, x, level):
    return law.denoise(x, level)


@pytest.mark.slow
def test_posterior_mean_its_jacobian_and_tweedie_are_the_formulas_in_10000_dimensions():
    """Unequal dimensions and weights, subspaces at 50 degrees; 1e-9 is rounding times 1 / sigma^2.

    A (n, n) matrix would take 800 MB.
    """
    bases, law = problem(10_000)
    level = VP.at(0.12)
    x = level.alpha * law.sample(KEY, 3, jnp.float64)
    x = np.asarray(x + level.sigma * jax.random.normal(jax.random.key(1), x.shape, x.dtype))
    v = np.random.default_rng(0).normal(size=x.shape)
    mean, slope, score, gradient = look(law, x, v, level)
    for i in range(3):
        expected, jacobian = posterior(bases, DIMS, WEIGHTS, x[i], level)
        np.testing.assert_allclose(mean[i], expected, atol=1e-9)
        np.testing.assert_allclose(slope[i], jacobian(v[i]), atol=1e-9)
    tweedie = (level.alpha * mean - x) / level.sigma**2
    np.testing.assert_allclose(score, tweedie, atol=1e-9)
    np.testing.assert_allclose(gradient, tweedie, atol=1e-9)


def test_the_formula_holds_for_every_schedule():
    bases, law = problem(12)
    x = np.random.default_rng(1).normal(size=(3, 12))
    for schedule in SCHEDULES:
        level = schedule.at(0.3)
        for point, mean in zip(x, denoise(law, x, level)):
            expected = posterior(bases, DIMS, WEIGHTS, point, level)[0]
            np.testing.assert_allclose(mean, expected, rtol=1e-9, atol=1e-12)


def test_scales_and_noise_are_those_of_dense_covariances():
    bases = problem(12)[0]
    scales = np.array([[1.5, 0.5, 7.0], [2.0, 1.0, 0.7], [0.9, 7.0, 7.0]])  # 7: of zero columns
    law = targets.union_of_subspaces(bases, 0.3, WEIGHTS, scales)
    dense = np.einsum("kir,kr,kjr->kij", bases, scales**2, bases) + 0.09 * np.eye(12)
    np.testing.assert_allclose(law.covariance(), np.tensordot(WEIGHTS, dense, 1), atol=1e-12)
    x, level = np.random.default_rng(2).normal(size=(3, 12)), VP.at(0.2)
    noisy = [level.alpha**2 * c + level.sigma**2 * np.eye(12) for c in dense]
    density = np.array([stats.multivariate_normal(cov=c).pdf(x) for c in noisy])
    share = WEIGHTS[:, None] * density / (WEIGHTS @ density)
    means = [level.alpha * (np.linalg.solve(c, x.T).T @ s) for c, s in zip(noisy, dense)]
    expected = np.einsum("kn,knd->nd", share, means)
    np.testing.assert_allclose(denoise(law, x, level), expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("angle", [math.pi / 2, 1.0, 0.3, 0.0])
def test_random_bases_are_orthonormal_with_the_angles_asked_for(angle):
    bases = targets.random_bases(KEY, 20, DIMS, angle, jnp.float64)
    assert bases.shape == (3, 20, 3)
    overlaps = jnp.einsum("kir,lis->klrs", bases, bases)
    for k, d in enumerate(DIMS):
        present = np.diag(np.arange(3) < d)
        np.testing.assert_allclose(overlaps[k, k], present, atol=1e-14)
        for j, e in enumerate(DIMS[:k]):
            cosines = jnp.linalg.svd(overlaps[k, j, :d, :e], compute_uv=False)
            np.testing.assert_allclose(cosines, math.cos(angle), atol=1e-14)


def test_bases_drawn_each_by_itself_have_zero_columns_where_they_are_smaller():
    bases = targets.random_bases(KEY, 8, DIMS, None, jnp.float64)
    expected = [np.diag(np.arange(3.0) < d) for d in DIMS]
    np.testing.assert_allclose(np.swapaxes(bases, 1, 2) @ bases, expected, atol=1e-14)


@jax.jit
def draw(noise):
    """Bases and 300 balanced samples, all traced and mapped over the noise."""

    def one(noise):
        bases = targets.random_bases(KEY, 12, DIMS, dtype=jnp.float64)
        law = targets.union_of_subspaces(bases, noise, WEIGHTS)
        return bases, law.sample(KEY, 300, jnp.float64, balanced=True)

    return jax.vmap(one)(noise)


def test_samples_lie_on_their_subspaces_with_the_noise_given():
    (bases, _), (x, noisy) = map(np.asarray, draw(jnp.array([0.0, 0.1])))
    for k, (u, d) in enumerate(zip(bases, DIMS)):
        own = x[k::3]
        assert np.abs(own - own @ u @ u.T).max() < 1e-14
        # 100 d unit variances: a chi-square with standard error sqrt(2 / (100 d)).
        assert abs((own**2).sum() / (100 * d) - 1) < 4 * math.sqrt(2 / (100 * d))
    off = noisy - x
    assert abs((off**2).mean() / 0.01 - 1) < 4 * math.sqrt(2 / off.size)


@pytest.mark.parametrize("t", [0.3, jnp.linspace(0.1, 0.9, 7), np.linspace(0.1, 0.9, 7)])
def test_points_in_blocks_keep_their_own_levels(t):
    x, level = jnp.arange(14.0).reshape(7, 2), VP.at(t, 2)
    f = lambda x, level: (level.alpha * x**2).sum(1) + level.t[..., -1]  # noqa: E731
    f = f if np.ndim(t) else lambda x, level: (level.alpha * x**2).sum(1)
    for size in (3, 6, 7, 8):
        np.testing.assert_array_equal(blocks.in_blocks(f, x, level, size), f(x, level))


def test_a_mixture_in_blocks_is_the_same_to_rounding(monkeypatch):
    """Denoiser and its derivative, mapped: 7 points with levels of their own in blocks of 4."""
    law = problem(12)[1]
    x = jnp.asarray(np.random.default_rng(5).normal(size=(1, 7, 12)))
    level = VP.at(jnp.linspace(0.1, 0.9, 7), 2)

    def both(x):
        return jax.jvp(lambda x: law.denoise(x, level), (x,), (x,))

    whole = jax.jit(jax.vmap(both))(x)
    monkeypatch.setattr(blocks, "NUMBERS", 1)
    assert blocks.block_size(12) == blocks.FEWEST == 4
    for a, b in zip(jax.jit(jax.vmap(lambda x: both(x)))(x), whole):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: targets.random_bases(KEY, 4, (3, 2)), "need 5 dimensions"),
        (lambda: targets.random_bases(KEY, 9, (3, 2), 2.0), "radians"),
        (lambda: targets.random_bases(KEY, 9, (3, 0)), "dims"),
        (lambda: targets.union_of_subspaces(np.ones((2, 4, 2))), "orthonormal"),
        (lambda: targets.union_of_subspaces(np.ones((4, 2))), "shape"),
        (lambda: targets.union_of_subspaces(np.eye(4)[None], -1.0), "noise"),
        (lambda: targets.union_of_subspaces(np.eye(4)[None], weights=[1, 2]), "do not fit"),
    ],
)
def test_bad_input_is_said_in_one_line(make, message):
    with pytest.raises(PersonError, match=message):
        make()
