"""Weightings: their published forms, their limits, and one loss whatever the net predicts."""

import jax.numpy as jnp
import numpy as np
import pytest

from dfx import schedules
from dfx.errors import PersonError
from dfx.fields import PREDICTIONS
from dfx.losses import per_sample, weighting
from dfx.nets import Net

SCHEDULES = {
    "vp_linear": schedules.VPLinear(),
    "rectified_linear": schedules.RectifiedLinear(),
    "edm": schedules.EDM(),
}
X0_WEIGHTS = {  # as the papers write them, on the squared error of x0
    "snr": lambda snr: snr,
    "min_snr": lambda snr: np.minimum(snr, 5.0),
    "edm": lambda snr: (1 / snr + 0.25) / (1 / snr * 0.25),
    "sigmoid": lambda snr: snr / (1 + np.exp(np.log(snr) - 0.0)),
}


def vp_level(snr):
    """The variance-preserving level of that snr, with the derivatives of an angle."""
    snr = np.asarray(snr, np.float64)
    alpha, sigma = np.sqrt(snr / (1 + snr)), np.sqrt(1 / (1 + snr))
    entries = (0 * snr, alpha, 0 * snr, sigma, -sigma, 0 * snr, alpha)
    return schedules.Level(*map(jnp.asarray, entries))


