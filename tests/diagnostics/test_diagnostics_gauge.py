"""Gauge fields satisfy the condition and carry the law; harmful errors of the same size do not."""

import dataclasses

import diagnostics_laws as law
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dfx import diagnostics, fields, schedules, solvers
from dfx.errors import PersonError
from dfx.pytree import pytree
from dfx.targets import Mixture

pytestmark = pytest.mark.usefixtures("x64")

VP = schedules.VPLinear(0.5, 4.0)
LEVEL = VP.at(0.4)
TURN = np.array([[0.0, 1.3], [-1.3, 0.0]])
SCORE = diagnostics.prediction_at(law.field, LEVEL)


def matrix(x, level):
    """W of shape (n, 2, 2), of which the antisymmetric part is what counts."""
    a, b = x[:, 0], x[:, 1]
    rows = [jnp.sin(a), jnp.exp(-(b**2)) * a, level.alpha * a * b, jnp.cos(b)]
    return jnp.stack(rows, 1).reshape(-1, 2, 2)


GAUGES = {
    "rotated": diagnostics.rotated(law.field, TURN),
    "matrix": diagnostics.matrix_gauge(law.field, matrix),
}
HARMFUL = diagnostics.gradient_of(
    lambda x, level: jnp.sin(x[:, 0]) * x[:, 1] + level.alpha * x[:, 0]
)


@jax.jit
def call(error, x):
    return error(x, LEVEL)


def residual(error, x):
    return diagnostics.gauge_residual(lambda x: error(x, LEVEL), SCORE, x)


@pytest.mark.parametrize("name", GAUGES)
def test_gauge_fields_have_no_weighted_divergence(name):
    x = law.points()
    found = residual(GAUGES[name], x)
    np.testing.assert_allclose(found.weighted, 0, atol=1e-12)
    assert np.abs(call(GAUGES[name], x)).min() > 1e-2
    both = np.abs(found.divergence).max(), np.abs(found.along_score).max()
    # A constant matrix satisfies the pair of stronger conditions, a matrix field does not.
    assert max(both) < 1e-12 if name == "rotated" else min(both) > 1e-2


def test_the_gauge_field_of_a_matrix_field_is_its_formula():
    """A = W_12 - W_21 over 2 in the corner: r = (d_2 a, -d_1 a) + a (s_2, -s_1)."""
    x = law.points()
    corner = lambda x: 0.5 * (matrix(x, LEVEL)[:, 0, 1] - matrix(x, LEVEL)[:, 1, 0])  # noqa: E731
    slope, s, a = jax.grad(lambda x: corner(x).sum())(x), SCORE(x), corner(x)[:, None]
    expected = jnp.stack([slope[:, 1], -slope[:, 0]], 1) + a * jnp.stack([s[:, 1], -s[:, 0]], 1)
    found = call(GAUGES["matrix"], x)
    np.testing.assert_allclose(found, expected, rtol=1e-11)
    # Of a constant matrix A s: for [[0, w], [-w, 0]] it is w (s_2, -s_1).
    turned = 1.3 * jnp.stack([s[:, 1], -s[:, 0]], 1)
    np.testing.assert_allclose(call(GAUGES["rotated"], x), turned, rtol=1e-11)


def test_a_gradient_violates_the_condition_by_its_own_size():
    """-E_p[u R_w] = E_p|grad u|^2, 20,000 draws: within 3.5 standard errors."""
    x = law.samples(LEVEL, 20_000)
    gap = -HARMFUL.potential(x, LEVEL) * residual(HARMFUL, x).weighted
    gap = np.asarray(gap - jnp.sum(HARMFUL(x, LEVEL) ** 2, 1))
    assert abs(gap.mean()) < 3.5 * gap.std() / np.sqrt(len(gap))
    assert diagnostics.mean_square(HARMFUL, x, LEVEL) > 0.3


def test_a_static_rotation_is_no_gauge_field_of_another_law():
    """Divergence-free, and yet div(p r) is not zero: the weight matters."""
    found = residual(lambda x, level: x @ TURN.T, law.points())
    np.testing.assert_allclose(found.divergence, 0, atol=1e-14)
    assert np.abs(found.weighted).max() > 0.1


