"""DPM-Solver and DPM-Solver++: formulas by hand, equalities, orders, and what is solved exactly."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from exponential_by_hand import STEPS, errors_on_modes, lam, run
from solver_by_hand import SCHEDULES, check, check_traced, errors, grid_of, lagging, levels, starts

from dfx import schedules, solvers
from dfx.errors import PersonError
from dfx.solvers import dpm_multistep, dpm_singlestep, dpm_solver_fast, fast_orders
from dfx.solvers.phi import phi

pytestmark = [pytest.mark.usefixtures("x64"), pytest.mark.filterwarnings("error")]

#: How far a fitted order may lie from the stated one; the next term of the error makes the
#: difference.
ORDER_TOLERANCE = 0.15

#: Error of the time at which a stage is put, found by a root in the log-SNR; rounding that grows on
#: the way from sigma = 80.
TIMES = 1e-10

LINEAR = schedules.RectifiedLinear()


def E(z):
    return np.exp(z) - 1


def noise_of(field):
    return lambda x, level: (x - level.alpha * field(x, level)) / level.sigma


@pytest.mark.parametrize("k", range(6))
def test_phi_is_the_integral_that_defines_it(k):
    """Gauss-Legendre with 60 points is exact to rounding on [-30, 20]; 1e-13 at the joint |z| = 1,
    where the recursion has divided by k small numbers."""
    z = np.array([-30, -3, -1.001, -0.999, -0.3, -1e-9, 0, 1e-3, 0.999, 1.001, 2, 20.0])
    u, w = np.polynomial.legendre.leggauss(60)
    u, w = (u + 1) / 2, w / 2
    expected = np.exp(z)
    if k:
        weight = u ** (k - 1) / np.prod(np.arange(1.0, k))
        expected = np.exp(np.outer(z, 1 - u)) @ (w * weight)
    np.testing.assert_allclose(phi(k, z), expected, rtol=1e-12)
    np.testing.assert_allclose(phi(k, jnp.asarray(z)), expected, rtol=1e-12)
    slope = jax.grad(lambda z: phi(k, z))(0.0)  # the series begins 1 / k! + z / (k + 1)!
    np.testing.assert_allclose(slope, 1 / np.prod(np.arange(1.0, k + 2)), rtol=1e-14)


def singlestep_by_hand(field, schedule, grid, order, data, solver_type):
    """Lu et al. 2022a, algorithms 1, 2, and 2022b, in E(z) = exp(z) - 1; r_1 = 1/3, r_2 = 2/3."""
    x, at = starts(), levels(schedule, grid)
    taylor = solver_type == "taylor"
    for s, t in itertools.pairwise(at):
        if t.sigma == 0:
            return field(x, s)
        h = lam(t) - lam(s)
        m = field if data else noise_of(field)

        def between(r, s=s, h=h):
            return schedule.at(schedules.t_of_log_snr(schedule, 2 * (lam(s) + r * h)))

        def first(to, r, x=x, s=s, h=h, m=m):
            if data:
                return to.sigma / s.sigma * x - to.alpha * E(-r * h) * m(x, s)
            return to.alpha / s.alpha * x - to.sigma * E(r * h) * m(x, s)

        end = first(t, 1)
        if order == 2:
            u = between(1 / 2)
            d = m(first(u, 1 / 2), u) - m(x, s)
            if data:
                end = end + (t.alpha * 2 * (E(-h) / h + 1) if taylor else -t.alpha * E(-h)) * d
            else:
                end = end - (t.sigma * 2 * (E(h) / h - 1) if taylor else t.sigma * E(h)) * d
        if order == 3:
            r1, r2 = 1 / 3, 2 / 3
            a, b = between(r1), between(r2)
            d1 = m(first(a, r1), a) - m(x, s)
            if data:
                u2 = first(b, r2) + r2 / r1 * b.alpha * (E(-r2 * h) / (r2 * h) + 1) * d1
                one, two = t.alpha * (E(-h) / h + 1), -t.alpha * ((E(-h) / h + 1) / h - 1 / 2)
            else:
                u2 = first(b, r2) - r2 / r1 * b.sigma * (E(r2 * h) / (r2 * h) - 1) * d1
                one, two = -t.sigma * (E(h) / h - 1), -t.sigma * ((E(h) / h - 1) / h - 1 / 2)
            d2 = m(u2, b) - m(x, s)
            slope = (r2 * d1 / r1 - r1 * d2 / r2) / (r2 - r1)
            bend = 2 * (d2 / r2 - d1 / r1) / (r2 - r1)
            end = end + (one * slope + two * bend if taylor else one / r2 * d2)
        x = end
    return x


@pytest.mark.parametrize("to_data", [True, False])
@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("data", [True, False])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_singlestep_is_its_formula(schedule, data, order, to_data, bent):
    schedule = SCHEDULES[schedule]
    grid = grid_of(schedule, 7, to_data)
    for solver_type in ("dpmsolver", "taylor"):
        expected = singlestep_by_hand(bent.numpy, schedule, grid, order, data, solver_type)
        tableau = dpm_singlestep(schedule, grid, order, data, solver_type)
        check(run(tableau, bent.numpy, starts()), expected, TIMES)
        assert tableau.num_rows == (6 * order + 1 if to_data else 7 * order)


def multistep_by_hand(field, schedule, grid, order, data, solver_type, variant, final):
    """Lu et al. 2022b, algorithm 2, and the authors' code (3M), in r_0, r_1, D_0, D_1, D_2."""
    x, at, past = starts(), levels(schedule, grid), []
    for i, (s, t) in enumerate(itertools.pairwise(at)):
        if t.sigma == 0:
            return field(x, s)
        h, m = lam(t) - lam(s), (field if data else noise_of(field))(x, s)
        left = len(grid) - 1 - i
        k = min(order, i + 1, left if final else order)
        if data:
            x = t.sigma / s.sigma * x - t.alpha * E(-h) * m
            half, one, two = -E(-h) / 2, E(-h) / h + 1, -((E(-h) + h) / h**2 - 1 / 2)
            half, one, two = (t.alpha * w for w in (half, one, two))
        else:
            x = t.alpha / s.alpha * x - t.sigma * E(h) * m
            half, one, two = E(h) / 2, E(h) / h - 1, (E(h) - h) / h**2 - 1 / 2
            half, one, two = (-t.sigma * w for w in (half, one, two))
        if k > 1:
            r0, (m1, lam1) = (lam(s) - past[0][1]) / h, past[0]
            d = d10 = (m - m1) / r0
            if k == 3:
                r1 = (lam1 - past[1][1]) / h
                d11 = (m1 - past[1][0]) / r1
                d = d10 + r0 / (r0 + r1) * (d10 - d11)
                d2 = (d10 - d11) / (r0 + r1)
                x = x + (2 if variant == "exact" else 1) * two * d2
            x = x + (half if k == 2 and solver_type == "midpoint" else one) * d
        past = [(m, lam(s)), *past]
    return x


