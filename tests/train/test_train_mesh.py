"""Meshes, as far as one device can tell; eight are in `test_train_processes`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import train_toys as toys
from jax.sharding import AbstractMesh, AxisType, PartitionSpec

from dfx import train
from dfx.errors import PersonError

OPTIMIZER = train.optimizer(1e-2)


def pod(data, fsdp):
    """A mesh of devices that are not there."""
    return AbstractMesh((data, fsdp), ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2)


def spec(shape, fsdp, min_size=1):
    leaf = jax.ShapeDtypeStruct(shape, jnp.float32)
    return train.state_shardings(leaf, pod(2, fsdp), min_size).spec


def test_array_is_split_along_its_longest_axis_that_can_be_split():
    assert spec((3, 3, 64, 128), 8) == PartitionSpec(None, None, None, "fsdp")
    assert spec((128, 64), 8) == PartitionSpec("fsdp")
    assert spec((99, 64), 8) == PartitionSpec(None, "fsdp")
    assert spec((99, 33), 8) == spec((), 8) == spec((8, 8), 1) == PartitionSpec()
    assert spec((64, 64), 8, 64 * 64) == PartitionSpec("fsdp")
    assert spec((64, 64), 8, 64 * 64 + 1) == PartitionSpec()


def make_state(key):
    return train.init_state(toys.wide_params(), OPTIMIZER, key, train.ema.power(2.0))


def test_moments_and_averages_lie_where_their_parameters_lie():
    state = jax.eval_shape(make_state, jax.random.key(0))
    found = train.state_shardings(state, pod(4, 8), 2**10)
    assert found.params["hidden"].spec == PartitionSpec("fsdp")
    adam = found.opt_state.inner[1]
    assert found.params == adam.mu == adam.nu == found.ema
    assert found.key.spec == found.step.spec == PartitionSpec()


def test_minus_one_is_what_is_left():
    assert dict(train.make_mesh().shape) == {"data": len(jax.devices()), "fsdp": 1}
    one = train.make_mesh(1, -1, jax.devices()[:1])
    assert dict(one.shape) == {"data": 1, "fsdp": 1}


@pytest.mark.parametrize("sizes", [(2, 1), (0, 1), (-1, 2), (-1, -1), (1, 0), (-2, 1)])
def test_mesh_that_does_not_use_all_devices_is_refused(sizes):
    message = f"data {sizes[0]} x fsdp {sizes[1]} on 1 devices"
    with pytest.raises(PersonError, match=message):
        train.make_mesh(*sizes, devices=jax.devices()[:1])


def test_batch_has_to_be_a_multiple_of_devices_times_slices():
    mesh = train.make_mesh(devices=jax.devices()[:1])
    assert train.check_batch(12, mesh, 3) == train.check_batch(12, None, 4) == 12
    with pytest.raises(PersonError, match=r"12 samples on 1 devices \(data 1, fsdp 1\) in 5 sl"):
        train.check_batch(12, mesh, 5)
    with pytest.raises(PersonError, match="12 samples in 5 slices: allowed are multiples of 5"):
        train.check_batch(12, None, 5)
    with pytest.raises(PersonError, match="0 samples"):
        train.check_batch(0)


def test_batch_that_does_not_divide_is_refused_where_it_is_used():
    step = train.make_step(toys.wide_loss, OPTIMIZER)
    state = jax.eval_shape(make_state, jax.random.key(0))._replace(ema=())
    batch = (jax.ShapeDtypeStruct((100, 3), jnp.float32), jax.ShapeDtypeStruct((100,), jnp.float32))
    with pytest.raises(PersonError, match=r"100 samples on 8 devices \(data 4, fsdp 2\)"):
        train.lower_step(step, state, batch, 4, 2)


def test_step_of_a_pod_is_lowered_on_one_device():
    step = train.make_step(toys.wide_loss, OPTIMIZER, train.ema.power(2.0), slices=2)
    state = jax.eval_shape(make_state, jax.random.key(0))
    shape = (1024, 3)
    batch = (jax.ShapeDtypeStruct(shape, jnp.float32), jax.ShapeDtypeStruct((1024,), jnp.float32))
    lowered = train.lower_step(step, state, batch, 64, 4, min_size=2**10)
    text = lowered.as_text()
    assert "num_partitions = 256" in text
    assert '"data"=64, "fsdp"=4' in text
    assert '{"data", "fsdp"}' in text


def test_whole_state_and_batch_come_back_from_a_mesh_to_the_bit():
    mesh = train.make_mesh(devices=jax.devices()[:1])
    made = train.init_on(mesh, make_state, jax.random.key(4))
    toys.assert_same_bits(made, jax.jit(make_state)(jax.random.key(4)))
    toys.assert_same_bits(train.move_to(mesh, made), made)
    batch = {"x": np.arange(12.0).reshape(6, 2), "scale": np.float32(3.0)}
    found = train.put_batch(batch, mesh)
    np.testing.assert_array_equal(found["x"], batch["x"])
    assert found["scale"] == 3.0 and found["scale"].shape == ()
    np.testing.assert_array_equal(train.local_rows(6, mesh), np.arange(6))


def test_data_in_memory_are_taken_to_the_mesh_of_the_state():
    step = train.make_step(toys.loss, OPTIMIZER)
    mesh = train.make_mesh(devices=jax.devices()[:1])
    state = toys.state(OPTIMIZER)

    def fit(state):
        return train.fit(step, state, toys.batch_fn, 12, 5, data=toys.regression())

    toys.assert_same_bits(fit(train.move_to(mesh, state)), fit(state))


def test_single_process_joins_nobody(monkeypatch):
    found = train.start_processes()
    assert found == (0, 1, jax.local_device_count(), jax.device_count())
    assert train.is_first()
    with pytest.raises(PersonError, match="process 2 of 4 without a coordinator"):
        train.start_processes(None, 4, 2)
    monkeypatch.setenv("JAX_PROCESS_ID", "0")  # of how many?
    with pytest.raises(PersonError, match="process 0 of None without a coordinator"):
        train.start_processes()
    monkeypatch.delenv("JAX_PROCESS_ID")
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "localhost:1")
    with pytest.raises(PersonError, match="process None of None at localhost:1"):
        train.start_processes()
    monkeypatch.setenv("JAX_NUM_PROCESSES", "two")
    with pytest.raises(PersonError, match="JAX_NUM_PROCESSES 'two'"):
        train.start_processes()
