"""Orders of convergence on Gaussians in closed form, and the laws of the stochastic solvers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dfx import schedules, solvers
from dfx.solvers import NOISE, output

pytestmark = pytest.mark.usefixtures("x64")

#: How far a fitted order may lie from the stated one; the next term of the error makes the
#: difference.
ORDER_TOLERANCE = 0.15

SCHEDULES = {
    "vp_linear": schedules.VPLinear(),
    "edm": schedules.EDM(80.0),
    "rectified_linear": schedules.RectifiedLinear(),
}


def errors(build, schedule, grid, field, steps):
    """Mean distance from the exact end, starts at one standard deviation around the mean of x_t."""
    found = []
    for n in steps:
        times = grid(schedule, n)
        s, t = schedule.at(times[0]), schedule.at(times[-1])
        spread = np.random.default_rng(0).normal(size=(32, 2))
        x = s.alpha * field.mean + np.sqrt(field.marginal_variance(s)) * spread
        end = solvers.sample(build(schedule, times), field, x)
        found.append(np.mean(np.linalg.norm(end - field.flow(x, s, t), axis=-1)))
    return found


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("solver", ["ddim", "euler", "heun"])
def test_the_error_falls_with_the_stated_order(solver, name, gaussian, half_log_snr_grid, slope):
    """Half log-SNR from -4 to 3 in 40 to 160 equal steps, from x_T of the exact law."""
    steps = [40, 80, 160]
    found = errors(
        solvers.REGISTRY[solver].build, SCHEDULES[name], half_log_snr_grid, gaussian, steps
    )
    assert abs(slope(steps, found) - solvers.REGISTRY[solver].order) < ORDER_TOLERANCE


def test_euler_in_time_has_order_one_on_a_uniform_grid(gaussian, slope):
    steps = [40, 80, 160]
    build = lambda schedule, grid: solvers.euler(schedule, grid, "time")  # noqa: E731
    grid = lambda schedule, n: np.linspace(0.9, 0.1, n + 1)  # noqa: E731
    found = errors(build, SCHEDULES["vp_linear"], grid, gaussian, steps)
    assert abs(slope(steps, found) - 1) < ORDER_TOLERANCE


def test_heun_is_more_exact_than_euler_at_equal_evaluations(gaussian, half_log_snr_grid):
    (heun,) = errors(solvers.heun, SCHEDULES["edm"], half_log_snr_grid, gaussian, [40])
    (euler,) = errors(solvers.euler, SCHEDULES["edm"], half_log_snr_grid, gaussian, [80])
    assert heun < euler / 4


def moments(field, rows):
    """Mean and variance at the end of x' = of_x x + of_x0 x0_hat + of_z z, row by row, from those
    of x_T.

    The denoiser of a Gaussian is mean + gain (x - alpha mean): all stays normal.
    """
    (level, *_) = rows[0]
    mean, variance = level.alpha * field.mean, field.marginal_variance(level)
    for level, of_x, of_x0, of_z in rows:
        gain = level.alpha * field.variance / field.marginal_variance(level)
        mean = of_x * mean + of_x0 * (field.mean + gain * (mean - level.alpha * field.mean))
        variance = (of_x + of_x0 * gain) ** 2 * variance + of_z**2
    return mean, variance


def law_of(tableau, field, schedule, grid):
    """The law at the end from the coefficients of a one-lane tableau."""
    rows = [
        (schedule.at(t), row.coef[0, 0], row.coef[0, output(0)], row.coef[0, NOISE])
        for t, row in zip(grid, solvers.unstack(tableau))
    ]
    return moments(field, rows)


STOCHASTIC = {
    "ddpm small": solvers.ddpm,
    "ddpm large": lambda schedule, grid: solvers.ddpm(schedule, grid, "large"),
    "ddim half": lambda schedule, grid: solvers.ddim(schedule, grid, eta=0.5),
    "euler_maruyama": solvers.euler_maruyama,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", STOCHASTIC)
def test_the_law_at_the_end_has_weak_order_one(name, gaussian, slope):
    schedule, steps = SCHEDULES["vp_linear"], [100, 200, 400, 800]
    found = []
    for n in steps:
        grid = np.linspace(1.0, 0.2, n + 1)
        mean, variance = law_of(STOCHASTIC[name](schedule, grid), gaussian, schedule, grid)
        end = schedule.at(0.2)
        found.append(
            np.abs(mean - end.alpha * gaussian.mean).sum()
            + np.abs(variance - gaussian.marginal_variance(end)).sum()
        )
    assert found[-1] < 0.01
    assert abs(slope(steps, found) - 1) < ORDER_TOLERANCE


@pytest.mark.parametrize("name", STOCHASTIC)
def test_samples_have_the_law_of_the_chain(name, gaussian):
    """40,000 samples of 20 steps: mean, variance and covariance within 4.5 standard errors."""
    schedule, n = SCHEDULES["vp_linear"], 40_000
    grid = np.linspace(1.0, 0.1, 21)
    start = schedule.at(1.0)
    spread = np.sqrt(gaussian.marginal_variance(start))
    draws = jax.random.normal(jax.random.key(0), (n, 2), jnp.float64)
    x = start.alpha * gaussian.mean + spread * draws
    tableau = STOCHASTIC[name](schedule, grid)
    end = np.asarray(solvers.sample(tableau, gaussian, x, jax.random.key(1)))
    mean, variance = law_of(tableau, gaussian, schedule, grid)
    assert np.all(np.abs(end.mean(0) - mean) < 4.5 * np.sqrt(variance / n))
    assert np.all(np.abs(end.var(0) - variance) < 4.5 * variance * np.sqrt(2 / n))
    covariance = np.mean(np.prod(end - mean, axis=1))
    assert abs(covariance) < 4.5 * np.sqrt(np.prod(variance) / n)


@pytest.mark.slow
def test_churn_leaves_the_law_right_up_to_the_steps(gaussian):
    """EDM with churn at 60 steps: variance within 4.5 standard errors plus 1 % for the steps."""
    schedule, n = schedules.EDM(200.0), 20_000
    grid = schedules.grids.karras(schedule, 60)
    x = gaussian.mean + 80.0 * jax.random.normal(jax.random.key(0), (n, 2), jnp.float64)
    tableau = solvers.heun(schedule, grid, churn=20.0)
    end = np.asarray(solvers.sample(tableau, gaussian, x, jax.random.key(1)))
    np.testing.assert_allclose(end.var(0), gaussian.variance, rtol=4.5 * np.sqrt(2 / n) + 0.01)
    errors = np.abs(end.mean(0) - gaussian.mean)
    assert np.all(errors < 4.5 * np.sqrt(gaussian.variance / n) + 0.01)
