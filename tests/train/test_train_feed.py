"""Batches from the host: the run of the same batches on the device, read ahead but not too far."""

import contextlib
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import train_toys as toys

from dfx import train
from dfx.errors import PersonError
from dfx.train.feed import READER, Ahead

OPTIMIZER = train.optimizer(0.05, warmup=5, clip=1.0)
AVERAGE = train.ema.power(3.0)
STEP = train.make_step(toys.loss, OPTIMIZER, AVERAGE)
DATA = toys.regression()


class Feed(toys.Feed):
    """The batches of `toys.batch_fn`, in NumPy, counted."""

    def __init__(self, end=None, seconds=0.0):
        super().__init__(DATA, toys.BATCH, end=end)
        self.read, self.seconds = 0, seconds

    def from_step(self, step):
        for batch in super().from_step(step):
            self.read += 1
            time.sleep(self.seconds)
            yield batch


def start():
    return toys.state(OPTIMIZER, AVERAGE)


def fit_feed(state, num_steps, chunk=10, on_chunk=None, feed=None, **settings):
    return train.fit_feed(STEP, state, feed or Feed(), num_steps, chunk, on_chunk, **settings)


def test_feed_is_the_run_of_the_same_batches_in_memory():
    rows = []
    found = fit_feed(start(), 25, on_chunk=lambda s, m, n: rows.append((n, m["loss"])))
    assert [(n, len(loss)) for n, loss in rows] == [(10, 10), (20, 10), (25, 5)]
    losses = []
    one = train.fit(
        STEP, start(), toys.batch_fn, 25, 10, lambda s, m, n: losses.append(m["loss"]), data=DATA
    )
    # Two programs for the same float32 arithmetic, 25 steps apart.
    np.testing.assert_allclose(
        np.concatenate([loss for _, loss in rows]), np.concatenate(losses), rtol=1e-5
    )
    toys.assert_close(found, one, rtol=1e-5, atol=1e-6)


def test_run_resumed_at_any_step_and_cut_anyhow_has_the_same_bits():
    whole = fit_feed(start(), 25)
    for stop, chunk in ((1, 10), (13, 4), (20, 25)):
        toys.assert_same_bits(fit_feed(fit_feed(start(), stop, chunk), 25, chunk), whole)
    toys.assert_same_bits(fit_feed(whole, 25), whole)


def test_state_that_was_given_stays_valid():
    state = start()
    fit_feed(state, 3)
    toys.assert_same_bits(state, start())


def test_feed_is_read_ahead_by_no_more_than_was_asked():
    for ahead in (1, 4):
        feed = Feed()
        fit_feed(start(), 5, feed=feed, ahead=ahead)
        # What was used, what lies on the device, and what was in hand when the run ended.
        assert 5 <= feed.read <= 5 + ahead + 1
    assert READER not in [thread.name for thread in threading.enumerate()]


def test_waiting_is_the_share_of_time_in_which_the_device_has_no_data():
    slow, fast = train.Meter(toys.BATCH), train.Meter(toys.BATCH)
    fit_feed(start(), 20, 5, feed=Feed(seconds=0.02), meter=slow)
    assert 0.5 < slow.report()["waiting"] <= 1.0

    def work(params, key, x, y):
        """A loss that takes longer than a batch."""
        large = jnp.ones((700, 700)) * params["b"]
        return toys.loss(params, key, x, y)[0] + 0.0 * jnp.sum(large @ large @ large), ()

    step = train.make_step(work, OPTIMIZER, AVERAGE)
    train.fit_feed(step, start(), Feed(), 20, 5, meter=fast)
    assert 0.0 <= fast.report()["waiting"] < 0.5


def test_nobody_waits_while_the_device_is_at_work():
    class Busy:
        def block_until_ready(self):
            time.sleep(0.4)

    def slow():
        time.sleep(0.2)
        yield 1
        time.sleep(0.2)
        yield 2

    with Ahead(slow(), jnp.asarray, 1) as batches:
        assert batches.take(busy=[Busy()])[1] < 0.1
    with Ahead(slow(), jnp.asarray, 1) as batches:
        assert batches.take()[1] > 0.1


def test_errors_of_the_feed_are_raised_by_the_loop():
    class Broken(Feed):
        def from_step(self, step):
            yield from super().from_step(step)
            raise OSError("shard 3 is torn")

    with pytest.raises(OSError, match="shard 3 is torn"):
        fit_feed(start(), 10, feed=Broken(end=7))
    with pytest.raises(PersonError, match="feed ended before the last step"):
        fit_feed(start(), 10, feed=Feed(end=7))


def test_reader_ends_when_nobody_takes_its_batches():
    taken = iter(range(1000))
    with Ahead(taken, jnp.asarray, 2) as batches:
        assert batches.take()[0] == 0
    assert not batches._thread.is_alive()
    assert next(taken) <= 5


class Closing:
    """Batches that know how often they were closed; unlike a generator's, nobody else does it."""

    def __init__(self, batches):
        self.batches, self.closed = batches, 0

    def __iter__(self):
        return self.batches

    def close(self):
        self.closed += 1


def test_the_batches_are_closed_whatever_ends_the_loop():
    for end, error in ((None, None), (7, PersonError)):
        feed, batches = Feed(), Closing(Feed(end=end).from_step(0))
        feed.from_step = lambda step, batches=batches: batches
        with pytest.raises(error) if error else contextlib.nullcontext():
            fit_feed(start(), 10, feed=feed)
        assert batches.closed == 1


def test_not_finite_and_saves_are_those_of_fit(tmp_path):
    feed, checkpoints = Feed(), train.Checkpoints(tmp_path, "hash")
    bad = next(n for n in range(4, 99) if 61 in (5 * n + 7 * np.arange(toys.BATCH)) % 64)
    feed.data = DATA | {"y": np.where(np.arange(toys.NUM_POINTS) == 61, np.nan, DATA["y"])}
    state = start()._replace(step=jnp.int32(3))
    with pytest.raises(train.NonFinite, match=f"step {bad}: loss nan"):
        fit_feed(state, 60, 1, feed=feed, checkpoints=checkpoints)
    assert (checkpoints.latest() or 3) == max(bad, 3)


def test_ensembles_and_bad_numbers_are_refused():
    with pytest.raises(PersonError, match="an ensemble cannot be fed"):
        fit_feed(train.stack([start(), start()]), 5)
    with pytest.raises(PersonError, match="ahead 0"):
        fit_feed(start(), 5, ahead=0)
    with pytest.raises(PersonError, match="num_steps 2: the state has done 3"):
        fit_feed(start()._replace(step=jnp.int32(3)), 2)


def test_batch_on_a_mesh_of_one_device_changes_no_bit():
    mesh = train.make_mesh(devices=jax.devices()[:1])
    found = fit_feed(train.move_to(mesh, start()), 12)
    toys.assert_same_bits(found, fit_feed(start(), 12))
