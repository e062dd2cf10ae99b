"""Fitted samplers: what the two fits must reach, and what no fit may break."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from solver_by_hand import run

from dfx import schedules, solvers
from dfx.errors import PersonError
from dfx.solvers import learned

pytestmark = pytest.mark.usefixtures("x64")

SCHEDULE = schedules.VPLinear()
OPEN = schedules.t_of_log_snr(SCHEDULE, 2 * np.linspace(-3, 2, 5))
GRIDS = {"to the data": np.append(OPEN[:-1], 0.0), "short of it": OPEN}
grids = pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)


def starts(seed, n=64):
    return np.random.default_rng(seed).normal(size=(n, 2))


def fine_path(field, grid, x, refine=40):
    """Points of the flow at the times of the grid, from Heun's method on a finer one."""
    points = [x]
    for s, t in itertools.pairwise(grid):
        # Equal steps of the square root of t: shorter ones where the data are near.
        fine = np.linspace(np.sqrt(s), np.sqrt(t), refine + 1) ** 2
        points.append(np.asarray(solvers.sample(solvers.heun(SCHEDULE, fine), field, points[-1])))
    return np.stack(points)


def by_loop(grid, corrections, field, x):
    """The formula of `multistep`, in the weights of all evaluations."""
    past = []
    for i, (s, t) in enumerate(itertools.pairwise(grid)):
        s, t = SCHEDULE.at(s), SCHEDULE.at(t)
        past.append(np.asarray(field(x, s)))
        weights = np.zeros(i + 1)
        weights[i] = 1 - np.sum(corrections[i])
        for j, e in enumerate(corrections[i]):
            weights[i - 1 - j] += e
        mean = sum(w * m for w, m in zip(weights, past))
        x = t.alpha * mean + t.sigma * (x - s.alpha * mean) / s.sigma
    return x


@grids
def test_multistep_is_its_formula(grid, bent):
    rng = np.random.default_rng(0)
    corrections = [rng.normal(size=min(i, 2)) for i in range(4)]
    x = starts(1, 3)
    found = solvers.sample(solvers.multistep(SCHEDULE, grid, corrections), bent.jax, x)
    # Rounding of about 30 operations.
    np.testing.assert_allclose(found, by_loop(grid, corrections, bent.numpy, x), rtol=1e-12)


@grids
def test_a_constant_denoiser_is_exact_whatever_was_learned(grid):
    x, data = starts(1, 3), np.array([0.3, -2.0])
    corrections = [np.full(i, 0.7 * i) for i in range(4)]
    tableau = solvers.multistep(SCHEDULE, grid, corrections)
    found = solvers.sample(tableau, lambda x, level: jnp.zeros_like(x) + data, x)
    s, t = SCHEDULE.at(grid[0]), SCHEDULE.at(grid[-1])
    np.testing.assert_allclose(found, t.alpha * data + t.sigma * (x - s.alpha * data) / s.sigma)


def test_second_order_is_the_two_step_formula(bent):
    """D = (1 + h / 2 h_old) m - h / (2 h_old) m_old (Lu et al. 2022, algorithm 2)."""
    lam = [SCHEDULE.at(t).half_log_snr for t in OPEN]
    rows = learned.second_order(SCHEDULE, OPEN, clean=False)
    expected = [-(lam[i + 1] - lam[i]) / (lam[i] - lam[i - 1]) / 2 for i in (1, 2, 3)]
    np.testing.assert_allclose(np.concatenate(rows), expected, rtol=1e-12)
    for grid in GRIDS.values():
        rows = learned.second_order(SCHEDULE, grid, clean=bool(grid[-1] == 0))
        ours, owner = (
            solvers.multistep(SCHEDULE, grid, rows),
            solvers.make("dpm_solver_pp_2m", SCHEDULE, grid),
        )
        found, known = (run(tableau, bent.numpy, starts(1, 3)) for tableau in (ours, owner))
        np.testing.assert_allclose(found, known, rtol=1e-12)  # rounding
    rows = learned.second_order(SCHEDULE, GRIDS["to the data"], clean=True)
    np.testing.assert_allclose(np.concatenate(rows), [*expected[:2], 0.0], rtol=1e-12)


def test_least_squares_is_exact_where_one_correction_can_be(gaussian):
    """On N(0, v I) estimates and points are multiples of x: one correction fits every step but the
    first, and also takes away the error of the first."""
    field = type(gaussian)(np.zeros(2), np.full(2, 0.4))
    x = starts(2)
    path = np.stack([field.flow(x, SCHEDULE.at(OPEN[0]), SCHEDULE.at(t)) for t in OPEN])
    fit = solvers.least_squares(SCHEDULE, OPEN, field, x, path, depth=1)
    assert fit.errors[0] > 1e-3
    assert max(fit.errors[1:]) < 1e-12
    assert [len(row) for row in fit.corrections] == [0, 1, 1, 1]
    others = starts(3)
    found = solvers.sample(fit.tableau, field, others)
    expected = field.flow(others, SCHEDULE.at(OPEN[0]), SCHEDULE.at(OPEN[-1]))
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_least_squares_leaves_a_residual_orthogonal_to_what_it_may_use(modes):
    """The normal equations of the last step, from the definition."""
    x = starts(2)
    path = fine_path(modes, OPEN, x)
    fit = solvers.least_squares(SCHEDULE, OPEN, modes, x, path)
    end = by_loop(OPEN, fit.corrections, modes, x)
    assert fit.errors[-1] == pytest.approx(
        np.sqrt(np.mean(np.sum((end - path[-1]) ** 2, axis=1))), rel=1e-9
    )
    shifted = [*fit.corrections[:-1], fit.corrections[-1] + np.array([1e-3, 0, 0])]
    slope = by_loop(OPEN, shifted, modes, x) - end
    residual = end - path[-1]
    assert abs(np.sum(slope * residual)) < 1e-8 * np.linalg.norm(slope) * np.linalg.norm(residual)


