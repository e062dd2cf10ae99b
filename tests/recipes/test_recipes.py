"""Recipes state their papers' mathematics: targets, weights, levels, and where samples end."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dfx import fields, losses, nets, recipes, schedules, solvers, targets
from dfx.errors import PersonError
from dfx.nets.preconditioned import preconditioned
from dfx.recipes.registry import cosine_betas

pytestmark = pytest.mark.usefixtures("x64")

NAMES = tuple(recipes.REGISTRY)
MEAN, VARIANCES = np.array([0.3, -0.2]), np.array([0.3, 0.05])
GAUSSIAN = targets.Mixture.gaussian(MEAN, VARIANCES)


def draw(n, seed=0):
    """Data of the Gaussian, and noise, (n, 2)."""
    rng = np.random.default_rng(seed)
    x0 = MEAN + np.sqrt(VARIANCES) * rng.normal(size=(n, 2))
    return jnp.asarray(x0), jnp.asarray(rng.normal(size=(n, 2)))


def given_to(recipe, t, seed=0):
    """What a net gets of data and noise at times t: (x, its time), and the loss if it says 0."""
    got = {}

    def apply(params, x, t, cond=None):
        got.update(x=x, t=t)
        return jnp.zeros_like(x)

    def look(x0, eps, t):
        loss = recipe.errors(nets.Net(lambda key: (), apply))((), x0, eps, t)
        return got["x"], got["t"], loss

    x0, eps = draw(len(t), seed)
    return *jax.jit(look)(x0, eps, jnp.asarray(t)), x0, eps


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_is_whole(name):
    recipe = recipes.make(name)
    assert recipe.name == name and recipes.make(name) is recipe
    assert schedules.check(recipe.schedule) is recipe.schedule
    assert recipe.source and recipe.needs
    assert recipe.solver().num_rows >= recipe.sampler.num_steps


@pytest.mark.parametrize("name", NAMES)
def test_nets_are_told_numbers_from_0_to_1000_that_rise_with_the_noise(name):
    recipe = recipes.make(name)
    # The law of EDM's levels has tails beyond those of its sampler, which are told as 0 and 1000.
    told = jax.jit(lambda u: recipe.told(recipe.schedule.at(recipe.time_sampler.quantile(u))))
    told = np.asarray(told(jnp.linspace(0.001, 0.999, 200)))
    assert told.min() > -1e-6 and told.max() < 1000 + 1e-6
    assert np.all(np.diff(told) >= 0) and told[-1] - told[0] > 300


def test_ddpm_shows_its_table_and_asks_for_eps():
    recipe, index = recipes.make("ddpm"), np.array([0, 1, 500, 999])
    x, told, loss, x0, eps = given_to(recipe, (index + 1) / 1000)
    abar = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))[index, None]
    np.testing.assert_allclose(x, np.sqrt(abar) * x0 + np.sqrt(1 - abar) * eps, rtol=1e-10)
    np.testing.assert_allclose(told, index, atol=1e-9)
    np.testing.assert_allclose(loss, np.mean(eps**2, axis=1), rtol=1e-12)


def test_iddpm_has_the_squared_cosine_but_for_its_last_beta():
    recipe, i = recipes.make("iddpm"), np.arange(4001)
    f = np.cos(np.pi / 2 * (i / 4000 + 0.008) / 1.008) ** 2
    abar = recipe.schedule.at(i / 4000).alpha ** 2
    np.testing.assert_allclose(abar[:-1], (f / f[0])[:-1], rtol=1e-9)
    assert cosine_betas(4000)[-1] == 0.999
    np.testing.assert_allclose(abar[-1] / abar[-2], 1e-3, rtol=1e-9)
    assert recipes.make("iddpm", prediction="v").prediction == "v"


def test_score_sde_vp_weighs_its_score_by_the_variance():
    t = np.array([0.01, 0.3, 1.0])
    _, told, loss, _, eps = given_to(recipes.make("score_sde_vp"), t)
    np.testing.assert_allclose(told, 999 * t)
    # lambda |score + eps / sigma|^2 with lambda = sigma^2, for a score of 0.
    np.testing.assert_allclose(loss, np.mean(eps**2, axis=1))


def test_score_sde_ve_has_geometric_noise_and_is_told_its_logarithm():
    t = np.array([0.1, 0.5, 1.0])
    x, told, loss, x0, eps = given_to(recipes.make("score_sde_ve"), t)
    s = 0.02 * (100 / 0.02) ** t
    np.testing.assert_allclose(x, x0 + np.sqrt(s**2 - 0.02**2)[:, None] * eps, rtol=1e-10)
    np.testing.assert_allclose(told, 1000 * np.log(s / 0.02) / np.log(100 / 0.02))
    np.testing.assert_allclose(loss, np.mean(eps**2, axis=1))


def test_edm_loss_is_that_of_karras_equation_8():
    recipe, sigma = recipes.make("edm"), np.array([0.01, 0.3, 1.0, 20.0])
    raw = nets.Net(lambda key: (), lambda params, x, t, cond=None: jnp.sin(x) + t[:, None] / 1000)
    x0, eps = draw(4)
    found = jax.jit(recipe.errors(raw))((), x0, eps, jnp.asarray(sigma))
    s, data = sigma[:, None], 0.5
    c_skip, c_out = data**2 / (s**2 + data**2), s * data / np.sqrt(s**2 + data**2)
    c_in, c_noise = 1 / np.sqrt(s**2 + data**2), np.log(s) / 4
    told = (4 * c_noise - np.log(0.002)) / np.log(80 / 0.002)  # on the scale of step numbers
    noisy = x0 + s * eps
    denoised = c_skip * noisy + c_out * (np.sin(c_in * noisy) + told)
    weight = (s**2 + data**2) / (s * data) ** 2
    np.testing.assert_allclose(weight * c_out**2, 1)
    np.testing.assert_allclose(found, np.mean(weight * (denoised - x0) ** 2, axis=1), rtol=1e-9)


def test_edm_levels_are_log_normal():
    u = jax.scipy.special.ndtr(jnp.array([-2.0, 0.0, 1.0]))
    recipe = recipes.make("edm")
    t = recipe.time_sampler.quantile(u)
    general = losses.log_normal_sigma(recipe.schedule).quantile(u)
    np.testing.assert_allclose(t, general, rtol=1e-9)
    np.testing.assert_allclose(np.log(t), -1.2 + 1.2 * np.array([-2.0, 0.0, 1.0]), atol=1e-9)


@pytest.mark.parametrize(("name", "scale"), [("rectified_flow", 999), ("sit", 1000)])
def test_flows_go_straight_and_ask_for_eps_minus_x0(name, scale):
    t = np.array([0.1, 0.5, 0.99])
    x, told, loss, x0, eps = given_to(recipes.make(name), t)
    np.testing.assert_allclose(x, (1 - t[:, None]) * x0 + t[:, None] * eps)
    np.testing.assert_allclose(told, scale * t)
    np.testing.assert_allclose(loss, np.mean((eps - x0) ** 2, axis=1))


def test_sit_times_are_logit_normal_and_those_of_rectified_flow_uniform():
    u = jnp.array([0.1, 0.5, 0.8])
    z = jax.scipy.special.ndtri(u)
    np.testing.assert_allclose(recipes.make("sit").time_sampler.quantile(u), 1 / (1 + jnp.exp(-z)))
    np.testing.assert_allclose(recipes.make("rectified_flow").time_sampler.quantile(u), u)


def test_v_zero_snr_has_the_rescaled_table_of_stable_diffusion():
    betas, index = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2, np.array([0, 400, 998])
    signal = np.sqrt(np.cumprod(1 - betas))
    alpha = ((signal - signal[-1]) * signal[0] / (signal[0] - signal[-1]))[index, None]
    sigma = np.sqrt(1 - alpha**2)
    x, told, loss, x0, eps = given_to(recipes.make("v_zero_snr"), (index + 1) / 1000)
    np.testing.assert_allclose(x, alpha * x0 + sigma * eps, rtol=1e-9)
    np.testing.assert_allclose(told, index, atol=1e-9)
    np.testing.assert_allclose(loss, np.mean((alpha * eps - sigma * x0) ** 2, axis=1), rtol=1e-9)


def test_at_the_end_of_the_rescaled_table_v_is_minus_x0():
    _, _, loss, x0, _ = given_to(recipes.make("v_zero_snr"), np.array([1.0, 1.0]))
    np.testing.assert_allclose(loss, np.mean(x0**2, axis=1), rtol=1e-12)


def few(names, fast=("edm", "v_zero_snr")):
    """Of what compiles a program a recipe, all but two are slow."""
    return [n if n in fast else pytest.param(n, marks=pytest.mark.slow) for n in names]


@pytest.mark.parametrize("name", few(NAMES))
def test_loss_at_the_oracle_is_the_posterior_variance(name):
    recipe, n = recipes.make(name), 20_000
    field, (x0, _) = fields.oracle(GAUSSIAN), draw(n)
    key = jax.random.key(1)

    @jax.jit
    def both(key):
        key_t, key_eps = jax.random.split(key)  # as `losses.denoising` does
        t, eps = recipe.time_sampler(key_t, n, x0.dtype), jax.random.normal(key_eps, x0.shape)
        each = recipe.errors(recipe.exact)(field, x0, eps, t)
        return recipe.loss(recipe.exact)(field, key, x0)[0], each.mean(), each.std()

    value, mean, std = both(key)
    np.testing.assert_allclose(value, mean, rtol=1e-9)
    # Four standard errors.
    assert abs(value - recipes.gaussian_loss(recipe, VARIANCES)) < 4 * std / np.sqrt(n)


@pytest.mark.parametrize("name", few(NAMES))
def test_best_constant_is_the_weighted_mean_of_the_target(name):
    recipe, n = recipes.make(name), 100_000
    x0, eps = draw(n)
    order = np.random.default_rng(1).permutation(n)

    @jax.jit
    def best(x0, eps, u):
        level = recipe.schedule.at(recipe.time_sampler.quantile(u), 2)
        target = losses.prediction_target(x0, eps, level, recipe.prediction)
        weight = losses.weighting.make(recipe.weighting)(level, recipe.prediction)
        constant = jnp.mean(weight * target, axis=0) / jnp.mean(weight)
        return jnp.mean(weight * (target - constant) ** 2)

    expected = best(x0, eps, jnp.asarray((order + 0.5) / n))
    # Four standard errors of a mean of squares of about normal numbers, two a row.
    np.testing.assert_allclose(recipes.constant_loss(recipe, x0), expected, rtol=4 / np.sqrt(n))
    assert recipes.gaussian_loss(recipe, VARIANCES) < expected


@pytest.mark.parametrize("weighting", ["uniform", "snr"])
def test_noise_that_is_all_there_is_costs_an_eps_recipe_nothing(weighting):
    """Var[eps | x] = alpha^2 v / (alpha^2 v + sigma^2), at every level of a table that ends in 0:
    4,000 quantiles are four times each of its 1,000 levels."""
    recipe = recipes.make("v_zero_snr")
    recipe = dataclasses.replace(recipe, prediction="eps", weighting=weighting)
    level = recipe.schedule.at(np.arange(1, 1001)[:, None] / 1000)
    signal = level.alpha**2 * VARIANCES
    expected = np.mean(signal / (signal + level.sigma**2))
    assert recipes.gaussian_loss(recipe, VARIANCES) == pytest.approx(expected, rel=1e-10)


STOCHASTIC = ("ddpm", "iddpm", "score_sde_vp", "score_sde_ve")
#: What the default numbers of steps leave of the standard deviation, at most.
ODE = {"edm": 0.1, "rectified_flow": 0.02, "sit": 0.02, "v_zero_snr": 0.2}


def law_at_end(recipe, num_steps):
    """Mean and standard deviation at the end of an affine path, from where two points end."""
    field = recipe.field(recipe.exact, fields.oracle(GAUSSIAN))
    start = float(recipe.sampler._replace(num_steps=num_steps).times(recipe.schedule)[0])
    sigma = float(recipe.schedule.at(start).sigma)
    x = jnp.array([[-sigma, -sigma], [sigma, sigma]])
    low, high = np.asarray(solvers.sample(recipe.solver(num_steps), field, x))
    return (low + high) / 2, (high - low) / 2


@pytest.mark.parametrize("name", few(ODE, ("edm",)))
def test_deterministic_samplers_reproduce_mean_and_variance(name):
    recipe = recipes.make(name)
    errors = []
    for steps in (recipe.sampler.num_steps, 4 * recipe.sampler.num_steps):
        mean, std = law_at_end(recipe, steps)
        errors.append(np.abs(std / np.sqrt(VARIANCES) - 1).max())
        np.testing.assert_allclose(mean, MEAN, atol=ODE[name] / 2)
    assert errors[0] < ODE[name]
    # Order 1 at least, which the last step, Euler's, allows: a quarter, and what higher orders add.
    assert errors[1] < errors[0] / 2.5


@pytest.mark.slow
@pytest.mark.parametrize("name", STOCHASTIC)
def test_stochastic_samplers_reproduce_mean_and_variance(name):
    recipe, n, steps = recipes.make(name), 20_000, 100
    field = recipe.field(recipe.exact, fields.oracle(GAUSSIAN))
    key, noise = jax.random.split(jax.random.key(2))
    start = recipe.sampler._replace(num_steps=steps).times(recipe.schedule)[0]
    x = solvers.prior(key, recipe.schedule, (n, 2), t=start, dtype=jnp.float64)
    x = np.asarray(solvers.sample(recipe.solver(steps), field, x, noise))
    # Four standard errors (0.03 of a standard deviation, 0.02 of it), and weak order 1 in 1/100.
    np.testing.assert_allclose((x.mean(0) - MEAN) / np.sqrt(VARIANCES), 0, atol=0.06)
    np.testing.assert_allclose(x.std(0) / np.sqrt(VARIANCES), 1, atol=0.08)


def test_dropout_acts_in_the_loss_and_nowhere_else():
    recipe, keys = recipes.make("ddpm"), []

    def apply(params, x, t, cond=None, key=None):
        keys.append(key)
        return jnp.zeros_like(x)

    net = nets.Net(lambda key: (), apply, dropout=0.5)
    x0, eps = draw(3)
    recipe.loss(net)((), jax.random.key(0), x0)
    assert keys.pop() is not None
    recipe.errors(net)((), x0, eps, jnp.full(3, 0.5))
    recipe.field(net, ())(x0, recipe.schedule.at(0.5))
    assert keys == [None, None]


def test_an_energy_net_is_a_net():
    recipe = recipes.make("ddpm")
    body = nets.Net(lambda key: (), lambda params, x, t, cond=None: jnp.sin(x))
    net = nets.energy.displacement(body)  # predicts (x - sin x)(1 - cos x)
    x0, eps = draw(3)
    t = jnp.full(3, 0.5)
    level = recipe.schedule.at(t, 2)
    x = level.alpha * x0 + level.sigma * eps
    expected = np.mean(((x - np.sin(x)) * (1 - np.cos(x)) - eps) ** 2, axis=1)
    np.testing.assert_allclose(recipe.errors(net)((), x0, eps, t), expected, rtol=1e-9)
    assert np.isfinite(recipe.loss(net)((), jax.random.key(0), x0)[0])


def test_conditions_reach_the_net():
    seen = []

    def apply(params, x, t, cond=None):
        seen.append(cond)
        return jnp.zeros_like(x)

    recipe, labels = recipes.make("edm"), jnp.arange(3)
    net = nets.Net(lambda key: (), apply)
    recipe.loss(net)((), jax.random.key(0), draw(3)[0], labels)
    recipe.field(net, (), labels)(draw(3)[0], recipe.schedule.at(1.0))
    assert all(cond is labels for cond in seen) and len(seen) == 2


def test_one_net_and_recipe_are_one_model():
    net, recipe = nets.mlp(2, width=8), recipes.make("edm")
    assert recipe.model(net) == recipe.model(net)
    model = recipe.model(net)
    assert recipe.model(model) is model
    double = functools.partial(jnp.multiply, 2.0)
    assert preconditioned(net, double) is preconditioned(net, double)


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (lambda: recipes.make("edn"), "unknown recipe 'edn': did you mean 'edm'?"),
        (lambda: recipes.make("edm", mena=1.0), "did you mean 'mean'?"),
        (lambda: recipes.make("edm").solver(0), "number of steps"),
        (lambda: recipes.make("edm", std=np.inf), "std is inf"),
        (lambda: recipes.make("sit", mean=np.nan), "mean is nan"),
        (lambda: recipes.make("iddpm", prediction="epss"), "did you mean 'eps'?"),
    ],
)
def test_mistakes_are_named_in_one_line(call, line):
    with pytest.raises(PersonError) as error:
        call()
    assert line in str(error.value) and "\n" not in str(error.value)
