"""Runge-Kutta methods: order conditions, formulas by hand, measured orders, and equalities."""

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
from dfx.solvers import METHODS, Butcher, runge_kutta

pytestmark = pytest.mark.usefixtures("x64")

#: How far a fitted order may lie from the stated one; the next term of the error makes the
#: difference.
ORDER_TOLERANCE = 0.15

#: Error of the time at which a stage is put, found by a root in the log-SNR; rounding that grows on
#: the way from sigma = 80.
TIMES = 1e-10

NAMED = {
    "rho_heun": ("heun2", "sigma"),
    "rho_kutta3": ("kutta3", "sigma"),
    "rho_heun3": ("heun3", "sigma"),
    "rho_ralston3": ("ralston3", "sigma"),
    "rho_vdh3": ("van_der_houwen3", "sigma"),
    "rho_ssprk3": ("ssprk3", "sigma"),
    "rho_rk4": ("rk4", "sigma"),
    "flow_euler": ("euler", "time"),
    "flow_midpoint": ("midpoint", "time"),
    "flow_heun": ("heun2", "time"),
    "flow_rk4": ("rk4", "time"),
    "flow_kutta38": ("kutta38", "time"),
}


@pytest.mark.parametrize("name", METHODS)
def test_a_method_meets_the_order_conditions_of_its_order(name):
    """Butcher's conditions of orders 1 to 4, and the failure of one of the next order."""
    method = METHODS[name]
    stages = len(method.b)
    a, b, c = np.zeros((stages, stages)), np.array(method.b), np.array(method.c)
    for i, row in enumerate(method.a):
        a[i, :i] = row
    defects = {
        1: [b.sum() - 1],
        2: [b @ c - 1 / 2],
        3: [b @ c**2 - 1 / 3, b @ a @ c - 1 / 6],
        4: [b @ c**3 - 1 / 4, b @ (c * (a @ c)) - 1 / 8, b @ a @ c**2 - 1 / 12,
            b @ a @ a @ c - 1 / 24],
        5: [b @ c**4 - 1 / 5],
    }  # fmt: skip
    order = {"euler": 1, "midpoint": 2, "rk4": 4, "kutta38": 4}.get(name) or int(name[-1])
    for k in range(1, order + 1):
        np.testing.assert_allclose(defects[k], 0, atol=1e-15)
    assert np.max(np.abs(defects[order + 1])) > 1e-3


def by_hand(field, schedule, grid, name, variable):
    """Any Butcher tableau for dX/dS = f, X and S read off the source; the last step is Euler's."""
    a, b = METHODS[name]
    c = [0, *(sum(row) for row in a[1:])]
    at = levels(schedule, grid)
    x = starts()
    for s, t in itertools.pairwise(at):
        if t.sigma == 0:
            return field(x, s)

        def slope(moved, place, s=s, t=t):
            if variable == "time":
                level = schedule.at(place)
                x0 = field(moved, level)
                eps = (moved - level.alpha * x0) / level.sigma
                return level.alpha_dot * x0 + level.sigma_dot * eps
            ends = {s.sigma / s.alpha: s, t.sigma / t.alpha: t}
            if place in ends:
                level = ends[place]
            else:
                level = schedule.at(schedules.t_of_log_snr(schedule, -2 * np.log(place)))
            return (moved - field(level.alpha * moved, level)) / place

        big_x, start, end = x, s.t, t.t
        if variable == "sigma":
            big_x, start, end = x / s.alpha, s.sigma / s.alpha, t.sigma / t.alpha
        k = []
        for row, place in zip(a, c):
            here = end if place == 1 else start + place * (end - start)
            k.append(slope(big_x + (end - start) * sum(w * d for w, d in zip(row, k)), here))
        big_x = big_x + (end - start) * sum(w * d for w, d in zip(b, k))
        x = t.alpha * big_x if variable == "sigma" else big_x
    return x


@pytest.mark.parametrize("to_data", [True, False])
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", NAMED)
def test_a_method_is_its_tableau_in_its_variable(name, schedule, to_data, bent):
    schedule = SCHEDULES[schedule]
    method, variable = NAMED[name]
    grid = grid_of(schedule, 6, to_data)
    expected = by_hand(bent.numpy, schedule, grid, method, variable)
    tableau = solvers.make(name, schedule, grid)
    check(run(tableau, bent.numpy, starts()), expected, TIMES)
    stages = len(METHODS[method].b)
    assert solvers.REGISTRY[name].evaluations == stages
    assert tableau.num_rows == (5 * stages + 1 if to_data else 6 * stages)


