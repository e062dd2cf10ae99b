"""alpha, beta, sigma and the equation they solve, against the formulas of the papers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from dfx import schedules
from dfx.errors import PersonError

T = np.linspace(0.01, 0.99, 50)
# The formulas below lose up to four of 16 digits in 1 - exp(-B) at t = 0.01.
ROUNDING = 1e-12
# Relative tolerance asked of the ODE solver is 1e-10 a step, over some hundred steps.
INTEGRATION = 1e-7

ANGLE = np.pi / 2
SHRUNK = ANGLE / 1.008


def rate(t):
    return 0.1 + 19.9 * t


def decay(t):
    return np.exp(-(0.1 * t + 9.95 * t**2))


def geometric(t):
    return 0.01 * 5000**t


def cosine(t):
    return np.cos(SHRUNK * (t + 0.008)) / np.cos(SHRUNK * 0.008)


def cosine_dot(t):
    return -SHRUNK * np.sin(SHRUNK * (t + 0.008)) / np.cos(SHRUNK * 0.008)


# name: alpha, sigma, alpha_dot, sigma_dot, typed from the papers with the default numbers.
CLOSED_FORMS = {
    "vp_linear": (
        lambda t: np.sqrt(decay(t)),
        lambda t: np.sqrt(1 - decay(t)),
        lambda t: -rate(t) / 2 * np.sqrt(decay(t)),
        lambda t: rate(t) * decay(t) / (2 * np.sqrt(1 - decay(t))),
    ),
    "sub_vp": (
        lambda t: np.sqrt(decay(t)),
        lambda t: 1 - decay(t),
        lambda t: -rate(t) / 2 * np.sqrt(decay(t)),
        lambda t: rate(t) * decay(t),
    ),
    "vp_cosine": (
        cosine,
        lambda t: np.sqrt(1 - cosine(t) ** 2),
        cosine_dot,
        lambda t: -cosine(t) * cosine_dot(t) / np.sqrt(1 - cosine(t) ** 2),
    ),
    "ve": (
        np.ones_like,
        lambda t: np.sqrt(geometric(t) ** 2 - 1e-4),
        np.zeros_like,
        lambda t: geometric(t) ** 2 * np.log(5000) / np.sqrt(geometric(t) ** 2 - 1e-4),
    ),
    "edm": (np.ones_like, lambda t: t, np.zeros_like, np.ones_like),
    "rectified_linear": (lambda t: 1 - t, lambda t: t, lambda t: -np.ones_like(t), np.ones_like),
    "trigonometric": (
        lambda t: np.cos(ANGLE * t),
        lambda t: np.sin(ANGLE * t),
        lambda t: -ANGLE * np.sin(ANGLE * t),
        lambda t: ANGLE * np.cos(ANGLE * t),
    ),
}

# name: f and g^2 of dx = f x dt + g dw.
EQUATIONS = {
    "vp_linear": (lambda t: -rate(t) / 2, rate),
    "sub_vp": (lambda t: -rate(t) / 2, lambda t: rate(t) * (1 - decay(t) ** 2)),
    "vp_cosine": (
        lambda t: -SHRUNK * np.tan(SHRUNK * (t + 0.008)),
        lambda t: 2 * SHRUNK * np.tan(SHRUNK * (t + 0.008)),
    ),
    "ve": (lambda t: 0 * t, lambda t: 2 * np.log(5000) * geometric(t) ** 2),
    "edm": (lambda t: 0 * t, lambda t: 2 * t),
    "rectified_linear": (lambda t: -1 / (1 - t), lambda t: 2 * t / (1 - t)),
    "trigonometric": (
        lambda t: -ANGLE * np.tan(ANGLE * t),
        lambda t: 2 * ANGLE * np.tan(ANGLE * t),
    ),
}


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_coefficients_and_their_derivatives_are_those_of_the_paper(name):
    level = schedules.make(name).at(T)
    for entry, formula in zip(("alpha", "sigma", "alpha_dot", "sigma_dot"), CLOSED_FORMS[name]):
        np.testing.assert_allclose(getattr(level, entry), formula(T), ROUNDING, err_msg=entry)
    assert np.all(level.beta == 0) and np.all(level.beta_dot == 0)


def test_numbers_other_than_the_papers_keep_the_relations_of_a_schedule():
    ramp = T + T**2  # the integral of a rate from 1 to 3
    for schedule in (schedules.VPLinear(1.0, 3.0), schedules.VPCosine(0.1)):
        level = schedule.at(T)
        np.testing.assert_allclose(level.alpha**2 + level.sigma**2, 1, ROUNDING)
    sub_vp, ve = schedules.SubVP(1.0, 3.0), schedules.VE(0.2, 7.0)
    np.testing.assert_allclose(sub_vp.at(T).alpha, np.exp(-ramp / 2), ROUNDING)
    np.testing.assert_allclose(sub_vp.at(T).sigma, -np.expm1(-ramp), ROUNDING)
    np.testing.assert_allclose(ve.at(T).sigma ** 2, 0.04 * (35 ** (2 * T) - 1), ROUNDING)


@pytest.mark.parametrize("name", EQUATIONS)
def test_drift_and_diffusion_are_those_of_the_paper(name):
    schedule, (f, g_squared) = schedules.make(name), EQUATIONS[name]
    np.testing.assert_allclose(schedules.drift_coefficient(schedule, T), f(T), ROUNDING)
    np.testing.assert_allclose(schedules.diffusion(schedule, T), g_squared(T), ROUNDING)
    assert np.all(schedules.mean_drift(schedule, T) == 0)


@pytest.mark.parametrize("name", EQUATIONS)
def test_alpha_and_variance_solve_the_moment_equations_of_the_paper(name):
    f, g_squared = EQUATIONS[name]

    def moments(t, state):
        alpha, variance = state
        return [f(t) * alpha, 2 * f(t) * variance + g_squared(t)]

    times = np.array([0.05, 0.5, 0.9])
    solution = solve_ivp(moments, (0, 0.9), [1.0, 0.0], t_eval=times, rtol=1e-10, atol=1e-14)
    level = schedules.make(name).at(times)
    np.testing.assert_allclose(level.alpha, solution.y[0], INTEGRATION)
    np.testing.assert_allclose(level.sigma**2, solution.y[1], INTEGRATION)


def test_every_schedule_starts_at_the_data(schedule):
    level = schedule.at(0.0)
    assert (level.alpha, level.beta, level.sigma) == (1, 0, 0)
    assert level.log_snr == np.inf


def test_log_snr_falls_strictly(schedule):
    t = schedule.end_time * np.concatenate([[0], np.geomspace(1e-6, 1, 63)])
    assert np.all(np.diff(schedules.log_snr(schedule, t)) < 0)


def test_derivatives_are_limits_of_differences(schedule):
    # Central differences err by h^2 times a third derivative, here below 1e4 of the value, and by
    # rounding/h. Midpoints of table steps, so that no difference straddles two of them.
    t, h = schedule.end_time * (np.arange(100, 900, 50) + 0.5) / 1000, 1e-6
    right, left, level = schedule.at(t + h), schedule.at(t - h), schedule.at(t)
    for entry in ("alpha", "beta", "sigma"):
        difference = (getattr(right, entry) - getattr(left, entry)) / (2 * h)
        np.testing.assert_allclose(getattr(level, entry + "_dot"), difference, 1e-6, atol=1e-8)


def test_moment_equations_hold_for_every_schedule(schedule):
    t = schedule.end_time * np.linspace(0.0115, 0.9915, 50)
    level = schedule.at(t)
    f, h = schedules.drift_coefficient(schedule, t), schedules.mean_drift(schedule, t)
    np.testing.assert_allclose(f * level.alpha, level.alpha_dot, ROUNDING)
    np.testing.assert_allclose(f * level.beta + h, level.beta_dot, ROUNDING, atol=ROUNDING)
    grown = 2 * f * level.sigma**2 + schedules.diffusion(schedule, t)
    scale = np.abs(f) * level.sigma**2
    np.testing.assert_array_less(
        np.abs(grown - 2 * level.sigma * level.sigma_dot), ROUNDING * (1 + scale)
    )


def test_diffusion_is_finite_at_the_data_though_sigma_rises_like_a_root():
    assert schedules.VPLinear().at(0.0).sigma_dot == np.inf
    assert schedules.diffusion(schedules.VPLinear(), 0.0) == 0.1
    np.testing.assert_allclose(
        schedules.diffusion(schedules.VE(), 0.0), 2 * np.log(5000) * 1e-4, ROUNDING
    )


def test_sub_vp_has_less_noise_than_vp():
    assert np.all(schedules.SubVP().at(T).sigma < schedules.VPLinear().at(T).sigma)


def test_schedules_without_signal_at_the_end_say_so_exactly():
    for name in ("vp_cosine", "rectified_linear", "trigonometric"):
        for t in (1.0, jnp.float32(1.0)):
            assert schedules.make(name).at(t).alpha == 0
            assert schedules.log_snr(schedules.make(name), t) == -np.inf
            assert schedules.drift_coefficient(schedules.make(name), t) == -np.inf
            assert schedules.diffusion(schedules.make(name), t) == np.inf
            assert schedules.mean_drift(schedules.make(name), t) == 0


def test_mean_reverting_mean_solves_its_equation_and_tends_to_y():
    schedule = schedules.MeanReverting(schedules.VPLinear(), noise_scale=0.2)
    x0, y = 3.0, -1.0
    # dx = theta (y - x) dt + g dw with theta = rate/2 and g^2 = 2 noise_scale^2 theta.
    np.testing.assert_allclose(schedules.mean_drift(schedule, T), rate(T) / 2, ROUNDING)
    np.testing.assert_allclose(schedules.diffusion(schedule, T), 0.04 * rate(T), ROUNDING)
    solution = solve_ivp(
        lambda t, mean: rate(t) / 2 * (y - mean),
        (0, 1),
        [x0],
        t_eval=[0.3, 1.0],
        rtol=1e-10,
        atol=1e-12,
    )
    level = schedule.at(np.array([0.3, 1.0]))
    np.testing.assert_allclose(level.alpha * x0 + level.beta * y, solution.y[0], INTEGRATION)
    # exp(-B(1)/2) = 0.0066 of the distance is left.
    assert abs(solution.y[0, 1] - y) < 0.03
    np.testing.assert_allclose(level.sigma[1], 0.2, 1e-4)


def test_mean_reverting_reaches_y_on_a_base_that_loses_all_signal():
    level = schedules.MeanReverting(schedules.RectifiedLinear()).at(1.0)
    assert (level.alpha, level.beta, level.sigma) == (0, 1, 1)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("schedule", [schedules.MeanReverting(), schedules.discrete_linear()])
def test_marginal_velocity_is_the_time_derivative_of_marginal_sample(schedule):
    x0, eps = jax.random.normal(jax.random.key(0), (2, 5, 3), jnp.float64)
    t = schedule.end_time * jnp.linspace(0.1055, 0.8055, 5)

    def path(t):
        return schedules.marginal_sample(x0, eps, schedule.at(t, x0.ndim), y=0.7)

    _, velocity = jax.jvp(path, (t,), (jnp.ones_like(t),))
    given = schedules.marginal_velocity(x0, eps, schedule.at(t, x0.ndim), y=0.7)
    np.testing.assert_allclose(given, velocity, ROUNDING, atol=ROUNDING)


def test_a_mean_term_is_not_left_out_in_silence():
    x0 = np.zeros((4, 2), np.float32)
    level = schedules.MeanReverting().at(0.4)
    for function in (schedules.marginal_sample, schedules.marginal_velocity):
        with pytest.raises(PersonError, match=r"mean term .* give y to marginal"):
            function(x0, x0, level)


def test_data_that_would_round_the_level_are_refused():
    image, level = np.zeros((4, 2), np.uint8), schedules.VPLinear().at(0.4)
    for function in (schedules.marginal_sample, schedules.marginal_velocity):
        with pytest.raises(PersonError, match="x0 must be floating, not uint8"):
            function(image, image, level)


@pytest.mark.parametrize("base", [schedules.RectifiedLinear(), schedules.EDM()])
def test_mean_reverting_noise_is_as_smooth_at_the_data_as_that_of_its_base(base):
    level = schedules.MeanReverting(base, noise_scale=0.5).at(0.0)
    assert (level.sigma, level.sigma_dot) == (0.0, 0.5)
    assert schedules.MeanReverting(base).end_time == base.end_time


def test_marginal_sample_has_the_moments_of_the_noisy_law():
    schedule, n, y = schedules.MeanReverting(), 100_000, 2.0
    x0 = 3 + 0.5 * jax.random.normal(jax.random.key(1), (n,), jnp.float32)
    eps = jax.random.normal(jax.random.key(2), (n,), jnp.float32)
    level = schedule.at(0.2)
    x = np.asarray(schedules.marginal_sample(x0, eps, level, y), np.float64)
    mean = np.sqrt(decay(0.2)) * 3 + (1 - np.sqrt(decay(0.2))) * y
    variance = decay(0.2) * 0.25 + 1 - decay(0.2)
    # Five standard errors of a Gaussian sample's mean and variance.
    assert abs(x.mean() - mean) < 5 * np.sqrt(variance / n)
    assert abs(x.var() - variance) < 5 * variance * np.sqrt(2 / n)
