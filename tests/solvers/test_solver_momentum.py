"""Heavy ball and its generalisation: formulas by hand, orders, and their limit without memory."""

import itertools

import numpy as np
import pytest
from solver_by_hand import SCHEDULES, check, check_traced, errors, grid_of, levels, run, starts

from dfx import schedules, solvers
from dfx.errors import PersonError
from dfx.solvers.momentum import REFERENCE, _exact_weights

pytestmark = pytest.mark.usefixtures("x64")

#: How far a fitted order may lie from the stated one: the first steps of lower order show.
ORDER_TOLERANCE = 0.4

#: Rounding that grows on the way from sigma = 80.
GROWN = 1e-10

ADAMS = {1: [1], 2: [3 / 2, -1 / 2], 3: [23 / 12, -16 / 12, 5 / 12]}


def adams(places, end):
    """Weights of the mean over the step of the polynomial through places[0], .., the newest."""
    z, powers = (np.array(places) - places[0]) / (end - places[0]), np.arange(len(places))
    return np.linalg.solve(z ** powers[:, None], 1 / (1 + powers))


def generalised(b):
    """The published coefficients of the generalised heavy ball, times beta."""
    return {
        1: [b],
        2: [(2 + b) / 2, -(2 - b) / 2],
        3: [(18 + 5 * b) / 12, -(24 - 8 * b) / 12, (6 - b) / 12],
        4: [(46 + 9 * b) / 24, -(78 - 19 * b) / 24, (42 - 5 * b) / 24, -(10 - b) / 24],
    }


def steps_by_hand(field, schedule, grid):
    """Yield (X_s, eps_hat, S_t - S_s) and take the direction back; the last step is to x0_hat."""
    x, at = starts(), levels(schedule, grid)
    for s, t in itertools.pairwise(at):
        x0 = field(x, s)
        if t.sigma == 0:
            yield None, x0
            return
        direction = yield (x - s.alpha * x0) / s.sigma, None
        x = t.alpha * (x / s.alpha + (t.sigma / t.alpha - s.sigma / s.alpha) * direction)
    yield None, x


def drive(field, schedule, grid, direct):
    walk = steps_by_hand(field, schedule, grid)
    eps, end = next(walk)
    while end is None:
        eps, end = walk.send(direct(eps))
    return end


@pytest.mark.parametrize("to_data", [True, False])
@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("variant", ["exact", "reference"])
def test_heavy_ball_is_its_formula(variant, schedule, order, to_data, bent):
    schedule, beta, e, v = SCHEDULES[schedule], 0.7, [], []
    grid = grid_of(schedule, to_data=to_data)
    places = [level.sigma / level.alpha for level in levels(schedule, grid)]

    def direct(eps):
        e.insert(0, eps)
        i, k = len(e) - 1, min(order, len(e))
        known = places[i + 1 - k : i + 1][::-1]
        weights = ADAMS[k] if variant == "reference" else adams(known, places[i + 1])
        p = sum(w * d for w, d in zip(weights, e))
        v.append(beta * p + (1 - beta) * v[-1] if v else p)
        return v[-1]

    expected = drive(bent.numpy, schedule, grid, direct)
    tableau = solvers.heavy_ball(schedule, grid, beta, order, variant)
    check(run(tableau, bent.numpy, starts()), expected, GROWN)


@pytest.mark.parametrize("to_data", [True, False])
@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_ghvb_is_its_formula(schedule, order, to_data, bent):
    schedule, beta, v = SCHEDULES[schedule], 0.7, []
    grid = grid_of(schedule, to_data=to_data)

    def direct(eps):
        v.insert(0, beta * eps + (1 - beta) * v[0] if v else eps)
        weights = generalised(beta)[min(order, len(v))]
        return sum(w * held for w, held in zip(weights, v)) / beta

    expected = drive(bent.numpy, schedule, grid, direct)
    tableau = solvers.ghvb(schedule, grid, beta, order, "reference")
    check(run(tableau, bent.numpy, starts()), expected, GROWN)


@pytest.mark.parametrize("variant", ["exact", "reference"])
@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
def test_without_memory_both_are_adams_bashforth(order, variant, bent):
    schedule = schedules.VPLinear()
    grid = grid_of(schedule, to_data=False)
    adams = run(solvers.ipndm(schedule, grid, order, variant), bent.numpy, starts())
    for build in (solvers.heavy_ball, solvers.ghvb):
        check(run(build(schedule, grid, 1.0, order, variant), bent.numpy, starts()), adams, GROWN)