def test_the_estimate_is_unbiased():
    x = jnp.broadcast_to(law.points(1), (4000, 2))
    exact = residual(HARMFUL, x[:1]).weighted[0]
    r = lambda x: HARMFUL(x, LEVEL)  # noqa: E731
    found = np.asarray(diagnostics.gauge_residual(r, SCORE, x, jax.random.key(0)).weighted)
    assert found.std() > 0.1
    assert abs(found.mean() - exact) < 3.5 * found.std() / np.sqrt(4000)


@pytest.mark.parametrize("schedule", [VP, schedules.EDM(80.0)])
def test_the_error_is_what_the_score_of_the_field_is_off_by(schedule):
    level, x = schedule.at(0.4), law.points()
    wrong = diagnostics.with_error(law.field, HARMFUL, lambda level: 1 + level.t)
    found = diagnostics.score_error(wrong, law.field, level)(x)
    np.testing.assert_allclose(found, 1.4 * HARMFUL(x, level), rtol=1e-11)


def test_where_no_signal_is_left_the_field_stays_as_it_is():
    level = schedules.RectifiedLinear().at(1.0)
    field = lambda x, level: 0.5 * x  # noqa: E731
    wrong = diagnostics.with_error(field, lambda x, level: x)
    np.testing.assert_array_equal(wrong(law.points(), level), 0.5 * law.points())


def test_equal_norm_holds_at_every_time_of_the_table():
    """On the draws that the table was made from, to rounding; between the times, interpolated."""
    times = np.array([0.2, 0.4])
    samples = [law.samples(VP.at(t), 500) for t in times]
    gauge, harmful = GAUGES["rotated"], HARMFUL
    weight = diagnostics.equal_norm(harmful, gauge, VP, times, samples)
    for t, x in zip(times, samples):
        level = VP.at(t)
        size = diagnostics.mean_square(gauge, x, level)
        scaled = weight(level) ** 2 * diagnostics.mean_square(harmful, x, level)
        np.testing.assert_allclose(scaled, size, rtol=1e-12)
        # In two dimensions |A s| = |a| |s|.
        squares = np.sum(np.asarray(law.score(x, level)) ** 2, 1)
        np.testing.assert_allclose(size, 1.3**2 * squares.mean(), rtol=1e-11)
    middle = 0.5 * (weight.values[0] + weight.values[1])
    np.testing.assert_allclose(weight(VP.at(0.3)), middle, rtol=1e-12)


@pytest.mark.parametrize(("steps", "inflation"), [(10, 3.05), (50, 1.28), (100, 1.13)])
def test_euler_steps_pay_for_the_rotation(steps, inflation):
    """A rotation of angular speed 5 on N(0, I): Euler multiplies radii by (1 + 25 h^2)^(1 / (2 h)).

    Under VP with b = 2 the law N(0, I) rests, and r = 5 A s turns it with the speed (b / 2) 5.
    """
    schedule = schedules.VPLinear(2.0, 2.0)
    exact = fields.oracle(Mixture.gaussian([0.0, 0.0], 1.0))
    turning = diagnostics.with_error(
        exact, diagnostics.rotated(exact, np.array([[0.0, 5.0], [-5.0, 0.0]]))
    )
    x = law.points()
    tableau = solvers.euler(schedule, np.linspace(1, 0, steps + 1), "time")
    end = solvers.sample(tableau, turning, x)
    growth = np.linalg.norm(end, axis=1) / np.linalg.norm(x, axis=1)
    h = 1 / steps
    np.testing.assert_allclose(growth, (1 + 25 * h**2) ** (1 / (2 * h)), rtol=1e-9)
    np.testing.assert_allclose(growth, inflation, atol=0.006)  # as printed


