"""A feed from disk: one stream for any number of processes, resumed from any step."""

import itertools
import os
import pickle
import sys
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dfx import data, train
from dfx.errors import PersonError

KEY, SIZE, BATCH = jax.random.key(1), 37, 12


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (SIZE, 4, 4, 3), np.uint8)


@pytest.fixture
def labels():
    return np.arange(SIZE, dtype=np.int32)


@pytest.fixture
def shards(images, labels, tmp_path):
    data.write_npy_shards(tmp_path, "train", images, labels, num_shards=3)
    return data.npy_shards(tmp_path)


def feed(records, **options):
    return data.Feed(records, BATCH, KEY, **{"threads": 2, **options})


def first(count, one_feed, step=0):
    """The first batches from a step on."""
    with one_feed.from_step(step) as batches:
        return list(itertools.islice(batches, count))


class Slow:
    """Records whose later batches are ready before the earlier ones; they count their readers."""

    def __init__(self, size=SIZE, fault=None):
        self.size, self.fault, self.taken = size, fault, 0
        self.lock = threading.Lock()

    def __len__(self):
        return self.size

    def take(self, indices):
        with self.lock:
            self.taken += 1
            number = self.taken
        time.sleep(0.02 if number % 2 else 0)
        if self.fault is not None and self.fault in indices:
            raise data.DataError(f"picture {self.fault}: torn")
        return (np.asarray(indices),)


def test_the_feed_gives_the_batches_of_the_same_set_in_memory(shards, images, labels):
    for step, (pictures, classes) in enumerate(first(8, feed(shards))):
        there = data.batch((images, labels), KEY, step, BATCH)
        np.testing.assert_array_equal(pictures, there[0])
        np.testing.assert_array_equal(classes, there[1])
        assert (pictures.dtype, classes.dtype) == (np.uint8, np.int32)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 12])
def test_any_number_of_processes_reads_the_same_batches_without_overlap(shards, count):
    whole = feed(shards)
    for step in (0, 3, 1000):
        parts = [
            feed(shards, rows=rows).batch(step) for rows in np.arange(BATCH).reshape(count, -1)
        ]
        for together, alone in zip(map(np.concatenate, zip(*parts)), whole.batch(step)):
            np.testing.assert_array_equal(together, alone)


def test_the_rows_that_a_mesh_gives_a_process_are_read_and_no_others(shards):
    rows = np.array([0, 1, 6, 7])
    for here, whole in zip(feed(shards, rows=rows).batch(5), feed(shards).batch(5)):
        np.testing.assert_array_equal(here, whole[rows])


def test_processes_share_a_batch_in_their_order_and_equally(shards, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 3)
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    middle = feed(shards).batch(2)[0]
    with pytest.raises(PersonError, match="batch_size is 10, allowed: multiples of 3 processes"):
        data.Feed(shards, 10, KEY)
    monkeypatch.undo()
    np.testing.assert_array_equal(middle, feed(shards).batch(2)[0][4:8])


def test_a_resumed_feed_goes_on_where_the_first_stopped(shards):
    run = first(9, feed(shards))
    for step in (1, 4, 8):
        for before, after in zip(run[step:], first(9 - step, feed(shards, threads=1), step)):
            for one, other in zip(before, after):
                np.testing.assert_array_equal(one, other)


def test_an_epoch_holds_each_example_once():
    records = data.HostArrays((np.arange(36),))
    seen = np.concatenate([batch[0] for batch in first(6, feed(records))]).reshape(2, 36)
    np.testing.assert_array_equal(np.sort(seen), np.tile(np.arange(36), (2, 1)))
    assert (seen[0] != seen[1]).any()


def test_batches_come_in_order_whichever_thread_is_first():
    records = Slow()
    one_feed = feed(records, threads=4)
    for step, (numbers,) in enumerate(first(12, one_feed, 5)):
        np.testing.assert_array_equal(numbers, one_feed.indices(5 + step))


def test_no_more_is_read_than_was_asked_for():
    records = Slow()
    first(3, feed(records, threads=2, ahead=4))
    time.sleep(0.1)
    assert records.taken <= 3 + 4


def test_reading_starts_before_the_first_batch_is_asked_for():
    records = Slow()
    with feed(records, ahead=3).from_step(0):
        deadline = time.monotonic() + 10
        while records.taken < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert records.taken == 3


