"""Adams methods in sigma and in time: weights by hand, degrees, measured orders, and equalities."""

import itertools

import numpy as np
import pytest
from solver_by_hand import (
    SCHEDULES,
    check,
    check_traced,
    errors,
    grid_of,
    lagging,
    levels,
    run,
    starts,
)

from dfx import schedules, solvers
from dfx.errors import PersonError
from dfx.solvers.adams import FIXED, sigma_weights

pytestmark = pytest.mark.usefixtures("x64")

#: How far a fitted order may lie from the stated one: the first steps of lower order show.
ORDER_TOLERANCE = 0.4

#: Rounding that grows on the way from sigma = 80; error of the quadrature in time by hand.
GROWN, QUADRATURE = 1e-10, 1e-9


def test_an_order_may_be_a_numpy_number():
    schedule = SCHEDULES["vp_linear"]
    tableau = solvers.lms(schedule, grid_of(schedule), order=np.int64(3))
    assert tableau.lanes == 3


def lagrange(nodes, j, u):
    others = [node for k, node in enumerate(nodes) if k != j]
    return np.prod([(u - o) / (nodes[j] - o) for o in others], axis=0) * np.ones_like(u)


def by_hand(field, schedule, grid, order, variable):
    """X_t = X_s + sum_j eps_j times the integral of l_j dS, l_j of Lagrange, by a fine rule."""
    z, rule = np.polynomial.legendre.leggauss(80)
    x, at, old, nodes = starts(), levels(schedule, grid), [], []
    for s, t in itertools.pairwise(at):
        x0 = field(x, s)
        if t.sigma == 0:
            return x0
        place = {"sigma": lambda level: level.sigma / level.alpha, "time": lambda level: level.t}
        start, end = place[variable](s), place[variable](t)
        old, nodes = [(x - s.alpha * x0) / s.sigma, *old][:order], [start, *nodes][:order]
        u = (start + end) / 2 + (end - start) / 2 * z
        speed = 1.0  # dS / du
        if variable == "time":
            inner = schedule.at(u)
            speed = inner.sigma_dot * inner.alpha - inner.sigma * inner.alpha_dot
            speed = speed / inner.alpha**2
        length = (end - start) / 2 * rule
        weights = [np.sum(length * speed * lagrange(nodes, j, u)) for j in range(len(nodes))]
        x = t.alpha * (x / s.alpha + sum(w * e for w, e in zip(weights, old)))
    return x


@pytest.mark.parametrize("to_data", [True, False])
@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_lms_integrates_the_lagrange_polynomial_in_sigma(schedule, order, to_data, bent):
    schedule = SCHEDULES[schedule]
    grid = grid_of(schedule, to_data=to_data)
    expected = by_hand(bent.numpy, schedule, grid, order, "sigma")
    tableau = solvers.lms(schedule, grid, order)
    check(run(tableau, bent.numpy, starts()), expected, GROWN)
    assert tableau.num_rows == 11


@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("schedule", ["vp_linear", "edm", "rectified_linear"])
def test_tab_integrates_the_lagrange_polynomial_in_time(schedule, order, bent):
    schedule = SCHEDULES[schedule]
    grid = grid_of(schedule)
    expected = by_hand(bent.numpy, schedule, grid, order, "time")
    check(run(solvers.deis_tab(schedule, grid, order), bent.numpy, starts()), expected, QUADRATURE)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_the_weights_integrate_polynomials_below_their_number(count):
    """Of degree `count` - 1 exactly, of degree `count` not; on equal steps they are the fixed."""
    places, end = list(np.cumsum(np.random.default_rng(count).uniform(0.1, 1, count))[::-1]), 0.03
    weights = sigma_weights(places, end)
    for degree in range(count + 1):
        found = sum(w * p**degree for w, p in zip(weights, places))
        exact = (end ** (degree + 1) - places[0] ** (degree + 1)) / (degree + 1)
        assert (abs(found - exact) < 1e-12) == (degree < count)
    equal = sigma_weights([0.5 + 0.1 * j for j in range(count)], 0.4)
    check(np.divide(equal, -0.1), FIXED[count])


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_constant_noise_estimate_is_integrated_exactly_in_time(schedule):
    """X moves by eps times the change of sigma / alpha, also where the schedule has kinks."""
    schedule = SCHEDULES[schedule]
    eps = np.array([0.3, -2.0, 1.0])
    grid = grid_of(schedule, to_data=False)
    field = lambda x, level: (x - level.sigma * eps) / level.alpha  # noqa: E731
    s, t = schedule.at(grid[0]), schedule.at(grid[-1])
    expected = t.alpha * (starts() / s.alpha + (t.sigma / t.alpha - s.sigma / s.alpha) * eps)
    check(run(solvers.deis_tab(schedule, grid), field, starts()), expected, GROWN)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("name", ["lms", "deis_tab"])
