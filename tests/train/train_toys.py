"""A linear regression with noise in its inputs: the smallest training that uses every part."""

import jax
import jax.numpy as jnp
import numpy as np

from dfx import train

NUM_POINTS, BATCH = 64, 8


def regression(seed: int = 0) -> dict:
    """Return a data set (x, y) and where its order begins."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(NUM_POINTS, 3)).astype(np.float32)
    y = (x @ np.array([1.0, -2.0, 3.0]) + 0.5).astype(np.float32)
    return {"x": x, "y": y, "first": np.int32(seed)}


def batch_fn(data, step):
    """Return a batch (x, y) that depends on the data and the step alone."""
    index = (data["first"] + 5 * step + 7 * jnp.arange(BATCH)) % NUM_POINTS
    return data["x"][index], data["y"][index]


def loss(params, key, x, y):
    """Return the mean square error at noisy inputs, and the first noise drawn."""
    noise = jax.random.normal(key, x.shape, x.dtype)
    error = (x + 0.1 * noise) @ params["w"] + params["b"] - y
    return jnp.mean(error**2), {"noise": noise[0, 0]}


def params(seed: int = 0) -> dict:
    """Return initial parameters, drawn from a seed."""
    return {"w": jax.random.normal(jax.random.key(seed), (3,), jnp.float32), "b": jnp.zeros(())}


def state(optimizer, ema=None, seed: int = 0) -> train.State:
    """Return an initial state, drawn from a seed."""
    return train.init_state(params(seed), optimizer, jax.random.key(seed + 1), ema)


WIDTH = 256


def wide_params(seed: int = 0) -> dict:
    """Return the parameters of a net with one hidden layer, large enough to be split."""
    keys = jax.random.split(jax.random.key(seed))
    return {
        "in": 0.3 * jax.random.normal(keys[0], (3, WIDTH), jnp.float32),
        "hidden": jax.random.normal(keys[1], (WIDTH, WIDTH), jnp.float32) / WIDTH**0.5,
        "out": jnp.zeros((WIDTH,)),
    }


def wide_loss(params, key, x, y):
    """Return the mean square error of that net at noisy inputs, and the outputs."""
    x = x + 0.1 * jax.random.normal(key, x.shape, x.dtype)
    output = jnp.tanh(jnp.tanh(x @ params["in"]) @ params["hidden"]) @ params["out"]
    return jnp.mean((output - y) ** 2), {"outputs": output}


class Feed:
    """Batches of a data set from the host, of the rows that a process feeds."""

    def __init__(self, data: dict, batch_size: int, rows=slice(None), end: int | None = None):
        self.data, self.batch_size, self.rows, self.end = data, batch_size, rows, end

    def from_step(self, step):
        while step != self.end:
            index = (7 * np.arange(self.batch_size) + 5 * step) % NUM_POINTS
            index = index[self.rows]
            yield self.data["x"][index], self.data["y"][index]
            step += 1


def numbers(tree) -> list[np.ndarray]:
    """Return the leaves of a pytree as NumPy arrays, typed keys as their data."""

    def plain(leaf):
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(leaf) if is_key else leaf)

    return [plain(leaf) for leaf in jax.tree.leaves(tree)]


def assert_same_bits(one, other):
    """Fail unless two pytrees have the same leaves to the bit."""
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(numbers(one), numbers(other), strict=True):
        np.testing.assert_array_equal(a, b)


def assert_close(one, other, rtol, atol=0.0):
    """Fail unless two pytrees have leaves that agree to the tolerances."""
    for a, b in zip(numbers(one), numbers(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)
