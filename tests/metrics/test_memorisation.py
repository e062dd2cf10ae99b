"""Copies of the training set are found, and what is new is not taken for one."""

import numpy as np
import pytest

from dfx import metrics
from dfx.errors import PersonError

RNG = np.random.default_rng(0)
D = 20
TRAINING, HELD_OUT, NEW = (RNG.normal(size=(n, D)).astype(np.float32) for n in (300, 200, 100))


@pytest.fixture(scope="module")
def held_out():
    return metrics.nearness(HELD_OUT, TRAINING)


def test_planted_copies_are_found_and_counted(held_out):
    samples = NEW.copy()
    samples[:30] = TRAINING[100:130] + 1e-3 * RNG.normal(size=(30, D))
    samples[0] = TRAINING[100]
    found = metrics.nearness(samples, TRAINING, chunk=64)
    np.testing.assert_array_equal(found.row[:30], np.arange(100, 130))
    assert (found.distance[0], found.ratio[0]) == (0, 0)
    judged = metrics.memorised(found, held_out)
    assert judged.share.estimate == 0.3 and judged.chance.estimate == 0
    assert judged.share.low < 0.3 < judged.share.high
    # The copies are nearer than every held-out point, the others are exchangeable with them.
    assert abs(judged.nearer.value - (0.3 + 0.7 / 2)) < 4 * judged.nearer.standard_error
    assert judged.below.estimate >= 0.3


def test_samples_from_the_law_are_as_near_as_held_out_data(held_out):
    judged = metrics.memorised(metrics.nearness(NEW, TRAINING), held_out, rate=0.1)
    assert judged.share.estimate == 0
    assert abs(judged.nearer.value - 1 / 2) < 4 * judged.nearer.standard_error
    assert judged.below.low < 0.1 < judged.below.high


def test_a_copy_of_what_the_training_set_holds_twice_is_a_copy():
    training = np.concatenate([TRAINING, TRAINING[:5]])
    found = metrics.nearness(TRAINING[:5], training)
    np.testing.assert_array_equal(found.ratio, 0)
    within = metrics.nearness(training, training, same=True)
    assert (within.ratio == 0).sum() == 10


def test_the_ratio_does_not_change_with_the_scale():
    # A power of two: no rounding.
    one, other = (metrics.nearness(s * NEW, s * TRAINING) for s in (1, 64))
    np.testing.assert_array_equal(one.row, other.row)
    np.testing.assert_allclose(one.ratio, other.ratio, rtol=1e-5)
    np.testing.assert_allclose(64 * one.distance, other.distance, rtol=1e-5)


def test_known_ratios_on_a_line():
    training = np.array([[0.0], [3.0], [10.0]])
    found = metrics.nearness([[0.5], [1.5], [9.0]], training)
    np.testing.assert_array_equal(found.row[[0, 2]], [0, 2])
    np.testing.assert_allclose(found.ratio, [0.5 / 2.5, 1, 1 / 6], rtol=1e-6)
    np.testing.assert_allclose(found.distance, [0.5, 1.5, 1], rtol=1e-6)


def test_shares_are_counted_below_a_third_and_below_the_quantile_and_ties_half():
    """Distances 1, 2, 3 and 8 among 2, 3, 4, 5, 6: of 20 pairs 5 + 4.5 + 3.5 are nearer."""
    rows = np.zeros(5, int)
    samples = metrics.Nearness(rows[:4], np.array([1.0, 2, 3, 8]), np.array([0.3, 0.34, 0.2, 0.9]))
    held_out = metrics.Nearness(rows, np.arange(2.0, 7), np.array([0.3, 0.32, 0.4, 0.5, 0.6]))
    judged = metrics.memorised(samples, held_out, rate=0.5)
    assert (judged.share.estimate, judged.chance.estimate) == (2 / 4, 2 / 5)
    assert judged.nearer.value == pytest.approx(13 / 20)
    assert judged.below.estimate == 3 / 4  # the quantile is 4


def test_the_error_of_nearer_is_its_spread():
    rng, values = np.random.default_rng(3), []
    for _ in range(300):
        a, b = rng.normal(size=50), rng.normal(size=80)
        sides = [metrics.Nearness(np.zeros(len(d), int), d, np.ones(len(d))) for d in (a, b)]
        values.append(metrics.memorised(*sides).nearer)
    found, errors = np.array(values).T
    assert abs(found.mean() - 1 / 2) < 4 * found.std() / np.sqrt(300)
    # A spread of 300 values is known to 4 %.
    assert errors.mean() == pytest.approx(found.std(), rel=0.16)


def test_thresholds_out_of_range_are_an_error(held_out):
    for options in ({"cut": 0}, {"cut": 1}, {"rate": 0}):
        with pytest.raises(PersonError, match="allowed: above 0 and below 1"):
            metrics.memorised(held_out, held_out, **options)