@pytest.mark.parametrize("name", sorted({*NAMED, "kdpm2"} - {"flow_midpoint"}))
def test_the_error_falls_with_the_stated_order(name, gaussian, half_log_snr_grid, slope):
    """In sigma half log-SNR from -4 to 3; in time from 0.95 to 0.2 of the linear path."""
    schedule, grid = schedules.VPLinear(), half_log_snr_grid
    if name.startswith("flow"):
        schedule = schedules.RectifiedLinear()
        grid = lambda schedule, n: np.linspace(0.95, 0.2, n + 1)  # noqa: E731
    solver, steps = solvers.REGISTRY[name], [40, 80, 160]
    found = errors(solver.build, schedule, grid, gaussian, steps)
    assert abs(slope(steps, found) - solver.order) < ORDER_TOLERANCE


def test_the_midpoint_method_has_order_two_off_gaussians(slope):
    """On a Gaussian it has order 3; so on two modes, against RK4 with 320 steps (error 1e-9)."""
    schedule, ends = schedules.RectifiedLinear(), {}
    field = lambda x, at: np.tanh(at.alpha * x / (at.sigma**2 + 0.1))  # noqa: E731
    for name, n in [("flow_rk4", 320), *(("flow_midpoint", n) for n in (20, 40, 80))]:
        tableau = solvers.make(name, schedule, np.linspace(0.95, 0.2, n + 1))
        ends[n] = run(tableau, field, starts())
    exact = ends.pop(320)
    found = [np.abs(end - exact).mean() for end in ends.values()]
    assert abs(slope(list(ends), found) - 2) < ORDER_TOLERANCE


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_kdpm2_is_dpm_solver_2s_with_its_middle_at_one_half(schedule, bent):
    """Lu et al. 2022, algorithm 1, in lambda and the eps form."""
    schedule = SCHEDULES[schedule]
    grid = grid_of(schedule, to_data=False)
    at, x = levels(schedule, grid), starts()

    def eps(x, level):
        return (x - level.alpha * bent.numpy(x, level)) / level.sigma

    for s, t in itertools.pairwise(at):
        lam_s, lam_t = (np.log(level.alpha / level.sigma) for level in (s, t))
        h = lam_t - lam_s
        m = schedule.at(schedules.t_of_log_snr(schedule, 2 * (lam_s + h / 2)))
        u = m.alpha / s.alpha * x - m.sigma * np.expm1(h / 2) * eps(x, s)
        x = t.alpha / s.alpha * x - t.sigma * np.expm1(h) * eps(u, m)
    check(run(solvers.kdpm2(schedule, grid), bent.numpy, starts()), x, TIMES)


def test_rho_heun_is_the_edm_sampler_without_churn(bent):
    for schedule in SCHEDULES.values():
        grid = grid_of(schedule)
        one = run(solvers.make("rho_heun", schedule, grid), bent.numpy, starts())
        check(one, run(solvers.heun(schedule, grid), bent.numpy, starts()), TIMES)


def test_flow_euler_is_ddim_on_the_linear_path_also_from_pure_noise(bent):
    schedule, grid = schedules.RectifiedLinear(), np.linspace(1, 0, 8) ** 2
    one = run(solvers.make("flow_euler", schedule, grid), bent.numpy, starts())
    check(one, run(solvers.ddim(schedule, grid), bent.numpy, starts()))


def test_flow_methods_add_steps_of_the_velocity_from_pure_noise(modes):
    """Textbook midpoint and RK4 for u = (x - x0_hat) / t, from t = 1."""
    schedule, grid = schedules.RectifiedLinear(), np.linspace(1, 0.1, 6)

    def u(x, t):
        return (x - modes(x, schedule.at(t))) / t

    x = y = starts()
    for s, t in itertools.pairwise(grid):
        h, m = t - s, (s + t) / 2
        x = x + h * u(x + h / 2 * u(x, s), m)
        k1 = u(y, s)
        k2 = u(y + h / 2 * k1, m)
        k3 = u(y + h / 2 * k2, m)
        y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + u(y + h * k3, t))
    check(run(solvers.make("flow_midpoint", schedule, grid), modes, starts()), x)
    check(run(solvers.make("flow_rk4", schedule, grid), modes, starts()), y)


