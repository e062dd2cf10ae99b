"""What distinguishes recipes, from the papers' own formulas: times, weights, samplers, budgets."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import ndtr

from dfx import fields, nets, recipes, schedules, solvers
from dfx.recipes.recipe import Sampler

pytestmark = pytest.mark.usefixtures("x64")


def quantile(recipe, u):
    return np.asarray(recipe.time_sampler.quantile(jnp.asarray(u)))


def told(recipe, t):
    """What a net gets as its time."""
    seen = []

    def apply(params, x, t, cond=None):
        seen.append(np.asarray(t))
        return x

    model = recipe.model(nets.Net(lambda key: (), apply))
    model.apply((), jnp.zeros((len(t), 2)), jnp.asarray(t))
    return seen[0]


@pytest.mark.parametrize(
    ("name", "length"), [("ddpm", 1000), ("iddpm", 4000), ("v_zero_snr", 1000)]
)
def test_every_index_of_a_table_is_drawn_as_often_as_any_other(name, length):
    inside = (np.arange(length)[:, None] + np.array([0.001, 0.999])) / length
    expected = np.repeat(np.arange(1, length + 1)[:, None] / length, 2, axis=1)
    np.testing.assert_allclose(quantile(recipes.make(name), inside), expected, rtol=1e-12)


@pytest.mark.parametrize("name", ["score_sde_vp", "score_sde_ve"])
def test_score_sde_times_are_uniform_from_1e_5(name):
    u = np.array([0.0, 0.25, 1.0])
    expected = 1e-5 + (1 - 1e-5) * u
    np.testing.assert_allclose(quantile(recipes.make(name), u), expected, rtol=1e-12)


def test_options_of_the_laws_of_times_reach_them():
    z = np.array([-1.0, 0.0, 2.0])
    found = quantile(recipes.make("sit", mean=0.5, std=2.0), ndtr(z))
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-(0.5 + 2 * z))), rtol=1e-9)
    found = quantile(recipes.make("edm", mean=-0.4, std=1.0), ndtr(z))
    np.testing.assert_allclose(found, np.exp(-0.4 + z), rtol=1e-9)


def test_levels_of_edm_beyond_its_schedule_are_its_end():
    """z = 5 would be sigma = 121."""
    recipe = recipes.make("edm")
    np.testing.assert_array_equal(quantile(recipe, ndtr([5.0])), [recipe.schedule.end_time])
    assert recipe.schedule.end_time == 80


def test_iddpm_tells_its_4000_indices_on_the_scale_of_1000():
    index = np.array([0, 1, 1999, 3999])
    found = told(recipes.make("iddpm"), (index + 1) / 4000)
    np.testing.assert_allclose(found, index / 4, atol=1e-9)


def test_score_sde_vp_has_the_integral_of_its_linear_beta():
    t = np.array([1e-5, 0.3, 1.0])
    level = recipes.make("score_sde_vp").schedule.at(t)
    integral = 0.1 * t + (20 - 0.1) * t**2 / 2
    np.testing.assert_allclose(level.alpha, np.exp(-integral / 2), rtol=1e-12)
    np.testing.assert_allclose(level.sigma, np.sqrt(-np.expm1(-integral)), rtol=1e-12)


STEPS = 4
NOISE = np.random.default_rng(0).normal(size=(STEPS, 4, 2))
START = np.random.default_rng(1).normal(size=(4, 2))


def denoised(x, level=None):
    """Any affine denoiser; plain functions are part of the compiled program."""
    return 0.4 * x + 0.3


def by_algorithm_2(recipe, large):
    """Ho et al. 2020, algorithm 2 and equation 7, on the table thinned out to STEPS steps."""
    x = START
    abar = recipe.schedule.at(np.linspace(1, 0, STEPS + 1)).alpha ** 2
    for row, (of_t, of_s) in enumerate(itertools.pairwise(abar)):
        a = of_t / of_s
        mean = np.sqrt(of_s) * (1 - a) / (1 - of_t) * denoised(x)
        mean = mean + np.sqrt(a) * (1 - of_s) / (1 - of_t) * x
        variance = (1 - a) * (1 if large else (1 - of_s) / (1 - of_t))
        x = mean + (np.sqrt(variance) * NOISE[row] if row < STEPS - 1 else 0)
    return x


def by_euler_maruyama(recipe):
    """Song et al. 2021, appendix D: beta from 0.1 to 20, no noise in the last step."""
    x, dt = START, 1 / STEPS
    for row, t in enumerate(1 - dt * np.arange(STEPS)):
        beta, level = 0.1 + t * (20 - 0.1), recipe.schedule.at(t)
        score = (level.alpha * denoised(x) - x) / level.sigma**2
        x = x + (0.5 * beta * x + beta * score) * dt
        x = x + (np.sqrt(beta * dt) * NOISE[row] if row < STEPS - 1 else 0)
    return x


def by_reverse_diffusion(recipe):
    """Song et al. 2021, algorithm 2 without its corrector."""
    x = START
    variance = recipe.schedule.at(np.linspace(1, 0, STEPS + 1)).sigma ** 2
    for row, (of_t, of_s) in enumerate(itertools.pairwise(variance)):
        x = x + (denoised(x) - x) * (of_t - of_s) / of_t
        x = x + (np.sqrt(of_t - of_s) * NOISE[row] if row < STEPS - 1 else 0)
    return x


LOOPS = {
    "ddpm": lambda recipe: by_algorithm_2(recipe, large=True),
    "iddpm": lambda recipe: by_algorithm_2(recipe, large=False),
    "score_sde_vp": by_euler_maruyama,
    "score_sde_ve": by_reverse_diffusion,
}


@pytest.mark.parametrize("name", LOOPS)
def test_stochastic_samplers_are_the_loops_of_their_papers(name):
    recipe, table = recipes.make(name), jnp.asarray(NOISE)
    x = jnp.asarray(START)
    found = solvers.sample(recipe.solver(STEPS), denoised, x, noise=lambda row: table[row])
    np.testing.assert_allclose(found, LOOPS[name](recipe), rtol=1e-9, atol=1e-12)


def test_edm_has_the_grid_of_equation_5_and_35_evaluations():
    i = np.arange(18)
    ends = 80 ** (1 / 7), 0.002 ** (1 / 7)
    expected = np.append((ends[0] + i / 17 * (ends[1] - ends[0])) ** 7, 0)
    sampler = recipes.make("edm").sampler
    np.testing.assert_allclose(sampler.times(recipes.make("edm").schedule), expected, rtol=1e-9)
    assert (sampler.solver, 2 * sampler.num_steps - 1) == ("heun", 35)


def test_options_of_solver_and_grid_reach_them():
    schedule = schedules.EDM()
    sampler = Sampler("ddpm", "karras", 4, (("variance", "large"),), (("rho", 3.0),))
    times = schedules.grids.karras(schedule, 4, rho=3.0)
    np.testing.assert_array_equal(sampler.times(schedule), times)
    large, small = (solvers.ddpm(schedule, times, variance=kind) for kind in ("large", "small"))
    same = jax.tree.map(np.array_equal, sampler.tableau(schedule), large)
    assert all(jax.tree.leaves(same))
    assert not all(jax.tree.leaves(jax.tree.map(np.array_equal, large, small)))


def weight(t):
    """The weighting "edm" on the straight path, of the square of the velocity's error: that of x0
    counts snr + 4, and is t^2 times it."""
    return (1 - t) ** 2 + 4 * t**2


WEIGHTED = dataclasses.replace(recipes.make("rectified_flow"), weighting="edm")


def test_the_weighting_counts_in_loss_and_errors():
    t, field = np.array([0.1, 0.5, 0.9]), lambda x, level: jnp.zeros_like(x)
    x0, eps = (np.random.default_rng(k).normal(size=(3, 2)) for k in (2, 3))
    found = WEIGHTED.errors(WEIGHTED.exact)(field, x0, eps, jnp.asarray(t))
    x = (1 - t[:, None]) * x0 + t[:, None] * eps
    square = np.mean((x / t[:, None] - (eps - x0)) ** 2, axis=1)
    np.testing.assert_allclose(found, weight(t) * square, rtol=1e-9)
    key = jax.random.key(0)
    key_t, key_eps = jax.random.split(key)  # as `losses.denoising` does
    t, eps = WEIGHTED.time_sampler(key_t, 3, x0.dtype), jax.random.normal(key_eps, x0.shape)
    each = WEIGHTED.errors(WEIGHTED.exact)(field, x0, eps, t)
    value = WEIGHTED.loss(WEIGHTED.exact)(field, key, jnp.asarray(x0))[0]
    np.testing.assert_allclose(value, each.mean(), rtol=1e-9)


def test_the_best_loss_on_gaussian_data_is_half_pi_deviations_of_the_straight_path():
    """int_0^1 v / ((1 - t)^2 v + t^2) dt = sqrt(v) int_0^inf du / (1 + u^2), u = t / (1 - t)."""
    variances = np.array([0.3, 0.05])
    found = recipes.gaussian_loss(recipes.make("rectified_flow"), variances)
    # Midpoints of 4000 strata: (1 / 4000)^2 and second derivatives up to 1 / v^2.
    assert found == pytest.approx(np.pi / 2 * np.sqrt(variances).mean(), rel=2e-6)


def test_weighted_best_losses_are_the_weighted_integrals():
    variances = np.array([0.3, 0.05])
    posterior = [quad(lambda t, v=v: weight(t) * v / ((1 - t) ** 2 * v + t**2), 0, 1)[0]
                 for v in variances]  # fmt: skip
    found = recipes.gaussian_loss(WEIGHTED, variances)
    assert found == pytest.approx(np.mean(posterior), rel=1e-5)
    # The best constant for eps - x0 is minus the mean, whatever the weights.
    x0 = np.random.default_rng(4).normal([0.3, -0.2], [1.0, 0.4], size=(50, 2))
    expected = quad(weight, 0, 1)[0] * (1 + x0.var(axis=0).mean())
    assert recipes.constant_loss(WEIGHTED, x0) == pytest.approx(expected, rel=1e-5)


def test_a_weighted_prediction_that_turns_has_the_weighted_mean_as_its_best_constant():
    """v = (1 - t) eps - t x0, whose error is (1 - t)^2 + t^2 times that of the velocity."""
    recipe = dataclasses.replace(WEIGHTED, prediction="v")
    of_v = lambda t: weight(t) / ((1 - t) ** 2 + t**2) ** 2  # noqa: E731
    total, first, second = (quad(lambda t, k=k: of_v(t) * t**k, 0, 1)[0] for k in range(3))
    x0 = np.random.default_rng(4).normal([0.3, -0.2], [1.0, 0.4], size=(50, 2))
    expected = second * np.mean(x0**2) + total - 2 * first + second
    expected -= first**2 / total * np.mean(x0.mean(axis=0) ** 2)
    assert recipes.constant_loss(recipe, x0) == pytest.approx(expected, rel=1e-5)
    # The best loss is one, whatever is predicted.
    variances = np.array([0.3, 0.05])
    best = recipes.gaussian_loss(WEIGHTED, variances)
    assert recipes.gaussian_loss(recipe, variances) == pytest.approx(best, rel=1e-9)


def test_dropout_leaves_times_weights_and_noise_as_they_are():
    """Of a net that leaves nothing out: the plain loss, at the part of the key that remains."""
    recipe = dataclasses.replace(recipes.make("sit"), weighting="edm")
    apply = lambda params, x, t, cond=None, key=None: jnp.sin(x)  # noqa: E731
    plain, leaving = (nets.Net(lambda key: (), apply, dropout=share) for share in (0.0, 0.5))
    key, x0 = jax.random.key(0), jnp.asarray(START)
    found, expected = jax.jit(lambda key, rest: (
        recipe.loss(leaving)((), key, x0)[0], recipe.loss(plain)((), rest, x0)[0]
    ))(key, jax.random.split(key)[0])  # fmt: skip
    np.testing.assert_allclose(found, expected, rtol=1e-12)


#: Steps of the warm-up and of the training, and the factor that averaged weights keep a step.
BUDGETS = {
    "edm": (1e7 / 512, 2e8 / 512, 0.5 ** (512 / 5e5)),
    "ddpm": (5000, 800_000, 0.9999),
    "iddpm": (0, 500_000, 0.9999),
    "score_sde_vp": (5000, 950_000, 0.9999),
    "score_sde_ve": (5000, 950_000, 0.999),
    "rectified_flow": (5000, 600_000, 0.999999),
    "sit": (0, 7_000_000, 0.9999),
    "v_zero_snr": (0, 1_000_000, 0.9999),
}


@pytest.mark.parametrize("name", BUDGETS)
def test_budgets_counted_in_images_are_those_of_the_papers_in_steps(name):
    paper, size = recipes.make(name).training, recipes.make(name).training.batch_size
    found = paper.warmup / size, paper.images / size, 0.5 ** (size / paper.half_life)
    np.testing.assert_allclose(found, BUDGETS[name], rtol=1e-12)


#: Rate, batch and clipping of the training; evaluations of the field for a sample.
SETTINGS = {
    "ddpm": (2e-4, 128, 1.0, 1000),
    "iddpm": (1e-4, 128, None, 4000),
    "score_sde_vp": (2e-4, 128, 1.0, 1000),
    "score_sde_ve": (2e-4, 128, 1.0, 1000),
    "edm": (1e-3, 512, None, 35),
    "rectified_flow": (2e-4, 128, 1.0, 4 * 31 + 1),  # the last step is Euler's, here and below
    "sit": (1e-4, 256, None, 2 * 124 + 1),
    "v_zero_snr": (1e-4, 256, None, 50),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_rates_and_evaluations_are_those_of_the_papers(name):
    paper = recipes.make(name).training
    found = paper.learning_rate, paper.batch_size, paper.clip, recipes.make(name).solver().num_rows
    assert found == SETTINGS[name]


def test_the_field_of_a_recipe_is_that_of_its_prediction():
    recipe, x = recipes.make("v_zero_snr"), jnp.asarray(START)
    net = nets.Net(lambda key: (), lambda params, x, t, cond=None: jnp.sin(x))
    level = recipe.schedule.at(0.4)
    expected = level.alpha * START - level.sigma * np.sin(START)  # x0 of v = alpha eps - sigma x0
    np.testing.assert_allclose(recipe.field(net, ())(x, level), expected, rtol=1e-9)
    assert isinstance(recipe.field(net, ()), fields.NetField)