@pytest.mark.usefixtures("x64")
def test_min_snr_is_the_published_table_in_eps_and_v():
    level = vp_level([0.1, 1, 10, 100])
    weigh = weighting.min_snr(5.0)
    np.testing.assert_allclose(weigh(level, "eps"), [1, 1, 0.5, 0.05], rtol=1e-12)
    np.testing.assert_allclose(weigh(level, "v"), [1 / 11, 0.5, 5 / 11, 5 / 101], rtol=1e-12)
    np.testing.assert_allclose(weigh(level, "x0"), [0.1, 1, 5, 5], rtol=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", X0_WEIGHTS)
def test_weights_on_x0_are_the_papers(name):
    snr = np.geomspace(1e-6, 1e6, 9)
    weights = weighting.make(name)(vp_level(snr), "x0")
    np.testing.assert_allclose(weights, X0_WEIGHTS[name](snr), rtol=1e-10)


@pytest.mark.usefixtures("x64")
def test_snr_weighting_is_one_on_eps_and_edm_weighting_is_one_on_the_preconditioned_output():
    level = vp_level(np.geomspace(1e-6, 1e6, 9))
    np.testing.assert_allclose(weighting.snr()(level, "eps"), 1, rtol=1e-12)
    np.testing.assert_allclose(weighting.edm()(level, "edm"), 1, rtol=1e-12)
    # Of any other spread of the data: snr + 1 / sigma_data^2 on x0.
    np.testing.assert_allclose(weighting.edm(2.0)(level, "x0"), level.snr + 0.25, rtol=1e-10)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("bias", [-2.0, 0.0, 3.0])
def test_sigmoid_weighting_is_a_sigmoid_of_log_snr_on_eps(bias):
    log_snr = np.linspace(-15, 15, 9)
    weights = weighting.sigmoid(bias)(vp_level(np.exp(log_snr)), "eps")
    np.testing.assert_allclose(weights, 1 / (1 + np.exp(log_snr - bias)), rtol=1e-10)


@pytest.mark.usefixtures("x64")
def test_min_snr_goes_from_the_plain_x0_loss_to_the_snr_loss():
    level = vp_level(np.geomspace(1e-3, 1e3, 9))
    np.testing.assert_allclose(weighting.min_snr(1e-4)(level, "x0"), 1e-4, rtol=1e-12)
    for prediction in PREDICTIONS:
        limit = weighting.snr()(level, prediction)
        np.testing.assert_allclose(weighting.min_snr(1e4)(level, prediction), limit, rtol=1e-12)


def x0_net(t, x):
    """Any smooth function, taken as an estimate of x0."""
    return jnp.sin(x + t) + 0.3 * x


def net_of(prediction, schedule):
    """The same estimate, given as another prediction type by formulas written out here."""

    def apply(params, x, t, cond=None):
        level = schedule.at(t, x.ndim)
        x0 = x0_net(level.t, x)
        eps = (x - level.alpha * x0) / level.sigma
        ratio = level.sigma / level.alpha
        return {
            "x0": x0,
            "eps": eps,
            "v": level.alpha * eps - level.sigma * x0,
            "score": -eps / level.sigma,
            "velocity": level.alpha_dot * x0 + level.sigma_dot * eps,
            "edm": (x0 - x / level.alpha * 0.25 / (ratio**2 + 0.25))
            / (ratio * 0.5 / jnp.sqrt(ratio**2 + 0.25)),
        }[prediction]

    return Net(lambda key: {}, apply)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", X0_WEIGHTS)
@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_one_weighting_is_one_loss_whatever_the_net_predicts(name, schedule):
    rng = np.random.default_rng(0)
    x0, eps = (jnp.asarray(rng.standard_normal((9, 3))) for _ in range(2))
    t = jnp.asarray(rng.uniform(0.05, 0.95, (9, 3)))  # one per coordinate, all unequal
    level = schedule.at(t)
    error = x0_net(t, level.alpha * x0 + level.sigma * eps) - x0
    weight = X0_WEIGHTS[name](np.asarray(level.alpha / level.sigma) ** 2)
    expected = np.mean(weight * error**2, axis=1)
    for prediction in PREDICTIONS:
        losses = per_sample(net_of(prediction, schedule), schedule, prediction, name)
        # Rounding of float64, enlarged by 1 / sigma^2 up to 400 in the conversions.
        np.testing.assert_allclose(losses({}, x0, eps, t), expected, rtol=1e-10)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("name", weighting.REGISTRY)
def test_factors_are_numbers_along_a_whole_schedule_in_float32(name, prediction):
    times = np.float32([0, 1e-7, 1e-3, 0.5, 1 - 1e-3, 1 - 1e-7, 1])
    level = schedules.RectifiedLinear().at(jnp.asarray(times))
    weights = np.asarray(weighting.make(name)(level, prediction))
    assert not np.isnan(weights).any() and (weights >= 0).all()
    assert np.isfinite(weights[2:-2]).all()


def test_factors_take_their_limits_where_the_data_or_the_noise_vanish():
    schedule = schedules.RectifiedLinear()
    ends = schedule.at(jnp.float32([0, 1e-7, 1e-3, 0.5, 1 - 1e-3, 1 - 1e-7, 1]))
    clean, late, noise = (schedules.Level(*(a[i] for a in ends)) for i in (0, -2, -1))
    assert weighting.min_snr(5.0)(clean, "x0") == pytest.approx(5.0, rel=1e-6)
    assert weighting.snr()(clean, "eps") == pytest.approx(1.0, rel=1e-6)
    assert weighting.snr()(late, "eps") == pytest.approx(1.0, rel=1e-6)
    assert weighting.min_snr()(late, "eps") == pytest.approx(1.0, rel=1e-6)
    assert weighting.sigmoid()(late, "eps") == pytest.approx(1.0, rel=1e-6)
    assert weighting.snr()(noise, "x0") == 0.0
    # velocity = eps - x0: at the clean end the error of x0 is nothing beside that of eps.
    assert weighting.snr()(clean, "velocity") == pytest.approx(1.0, rel=1e-6)
    assert weighting.edm()(noise, "velocity") == pytest.approx(4.0, rel=1e-6)


#: On x0 where nothing is left of it, snr = 0: the formulas of X0_WEIGHTS without its infinities.
OF_PURE_NOISE = {"snr": 0.0, "min_snr": 0.0, "edm": 4.0, "sigmoid": 0.0}


@pytest.mark.parametrize("name", X0_WEIGHTS)
def test_a_level_at_which_the_prediction_does_not_determine_x0_counts_nothing(name):
    schedule = schedules.discrete_zero_snr()
    level = schedule.at(jnp.float32([0.5, 1.0]))
    # d p / d x0 at fixed x, where x is eps: of eps and score 0, which no error of x0 can move.
    rate = {"x0": 1.0, "v": -1.0, "edm": 2.0, "velocity": float(level.alpha_dot[1])}
    for prediction in PREDICTIONS:
        early, last = np.asarray(weighting.make(name)(level, prediction))
        expected = OF_PURE_NOISE[name] / rate[prediction] ** 2 if prediction in rate else 0.0
        assert early > 0 and last == pytest.approx(expected, rel=1e-6, abs=1e-30)


def test_the_loss_is_finite_where_nothing_is_left_of_the_data():
    schedule = schedules.discrete_zero_snr()
    x0, eps = (jnp.asarray(a) for a in np.random.default_rng(0).normal(size=(2, 3, 4)))
    for prediction in ("eps", "score"):
        losses = per_sample(net_of("eps", schedule), schedule, prediction, "edm")
        values = losses({}, x0, eps, jnp.float32([0.5, 0.999, 1.0]))
        assert np.isfinite(values).all() and values[-1] == 0


def test_the_deep_end_of_a_ddpm_table_stays_in_range():
    # alpha falls to 1e-23 here and its square leaves float32.
    schedule = schedules.discrete_linear(1000, 0.001, 0.2)
    level = schedule.at(jnp.float32([0.9, 1.0]))
    drift = -np.asarray(level.alpha_dot / level.alpha)
    for prediction, exact in (("eps", 1.0), ("v", np.asarray(level.alpha) ** 2)):
        np.testing.assert_allclose(weighting.snr()(level, prediction), exact, rtol=1e-4, atol=1e-30)
    # There velocity = alpha_dot x0 (sigma is 1), and its error is the drift times that of eps.
    np.testing.assert_allclose(weighting.snr()(level, "velocity"), drift**-2.0, rtol=1e-4)


def test_unknown_names_and_bad_numbers_are_refused():
    with pytest.raises(PersonError, match="unknown weighting 'minsnr': did you mean 'min_snr'"):
        weighting.make("minsnr")
    with pytest.raises(PersonError, match=r"gamm.*did you mean 'gamma'"):
        weighting.make("min_snr", gamm=3)
    with pytest.raises(PersonError, match="gamma is -1"):
        weighting.make("min_snr", gamma=-1)
    with pytest.raises(PersonError, match="sigma_data is 0"):
        weighting.make("edm", sigma_data=0)
    with pytest.raises(PersonError, match="bias is nan"):
        weighting.make("sigmoid", bias=np.nan)
