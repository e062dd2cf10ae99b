"""Time grids: where they start, where they end, what is even about them."""

import jax.numpy as jnp
import numpy as np
import pytest

from dfx import schedules
from dfx.errors import PersonError
from dfx.schedules import grids

TABLE = schedules.discrete_linear()
VP = schedules.VPLinear()
# Times are found to some roundings; differences of neighbouring log-SNRs lose a digit or two more.
ROUNDING = 1e-11


def vp_log_snr(t):
    integral = 0.1 * t + 9.95 * t**2
    return -np.log(np.expm1(integral))


def assert_is_grid(grid, n, start, end):
    assert type(grid) is np.ndarray and grid.dtype == np.float64 and grid.shape == (n + 1,)
    assert grid[0] == start and grid[-1] == end
    assert np.all(np.diff(grid) < 0)


@pytest.mark.parametrize("n", [1, 2, 17, np.int64(64)])
@pytest.mark.parametrize("make", [grids.uniform, grids.quadratic])
def test_grids_in_time_run_from_the_end_time_to_the_data(schedule, make, n):
    assert_is_grid(make(schedule, n), n, schedule.end_time, 0)


@pytest.mark.parametrize("name", ["uniform", "quadratic", "uniform_log_snr"])
def test_grids_in_time_run_between_the_ends_they_are_given(schedule, name):
    start, end = 0.9 * schedule.end_time, 0.01 * schedule.end_time
    assert_is_grid(grids.make(name, schedule, 9, start=start, end=end), 9, start, end)


def test_uniform_steps_are_equal_in_time():
    np.testing.assert_allclose(np.diff(grids.uniform(VP, 8, 0.9, 0.1)), -0.1, ROUNDING)


def test_power_steps_are_equal_in_the_root_of_time():
    grid = grids.power(VP, 8, exponent=3.0, start=0.729, end=0.001)
    np.testing.assert_allclose(np.diff(np.cbrt(grid)), -0.1, ROUNDING)
    np.testing.assert_array_equal(grids.power(VP, 7, 1.0), grids.uniform(VP, 7))
    np.testing.assert_array_equal(grids.power(VP, 7, 2.0), grids.quadratic(VP, 7))


def test_quadratic_steps_are_equal_in_the_root_of_time():
    np.testing.assert_allclose(np.diff(np.sqrt(grids.quadratic(VP, 8, 0.81, 0.01))), -0.1, ROUNDING)


def test_uniform_log_snr_steps_are_equal_in_log_snr():
    grid = grids.uniform_log_snr(VP, 10)
    assert_is_grid(grid, 10, 1.0, 1e-3)
    step = (vp_log_snr(1e-3) - vp_log_snr(1.0)) / 10
    np.testing.assert_allclose(np.diff(vp_log_snr(grid)), step, ROUNDING)


def test_uniform_log_snr_is_geometric_on_edm():
    grid = grids.uniform_log_snr(schedules.EDM(), 5, start=50.0, end=0.05)
    np.testing.assert_allclose(grid[1:] / grid[:-1], 10 ** (-3 / 5), ROUNDING)


@pytest.mark.parametrize("name", ["vp_cosine", "rectified_linear", "trigonometric"])
def test_uniform_log_snr_asks_for_a_start_where_no_signal_is_left(name):
    schedule = schedules.make(name)
    with pytest.raises(PersonError, match="log-SNR is infinite at t = 1: give a start below 1"):
        grids.uniform_log_snr(schedule, 5)
    assert_is_grid(grids.uniform_log_snr(schedule, 5, start=0.99), 5, 0.99, 1e-3)


def test_uniform_log_snr_does_not_reach_the_data():
    with pytest.raises(PersonError, match="log-SNR is infinite at t = 0: give a end above 0"):
        grids.uniform_log_snr(VP, 5, end=0.0)


