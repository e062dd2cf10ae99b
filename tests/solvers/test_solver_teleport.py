"""Every deterministic solver against the closed-form flow of a Gaussian, and starts made by it."""

import jax
import numpy as np
import pytest
from solver_by_hand import SCHEDULES, run, starts

from dfx import schedules, solvers
from dfx.errors import PersonError
from dfx.evolution import gaussian_flow
from dfx.schedules import grids
from dfx.solvers import handover, teleport
from dfx.targets import Mixture

pytestmark = pytest.mark.usefixtures("x64")

DETERMINISTIC = [name for name, solver in solvers.REGISTRY.items() if not solver.stochastic]
MEAN, VARIANCE = np.array([0.7, -1.2, 0.4]), np.array([4.0, 0.25, 0.0])
FLOW = gaussian_flow(Mixture.gaussian(MEAN, VARIANCE))
EDM = schedules.EDM(80.0)

#: |error| / h^order, at most, for steps h in half log-SNR and data of size 1. The derivatives of
#: x0_hat there are of size 1, so the sums of errors are; multistep methods of order 4 keep those of
#: the steps of lower order that they begin with.
CONSTANT = {1: 1.5, 2: 1.0, 3: 0.7, 4: 12.0}


def denoise(x, level):
    """The denoiser of the Gaussian, in NumPy."""
    gain = level.alpha * VARIANCE / (level.alpha**2 * VARIANCE + level.sigma**2)
    return MEAN + gain * (x - level.alpha * MEAN)


def spread_at(level, n=8):
    return level.alpha * MEAN + np.sqrt(level.alpha**2 * VARIANCE + level.sigma**2) * starts(n)


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_every_deterministic_solver_tends_to_the_closed_form(name):
    """Half log-SNR from -4 to 3; methods in time take equal steps of it, at most as long. A mode
    without variance has constant x0 and eps: exact for all others."""
    schedule, order = SCHEDULES["vp_linear"], solvers.REGISTRY[name].order
    in_time = name.startswith("flow_")
    for n in (40, 80):
        times = schedules.t_of_log_snr(schedule, 2 * np.linspace(-4, 3, n + 1))
        times = np.linspace(0.9, 0.1, n + 1) if in_time else times
        start, end = schedule.at(times[0]), schedule.at(times[-1])
        x = spread_at(start)
        gap = run(solvers.make(name, schedule, times), denoise, x) - FLOW.move(x, start, end)
        error = np.abs(gap).max(0)
        assert error.max() < CONSTANT[order] * (7 / n) ** order
        assert in_time or error[2] < 1e-12


def test_a_start_further_on_is_exact_for_a_gaussian():
    grid = grids.karras(EDM, 18)
    x = EDM.at(80.0).sigma * starts(8)
    exact = FLOW.move(x, EDM.at(80.0), schedules.CLEAN)
    errors = []
    for skip in (0, 3, 8):
        start = teleport(EDM, FLOW.move, x, grid, skip)
        path = FLOW.move(start.x, EDM.at(start.grid[0]), schedules.CLEAN)
        np.testing.assert_allclose(path, exact, rtol=1e-12)
        end = run(solvers.heun(EDM, start.grid), denoise, np.asarray(start.x))
        errors.append(np.abs(end - exact).max())
    # What is skipped is not got wrong.
    assert errors[0] > errors[1] > errors[2]


@pytest.mark.parametrize("steps", [18, 40])
def test_the_grid_left_is_the_grid_from_there(steps):
    """Equal steps in sigma^(1/7) stay so: steps - k from sigma_k are the same numbers."""
    published = {18: [80, 57.6, 40.8, 28.4, 19.4, 12.9, 8.40], 40: [80, 69.5, 60.1, 51.9, 44.6]}
    grid = grids.karras(EDM, steps)
    rounded = [float(f"{sigma:.3g}") for sigma in grid[: len(published[steps])]]
    assert rounded == published[steps]
    for skip in (1, 3, 8):
        start = teleport(EDM, FLOW.move, 80.0 * starts(2), grid, skip)
        whole = grids.karras(EDM, steps - skip, sigma_max=grid[skip])
        np.testing.assert_allclose(start.grid, whole, rtol=1e-12)


@pytest.mark.parametrize(("name", "evaluations"), [("heun", 2), ("ddim", 1), ("rho_rk4", 4),
                                                   ("dpm_solver_pp_2m", 1)])  # fmt: skip
def test_each_step_left_out_saves_its_evaluations(name, evaluations):
    grid, x = grids.karras(EDM, 18), 80.0 * starts(2)
    rows = [
        solvers.make(name, EDM, teleport(EDM, FLOW.move, x, grid, skip).grid).num_rows
        for skip in (0, 1, 5)
    ]
    assert rows[0] - rows[1] == evaluations and rows[0] - rows[2] == 5 * evaluations
    if name == "heun":
        assert rows[0] == 35


