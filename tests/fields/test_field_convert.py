"""Prediction types: the conversion between them, against formulas written out from x0 and eps."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dfx import schedules
from dfx.errors import PersonError
from dfx.fields import PREDICTIONS, SIGMA_DATA, convert, pair

#: Float64 rounding, times the largest slope of the conversions used here (a few tens).
ROUNDING = 1e-12


def shapes():
    """x shape and t shape: one time, per sample, per token."""
    return [((5, 3), ()), ((5, 3), (5,)), ((4, 6, 3), (4, 6)), ((4, 2, 2, 1), (4,))]


def case(schedule, shape, t_shape, seed=0):
    rng = np.random.default_rng(seed)
    x0, eps, y = rng.normal(size=(3, *shape))
    level = schedule.at(rng.uniform(0.2, 0.8, t_shape) * schedule.end_time, len(shape))
    return x0, eps, y, level


def truth(name, x0, eps, y, level):
    """Each prediction type from x0 and eps, by its own definition."""
    a, s = level.alpha, level.sigma
    x = a * x0 + level.beta * y + s * eps
    if name == "edm":  # D = c_skip X + c_out F with X = x / alpha, S = sigma / alpha
        big_x, big_s = (x - level.beta * y) / a, s / a
        total = big_s**2 + SIGMA_DATA**2
        return (x0 - SIGMA_DATA**2 / total * big_x) / (big_s * SIGMA_DATA / np.sqrt(total))
    return {
        "x0": x0,
        "eps": eps,
        "v": a * eps - s * x0,
        "score": -eps / s,
        "velocity": level.alpha_dot * x0 + level.beta_dot * y + level.sigma_dot * eps,
    }[name]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("shape", "t_shape"), shapes())
@pytest.mark.parametrize("name", ["vp_linear", "edm", "rectified_linear", "sub_vp"])
def test_every_conversion_gives_the_definition(name, shape, t_shape):
    x0, eps, y, level = case(schedules.make(name), shape, t_shape)
    x = level.alpha * x0 + level.sigma * eps
    for source in PREDICTIONS:
        for target in PREDICTIONS:
            got = convert(truth(source, x0, eps, 0 * y, level), x, level, source, target)
            expected = truth(target, x0, eps, 0 * y, level)
            np.testing.assert_allclose(got, expected, rtol=0, atol=1e-11)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("shape", "t_shape"), shapes())
def test_there_and_back_is_the_identity(shape, t_shape):
    x0, eps, _, level = case(schedules.VPCosine(), shape, t_shape, seed=1)
    x = level.alpha * x0 + level.sigma * eps
    value = np.random.default_rng(2).normal(size=shape)
    for source in PREDICTIONS:
        for target in PREDICTIONS:
            there = convert(value, x, level, source, target)
            back = convert(there, x, level, target, source)
            np.testing.assert_allclose(back, value, rtol=0, atol=ROUNDING)


@pytest.mark.usefixtures("x64")
def test_the_chain_through_all_types_is_the_identity():
    x0, eps, _, level = case(schedules.VPLinear(), (6, 2), (6,), seed=3)
    x = level.alpha * x0 + level.sigma * eps
    chain = ["eps", "x0", "v", "score", "velocity", "edm", "eps"]
    value = eps
    for source, target in itertools.pairwise(chain):
        value = convert(value, x, level, source, target)
    np.testing.assert_allclose(value, eps, rtol=0, atol=ROUNDING)


@pytest.mark.usefixtures("x64")
def test_a_mean_term_is_taken_off_and_its_velocity_added():
    schedule = schedules.MeanReverting(schedules.VPLinear())
    x0, eps, y, level = case(schedule, (5, 3), (5,), seed=4)
    x = level.alpha * x0 + level.beta * y + level.sigma * eps
    for source in PREDICTIONS:
        for target in PREDICTIONS:
            got = convert(truth(source, x0, eps, y, level), x, level, source, target, y)
            np.testing.assert_allclose(got, truth(target, x0, eps, y, level), rtol=0, atol=1e-11)


@pytest.mark.usefixtures("x64")
def test_traced_levels_give_what_host_levels_give():
    schedule = schedules.VPLinear()
    x0, eps, _, level = case(schedule, (5, 3), (5,), seed=5)
    x = jnp.asarray(level.alpha * x0 + level.sigma * eps)
    got = jax.jit(lambda v, x, t: convert(v, x, schedule.at(t, 2), "v", "score"))(
        jnp.asarray(truth("v", x0, eps, 0, level)), x, jnp.asarray(level.t[:, 0])
    )
    np.testing.assert_allclose(got, -eps / level.sigma, rtol=1e-11)


def test_the_result_has_the_dtype_of_x():
    level = schedules.VPLinear().at(0.3)
    x = jnp.ones((2, 2), jnp.float32)
    assert convert(x, x, level, "eps", "x0").dtype == jnp.float32
    with jax.enable_x64(True):
        assert convert(x, x, level, "eps", "x0").dtype == jnp.float32


def test_weights_are_computed_in_the_precision_of_the_level():
    """Near the data eps = (x - alpha x0)/sigma with weights that float32 arithmetic would spoil."""
    level = schedules.VPLinear().at(1e-4)
    x0, eps = np.float64(0.3), np.float64(-1.1)
    x = np.full((1, 1), level.alpha * x0 + level.sigma * eps)
    value = jnp.full((1, 1), eps, jnp.float32)
    got = convert(value, jnp.asarray(x, jnp.float32), level, "eps", "x0")
    # two products and a sum, each rounded to 6e-8 of about 0.3
    np.testing.assert_allclose(got, x0, rtol=0, atol=1e-7)


def test_in_pure_noise_the_preconditioned_output_is_the_data_in_units_of_their_spread():
    """c_skip = 0 and c_out = sigma_data where sigma / alpha is infinite."""
    level, value = schedules.RectifiedLinear().at(1.0), np.float32([[0.3, -2.0]])
    x0 = convert(value, np.ones_like(value), level, "edm", "x0")
    np.testing.assert_allclose(x0, SIGMA_DATA * value, rtol=1e-6)


def test_an_unknown_prediction_names_the_nearest():
    level = schedules.VPLinear().at(0.5)
    with pytest.raises(PersonError, match="unknown prediction 'velocty': did you mean 'velocity'"):
        convert(np.zeros((1, 1)), np.zeros((1, 1)), level, "velocty", "x0")
    with pytest.raises(PersonError, match="did you mean 'score'"):
        pair("scores", level)


@pytest.mark.parametrize(
    ("name", "t", "source", "target"),
    [
        ("rectified_linear", 1.0, "eps", "x0"),
        ("rectified_linear", 0.0, "x0", "eps"),
        ("rectified_linear", 0.0, "score", "x0"),
        ("vp_linear", 0.0, "x0", "v"),
    ],
)
def test_a_level_that_does_not_determine_the_target_is_refused(name, t, source, target):
    level = schedules.make(name).at(t)
    with pytest.raises(PersonError, match=f"{source} does not determine {target} at t = {t:g}"):
        convert(np.zeros((2, 2)), np.zeros((2, 2)), level, source, target)


def test_times_of_another_shape_are_refused():
    level = schedules.VPLinear().at(np.full(5, 0.5))  # per sample, but without ndim
    with pytest.raises(PersonError, match=r"level of shape \(5,\) does not broadcast against x"):
        convert(np.zeros((5, 3)), np.zeros((5, 3)), level, "eps", "x0")


def test_a_mean_term_without_its_endpoint_is_refused():
    level = schedules.MeanReverting(schedules.VPLinear()).at(0.5)
    with pytest.raises(PersonError, match="mean term"):
        convert(np.zeros((2, 2)), np.zeros((2, 2)), level, "eps", "x0")