@pytest.mark.parametrize("to_data", [True, False])
@pytest.mark.parametrize("data", [True, False])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_multistep_is_its_formula(schedule, data, to_data, bent):
    schedule = SCHEDULES[schedule]
    grid = grid_of(schedule, 9, to_data)
    for order, *options in [
        (1, "midpoint", "exact", False),
        (2, "midpoint", "exact", False),
        (2, "taylor", "exact", True),
        (3, "midpoint", "exact", False),
        (3, "taylor", "reference", False),
        (3, "midpoint", "exact", True),
    ]:
        expected = multistep_by_hand(bent.numpy, schedule, grid, order, data, *options)
        tableau = dpm_multistep(schedule, grid, order, data, *options)
        check(run(tableau, bent.numpy, starts()), expected, 1e-11)  # sums of a loss of digits in h
        assert (tableau.num_rows, tableau.lanes) == (9, order)


@pytest.mark.parametrize("name", ["dpm_solver_1", "dpm_solver_pp_1"])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_order_one_is_ddim_to_the_last_digits(schedule, name):
    schedule = SCHEDULES[schedule]
    for to_data in (True, False):
        grid = grid_of(schedule, to_data=to_data)
        ddim = solvers.ddim(schedule, grid)
        for other in (
            solvers.make(name, schedule, grid),
            dpm_multistep(schedule, grid, 1, data=name == "dpm_solver_pp_1"),
        ):
            assert jax.tree.structure(other) == jax.tree.structure(ddim)
            jax.tree.map(lambda a, b: check(a, b, 1e-14), other, ddim)