@pytest.mark.parametrize("name", ["vp_linear", "edm", "rectified_linear"])
def test_every_schedule_and_solver_takes_the_start(name):
    """From the last time, without signal on some schedules, to clean data, by methods of order 2
    and 3: h^2 for steps h = 7 / 24 in half log-SNR."""
    schedule = SCHEDULES[name]
    first = schedule.end_time
    times = schedules.t_of_log_snr(schedule, np.append(-np.inf, np.linspace(-8, 6, 25)))
    grid = np.append(np.unique(times)[::-1], 0)
    x = spread_at(schedule.at(first))
    start = teleport(schedule, FLOW.move, x, grid, 5)
    exact = FLOW.move(x, schedule.at(first), schedules.CLEAN)
    for solver in ("heun", "dpm_solver_pp_2m", "unipc_2"):
        end = run(solvers.make(solver, schedule, start.grid), denoise, np.asarray(start.x))
        assert np.abs(end - exact).max() < (7 / 24) ** 2


def skewed(x, level):
    """The denoiser of points of unequal weight on a line, whose third cumulant is not zero."""
    log = np.log(WEIGHTS) - (x - level.alpha * PLACES) ** 2 / (2 * level.sigma**2)
    weight = np.exp(log - log.max(1, keepdims=True))
    return (weight @ PLACES / weight.sum(1))[:, None]


PLACES, WEIGHTS = np.array([-1.0, 0.0, 3.0]), np.array([0.5, 0.3, 0.2])


def test_the_error_of_a_start_falls_as_the_far_field_says():
    """D differs from the Gaussian's by (third cumulant) / (2 sigma^2): x / sigma by the integral of
    that over sigma^2, sigma^-3, and the sample by sigma^-3 too. The next order, sigma^-1 of it,
    vanishes by symmetry: 0.1 of the power from 20 to 40, from a start at 2000."""
    mean = WEIGHTS @ PLACES
    flow = gaussian_flow(Mixture.gaussian([mean], [WEIGHTS @ PLACES**2 - mean**2]))
    far = schedules.EDM(2000.0)
    x, errors = mean + 2000.0 * np.linspace(-2, 2, 9)[:, None], []
    for sigma in (20.0, 40.0):
        times = np.geomspace(2000, sigma, 201)
        exact = run(solvers.make("rho_rk4", far, times), skewed, x)
        start = teleport(far, flow.move, x, np.append(times, 0), 200)
        errors.append(np.abs(start.x - exact).max() / sigma)
    assert abs(np.log2(errors[0] / errors[1]) - 3) < 0.1


def test_handover_gives_a_multistep_method_its_past():
    """The Gaussian answers before the handover, the field from there on; in float32 as well."""
    schedule, skip = SCHEDULES["vp_linear"], 5
    grid = grids.karras(schedule, 12)
    before, after = (lambda x, level: 0 * x), (lambda x, level: 0 * x + 1)
    field = handover(before, after, schedule, grid[skip])
    run_field = jax.jit(lambda x, level: field(x, level))
    for dtype in (np.float32, np.float64):
        x = np.ones((1, 1), dtype)
        found = [float(run_field(x, schedule.at(t).astype(dtype))[0, 0]) for t in grid[:-1]]
        assert found == [0.0] * skip + [1.0] * (len(grid) - 1 - skip)


def test_a_past_spares_the_steps_of_low_order():
    """On the Gaussian itself, where all else is exact: at most 0.7 of the error is left."""
    grid = schedules.t_of_log_snr(EDM, 2 * np.linspace(-4, 3, 31))
    x = spread_at(EDM.at(grid[0]))
    exact = FLOW.move(x, EDM.at(grid[0]), EDM.at(grid[-1]))
    for name in ("dpm_solver_pp_3m", "unipc_3", "deis_tab"):
        errors = []
        for past in (0, 3):
            start = teleport(EDM, FLOW.move, x, grid, 12 - past)
            end = run(solvers.make(name, EDM, start.grid), denoise, np.asarray(start.x))
            errors.append(np.abs(end - exact).max())
        assert errors[1] < 0.7 * errors[0]


def test_mistakes_are_named():
    grid, x = grids.karras(EDM, 4), starts(2)
    for skip, text in ((4, "allows 0 to 3"), (-1, "allows 0 to 3"), (1.5, "whole number")):
        with pytest.raises(PersonError, match=text):
            teleport(EDM, FLOW.move, x, grid, skip)
    with pytest.raises(PersonError, match="mean term"):
        teleport(schedules.MeanReverting(), FLOW.move, x, np.array([1.0, 0.5, 0.0]), 1)
    with pytest.raises(PersonError, match="must decrease"):
        teleport(EDM, FLOW.move, x, grid[::-1], 1)
    with pytest.raises(PersonError, match="no signal"):
        handover(denoise, denoise, schedules.RectifiedLinear(), 1.0)