@pytest.mark.parametrize("n", [1, 2, 18])
def test_karras_levels_follow_the_formula_of_the_paper(n):
    grid = grids.karras(schedules.EDM(), n)
    step = np.arange(n) / max(n - 1, 1)
    levels = (80 ** (1 / 7) + step * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    assert_is_grid(grid, n, grid[0], 0)
    np.testing.assert_allclose(grid[:-1], levels, ROUNDING)


def test_karras_rho_one_is_even_in_sigma_and_large_rho_in_log_sigma():
    even = grids.karras(schedules.EDM(), 5, 1.0, 9.0, rho=1)
    np.testing.assert_allclose(even, [9, 7, 5, 3, 1, 0], ROUNDING, 1e-15)
    # The levels tend to 100, 10, 1 as log(100)^2 / (8 rho).
    geometric = grids.karras(schedules.EDM(100.0), 3, 1.0, 100.0, rho=1e6)
    np.testing.assert_allclose(geometric[:-1], [100, 10, 1], 1e-5)


def test_karras_levels_are_those_of_any_schedule(schedule):
    grid = grids.karras(schedule, 7, sigma_min=0.01, sigma_max=20.0)
    assert grid.shape == (8,) and grid[-1] == 0 and np.all(np.diff(grid) < 0)
    level = schedule.at(grid[:-1])
    expected = grids.karras(schedules.EDM(), 7, sigma_min=0.01, sigma_max=20.0)[:-1]
    np.testing.assert_allclose(level.sigma / level.alpha, expected, ROUNDING)


def test_karras_may_start_at_the_largest_level_of_a_schedule():
    # sigma/alpha at the end: 1/alpha^2 - 1 = expm1(B) for VP.
    largest = np.sqrt(np.expm1(10.05))
    grid = grids.karras(VP, 4, sigma_max=largest)
    np.testing.assert_allclose(grid[0], 1, ROUNDING)


# Indices counted from one, as in table 2 of Lin et al. 2023.
TABLE_2 = {
    "leading": [901, 801, 701, 601, 501, 401, 301, 201, 101, 1],
    "linspace": [1000, 889, 778, 667, 556, 445, 334, 223, 112, 1],
    "trailing": [1000, 900, 800, 700, 600, 500, 400, 300, 200, 100],
}


@pytest.mark.parametrize("name", TABLE_2)
def test_discrete_spacings_of_ten_steps_are_those_of_the_paper(name):
    grid = grids.make(name, TABLE, 10)
    assert_is_grid(grid, 10, TABLE_2[name][0] / 1000, 0)
    np.testing.assert_allclose(grid[:-1] * 1000, TABLE_2[name], ROUNDING)


@pytest.mark.parametrize(
    ("name", "n", "options", "indices"),
    [
        ("leading", 3, {}, [666, 333, 0]),
        ("leading", 3, {"offset": 1}, [667, 334, 1]),
        ("leading", 1, {"offset": 999}, [999]),
        ("leading", 50, {}, list(range(980, -1, -20))),
        ("trailing", 3, {}, [999, 666, 332]),
        ("trailing", 1, {}, [999]),
        ("linspace", 3, {}, [999, 500, 0]),
        ("linspace", 2, {}, [999, 0]),
    ],
)
def test_discrete_spacings_have_the_indices_of_diffusers(name, n, options, indices):
    grid = grids.make(name, TABLE, n, **options)
    assert grid[-1] == 0
    np.testing.assert_allclose(TABLE.index(grid[:-1]), indices, atol=1e-9)


@pytest.mark.parametrize("name", TABLE_2)
@pytest.mark.parametrize("n", [2, 7, 333, 999, 1000])
def test_discrete_spacings_lie_on_the_table_and_fall(name, n):
    grid = grids.make(name, TABLE, n)
    assert_is_grid(grid, n, grid[0], 0)
    indices = TABLE.index(grid[:-1])
    np.testing.assert_allclose(indices, np.round(indices), atol=1e-9)
    assert np.round(indices[-1]) >= 0 and np.round(indices[0]) <= 999


@pytest.mark.parametrize("name", TABLE_2)
def test_all_steps_of_the_table_are_the_table(name):
    np.testing.assert_allclose(grids.make(name, TABLE, 1000), np.arange(1000, -1, -1) / 1000)


@pytest.mark.parametrize("name", TABLE_2)
def test_a_table_without_signal_at_its_end_has_the_same_indices(name):
    """And `trailing` starts there: the pair of Lin et al. 2023."""
    grid = grids.make(name, schedules.discrete_zero_snr(), 10)
    np.testing.assert_array_equal(grid, grids.make(name, TABLE, 10))
    assert name != "trailing" or schedules.discrete_zero_snr().at(grid[0]).alpha == 0


def test_grids_take_a_schedule_of_jax_numbers():
    schedule = schedules.VPLinear(jnp.float32(0.1), jnp.float32(20.0))
    for name in ("uniform", "uniform_log_snr", "karras"):
        # The schedule itself is then in float32.
        np.testing.assert_allclose(grids.make(name, schedule, 6), grids.make(name, VP, 6), 1e-5)


@pytest.mark.parametrize("name", grids.REGISTRY)
@pytest.mark.parametrize("n", [0, -1, 10.5, 10.0, True, "10", None])
def test_the_number_of_steps_is_a_positive_whole_number(name, n):
    with pytest.raises(PersonError, match="number of steps must be a whole number of at least 1"):
        grids.make(name, TABLE, n)


@pytest.mark.parametrize(
    ("name", "schedule", "options", "message"),
    [
        ("uniform", VP, {"start": 1.5}, "0 <= end < start <= 1, got start = 1.5, end = 0"),
        ("uniform", VP, {"end": -0.1}, "0 <= end < start <= 1, got start = 1, end = -0.1"),
        ("power", VP, {"exponent": 0.0}, "power needs exponent > 0, got 0"),
        ("quadratic", VP, {"start": 0.2, "end": 0.2}, "got start = 0.2, end = 0.2"),
        ("uniform", schedules.EDM(), {"start": 81.0}, "end < start <= 80, got start = 81"),
        ("uniform", VP, {"start": float("nan")}, "got start = nan"),
        ("uniform", VP, {"end": "0"}, "end must be a number, got '0'"),
        ("karras", schedules.VE(), {}, "sigma_max = 80 exceeds the schedule's sigma/alpha, 50"),
        ("karras", VP, {"sigma_min": 0.0}, "0 < sigma_min < sigma_max, got 0 and 80"),
        ("karras", VP, {"sigma_min": 3.0, "sigma_max": 2.0}, "got 3 and 2"),
        ("karras", VP, {"rho": 0.0}, "rho > 0, got 0"),
        ("karras", VP, {"rho": "7"}, "rho must be a number, got '7'"),
        ("leading", VP, {}, r"needs a discrete table such as 'ddpm', got VPLinear"),
        ("trailing", schedules.discrete_linear(3), {}, "4 steps are more than the 3 levels"),
        ("leading", TABLE, {"offset": 250}, "offset must be a whole number from 0 to 249, got 250"),
        ("leading", TABLE, {"offset": -1}, "from 0 to 249, got -1"),
        ("leading", TABLE, {"offset": 0.5}, "from 0 to 249, got 0.5"),
        ("uniform", VP, {"strat": 0.5}, "option of grid 'uniform': 'strat': did you mean 'start'"),
        ("karas", VP, {}, "unknown grid 'karas': did you mean 'karras'"),
    ],
)
def test_wrong_arguments_are_named(name, schedule, options, message):
    with pytest.raises(PersonError, match=message) as error:
        grids.make(name, schedule, 4, **options)
    assert "\n" not in str(error.value)


def test_linspace_needs_two_steps():
    with pytest.raises(PersonError, match="at least 2 steps"):
        grids.linspace(TABLE, 1)
