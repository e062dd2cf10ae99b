"""DPM-Solver-v3: its degenerate cases, exactness on a normal law, orders, and its statistics."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from exponential_by_hand import FAR, NEAR, STEPS, errors_on_modes, flow, run
from solver_by_hand import SCHEDULES, check, grid_of, levels, starts

from dfx import schedules, solvers
from dfx.errors import PersonError
from dfx.solvers import ModelStatistics, dpm_multistep, dpm_solver_v3, model_statistics, unipc

pytestmark = [pytest.mark.usefixtures("x64"), pytest.mark.filterwarnings("error")]

VP = schedules.VPLinear()
TABLE = np.linspace(-4.0, 3.0, 141)
UNEVEN = np.sort(np.append(TABLE, TABLE[:70] + 0.02))


def gaussian_statistics(gaussian, schedule=VP, table=TABLE):
    """Closed forms: f = -l mean, so s = 0 and b = -l' mean; l' = -2 l (1 - l)."""
    level = schedule.at(schedules.t_of_log_snr(schedule, 2 * table)[:, None])
    gain = level.sigma**2 / gaussian.marginal_variance(level)
    return ModelStatistics(table, gain, 0 * gain, 2 * gain * (1 - gain) * gaussian.mean)


@functools.cache
def modes_statistics(field):
    x0 = np.sign(np.random.default_rng(1).normal(size=(128, 1)))
    return model_statistics(field, VP, x0, jax.random.key(0), TABLE)


def solve(grid, field, x, statistics, *options, schedule=VP):
    """The end; where the tableau has a constant term, with the ones it needs."""
    tableau = dpm_solver_v3(schedule, grid, statistics, *options)
    assert tableau.num_inputs == (statistics is not None and statistics.b is not None)
    return run(tableau, field, x, inputs=(np.ones_like(x),))


CONSTANTS = {
    "dpm_solver_pp": ModelStatistics(np.array([-9.0, 9.0]), np.ones(2), np.zeros(2)),
    "dpm_solver": ModelStatistics(np.array([-9.0, 9.0]), np.zeros(2), -np.ones(2)),
}


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("name", CONSTANTS)
def test_constant_statistics_give_dpm_solver(name, order, bent):
    """l = 1, s = 0 is the data form and l = 0, s = -1 the noise form, with "taylor"; the corrector
    is that of UniPC ("vary"). 1e-11: quadrature and the interpolation of the table."""
    data = name == "dpm_solver_pp"
    for schedule in SCHEDULES.values():
        for to_data in (True, False):
            grid = grid_of(schedule, 8, to_data)
            for corrector in (False, True):
                options = (order, corrector, to_data)
                got = solve(
                    grid, bent.numpy, starts(), CONSTANTS[name], *options, schedule=schedule
                )
                if corrector:
                    other = unipc(schedule, grid, order, "vary", data, True, to_data)
                else:
                    other = dpm_multistep(
                        schedule, grid, order, data, "taylor", lower_order_final=to_data
                    )
                check(got, run(other, bent.numpy, starts()), 1e-10)
                if data:
                    tableau = dpm_solver_v3(schedule, grid, None, *options)
                    check(run(tableau, bent.numpy, starts()), got, 1e-10)


@pytest.mark.parametrize("order", [1, 2])
def test_a_normal_law_is_solved_exactly_by_its_own_statistics(order, gaussian):
    """In 3 steps, up to the interpolation of the table: spacing^2 / 8 times a curvature below 1."""
    grid = schedules.t_of_log_snr(VP, 2 * np.linspace(-4, 3, 4))
    s, t, x = VP.at(grid[0]), VP.at(grid[-1]), starts(8, 2)
    end = solve(grid, gaussian, x, gaussian_statistics(gaussian, table=UNEVEN), order)
    error = np.max(np.abs(end - gaussian.flow(x, s, t)))
    ddim = run(solvers.ddim(VP, grid), gaussian, x)
    assert error < 0.05**2 and np.max(np.abs(ddim - gaussian.flow(x, s, t))) > 0.1


def first_order_by_hand(field, grid, statistics):
    """Zheng et al. 2023, the first-order step, by trapezoids on 2000 points a step."""
    at, x = levels(VP, grid), starts(6, 1)
    for s, t in itertools.pairwise(at):
        lam = np.linspace(s.half_log_snr, t.half_log_snr, 2001)
        at_l, at_s, at_b = (
            np.interp(lam, TABLE, np.ravel(a)) for a in (statistics.l, statistics.s, statistics.b)
        )
        big_l, big_s = rising(lam, at_l), rising(lam, at_s)
        big_b = rising(lam, np.exp(-big_s) * at_b)
        eps = (x - s.alpha * field(x, s)) / s.sigma
        f = (s.sigma * eps - at_l[0] * x) / s.alpha
        growth = np.exp(big_l + big_s)
        rest = rising(lam, growth)[-1] * f + rising(lam, growth * big_b)[-1]
        x = t.alpha * np.exp(-big_l[-1]) * (x / s.alpha - rest)
    return x


def rising(lam, values):
    parts = np.diff(lam) * (values[1:] + values[:-1]) / 2
    return np.concatenate([[0], np.cumsum(parts)])


def test_order_one_is_its_formula(modes):
    """1e-5: the integral of exp(-S) b is by trapezoids on the table, and not on 2000 points."""
    statistics = modes_statistics(modes)
    assert np.max(np.abs(statistics.s)) > 0.1 and np.max(np.abs(statistics.b)) > 1e-3
    grid = schedules.t_of_log_snr(VP, 2 * np.linspace(-3.9, 2.9, 7))
    got = solve(grid, modes, starts(6, 1), statistics, 1, False)
    check(got, first_order_by_hand(modes, grid, statistics), 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("corrector", [False, True])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_the_order_holds_whatever_the_statistics(order, corrector, modes, slope):
    """Smooth curves instead of statistics, right at high noise alone, where the first steps are of
    order 1; on so fine a table that its kinks do not show."""
    table = np.linspace(FAR, NEAR, 1601)
    signal = 1 / (1 + np.exp(-2 * table))
    statistics = ModelStatistics(table, 1 - 0.6 * signal, -0.3 * signal, 0.2 * signal)

    def end(schedule, grid):
        return dpm_solver_v3(schedule, grid, statistics, order, corrector)

    found = errors_on_modes(end, modes, ones=True)
    assert slope(STEPS, found) == pytest.approx(order + corrector, abs=0.3 if order < 3 else 0.5)


def test_fitted_statistics_have_smaller_errors_than_dpm_solver(modes, half_log_snr_grid):
    """At 20 steps and order 1, in the median."""
    exact = flow(modes, VP, starts(64, 1), -4.0, 3.0)
    grid, x = half_log_snr_grid(VP, 20), starts(64, 1)
    found = [
        np.median(np.abs(solve(grid, modes, x, statistics, 1, False) - exact))
        for statistics in (None, modes_statistics(modes))
    ]
    assert found[1] < found[0] / 2.5


def test_statistics_of_a_normal_law_are_their_closed_forms(gaussian):
    """The Jacobian is diagonal, so l is exact; b has the error of differences of l, 2nd order."""
    x0 = gaussian.mean + np.sqrt(gaussian.variance) * starts(16, 2)
    got = model_statistics(gaussian, VP, x0, jax.random.key(0), UNEVEN)
    expected = gaussian_statistics(gaussian, table=UNEVEN)
    check(got.l, expected.l, 1e-10)
    check(got.s, 0)
    np.testing.assert_allclose(got.b[1:-1], expected.b[1:-1], atol=0.05**2)


def test_signs_leave_the_diagonal_of_the_jacobian():
    """x0_hat = A x: mean over samples and signs of diag(z) J z; of the rest of J each sample has a
    sign of its own, so 4.5 standard errors."""
    matrix, n = np.array([[0.5, 0.3], [-0.2, 0.1]]), 500
    field = lambda x, level: x @ matrix.T  # noqa: E731
    table = np.linspace(-1.0, 1.0, 3)
    got = model_statistics(field, VP, starts(n, 2), jax.random.key(0), table)
    alpha = VP.at(schedules.t_of_log_snr(VP, 2 * table)).alpha[:, None]
    error = np.abs(got.l - (1 - alpha * np.diag(matrix)))
    assert np.all(error < 4.5 * alpha * np.abs([0.3, 0.2]) / np.sqrt(n))
    assert np.all(error > 0)


def test_statistics_are_the_regression_of_the_derivative_along_the_flow(modes):
    """f' by central differences of f along steps of RK4 in lambda, at one level (error 1e-5)."""
    statistics, i, d = modes_statistics(modes), 70, 1e-4
    x0 = np.sign(np.random.default_rng(1).normal(size=(128, 1)))
    keys = jax.random.split(jax.random.key(0))
    noise = np.asarray(jax.random.normal(keys[0], x0.shape, jnp.float64))
    time = lambda lam: schedules.t_of_log_snr(VP, 2 * lam)  # noqa: E731
    level = VP.at(time(TABLE[i]))
    x = level.alpha * x0 + level.sigma * noise

    def f(lam, x):
        level = VP.at(time(lam))
        eps = (x - level.alpha * modes(x, level)) / level.sigma
        return (level.sigma * eps - np.interp(lam, TABLE, statistics.l[:, 0]) * x) / level.alpha

    def moved(by):
        grid = np.array([time(TABLE[i]), time(TABLE[i] + by)])
        to = VP.at(grid[1])
        middle = VP.at(time(TABLE[i] + by / 2))
        half = middle.sigma / level.sigma * x
        half = half + (middle.alpha - middle.sigma / level.sigma * level.alpha) * modes(x, level)
        m = modes(half, middle)
        return to.sigma / level.sigma * x + (to.alpha - to.sigma / level.sigma * level.alpha) * m

    now = f(TABLE[i], x)
    dot = (f(TABLE[i] + d, moved(d)) - f(TABLE[i] - d, moved(-d))) / (2 * d)
    s, b = np.polyfit(now[:, 0], dot[:, 0], 1)
    np.testing.assert_allclose([statistics.s[i, 0], statistics.b[i, 0]], [s, b], atol=1e-3)