def test_a_fault_is_raised_at_its_own_step_and_ends_the_stream():
    numbers = [feed(Slow()).indices(step) for step in range(20)]
    fault = int(numbers[2][0])
    step = next(step for step in range(20) if fault in numbers[step])
    batches = feed(Slow(fault=fault)).from_step(0)
    for _ in range(step):
        next(batches)
    with pytest.raises(data.DataError, match=f"^picture {fault}: torn$"):
        next(batches)
    with pytest.raises(StopIteration):
        next(batches)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"rows": np.array([3, 12])}, "rows are .* allowed: increasing, from 0 to 11"),
        ({"rows": np.array([-1, 2])}, "rows are .* allowed: increasing, from 0 to 11"),
        ({"rows": np.array([4, 3])}, "rows are .* allowed: increasing, from 0 to 11"),
        ({"rows": np.arange(0)}, "rows are .* allowed: increasing, from 0 to 11"),
        ({"threads": 0}, "allowed: threads from 1 up"),
        ({"processes": -1}, "processes from 0 up"),
        ({"threads": 3, "ahead": 2}, "3 threads of 0 processes read 2 batches ahead"),
    ],
)
def test_numbers_out_of_range_are_one_line(options, expected):
    with pytest.raises(PersonError, match=expected) as caught:
        feed(data.HostArrays((np.arange(36),)), **options)
    assert "\n" not in str(caught.value)


def test_no_examples_and_a_negative_step_are_one_line():
    with pytest.raises(PersonError, match="records are empty"):
        feed(data.HostArrays((np.zeros(0),)))
    with pytest.raises(PersonError, match="step is -1, allowed: 0 or more"):
        feed(data.HostArrays((np.arange(36),))).from_step(-1)


def test_columns_of_different_length_are_an_error():
    with pytest.raises(PersonError, match=r"lengths \[3, 4\]"):
        data.HostArrays((np.zeros(3), np.zeros(4)))


def test_a_feed_that_is_sent_to_another_process_holds_no_key_and_reads_the_same(shards):
    rows = np.array([1, 2, 7])
    there = pickle.loads(pickle.dumps(feed(shards, rows=rows)))
    assert there.key is None
    for one, other in zip(there.batch(4), feed(shards, rows=rows).batch(4), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_missing_package_for_processes_is_one_line(monkeypatch, shards):
    monkeypatch.setitem(sys.modules, "grain", None)
    with pytest.raises(PersonError, match=r"needs the package grain, .*dfx\[images\]") as caught:
        feed(shards, processes=2).from_step(0)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_processes_read_the_same_batches_and_name_the_same_faults(shards, tmp_path):
    pytest.importorskip("grain")
    batches = feed(shards, processes=2, threads=1).from_step(3)
    for step in range(3, 8):
        for one, other in zip(next(batches), feed(shards).batch(step), strict=True):
            np.testing.assert_array_equal(one, other)
    batches.close()
    torn = sorted(tmp_path.glob("*_images.npy"))[0]
    batches = feed(shards, processes=1, threads=1).from_step(0)
    next(batches)
    os.truncate(torn, torn.stat().st_size // 2)
    with pytest.raises(data.DataError, match=f"{torn.name}: cut short"):
        list(itertools.islice(batches, 20))
    batches.close()


def test_training_from_disk_has_the_bits_of_training_from_memory(shards, images, labels):
    def loss(params, key, pictures, classes):
        x = data.to_unit(data.random_flip(key, pictures)).reshape(len(pictures), -1)
        return jnp.mean((x @ params - classes) ** 2), ()

    optimizer = train.optimizer(1e-2)
    step = train.make_step(loss, optimizer)
    start = train.init_state(jnp.zeros(48), optimizer, jax.random.key(0))

    def batch(source, step):
        return data.batch(source[:2], source[2], step, BATCH)

    in_memory = train.fit(step, start, batch, 9, 3, data=(images, labels, KEY))
    from_disk = train.fit_feed(step, start, feed(shards), 4, 3)
    from_disk = train.fit_feed(step, from_disk, feed(shards, threads=1), 9, 3)
    np.testing.assert_array_equal(in_memory.params, from_disk.params)
