"""Intervals against published tables, their defining equations and their coverage."""

import jax
import numpy as np
import pytest
from scipy import stats

from dfx import metrics
from dfx.errors import PersonError


@pytest.mark.parametrize(
    ("count", "n", "low", "high"),
    [
        # Newcombe 1998, table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_has_the_published_values(count, n, low, high):
    interval = metrics.wilson(count, n)
    assert interval.estimate == count / n
    # The table has four digits.
    assert interval.low == pytest.approx(low, abs=5.1e-5)
    assert interval.high == pytest.approx(high, abs=5.1e-5)


@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
def test_the_ends_of_wilson_are_where_the_score_test_rejects(level):
    count, n = np.arange(1, 30), 30
    interval = metrics.wilson(count, n, level)
    z = stats.norm.ppf((1 + level) / 2)
    for end in (interval.low, interval.high):
        score = np.abs(count / n - end) / np.sqrt(end * (1 - end) / n)
        np.testing.assert_allclose(score, z, rtol=1e-10)


def test_wilson_of_no_and_of_all_hits_ends_at_zero_and_one():
    none, every = metrics.wilson([0, 7], 7).low[0], metrics.wilson([0, 7], 7).high[1]
    assert (none, every) == (0, 1)
    mirrored = metrics.wilson(7 - np.arange(8), 7)
    plain = metrics.wilson(np.arange(8), 7)
    np.testing.assert_allclose(mirrored.low, 1 - plain.high, atol=1e-15)


def test_bootstrap_of_a_mean_is_as_wide_as_the_normal_interval():
    x = np.random.default_rng(1).exponential(size=2000)
    interval = metrics.bootstrap(jax.random.key(0), np.mean, x, num_resamples=2000)
    half = 1.96 * x.std() / np.sqrt(len(x))
    assert interval.estimate == x.mean()
    # The ends are quantiles of 2000 values, known to 1 / sqrt(0.05 * 2000) = 0.1; 3 of these.
    assert (interval.high - interval.low) / 2 == pytest.approx(half, rel=0.3)
    assert (interval.high + interval.low) / 2 == pytest.approx(x.mean(), abs=0.3 * half)


def test_bootstrap_is_a_function_of_its_key():
    x = np.arange(50.0)
    one, same, other = (
        metrics.bootstrap(jax.random.key(seed), np.median, x, num_resamples=50)
        for seed in (0, 0, 1)
    )
    assert one == same
    assert one != other


def test_bootstrap_resamples_rows_together():
    x = np.random.default_rng(2).normal(size=100)
    interval = metrics.bootstrap(
        jax.random.key(0), lambda a, b: np.abs(a - b).max(), x, x.copy(), num_resamples=20
    )
    assert interval == (0, 0, 0)


def test_bootstrap_of_a_vector_has_the_quantiles_of_its_resamples():
    x, seen = np.random.default_rng(3).normal(size=(100, 3)), []

    def mean(a):
        assert len(a) == 100
        seen.append(a.mean(0))
        return seen[-1]

    interval = metrics.bootstrap(jax.random.key(0), mean, x, num_resamples=100, level=0.9)
    assert interval.low.shape == interval.high.shape == (3,)
    *resamples, _ = seen  # and the sample itself
    np.testing.assert_allclose(interval[1:], np.quantile(resamples, [0.05, 0.95], axis=0))
    # Of n rows each is drawn Poisson(1) times: a resample varies by the sample's own sd / sqrt(n).
    np.testing.assert_allclose(np.std(resamples, 0), x.std(0) / 10, rtol=4 / np.sqrt(200))
    assert np.all(interval.low < interval.estimate) and np.all(interval.estimate < interval.high)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: metrics.wilson(3, 2), "3.0 hits of 2.0 trials"),
        (lambda: metrics.wilson(0, 0), "0.0 hits of 0.0 trials"),
        (lambda: metrics.wilson(-1, 2), "-1.0 hits"),
        (
            lambda: metrics.bootstrap(jax.random.key(0), np.mean, [1.0], [1.0, 2.0]),
            r"lengths \[1, 2\]",
        ),
        (lambda: metrics.bootstrap(jax.random.key(0), np.mean, []), r"lengths \[0\]"),
    ],
)
def test_impossible_intervals_are_named(call, said):
    with pytest.raises(PersonError, match=said):
        call()
