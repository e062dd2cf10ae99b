"""Each solver against a loop written by hand in NumPy from the formula of its source."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from solver_by_hand import ROUNDING, SCHEDULES, grid_of, levels, noises, starts

from dfx import schedules, solvers

pytestmark = pytest.mark.usefixtures("x64")


def pick(z, row):
    return z[row]


def run(tableau, field, x, z=None):
    noise = None if z is None else jax.tree_util.Partial(pick, jnp.asarray(z))
    return np.asarray(solvers.sample(tableau, field, x, noise=noise))


def check(got, expected):
    np.testing.assert_allclose(got, expected, rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize("to_data", [True, False])
@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("name", SCHEDULES)
def test_ddim_is_its_formula(name, eta, to_data, bent):
    """Song et al. 2021, eq. 12 and 16, for general (alpha, sigma)."""
    schedule, z = SCHEDULES[name], noises(11)
    grid = grid_of(schedule, to_data=to_data)
    x = starts()
    for i, (s, t) in enumerate(zip(levels(schedule, grid), levels(schedule, grid)[1:])):
        x0 = bent.numpy(x, s)
        eps = (x - s.alpha * x0) / s.sigma
        std = eta * t.sigma / s.sigma * np.sqrt(s.sigma**2 - (s.alpha / t.alpha) ** 2 * t.sigma**2)
        x = t.alpha * x0 + np.sqrt(t.sigma**2 - std**2) * eps + std * z[i]
    tableau = solvers.ddim(schedule, grid, eta=eta)
    assert tableau.stochastic == (eta > 0)
    check(run(tableau, bent.jax, starts(), z if eta else None), x)


@pytest.mark.parametrize("variance", ["small", "large"])
def test_ddpm_is_the_algorithm_of_its_paper(variance, bent):
    """Ho et al. 2020, algorithm 2, in betas and eps; no noise in the last step."""
    betas = np.linspace(1e-3, 0.08, 25)
    schedule = schedules.ddpm_table(betas)
    grid = schedule.time_of_index(np.arange(24.0, -2, -1))
    abar, z, x = np.cumprod(1 - betas), noises(25), starts()
    for row, i in enumerate(range(24, -1, -1)):
        level = schedule.at(schedule.time_of_index(i))
        x0 = bent.numpy(x, level)
        eps = (x - np.sqrt(abar[i]) * x0) / np.sqrt(1 - abar[i])
        mean = (x - betas[i] / np.sqrt(1 - abar[i]) * eps) / np.sqrt(1 - betas[i])
        before = abar[i - 1] if i else 1.0
        var = betas[i] if variance == "large" else betas[i] * (1 - before) / (1 - abar[i])
        x = mean + (np.sqrt(var) * z[row] if i else 0)
    check(run(solvers.ddpm(schedule, grid, variance), bent.jax, starts(), z), x)


@pytest.mark.parametrize("variance", ["small", "large"])
@pytest.mark.parametrize("name", SCHEDULES)
def test_ddpm_is_the_gaussian_posterior_on_any_schedule(name, variance, bent):
    """The mean and variance of q(x_t | x_s, x0) by the product of q(x_t | x0) and q(x_s | x_t)."""
    schedule, z, x = SCHEDULES[name], noises(11), starts()
    grid = grid_of(schedule, to_data=False)
    for i, (s, t) in enumerate(zip(levels(schedule, grid), levels(schedule, grid)[1:])):
        a = s.alpha / t.alpha
        beta = s.sigma**2 - a**2 * t.sigma**2  # x_s = a x_t + sqrt(beta) eps
        precision = 1 / t.sigma**2 + a**2 / beta
        mean = (t.alpha * bent.numpy(x, s) / t.sigma**2 + a * x / beta) / precision
        std = np.sqrt(1 / precision if variance == "small" else beta)
        x = mean + std * z[i]
    check(run(solvers.ddpm(schedule, grid, variance), bent.jax, starts(), z), x)


@pytest.mark.parametrize("name", SCHEDULES)
def test_euler_in_sigma_is_euler_for_x_over_alpha(name, bent):
    schedule, x = SCHEDULES[name], starts()
    grid = grid_of(schedule)
    for s, t in zip(levels(schedule, grid), levels(schedule, grid)[1:]):
        scaled, d = x / s.alpha, (x / s.alpha - bent.numpy(x, s)) / (s.sigma / s.alpha)
        x = t.alpha * (scaled + (t.sigma / t.alpha - s.sigma / s.alpha) * d)
    check(run(solvers.euler(schedule, grid), bent.jax, starts()), x)


@pytest.mark.parametrize("name", SCHEDULES)
def test_euler_in_time_adds_steps_of_the_velocity(name, bent):
    schedule, x = SCHEDULES[name], starts()
    grid = grid_of(schedule)
    for s, t in zip(levels(schedule, grid), levels(schedule, grid)[1:]):
        x0 = bent.numpy(x, s)
        eps = (x - s.alpha * x0) / s.sigma
        x = x + (t.t - s.t) * (s.alpha_dot * x0 + s.sigma_dot * eps)
    check(run(solvers.euler(schedule, grid, "time"), bent.jax, starts()), x)


@pytest.mark.parametrize("name", ["vp_linear", "edm"])
def test_euler_maruyama_is_that_of_the_score_sde(name, bent):
    """Song et al. 2021, f and g in closed form (VP: beta(t); VE with sigma = t: g^2 = 2 t)."""
    schedule, z, x = SCHEDULES[name], noises(11), starts()
    grid = grid_of(schedule)
    for i, (s, t) in enumerate(zip(levels(schedule, grid), levels(schedule, grid)[1:])):
        beta = 0.1 + s.t * 19.9
        f, g = (-beta / 2, np.sqrt(beta)) if name == "vp_linear" else (0.0, np.sqrt(2 * s.t))
        score = -(x - s.alpha * bent.numpy(x, s)) / s.sigma**2
        dt = s.t - t.t
        x = x - (f * x - g**2 * score) * dt + (g * np.sqrt(dt) * z[i] if i < 10 else 0)
    check(run(solvers.euler_maruyama(schedule, grid), bent.jax, starts(), z), x)


def edm_sampler(field, x, sigmas, z, churn, low, high, noise):
    """Karras et al. 2022, algorithm 2 (algorithm 1 for churn = 0); z: one noise a step."""
    steps = len(sigmas) - 1
    for i, (s, t) in enumerate(itertools.pairwise(sigmas)):
        gamma = min(churn / steps, np.sqrt(2) - 1) if low <= s <= high else 0
        hat = s + gamma * s
        x_hat = x + np.sqrt(hat**2 - s**2) * noise * z[i]
        d = (x_hat - field(x_hat, hat)) / hat
        x = x_hat + (t - hat) * d
        if t != 0:
            d_new = (x - field(x, t)) / t
            x = x_hat + (t - hat) * (d / 2 + d_new / 2)
    return x


CHURNS = [(0, 0, np.inf, 1), (3, 0, np.inf, 1.003), (30, 0.05, 10, 1.01), (1, 0.5, 50, 0)]


@pytest.mark.parametrize(("churn", "low", "high", "noise"), CHURNS)
def test_heun_is_the_edm_algorithm(churn, low, high, noise):
    """The field contracts as a denoiser does, so that rounding does not grow from 80 to 0.002."""
    schedule = schedules.EDM(200.0)
    grid = schedules.grids.karras(schedule, 9)

    def of(xp):
        return lambda x, sigma: x / (1 + sigma**2) + 0.3 * xp.sin(x / (1 + sigma)) + 0.1

    field = of(np)
    z = noises(9)
    expected = edm_sampler(field, 80 * starts(), grid, z, churn, low, high, noise)
    # Step i + 1 has the noise of the last row of step i, 2 i + 1; step 0 that of the start, row -1.
    by_row = np.zeros((17, *z.shape[1:]))
    by_row[[-1, *range(1, 17, 2)]] = z
    tableau = solvers.heun(schedule, grid, churn, low, high, noise)
    traced = lambda x, level: of(jnp)(x, level.sigma)  # noqa: E731
    got = run(tableau, traced, 80 * starts(), by_row if churn else None)
    # rounding of the start, 80, and of the times of raised levels
    np.testing.assert_allclose(got, expected, rtol=1e-11, atol=80 * ROUNDING)
    assert tableau.num_rows == 17


def test_heun_on_another_schedule_is_heun_for_x_over_alpha(bent):
    schedule = schedules.VPLinear()
    grid = grid_of(schedule)
    at = levels(schedule, grid)
    sigmas = np.array([level.sigma / level.alpha for level in at])
    find = {float(sigma): level for sigma, level in zip(sigmas, at)}

    def field(x, sigma):
        level = find[float(sigma)]
        return bent.numpy(level.alpha * x, level)

    expected = edm_sampler(field, starts() / at[0].alpha, sigmas, noises(11), 0, 0, 1, 1)
    check(run(solvers.heun(schedule, grid), bent.jax, starts()), expected)


def test_churn_works_on_any_schedule(bent):
    """A step of the churned sampler from VP is that of EDM in x / alpha, level for level; the
    bounds are levels sigma / alpha, one of which no sigma reaches."""
    schedule = schedules.VPLinear()
    grid = grid_of(schedule, 6, start=0.8)
    at = levels(schedule, grid)
    sigmas, z = np.array([level.sigma / level.alpha for level in at]), noises(6)

    def field(x, sigma):
        level = schedule.at(schedules.t_of_log_snr(schedule, -2 * np.log(sigma)))
        return bent.numpy(level.alpha * x, level)

    expected = edm_sampler(field, starts() / at[0].alpha, sigmas, z, 1.5, 0.2, 2.0, 1.1)
    within = (sigmas >= 0.2) & (sigmas <= 2.0)
    assert 0 < within[:-1].sum() < 5 and at[0].sigma < 1
    by_row = np.zeros((11, *z.shape[1:]))
    by_row[[-1, *range(1, 11, 2)]] = z
    got = run(solvers.heun(schedule, grid, 1.5, 0.2, 2.0, 1.1), bent.jax, starts(), by_row)
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", SCHEDULES)
def test_ddim_with_eta_one_is_ddpm_with_the_same_key(name, bent):
    schedule = SCHEDULES[name]
    for to_data in (True, False):
        grid, x, key = grid_of(schedule, to_data=to_data), starts(), jax.random.key(4)
        one = solvers.sample(solvers.ddim(schedule, grid, eta=1.0), bent.jax, x, key)
        check(one, solvers.sample(solvers.ddpm(schedule, grid), bent.jax, x, key))


def test_flow_euler_is_ddim_on_the_linear_path(bent):
    schedule = schedules.RectifiedLinear()
    grid = np.linspace(1, 0, 8)
    one = run(solvers.euler(schedule, grid, "time"), bent.jax, starts())
    check(one, run(solvers.ddim(schedule, grid), bent.jax, starts()))


@pytest.mark.parametrize("name", solvers.REGISTRY)
def test_two_points_and_the_last_step_to_the_data_return_the_denoiser(name, bent):
    schedule = SCHEDULES["vp_linear"]
    if name == "euler_maruyama":
        pytest.skip("its step is not exact for a constant denoiser")
    tableau = solvers.make(name, schedule, [0.6, 0.0])
    got = solvers.sample(tableau, bent.jax, starts(), jax.random.key(0))
    check(got, bent.numpy(starts(), schedule.at(0.6)))
