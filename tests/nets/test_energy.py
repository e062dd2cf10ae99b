"""Energy nets: gradients of a potential by closed forms, symmetric Jacobians, a law learnt."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dfx import fields, losses, nets, schedules
from dfx.errors import PersonError
from dfx.nets import energy

FORMS = tuple(energy.FORMS)
WEIGHTS = np.random.default_rng(0).normal(size=(3, 3))
#: grad phi of the body psi = W x + t 1, by hand.
GRADIENTS = {
    "scalar": lambda x, t: np.broadcast_to(WEIGHTS.sum(0), x.shape),
    "squared_norm": lambda x, t: -(x @ WEIGHTS.T + t) @ WEIGHTS,
    "inner_product": lambda x, t: x @ WEIGHTS.T + t + x @ WEIGHTS,
    "displacement": lambda x, t: (x @ WEIGHTS.T + t - x) @ (np.eye(3) - WEIGHTS),
}
#: phi of the same body.
POTENTIALS = {
    "scalar": lambda x, psi: psi.sum(-1),
    "squared_norm": lambda x, psi: -(psi**2).sum(-1) / 2,
    "inner_product": lambda x, psi: (x * psi).sum(-1),
    "displacement": lambda x, psi: -((x - psi) ** 2).sum(-1) / 2,
}


def linear_body():
    apply = lambda params, x, t, cond=None: x @ params.T + t[:, None]  # noqa: E731
    return nets.Net(lambda key: jnp.asarray(WEIGHTS), apply)


def points(n=6, d=3):
    rng = np.random.default_rng(1)
    return jnp.asarray(rng.normal(size=(n, d))), jnp.asarray(rng.uniform(0.1, 0.9, n))


def random_params(net):
    rng = np.random.default_rng(7)
    shapes = jax.eval_shape(net.init, jax.random.key(0))
    return jax.tree.map(lambda a: jnp.asarray(0.5 * rng.standard_normal(a.shape)), shapes)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("form", FORMS)
def test_the_prediction_is_the_signed_gradient_of_the_potential(form):
    x, t = points()
    for prediction, sign in (("eps", -1), ("score", 1)):
        net = getattr(energy, form)(linear_body(), prediction)
        params = net.init(jax.random.key(0))
        expected = sign * GRADIENTS[form](np.asarray(x), np.asarray(t)[:, None])
        np.testing.assert_allclose(net.apply(params, x, t), expected, rtol=1e-12)  # rounding
        psi = np.asarray(x) @ WEIGHTS.T + np.asarray(t)[:, None]
        value = POTENTIALS[form](np.asarray(x), psi)
        np.testing.assert_allclose(net.potential(params, x, t), value, rtol=1e-12)
        assert net.prediction == prediction


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("form", FORMS)
def test_the_jacobian_of_an_energy_net_is_symmetric_and_that_of_its_body_is_not(form):
    net, body = nets.energy_mlp(3, form, width=8, depth=2), nets.mlp(3, width=8, depth=2)
    params, (x, t) = random_params(net), points()

    def asymmetry(net):
        jacobian = jax.jit(lambda x: fields.jacobian(lambda x: net.apply(params, x, t), x))(x)
        return jnp.abs(jacobian - jnp.swapaxes(jacobian, 1, 2)).max() / jnp.abs(jacobian).max()

    assert asymmetry(net) < 1e-13  # rounding
    assert asymmetry(body) > 0.1


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("prediction", ["eps", "score"])
def test_the_score_of_the_field_is_the_gradient_of_the_log_density(prediction):
    net = nets.energy_mlp(3, "squared_norm", width=8, depth=2, prediction=prediction)
    params, (x, t) = random_params(net), points()
    log_p = energy.log_density(net, params)
    score = fields.as_prediction(fields.from_net(net, params, net.prediction), "score")
    gradient = jax.jit(jax.grad(lambda x, level: log_p(x, level).sum()))
    predicted = jax.jit(lambda x, level: score(x, level))
    for schedule in (schedules.VPLinear(), schedules.RectifiedLinear(), schedules.VE()):
        for time in (t, jnp.asarray(0.4)):  # a time for each sample, and one for all
            level = schedule.at(time, x.ndim)
            # Rounding, which the way through x0_hat enlarges by alpha^2 / sigma^2.
            np.testing.assert_allclose(
                gradient(x, level), predicted(x, level), rtol=1e-9, atol=1e-11
            )


@pytest.mark.usefixtures("x64")
def test_a_squared_norm_is_the_log_density_of_a_gaussian():
    """N(0, v I) with v = alpha^2 0.3 + sigma^2: psi = sqrt(sigma / v) x in the eps form."""
    schedule, (x, t) = schedules.VPLinear(), points()

    def psi(params, x, t, cond=None):
        level = schedule.at(t, x.ndim)
        return jnp.sqrt(level.sigma / (0.3 * level.alpha**2 + level.sigma**2)) * x

    net = energy.squared_norm(nets.Net(lambda key: (), psi))
    level = schedule.at(t, x.ndim)
    variance = (0.3 * level.alpha**2 + level.sigma**2)[:, 0]
    expected = -(x**2).sum(1) / (2 * variance)
    np.testing.assert_allclose(energy.log_density(net, ())(x, level), expected, rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_the_log_density_shows_the_net_the_time_it_was_trained_with_and_its_classes():
    apply = lambda params, x, t, cond: x * t[:, None] + cond[:, None]  # noqa: E731
    net = energy.scalar(nets.Net(lambda key: (), apply), "score")
    x, t = points()
    log_p = energy.log_density(net, (), time=lambda level: 10 * level.t, cond=jnp.arange(6))
    expected = 10 * t * x.sum(1) + 3 * jnp.arange(6)
    np.testing.assert_allclose(log_p(x, schedules.EDM().at(t, 2)), expected, rtol=1e-13)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_pictures_and_one_evaluation_under_vmap_are_the_same_net():
    body = nets.Net(lambda key: (), lambda params, x, t, cond=None: jnp.sin(x) * jnp.roll(x, 1, 2))
    net, x = (
        energy.scalar(body, "score"),
        jnp.asarray(np.random.default_rng(2).normal(size=(4, 2, 3, 1))),
    )
    t = jnp.ones(4)
    expected = jnp.cos(x) * jnp.roll(x, 1, 2) + jnp.roll(jnp.sin(x), -1, 2)
    np.testing.assert_allclose(net.apply((), x, t), expected, rtol=1e-12)
    one = jax.vmap(lambda x: net.apply((), x[None], t[:1])[0])(x)
    np.testing.assert_allclose(one, expected, rtol=1e-12)
    assert net.potential((), x, t).shape == (4,)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["scalar", pytest.param("squared_norm", marks=pytest.mark.slow)])
def test_denoising_teaches_an_energy_net_a_gaussian(form):
    """Correlated data N(m, C): the score, and differences of the log-density, at t = 0.3."""
    mean, covariance = np.array([0.5, -0.3]), np.array([[0.5, 0.3], [0.3, 0.4]])
    schedule, root = schedules.VPLinear(), np.linalg.cholesky(covariance)
    net = nets.energy_mlp(2, form, width=24, depth=2)
    loss = losses.denoising(net, schedule, net.prediction)
    rule = optax.adam(optax.cosine_decay_schedule(1e-2, 400))

    def step(carry, key):
        params, state = carry
        key_data, key_loss = jax.random.split(key)
        x0 = mean + jax.random.normal(key_data, (256, 2), jnp.float32) @ root.T
        gradient = jax.grad(lambda p: loss(p, key_loss, x0.astype(jnp.float32))[0])(params)
        updates, state = rule.update(gradient, state)
        return (optax.apply_updates(params, updates), state), None

    params = net.init(jax.random.key(0))
    keys = jax.random.split(jax.random.key(1), 400)
    (params, _), _ = jax.jit(lambda *carry: jax.lax.scan(step, carry, keys))(
        params, rule.init(params)
    )

    level = schedule.at(0.3)
    noisy = level.alpha**2 * covariance + level.sigma**2 * np.eye(2)
    x = np.random.default_rng(3).multivariate_normal(level.alpha * mean, noisy, 500)
    gap = x - level.alpha * mean
    exact = -0.5 * np.einsum("na,ab,nb->n", gap, np.linalg.inv(noisy), gap)
    x = jnp.asarray(x, jnp.float32)
    learnt = np.asarray(energy.log_density(net, params)(x, level))
    eps = fields.as_prediction(fields.from_net(net, params, net.prediction), "eps")(x, level)
    error = np.mean((eps - level.sigma * gap @ np.linalg.inv(noisy)) ** 2)
    # What 400 steps leave: eps has mean square about 1 and the log-density a deviation of 1.
    assert error < 0.02
    assert np.std(learnt - exact) < 0.15


def test_equal_bodies_give_the_same_net_and_others_another():
    assert nets.energy_mlp(2, width=8) is nets.energy_mlp(2, width=8)
    assert nets.make("energy_mlp", 2, width=8) is energy.squared_norm(nets.mlp(2, 8))
    assert nets.energy_mlp(2, "scalar", 8) != nets.energy_mlp(2, "scalar", 8, prediction="score")
    assert hash(nets.energy_mlp(2, width=8)) == hash(nets.energy_mlp(2, width=8))


def test_unknown_forms_and_predictions_are_refused_in_one_line():
    with pytest.raises(PersonError, match="unknown form 'scaler': did you mean 'scalar'"):
        nets.energy_mlp(2, "scaler")
    with pytest.raises(PersonError, match="unknown prediction of an energy net 'v'"):
        energy.scalar(nets.mlp(2), "v")
