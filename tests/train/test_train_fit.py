"""The loop: chunks change nothing, and numbers that are not finite stop it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import train_toys as toys

from dfx import train
from dfx.errors import PersonError

OPTIMIZER = train.optimizer(0.05, warmup=5, schedule="cosine", total=40, clip=1.0)
AVERAGE = train.ema.power(3.0)
STEP = train.make_step(toys.loss, OPTIMIZER, AVERAGE)


def start():
    return toys.state(OPTIMIZER, AVERAGE)


def fit(state, num_steps, chunk=20, on_chunk=None, **settings):
    data = settings.pop("data", toys.regression())
    return train.fit(STEP, state, toys.batch_fn, num_steps, chunk, on_chunk, data=data, **settings)


class Saves:
    """What stands for checkpoints here: it remembers the steps of its saves."""

    folder = "somewhere"

    def __init__(self):
        self.steps, self.waited = [], 0

    def prepare(self):
        pass

    def save(self, step, state):
        assert int(state.step) == step
        self.steps.append(step)

    def latest(self):
        return self.steps[-1] if self.steps else None

    def wait(self):
        self.waited += 1


@pytest.mark.slow
def test_chunked_is_unchunked_to_the_bit():
    whole = fit(start(), 40, chunk=100)
    for chunk in (7, 20):
        toys.assert_same_bits(fit(start(), 40, chunk=chunk), whole)


def test_single_steps_without_a_loop_are_the_chunks():
    rows = []
    found = fit(start(), 25, chunk=1, on_chunk=lambda s, m, n: rows.append((n, m["loss"].shape)))
    assert rows == [(n, (1,)) for n in range(1, 26)]
    # Two programs for the same float32 arithmetic, 25 steps apart.
    toys.assert_close(found, fit(start(), 25), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("chunk", [1, 20])
def test_stopped_and_resumed_is_uninterrupted_to_the_bit(chunk):
    whole = fit(start(), 40, chunk)
    for stop in (1, 20, 33):
        toys.assert_same_bits(fit(fit(start(), stop, chunk), 40, chunk), whole)


def test_fit_is_the_loop_over_single_steps():
    data, step, state, losses = toys.regression(), jax.jit(STEP), start(), []
    for _ in range(25):
        state, metrics = step(state, toys.batch_fn(data, state.step))
        losses.append(metrics["loss"])
    rows = []
    found = fit(start(), 25, on_chunk=lambda s, m, n: rows.append(m["loss"]))
    assert [len(row) for row in rows] == [20, 5]
    # Two programs for the same float32 arithmetic, 25 steps apart.
    np.testing.assert_allclose(np.concatenate(rows), losses, rtol=1e-5)
    toys.assert_close(found, state, rtol=1e-5, atol=1e-6)


def test_chunks_end_at_multiples_of_the_chunk_wherever_the_run_starts():
    ends = []
    fit(fit(start(), 13), 47, on_chunk=lambda s, m, n: ends.append((n, len(m["loss"]))))
    assert ends == [(20, 7), (40, 20), (47, 7)]


@pytest.mark.slow
def test_chunks_of_every_length_and_other_data_are_one_compilation():
    traces = []

    def batch_fn(data, step):
        traces.append(step)
        return toys.batch_fn(data, step)

    def run(seed):
        return train.fit(STEP, start(), batch_fn, 25, 20, data=toys.regression(seed))

    run(0)
    first = len(traces)
    run(1)
    assert len(traces) == first


def test_state_that_was_given_stays_valid_and_a_finished_one_comes_back():
    state = start()
    done = fit(state, 3)
    toys.assert_same_bits(state, start())
    toys.assert_same_bits(fit(done, 3), done)


def test_saves_come_at_the_first_chunk_end_after_each_multiple_and_at_the_end():
    saves = Saves()
    fit(start(), 110, checkpoints=saves, save_every=50)
    assert saves.steps == [60, 100, 110]
    assert saves.waited == 1
    every = Saves()
    fit(start(), 50, checkpoints=every)
    assert every.steps == [20, 40, 50]


def poisoned(step_number):
    """The batches, with an infinity in the one of a step."""

    def batch_fn(data, step):
        x, y = toys.batch_fn(data, step)
        return x, jnp.where(step == step_number, jnp.inf, y)

    return batch_fn


def test_loss_that_is_not_finite_stops_the_run_and_names_the_step_and_the_last_checkpoint():
    saves, ends = Saves(), []
    with pytest.raises(train.NonFinite, match="step 17: loss inf") as raised:
        train.fit(
            STEP,
            start(),
            poisoned(17),
            40,
            10,
            lambda s, m, n: ends.append(n),
            data=toys.regression(),
            checkpoints=saves,
        )
    assert raised.value.step == 17
    assert "checkpoint: step 10 in somewhere" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert ends == saves.steps == [10]
    assert saves.waited == 1


def test_message_says_when_nothing_was_saved():
    data = toys.regression()
    data["y"][:] = np.inf
    with pytest.raises(train.NonFinite, match=r"step 0: .*No checkpoint was saved"):
        fit(start(), 40, data=data)


@pytest.mark.slow
def test_members_that_are_not_finite_are_named():
    states = train.stack([start(), start()])
    data = train.stack([toys.regression(i) for i in range(2)])
    data["y"] = data["y"].at[1].set(jnp.nan)
    with pytest.raises(train.NonFinite, match="step 0, member 1: loss nan") as raised:
        fit(states, 40, data=data)
    assert raised.value.members == (1,)


def test_members_that_are_not_finite_may_be_allowed_and_do_not_touch_the_others():
    states = train.stack([start(), start()])
    data = train.stack([toys.regression(0), toys.regression(1)])
    good = fit(states, 10, data=data)
    data["y"] = data["y"].at[0].set(jnp.nan)
    bad = fit(states, 10, data=data, allow_nonfinite=True)
    assert np.isnan(bad.params["w"][0]).all()
    toys.assert_same_bits(train.member(bad.params, 1), train.member(good.params, 1))


def test_parameters_that_are_not_finite_stop_the_run_though_its_losses_are():
    """The last update of a chunk overflows after the last loss was taken."""
    optimizer = optax.sgd(lambda count: jnp.where(count == 2, jnp.inf, 0.01))
    step = train.make_step(toys.loss, optimizer)
    with pytest.raises(train.NonFinite, match="step 2: parameters") as raised:
        train.fit(step, toys.state(optimizer), toys.batch_fn, 9, 3, data=toys.regression())
    assert raised.value.step == 2


def fit_skipping(batch_fn, num_steps, on_chunk=None):
    step = train.make_step(toys.loss, OPTIMIZER, AVERAGE, nonfinite="skip")
    data = toys.regression()
    return train.fit(step, start(), batch_fn, num_steps, 20, on_chunk, data=data)


def test_steps_that_are_skipped_do_not_stop_the_run_and_are_counted():
    rows = []
    found = fit_skipping(poisoned(17), 40, lambda s, m, n: rows.extend(m["skipped"]))
    assert np.flatnonzero(rows).tolist() == [17] and int(found.step) == 40
    assert bool(train.all_finite(found.params))


@pytest.mark.slow
def test_a_hundred_skipped_steps_in_a_row_stop_the_run():
    def batch_fn(data, step):
        x, y = toys.batch_fn(data, step)
        return x, jnp.where(step >= 30, jnp.nan, y)

    def now_and_then(data, step):
        x, y = toys.batch_fn(data, step)
        return x, jnp.where(step % 50 > 0, jnp.nan, y)

    assert int(fit_skipping(now_and_then, 150).step) == 150
    with pytest.raises(train.NonFinite, match="step 129, as in the 99 steps before") as raised:
        fit_skipping(batch_fn, 1000)
    assert raised.value.step == 129


def test_meter_counts_the_steps_of_a_run():
    meter = train.Meter(toys.BATCH, flop=100.0)
    fit(start(), 50, meter=meter)
    found = meter.report()
    assert found["waiting"] == 0.0 and found["first_s"] > 0.0
    np.testing.assert_allclose(found["flop_per_s"] * found["step_s"], 100.0, rtol=1e-9)
    np.testing.assert_allclose(found["images_per_s"] * found["step_s"], toys.BATCH, rtol=1e-9)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_steps": -5}, "num_steps -5"),
        ({"num_steps": 5, "chunk": 0}, "chunk 0"),
        ({"num_steps": 5, "save_every": 0}, "save_every 0"),
    ],
)
def test_wrong_number_of_steps_is_named(settings, message):
    with pytest.raises(PersonError, match=message):
        fit(start(), **settings)


def test_state_beyond_the_last_step_is_refused():
    with pytest.raises(PersonError, match="num_steps 2: the state has done 3"):
        fit(fit(start(), 3), 2)