def test_lanes_and_ones(gaussian):
    """Order and corrector cost a lane each; a constant term costs the lane of its ones."""
    grid = schedules.t_of_log_snr(VP, 2 * np.linspace(-4, 3, 13))
    statistics = gaussian_statistics(gaussian)
    for order in (1, 2, 3):
        for corrector in (False, True):
            linear = dpm_solver_v3(VP, grid, statistics._replace(b=None), order, corrector)
            affine = dpm_solver_v3(VP, grid, statistics, order, corrector)
            assert (linear.lanes, linear.num_inputs, linear.num_rows) == (order + corrector, 0, 12)
            assert (affine.lanes, affine.num_inputs) == (order + corrector + 1, 1)
    mean = dpm_solver_v3(schedules.MeanReverting(VP), grid, statistics)
    assert mean.num_inputs == 2


def test_a_mean_term_comes_before_the_ones(gaussian):
    """A run on x - beta y without a mean term, y added wherever the field looks, is the same."""
    schedule, statistics = schedules.MeanReverting(VP), gaussian_statistics(gaussian)
    grid = schedules.t_of_log_snr(VP, 2 * np.linspace(-4, 3, 6))
    x, y = starts(4, 2), starts(4, 2, seed=5)
    inputs = (jnp.asarray(y), jnp.ones((4, 2)))
    tableau = dpm_solver_v3(schedule, grid, statistics)
    got = solvers.sample(tableau, gaussian, x, inputs=inputs)
    s, t = schedule.at(grid[0]), schedule.at(grid[-1])

    def shifted(x, level):
        return gaussian(x + (1 - level.alpha) * y, level)

    plain = dpm_solver_v3(VP, grid, statistics)
    end = solvers.sample(plain, shifted, x - s.beta * y, inputs=inputs[1:])
    check(got, end + t.beta * y)


