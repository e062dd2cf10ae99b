"""Pseudo-numerical methods: the published algorithms by hand, and what uneven steps do to them."""

import itertools

import numpy as np
import pytest
from solver_by_hand import check, check_traced, errors, grid_of, levels, run, starts

from dfx import schedules, solvers
from dfx.errors import PersonError

pytestmark = pytest.mark.usefixtures("x64")

#: How far a fitted order may lie from the stated one: the first steps of lower order show.
ORDER_TOLERANCE = 0.4

#: Rounding that grows on the way from sigma = 80 or from an alpha of 1e-2.
GROWN = 1e-10

NAMES = ("ipndm", "plms", "s_pndm", "pndm")


def transfer(x, eps, s, t):
    """Liu et al. 2022, eq. 11, in the products abar of its paper (here alpha^2)."""
    a, b = s.alpha**2, t.alpha**2
    root = np.sqrt(a) * (np.sqrt((1 - b) * a) + np.sqrt((1 - a) * b))
    return np.sqrt(b / a) * x - (b - a) / root * eps


def published(field, schedule, grid, name):
    """The four algorithms, with fixed weights, on a variance-preserving schedule."""

    def eps(x, level):
        return (x - level.alpha * field(x, level)) / level.sigma

    x, at, e = starts(), levels(schedule, grid), []
    for i, (s, t) in enumerate(itertools.pairwise(at)):
        e.append(eps(x, s))
        if name in ("plms", "s_pndm") and i == 0:
            use = (e[0] + eps(transfer(x, e[0], s, t), t)) / 2
        elif name == "pndm" and i < 3:
            m = schedule.at((s.t + t.t) / 2)
            e1 = e[-1]
            e2 = eps(transfer(x, e1, s, m), m)
            e3 = eps(transfer(x, e2, s, m), m)
            e4 = eps(transfer(x, e3, s, t), t)
            use = (e1 + 2 * e2 + 2 * e3 + e4) / 6
        elif i == 0:
            use = e[-1]
        elif i == 1 or name == "s_pndm":
            use = (3 * e[-1] - e[-2]) / 2
        elif i == 2:
            use = (23 * e[-1] - 16 * e[-2] + 5 * e[-3]) / 12
        else:
            use = (55 * e[-1] - 59 * e[-2] + 37 * e[-3] - 9 * e[-4]) / 24
        x = transfer(x, use, s, t)
    return x