def test_the_error_falls_with_the_stated_order(name, order, gaussian, half_log_snr_grid, slope):
    """Half log-SNR from -4, where the first steps are harmless, to 3: uneven in both variables."""
    steps = [40, 80, 160]
    build = solvers.REGISTRY[name].build
    found = errors(build, schedules.VPLinear(), half_log_snr_grid, gaussian, steps, order=order)
    assert abs(slope(steps, found) - order) < ORDER_TOLERANCE


def test_first_steps_of_low_order_cap_the_order_where_they_are_large(gaussian, slope):
    """Started at half log-SNR -1 the single step of order 1 leaves an error of second order."""
    steps = [80, 160, 320]
    grid = lambda schedule, n: schedules.t_of_log_snr(  # noqa: E731
        schedule, 2 * np.linspace(-1, 3, n + 1)
    )
    found = errors(solvers.lms, schedules.VPLinear(), grid, gaussian, steps)
    assert abs(slope(steps, found) - 2) < ORDER_TOLERANCE


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_order_one_is_ddim_in_either_variable(schedule, bent):
    schedule = SCHEDULES[schedule]
    grid = grid_of(schedule)
    ddim = run(solvers.ddim(schedule, grid), bent.numpy, starts())
    for build in (solvers.lms, solvers.deis_tab):
        check(run(build(schedule, grid, order=1), bent.numpy, starts()), ddim, GROWN)


def test_where_time_is_sigma_the_two_variables_are_one(bent):
    schedule = SCHEDULES["edm"]
    grid = grid_of(schedule)
    lms = run(solvers.make("deis_rhoab", schedule, grid), bent.numpy, starts())
    check(run(solvers.deis_tab(schedule, grid), bent.numpy, starts()), lms, GROWN)


def test_tab_may_start_from_pure_noise(modes):
    """The first step is DDIM's, and the limit of steps from just below t = 1."""
    schedule, grid = schedules.RectifiedLinear(), np.linspace(1.0, 0.1, 8)
    near = grid.copy()
    near[0] = 1 - 1e-8
    at = [run(solvers.deis_tab(schedule, g), modes, starts()) for g in (grid, near)]
    np.testing.assert_allclose(*at, atol=1e-6)  # a hundred times the shift


@pytest.mark.parametrize("name", ["lms", "deis_tab"])
def test_each_token_is_solved_as_by_its_own_run(name, modes):
    """Tokens lag by two rows each; one that waits has no history, and starts with order 1."""
    schedule = schedules.VPLinear()
    grid, base = lagging(schedule)
    x = np.random.default_rng(0).normal(size=(4, 3, 2))
    together = run(solvers.make(name, schedule, grid), modes, x)
    for token in range(3):
        own = run(solvers.make(name, schedule, base), modes, x[:, token])
        check(together[:, token], own)


@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("name", ["lms", "deis_tab", "deis_rhoab"])
def test_there_are_as_many_lanes_as_the_order(name, order):
    """A change here is for review: fewer is welcome, more is a loss of memory and speed."""
    grid = np.linspace(0.95, 0.05, 25)
    assert solvers.make(name, schedules.VPLinear(), grid, order=order).lanes == order


@pytest.mark.parametrize("name", ["lms", "deis_tab"])
def test_a_traced_grid_gives_the_same_coefficients_and_their_derivatives(name):
    check_traced(lambda grid: solvers.make(name, schedules.RectifiedLinear(), grid))


LINEAR = schedules.RectifiedLinear()
BAD = [
    (dict(order=0), "order = 0: must be a whole number from 1 to 5"),
    (dict(order=6), "order = 6"),
    (dict(order=2.0), "order = 2.0"),
    (dict(oder=2), "did you mean 'order'"),
    (dict(name="lms", schedule=LINEAR, grid=[1.0, 0.5]), "sigma / alpha below 1e.06"),
    (dict(grid=[0.5, 0.9]), "must decrease"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_bad_input_is_refused_with_one_line(options, message):
    options = {"name": "deis_tab", "schedule": schedules.VPLinear(), "grid": [0.9, 0.0]} | options
    with pytest.raises(PersonError, match=message) as error:
        solvers.make(**options)
    assert "\n" not in str(error.value)