NAMES = [f"dpm_solver{pp}_{kind}" for pp in ("", "_pp") for kind in ("1", "2s", "3s", "2m", "3m")]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_says_order_form_and_prediction(name):
    """With pp the data are predicted; s has stages, m a memory; all else is as by default."""
    order, data = int(name.split("_")[-1][0]), "pp" in name
    build = dpm_multistep if name.endswith("m") else dpm_singlestep
    grid = np.linspace(0.95, 0.05, 7)
    named, own = solvers.make(name, LINEAR, grid), build(LINEAR, grid, order, data)
    assert jax.tree.structure(named) == jax.tree.structure(own)
    jax.tree.map(np.testing.assert_array_equal, named, own)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_error_falls_with_the_stated_order(name, modes, slope):
    solver = solvers.REGISTRY[name]
    found = errors_on_modes(solver.build, modes)
    assert abs(slope(STEPS, found) - solver.order) < 2 * ORDER_TOLERANCE


@pytest.mark.parametrize("data", [True, False])
def test_third_order_as_published_has_order_two(data, gaussian, half_log_snr_grid, slope):
    """Half of the exact weight of the second difference; half log-SNR from -4 to 3."""
    args, found = (schedules.VPLinear(), half_log_snr_grid, gaussian, STEPS), {}
    for variant in ("reference", "exact"):
        found[variant] = errors(dpm_multistep, *args, order=3, data=data, variant=variant)
    assert slope(STEPS, found["reference"]) == pytest.approx(2, abs=ORDER_TOLERANCE)
    assert slope(STEPS, found["exact"]) > 3 - ORDER_TOLERANCE
    assert found["reference"][-1] > 20 * found["exact"][-1]


CONSTANT = np.array([0.3, -2.0, 1.0])

FORMS = {
    **{f"{k}s {ty}": (dpm_singlestep, k, ty) for k in (2, 3) for ty in ("dpmsolver", "taylor")},
    **{f"{k}m {ty}": (dpm_multistep, k, ty) for k in (2, 3) for ty in ("midpoint", "taylor")},
}


@pytest.mark.parametrize("n", [1, 2, 3, 12])
@pytest.mark.parametrize("form", FORMS)
def test_a_constant_prediction_is_solved_exactly(form, n):
    """x0_hat = c in the data form, eps_hat = c in the other: x_t = alpha_t x0 + sigma_t eps."""
    builder, order, solver_type = FORMS[form]
    for schedule in SCHEDULES.values():
        grid = np.linspace(0.95, 0.05, n + 1) ** 2 * schedule.end_time
        s, t, x = schedule.at(grid[0]), schedule.at(grid[-1]), starts()

        def x0(x, level):
            return CONSTANT + 0 * x

        def from_noise(x, level):
            return (x - level.sigma * CONSTANT) / level.alpha

        got = run(builder(schedule, grid, order, True, solver_type), x0, x)
        check(got, t.alpha * CONSTANT + t.sigma / s.sigma * (x - s.alpha * CONSTANT))
        got = run(builder(schedule, grid, order, False, solver_type), from_noise, x)
        check(got, t.sigma * CONSTANT + t.alpha / s.alpha * (x - s.sigma * CONSTANT), 1e-11)


def power(k, data):
    """A prediction that is lambda^k, whatever x."""
    if data:
        return lambda x, level: 0 * x + lam(level) ** k
    return lambda x, level: (x - level.sigma * lam(level) ** k) / level.alpha