@grids
def test_at_a_rate_of_zero_a_descent_is_the_second_order_method(grid, modes):
    """What it reports is the root mean square of the distance to the last points of the path."""
    x = starts(2, 8)
    path = np.stack([x, x, x, x, 0.3 * x])
    fit = solvers.descend(SCHEDULE, grid, modes, x, path, depth=2, num_updates=1, learning_rate=0.0)
    assert [len(row) for row in fit.corrections] == [0, 1, 2, 2]
    np.testing.assert_allclose(fit.grid, grid, atol=1e-12)  # through logarithms and back
    clean = bool(grid[-1] == 0)
    plain = solvers.multistep(SCHEDULE, grid, learned.second_order(SCHEDULE, grid, clean))
    found, expected = (solvers.sample(t, modes, x) for t in (fit.tableau, plain))
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    distance = np.sqrt(np.mean(np.sum((expected - path[-1]) ** 2, axis=1)))
    np.testing.assert_allclose(fit.errors, [distance], rtol=1e-9)


def test_updates_go_down_the_slope_and_tell_the_loss_before_each():
    """On |n|^2 a step of rate 0.1 leaves 0.8 of n."""
    numbers, losses = learned._adam(lambda n: n @ n, jnp.array([3.0, 4.0]), optax.sgd(0.1), 3)
    np.testing.assert_allclose(numbers, 0.8**3 * np.array([3.0, 4.0]), rtol=1e-12)
    np.testing.assert_allclose(losses, 25 * 0.64 ** np.arange(3), rtol=1e-12)


def test_a_descent_in_float32_keeps_the_ends_it_was_given(modes):
    """0.1 in float32 is above 0.1, the end of the schedule."""
    grid, x = [0.1, 0.03, 0.0], np.ones((4, 2), np.float32)
    with jax.enable_x64(False):
        path = np.stack([x] * 3)
        fit = solvers.descend(schedules.EDM(0.1), grid, modes, x, path, num_updates=0)
    assert (fit.grid[0], fit.grid[-1]) == (0.1, 0.0)


def test_a_field_of_several_outputs_is_fitted_by_its_denoiser(modes):
    x = starts(2, 4)
    path = np.stack([x] * 5)
    several = lambda x, level: (modes(x, level), x)  # noqa: E731
    fit, known = (solvers.least_squares(SCHEDULE, OPEN, f, x, path) for f in (several, modes))
    np.testing.assert_array_equal(fit.errors, known.errors)


@pytest.mark.slow
@grids
def test_a_descent_lowers_the_error_on_starts_it_has_not_seen(grid, modes):
    x, others = starts(4), starts(5)
    path = fine_path(modes, grid, x)
    fit = solvers.descend(SCHEDULE, grid, modes, x, path, num_updates=300, learning_rate=0.02)
    assert fit.grid[0] == grid[0] and fit.grid[-1] == grid[-1]
    assert (np.diff(fit.grid) < 0).all()
    exact = fine_path(modes, grid, others)[-1]
    before = solvers.multistep(
        SCHEDULE, grid, learned.second_order(SCHEDULE, grid, bool(grid[-1] == 0))
    )
    error = [
        np.linalg.norm(solvers.sample(t, modes, others) - exact) for t in (before, fit.tableau)
    ]
    assert error[1] < error[0] / 2
    # What the fit reports is the root mean square of what it started from.
    ends = solvers.sample(before, modes, x) - path[-1]
    assert fit.errors[0] == pytest.approx(np.sqrt(np.mean(np.sum(ends**2, axis=1))), rel=1e-6)


@pytest.mark.parametrize("fit", [solvers.descend, solvers.least_squares])
def test_bad_requests_are_refused_in_one_line(fit, modes):
    x = starts(0, 4)
    path = np.stack([x] * 5)
    with pytest.raises(PersonError, match="depth = 0"):
        fit(SCHEDULE, OPEN, modes, x, path, depth=0)
    with pytest.raises(PersonError, match="at least 2"):
        fit(SCHEDULE, OPEN[:2], modes, x, path[:2])
    with pytest.raises(PersonError, match=r"shape \(4, 4, 2\): \(5, 4, 2\)"):
        fit(SCHEDULE, OPEN, modes, x, path[1:])
    with pytest.raises(PersonError, match="step i"):
        solvers.multistep(SCHEDULE, OPEN, [[1.0], [], [], []])
    line = schedules.RectifiedLinear()
    with pytest.raises(PersonError, match="alpha > 0"):
        solvers.descend(line, [1.0, 0.5, 0.0], modes, x, path[:3], num_updates=1)


def test_a_fitted_sampler_is_data_for_vmap(modes):
    x = starts(1, 8)
    path = fine_path(modes, OPEN, x)
    fits = [solvers.least_squares(SCHEDULE, OPEN, modes, starts(s, 8), path) for s in (1, 2)]
    stacked = solvers.stack([fit.tableau for fit in fits])
    found = jax.vmap(lambda tableau: solvers.sample(tableau, modes, x))(stacked)
    for i, fit in enumerate(fits):
        np.testing.assert_allclose(found[i], solvers.sample(fit.tableau, modes, x), rtol=1e-12)
