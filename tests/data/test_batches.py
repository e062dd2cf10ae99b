"""Batches are a pure function of (key, step), and their stream is made of whole epochs."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from dfx import data
from dfx.errors import PersonError

KEY = jax.random.key(0)
#: Chi-square tests fail by chance once in a thousand; the keys are fixed, so they never do here.
P_VALUE = 1e-3
SIZES = (1, 2, 3, 4, 5, 7, 16, 17, 100, 101, 1023, 60_000)


#: One batch size for most tests: key, step and size are traced, so they share one compilation.
BATCH = 4096


def stream(key, size, count, batch_size=BATCH):
    """The first `count` indices of the stream, drawn in batches."""
    steps = range(-(-count // batch_size))
    drawn = [data.indices(key, step, batch_size, size) for step in steps]
    return np.concatenate(drawn)[:count]


def epochs(key, size, num_epochs):
    """Whole epochs, one a row."""
    return stream(key, size, size * num_epochs).reshape(num_epochs, size)


@pytest.mark.parametrize("size", SIZES)
def test_an_epoch_holds_each_index_exactly_once(size):
    for epoch in epochs(KEY, size, 3):
        np.testing.assert_array_equal(np.sort(epoch), np.arange(size))


@pytest.mark.parametrize("size", [5, 7, 9, 1000])
def test_batches_of_any_size_are_cut_from_one_stream(size):
    # Batches that straddle an epoch's edge, and batches of several epochs, included.
    for batch_size in (1, 9, 64):
        np.testing.assert_array_equal(
            stream(KEY, size, 3 * batch_size + 1, batch_size), stream(KEY, size, 3 * batch_size + 1)
        )


def test_epochs_differ_and_keys_differ():
    orders = np.concatenate([epochs(jax.random.key(seed), 500, 4) for seed in range(3)])
    for one, other in itertools.combinations(orders, 2):
        # Two random orders agree at Poisson(1) places; more than 10 has probability 1e-8.
        assert np.sum(one == other) <= 10


def test_an_epoch_is_not_a_shift_of_another():
    # Epochs must be independent; a salt that is added too late makes one the other's shift.
    orders = epochs(KEY, 997, 6)
    for one, other in itertools.combinations(orders, 2):
        shifts = np.bincount((one - other) % 997)
        # The most frequent of 997 Poisson(1) counts exceeds 10 with probability 1e-5.
        assert shifts.max() <= 10


def test_indices_depend_on_key_and_step_alone():
    at = functools.partial(data.indices, KEY, batch_size=64, size=1000)
    alone = np.asarray(at(step=31))
    in_a_row = stream(KEY, 1000, 32 * 64, 64)[-64:]
    in_a_scan = jax.lax.scan(lambda c, step: (c, at(step=step)), 0, jnp.arange(32))[1]
    for other in (in_a_row, in_a_scan[31], at(step=np.uint32(31))):
        np.testing.assert_array_equal(alone, other)
    assert alone.dtype == np.int32


def test_indices_are_the_same_in_double_precision(x64):
    doubled = np.asarray(data.indices(KEY, jnp.asarray(31), 64, jnp.asarray(1000)))
    with jax.enable_x64(False):
        single = np.asarray(data.indices(KEY, 31, 64, 1000))
    np.testing.assert_array_equal(doubled, single)
    assert doubled.dtype == np.int32


def test_an_ensemble_over_sizes_draws_what_each_size_draws_alone():
    sizes = jnp.array([1, 2, 50, 64, 999, 50_000])
    together = jax.jit(jax.vmap(lambda size: data.indices(KEY, 5, 64, size)))(sizes)
    for row, size in zip(together, sizes.tolist()):
        np.testing.assert_array_equal(row, data.indices(KEY, 5, 64, size))


@pytest.mark.parametrize("size", [3, 4, 5, 6])
def test_all_orders_of_a_few_examples_are_equally_frequent(size):
    orders = epochs(KEY, size, 20_000)
    codes = orders @ size ** np.arange(size)
    _, counts = np.unique(codes, return_counts=True)
    assert len(counts) == math.factorial(size)
    assert stats.chisquare(counts).pvalue > P_VALUE


def test_each_index_is_equally_frequent_at_each_place():
    size, num_epochs = 37, 8000
    orders = epochs(KEY, size, num_epochs)
    counts = np.zeros((size, size))
    np.add.at(counts, (np.arange(size), orders), 1)
    expected = num_epochs / size
    # A doubly stochastic table has (size - 1)^2 degrees of freedom.
    statistic = np.sum((counts - expected) ** 2 / expected) * (size - 1) / size
    assert stats.chi2.sf(statistic, (size - 1) ** 2) > P_VALUE


def test_neighbours_in_an_epoch_are_equally_frequent_pairs():
    # Successive differences catch a shuffle that keeps rows of the Feistel grid together.
    size = 97
    orders = epochs(jax.random.key(1), size, 4000)
    differences = np.bincount((np.diff(orders, axis=1) % size).ravel(), minlength=size)
    assert differences[0] == 0
    assert stats.chisquare(differences[1:]).pvalue > P_VALUE


def test_the_first_batch_of_a_large_set_is_uniform():
    first = np.concatenate([stream(jax.random.key(s), 60_000, BATCH) for s in range(10)])
    assert stats.kstest(first / 60_000, "uniform").pvalue > P_VALUE


def test_positions_beyond_32_bits_are_exact():
    # Batches of 64 steps further on and of BATCH = 64 * 64 meet at the same position, 1.3e11;
    # Python's integers say in which epoch, and whole epochs there hold each index once.
    size, step = 1000, 2_000_000_000
    few = np.concatenate([data.indices(KEY, step + i, 64, size) for i in range(64)])
    many = np.asarray(data.indices(KEY, step // 64, BATCH, size))
    np.testing.assert_array_equal(few, many)
    start = -(step * 64) % size
    for epoch in many[start : start + 3 * size].reshape(3, size):
        np.testing.assert_array_equal(np.sort(epoch), np.arange(size))


@pytest.mark.parametrize("size", [2**31 - 1, 2**30 + 1, 46_340**2, 46_340**2 + 1, 4095**2 + 1])
def test_indices_of_the_largest_sizes_are_distinct_and_in_range(size):
    chosen = np.asarray(data.indices(KEY, 3, BATCH, size)).astype(np.int64)
    assert chosen.min() >= 0
    assert chosen.max() < size
    assert len(np.unique(chosen)) == BATCH
    assert stats.kstest(chosen / size, "uniform").pvalue > P_VALUE


def test_a_batch_gathers_every_leaf_at_the_same_indices():
    images, labels = np.arange(40.0).reshape(10, 2, 2), np.arange(10)
    drawn = data.batch({"x": images, "y": jnp.asarray(labels)}, KEY, 3, 64)
    chosen = np.asarray(data.indices(KEY, 3, 64, 10))
    np.testing.assert_array_equal(drawn["y"], chosen)
    np.testing.assert_array_equal(drawn["x"], images[chosen])


def test_a_batch_of_part_of_the_data_uses_its_first_examples_only():
    labels = jnp.arange(100)
    draw = jax.vmap(lambda size: data.batch(labels, KEY, 0, 50, size))
    drawn = np.asarray(draw(jnp.array([10, 25, 50])))
    for row, size in zip(drawn, (10, 25, 50)):
        np.testing.assert_array_equal(np.bincount(row), np.full(size, 50 // size))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: data.indices(KEY, 0, 0, 10), "batch_size is 0"),
        (lambda: data.indices(KEY, 0, 4, 0), "size is 0, allowed: 1 to"),
        (lambda: data.indices(KEY, 0, 4, 2**31), "size is 2147483648"),
        (lambda: data.batch((np.zeros(3), np.zeros(4)), KEY, 0, 2), r"are \[3, 4\]"),
        (lambda: data.batch(np.zeros(3), KEY, 0, 2, size=4), "at most the 3 examples"),
    ],
)
def test_impossible_batches_are_an_error(call, said):
    with pytest.raises(PersonError, match=said):
        call()


def test_a_flip_mirrors_about_half_of_the_pictures_and_keeps_the_rest():
    images = np.random.default_rng(0).integers(0, 256, (4000, 3, 4, 2), np.uint8)
    flipped = np.asarray(data.random_flip(KEY, images))
    same = (flipped == images).all((1, 2, 3))
    mirrored = (flipped == images[:, :, ::-1]).all((1, 2, 3))
    assert np.all(same ^ mirrored)
    # Binomial with probability 1/2: 4 sd.
    assert abs(mirrored.mean() - 0.5) < 4 * 0.5 / math.sqrt(len(images))


def test_the_coin_of_a_picture_does_not_depend_on_the_batch():
    images = np.arange(64.0).reshape(16, 1, 4, 1)
    whole = data.random_flip(KEY, images)
    np.testing.assert_array_equal(data.random_flip(KEY, images[:5]), whole[:5])
