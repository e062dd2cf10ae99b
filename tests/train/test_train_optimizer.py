"""Learning-rate schedules, clipping, and hyper-parameters held in the state."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dfx import train
from dfx.errors import PersonError

FLOAT32 = 1e-6  # a dozen float32 operations


def path(optimizer, gradient, num_steps):
    """The updates of the first steps at a constant gradient, shape (num_steps, ...)."""
    state, updates = optimizer.init(gradient), []
    for _ in range(num_steps):
        update, state = optimizer.update(gradient, state, gradient)
        updates.append(update)
    return np.stack(updates)


@pytest.mark.usefixtures("x64")
def test_adam_at_a_constant_gradient_moves_by_the_learning_rate():
    """Mean and root mean square of a constant are that constant: the update is the rate itself."""
    optimizer = train.optimizer(0.2, warmup=4, schedule="cosine", total=12, eps=1e-30)
    moved = -path(optimizer, jnp.array([3.0, -0.01]), 13)
    rise = [0.25, 0.5, 0.75, 1.0]
    fall = [np.cos(np.pi * i / 16.0) ** 2 for i in range(9)]
    expected = 0.2 * np.array([*rise, *fall])
    np.testing.assert_allclose(moved, np.outer(expected, [1.0, -1.0]), rtol=1e-12, atol=1e-15)


def test_learning_rate_is_constant_after_the_warm_up_and_without_one_from_the_start():
    warm = train.learning_rate_at(np.arange(5), {"learning_rate": 0.1, "warmup": 2})
    np.testing.assert_allclose(warm, [0.05, 0.1, 0.1, 0.1, 0.1], rtol=FLOAT32)
    cold = train.learning_rate_at(np.arange(2), {"learning_rate": 0.1, "warmup": 0})
    np.testing.assert_allclose(cold, [0.1, 0.1], rtol=FLOAT32)


def test_cosine_ends_at_zero_and_stays_there():
    numbers = {"learning_rate": 0.1, "warmup": 0, "total": 10}
    rates = train.learning_rate_at(np.array([0, 5, 10, 20]), numbers, "cosine")
    np.testing.assert_allclose(rates, [0.1, 0.05, 0.0, 0.0], rtol=FLOAT32, atol=1e-9)


@pytest.mark.parametrize(("clip", "factor"), [(1.0, 0.2), (10.0, 1.0), (None, 1.0)])
def test_clip_scales_a_gradient_of_larger_norm_and_leaves_a_smaller_one(clip, factor):
    """First Adam step with eps = 1: -rate g / (|g| + 1) shows the gradient that Adam was given."""
    g = np.array([3.0, -4.0])  # norm 5
    (update,) = path(train.optimizer(0.1, clip=clip, eps=1.0), jnp.asarray(g), 1)
    expected = -0.1 * factor * g / (factor * np.abs(g) + 1.0)
    # b2 = 0.999 is rounded in float32, 1 - b2 is off by 5e-5 of itself, and so is the mean square.
    np.testing.assert_allclose(update, expected, rtol=1e-4)


def test_one_update_serves_a_vmap_over_every_number():
    settings = {
        "learning_rate": jnp.array([1e-3, 1e-2, 1e-1]),
        "warmup": jnp.array([0, 2, 3]),
        "total": jnp.array([5, 10, 20]),
        "clip": jnp.array([0.1, 1.0, 10.0]),
        "b1": jnp.array([0.5, 0.9, 0.0]),
        "b2": jnp.array([0.9, 0.99, 0.999]),
        "eps": jnp.array([1e-8, 1e-3, 1e-1]),
    }

    def make(numbers):
        return train.optimizer(schedule="cosine", **numbers)

    g = jnp.array([2.0, -0.3])
    states = jax.jit(jax.vmap(lambda numbers: make(numbers).init(g)))(settings)
    some = train.optimizer(1.0, total=1, clip=1.0, schedule="cosine")
    together = []
    for _ in range(4):
        updates, states = jax.vmap(some.update, in_axes=(None, 0))(g, states)
        together.append(updates)
    for i in range(3):
        alone = path(make({k: v[i] for k, v in settings.items()}), g, 4)
        np.testing.assert_allclose(np.stack(together)[:, i], alone, rtol=FLOAT32)


def test_held_numbers_may_belong_to_any_optimizer():
    held = train.hold(lambda numbers: optax.sgd(numbers["rate"]), {"rate": 0.5})
    np.testing.assert_array_equal(path(held, jnp.array([2.0]), 2), [[-1.0], [-1.0]])
    assert held.init(jnp.zeros(1)).numbers["rate"] == 0.5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rate": -1e-3}, "learning_rate -0.001"),
        ({"learning_rate": 0.0}, "learning_rate 0.0"),
        ({"learning_rate": float("nan")}, "learning_rate nan"),
        ({"warmup": -1}, "warmup -1"),
        ({"clip": 0.0}, "clip 0.0"),
        ({"b1": 1.0}, "b1 1.0"),
        ({"b2": -0.1}, "b2 -0.1"),
        ({"eps": 0.0}, "eps 0.0"),
        ({"total": 0}, "total 0"),
        ({"schedule": "cosin"}, "did you mean 'cosine'"),
        ({"schedule": "cosine"}, "needs total"),
        ({"warmup": 20, "total": 10}, "warmup 20 is longer than total 10"),
    ],
)
def test_wrong_number_is_named(settings, message):
    with pytest.raises(PersonError, match=message):
        train.optimizer(**settings)
