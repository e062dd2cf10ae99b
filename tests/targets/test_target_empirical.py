"""The exact oracles of a finite set of points: streamed, against the whole softmax in NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dfx.errors import PersonError
from dfx.schedules import Level, VPLinear
from dfx.targets import Empirical, Mixture

RNG = np.random.default_rng(0)
#: Few and many dimensions: distances by differences and by matrix products.
SETS = {"plane": RNG.random((103, 2)), "pictures": RNG.random((103, 5, 4, 1))}
LEVEL = VPLinear().at(0.3)
NAMES = ["denoise", "score", "log_prob", "responsibilities", "posterior_variance"]
MATRICES = ["posterior_covariance", "hessian"]
sets = pytest.mark.parametrize("points", SETS.values(), ids=SETS)


@functools.partial(jax.jit, static_argnums=3)
def values(target, x, level, names=(*NAMES, *MATRICES)):
    """Methods by name, in one compiled function."""
    return {name: getattr(target, name)(x, level) for name in names}


def textbook(points, x, a, s):
    """The whole softmax in float64: the truth of this file."""
    points, x = (np.asarray(z, np.float64).reshape(len(z), -1) for z in (points, x))
    d = points.shape[1]
    logs = -((x[:, None] - a * points) ** 2).sum(-1) / (2 * s**2)
    top = logs.max(1, keepdims=True)
    total = np.exp(logs - top).sum(1, keepdims=True)
    share = np.exp(logs - top) / total
    mean = share @ points
    offsets = points - mean[:, None]
    covariance = np.einsum("nk,nki,nkj->nij", share, offsets, offsets)
    density = (top + np.log(total))[:, 0] - np.log(len(points)) - d / 2 * np.log(2 * np.pi * s**2)
    return {
        "denoise": mean,
        "score": np.einsum("nk,nkd->nd", share, a * points - x[:, None]) / s**2,
        "log_prob": density,
        "responsibilities": share,
        "posterior_variance": np.trace(covariance, axis1=1, axis2=2),
        "posterior_covariance": covariance,
        "hessian": (a**2 / s**2 * covariance - np.eye(d)) / s**2,
    }


def queries(points, a, s, n=9):
    """Noisy points, in float32."""
    noise = np.random.default_rng(1).normal(size=(n, *points.shape[1:]))
    return np.float32(a * points[:n] + s * noise)


@sets
@pytest.mark.parametrize("block", [10, 1000])
def test_streamed_oracles_are_those_of_the_whole_softmax(points, block, x64):
    # Blocks of 10 leave a rest of 3; one block of 1,000 is never full.
    x = np.float64(queries(points, LEVEL.alpha, LEVEL.sigma))
    got = values(Empirical(points, block), x, LEVEL)
    for name, truth in textbook(points, x, LEVEL.alpha, LEVEL.sigma).items():
        value = np.reshape(got[name], truth.shape)
        np.testing.assert_allclose(value, truth, rtol=1e-10, atol=1e-12, err_msg=name)


@sets
def test_float32_is_right_from_the_nearest_point_to_pure_noise(points):
    target = Empirical(np.float32(points), 40)
    names = (*NAMES[:3], "posterior_variance")
    for s in (1e-3, 1e-2, 0.05, 0.3, 3.0, 80.0):
        a, s = np.float32(0.7), np.float32(s)
        x = queries(points, a, s)
        got = values(target, x, Level(s, a, s * 0, s, a, a, a), names)
        truth = textbook(np.float32(points), x, np.float64(a), np.float64(s))
        d = target.dim
        scale = dict(zip(names, (0.1, np.sqrt(d) / s, d, 1e-5)))
        for name in names:
            assert got[name].dtype == np.float32
            error = np.abs(np.reshape(got[name], truth[name].shape) - truth[name])
            assert (error <= 1e-5 * (np.abs(truth[name]) + scale[name])).all(), (name, s)


@sets
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_queries_are_answered_in_half_precision(points, dtype):
    target = Empirical(jnp.asarray(points, dtype), 40)
    x = jnp.asarray(queries(points, LEVEL.alpha, LEVEL.sigma), dtype)
    truth = textbook(target.points, x, LEVEL.alpha, LEVEL.sigma)
    for name, value in values(target, x, LEVEL, tuple(NAMES[:3])).items():
        assert value.dtype == dtype, name
        # A log weight is a sum over the coordinates of terms that are rounded a few times.
        error = np.abs(np.reshape(np.float64(value), truth[name].shape) - truth[name])
        assert (error <= 8 * float(jnp.finfo(dtype).eps) * (1 + np.abs(truth[name]))).all(), name


def test_empirical_is_the_mixture_of_points_without_spread(x64):
    points = SETS["plane"]
    x = np.float64(queries(points, LEVEL.alpha, LEVEL.sigma))
    mixture = Mixture.isotropic(points, 0.0)
    for name in ("denoise", "log_prob"):
        both = (values(t, x, LEVEL, (name,))[name] for t in (Empirical(points, 50), mixture))
        np.testing.assert_allclose(*both, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(Empirical(points).mean(), mixture.mean(), rtol=1e-12)
    covariance = Empirical(points).covariance()
    np.testing.assert_allclose(covariance, mixture.covariance(), rtol=1e-10, atol=1e-13)


@sets
def test_covariance_of_points_on_a_device_is_that_on_the_host_and_rounds_no_factors(points, x64):
    on_device = Empirical(jnp.asarray(points))
    found = on_device.covariance()
    np.testing.assert_allclose(found, Empirical(points).covariance(), rtol=1e-12, atol=1e-14)
    program = str(jax.make_jaxpr(Empirical.covariance)(on_device))
    assert program.count("dot_general[") == program.count("precision=(Precision.HIGHEST") > 0


@sets
def test_score_is_the_gradient_of_log_density(points, x64):
    target, x = Empirical(points, 40), np.float64(queries(points, LEVEL.alpha, LEVEL.sigma, 3))
    score = values(target, x, LEVEL, ("score",))["score"]
    gradient = jax.jit(jax.grad(lambda x: target.log_prob(x, LEVEL).sum()))(x)
    np.testing.assert_allclose(score, gradient, rtol=1e-9, atol=1e-11)


def test_slope_of_the_denoiser_is_the_posterior_covariance(x64):
    points, name = SETS["pictures"], "posterior_covariance"
    target, x = Empirical(points, 40), np.float64(queries(points, LEVEL.alpha, LEVEL.sigma, 3))
    jacobian = jax.jit(jax.jacfwd(lambda x: target.denoise(x, LEVEL).sum(0)))(x)
    slopes = np.moveaxis(np.reshape(jacobian, (target.dim, 3, target.dim)), 1, 0)
    expected = LEVEL.alpha / LEVEL.sigma**2 * values(target, x, LEVEL, (name,))[name]
    np.testing.assert_allclose(slopes, expected, rtol=1e-9, atol=1e-11)


def test_velocity_is_that_of_the_posterior_means(x64):
    points = SETS["pictures"]
    x = np.float64(queries(points, LEVEL.alpha, LEVEL.sigma))
    got = values(Empirical(points), x, LEVEL, ("velocity",))["velocity"]
    x0 = textbook(points, x, LEVEL.alpha, LEVEL.sigma)["denoise"].reshape(x.shape)
    eps = (x - LEVEL.alpha * x0) / LEVEL.sigma
    np.testing.assert_allclose(got, LEVEL.alpha_dot * x0 + LEVEL.sigma_dot * eps, rtol=1e-10)


def test_one_level_per_query_is_one_call_per_level(x64):
    points = SETS["pictures"]
    times, x = np.linspace(0.05, 1.0, 9), np.float64(queries(points, 0.8, 0.6))
    names = ("denoise", "log_prob", "hessian")
    together = values(Empirical(points, 40), x, VPLinear().at(times, ndim=x.ndim), names)
    for i in (0, 4, 8):
        alone = values(Empirical(points, 40), x, VPLinear().at(times[i]), names)
        for name in names:
            np.testing.assert_allclose(together[name][i], alone[name][i], rtol=1e-11, atol=1e-12)


def test_two_equal_points_count_twice(x64):
    points = np.array([[0.0], [0.0], [1.0]])
    level = Level(1.0, 1.0, 0.0, 1.0, 0.0, 0.0, 1.0)
    x0 = Empirical(points, 2).denoise(jnp.array([[0.5]]), level)
    np.testing.assert_allclose(x0, [[1 / 3]], rtol=1e-12)
    score = Empirical(points, 2).score(jnp.array([[0.5]]), level)
    np.testing.assert_allclose(score, [[1 / 3 - 0.5]], rtol=1e-12)


def test_samples_are_points_in_equal_shares():
    points = np.arange(5.0)[:, None] * np.ones((1, 3))
    x = np.asarray(Empirical(points).sample(jax.random.key(0), 5000))
    assert x.shape == (5000, 3) and x.dtype == np.float32
    counts = np.bincount(x[:, 0].astype(int), minlength=5)
    # Chi-square with 4 degrees of freedom: 18.5 has probability 0.001.
    assert ((counts - 1000) ** 2 / 1000).sum() < 18.5
    np.testing.assert_array_equal(Empirical(points).sample(jax.random.key(0), 7), x[:7])


def test_queries_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="points have shape"):
        Empirical(SETS["pictures"]).denoise(jnp.zeros((3, 20)), LEVEL)


def test_no_queries_have_no_answers_and_points_of_another_shape_are_refused():
    target = Empirical(SETS["plane"])
    assert target.denoise(jnp.zeros((0, 2)), LEVEL).shape == (0, 2)
    with pytest.raises(PersonError, match=r"points have shape \(2,\), got x of \(4, 3\)"):
        target.denoise(jnp.zeros((4, 3)), LEVEL)