def solve_power(x, s, t, k, data):
    """The exact solution for that prediction, by Gauss-Legendre with 60 points."""
    u, w = np.polynomial.legendre.leggauss(60)
    h = lam(t) - lam(s)
    v = lam(s) + (1 + u) / 2 * h
    if data:
        return t.sigma / s.sigma * x + t.sigma * h / 2 * np.sum(w * np.exp(v) * v**k)
    return t.alpha / s.alpha * x - t.alpha * h / 2 * np.sum(w * np.exp(-v) * v**k)


#: Solver -> the degree of lambda up to which it is exact, once it has its history.
DEGREES = {
    "2s dpmsolver": 0, "2s taylor": 1, "3s dpmsolver": 1, "3s taylor": 2,
    "2m midpoint": 0, "2m taylor": 1, "3m midpoint": 2, "3m taylor": 2, "3m reference": 1,
}  # fmt: skip


@pytest.mark.parametrize("data", [True, False])
@pytest.mark.parametrize("form", DEGREES)
def test_polynomials_are_integrated_up_to_the_degree(form, data):
    """From row 3 on: warm-up is behind. One degree more leaves an error far above rounding."""
    builder, order, solver_type = FORMS.get(form, (dpm_multistep, 3, "midpoint"))
    options = {"variant": "reference"} if form.endswith("reference") else {}
    schedule = schedules.VPCosine()
    grid, x = np.linspace(0.85, 0.2, 8), starts(2, 1)
    s, t = schedule.at(grid[3]), schedule.at(grid[-1])
    for k in range(DEGREES[form] + 2):
        middle, end = (
            run(builder(schedule, g, order, data, solver_type, **options), power(k, data), x)
            for g in (grid[:4], grid)
        )
        error = np.max(np.abs(end - solve_power(middle, s, t, k, data)))
        assert (error < 1e-11) if k <= DEGREES[form] else (error > 1e-4)


@pytest.mark.parametrize("end", [0.05, 0.0])
@pytest.mark.parametrize("name", NAMES)
def test_each_token_is_solved_as_by_its_own_run(name, end, modes):
    """Tokens lag by two rows each, so they wait, move and stand still; data forms at sigma = 0."""
    if end == 0 and "pp" not in name:
        pytest.skip("eps is not defined at sigma = 0")
    schedule = schedules.VPLinear()
    grid, base = lagging(schedule, end=end)
    x = np.random.default_rng(0).normal(size=(4, 3, 2))
    together = run(solvers.make(name, schedule, grid), modes, x)
    own = run(solvers.make(name, schedule, base), modes, x)
    check(together, own, TIMES)


@pytest.mark.parametrize("data", [True, False])
@pytest.mark.parametrize("order", [2, 3])
def test_a_start_from_pure_noise_is_one_more_step_of_order_one(order, data, bent):
    grid = np.linspace(1, 0, 9)
    got = run(dpm_multistep(LINEAR, grid, order, data), bent.numpy, starts())
    x = run(solvers.ddim(LINEAR, grid[:2]), bent.numpy, starts())
    check(got, run(dpm_multistep(LINEAR, grid[1:], order, data), bent.numpy, x))


