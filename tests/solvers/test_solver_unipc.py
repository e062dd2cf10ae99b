"""UniPC: the linear systems of its paper, equalities, orders, and what is solved exactly."""

import itertools
import math

import jax
import numpy as np
import pytest
from exponential_by_hand import lam, run
from solver_by_hand import SCHEDULES, check, check_traced, errors, grid_of, lagging, levels, starts

from dfx import schedules, solvers
from dfx.errors import PersonError
from dfx.solvers import dpm_multistep, sa_solver, unipc

pytestmark = [pytest.mark.usefixtures("x64"), pytest.mark.filterwarnings("error")]

LINEAR = schedules.RectifiedLinear()


def phis(z, count):
    """phi_0 to phi_count by the recursion of the paper."""
    values = [np.exp(z)]
    for k in range(count):
        values.append((values[-1] - 1 / math.factorial(k)) / z)
    return values


def weights(r, hh, variant):
    """The weights of D_1, .., D_p: Zhao et al. 2023, R_p rho = phi / B, or C^-1 (vary)."""
    p, powers = len(r), np.arange(len(r))[:, None]
    values = phis(hh, p + 1)
    factorials = np.array([math.factorial(k) for k in range(1, p + 1)])
    b = hh * np.array(values[2:]) * factorials
    if variant == "vary":  # the k-th derivative is a sum of D_i, the solution one of derivatives
        derivatives = np.linalg.inv((r[:, None] ** np.arange(p)) / factorials)
        return (b / factorials) @ derivatives
    big_b = hh if variant == "bh1" else np.exp(hh) - 1
    if p == 1:
        return np.array([big_b / 2])
    return big_b * np.linalg.solve(r**powers, b / big_b)


def by_hand(field, schedule, grid, order, variant, data, corrector, final):
    """Zhao et al. 2023, algorithms 1 and 2: D_i = (m_i - m_s) / r_i, r_i = (lam_i - lam_s) / h."""
    at, point, past, done = levels(schedule, grid), starts(), [], None
    for i, (s, t) in enumerate(itertools.pairwise(at)):
        x, x0 = point, field(point, s)
        m = x0 if data else (point - s.alpha * x0) / s.sigma
        if done and corrector:
            base, c, hh, r, d = done
            rho = weights(np.append(r, 1.0), hh, variant)
            x = base - c * sum(w * di for w, di in zip(rho, [*d, m - past[0][0]]))
        if t.sigma == 0:
            return x0
        past, left = [(m, lam(s)), *past], len(grid) - 1 - i
        k = min(order, i + 1, left if final else order)
        h = lam(t) - lam(s)
        hh = -h if data else h
        if data:
            c, base = t.alpha, t.sigma / s.sigma * x - t.alpha * np.expm1(-h) * m
        else:
            c, base = t.sigma, t.alpha / s.alpha * x - t.sigma * np.expm1(h) * m
        r = np.array([(before - lam(s)) / h for _, before in past[1:k]])
        d = [(old - m) / ri for (old, _), ri in zip(past[1:k], r)]
        point, done = base, (base, c, hh, r, d)
        if k > 1:
            point = base - c * sum(w * di for w, di in zip(weights(r, hh, variant), d))
    return point


@pytest.mark.parametrize("to_data", [True, False])
@pytest.mark.parametrize("data", [True, False])
@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("variant", ["bh1", "bh2", "vary"])
def test_the_solver_is_its_formula(variant, order, data, to_data, bent):
    """The small linear systems lose some digits."""
    for schedule in SCHEDULES.values():
        grid = grid_of(schedule, 8, to_data)
        for corrector, final in [(True, False), (False, False), (True, True)]:
            options = dict(data=data, corrector=corrector)
            expected = by_hand(bent.numpy, schedule, grid, order, variant, final=final, **options)
            tableau = unipc(schedule, grid, order, variant, lower_order_final=final, **options)
            check(run(tableau, bent.numpy, starts()), expected, 1e-9)
            assert tableau.num_rows == 8


@pytest.mark.slow
@pytest.mark.parametrize("data", [True, False])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_the_order_is_one_above_that_of_the_predictor(
    order, data, gaussian, half_log_snr_grid, slope
):
    """Half log-SNR from -4 to 3; order 4 shows late."""
    steps, schedule = [80, 160, 320], schedules.VPLinear()
    args = (schedule, half_log_snr_grid, gaussian, steps)
    for variant in ("bh1", "bh2", "vary"):
        found = errors(unipc, *args, order=order, variant=variant, data=data)
        assert abs(slope(steps, found) - (order + 1)) < 0.15
    found = errors(unipc, *args, order=order, corrector=False, data=data)
    assert slope(steps, found) == pytest.approx(order, abs=0.15 if order < 3 else 0.5)


def coefficients(tableau):
    return [row.coef for row in solvers.unstack(tableau)]


