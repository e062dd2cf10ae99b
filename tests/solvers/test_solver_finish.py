"""The half step to clean data: what it leaves out, and where it may not be taken."""

import jax
import numpy as np
import pytest
from solver_by_hand import SCHEDULES, check, grid_of, run, starts

from dfx import schedules, solvers
from dfx.errors import PersonError

pytestmark = pytest.mark.usefixtures("x64")


def finished(name, schedule, grid, **options):
    tableau = solvers.make(name, schedule, grid[:-1], **options)
    return solvers.half_denoise(tableau, schedule, grid[-2])


@pytest.mark.parametrize("name", SCHEDULES)
def test_it_ends_half_way_between_the_point_and_its_denoiser(name, gaussian):
    schedule = SCHEDULES[name]
    grid = grid_of(schedule, 5)
    x = run(solvers.make("heun", schedule, grid[:-1]), gaussian, starts(6, 2))
    level = schedule.at(grid[-2])
    by_hand = (x / level.alpha + gaussian(x, level)) / 2
    check(run(finished("heun", schedule, grid), gaussian, starts(6, 2)), by_hand)


@pytest.mark.parametrize(("name", "rows"), [("ddim", 6), ("heun", 11), ("unipc_3", 6)])
def test_it_costs_what_a_step_to_the_denoiser_costs(name, rows):
    schedule = schedules.VPLinear()
    grid = grid_of(schedule, 6)
    assert finished(name, schedule, grid).num_rows == rows
    assert solvers.make(name, schedule, grid).num_rows == rows


@pytest.mark.parametrize(("half", "order"), [(True, 4), (False, 2)])
def test_its_error_is_of_fourth_order_in_the_last_noise(half, order, gaussian):
    """One step from the exact path; the whole step's is of second order. The fitted orders are off
    by the next power of (noise / sd)^2, below 0.05 here."""
    schedule = schedules.EDM(80.0)
    found = []
    for noise in (0.08, 0.04, 0.02):
        level = schedule.at(noise)
        x = gaussian.flow(starts(32, 2), schedule.at(0.0), level)
        step = solvers.ddim(schedule, [noise * (1 + 1e-12), noise])
        tableau = solvers.half_denoise(step, schedule, noise) if half else None
        tableau = tableau or solvers.ddim(schedule, [noise, 0.0])
        found.append(np.abs(run(tableau, gaussian, x) - starts(32, 2)).max())
    slopes = np.diff(np.log(found)) / np.log(0.5)
    np.testing.assert_allclose(slopes, order, atol=0.05)


def test_it_shares_a_pattern_with_one_stage_solvers_and_runs_compiled(gaussian):
    schedule = schedules.RectifiedLinear()
    grid = grid_of(schedule, 6)
    tableau = finished("ddim", schedule, grid)
    assert jax.tree.structure(tableau) == jax.tree.structure(solvers.ddim(schedule, grid))
    x = starts(6, 2)
    check(solvers.sample(tableau, gaussian, x), run(tableau, gaussian, x))


def test_a_mean_term_is_refused():
    schedule = schedules.MeanReverting(schedules.VPLinear())
    with pytest.raises(PersonError, match="without a mean term"):
        solvers.half_denoise(solvers.ddim(schedule, [0.9, 0.1]), schedule, 0.1)


@pytest.mark.parametrize(
    ("schedule", "t", "message"),
    [
        (schedules.VPLinear(), 0.0, "starts at sigma = 0, alpha = 1: both must be positive"),
        (schedules.RectifiedLinear(), 1.0, "starts at sigma = 1, alpha = 0: both must be positive"),
    ],
)
def test_it_is_not_taken_from_clean_data_or_pure_noise(schedule, t, message):
    with pytest.raises(PersonError, match=message):
        solvers.half_denoise(solvers.ddim(schedule, [0.9, 0.1]), schedule, t)
