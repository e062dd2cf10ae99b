"""The recorder: from the formulas of a paper to lanes, checked on solvers whose needs are known."""

import jax
import numpy as np
import pytest
import solver_by_hand

from dfx import schedules, solvers
from dfx.solvers import NOISE, Recorder, output, pairs, record, sample

pytestmark = pytest.mark.usefixtures("x64")

SCHEDULE = schedules.VPLinear()
GRID = np.linspace(0.95, 0.05, 13)
X0 = output(0)


def at_half_log_snr(value):
    return SCHEDULE.at(schedules.t_of_log_snr(SCHEDULE, 2 * value))


def dpm_solver_pp_2m(levels):
    """Lu et al. 2022b, algorithm 2."""
    r = Recorder()
    x, old, h_old = r.start, None, None
    for s, t in pairs(levels):
        h = t.half_log_snr - s.half_log_snr
        m = r.at(x, s).x0
        d = m if old is None else m + h / (2 * h_old) * (m - old)
        x = t.sigma / s.sigma * x - t.alpha * np.expm1(-h) * d
        old, h_old = m, h
    return r.tableau(x)


def runge_kutta(levels, a, b, c):
    """Any explicit Runge-Kutta method for d(x/alpha)/d(sigma/alpha) = eps."""
    r = Recorder()
    x = r.start
    for s, t in pairs(levels):
        start, end = s.sigma / s.alpha, t.sigma / t.alpha
        slopes, here, base = [], s, x
        for i in range(len(b)):
            if i:
                here = at_half_log_snr(-np.log(start + c[i] * (end - start)))
                inner = sum(w * k for w, k in zip(a[i], slopes) if w)
                point = here.alpha * (base / s.alpha + (end - start) * inner)
            else:
                point = x
            slopes.append(r.at(point, here).eps)
            base = x if i else point
        total = sum(w * k for w, k in zip(b, slopes) if w)
        x = t.alpha * (x / s.alpha + (end - start) * total)
    return r.tableau(x)


def kutta4(levels):
    return runge_kutta(
        levels, [[], [0.5], [0, 0.5], [0, 0, 1]], [1 / 6, 1 / 3, 1 / 3, 1 / 6], [0, 0.5, 0.5, 1]
    )


def kutta3(levels):
    return runge_kutta(levels, [[], [0.5], [-1, 2]], [1 / 6, 2 / 3, 1 / 6], [0, 0.5, 1])


def adams(levels, depth=4):
    """Linear multistep in sigma/alpha (LMS): the integral of the polynomial through old eps."""
    r = Recorder()
    x, old, places = r.start, [], []
    for s, t in pairs(levels):
        start, end = s.sigma / s.alpha, t.sigma / t.alpha
        old, places = [r.at(x, s).eps, *old][:depth], [start, *places][:depth]
        weights = []
        for j in range(len(old)):
            others = [p for k, p in enumerate(places) if k != j]
            basis = np.atleast_1d(np.poly(others)) / np.prod([places[j] - p for p in others])
            primitive = np.polyint(basis)
            weights.append(np.polyval(primitive, end) - np.polyval(primitive, start))
        x = t.alpha * (x / s.alpha + sum(w * e for w, e in zip(weights, old)))
    return r.tableau(x)


def edict(levels, p=0.93):
    """Wallace et al. 2023: two coupled copies, each stepped by the eps of the other, then mixed."""
    r = Recorder()
    x, y = r.input(0), r.input(1)
    for s, t in pairs(levels):
        a = t.alpha / s.alpha
        b = t.sigma - a * s.sigma
        x = r.let(a * x + b * r.at(y, s).eps)
        y = a * y + b * r.at(x, s).eps
        x = p * x + (1 - p) * y
        y, x = r.let(p * y + (1 - p) * x), r.let(x)
    return r.tableau(x, keep=(y,))


def churn(schedule, grid):
    return solvers.heun(schedule, grid, churn=1.0)


LANES = {
    "ddim": (lambda levels: solvers.ddim(SCHEDULE, GRID), 1, 1),
    "ddim half": (lambda levels: solvers.ddim(SCHEDULE, GRID, 0.5), 1, 1),
    "ddpm": (lambda levels: solvers.ddpm(SCHEDULE, GRID), 1, 1),
    "euler_maruyama": (lambda levels: solvers.euler_maruyama(SCHEDULE, GRID), 1, 1),
    "heun": (lambda levels: solvers.heun(SCHEDULE, GRID), 2, 2),
    "churn": (lambda levels: churn(SCHEDULE, GRID), 2, 2),
    "2m": (dpm_solver_pp_2m, 2, 1),
    "kutta3": (kutta3, 3, 3),
    "kutta4": (kutta4, 3, 4),
    "adams": (adams, 4, 1),
    "edict": (edict, 2, 2),
}


def levels_of(grid=GRID):
    return solver_by_hand.levels(SCHEDULE, grid)


