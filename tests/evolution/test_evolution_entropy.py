"""Rates of relative entropy: measured derivatives against the predicted parts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from evolution_by_hand import MIXTURE, OU, log_prob, normal, wrong_field

from dfx import evolution, fields, schedules

pytestmark = pytest.mark.usefixtures("x64")

GRID = evolution.make_grid(-7, 7, 400)
X = GRID.axis(0)[:, None]


def gaussian(variance, mean=0.0):
    """Weights on the grid, log-density and score of N(mean, variance)."""
    log_p = normal([mean], variance)(X)
    return jnp.exp(log_p), log_p, -(X - mean) / variance


def kl(mean_p, p, mean_q, q):
    return 0.5 * (p / q - 1 + jnp.log(q / p) + (mean_p - mean_q) ** 2 / q)


def test_relative_entropy_and_fisher_are_those_of_gaussians():
    (weights, log_p, score_p), (_, log_q, score_q) = gaussian(0.7), gaussian(1.1, 0.4)
    got = evolution.relative_entropy(weights, log_p, log_q)
    np.testing.assert_allclose(got, kl(0.0, 0.7, 0.4, 1.1), rtol=1e-10)
    fisher = 0.7 * (1 / 1.1 - 1 / 0.7) ** 2 + (0.4 / 1.1) ** 2
    got = evolution.relative_fisher(weights, score_p, score_q)
    np.testing.assert_allclose(got, fisher, rtol=1e-10)


def test_the_model_falls_behind_by_its_velocity_error():
    """p = N(0, V) exact, q = N(0, U), e = b x, forward in time: d KL(p | q) = -b (V / U - 1) dt."""
    (weights, _, score_p), (_, _, score_q) = gaussian(0.8), gaussian(0.5)
    got = evolution.relative_entropy_rate(weights, -0.3 * X, score_p, score_q)
    np.testing.assert_allclose(got, -0.3 * (0.8 / 0.5 - 1), rtol=1e-10)


def test_noising_is_the_gradient_flow_of_the_relative_entropy_to_its_invariant_law():
    """VP with beta = 2, data variance 0.3, t = 0.37: d KL / dt = -(beta/2) I = -0.167476."""
    level = schedules.VPLinear(2.0, 2.0).at(0.37)
    variance = 0.3 * level.alpha**2 + level.sigma**2
    (weights, _, score), (_, _, target) = gaussian(variance), gaussian(1.0)
    slope = evolution.gradient_flow_velocity(score, target)
    rate = evolution.relative_entropy_rate(weights, slope, score, target)
    fisher = evolution.relative_fisher(weights, score, target)
    np.testing.assert_allclose([rate, -fisher], [-0.167476, -0.167476], atol=1e-6)
    motion = evolution.forward(schedules.VPLinear(2.0, 2.0))
    velocity = evolution.current_velocity(
        motion.drift(X, jnp.array(0.37)), motion.diffusion(jnp.array(0.37)), score
    )
    np.testing.assert_allclose(velocity, slope, atol=1e-12)  # beta / 2 = 1


def test_the_parts_sum_to_the_derivative_of_two_gaussians_with_motions_of_their_own():
    """dm = c m + a, dV = 2 c V + 2 D for b = c x + a: the closed KL by jvp. All parts count."""
    p, q = (0.3, 0.8), (-0.2, 0.5)
    (c_p, a_p, d_p), (c_q, a_q, d_q) = (-0.7, 0.2, 0.4), (0.3, -0.1, 0.9)
    slopes = [
        slope
        for (m, v), (c, a, d) in zip((p, q), ((c_p, a_p, d_p), (c_q, a_q, d_q)))
        for slope in (c * m + a, 2 * c * v + 2 * d)
    ]
    expected = jax.jvp(kl, (*p, *q), tuple(slopes))[1]
    (weights, _, score_p), (_, _, score_q) = gaussian(p[1], p[0]), gaussian(q[1], q[0])
    gap = (c_p - c_q) * X + a_p - a_q
    got = evolution.relative_entropy_parts(weights, gap, score_p, score_q, d_p, d_q)
    np.testing.assert_allclose(got.total, expected, rtol=1e-9)
    velocities = gap - d_p * score_p + d_q * score_q
    rate = evolution.relative_entropy_rate(weights, velocities, score_p, score_q)
    np.testing.assert_allclose(rate, expected, rtol=1e-9)
    assert got.dissipation < 0
    same = evolution.relative_entropy_parts(weights, gap, score_p, score_q, d_p)
    np.testing.assert_allclose(same.total, got.drift + got.dissipation, rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("lam", [0.5, 1.0])
def test_a_sampler_leaves_the_exact_law_at_the_predicted_rate(lam):
    """p of the wrong score, q exact, noise to data: (1 + lam^2)/2 E_p[e . grad log(p/q)] g^2
    - lam^2 g^2 / 2 I(p | q). Central difference of KL over two steps, all of order 2 on the grid.
    """
    error, schedule, t, step = 0.5, OU(2.0), 0.6, 0.01
    times = np.arange(1.0, t - 2 * step, -step)
    keep = (39, 40, 41)
    motion = evolution.reverse(schedule, wrong_field(error), lam)
    exact = evolution.reverse(schedule, fields.oracle(MIXTURE), lam)
    top = schedule.at(1.0)
    start = evolution.on_grid(lambda x: log_prob(MIXTURE, x, top), GRID)
    laws = evolution.evolve(motion, GRID, start, times, keep=keep, method="patankar")
    values = [
        evolution.relative_entropy(
            p.ravel(), jnp.log(p), log_prob(MIXTURE, X, schedule.at(times[i]))
        )
        for p, i in zip(laws, keep)
    ]
    t = jnp.array(times[40])
    gap = exact.drift(X, t) - motion.drift(X, t)  # along falling times, so that b turns its sign
    score = evolution.score_on_grid(GRID, laws[1])
    score_q = MIXTURE.score(X, schedule.at(times[40]))
    parts = evolution.relative_entropy_parts(laws[1], gap, score, score_q, motion.diffusion(t))
    predicted = parts.total
    np.testing.assert_allclose((values[2] - values[0]) / (2 * step), predicted, rtol=1e-2)
    wrong = wrong_field(error)
    difference = fields.as_prediction(wrong, "score")(X, schedule.at(times[40])) - score_q
    np.testing.assert_allclose(gap, 0.5 * (1 + lam**2) * difference, atol=1e-9)


def test_the_entropy_balance_is_the_rate_of_entropy():
    """dH/dt = E div b + D E |score|^2; N(0, V): H = log(V)/2 + const, dV = 2 c V + 2 D."""
    weights, _, score = gaussian(0.7)
    got = evolution.entropy_production(weights, -0.9 * X, 0.4, score)
    np.testing.assert_allclose(got.entropy_rate, -0.9 + 0.4 / 0.7, rtol=1e-9)
    np.testing.assert_allclose(got.produced, 0.7 * (-0.9 + 0.4 / 0.7) ** 2 / 0.4, rtol=1e-9)
    balanced = evolution.entropy_production(weights, -0.4 / 0.7 * X, 0.4, score)
    np.testing.assert_allclose([balanced.produced, balanced.exported], 0, atol=1e-12)


def test_a_circulating_error_adds_nothing_to_the_rate_and_a_gradient_does():
    """div(p e) = 0 for e = A grad log p, A antisymmetric: E_p[e . grad h] = 0 for every h."""
    grid = evolution.make_grid([-8, -8], [8, 8], [80, 80])
    x = np.asarray(grid.centres())
    covariance = np.array([[0.5, 0.2], [0.2, 0.8]])
    weights, score = jnp.exp(normal([0, 0], covariance)(x)), -x @ np.linalg.inv(covariance)
    score_q = -(x - 0.3) - 0.4 * jnp.sin(x)
    turn = jnp.stack([-score[:, 1], score[:, 0]], -1)
    rate = evolution.relative_entropy_rate(weights, turn, score, score_q)
    np.testing.assert_allclose(rate, 0, atol=1e-9)
    assert abs(evolution.relative_entropy_rate(weights, score, score, score_q)) > 0.1


def test_points_without_weight_count_nothing():
    weights = jnp.array([1.0, 0.0])
    log_p, log_q = jnp.array([0.0, -jnp.inf]), jnp.array([-1.0, -2.0])
    assert evolution.relative_entropy(weights, log_p, log_q) == 1
    scores = jnp.array([[1.0], [jnp.inf]])
    assert evolution.relative_fisher(weights, scores, jnp.zeros((2, 1))) == 1