@pytest.mark.slow
def test_a_traced_grid_gives_the_same_coefficients(gaussian):
    """Here the table is looked up by JAX."""
    statistics, grid = gaussian_statistics(gaussian), np.array([0.8, 0.5, 0.3, 0.0])
    host = dpm_solver_v3(VP, grid, statistics)
    traced = jax.jit(lambda grid: dpm_solver_v3(VP, grid, statistics))(jnp.asarray(grid))
    jax.tree.map(lambda a, b: check(b, a, 1e-9), host.phases[0].coef, traced.phases[0].coef)


BAD = [
    (dict(order=4), "order = 4: allowed are 1, 2, 3"),
    (dict(schedule=schedules.RectifiedLinear(), grid=[1.0, 0.1]), "needs alpha > 0.*t = 1 "),
    (dict(grid=[0.9, 1e-4]), r"half log-SNR -4.* to .*, but the statistics cover -4 to 3"),
    (dict(statistics=ModelStatistics(-TABLE, TABLE, TABLE)), "half_log_snr must rise"),
    (dict(grid=[0.1, 0.9]), "must decrease"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_bad_input_is_refused_with_one_line(options, message, gaussian):
    statistics = gaussian_statistics(gaussian)
    options = {"schedule": VP, "grid": [0.9, 0.1], "statistics": statistics} | options
    with pytest.raises(PersonError, match=message) as error:
        dpm_solver_v3(**options)
    assert "\n" not in str(error.value)


def test_statistics_refuse_a_mean_term_and_a_table_that_is_too_short(gaussian):
    key, x0 = jax.random.key(0), starts(4, 2)
    with pytest.raises(PersonError, match="without a mean term"):
        model_statistics(gaussian, schedules.MeanReverting(VP), x0, key, TABLE)
    with pytest.raises(PersonError, match="at least 3 entries"):
        model_statistics(gaussian, VP, x0, key, TABLE[:2])
