"""The judge of samples."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.datasets import load_digits

from dfx import nets
from dfx.errors import PersonError


def test_logits_are_linear_in_the_features():
    net = nets.classifier((28, 28, 1), num_classes=7, num_features=12)
    params = net.init(jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (3, 28, 28, 1), jnp.float32)
    features = net.features(params, x)
    assert features.shape == (3, 12)
    expected = features @ params["outputs"]["kernel"] + params["outputs"]["bias"]
    np.testing.assert_allclose(net.apply(params, x), expected, rtol=1e-4, atol=1e-5)


def test_it_learns_to_read_digits():
    digits = load_digits()
    x = jnp.asarray(digits.images[..., None] / 8 - 1, jnp.float32)
    labels = jnp.asarray(digits.target)
    net = nets.classifier((8, 8, 1), width=8, num_features=32)
    adam = optax.adam(1e-2)

    def step(carry, i):
        params, state = carry
        rows = (i * 100 + jnp.arange(100)) % 1400

        def loss(p):
            logits = net.apply(p, x[rows])
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels[rows]).mean()

        updates, state = adam.update(jax.grad(loss)(params), state)
        return (optax.apply_updates(params, updates), state), None

    params = net.init(jax.random.key(0))
    (params, _), _ = jax.lax.scan(step, (params, adam.init(params)), jnp.arange(100))
    accuracy = np.mean(net.apply(params, x[1400:]).argmax(axis=1) == labels[1400:])
    assert accuracy > 0.85  # a linear one reaches about 0.9 on this split, chance 0.1


def test_equal_settings_give_the_same_classifier():
    assert nets.classifier((8, 8, 1)) is nets.classifier((8, 8, 1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shape": (8, 8)}, r"need \(height, width, channels\)"),
        ({"shape": (8, 8, 1), "num_classes": 1}, "num_classes is 1: need at least 2"),
    ],
)
def test_bad_sizes_are_refused(options, message):
    with pytest.raises(PersonError, match=message):
        nets.classifier(**options)
