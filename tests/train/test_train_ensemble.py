"""An ensemble is its members, trained alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import train_toys as toys

from dfx import train
from dfx.errors import PersonError

OPTIMIZER = train.optimizer(0.02)
STEP = train.make_step(toys.loss, OPTIMIZER)
# float32 rounding of some 30 steps: vmap may order the sums of a member otherwise.
RTOL, ATOL = 1e-5, 1e-6


def make(seed_key, rate):
    """A state as a function of its key and its learning rate."""
    start = {"w": jax.random.normal(seed_key, (3,), jnp.float32), "b": jnp.zeros(())}
    return train.init_state(start, train.optimizer(rate), jax.random.fold_in(seed_key, 1))


def states(members, rates):
    return jax.jit(jax.vmap(make))(jax.random.split(jax.random.key(7), members), jnp.asarray(rates))


def fit(state, data, **settings):
    return train.fit(STEP, state, toys.batch_fn, 30, 20, data=data, **settings)


@pytest.mark.slow
def test_eight_seeds_are_each_seed_alone():
    together, data = states(8, [0.02] * 8), train.stack([toys.regression(i) for i in range(8)])
    found = fit(together, data)
    assert found.step.tolist() == [30] * 8
    for i in range(8):
        alone = fit(train.member(together, i), train.member(data, i))
        toys.assert_close(train.member(found, i), alone, RTOL, ATOL)


def test_learning_rates_are_each_rate_alone_on_shared_data():
    rates, data = [1e-3, 1e-2, 1e-1], toys.regression()
    together = states(3, rates)
    found = fit(together, data, data_axes=None)
    for i, rate in enumerate(rates):
        assert found.opt_state.numbers["learning_rate"][i] == jnp.float32(rate)
        alone = fit(train.member(together, i), data)
        toys.assert_close(train.member(found, i), alone, RTOL, ATOL)
    moved = np.linalg.norm(found.params["w"] - together.params["w"], axis=1)
    assert moved[0] < moved[1] < moved[2]


def test_part_of_the_data_may_be_shared():
    data = toys.regression()
    own = data | {"first": np.array([0, 20, 40], np.int32)}
    together = states(3, [0.02] * 3)
    found = fit(together, own, data_axes={"x": None, "y": None, "first": 0})
    for i in range(3):
        alone = fit(train.member(together, i), data | {"first": own["first"][i]})
        toys.assert_close(train.member(found, i), alone, RTOL, ATOL)


def test_metrics_of_an_ensemble_have_steps_first_and_members_second():
    shapes, seen = [], lambda s, m, n: shapes.append(m["loss"].shape)
    fit(states(3, [0.02] * 3), toys.regression(), data_axes=None, on_chunk=seen)
    assert shapes == [(20, 3), (10, 3)]


def test_member_of_a_stack_is_what_was_stacked():
    trees = [toys.state(OPTIMIZER, seed=i) for i in range(3)]
    for i, tree in enumerate(trees):
        toys.assert_same_bits(train.member(train.stack(trees), i), tree)
    assert train.num_members(trees[0]) is None
    assert train.num_members(train.stack(trees)) == 3


def test_spread_over_one_device_changes_no_bit():
    together, data = states(3, [0.02] * 3), toys.regression()
    found = fit(train.spread(together, train.device_mesh(jax.devices()[:1])), data, data_axes=None)
    toys.assert_same_bits(found, fit(together, data, data_axes=None))


def test_members_that_do_not_divide_over_the_devices_are_refused():
    class Mesh:
        size = 8

    with pytest.raises(PersonError, match="3 members on 8 devices: allowed are multiples of 8"):
        train.spread(states(3, [0.02] * 3), Mesh())


def test_members_at_different_steps_are_refused():
    one = toys.state(OPTIMIZER)
    other = one._replace(step=jnp.int32(5))
    with pytest.raises(PersonError, match=r"different steps: \[0, 5\]"):
        fit(train.stack([one, other]), toys.regression(), data_axes=None)