@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
def test_exact_coefficients_tend_to_the_published_ones_on_equal_steps(order):
    """After 40 steps the first point has the share 0.3^40 = 1e-21, times powers of 40."""
    found = _exact_weights(np.linspace(4.0, 0.1, 40), 0.0, 0.7, order, np)
    check(found, REFERENCE[order](0.7), GROWN)
    if order < 5:
        check(found, np.divide(generalised(0.7)[order], 0.7), GROWN)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("beta", [0.4, 0.8])
def test_exact_coefficients_integrate_polynomials_below_their_order(beta, order):
    """The filter is run by hand on powers of S, at uneven places from the first step on."""
    places = np.array([3.0, 2.2, 1.7, 0.9, 0.6, 0.25])
    for last in range(order, len(places) - 1):
        c = _exact_weights(places[: last + 1], places[last + 1], beta, order, np)
        start, end = places[last], places[last + 1]
        for power in range(order):
            v = [places[0] ** power]
            for place in places[1 : last + 1]:
                v.insert(0, beta * place**power + (1 - beta) * v[0])
            integral = (end ** (power + 1) - start ** (power + 1)) / (power + 1)
            check((end - start) * sum(w * held for w, held in zip(c, v)), integral, GROWN)


SLOPES = [
    ("heavy_ball", dict(order=1), 1),
    ("heavy_ball", dict(order=2), 1),
    ("heavy_ball", dict(order=4, variant="reference"), 1),
    ("ghvb", dict(order=1), 1),
    ("ghvb", dict(order=2), 2),
    ("ghvb", dict(order=2, variant="reference"), 2),
    ("ghvb", dict(order=3), 3),
    ("ghvb", dict(order=3, variant="reference"), 2),
    ("ghvb", dict(), 4),
    ("ghvb", dict(order=4, variant="reference"), 2),
    ("ghvb", dict(order=4, beta=0.5), 4),
]


@pytest.mark.parametrize(("name", "options", "order"), SLOPES)
def test_the_error_falls_with_the_stated_order(
    name, options, order, gaussian, half_log_snr_grid, slope
):
    """Half log-SNR from -4 to 3; the published coefficients saturate at order 2 there."""
    steps, build = [80, 160, 320], solvers.REGISTRY[name].build
    found = errors(build, schedules.VPLinear(), half_log_snr_grid, gaussian, steps, **options)
    assert abs(slope(steps, found) - order) < ORDER_TOLERANCE


#: (solver, order) -> lanes.
LANES = {
    ("heavy_ball", 1): 2,
    ("heavy_ball", 2): 2,
    ("heavy_ball", 3): 3,
    ("heavy_ball", 4): 4,
    ("ghvb", 1): 2,
    ("ghvb", 2): 2,
    ("ghvb", 3): 3,
    ("ghvb", 4): 4,
}


@pytest.mark.parametrize(("name", "order"), LANES)
def test_known_solvers_need_the_lanes_that_are_known(name, order):
    """A change here is for review: fewer is welcome, more is a loss of memory and speed."""
    grid = np.linspace(0.95, 0.05, 17)
    tableau = solvers.make(name, schedules.VPLinear(), grid, order=order)
    assert (tableau.lanes, tableau.num_rows) == (LANES[name, order], 16)


@pytest.mark.parametrize("name", ["heavy_ball", "ghvb"])
def test_a_traced_grid_gives_the_same_coefficients_and_their_derivatives(name):
    check_traced(lambda grid: solvers.make(name, schedules.RectifiedLinear(), grid))


TOKENS = np.array([[0.9, 0.9], [0.5, 0.4], [0.1, 0.1]])[..., None]
BAD = [
    (dict(beta=0.0), r"beta = 0.0: must lie in \(0, 1\]"),
    (dict(beta=1.1), "beta = 1.1"),
    (dict(order=6), "order = 6"),
    (dict(variant="old"), "variant = 'old': allowed are exact, reference"),
    (dict(name="heavy_ball", grid=TOKENS), "heavy_ball needs one time"),
    (dict(schedule=schedules.RectifiedLinear(), grid=[1.0, 0.5]), "ghvb needs sigma / alpha below"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_bad_input_is_refused_with_one_line(options, message):
    options = {"name": "ghvb", "schedule": schedules.VPLinear(), "grid": [0.9, 0.0]} | options
    with pytest.raises(PersonError, match=message) as error:
        solvers.make(**options)
    assert "\n" not in str(error.value)
