"""SA-Solver: Lagrange quadrature by hand, equalities, orders, and the law at the end."""

import itertools

import jax
import numpy as np
import pytest
from exponential_by_hand import STEPS, errors_on_modes, lam, law_error, run
from solver_by_hand import (
    SCHEDULES,
    check,
    check_traced,
    grid_of,
    lagging,
    levels,
    noises,
    starts,
)

from dfx import schedules, solvers
from dfx.errors import PersonError
from dfx.solvers import dpm_multistep, sa_solver, sde_dpm_multistep

pytestmark = [pytest.mark.usefixtures("x64"), pytest.mark.filterwarnings("error")]

PAIRS = [(1, 0), (3, 0), (4, 0), (1, 2), (2, 3), (3, 4), (2, 2), (4, 4), (1, 4)]


def adams(s, t, tau, nodes):
    """b_j = (1 + tau^2) sigma_t e^(-tau^2 lam_t) int e^((1 + tau^2) lam) l_j(lam): 40 points."""
    u, w = np.polynomial.legendre.leggauss(40)
    h = lam(t) - lam(s)
    v = lam(s) + (1 + u) / 2 * h
    weight = (1 + tau**2) * t.sigma * np.exp(-(tau**2) * lam(t) + (1 + tau**2) * v) * w * h / 2
    for j, node in enumerate(nodes):
        others = [other for i, other in enumerate(nodes) if i != j]
        yield np.sum(weight * np.prod([(v - o) / (node - o) for o in others], axis=0))


def by_hand(field, schedule, grid, z, predictor, corrector, tau, final=False):
    """Xue et al. 2023, algorithm 1 in the data form, with tau a function of the level s."""
    at, point, past, base, left = levels(schedule, grid), starts(), [], 0.0, len(grid)
    for i, (s, t) in enumerate(itertools.pairwise(at)):
        m = field(point, s)
        x = point
        if i and corrector:
            known = [(m, lam(s)), *past[: min(corrector - 1, i, left if final else i)]]
            b = adams(at[i - 1], s, tau(at[i - 1]), [node for _, node in known])
            x = base + sum(w * value for w, (value, _) in zip(b, known))
        if t.sigma == 0:
            return m
        past, left, h = [(m, lam(s)), *past], len(grid) - 1 - i, lam(t) - lam(s)
        decay = np.exp(-(tau(s) ** 2) * h)
        base = t.sigma / s.sigma * decay * x + t.sigma * np.sqrt(1 - decay**2) * z[i]
        known = past[: min(predictor, left if final else predictor)]
        b = adams(s, t, tau(s), [node for _, node in known])
        point = base + sum(w * value for w, (value, _) in zip(b, known))
    return point


@pytest.mark.parametrize("to_data", [True, False])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_solver_is_its_formula(schedule, to_data, bent):
    """Noise one in front: of one step, shared by predictor and corrector."""
    schedule, z = SCHEDULES[schedule], noises(8)
    grid = grid_of(schedule, 8, to_data)
    for predictor, corrector in PAIRS:
        for tau, final in ((0.7, False), (1.0, True)):
            args = (schedule, grid, z, predictor, corrector)
            expected = by_hand(bent.numpy, *args, lambda level, tau=tau: tau, final)
            tableau = sa_solver(
                schedule, grid, predictor, corrector, tau, lower_order_final=final
            )  # fmt: skip
            check(run(tableau, bent.numpy, starts(), z), expected, 1e-10)  # digits lost in h
            assert tableau.num_rows == 8 and tableau.stochastic


def test_tau_may_depend_on_the_level(bent):
    schedule, grid, z = schedules.VPLinear(), np.linspace(0.95, 0.05, 9), noises(8)
    for tau, low, high in [
        (1.2, 0.5, 3.0),
        (lambda level: 0.5 + level.t, 0.0, np.inf),
        (lambda level: 0.5 + level.t, 0.2, 2.0),
    ]:

        def within(level, tau=tau, low=low, high=high):
            value = tau(level) if callable(tau) else tau
            return value if low <= level.sigma / level.alpha <= high else 0.0

        expected = by_hand(bent.numpy, schedule, grid, z, 3, 4, within)
        tableau = sa_solver(schedule, grid, tau=tau, tau_min=low, tau_max=high)
        check(run(tableau, bent.numpy, starts(), z), expected, 1e-10)
    assert any(within(schedule.at(t)) == 0 for t in grid)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_without_corrector_it_is_the_exact_multistep_solver(order):
    """tau = 0: DPM-Solver++; otherwise SDE-DPM-Solver++ with eta = tau^2."""
    for schedule in SCHEDULES.values():
        grid = grid_of(schedule)
        flow = sa_solver(schedule, grid, order, 0, tau=0)
        assert not flow.stochastic
        other = dpm_multistep(schedule, grid, order, solver_type="taylor")
        jax.tree.map(lambda a, b: check(a, b, 1e-13), flow, other)
        for eta in (0.3, 1.0):
            one = sa_solver(schedule, grid, order, 0, tau=eta**0.5)
            other = sde_dpm_multistep(schedule, grid, order, eta, "taylor")
            jax.tree.map(lambda a, b: check(a, b, 1e-13), one, other)