@pytest.mark.parametrize("order", [1, 2, 3])
def test_without_corrector_it_is_multistep_dpm_solver(order):
    """bh2 is "midpoint", vary is "taylor", in both forms, up to rounding."""
    for variant, solver_type in (("bh2", "midpoint"), ("vary", "taylor")):
        for data in (True, False):
            for schedule in SCHEDULES.values():
                grid = grid_of(schedule)
                one = unipc(schedule, grid, order, variant, data, corrector=False)
                other = dpm_multistep(schedule, grid, order, data, solver_type)
                jax.tree.map(lambda a, b: check(a, b, 1e-13), one, other)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_vary_is_the_stochastic_adams_solver_without_noise(order):
    for schedule in SCHEDULES.values():
        grid = grid_of(schedule)
        one = unipc(schedule, grid, order, "vary")
        other = sa_solver(schedule, grid, order, order + 1, tau=0)
        jax.tree.map(lambda a, b: check(a, b, 1e-13), one, other)


def test_variants_differ_only_where_the_polynomial_is_a_line(bent):
    """A corrector of order 2 after predictors of order 1: the second step on is common."""
    schedule = schedules.VPLinear()
    rows = [coefficients(unipc(schedule, grid_of(schedule), 3, v)) for v in ("bh1", "bh2")]
    assert max(abs(a[key] - b[key]) for a, b in zip(*rows) for key in a) > 1e-3
    for a, b in zip(rows[0][3:], rows[1][3:]):
        for key in a:
            check(a[key], b[key], 1e-14)


@pytest.mark.parametrize("variant", ["bh1", "bh2", "vary"])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_a_constant_prediction_is_solved_exactly(order, variant):
    """x0_hat = c in the data form, eps_hat = c in the other: x_t = alpha_t x0 + sigma_t eps."""
    c = np.array([0.3, -2.0, 1.0])
    for schedule in SCHEDULES.values():
        for n in (1, 2, 5):
            grid = np.linspace(0.95, 0.05, n + 1) ** 2 * schedule.end_time
            s, t, x = schedule.at(grid[0]), schedule.at(grid[-1]), starts()
            got = run(unipc(schedule, grid, order, variant), lambda x, level: c + 0 * x, x)
            check(got, t.alpha * c + t.sigma / s.sigma * (x - s.alpha * c))
            tableau = unipc(schedule, grid, order, variant, data=False)
            got = run(tableau, lambda x, level: (x - level.sigma * c) / level.alpha, x)
            check(got, t.sigma * c + t.alpha / s.alpha * (x - s.sigma * c), 1e-11)


@pytest.mark.parametrize(("data", "end"), [(True, 0.05), (True, 0.0), (False, 0.05)])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_each_token_is_solved_as_by_its_own_run(order, data, end, modes):
    """Tokens lag by two rows each, so they wait, move and stand still."""
    schedule = schedules.VPLinear()
    grid, base = lagging(schedule, end=end)
    x = np.random.default_rng(0).normal(size=(4, 3, 2))
    together = run(unipc(schedule, grid, order, data=data), modes, x)
    # A token that stands still is evaluated there, and so corrected, unless it arrives last.
    for token in (0, 1, 2):
        times = base if token == 2 else np.append(base, base[-1])
        tableau = unipc(schedule, times[:, None], order, data=data)
        own = run(tableau, modes, x[:, token][..., None])[..., 0]
        check(together[:, token], own)


@pytest.mark.parametrize("data", [True, False])
def test_a_start_from_pure_noise_is_one_more_step_of_order_one(data, bent):
    grid = np.linspace(1, 0, 9)
    got = run(unipc(LINEAR, grid, 3, data=data), bent.numpy, starts())
    x = run(solvers.ddim(LINEAR, grid[:2]), bent.numpy, starts())
    check(got, run(unipc(LINEAR, grid[1:], 3, data=data), bent.numpy, x))


@pytest.mark.parametrize("data", [True, False])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_known_solvers_need_the_lanes_that_are_known(order, data):
    """A change here is for review: fewer is welcome, more is a loss of memory and speed."""
    grid = np.linspace(0.95, 0.05, 13)
    tableau = unipc(schedules.VPLinear(), grid, order, data=data)
    assert (tableau.lanes, tableau.num_rows) == (order + 1, 12)
    assert unipc(schedules.VPLinear(), grid, order, data=data, corrector=False).lanes == order
    assert solvers.make(f"unipc_{order}", schedules.VPLinear(), grid).lanes == order + 1


@pytest.mark.parametrize("data", [True, False])
def test_a_traced_grid_gives_the_same_coefficients_and_their_derivatives(data):
    """To clean data, where a traced grid is supposed to end; sigma = t has a derivative there."""
    check_traced(lambda grid: unipc(schedules.RectifiedLinear(), grid, 3, data=data))


BAD = [
    (dict(name="unipc_2", order=3), "unknown option of solver 'unipc_2': 'order'"),
    (dict(name="unipc_2", variant="bh3"), "variant = 'bh3': allowed are bh1, bh2, vary"),
    (dict(name="unipc_3", grid=[0.1, 0.9]), "must decrease"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_bad_input_is_refused_with_one_line(options, message):
    options = {"schedule": schedules.VPLinear(), "grid": [0.9, 0.1]} | options
    with pytest.raises(PersonError, match=message) as error:
        solvers.make(**options)
    assert "\n" not in str(error.value)


def test_orders_that_do_not_exist_are_refused():
    with pytest.raises(PersonError, match="order = 4: allowed are 1, 2, 3"):
        unipc(schedules.VPLinear(), [0.9, 0.1], order=4)