@pytest.mark.parametrize("name", LANES)
def test_known_solvers_need_the_lanes_that_are_known(name):
    """A change here is for review: fewer is welcome, more is a loss of memory and speed."""
    build, lanes, phases = LANES[name]
    tableau = build(levels_of())
    assert (tableau.lanes, len(tableau.phases)) == (lanes, phases)


def test_the_keys_of_known_solvers_are_the_fewest():
    keys = {name: [set(rows.coef) for rows in LANES[name][0](levels_of()).phases] for name in LANES}
    assert keys["ddim"] == [{(0, 0), (0, X0)}]
    assert keys["ddpm"] == [{(0, 0), (0, X0), (0, NOISE)}]
    assert keys["2m"] == [{(0, 0), (0, X0), (0, 1), (1, X0)}]
    assert keys["heun"] == [{(0, 0), (0, X0), (1, 0), (1, X0)}, {(0, 0), (0, X0), (0, 1)}]


def test_one_evaluation_is_one_row():
    steps = len(GRID) - 1
    counts = {"ddim": steps, "2m": steps, "adams": steps, "heun": 2 * steps, "kutta4": 4 * steps}
    for name, count in counts.items():
        assert LANES[name][0](levels_of()).num_rows == count
    assert solvers.heun(SCHEDULE, np.linspace(1, 0, 8)).num_rows == 2 * 7 - 1


ORDERS = [("2m", 2), ("kutta3", 3), ("kutta4", 4), ("adams", 3.7)]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "order"), ORDERS)
def test_recorded_formulas_have_the_order_of_their_method(
    name, order, gaussian, half_log_snr_grid, slope
):
    """Half log-SNR from -4 to 3; 0.45 above order 2, where warm-up and higher terms show."""
    steps, found = [40, 80, 160], []
    for n in steps:
        levels = levels_of(half_log_snr_grid(SCHEDULE, n))
        x = np.random.default_rng(0).normal(size=(32, 2))
        end = sample(LANES[name][0](levels), gaussian, x)
        found.append(np.mean(np.abs(end - gaussian.flow(x, levels[0], levels[-1]))))
    assert abs(slope(steps, found) - order) < (0.15 if order <= 2 else 0.45)


def test_coupled_lanes_are_those_of_a_hand_written_loop(bent):
    x, y = np.random.default_rng(0).normal(size=(2, 5, 3))
    got = sample(edict(levels_of()), bent.jax, x, inputs=(y,))
    for s, t in pairs(levels_of()):
        a = t.alpha / s.alpha
        b = t.sigma - a * s.sigma
        x = a * x + b * (y - s.alpha * bent.numpy(y, s)) / s.sigma
        y = a * y + b * (x - s.alpha * bent.numpy(x, s)) / s.sigma
        x = 0.93 * x + 0.07 * y
        y = 0.93 * y + 0.07 * x
    for one, other in zip(got, (x, y)):
        np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-11)


def test_the_level_given_to_the_field_may_differ_from_that_of_the_formula():
    """A time-shift: the field sees another level, the conversion to eps uses the true one."""
    r, s, t = Recorder(), SCHEDULE.at(0.5), SCHEDULE.at(0.3)
    x = r.start
    e = r.at(x, s, given=SCHEDULE.at(0.45))
    tableau = r.tableau(t.alpha * e.x0 + t.sigma * e.eps)
    seen = []

    def field(x, level):
        seen.append(level.t)
        return 0 * x + level.t

    start = np.ones((2, 1))
    end = sample(tableau, field, start)
    expected = t.alpha * 0.45 + t.sigma * (1 - s.alpha * 0.45) / s.sigma
    np.testing.assert_allclose(end, np.full((2, 1), expected), rtol=1e-13)


def test_an_analytic_first_step_costs_no_row(bent):
    """eps := x / sigma in place of the first evaluation goes into the start of the lanes."""
    levels = levels_of(GRID[:4])
    r = Recorder()
    x = r.start
    s, t = levels[0], levels[1]
    first = x / s.sigma
    x = t.alpha * (x - s.sigma * first) / s.alpha + t.sigma * first
    for s, t in pairs(levels[1:]):
        e = r.at(x, s)
        x = t.alpha * e.x0 + t.sigma * e.eps
    tableau = r.tableau(x)
    assert tableau.num_rows == 2
    start = np.random.default_rng(0).normal(size=(4, 2))
    x = start * levels[1].sigma / levels[0].sigma
    end = sample(solvers.ddim(SCHEDULE, GRID[1:4]), bent.jax, x)
    np.testing.assert_allclose(sample(tableau, bent.jax, start), end, rtol=1e-12, atol=1e-14)


