"""The histogram of classes."""

import math

import numpy as np
import pytest

from dfx import metrics
from dfx.errors import PersonError


def test_equal_counts_have_the_entropy_of_the_number_of_classes():
    found = metrics.class_histogram(np.arange(40) % 10, 10)
    assert found.entropy.value == pytest.approx(math.log(10)) and found.even == pytest.approx(1)
    assert found.all_present and not len(found.missing) and found.sure is None
    np.testing.assert_array_equal(found.counts, 4)


def test_missing_classes_are_named():
    found = metrics.class_histogram(np.array([3, 3, 1]), 5)
    np.testing.assert_array_equal(found.missing, [0, 2, 4])
    assert not found.all_present
    np.testing.assert_allclose(found.shares.estimate, [0, 1 / 3, 0, 2 / 3, 0])
    # Of two classes seen of five: their entropy and 1 / 2n, below log 5 and above log 2.
    plain = -(2 * math.log(2 / 3) + math.log(1 / 3)) / 3
    assert found.entropy.value == pytest.approx(plain + 1 / 6) and plain + 1 / 6 > math.log(2)
    half = metrics.class_histogram(np.array([3, 3, 1]), 5, level=0.5)
    np.testing.assert_array_equal(half.shares, metrics.wilson(found.counts, 3, 0.5))


def test_probabilities_count_by_the_most_probable_class_and_say_how_sure():
    rows = np.array([[0.95, 0.05, 0], [0.2, 0.5, 0.3], [0, 0.9, 0.1], [1, 0, 0]], np.float32)
    found = metrics.class_histogram(rows)
    np.testing.assert_array_equal(found.counts, [2, 2, 0])
    assert found.sure.estimate == 3 / 4
    assert metrics.class_histogram(rows, sure_from=0.92).sure.estimate == 2 / 4
    assert metrics.class_histogram(rows, level=0.5).sure == metrics.wilson(3, 4, 0.5)


def test_entropy_is_unbiased_to_first_order_and_its_error_is_its_spread():
    p, n, count = np.array([0.5, 0.3, 0.15, 0.05]), 200, 400
    exact = -np.sum(p * np.log(p))
    rng = np.random.default_rng(0)
    draws = [metrics.class_histogram(rng.choice(4, n, p=p), 4).entropy for _ in range(count)]
    values, errors = np.array(draws).T
    # The uncorrected entropy is 3 / 400 low, eight standard errors of this mean.
    assert abs(values.mean() - exact) < 3 * values.std() / np.sqrt(count)
    # A spread of 400 values is known to 3.5 %.
    assert errors.mean() == pytest.approx(values.std(), rel=0.14)


def test_the_probability_of_all_classes_is_that_of_the_collector():
    for n, k in ((1, 1), (5, 2), (12, 4), (30, 10)):
        signs = [(-1) ** j * math.comb(k, j) * (1 - j / k) ** n for j in range(k + 1)]
        assert metrics.all_present_probability(n, k) == pytest.approx(sum(signs), abs=1e-12)
    assert metrics.all_present_probability(9, 10) == 0


@pytest.mark.parametrize(
    ("judged", "num_classes", "expected"),
    [
        (np.array([0, 5]), 5, "label 0 or 5, allowed: 0 to 4"),
        (np.array([0, 1]), None, "integers .* with num_classes"),
        (np.array([0.0, 1.0]), 2, "judged is float64"),
        (np.array([[0.5, 0.4]]), None, "no probabilities"),
        (np.array([[1.5, -0.5]]), None, "no probabilities"),
        (np.array([[np.nan] * 3, [0.2, 0.3, 0.5]]), None, "no probabilities"),
        (np.array([[0.5, 0.5]]), 3, "num_classes is 3, the rows have 2"),
        (np.zeros(0, int), 3, "judged is int64 of shape"),
    ],
)
def test_what_is_no_class_is_an_error(judged, num_classes, expected):
    with pytest.raises(PersonError, match=expected):
        metrics.class_histogram(judged, num_classes)
