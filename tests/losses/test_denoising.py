"""Denoising regression: its targets, its minimum, and what the net is shown."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate

from dfx import fields, losses, schedules
from dfx.errors import PersonError
from dfx.nets import Net

VP, FLOW = schedules.VPLinear(), schedules.RectifiedLinear()
MEAN, STD = 0.7, 0.4  # of the Gaussian data


def recorded(seen):
    """A net that keeps what it is given and answers zero."""

    def apply(params, x, t, cond=None):
        seen.append((x, t, cond))
        return jnp.zeros_like(x)

    return Net(lambda key: {}, apply)


def affine(level, prediction):
    """The pair (c, s) of a prediction, written out once more."""
    alpha, sigma = level.alpha, level.sigma
    ratio = sigma / alpha
    root = np.sqrt(ratio**2 + 0.25) if isinstance(ratio, float) else jnp.sqrt(ratio**2 + 0.25)
    zero, one = 0 * alpha, 1 + 0 * alpha
    return {
        "x0": (one, zero),
        "eps": (zero, one),
        "v": (-sigma, alpha),
        "score": (zero, -1 / sigma),
        "velocity": (level.alpha_dot, level.sigma_dot),
        "edm": (2 * ratio / root, -0.5 / root),
    }[prediction]


def regression(level, prediction):
    """Slope, intercept and residual variance of p = c x0 + s eps on x = alpha x0 + sigma eps.

    For Gaussian data the posterior mean of p is the linear regression: slope cov(p, x) / var(x).
    """
    c, s = affine(level, prediction)
    variance = level.alpha**2 * STD**2 + level.sigma**2
    slope = (c * level.alpha * STD**2 + s * level.sigma) / variance
    intercept = c * MEAN - slope * level.alpha * MEAN
    return slope, intercept, c**2 * STD**2 + s**2 - slope**2 * variance


def exact_net(schedule, prediction):
    """The posterior mean with two parameters that disturb it, both zero when it is exact."""

    def apply(params, x, t, cond=None):
        slope, intercept, _ = regression(schedule.at(t, x.ndim), prediction)
        return (1 + params["scale"]) * (slope * x + intercept) + params["shift"]

    return Net(lambda key: {}, apply)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("schedule", [VP, FLOW], ids=type)
@pytest.mark.parametrize("prediction", fields.PREDICTIONS)
def test_exact_posterior_mean_has_zero_gradient_and_the_posterior_variance_as_its_loss(
    schedule, prediction
):
    start, end, num = 0.1, 0.9, 40_000
    keys = jax.random.split(jax.random.key(0), 3)
    x0 = MEAN + STD * jax.random.normal(keys[0], (num, 1), jnp.float64)
    eps = jax.random.normal(keys[1], (num, 1), jnp.float64)
    t = losses.uniform(schedule, start, end)(keys[2], num, jnp.float64)
    each = losses.per_sample(exact_net(schedule, prediction), schedule, prediction)
    params = {"scale": jnp.zeros(()), "shift": jnp.zeros(())}

    def variance(time):
        return regression(schedule.at(float(time)), prediction)[2]

    values = each(params, x0, eps, t)
    slopes = jax.jacfwd(lambda p: each(p, x0, eps, t))(params)
    expected = integrate.quad(variance, start, end)[0] / (end - start)
    # Four standard errors each.
    assert abs(values.mean() - expected) < 4 * values.std() / np.sqrt(num)
    for slope in slopes.values():
        assert abs(slope.mean()) < 4 * slope.std() / np.sqrt(num)
        assert slope.std() > 0


@pytest.mark.usefixtures("x64")
def test_plain_eps_loss_is_the_snr_weighted_loss_of_every_exact_net():
    key, x0 = jax.random.key(1), MEAN + STD * jax.random.normal(jax.random.key(2), (500, 1))
    params = {"scale": 0.3, "shift": 0.0}
    sampler = losses.uniform(VP, 0.05, 0.95)

    def value(prediction, weighting):
        # A disturbance of the x0 estimate alone, so that the nets agree on their error.
        def apply(params, x, t, cond=None):
            level = VP.at(t, x.ndim)
            slope, intercept, _ = regression(level, "x0")
            x0 = slope * x + intercept + params["scale"] * jnp.sin(x)
            c, s = affine(level, prediction)
            return c * x0 + s * (x - level.alpha * x0) / level.sigma

        net = Net(lambda key: {}, apply)
        loss = losses.denoising(net, VP, prediction, weighting, sampler)
        return loss(params, key, x0)[0]

    plain = value("eps", "uniform")
    for prediction in fields.PREDICTIONS:
        assert value(prediction, "snr") == pytest.approx(float(plain), rel=1e-10)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("prediction", fields.PREDICTIONS)
def test_targets_are_the_conversions_of_x0(prediction):
    rng = np.random.default_rng(0)
    x0, eps = (jnp.asarray(rng.standard_normal((4, 3))) for _ in range(2))
    level = VP.at(jnp.linspace(0.1, 0.9, 4), 2)
    x = level.alpha * x0 + level.sigma * eps
    target = losses.prediction_target(x0, eps, level, prediction)
    for source, value in (("x0", x0), ("eps", eps)):
        np.testing.assert_allclose(
            target, fields.convert(value, x, level, source, prediction), rtol=1e-9
        )


@pytest.mark.usefixtures("x64")
def test_velocity_target_is_the_derivative_of_the_path_mean_term_included():
    schedule = schedules.MeanReverting(VP)
    rng = np.random.default_rng(0)
    x0, eps, y = (jnp.asarray(rng.standard_normal((4, 3))) for _ in range(3))
    t = jnp.linspace(0.2, 0.8, 4)

    def path(t):
        level = schedule.at(t, 2)
        return level.alpha * x0 + level.beta * y + level.sigma * eps

    slope = jax.jvp(path, (t,), (jnp.ones_like(t),))[1]
    target = losses.prediction_target(x0, eps, schedule.at(t, 2), "velocity", y)
    np.testing.assert_allclose(target, slope, rtol=1e-12)
    # And the net that is to give it sees the path itself.
    seen = []
    each = losses.per_sample(recorded(seen), schedule, "velocity")({}, x0, eps, t, y=y)
    np.testing.assert_allclose(seen[0][0], path(t), rtol=1e-12)
    np.testing.assert_allclose(each, np.mean(np.square(slope), axis=1), rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_flow_matching_is_the_velocity_loss_on_the_rectified_linear_schedule():
    rng = np.random.default_rng(0)
    x0, eps = rng.standard_normal((2, 6, 3))
    t = rng.uniform(size=6)
    net = Net(lambda key: {}, lambda params, x, t, cond=None: jnp.tanh(x) * t[:, None])
    value = losses.per_sample(net, FLOW, "velocity")({}, jnp.asarray(x0), eps, jnp.asarray(t))
    x = (1 - t)[:, None] * x0 + t[:, None] * eps
    expected = np.mean((np.tanh(x) * t[:, None] - (eps - x0)) ** 2, axis=1)
    np.testing.assert_allclose(value, expected, rtol=1e-12)


def test_loss_of_a_net_that_says_zero_is_the_mean_square_of_its_target():
    x0 = jnp.full((4000, 2), 3.0)
    value, aux = losses.denoising(recorded([]), VP)({}, jax.random.key(0), x0)
    # eps has mean square 1: four standard errors of 8000 squares.
    assert abs(value - 1) < 4 * np.sqrt(2 / 8000)
    assert aux["mse"] == value
    value, aux = losses.denoising(recorded([]), FLOW, "velocity")({}, jax.random.key(0), x0)
    assert abs(value - 10) < 4 * np.sqrt((2 + 4 * 9) / 8000)  # eps - 3


def test_the_net_is_shown_the_noisy_point_its_time_and_its_classes():
    seen, schedule = [], schedules.discrete_linear(1000, 0.001, 0.2)
    eps = jax.random.normal(jax.random.key(5), (300, 2), jnp.float32)
    x0 = jax.random.normal(jax.random.key(6), (300, 2), jnp.float32)
    cond = jnp.arange(300)
    loss = losses.denoising(
        recorded(seen),
        schedule,
        time_sampler="discrete",
        time=lambda level: schedule.index(level.t),
        noise=lambda key, x0: eps,
    )
    value, _ = loss({}, jax.random.key(0), x0, cond)
    ((x, t, classes),) = seen
    index = np.round(t).astype(int)
    assert t.shape == (300,) and np.abs(t - index).max() < 1e-3
    assert index.min() >= 0 and index.max() <= 999 and len(np.unique(index)) > 200
    abar = np.cumprod(1 - np.linspace(0.001, 0.2, 1000))[index][:, None]
    expected = np.sqrt(abar) * np.asarray(x0) + np.sqrt(1 - abar) * np.asarray(eps)
    np.testing.assert_allclose(x, expected, rtol=1e-4, atol=1e-5)  # float32
    np.testing.assert_array_equal(classes, cond)
    assert value == pytest.approx(float(jnp.mean(eps**2)), rel=1e-6)


def test_noise_and_times_are_drawn_apart_and_anew_with_each_key():
    seen = []
    loss = losses.denoising(recorded(seen), VP)
    x0 = jnp.zeros((2000, 1))
    for key in jax.random.split(jax.random.key(0), 2):
        loss({}, key, x0)
    (x, t, _), (other, s, _) = seen
    assert not np.any(x == other) and np.mean(t == s) < 0.01
    noise = x[:, 0] / VP.at(t).sigma
    # Independent: correlations within four standard errors.
    assert abs(np.corrcoef(noise, t)[0, 1]) < 4 / np.sqrt(2000)
    assert abs(np.corrcoef(noise, other[:, 0])[0, 1]) < 4 / np.sqrt(2000)


def test_one_time_per_token_noises_and_weighs_each_token_by_its_own():
    seen = []
    t = jnp.asarray(np.random.default_rng(0).uniform(0.1, 0.9, (5, 4)), jnp.float32)
    x0 = jnp.ones((5, 4, 3))
    loss = losses.denoising(
        recorded(seen),
        FLOW,
        "x0",
        "snr",
        time_sampler=lambda key, n, dtype: t,
        noise=lambda key, x0: jnp.zeros_like(x0),
    )
    value, aux = loss({}, jax.random.key(0), x0)
    ((x, shown, _),) = seen
    np.testing.assert_array_equal(shown, t)
    np.testing.assert_allclose(x, np.broadcast_to(1 - t[:, :, None], x.shape), rtol=1e-6)
    assert value == pytest.approx(float(jnp.mean(((1 - t) / t) ** 2)), rel=1e-5)
    assert aux["mse"] == 1


def test_bfloat16_data_are_noised_in_float32():
    seen = []
    losses.denoising(recorded(seen), VP)({}, jax.random.key(0), jnp.ones((3, 2), jnp.bfloat16))
    x, t, _ = seen[0]
    assert x.dtype == jnp.float32 and t.dtype == jnp.float32


def test_mean_of_the_losses_of_the_samples_is_the_loss():
    x0 = jax.random.normal(jax.random.key(3), (50, 2), jnp.float32)
    eps = jax.random.normal(jax.random.key(4), (50, 2), jnp.float32)
    t = jnp.linspace(0.1, 0.9, 50)
    net = Net(lambda key: {}, lambda params, x, t, cond=None: jnp.sin(x))
    each = losses.per_sample(net, VP, "v", "min_snr")({}, x0, eps, t)
    whole = losses.denoising(
        net, VP, "v", "min_snr", lambda key, n, dtype: t, noise=lambda key, x0: eps
    )
    assert each.shape == (50,)
    assert whole({}, jax.random.key(0), x0)[0] == pytest.approx(float(each.mean()), rel=1e-5)


def test_mistakes_are_refused_in_one_line():
    net = recorded([])
    with pytest.raises(PersonError, match="unknown prediction 'epss': did you mean 'eps'"):
        losses.denoising(net, VP, "epss")
    with pytest.raises(PersonError, match="unknown weighting 'sn'"):
        losses.denoising(net, VP, weighting="sn")
    with pytest.raises(PersonError, match="VPLinear has no table"):
        losses.denoising(net, VP, time_sampler="discrete")
    loss = losses.denoising(net, schedules.MeanReverting(VP))
    with pytest.raises(PersonError, match="has a mean term: give y to the loss"):
        loss({}, jax.random.key(0), jnp.zeros((2, 1)))