def test_coefficients_per_coordinate_broadcast_in_every_layout(bent):
    """A schedule with a rate per coordinate, against one run for each coordinate: at the start, in
    two phases and in the tail; with the batch axis last and first, in two phases and in one."""
    rates = np.array([0.5, 1.0, 2.0])
    levels = [[SCHEDULE.at(t * rate) for rate in rates] for t in GRID / 2]
    together = [type(row[0])(*(np.array(entry) for entry in zip(*row))) for row in levels]

    def heun(levels):
        r = Recorder()
        x = levels[0].sigma * r.start
        for s, t in pairs(levels):
            e = r.at(x, s)
            if t is levels[-1]:
                return r.tableau(t.alpha * e.x0 + t.sigma * e.eps)
            step, anchor = t.sigma / t.alpha - s.sigma / s.alpha, x / s.alpha
            second = r.at(t.alpha * e.x0 + t.sigma * e.eps, t)
            x = t.alpha * (anchor + step * (e.eps + second.eps) / 2)

    tableau, x = heun(together), np.random.default_rng(0).normal(size=(6, 3))
    assert (len(tableau.phases), len(tableau.tail)) == (2, 1)
    expected = np.concatenate(
        [
            solver_by_hand.run(heun([row[i] for row in levels]), bent.numpy, x[:, i : i + 1])
            for i in range(3)
        ],
        axis=1,
    )
    for options in ({}, {"merged": True}, {"noise": jax.tree_util.Partial(lambda row: 0.0)}):
        got = sample(tableau, bent.jax, x, **options)
        np.testing.assert_allclose(got, expected, rtol=1e-11, atol=1e-12)


def test_too_many_lanes_are_refused_with_the_remedy():
    """Every past eps combined afresh: the lanes grow with the rows."""

    def all_of_the_past(n, **options):
        r = Recorder()
        x, old = r.start, []
        for i in range(n):
            old.append(r.at(x, SCHEDULE.at(0.5)).eps)
            x = sum((i + 1.0) ** k * e for k, e in enumerate(old))
        return r.tableau(x, **options)

    assert all_of_the_past(4).lanes == 4
    with pytest.raises(ValueError, match="10 lanes are needed, more than 8: name running states"):
        all_of_the_past(10)
    assert all_of_the_past(10, max_lanes=10).lanes == 10


def test_what_is_not_linear_is_refused():
    r = Recorder()
    x = r.start
    with pytest.raises(TypeError, match="cannot be multiplied"):
        x * x
    with pytest.raises(TypeError, match="cannot be divided"):
        x / x
    with pytest.raises(TypeError):
        x + 1.0
    r.noise()
    with pytest.raises(ValueError, match="has its noise already"):
        r.noise()
    with pytest.raises(ValueError, match="at least one evaluation"):
        r.tableau(x)


def test_linear_forms_obey_the_rules_of_arithmetic(bent):
    """The same solver written in three ways is the same tableau, up to rounding."""

    def build(combine):
        r, levels = record(SCHEDULE, GRID)
        x = r.start
        for s, t in pairs(levels):
            e = r.at(x, s)
            x = combine(x, e, s, t)
        return r.tableau(x)

    ways = [
        lambda x, e, s, t: t.alpha * e.x0 + t.sigma * e.eps,
        lambda x, e, s, t: t.alpha * (x - s.sigma * e.eps) / s.alpha - (-t.sigma) * e.eps,
        lambda x, e, s, t: sum([e.x0 * t.alpha, -(-e.eps * t.sigma), 0 * x]),
        lambda x, e, s, t: t.alpha * e.x0 + t.sigma * (-s.sigma) * e.view("score"),
        lambda x, e, s, t: (
            (t.alpha * s.alpha + t.sigma * s.sigma) * x
            + (t.sigma * s.alpha - t.alpha * s.sigma) * e.view("v")
        ),
    ]
    x = np.random.default_rng(0).normal(size=(4, 2))
    ends = [sample(build(way), bent.jax, x) for way in ways]
    for end in ends[1:]:
        np.testing.assert_allclose(end, ends[0], rtol=1e-11, atol=1e-12)


def test_a_traced_number_on_either_side_stays_traced():
    def build(w):
        r = Recorder()
        x = r.start
        x0 = r.at(x, SCHEDULE.at(0.5)).x0
        return r.tableau(w * x - x0 / w + x * w)

    coef = jax.jit(lambda w: build(w).phases[0].coef)(2.0)
    assert coef[0, 0][0] == 4.0 and coef[0, X0][0] == -0.5


def test_a_start_that_moves_to_another_lane_is_carried_there():
    """The midpoint method for one step: x is the first point, then the anchor in lane 1."""
    r, (s, t) = record(SCHEDULE, [0.9, 0.2])
    x = r.start
    middle = x + 0.5 * (t.t - s.t) * r.at(x, s).velocity
    end = x + (t.t - s.t) * r.at(middle, SCHEDULE.at(0.55)).velocity
    tableau = r.tableau(end)
    first, second = solvers.unstack(tableau)
    assert (1, 0) in first.coef
    assert (0, 1) in second.coef
    assert tableau.lanes == 2
