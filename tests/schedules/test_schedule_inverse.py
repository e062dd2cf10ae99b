"""log-SNR, its inverse, the equivalence of schedules it stands for, and float32 accuracy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dfx import schedules
from dfx.schedules import log_snr, t_of_log_snr

EPS32 = np.finfo(np.float32).eps
# Times from 1e-5 of the whole to the end, where both ends are hard.
FRACTIONS = np.concatenate([np.geomspace(1e-5, 0.5, 43), 1 - np.geomspace(0.5, 1e-3, 20), [1.0]])
# log-SNR is at most 40 in size here, rounded in its last digit, and |t d log-SNR/dt| is at least 1.
INVERSE_ROUNDING = 40
# The largest exponent in alpha or sigma is 51 (the table of the mode-interpolation paper, where
# alpha ends at 1e-22); its relative rounding becomes theirs.
EXPONENT_ROUNDING = 51


def test_time_of_log_snr_of_time_is_time_in_float64(schedule):
    t = schedule.end_time * FRACTIONS
    rounding = INVERSE_ROUNDING * np.finfo(np.float64).eps
    np.testing.assert_allclose(t_of_log_snr(schedule, log_snr(schedule, t)), t, rounding)


def test_time_of_log_snr_of_time_is_time_in_float32(schedule):
    t = jnp.asarray(schedule.end_time * FRACTIONS, jnp.float32)
    back = t_of_log_snr(schedule, log_snr(schedule, t))
    assert back.dtype == jnp.float32
    np.testing.assert_allclose(back, t, INVERSE_ROUNDING * EPS32)


def test_log_snr_of_time_of_log_snr_is_the_value(schedule):
    value = np.linspace(-5, 15, 41)
    # Mean reversion with noise 0.2 ends at log-SNR -6.8, VE and EDM at -7.8 and -8.8.
    np.testing.assert_allclose(log_snr(schedule, t_of_log_snr(schedule, value)), value, atol=1e-11)


def test_all_schedules_have_the_same_snr_at_the_times_of_one_log_snr(schedule):
    value = np.linspace(-5, 15, 41)
    level = schedule.at(t_of_log_snr(schedule, value))
    np.testing.assert_allclose(level.snr, np.exp(value), 1e-11)


def test_equivalent_times_of_different_schedules_have_equal_snr():
    sigma = np.geomspace(1e-4, 79, 50)
    expected = -2 * np.log(sigma)
    for schedule, t in [
        (schedules.EDM(), sigma),
        (schedules.RectifiedLinear(), sigma / (1 + sigma)),
        (schedules.Trigonometric(), 2 / np.pi * np.arctan(sigma)),
    ]:
        # 1 - t keeps 14 digits at t = 79/80.
        np.testing.assert_allclose(log_snr(schedule, t), expected, atol=1e-12)
        np.testing.assert_allclose(t_of_log_snr(schedule, expected), t, 1e-12)


def test_values_outside_the_range_give_the_nearer_end(schedule):
    # Repeated to the size of the other tests, for which the inverse is compiled.
    values = np.resize([np.inf, -np.inf, -1e9, np.nan], FRACTIONS.size)
    expected = np.resize([0, schedule.end_time, schedule.end_time, np.nan], FRACTIONS.size)
    if schedule.at(schedule.end_time).alpha == 0:
        expected[2::4] = 1  # inside the range: 1e9 is the size of the log of a number never reached
    np.testing.assert_array_equal(t_of_log_snr(schedule, values), expected)
    single = t_of_log_snr(schedule, jnp.asarray(values, jnp.float32))
    np.testing.assert_array_equal(single, np.asarray(expected, np.float32))


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0,)])
def test_inverse_keeps_kind_and_shape(shape):
    host = t_of_log_snr(schedules.VPLinear(), np.zeros(shape))
    assert isinstance(host, np.ndarray | np.float64) and host.shape == shape
    assert host.dtype == np.float64
    single = t_of_log_snr(schedules.VPLinear(), jnp.zeros(shape))
    assert isinstance(single, jax.Array) and single.shape == shape and single.dtype == jnp.float32


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["vp_linear", "edm", "ddpm"])
def test_derivatives_of_the_inverse_are_those_of_the_inverse_function(name):
    schedule = schedules.make(name)
    t = schedule.end_time * np.array([0.1005, 0.4005])

    def forward(t):
        return log_snr(schedule, t)

    def inverse(value):
        return t_of_log_snr(schedule, value)

    first = jax.grad(forward)
    slope = np.array([first(s) for s in t])
    curvature = np.array([jax.grad(first)(s) for s in t])
    both = jax.jit(jax.vmap(lambda v: (jax.grad(inverse)(v), jax.jacfwd(jax.grad(inverse))(v))))
    inverse_slope, inverse_curvature = both(jnp.asarray(log_snr(schedule, t)))
    # By the inverse function theorem, at a time found to 1e-14.
    np.testing.assert_allclose(inverse_slope, 1 / slope, 1e-11)
    np.testing.assert_allclose(inverse_curvature, -curvature / slope**3, 1e-10)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_inverse_is_differentiable_in_the_numbers_of_a_schedule():
    def inverse(sigma_max, values):
        # s(t) = 0.01 (100 sigma_max)^t and log-SNR = -log(s^2 - 1e-4), so
        # t = log(100 s) / log(100 sigma_max).
        return t_of_log_snr(schedules.VE(0.01, sigma_max), values)

    values, log_range = jnp.array([-3.0, 5.0]), np.log(5000)
    t = np.log(100 * np.sqrt(np.exp(-values) + 1e-4)) / log_range
    np.testing.assert_allclose(inverse(50.0, values), t, 1e-12)
    for jacobian in (jax.jacrev(inverse), jax.jacfwd(inverse)):
        np.testing.assert_allclose(jacobian(50.0, values), -t / (50 * log_range), 1e-10)


@pytest.mark.usefixtures("x64")
def test_derivatives_outside_the_range_follow_the_end():
    values = jnp.array([jnp.inf, -100.0])
    # Inside it t = exp(-v / 2), whatever the end.
    slope = jax.jacrev(lambda v: t_of_log_snr(schedules.EDM(), v))(jnp.append(values, 3.0))
    np.testing.assert_allclose(slope, np.diag([0, 0, -0.5 * np.exp(-1.5)]), rtol=1e-12)
    slope = jax.jacrev(lambda end: t_of_log_snr(schedules.EDM(end), values))(80.0)
    np.testing.assert_array_equal(slope, [0, 1])
    slope = jax.jacrev(lambda b: t_of_log_snr(schedules.VPLinear(b, 20.0), values))(0.1)
    np.testing.assert_array_equal(slope, [0, 0])


def single_and_double(function, schedule):
    """Return the function of the schedule at the same float32 times, in float32 and in float64."""
    # Midpoints of table steps, since derivatives jump at the table itself.
    t = np.concatenate([np.geomspace(1e-5, 9e-4, 14), (np.arange(10, 1000, 20) + 0.5) / 1000])
    t = np.asarray(schedule.end_time * t, np.float32)
    single = jax.tree.map(np.float64, function(schedule, jnp.asarray(t)))
    return single, function(schedule, t.astype(np.float64))


def test_levels_in_float32_are_accurate_near_both_ends(schedule):
    single, double = single_and_double(lambda s, t: s.at(t), schedule)
    tolerance = EXPONENT_ROUNDING * EPS32
    np.testing.assert_allclose(single.alpha, double.alpha, tolerance)
    np.testing.assert_allclose(single.sigma, double.sigma, tolerance)
    # beta = 1 - alpha is rounded as alpha is: to a part of 1, not of itself.
    np.testing.assert_allclose(single.beta, double.beta, rtol=0, atol=tolerance)
    np.testing.assert_allclose(single.beta_dot, double.beta_dot, tolerance)
    np.testing.assert_allclose(single.alpha_dot, double.alpha_dot, 2 * tolerance)
    # sigma_dot vanishes at the end of a circular path, where it counts beside alpha_dot.
    scale = np.abs(double.sigma_dot) + np.abs(double.alpha_dot)
    assert np.all(np.abs(single.sigma_dot - double.sigma_dot) < 2 * tolerance * scale)


def test_log_snr_in_float32_is_accurate_near_both_ends(schedule):
    single, double = single_and_double(log_snr, schedule)
    # Twice the relative errors of alpha and sigma, and the rounding of two logarithms up to 12.
    tolerance = (2 * EXPONENT_ROUNDING + 24) * EPS32
    np.testing.assert_allclose(single, double, rtol=0, atol=tolerance)


@pytest.mark.parametrize("function", [schedules.drift_coefficient, schedules.diffusion])
def test_drift_and_diffusion_in_float32_are_accurate_near_both_ends(schedule, function):
    single, double = single_and_double(function, schedule)
    # The tangent of an angle near pi/2 multiplies the rounding of the angle by 2000 at most.
    np.testing.assert_allclose(single, double, 2 * EXPONENT_ROUNDING * EPS32)
