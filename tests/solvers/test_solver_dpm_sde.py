"""SDE-DPM-Solver++: formulas by hand, its two limits, and the law at the end."""

import itertools

import jax
import numpy as np
import pytest
from exponential_by_hand import lam, law_error, law_of, run
from solver_by_hand import SCHEDULES, check, check_traced, grid_of, lagging, levels, noises, starts

from dfx import schedules, solvers
from dfx.errors import PersonError
from dfx.solvers import dpm_multistep, sde_dpm_multistep

pytestmark = [pytest.mark.usefixtures("x64"), pytest.mark.filterwarnings("error")]

NAMES = ["sde_dpm_solver_pp_1", "sde_dpm_solver_pp_2m", "sde_dpm_solver_pp_3m"]


def by_hand(field, schedule, grid, z, order, eta, solver_type, variant):
    """Lu et al. 2022b; k-diffusion's phi_1, phi_2, phi_3 of H = (1 + eta) h (3M)."""
    x, at, past = starts(), levels(schedule, grid), []
    for i, (s, t) in enumerate(itertools.pairwise(at)):
        m = field(x, s)
        if t.sigma == 0:
            return m
        h = lam(t) - lam(s)
        H = (1 + eta) * h
        x = t.sigma / s.sigma * np.exp(-eta * h) * x + t.alpha * (1 - np.exp(-H)) * m
        x = x + t.sigma * np.sqrt(1 - np.exp(-2 * eta * h)) * z[i]
        k, phi_2 = min(order, i + 1), (np.exp(-H) - 1) / H + 1
        phi_3 = phi_2 / H - 1 / 2
        if k > 1:
            r0 = (lam(s) - past[0][1]) / h
            d = d10 = (m - past[0][0]) / r0
            if k == 3:
                r1 = (past[0][1] - past[1][1]) / h
                d11 = (past[0][0] - past[1][0]) / r1
                d = d10 + (d10 - d11) * r0 / (r0 + r1)
                d2 = (d10 - d11) / (r0 + r1)
                x = x - t.alpha * (2 if variant == "exact" else 1) * phi_3 * d2
            midpoint = k == 2 and solver_type == "midpoint"
            x = x + t.alpha * ((1 - np.exp(-H)) / 2 if midpoint else phi_2) * d
        past = [(m, lam(s)), *past]
    return x


@pytest.mark.parametrize("to_data", [True, False])
@pytest.mark.parametrize("eta", [0.4, 1.0])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_solver_is_its_formula(schedule, eta, to_data, bent):
    schedule, z = SCHEDULES[schedule], noises(9)
    grid = grid_of(schedule, 9, to_data)
    for order, *options in [
        (1, "midpoint", "exact"),
        (2, "midpoint", "exact"),
        (2, "taylor", "exact"),
        (3, "midpoint", "exact"),
        (3, "taylor", "reference"),
    ]:
        expected = by_hand(bent.numpy, schedule, grid, z, order, eta, *options)
        tableau = sde_dpm_multistep(schedule, grid, order, eta, *options)
        check(run(tableau, bent.numpy, starts(), z), expected, 1e-11)  # digits lost in h
        assert (tableau.num_rows, tableau.lanes, tableau.stochastic) == (9, order, True)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_order_one_at_eta_one_is_ddpm_with_the_small_variance(schedule):
    schedule = SCHEDULES[schedule]
    for to_data in (True, False):
        grid = grid_of(schedule, to_data=to_data)
        one, ddpm = sde_dpm_multistep(schedule, grid, 1), solvers.ddpm(schedule, grid)
        assert jax.tree.structure(one) == jax.tree.structure(ddpm)
        jax.tree.map(lambda a, b: check(a, b, 1e-14), one, ddpm)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_eta_zero_is_the_multistep_solver_of_the_flow(order):
    for schedule in SCHEDULES.values():
        for options in ({}, {"solver_type": "taylor", "lower_order_final": True}):
            grid = grid_of(schedule)
            zero = sde_dpm_multistep(schedule, grid, order, eta=0, **options)
            flow = dpm_multistep(schedule, grid, order, **options)
            assert jax.tree.structure(zero) == jax.tree.structure(flow)
            jax.tree.map(lambda a, b: check(a, b, 1e-13), zero, flow)  # 1 - exp(-h) for small h


#: Order of the multistep solver -> of its error in law at eta = 1; more are not gained.
WEAK_ORDERS = {1: 1, 2: 2, 3: 2}