@pytest.mark.parametrize("to_data", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_the_reference_variant_is_the_published_algorithm(name, to_data, bent):
    schedule = schedules.discrete_linear(100)
    grid = schedule.time_of_index(np.arange(98.0, -2 if to_data else 7, -9))
    expected = published(bent.numpy, schedule, grid, name)
    tableau = solvers.make(name, schedule, grid, variant="reference")
    check(run(tableau, bent.numpy, starts()), expected, GROWN)


@pytest.mark.parametrize("name", NAMES)
def test_on_equal_steps_in_sigma_the_variants_are_one(name, bent):
    schedule = schedules.EDM(80.0)
    grid = np.linspace(3.0, 0.5, 9)
    both = [solvers.make(name, schedule, grid, variant=v) for v in ("exact", "reference")]
    check(*(run(tableau, bent.numpy, starts()) for tableau in both), GROWN)


SLOPES = {
    "ipndm": {"exact": 4, "reference": 2},
    "plms": {"exact": 4, "reference": 2},
    "s_pndm": {"exact": 2, "reference": 2},
    "pndm": {"exact": 4, "reference": 2},
}


@pytest.mark.parametrize("variant", ["exact", "reference"])
@pytest.mark.parametrize("name", NAMES)
def test_fixed_weights_saturate_at_order_two_and_exact_ones_do_not(
    name, variant, gaussian, half_log_snr_grid, slope
):
    """Half log-SNR from -4 to 3 in equal steps, so that steps in sigma shrink by a factor."""
    steps, solver = [80, 160, 320], solvers.REGISTRY[name]
    found = errors(
        solver.build, schedules.VPLinear(), half_log_snr_grid, gaussian, steps, variant=variant
    )
    assert abs(slope(steps, found) - SLOPES[name][variant]) < ORDER_TOLERANCE


def test_a_runge_kutta_start_lifts_the_cap_of_the_first_steps(gaussian, slope):
    """From half log-SNR -1: order 2 without a start, 3 with one improved Euler step, 4 with RK4."""
    steps = [80, 160, 320]
    grid = lambda schedule, n: schedules.t_of_log_snr(  # noqa: E731
        schedule, 2 * np.linspace(-1, 3, n + 1)
    )
    for name, order in [("ipndm", 2), ("plms", 3), ("pndm", 4)]:
        build = solvers.REGISTRY[name].build
        found = errors(build, schedules.VPLinear(), grid, gaussian, steps)
        assert abs(slope(steps, found) - order) < ORDER_TOLERANCE


def test_the_exact_ipndm_is_lms_and_s_pndm_is_plms_of_order_two(bent):
    schedule = schedules.VPLinear()
    grid = grid_of(schedule)

    def end(name, **options):
        return run(solvers.make(name, schedule, grid, **options), bent.numpy, starts())

    for order in (1, 2, 3, 4, 5):
        check(end("ipndm", order=order), end("lms", order=order))
    for variant in ("exact", "reference"):
        check(end("s_pndm", variant=variant), end("plms", order=2, variant=variant))


def test_defaults_are_the_variant_that_keeps_the_order_and_else_the_published_one(bent):
    schedule = schedules.VPLinear()
    grid = grid_of(schedule)
    for name in NAMES:
        variant = "reference" if name == "s_pndm" else "exact"
        both = [solvers.make(name, schedule, grid, **o) for o in ({}, {"variant": variant})]
        check(*(run(tableau, bent.numpy, starts()) for tableau in both))


@pytest.mark.parametrize("variant", ["exact", "reference"])
@pytest.mark.parametrize("name", NAMES)
def test_grids_shorter_than_the_start_end_with_the_denoiser(name, variant, bent):
    schedule = schedules.VPLinear()
    for n in (1, 2, 3):
        grid = np.linspace(0.6, 0.0, n + 1)
        tableau = solvers.make(name, schedule, grid, variant=variant)
        assert np.isfinite(run(tableau, bent.numpy, starts())).all()
        if n == 1:
            end = bent.numpy(starts(), schedule.at(0.6))
            check(run(tableau, bent.numpy, starts()), end)


#: Solver -> (lanes, rows) of 16 steps.
LANES = {"ipndm": (4, 16), "plms": (4, 17), "s_pndm": (3, 17), "pndm": (6, 25)}


@pytest.mark.parametrize("name", LANES)
def test_known_solvers_need_the_lanes_and_the_evaluations_that_are_known(name):
    """A change here is for review: fewer is welcome, more is a loss of memory and speed."""
    for variant in ("exact", "reference"):
        grid = np.linspace(0.95, 0.05, 17)
        tableau = solvers.make(name, schedules.VPLinear(), grid, variant=variant)
        assert (tableau.lanes, tableau.num_rows) == LANES[name]


@pytest.mark.parametrize("variant", ["exact", "reference"])
def test_a_traced_grid_gives_the_same_coefficients_and_their_derivatives(variant):
    """The fixed weights on a grid that stops at noise, which under a trace is not known."""
    grid = (0.9, 0.6, 0.25, 0.0 if variant == "exact" else 0.1)
    schedule = schedules.RectifiedLinear()
    check_traced(lambda grid: solvers.plms(schedule, grid, variant=variant), grid)


TOKENS = np.array([[0.9, 0.9], [0.5, 0.4], [0.1, 0.1]])[..., None]
BAD = [
    (dict(variant="old"), "variant = 'old': allowed are exact, reference"),
    (dict(name="ipndm", order=7), "order = 7: must be a whole number from 1 to 5"),
    (dict(grid=TOKENS), "pndm needs one time for all tokens"),
    (dict(name="s_pndm", order=2), "unknown option of solver 's_pndm'"),
    (dict(schedule=schedules.RectifiedLinear(), grid=[1.0, 0.5]), "pndm needs sigma / alpha below"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_bad_input_is_refused_with_one_line(options, message):
    options = {"name": "pndm", "schedule": schedules.VPLinear(), "grid": [0.9, 0.0]} | options
    with pytest.raises(PersonError, match=message) as error:
        solvers.make(**options)
    assert "\n" not in str(error.value)