@pytest.mark.slow
@pytest.mark.parametrize(("predictor", "corrector"), PAIRS)
def test_the_order_without_noise(predictor, corrector, modes, slope):
    """The corrector gains one order on its predictor, at most its own."""
    build = lambda schedule, grid: sa_solver(schedule, grid, predictor, corrector, tau=0)  # noqa: E731
    found = errors_on_modes(build, modes)
    order = max(predictor, min(corrector, predictor + 1))
    # Order 4 is held down by the steps of order 1 to 3 at the start.
    assert order - (0.2 if order < 4 else 0.7) < slope(STEPS, found) < order + 1


@pytest.mark.parametrize(("predictor", "corrector", "order"), [(1, 0, 1), (1, 2, 2), (3, 4, 2)])
def test_the_law_at_the_end_has_the_stated_weak_order(
    predictor, corrector, order, gaussian, half_log_snr_grid, slope
):
    schedule, steps, found = schedules.VPLinear(), [40, 80, 160], []
    for n in steps:
        grid = half_log_snr_grid(schedule, n)
        ends = schedule.at(grid[0]), schedule.at(grid[-1])
        found.append(law_error(sa_solver(schedule, grid, predictor, corrector), gaussian, *ends))
    assert abs(slope(steps, found) - order) < 0.15


@pytest.mark.parametrize("tau", [0.0, 0.8])
@pytest.mark.parametrize(("predictor", "corrector"), PAIRS)
def test_a_constant_denoiser_is_solved_exactly(predictor, corrector, tau):
    """The mean of x_t given x_s and x0 for the reverse equation with tau, whatever the steps."""
    c = np.array([0.3, -2.0, 1.0])
    for schedule in SCHEDULES.values():
        for n in (1, 2, 6):
            grid = np.linspace(0.95, 0.05, n + 1) ** 2 * schedule.end_time
            s, t, x = schedule.at(grid[0]), schedule.at(grid[-1]), starts()
            tableau = sa_solver(schedule, grid, predictor, corrector, tau)
            got = run(tableau, lambda x, level: c + 0 * x, x, np.zeros(n))
            of_x = t.sigma / s.sigma * np.exp(-(tau**2) * (lam(t) - lam(s)))
            check(got, t.alpha * c + of_x * (x - s.alpha * c))


@pytest.mark.parametrize("end", [0.05, 0.0])
def test_each_token_is_solved_as_by_its_own_run(end, modes):
    """Tokens lag by two rows each; those that wait at the end are corrected there once more."""
    schedule = schedules.VPLinear()
    grid, base = lagging(schedule, end=end)
    x = np.random.default_rng(0).normal(size=(4, 3, 2))
    z = np.random.default_rng(1).normal(size=(len(grid) - 1, 4, 3, 2))
    together = run(sa_solver(schedule, grid), modes, x, z)
    for token in (0, 1, 2):
        times = base if token == 2 else np.append(base, base[-1])
        own = z[2 * token : 2 * token + len(times) - 1, :, token][..., None]
        end_of_one = run(sa_solver(schedule, times[:, None]), modes, x[:, token][..., None], own)
        check(together[:, token], end_of_one[..., 0])


def test_a_start_from_pure_noise_is_one_more_step_of_order_one(bent):
    schedule, grid, z = schedules.RectifiedLinear(), np.linspace(1, 0, 9), noises(8)
    for tau in (0, 1.0):
        got = run(sa_solver(schedule, grid, tau=tau), bent.numpy, starts(), z)
        x = run(sde_dpm_multistep(schedule, grid[:2], 1, tau**2), bent.numpy, starts(), z)
        if tau:  # the step to grid[1] is the last of that grid, so without noise: add it
            x = schedule.at(grid[1]).alpha * bent.numpy(starts(), schedule.at(1.0))
            x = x + schedule.at(grid[1]).sigma * z[0]
        check(got, run(sa_solver(schedule, grid[1:], tau=tau), bent.numpy, x, z[1:]))


@pytest.mark.parametrize(("predictor", "corrector"), PAIRS)
def test_known_solvers_need_the_lanes_that_are_known(predictor, corrector):
    """More lanes are a loss of memory and speed."""
    for tau in (0, 1):
        tableau = sa_solver(
            schedules.VPLinear(), np.linspace(0.95, 0.05, 13), predictor, corrector, tau
        )
        expected = max(predictor, corrector - 1) + (corrector > 0)
        assert (tableau.lanes, tableau.num_rows) == (expected, 12)


def test_a_traced_grid_gives_the_same_coefficients_and_their_derivatives():
    """To clean data, where a traced grid is supposed to end; sigma = t has a derivative there."""
    check_traced(lambda grid: sa_solver(schedules.RectifiedLinear(), grid, tau=0.7, tau_max=1.0))


BAD = [
    (dict(predictor=5), "predictor = 5: allowed are 1 to 4"),
    (dict(corrector=1), "corrector = 1: allowed are 0 and 2 to 4"),
    (dict(tau=-1.0), "tau = -1.0"),
    (dict(tau_min=2.0, tau_max=1.0), "tau_min = 2.0 must lie in"),
    (dict(taw=1.0), "unknown option of solver 'sa_solver': 'taw': did you mean 'tau'"),
    (dict(grid=[0.1, 0.9]), "must decrease"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_bad_input_is_refused_with_one_line(options, message):
    options = {"schedule": schedules.VPLinear(), "grid": [0.9, 0.1]} | options
    with pytest.raises(PersonError, match=message) as error:
        solvers.make("sa_solver", **options)
    assert "\n" not in str(error.value)
