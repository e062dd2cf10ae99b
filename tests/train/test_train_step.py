"""The train step against optimisers computed by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import train_toys as toys

from dfx import train
from dfx.errors import PersonError

ROUNDING = 1e-12  # float64, a few hundred operations


def plain_loss(params, key, x, y):
    """The regression without noise: its gradient is known."""
    return jnp.mean((x @ params["w"] + params["b"] - y) ** 2), ()


def gradient(w, b, x, y):
    """The gradient of `plain_loss`, written out."""
    error = x @ w + b - y
    return 2.0 * x.T @ error / len(y), 2.0 * error.mean()


def data64():
    rng = np.random.default_rng(3)
    return rng.normal(size=(16, 3)), rng.normal(size=16)


@pytest.mark.usefixtures("x64")
def test_step_is_adam_with_bias_correction():
    x, y = data64()
    optimizer = train.optimizer(0.05, b1=0.8, b2=0.95, eps=1e-3)
    step = jax.jit(train.make_step(plain_loss, optimizer))
    start = {"w": jnp.array([0.3, -0.2, 0.9]), "b": jnp.array(0.1)}
    state = train.init_state(start, optimizer, jax.random.key(0))
    p, m, v = np.array([0.3, -0.2, 0.9, 0.1]), np.zeros(4), np.zeros(4)
    for i in range(1, 6):
        state, _ = step(state, (x, y))
        g = np.append(*gradient(p[:3], p[3], x, y))
        m, v = 0.8 * m + 0.2 * g, 0.95 * v + 0.05 * g**2
        p = p - 0.05 * (m / (1 - 0.8**i)) / (np.sqrt(v / (1 - 0.95**i)) + 1e-3)
    found = np.append(state.params["w"], state.params["b"])
    np.testing.assert_allclose(found, p, rtol=ROUNDING)


@pytest.mark.usefixtures("x64")
def test_step_with_any_optax_optimizer_is_that_optimizer():
    x, y = data64()
    optimizer = optax.sgd(0.1, momentum=0.9)
    step = train.make_step(plain_loss, optimizer)
    state = train.init_state({"w": jnp.zeros(3), "b": jnp.zeros(())}, optimizer, jax.random.key(0))
    p, trace = np.zeros(4), np.zeros(4)
    for _ in range(3):
        state, _ = step(state, (x, y))
        trace = 0.9 * trace + np.append(*gradient(p[:3], p[3], x, y))
        p = p - 0.1 * trace
    found = np.append(state.params["w"], state.params["b"])
    np.testing.assert_allclose(found, p, rtol=ROUNDING)


@pytest.mark.usefixtures("x64")
def test_metrics_are_those_of_the_parameters_before_the_step_and_before_clipping():
    x, y = data64()
    optimizer = train.optimizer(0.1, clip=1e-3)
    state = train.init_state({"w": jnp.ones(3), "b": jnp.ones(())}, optimizer, jax.random.key(0))
    _, metrics = train.make_step(plain_loss, optimizer)(state, (x, y))
    expected = np.mean((x.sum(axis=1) + 1.0 - y) ** 2)
    norm = np.linalg.norm(np.append(*gradient(np.ones(3), 1.0, x, y)))
    np.testing.assert_allclose(metrics["loss"], expected, rtol=ROUNDING)
    np.testing.assert_allclose(metrics["grad_norm"], norm, rtol=ROUNDING)


def test_step_i_draws_with_the_run_key_folded_with_i():
    optimizer, data = train.optimizer(1e-2), toys.regression()
    step, state = jax.jit(train.make_step(toys.loss, optimizer)), toys.state(optimizer)
    for i in range(3):
        assert int(state.step) == i
        key = jax.random.fold_in(jax.random.key(1), i)
        expected = jax.random.normal(key, (toys.BATCH, 3), jnp.float32)[0, 0]
        state, metrics = step(state, toys.batch_fn(data, state.step))
        assert metrics["noise"] == expected


@pytest.mark.usefixtures("x64")
def test_step_in_slices_is_the_step_on_the_whole_batch():
    x, y = data64()
    optimizer = train.optimizer(0.05, clip=0.1)
    start = {"w": jnp.array([0.3, -0.2, 0.9]), "b": jnp.array(0.1)}
    state = train.init_state(start, optimizer, jax.random.key(0))
    whole, numbers = train.make_step(plain_loss, optimizer)(state, (x, y))
    for slices in (2, 16):
        found, metrics = train.make_step(plain_loss, optimizer, slices=slices)(state, (x, y))
        toys.assert_close(found, whole, rtol=ROUNDING, atol=ROUNDING)
        toys.assert_close(metrics, numbers, rtol=ROUNDING)


def test_each_slice_draws_its_own_noise_and_takes_every_so_many_th_sample():
    def first(params, key, x):
        return jnp.stack([x[0], x[1], jax.random.normal(key, (), jnp.float32)])

    key, x = jax.random.key(4), jnp.arange(6.0)
    found = train.in_slices(first, 3)(None, key, x)
    noise = [jax.random.normal(jax.random.fold_in(key, i), (), jnp.float32) for i in range(3)]
    expected = [(0.0 + 1.0 + 2.0) / 3.0, (3.0 + 4.0 + 5.0) / 3.0, np.mean(noise)]
    np.testing.assert_allclose(found, expected, rtol=1e-6)  # float32


def test_slices_that_do_not_divide_the_batch_are_refused():
    with pytest.raises(PersonError, match="slices 3 of a batch of 16"):
        train.in_slices(plain_loss, 3)(None, jax.random.key(0), *data64())
    with pytest.raises(PersonError, match="slices 0"):
        train.in_slices(plain_loss, 0)


def test_batch_that_is_not_a_tuple_is_one_argument_of_the_loss():
    def square(params, key, x0):
        return jnp.mean((params - x0["points"]) ** 2), ()

    optimizer = train.optimizer(1e-2)
    state = train.init_state(jnp.zeros(()), optimizer, jax.random.key(0))
    _, metrics = train.make_step(square, optimizer)(state, {"points": jnp.array([3.0, 1.0])})
    assert metrics["loss"] == 5.0


def test_averaged_is_the_average_or_without_one_the_parameters():
    optimizer = train.optimizer(1e-2)
    plain = toys.state(optimizer)
    assert train.averaged(plain) is plain.params
    kept = toys.state(optimizer, train.ema.constant(0.9))
    assert train.averaged(kept) is kept.ema


def test_whole_batch_is_prepared_with_a_key_of_its_own():
    def prepare(batch, key):
        return batch + jax.random.normal(key, batch.shape, jnp.float32)

    def loss(params, key, x):
        return params * jnp.mean(x), {"x": x, "noise": jax.random.normal(key, x.shape)}

    optimizer, seen = train.optimizer(1e-2), {}
    state = train.init_state(jnp.ones(()), optimizer, jax.random.key(5))
    batch = jnp.arange(4.0, dtype=jnp.float32)
    for slices in (1, 2):
        step = train.make_step(loss, optimizer, slices=slices, prepare=prepare)
        state_after, metrics = step(state, batch)
        seen[slices] = metrics["loss"]
    # The slices share what was prepared: their mean is that of the whole batch.
    np.testing.assert_allclose(seen[1], seen[2], rtol=1e-6)  # float32
    _, first = train.make_step(loss, optimizer, prepare=prepare)(state, batch)
    _, second = train.make_step(loss, optimizer, prepare=prepare)(state_after, batch)
    noise = [first["x"] - batch, second["x"] - batch, first["noise"], second["noise"]]
    assert np.all(np.std(noise, axis=1) > 0.1)
    assert np.unique(np.round(noise, 4)).size == 16  # every number drawn once


def poisonous_loss(params, key, x, y):
    """The regression, with a root that has no gradient where the first input is zero."""
    value, _ = plain_loss(params, key, x, y)
    root = jnp.sqrt(jnp.sum((x[0] * params["w"]) ** 2))
    return value + 0.01 * root, {"rows": len(y) * jnp.ones(())}


def test_step_that_is_not_finite_is_skipped_counted_and_changes_nothing():
    x, y = (a.astype(np.float32) for a in data64())
    optimizer, average = train.optimizer(0.05, warmup=3), train.ema.power(2.0)
    step = jax.jit(train.make_step(poisonous_loss, optimizer, average, nonfinite="skip"))
    plain = jax.jit(train.make_step(poisonous_loss, optimizer, average))
    start = {"w": jnp.array([0.3, -0.2, 0.9]), "b": jnp.array(0.1)}
    first = train.init_state(start, optimizer, jax.random.key(0), average)
    state, metrics = step(first, (x, y))
    assert metrics["skipped"] == 0
    toys.assert_close(state, plain(first, (x, y))[0], rtol=1e-6)
    fifth, zero = np.arange(16) == 5, np.where(np.arange(16)[:, None] == 0, 0.0, x)
    bad_loss = [(x, np.where(fifth, bad, y)) for bad in np.float32([np.nan, np.inf])]
    bad_gradient = (zero.astype(np.float32), y)
    assert np.isfinite(step(state, bad_gradient)[1]["loss"])
    for batch in (*bad_loss, bad_gradient):
        after, metrics = step(state, batch)
        assert metrics["skipped"] == 1 and metrics["rows"] == 16
        toys.assert_same_bits(after._replace(step=state.step), state)
        assert after.step == state.step + 1
    again, metrics = step(after, (x, y))
    assert metrics["skipped"] == 0 and again.step == after.step + 1
    assert not np.array_equal(again.params["w"], after.params["w"])


def test_unknown_policy_is_refused_with_the_nearest():
    with pytest.raises(PersonError, match="unknown nonfinite policy 'skipp': did you mean 'skip'"):
        train.make_step(plain_loss, train.optimizer(1e-2), nonfinite="skipp")


def test_one_of_several_averages_is_chosen_by_name():
    optimizer, parts = train.optimizer(1e-2), {"a": train.ema.constant(0.9), "b": train.ema.none()}
    both = toys.state(optimizer, train.ema.several(parts))
    toys.assert_same_bits(train.averaged(both, "a"), both.params)
    with pytest.raises(PersonError, match="unknown average 'aa': did you mean 'a'"):
        train.averaged(both, "aa")
    with pytest.raises(PersonError, match="allowed: a, b"):
        train.averaged(both)
    with pytest.raises(PersonError, match="'a': this state keeps no averages by name"):
        train.averaged(toys.state(optimizer), "a")