def test_the_budget_of_fast_is_spent_as_published():
    """Lu et al. 2022a, section 3.4: K = floor(M / 3) + 1 steps, by the remainder of M."""
    for budget in range(1, 40):
        k = budget // 3 + 1
        expected = {0: [3] * (k - 2) + [2, 1], 1: [3] * (k - 1) + [1], 2: [3] * (k - 1) + [2]}
        assert fast_orders(budget) == expected[budget % 3]
        assert fast_orders(budget, 2) == [2] * (budget // 2) + [1] * (budget % 2)
        assert fast_orders(budget, 1) == [1] * budget


@pytest.mark.parametrize("data", [True, False])
def test_fast_takes_points_of_the_grid_by_its_orders(data, bent):
    schedule = schedules.VPLinear()
    for to_data, inner, orders in [
        (False, [0, 3, 6, 8, 9], [3, 3, 2, 1]),
        (True, [0, 3, 6, 8, 9], [3, 3, 2, 1]),
        (True, [0, 3, 5, 6], [3, 2, 1]),
    ]:
        grid = grid_of(schedule, inner[-1], to_data)
        for solver_type in ("dpmsolver", "taylor"):
            options = dict(data=data, solver_type=solver_type)
            fast = dpm_solver_fast(schedule, grid, **options)
            assert fast.num_rows == len(grid) - 1
            steps = dpm_singlestep(schedule, grid[inner], orders=orders, **options)
            check(*(run(tableau, bent.numpy, starts()) for tableau in (fast, steps)))


#: Solver -> (lanes, phases, rows) of 12 steps that stop at noise.
LANES = {
    "dpm_solver_1": (1, 1, 12),
    "dpm_solver_2s": (2, 2, 24),
    "dpm_solver_3s": (3, 3, 36),
    "dpm_solver_2m": (2, 1, 12),
    "dpm_solver_3m": (3, 1, 12),
    "dpm_solver_pp_1": (1, 1, 12),
    "dpm_solver_pp_2s": (2, 2, 24),
    "dpm_solver_pp_3s": (3, 3, 36),
    "dpm_solver_pp_2m": (2, 1, 12),
    "dpm_solver_pp_3m": (3, 1, 12),
    "dpm_solver_fast": (3, 3, 12),
}


@pytest.mark.parametrize("name", LANES)
def test_known_solvers_need_the_lanes_that_are_known(name):
    """A change here is for review: fewer is welcome, more is a loss of memory and speed."""
    tableau = solvers.make(name, schedules.VPLinear(), np.linspace(0.95, 0.05, 13))
    assert (tableau.lanes, len(tableau.phases), tableau.num_rows) == LANES[name]


@pytest.mark.parametrize("name", ["dpm_solver_3s", "dpm_solver_pp_2s", "dpm_solver_pp_3m"])
def test_a_traced_grid_gives_the_same_coefficients_and_their_derivatives(name):
    """To clean data, where a traced grid is supposed to end; sigma = t has a derivative there."""
    check_traced(lambda grid: solvers.make(name, schedules.RectifiedLinear(), grid))


BAD = [
    (dict(name="dpm_solver_2m", order=3), "unknown option of solver 'dpm_solver_2m': 'order'"),
    (dict(name="dpm_solver_1", solver_type="taylor"), "unknown option"),
    (dict(name="dpm_solver_2s", solver_type="midpoint"), "allowed are dpmsolver, taylor"),
    (dict(name="dpm_solver_2m", solver_type="dpmsolver"), "allowed are midpoint, taylor"),
    (dict(name="dpm_solver_3m", variant="coded"), "allowed are exact, reference"),
    (dict(name="dpm_solver_fast", order=4), "order = 4: allowed are 1, 2, 3"),
    (dict(name="dpm_solver_3s", schedule=LINEAR, grid=[1.0, 0.5]), "need alpha > 0.*t = 1 "),
    (dict(name="dpm_solver_pp_3m", grid=[0.5, 0.9]), "must decrease"),
    (dict(name="dpm_solver_fast", grid=[0.5]), "at least 2 times"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_bad_input_is_refused_with_one_line(options, message):
    options = {"schedule": schedules.VPLinear(), "grid": [0.9, 0.1]} | options
    with pytest.raises(PersonError, match=message) as error:
        solvers.make(**options)
    assert "\n" not in str(error.value)


def test_builders_refuse_orders_that_do_not_exist():
    schedule, grid = schedules.VPLinear(), [0.9, 0.5, 0.1]
    for builder in (dpm_singlestep, dpm_multistep):
        with pytest.raises(PersonError, match="order = 4: allowed are 1, 2, 3"):
            builder(schedule, grid, order=4)
    with pytest.raises(PersonError, match="3 orders for a grid of 2 steps"):
        dpm_singlestep(schedule, grid, orders=[1, 2, 3])
    with pytest.raises(PersonError, match="budget = -1"):
        fast_orders(-1)