def test_a_tableau_of_ones_own_is_a_method(bent):
    schedule = schedules.VPLinear()
    grid = grid_of(schedule)
    own = Butcher(((), (1 / 2,)), (0, 1))
    one = run(runge_kutta(schedule, grid, own), bent.numpy, starts())
    check(one, run(runge_kutta(schedule, grid, "midpoint"), bent.numpy, starts()))


@pytest.mark.parametrize("name", ["rho_kutta3", "rho_rk4", "flow_rk4", "kdpm2"])
def test_each_token_is_solved_as_by_its_own_run(name, modes):
    """Tokens lag by two rows each, so they wait, move and stand still, at a small sigma."""
    schedule = schedules.VPLinear()
    grid, base = lagging(schedule)
    x = np.random.default_rng(0).normal(size=(4, 3, 2))
    together = run(solvers.make(name, schedule, grid), modes, x)
    for token in range(3):
        own = run(solvers.make(name, schedule, base), modes, x[:, token])
        check(together[:, token], own, TIMES)


#: Solver -> (lanes, phases, rows) of 12 steps that stop at noise.
LANES = {
    "kdpm2": (2, 2, 24),
    "rho_heun": (2, 2, 24),
    "rho_kutta3": (3, 3, 36),
    "rho_heun3": (3, 3, 36),
    "rho_ralston3": (3, 3, 36),
    "rho_vdh3": (3, 3, 36),
    "rho_ssprk3": (3, 3, 36),
    "rho_rk4": (3, 4, 48),
    "flow_euler": (1, 1, 12),
    "flow_midpoint": (2, 2, 24),
    "flow_heun": (2, 2, 24),
    "flow_rk4": (3, 4, 48),
    "flow_kutta38": (4, 4, 48),
}


@pytest.mark.parametrize("name", LANES)
def test_known_solvers_need_the_lanes_that_are_known(name):
    """A change here is for review: fewer is welcome, more is a loss of memory and speed."""
    tableau = solvers.make(name, schedules.VPLinear(), np.linspace(0.95, 0.05, 13))
    assert (tableau.lanes, len(tableau.phases), tableau.num_rows) == LANES[name]


@pytest.mark.parametrize("name", ["kdpm2", "rho_rk4", "flow_rk4"])
def test_a_traced_grid_gives_the_same_coefficients_and_their_derivatives(name):
    """To clean data, where a traced grid is supposed to end; central differences of step 1e-6."""
    build = lambda grid: solvers.make(name, schedules.RectifiedLinear(), grid)  # noqa: E731
    check_traced(build, (0.9, 0.45, 0.0))


LINEAR = schedules.RectifiedLinear()
EARLY = np.array([[0.9, 0.9], [0.5, 0.0], [0.0, 0.0]])[..., None]
BAD = [
    (dict(method="rk5"), "unknown Runge-Kutta method 'rk5': did you mean 'rk4'"),
    (dict(variable="t"), "variable = 't': allowed are sigma, time"),
    (dict(method=Butcher(((), (1,)), (1,))), "must have i entries in row"),
    (dict(method=Butcher(((), (1,)), (1, 1))), "with sum 1"),
    (dict(method=Butcher(((), (2,)), (0, 1))), r"must lie in \(0, 1\]"),
    (dict(schedule=LINEAR, grid=[1.0, 0.5]), "sigma / alpha below 1e.06.*alpha = 0"),
    (dict(grid=[0.5, 0.9]), "must decrease"),
    (dict(grid=EARLY), "needs sigma > 0 for every token before the last time"),
    (dict(grid=EARLY[:2]), "there for all or for none"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_bad_input_is_refused_with_one_line(options, message):
    options = {"schedule": schedules.VPLinear(), "grid": [0.9, 0.0]} | options
    with pytest.raises(PersonError, match=message) as error:
        runge_kutta(**options)
    assert "\n" not in str(error.value)


def test_named_methods_have_no_options():
    with pytest.raises(PersonError, match="unknown option of solver 'rho_rk4': 'method'"):
        solvers.make("rho_rk4", schedules.VPLinear(), [0.9, 0.0], method="kutta3")
    with pytest.raises(PersonError, match="kdpm2 needs sigma / alpha below"):
        solvers.kdpm2(LINEAR, [1.0, 0.5])
