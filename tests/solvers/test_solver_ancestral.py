"""Ancestral Euler and reverse diffusion: published steps by hand, equalities, and laws."""

import itertools

import numpy as np
import pytest
from solver_by_hand import (
    SCHEDULES,
    check,
    check_traced,
    grid_of,
    lagging,
    levels,
    noises,
    run,
    starts,
)

from dfx import schedules, solvers
from dfx.errors import PersonError
from dfx.solvers import NOISE, output

pytestmark = pytest.mark.usefixtures("x64")

#: How far a fitted order may lie from the stated one.
ORDER_TOLERANCE = 0.15

#: Rounding that grows on the way from sigma = 80.
GROWN = 1e-10


def ancestral_step(sigma_from, sigma_to, eta):
    """k-diffusion, get_ancestral_step."""
    inside = sigma_to**2 * (sigma_from**2 - sigma_to**2) / sigma_from**2
    up = min(sigma_to, eta * inside**0.5)
    return (sigma_to**2 - up**2) ** 0.5, up


@pytest.mark.parametrize("to_data", [True, False])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_euler_ancestral_is_that_of_k_diffusion(schedule, eta, to_data, bent):
    """In X = x / alpha and S = sigma / alpha; eta = 3 reaches the cap of the noise."""
    schedule, z = SCHEDULES[schedule], noises(11)
    grid = grid_of(schedule, to_data=to_data)
    x, at, capped = starts(), levels(schedule, grid), False
    for i, (s, t) in enumerate(itertools.pairwise(at)):
        big_x, start, end = x / s.alpha, s.sigma / s.alpha, t.sigma / t.alpha
        d = (big_x - bent.numpy(x, s)) / start
        down, up = ancestral_step(start, end, eta)
        capped |= down == 0 < end
        x = t.alpha * (big_x + (down - start) * d + up * z[i])
    assert capped == (eta > 1)
    tableau = solvers.euler_ancestral(schedule, grid, eta)
    assert tableau.stochastic == (eta > 0) and tableau.lanes == 1
    check(run(tableau, bent.numpy, starts(), z), x, GROWN)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_euler_ancestral_is_ddim_euler_and_ddpm(schedule, bent):
    """Up to eta = 1 the same step on every schedule, so also `euler` (0) and `ddpm` small (1)."""
    schedule, z = SCHEDULES[schedule], noises(11)
    for to_data in (True, False):
        grid = grid_of(schedule, to_data=to_data)

        def end(build, *args, grid=grid):
            return run(build(schedule, grid, *args), bent.numpy, starts(), z)

        for eta in (0.0, 0.3, 1.0):
            check(end(solvers.euler_ancestral, eta), end(solvers.ddim, eta))
        check(end(solvers.euler_ancestral, 0.0), end(solvers.euler))
        check(end(solvers.euler_ancestral), end(solvers.ddpm))


@pytest.mark.parametrize("name", ["vp_linear", "edm"])
def test_reverse_diffusion_is_that_of_score_sde(name, bent):
    """Song et al. 2021, appendix E: VP in beta_i, VE in sigma_i; noise in all steps to noise."""
    schedule, z, x = SCHEDULES[name], noises(11), starts()
    grid = grid_of(schedule, to_data=False)
    for i, (s, t) in enumerate(zip(levels(schedule, grid), levels(schedule, grid)[1:])):
        score = -(x - s.alpha * bent.numpy(x, s)) / s.sigma**2
        if name == "edm":
            added = s.sigma**2 - t.sigma**2
            x = x + added * score + np.sqrt(added) * z[i]
        else:
            beta = 1 - (s.alpha / t.alpha) ** 2
            x = (2 - np.sqrt(1 - beta)) * x + beta * score + np.sqrt(beta) * z[i]
    tableau = solvers.reverse_diffusion(schedule, grid)
    assert tableau.lanes == 1
    check(run(tableau, bent.numpy, starts(), z), x, GROWN)


def test_ancestral_predictors_of_score_sde_are_ddpm(bent):
    """Appendix F: VP (x + beta s) / sqrt(1 - beta) + sqrt(beta) z; VE with the smaller noise."""
    for name, variance in (("vp_linear", "large"), ("edm", "small")):
        schedule, z, x = SCHEDULES[name], noises(11), starts()
        grid = grid_of(schedule, to_data=False)
        for i, (s, t) in enumerate(zip(levels(schedule, grid), levels(schedule, grid)[1:])):
            score = -(x - s.alpha * bent.numpy(x, s)) / s.sigma**2
            if name == "edm":
                added = s.sigma**2 - t.sigma**2
                x = x + added * score + np.sqrt(t.sigma**2 * added / s.sigma**2) * z[i]
            else:
                beta = 1 - (s.alpha / t.alpha) ** 2
                x = (x + beta * score) / np.sqrt(1 - beta) + np.sqrt(beta) * z[i]
        check(run(solvers.ddpm(schedule, grid, variance), bent.numpy, starts(), z), x, GROWN)


def test_the_last_step_to_clean_data_returns_the_denoiser_without_noise(bent):
    for build in (solvers.euler_ancestral, solvers.reverse_diffusion):
        for schedule in SCHEDULES.values():
            tableau = build(schedule, 0.6 * schedule.end_time * np.array([1.0, 0.0]))
            assert not tableau.stochastic
            expected = bent.numpy(starts(), schedule.at(0.6 * schedule.end_time))
            check(run(tableau, bent.numpy, starts()), expected)


