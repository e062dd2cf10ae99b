"""The judge of samples."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.datasets import load_digits

from dfx import nets
from dfx.errors import PersonError
from dfx.nets.layers import Conv

NET = nets.classifier((8, 8, 1), width=8, num_features=32)


def test_logits_are_linear_in_the_features_and_these_are_two_convolutions_and_a_layer():
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(NET.init, jax.random.key(0))
    params = jax.tree.map(lambda a: np.float32(0.3 * rng.standard_normal(a.shape)), shapes)
    x = np.float32(rng.standard_normal((3, 8, 8, 1)))
    features, logits = jax.jit(lambda p, x: (NET.features(p, x), NET.apply(p, x)))(params, x)
    assert features.shape == (3, 32) and logits.shape == (3, 10)
    expected = features @ params["outputs"]["kernel"] + params["outputs"]["bias"]
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
    h = x
    for name, width in (("conv1", 8), ("conv2", 16)):
        h = jnp.maximum(Conv(width, stride=2).apply({"params": params[name]}, h), 0)
    hidden = h.reshape(3, -1) @ params["hidden"]["kernel"] + params["hidden"]["bias"]
    np.testing.assert_allclose(features, np.maximum(hidden, 0), rtol=1e-4, atol=1e-5)


def test_28_by_28_pictures_end_in_7_by_7_places():
    shapes = jax.eval_shape(nets.classifier((28, 28, 1)).init, jax.random.key(0))
    assert shapes["hidden"]["kernel"].shape == (7 * 7 * 32, 128)


@pytest.mark.slow
def test_it_learns_to_read_digits():
    digits = load_digits()
    x = jnp.asarray(digits.images[..., None] / 8 - 1, jnp.float32)
    labels = jnp.asarray(digits.target)
    adam = optax.adam(1e-2)

    def step(carry, i):
        params, state = carry
        rows = (i * 100 + jnp.arange(100)) % 1400

        def loss(p):
            logits = NET.apply(p, x[rows])
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels[rows]).mean()

        updates, state = adam.update(jax.grad(loss)(params), state)
        return (optax.apply_updates(params, updates), state), None

    params = NET.init(jax.random.key(0))
    (params, _), _ = jax.lax.scan(step, (params, adam.init(params)), jnp.arange(100))
    accuracy = np.mean(NET.apply(params, x[1400:]).argmax(axis=1) == labels[1400:])
    assert accuracy > 0.85  # a linear one reaches about 0.9 on this split, chance 0.1


def test_equal_settings_give_the_same_classifier():
    assert nets.classifier((8, 8, 1)) is nets.classifier((8, 8, 1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shape": (8, 8)}, r"need \(height, width, channels\)"),
        (
            {"shape": (8, 8, 1), "num_classes": 1},
            "num_classes 1: .* from 2 up",
        ),
    ],
)
def test_bad_sizes_are_refused(options, message):
    with pytest.raises(PersonError, match=message):
        nets.classifier(**options)