@pytest.mark.slow
def test_the_flow_of_a_gauge_error_keeps_the_law_and_that_of_a_gradient_does_not():
    """A normal law, errors A s and 0.5 s: covariances of the end by 400 steps of order 4.

    The flow is linear, so the end of the unit vectors is its matrix.
    """
    schedule, grid = VP, np.linspace(0.9, 0.1, 401)
    target = Mixture.gaussian([0.0, 0.0], np.array([[0.8, 0.3], [0.3, 0.4]]))
    exact = fields.oracle(target)
    start, end = (
        level.alpha**2 * target.covariance() + level.sigma**2 * np.eye(2)
        for level in (schedule.at(grid[0]), schedule.at(grid[-1]))
    )
    tableau = solvers.make("flow_rk4", schedule, grid)
    scores = fields.as_prediction(exact, "score")
    for error, kept in ((diagnostics.rotated(exact, TURN), True), (scores, False)):
        wrong = diagnostics.with_error(exact, error, 0.5)
        flow = np.asarray(solvers.sample(tableau, wrong, jnp.eye(2))).T
        gap = np.abs(flow @ start @ flow.T - end).max()
        assert gap < 1e-7 if kept else gap > 0.1  # order 4 with steps of 0.002


class Conditioned:
    """Pulls each sample to a point of its own."""

    @staticmethod
    def apply(params, x, t, cond=None):
        return 0.5 * x if cond is None else 0.5 * (x + cond[:, None])


def test_errors_of_what_is_held_for_each_sample_are_sampled_as_without_blocks():
    """4,000 samples, the number from which blocks of 1,000 are the default."""
    each = jnp.linspace(-1, 1, 4000)
    net = fields.from_net(Conditioned, {}, "x0", cond=each)
    own = lambda x, level: matrix(x, level) * each[:, None, None]  # noqa: E731
    exact, x = fields.oracle(Mixture.gaussian([0.3, 0.0], 0.5)), law.points(4000)
    tableau = solvers.euler(VP, np.linspace(0.9, 0.1, 5))
    for error in (
        diagnostics.rotated(net, TURN),
        diagnostics.matrix_gauge(exact, own),
        diagnostics.gradient_of(lambda x, level: each * jnp.sin(x[:, 0])),
    ):
        wrong = diagnostics.with_error(exact, error, 0.5)
        end = solvers.sample(tableau, wrong, x)
        np.testing.assert_array_equal(end, solvers.sample(tableau, wrong, x, block=0))


def test_errors_of_fields_that_take_each_sample_by_itself_may_run_in_blocks():
    @pytree
    @dataclasses.dataclass(frozen=True)
    class Alone:
        pointwise = True

    exact = fields.oracle(Mixture.gaussian([0.3, 0.0], 0.5))
    alone, plain = Alone(), lambda x, level: x
    for marked, error in (
        (True, diagnostics.rotated(exact, TURN)),
        (False, diagnostics.rotated(plain, TURN)),
        (True, diagnostics.matrix_gauge(exact, alone)),
        (False, diagnostics.matrix_gauge(exact, plain)),
        (False, diagnostics.matrix_gauge(plain, alone)),
        (True, diagnostics.gradient_of(alone)),
        (False, diagnostics.gradient_of(plain)),
    ):
        assert error.pointwise == marked
        assert diagnostics.with_error(exact, error).pointwise == marked


def test_float32_stays_float32():
    x = law.points().astype(jnp.float32)
    wrong = diagnostics.with_error(law.field, GAUGES["rotated"])
    assert call(wrong, x).dtype == jnp.float32
    np.testing.assert_allclose(call(wrong, x), call(wrong, x.astype(float)), rtol=1e-5, atol=1e-5)


def test_mistakes_are_refused():
    with pytest.raises(PersonError, match="square and antisymmetric"):
        diagnostics.rotated(law.field, np.eye(2))
    with pytest.raises(PersonError, match="gives shape"):
        diagnostics.gauge_field(lambda x: x, SCORE, law.points())
    with pytest.raises(PersonError, match="times rising"):
        diagnostics.equal_norm(HARMFUL, HARMFUL, VP, [0.4, 0.2], [law.points()] * 2)
    with pytest.raises(PersonError, match="at least 1 probe"):
        diagnostics.gauge_residual(jnp.sin, SCORE, law.points(), jax.random.key(0), 0)
