"""Running averages against the weighted sums that define them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import train_toys as toys

from dfx import train
from dfx.errors import PersonError
from dfx.train import ema


def run(average, values):
    """The average after taking in values[1:] one by one, from values[0]."""
    state = average.init(jnp.asarray(values[0]))
    steps = jnp.arange(1, len(values))

    def body(state, pair):
        return average.update(state, *pair), None

    return jax.lax.scan(body, state, (jnp.asarray(values[1:]), steps))[0]


@pytest.mark.usefixtures("x64")
def test_constant_average_weighs_the_past_geometrically_and_the_start_with_the_rest():
    values = np.random.default_rng(0).normal(size=(21, 3))
    weights = np.array([0.9**20, *[0.1 * 0.9 ** (20 - i) for i in range(1, 21)]])
    np.testing.assert_allclose(weights.sum(), 1.0, rtol=1e-14)
    np.testing.assert_allclose(run(ema.constant(0.9), values), weights @ values, rtol=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("gamma", [0.5, 6.94])
def test_power_average_is_the_weighted_sum_of_all_steps_but_the_start(gamma):
    values = np.random.default_rng(1).normal(size=(31, 2))
    t = np.arange(1, 31)
    decay = (1.0 - 1.0 / t) ** (gamma + 1.0)
    weights = (1.0 - decay) * np.array([np.prod(decay[i:]) for i in t])
    np.testing.assert_allclose(weights.sum(), 1.0, rtol=1e-14)
    found = run(ema.power(gamma), values)
    np.testing.assert_allclose(found, weights @ values[1:], rtol=1e-11)


@pytest.mark.usefixtures("x64")
def test_power_average_with_gamma_zero_is_the_mean():
    values = np.random.default_rng(2).normal(size=(40, 2))
    np.testing.assert_allclose(run(ema.power(0.0), values), values[1:].mean(axis=0), rtol=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("sigma_rel", [0.05, 0.1, 0.25])
def test_power_profile_has_the_width_asked_for(sigma_rel):
    """The average of the step number and of its square are the profile's moments, up to 1 / n."""
    n = 4000
    t = np.arange(n + 1) / n
    mean, square = run(ema.power(sigma_rel=sigma_rel), np.stack([t, t**2], axis=1))
    gamma = ema.gamma_of_sigma_rel(sigma_rel)
    np.testing.assert_allclose(mean, (gamma + 1.0) / (gamma + 2.0), atol=2.0 / n)
    np.testing.assert_allclose(np.sqrt(square - mean**2), sigma_rel, atol=2.0 / n)


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0, 6.94, 16.97, 100.0])
def test_gamma_of_sigma_rel_of_gamma_is_gamma(gamma):
    # The cubic's root loses a factor of about gamma^2 to rounding.
    found = ema.gamma_of_sigma_rel(ema.sigma_rel_of_gamma(gamma))
    np.testing.assert_allclose(found, gamma, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("average", [ema.constant(0.97), ema.power(3.3), ema.power(0.0)])
def test_average_of_a_constant_is_that_constant_to_the_bit(average):
    value = np.float32([0.1, -3.3e-7, 1e20])
    np.testing.assert_array_equal(run(average, np.stack([value] * 50)), value)


def test_several_averages_are_each_alone_to_the_bit():
    values = np.random.default_rng(4).normal(size=(30, 3)).astype(np.float32)
    parts = {"short": ema.half_life(3.0), "long": ema.power(sigma_rel=0.1), "mean": ema.power(0.0)}
    found = run(ema.several(parts), values).averages
    assert found.keys() == parts.keys()
    for name, average in parts.items():
        np.testing.assert_array_equal(found[name], run(average, values))


@pytest.mark.usefixtures("x64")
def test_weight_of_a_step_halves_every_half_life():
    impulse = np.zeros((40, 1))
    impulse[10] = 1.0
    now, later = (run(ema.half_life(7.0), impulse[:n]) for n in (19, 26))
    np.testing.assert_allclose(later / now, 0.5, rtol=1e-12)


def test_no_average_keeps_nothing():
    assert ema.none().init({"w": 1.0}) == () == ema.none().update((), {"w": 1.0}, 1)


def test_step_averages_the_parameters_after_each_update():
    optimizer, average, data = train.optimizer(0.1), ema.power(2.0), toys.regression()
    step = jax.jit(train.make_step(toys.loss, optimizer, average))
    state, seen = toys.state(optimizer, average), []
    toys.assert_same_bits(state.ema, state.params)
    for _ in range(3):
        state, _ = step(state, toys.batch_fn(data, state.step))
        seen.append(np.asarray(state.params["w"]))
    # decay_t^3 with decay (0, 1/2, 2/3): weights 1/8 * 8/27, 7/8 * 8/27, 19/27.
    expected = np.array([1.0, 7.0, 19.0]) / 27.0 @ np.stack(seen)
    np.testing.assert_allclose(state.ema["w"], expected, rtol=1e-6)  # float32


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ema.constant(1.0), "decay 1.0"),
        (lambda: ema.half_life(0.0), "half-life 0.0"),
        (lambda: ema.several({}), "at least one average"),
        (lambda: ema.constant(-0.1), "decay -0.1"),
        (lambda: ema.power(), "one of the two"),
        (lambda: ema.power(1.0, sigma_rel=0.1), "one of the two"),
        (lambda: ema.power(-0.5), "gamma -0.5"),
        (lambda: ema.power(np.nan), "gamma nan"),
        (lambda: ema.power(sigma_rel=0.2887), "sigma_rel 0.2887"),  # above 12^(-1/2) = 0.28868
        (lambda: ema.power(sigma_rel=0.0), "sigma_rel 0.0"),
    ],
)
def test_wrong_average_is_named(call, message):
    with pytest.raises(PersonError, match=message):
        call()
