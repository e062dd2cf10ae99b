"""Predictor-corrector sampling: its formulas by hand, its limits, the law a corrector keeps."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from solver_by_hand import levels

from dfx import fields, schedules, solvers
from dfx.errors import PersonError
from dfx.solvers import NOISE, output
from dfx.solvers.langevin import CORRECTOR
from dfx.solvers.noise import draw

#: Float64 rounding over some tens of rows.
ROUNDING = 1e-12

pytestmark = pytest.mark.usefixtures("x64")

SCHEDULES = {
    "vp_linear": schedules.VPLinear(),
    "edm": schedules.EDM(80.0),
    "rectified_linear": schedules.RectifiedLinear(),
}

PREDICTORS = {
    "reverse_diffusion": solvers.reverse_diffusion,
    "ddpm": solvers.ddpm,
    "euler_maruyama": solvers.euler_maruyama,
    "ddim": solvers.ddim,
}


def grid_of(schedule, n=6, end=0.0):
    return np.linspace(0.95, end, n + 1) ** 2 * schedule.end_time


def starts(n=5, d=3, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


def pick(z, row):
    return z[row]


def run_with(tableau, field, x, z):
    noise = jax.tree_util.Partial(pick, jnp.asarray(z))
    return np.asarray(solvers.sample(tableau, field, jnp.asarray(x), noise=noise))


def check(got, expected):
    np.testing.assert_allclose(got, expected, rtol=ROUNDING, atol=ROUNDING)


def test_reverse_diffusion_is_that_of_its_paper_on_vp(bent):
    """x <- (2 - sqrt(1 - beta_i)) x + beta_i score + sqrt(beta_i) z, Song et al. 2021, eq. 46."""
    betas = np.linspace(1e-3, 0.08, 20)
    schedule = schedules.ddpm_table(betas)
    grid = schedule.time_of_index(np.arange(19.0, 3, -1))
    abar, x, z = np.cumprod(1 - betas), starts(), np.random.default_rng(9).normal(size=(15, 5, 3))
    for row, i in enumerate(range(19, 4, -1)):
        level = schedule.at(schedule.time_of_index(i))
        score = -(x - np.sqrt(abar[i]) * bent.numpy(x, level)) / (1 - abar[i])
        x = (2 - np.sqrt(1 - betas[i])) * x + betas[i] * score + np.sqrt(betas[i]) * z[row]
    check(run_with(solvers.reverse_diffusion(schedule, grid), bent.jax, starts(), z), x)


def test_reverse_diffusion_is_that_of_its_paper_on_ve(bent):
    """x <- x + (sigma_i^2 - sigma_(i-1)^2) score + sqrt(sigma_i^2 - sigma_(i-1)^2) z."""
    edm, x, z = SCHEDULES["edm"], starts(), np.random.default_rng(9).normal(size=(6, 5, 3))
    grid = grid_of(edm, end=0.1)
    for i, (s, t) in enumerate(itertools.pairwise(grid)):
        score = -(x - bent.numpy(x, edm.at(s))) / s**2
        x = x + (s**2 - t**2) * score + np.sqrt(s**2 - t**2) * z[i]
    check(run_with(solvers.reverse_diffusion(edm, grid), bent.jax, starts(), z), x)


@pytest.mark.parametrize("name", SCHEDULES)
def test_reverse_diffusion_ends_clean_data_with_the_denoiser(name, bent):
    schedule, x = SCHEDULES[name], starts()
    start = 1.0 if name == "rectified_linear" else 0.6
    tableau = solvers.reverse_diffusion(schedule, [start, 0.0])
    assert not tableau.stochastic
    check(solvers.sample(tableau, bent.jax, jnp.asarray(x)), bent.numpy(x, schedule.at(start)))


def test_tokens_of_reverse_diffusion_go_their_own_way(bent):
    """The second token waits two rows; with the same noise it takes the steps it takes alone."""
    schedule, times = SCHEDULES["vp_linear"], np.linspace(0.9, 0.1, 5)
    grid = np.stack([np.append(times, [0.1, 0.1]), np.append([0.9, 0.9], times)], 1)[:, :, None]
    x, z = starts(4, 2).reshape(4, 2, 1), np.random.default_rng(9).normal(size=(6, 4, 2, 1))
    both = run_with(solvers.reverse_diffusion(schedule, grid), bent.jax, x, z)
    alone = solvers.reverse_diffusion(schedule, times)
    for token in (0, 1):
        noise = z[2 * token :, :, token]
        check(both[:, token], run_with(alone, bent.jax, x[:, token], noise))


def test_reverse_diffusion_has_weak_order_one(gaussian, slope):
    """Mean and variance at t = 0.2 from the coefficients: all stays normal."""
    schedule, steps, errors = SCHEDULES["vp_linear"], [100, 200, 400], []
    for n in steps:
        grid = np.linspace(1.0, 0.2, n + 1)
        rows = solvers.unstack(solvers.reverse_diffusion(schedule, grid))
        start = schedule.at(1.0)
        mean, variance = start.alpha * gaussian.mean, gaussian.marginal_variance(start)
        for s, row in zip(levels(schedule, grid), rows):
            gain = s.alpha * gaussian.variance / gaussian.marginal_variance(s)
            of_x, of_x0 = row.coef[0, 0], row.coef[0, output(0)]
            mean = of_x * mean + of_x0 * (gaussian.mean + gain * (mean - s.alpha * gaussian.mean))
            variance = (of_x + of_x0 * gain) ** 2 * variance + row.coef[0, NOISE] ** 2
        end = schedule.at(0.2)
        off = np.abs(mean - end.alpha * gaussian.mean).sum()
        errors.append(off + np.abs(variance - gaussian.marginal_variance(end)).sum())
    assert abs(slope(steps, errors) - 1) < 0.15


@pytest.mark.parametrize("name", PREDICTORS)
def test_without_corrections_it_is_the_predictor_with_the_same_key(name, bent):
    schedule = SCHEDULES["vp_linear"]
    tableau = PREDICTORS[name](schedule, grid_of(schedule))
    x, key = jnp.asarray(starts()), jax.random.key(2)
    alone = solvers.sample(tableau, bent.jax, x, key)
    got = solvers.sample_with_corrector(tableau, bent.jax, x, key, num_corrections=0)
    check(got, alone)


def langevin_by_hand(x, score, z, r, norm, sigma):
    """Song et al. 2021, algorithms 4 and 5 without alpha_i, in their symbols."""
    if norm == "level":
        epsilon = 2 * (r * sigma) ** 2 * np.ones((len(x), 1))
    else:
        size = lambda a: np.linalg.norm(a, axis=-1, keepdims=True)  # noqa: E731
        z_norm, g_norm = size(z), size(score)
        if norm == "batch":
            z_norm, g_norm = z_norm.mean(), g_norm.mean()
        epsilon = 2 * (r * z_norm / g_norm) ** 2
    return x + epsilon * score + np.sqrt(2 * epsilon) * z


@pytest.mark.parametrize("norm", ["sample", "batch", "level"])
def test_a_step_of_pictures_is_its_formula(norm, bent):
    """A picture is one sample: its norm is over all its entries but the rows without noise, which
    stay."""
    level = SCHEDULES["vp_linear"].at(np.array([0.3, 0.0, 0.5])[:, None, None])
    x, z = np.random.default_rng(0).normal(size=(2, 4, 3, 2, 2))
    z = z * np.arange(1.0, 5)[:, None, None, None]  # norms that differ
    got = solvers.langevin_step(bent.jax, jnp.asarray(x), level, jnp.asarray(z), 0.2, norm)
    np.testing.assert_array_equal(got[:, 1], x[:, 1])
    noisy = type(level)(*(np.broadcast_to(entry, (3, 2, 2))[::2] for entry in level))
    x, z, got = x[:, ::2], z[:, ::2], got[:, ::2]
    score = -(x - noisy.alpha * bent.numpy(x, noisy)) / noisy.sigma**2
    x, score, z = (a.reshape(4, -1) for a in (x, score, z))
    expected = langevin_by_hand(x, score, z, 0.2, norm, noisy.sigma.reshape(-1))
    check(got.reshape(4, -1), expected)


@pytest.mark.parametrize(
    "norm", [*(pytest.param(n, marks=pytest.mark.slow) for n in ("sample", "batch")), "level"]
)
def test_the_path_is_a_loop_of_corrections_and_predictions(norm, bent):
    """Two Langevin steps at level s, then DDPM from s to t, with noise drawn as documented."""
    schedule, snr, key = SCHEDULES["vp_linear"], 0.2, jax.random.key(5)
    grid, x = grid_of(schedule), starts()
    tableau = solvers.ddpm(schedule, grid)
    rows = solvers.unstack(tableau)
    own = jax.random.fold_in(key, CORRECTOR)
    for i, (t, row) in enumerate(zip(grid, rows)):
        level = schedule.at(t)
        for k in range(2):
            z = np.asarray(draw(jax.random.fold_in(own, k), i, x.shape, jnp.float64))
            score = -(x - level.alpha * bent.numpy(x, level)) / level.sigma**2
            x = langevin_by_hand(x, score, z, snr, norm, level.sigma)
        z = np.asarray(draw(key, i, x.shape, jnp.float64))
        x0 = bent.numpy(x, level)
        x = row.coef[0, 0] * x + row.coef[0, output(0)] * x0 + row.coef.get((0, NOISE), 0) * z
    got = solvers.sample_with_corrector(
        tableau, bent.jax, jnp.asarray(starts()), key, num_corrections=2, snr=snr, norm=norm
    )
    check(got, x)


def draws(field, level, n, d, seed=0):
    z = np.random.default_rng(seed).normal(size=(n, d))
    return jnp.asarray(level.alpha * field.mean + np.sqrt(field.marginal_variance(level)) * z)


def test_a_langevin_step_changes_the_variance_by_the_square_of_its_size(gaussian):
    """Step eps from the exact law of N(m, v): v (1 - eps / v)^2 + 2 eps = v + eps^2 / v.

    20,000 samples, snr 0.5: eps = sigma^2 / 2. Mean and variance within 4.5 standard errors.
    """
    level, n = SCHEDULES["vp_linear"].at(0.3), 20_000
    x = draws(gaussian, level, n, 2)
    z = jnp.asarray(np.random.default_rng(1).normal(size=x.shape))
    after = np.asarray(solvers.langevin_step(gaussian, x, level, z, 0.5, "level"))
    v, eps = gaussian.marginal_variance(level), 0.5 * level.sigma**2
    expected = v + eps**2 / v
    assert np.all(np.abs(after.var(0) - expected) < 4.5 * expected * np.sqrt(2 / n))
    assert np.all(np.abs(after.mean(0) - level.alpha * gaussian.mean) < 4.5 * np.sqrt(expected / n))
    assert np.any(np.abs(after.var(0) - v) > 4.5 * v * np.sqrt(2 / n))  # the test can tell


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["sample", "batch"])
def test_a_step_by_norms_changes_the_variance_as_computed(norm, gaussian):
    """From N(m, v I) with R = |x - m|^2 / v and Z = |z|^2, both chi-squared of d degrees:

        batch    eps = 2 r^2 v,          variance / v = 1 + 4 r^4,
        sample   eps = 2 r^2 v Z / R,    variance / v = 1 + 16 r^2 / (d - 2)
                                                          + 4 r^4 (d + 2) / (d - 2),

    since E[1 / R] = 1 / (d - 2) and E[Z^2] = d (d + 2). 20,000 samples, 4.5 standard errors.
    """
    level, n, d, r = SCHEDULES["vp_linear"].at(0.3), 20_000, 8, 0.4
    field = type(gaussian)(0.7, 0.25)
    x, z = draws(field, level, n, d), np.random.default_rng(1).normal(size=(n, d))
    after = np.asarray(solvers.langevin_step(field, x, level, jnp.asarray(z), r, norm))
    v, mean = field.marginal_variance(level), level.alpha * 0.7
    found = ((after - mean) ** 2).mean(1) / v
    expected = 1 + 4 * r**4
    if norm == "sample":
        expected = 1 + 16 * r**2 / (d - 2) + 4 * r**4 * (d + 2) / (d - 2)
    assert abs(found.mean() - expected) < 4.5 * found.std() / np.sqrt(n)
    assert abs(after.mean() - mean) < 4.5 * np.sqrt(expected * v / (n * d))


@pytest.mark.slow
def test_the_corrector_mends_the_law_of_a_coarse_predictor(gaussian):
    """Euler-Maruyama in 10 steps: with 5 corrections a level the variance at the end is nearer.

    The last row is the predictor's, so its error stays.
    """
    schedule, n = SCHEDULES["vp_linear"], 4000
    grid = schedules.t_of_log_snr(schedule, 2 * np.linspace(-3, 0.0, 11))
    s, t = schedule.at(grid[0]), schedule.at(grid[-1])
    x, v = draws(gaussian, s, n, 2), gaussian.marginal_variance(t)
    off = {}
    for corrections in (0, 5):
        end = solvers.sample_with_corrector(
            solvers.euler_maruyama(schedule, grid),
            gaussian,
            x,
            jax.random.key(0),
            num_corrections=corrections,
            snr=0.3,
            norm="level",
        )
        off[corrections] = np.abs(np.asarray(end).var(0) / v - 1).max()
    assert off[5] < 0.8 * off[0]


@pytest.mark.slow
def test_a_sample_is_the_same_in_every_batch_unless_the_norm_is_the_batchs(bent):
    schedule, x, key = SCHEDULES["edm"], jnp.asarray(starts(7)), jax.random.key(1)
    tableau = solvers.reverse_diffusion(schedule, grid_of(schedule))
    run = lambda x, norm: solvers.sample_with_corrector(tableau, bent.jax, x, key, norm=norm)  # noqa: E731
    for norm in ("sample", "level"):
        check(run(x[:3], norm), run(x, norm)[:3])
    assert np.abs(run(x[:3], "batch") - run(x, "batch")[:3]).max() > 1e-3


@pytest.mark.slow
def test_tokens_without_noise_stay_where_they_are(bent):
    level = schedules.VPLinear().at(np.array([0.5, 0.0])[:, None])
    x = jnp.asarray(starts(3, 2).reshape(3, 2, 1))
    z = jnp.ones_like(x)
    for norm in ("sample", "level"):
        after = solvers.langevin_step(bent.jax, x, level, z, 0.2, norm)
        np.testing.assert_array_equal(after[:, 1], x[:, 1])
        assert np.isfinite(after).all() and np.all(after[:, 0] != x[:, 0])


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_path_keeps_its_dtype_whatever_the_field_answers_in(dtype):
    schedule = SCHEDULES["vp_linear"]
    tableau = solvers.ddpm(schedule, grid_of(schedule))
    field = lambda x, level: jnp.sin(x.astype(jnp.float32))  # noqa: E731
    x = jnp.ones((2, 3), dtype)
    end = solvers.sample_with_corrector(tableau, field, x, jax.random.key(0))
    assert end.dtype == dtype and np.isfinite(np.float32(end)).all()


def test_steps_by_each_samples_norms_leave_a_wider_law():
    """x <- (1 - eps / v) x + sqrt(2 eps) z with eps = 2 r^2 v^2 |z|^2 / |x|^2. As r goes to 0 it
    diffuses (d + 2) / d as fast as it drifts, at a rate as 1 / |x|^2, and so keeps the law of
    density |x|^2 N(0, v (d + 2) / d I), whose variance is v (1 + 2 / d)^2."""
    level, n, d, r = SCHEDULES["vp_linear"].at(0.3), 4000, 6, 0.05
    narrow = lambda x, level: jnp.zeros_like(x)  # noqa: E731
    v = level.sigma**2  # of N(0, sigma^2), the law at the level of data that are all 0

    @jax.jit
    def run(x, key):
        def step(x, key):
            z = jax.random.normal(key, x.shape, x.dtype)
            return solvers.langevin_step(narrow, x, level, z, r, "sample"), None

        return jax.lax.scan(step, x, jax.random.split(key, 300))[0]  # 1 / (2 r^2) = 200 forget x

    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, d))
    x *= np.sqrt(rng.chisquare(d + 2, n) * v * (d + 2) / d)[:, None] / np.linalg.norm(
        x, axis=1, keepdims=True
    )
    found = np.asarray(run(jnp.asarray(x), jax.random.key(1)) ** 2).mean(1) / v
    error = found.std() / np.sqrt(n)
    # Four standard errors, and some r^2 = 0.0025 for steps that are finite.
    assert abs(found.mean() - (1 + 2 / d) ** 2) < 4 * error + 0.01 * (1 + 2 / d) ** 2


def test_a_net_that_says_nothing_of_x0_at_the_start_is_refused():
    schedule = schedules.VPCosine()

    class Net:
        @staticmethod
        def apply(params, x, t, cond=None):
            return x

    tableau = solvers.ddpm(schedule, [1.0, 0.5, 0.1])
    with pytest.raises(PersonError, match="eps does not determine x0 at t = 1"):
        solvers.sample_with_corrector(
            tableau, fields.from_net(Net, {}, "eps"), jnp.ones((2, 2)), jax.random.key(0)
        )


def test_mistakes_are_refused(bent):
    schedule = SCHEDULES["vp_linear"]
    ddpm, heun = (f(schedule, [0.8, 0.5, 0.2]) for f in (solvers.ddpm, solvers.heun))
    run = lambda tableau, **options: solvers.sample_with_corrector(  # noqa: E731
        tableau, bent.jax, jnp.ones((2, 2)), jax.random.key(0), **options
    )
    with pytest.raises(PersonError, match="this one has 2 lanes"):
        run(heun)
    with pytest.raises(PersonError, match="allowed are sample, batch, level"):
        run(ddpm, norm="mean")
    with pytest.raises(PersonError, match="positive snr"):
        run(ddpm, snr=0.0)
    with pytest.raises(PersonError, match="no negative number"):
        run(ddpm, num_corrections=-1)
