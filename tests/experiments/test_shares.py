"""A share over seeds: its interval holds what seeds and counts leave open, within 0 and 1."""

import numpy as np
import pytest

from analysis.shares import Counts, from_shares, share_interval
from dfx import metrics
from dfx.runs import above, mean_interval


def test_equal_seeds_are_as_uncertain_as_their_trials_in_one():
    for hits, trials in ((10, 10), (0, 10), (3, 10)):
        found = share_interval(Counts(np.full(4, hits), np.full(4, trials)))
        np.testing.assert_allclose(found, metrics.wilson(4 * hits, 4 * trials), rtol=1e-12)


def test_unequal_seeds_are_as_uncertain_as_they_differ_within_0_and_1():
    counts = Counts(np.array([0, 50_000, 90_000]), np.full(3, 100_000))
    mean, low, high = mean_interval(counts.shares)
    assert low < 0 < high < 1.7
    assert share_interval(counts) == (pytest.approx(mean), 0.0, 1.0)
    few = Counts(np.array([40_000, 41_000, 45_000]), np.full(3, 100_000))
    np.testing.assert_allclose(share_interval(few), mean_interval(few.shares), rtol=1e-12)


def test_seeds_count_alike_whatever_their_trials():
    counts = Counts(np.array([1, 0]), np.array([1, 1000]))
    assert share_interval(counts)[0] == 0.5


def test_a_seed_without_trials_and_one_seed_alone():
    empty = from_shares(
        Counts(np.array([0, 5]), np.array([0, 5])), id="1", paper="-", statement="-",
        paper_value="-", rule=above(0.5),
    )  # fmt: skip
    assert (empty.verdict, empty.seeds) == ("undecided", 2) and np.isnan(empty.ours)
    # One seed has no spread; its trials alone bound the share.
    alone = share_interval(Counts(np.array([9]), np.array([10])))
    np.testing.assert_allclose(alone, metrics.wilson(9, 10), rtol=1e-12)