def law_of(tableau, field, schedule, grid):
    """Mean and variance at the end, row by row: a Gaussian's denoiser is affine."""
    level = schedule.at(grid[0])
    mean, variance = level.alpha * field.mean, field.marginal_variance(level)
    for t, row in zip(grid, solvers.unstack(tableau)):
        level = schedule.at(t)
        of_x, of_x0 = row.coef[0, 0], row.coef[0, output(0)]
        gain = level.alpha * field.variance / field.marginal_variance(level)
        mean = of_x * mean + of_x0 * (field.mean + gain * (mean - level.alpha * field.mean))
        variance = (of_x + of_x0 * gain) ** 2 * variance + row.coef.get((0, NOISE), 0.0) ** 2
    return mean, variance


STOCHASTIC = {
    "half": (solvers.euler_ancestral, dict(eta=0.5)),
    "full": (solvers.euler_ancestral, dict(eta=1.0)),
    "reverse_diffusion": (solvers.reverse_diffusion, {}),
}


@pytest.mark.slow
@pytest.mark.parametrize("schedule", ["vp_linear", "rectified_linear", "edm"])
@pytest.mark.parametrize("name", STOCHASTIC)
def test_the_law_at_the_end_has_weak_order_one(name, schedule, gaussian, slope):
    """Mean and variance of the chain by recursion, without sampling error."""
    (build, options), schedule = STOCHASTIC[name], SCHEDULES[schedule]
    found, steps = [], [100, 200, 400]
    for n in steps:
        times = np.linspace(0.9**0.5, 0.2**0.5, n + 1) ** 2 * schedule.end_time
        tableau = build(schedule, times, **options)
        mean, variance = law_of(tableau, gaussian, schedule, times)
        end = schedule.at(times[-1])
        exact = gaussian.marginal_variance(end)
        found.append(
            np.abs(mean - end.alpha * gaussian.mean).sum() + np.abs(variance / exact - 1).sum()
        )
    assert found[-1] < 0.05
    assert abs(slope(steps, found) - 1) < ORDER_TOLERANCE


@pytest.mark.parametrize("name", STOCHASTIC)
def test_samples_have_the_law_of_the_chain(name, gaussian):
    """40,000 samples of 8 steps: mean, variance and covariance within 4.5 standard errors."""
    (build, options), schedule, n = STOCHASTIC[name], SCHEDULES["vp_linear"], 40_000
    grid = np.linspace(0.9, 0.0, 9)
    start, random = schedule.at(grid[0]), np.random.default_rng(0)
    spread = np.sqrt(gaussian.marginal_variance(start))
    x = start.alpha * gaussian.mean + spread * random.normal(size=(n, 2))
    tableau = build(schedule, grid, **options)
    end = run(tableau, gaussian, x, random.normal(size=(8, n, 2)))
    mean, variance = law_of(tableau, gaussian, schedule, grid)
    assert np.all(np.abs(end.mean(0) - mean) < 4.5 * np.sqrt(variance / n))
    assert np.all(np.abs(end.var(0) - variance) < 4.5 * variance * np.sqrt(2 / n))
    covariance = np.mean(np.prod(end - mean, axis=1))
    assert abs(covariance) < 4.5 * np.sqrt(np.prod(variance) / n)


@pytest.mark.parametrize("name", STOCHASTIC)
def test_each_token_is_solved_as_by_its_own_run(name, modes):
    """Tokens lag by two rows each; those that are clean before others stay as they are."""
    (build, options), schedule, n, lag = STOCHASTIC[name], schedules.VPLinear(), 8, 2
    grid, base = lagging(schedule, n, lag, end=0.0)
    x = np.random.default_rng(0).normal(size=(4, 3, 2))
    z = np.random.default_rng(1).normal(size=(len(grid) - 1, 4, 3, 2))
    together = run(build(schedule, grid, **options), modes, x, z)
    for token in range(3):
        own = z[token * lag : token * lag + n, :, token]
        alone = run(build(schedule, base, **options), modes, x[:, token], own)
        check(together[:, token], alone)


@pytest.mark.parametrize("name", ["euler_ancestral", "reverse_diffusion"])
def test_a_traced_grid_gives_the_same_coefficients_and_their_derivatives(name):
    check_traced(lambda grid: solvers.make(name, schedules.RectifiedLinear(), grid))


LINEAR = schedules.RectifiedLinear()
BAD = [
    (dict(eta=-0.1), "eta = -0.1: must be a number from 0"),
    (dict(eta=float("inf")), "eta = inf"),
    (dict(eta=float("nan")), "eta = nan"),
    (dict(name="reverse_diffusion", schedule=LINEAR, grid=[1.0, 0.5]), "start later"),
    (dict(name="reverse_diffusion", eta=1.0), "unknown option"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_bad_input_is_refused_with_one_line(options, message):
    given = {"name": "euler_ancestral", "schedule": schedules.VPLinear(), "grid": [0.9, 0.0]}
    with pytest.raises(PersonError, match=message) as error:
        solvers.make(**(given | options))
    assert "\n" not in str(error.value)


def test_euler_ancestral_may_start_from_pure_noise(modes):
    """The limit of starts just below t = 1, where S is infinite."""
    grid, z = np.linspace(1.0, 0.0, 6), noises(5)
    near = grid.copy()
    near[0] = 1 - 1e-8
    ends = [run(solvers.euler_ancestral(LINEAR, g), modes, starts(), z) for g in (grid, near)]
    np.testing.assert_allclose(*ends, atol=1e-6)  # a hundred times the shift