@pytest.mark.parametrize("order", WEAK_ORDERS)
def test_the_law_at_the_end_has_the_stated_weak_order(order, gaussian, half_log_snr_grid, slope):
    schedule, steps, found = schedules.VPLinear(), [40, 80, 160], []
    for n in steps:
        grid = half_log_snr_grid(schedule, n)
        ends = schedule.at(grid[0]), schedule.at(grid[-1])
        found.append(law_error(sde_dpm_multistep(schedule, grid, order), gaussian, *ends))
    assert abs(slope(steps, found) - WEAK_ORDERS[order]) < 0.15


@pytest.mark.parametrize("eta", [0.3, 1.0, 2.0])
def test_the_law_for_a_constant_denoiser_is_exact_for_any_steps(eta):
    """Data at a point: mean alpha_t c and variance sigma_t^2 from those of x_T, at any order."""

    class Point:
        mean = np.array([0.4, -1.0])

        def __call__(self, x, level):
            return self.mean + 0 * x

        def marginal_variance(self, level):
            return level.sigma**2 + 0 * self.mean

    schedule = schedules.VPLinear()
    for order in (1, 2, 3):
        for grid in ([0.9, 0.2], [0.9, 0.5, 0.2], np.linspace(0.95, 0.1, 8)):
            tableau = sde_dpm_multistep(schedule, grid, order, eta)
            mean, variance = law_of(tableau, Point(), schedule.at(grid[0]))
            end = schedule.at(grid[-1])
            check(mean, end.alpha * Point.mean)
            check(variance, Point().marginal_variance(end))


@pytest.mark.parametrize("end", [0.05, 0.0])
@pytest.mark.parametrize("name", NAMES)
def test_each_token_is_solved_as_by_its_own_run(name, end, modes):
    """Tokens lag by two rows each, so they wait, move and stand still, with their own noise."""
    schedule = schedules.VPLinear()
    grid, base = lagging(schedule, end=end)
    x = np.random.default_rng(0).normal(size=(4, 3, 2))
    z = np.random.default_rng(1).normal(size=(len(grid) - 1, 4, 3, 2))
    together = run(solvers.make(name, schedule, grid), modes, x, z)
    for token in range(3):
        own = z[2 * token : 2 * token + 8, :, token]
        expected = run(solvers.make(name, schedule, base), modes, x[:, token], own)
        check(together[:, token], expected)


def test_a_start_from_pure_noise_forgets_it(bent):
    """exp(-h) = 0: x_t = alpha_t x0_hat + sigma_t z, then a fresh start."""
    schedule, grid, z = schedules.RectifiedLinear(), np.linspace(1, 0, 7), noises(6)
    s, t = schedule.at(1.0), schedule.at(grid[1])
    x = t.alpha * bent.numpy(starts(), s) + t.sigma * z[0]
    for order in (1, 2, 3):
        got = run(sde_dpm_multistep(schedule, grid, order), bent.numpy, starts(), z)
        rest = sde_dpm_multistep(schedule, grid[1:], order)
        check(got, run(rest, bent.numpy, x, z[1:]))


@pytest.mark.parametrize("name", NAMES)
def test_known_solvers_need_the_lanes_that_are_known(name):
    """(lanes, phases, rows) of 12 steps. More lanes are a loss of memory and speed."""
    tableau = solvers.make(name, schedules.VPLinear(), np.linspace(0.95, 0.05, 13))
    assert (tableau.lanes, len(tableau.phases), tableau.num_rows) == (1 + NAMES.index(name), 1, 12)


def test_a_traced_grid_gives_the_same_coefficients_and_their_derivatives():
    """To clean data, where a traced grid is supposed to end; sigma = t has a derivative there."""
    check_traced(lambda grid: sde_dpm_multistep(schedules.RectifiedLinear(), grid, 3, eta=0.5))


BAD = [
    (dict(eta=-0.1), "eta = -0.1"),
    (dict(eta=float("nan")), "eta = nan"),
    (dict(order=0), "order = 0: allowed are 1, 2, 3"),
    (dict(solver_type="heun"), "allowed are midpoint, taylor"),
    (dict(variant="published"), "allowed are exact, reference"),
    (dict(grid=[0.1, 0.9]), "must decrease"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_bad_input_is_refused_with_one_line(options, message):
    options = {"schedule": schedules.VPLinear(), "grid": [0.9, 0.1]} | options
    with pytest.raises(PersonError, match=message) as error:
        sde_dpm_multistep(**options)
    assert "\n" not in str(error.value)
