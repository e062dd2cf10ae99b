"""Precision, recall, density and coverage: known values on planted sets, laws on equal ones."""

import numpy as np
import pytest

from dfx import metrics
from dfx.errors import PersonError

RNG = np.random.default_rng(0)
DATA = RNG.normal(size=(60, 3))
FAR = DATA + 20


def both(data, samples, k=3):
    """The four values."""
    pr, dc = metrics.precision_recall(data, samples, k), metrics.density_coverage(data, samples, k)
    return [e.value for e in (*pr, *dc)]


def test_copies_of_the_data_lie_everywhere():
    # A ball holds its centre and k neighbours: k + 1 copies, and density (k + 1) / k.
    assert both(DATA, DATA) == pytest.approx([1, 1, 4 / 3, 1])


def test_samples_far_away_lie_nowhere():
    assert both(DATA, FAR) == [0, 0, 0, 0]


def test_half_of_the_samples_far_away_halve_precision_and_density_alone():
    mixed = np.concatenate([DATA, FAR])
    assert both(DATA, mixed) == pytest.approx([1 / 2, 1, 2 / 3, 1])


def test_a_lost_mode_halves_recall_and_coverage_alone():
    two_modes = np.concatenate([DATA, FAR])
    assert both(two_modes, DATA) == pytest.approx([1, 1 / 2, 4 / 3, 1 / 2])


def test_one_outlier_blows_up_recall_and_not_coverage():
    # The outlier's own ball reaches to the other samples, and over the data between: recall 1.
    few = np.concatenate([np.full((10, 3), 0.0) + 1e-3 * DATA[:10] - 200, [[200.0, 200.0, 200.0]]])
    precision, recall, density, coverage = both(DATA, few)
    assert (precision, recall, density, coverage) == (0, 1, 0, 0)


def test_numbers_are_unchanged_by_rotation_shift_scale_and_order():
    samples = RNG.normal(size=(50, 3)) * 0.8
    turn = np.linalg.qr(RNG.normal(size=(3, 3)))[0]
    before = both(DATA, samples)
    after = both((3 * DATA @ turn + 5)[::-1], (3 * samples @ turn + 5)[RNG.permutation(50)])
    assert before == pytest.approx(after)


def test_equal_laws_have_density_one_and_the_expected_coverage():
    k, n, m, count = 3, 60, 40, 60
    rng = np.random.default_rng(1)
    # Any law does: one with heavy tails.
    draws = [
        metrics.density_coverage(rng.standard_t(2, (n, 2)), rng.standard_t(2, (m, 2)), k)
        for _ in range(count)
    ]
    expected = 1, metrics.expected_coverage(n, m, k)
    for name, value in zip(("density", "coverage"), expected):
        found, errors = np.array([getattr(draw, name) for draw in draws]).T
        assert abs(found.mean() - value) < 4 * found.std() / np.sqrt(count)
        # The stated errors: about right for density, a lower bound for coverage.
        ratio = np.sqrt(np.mean(errors**2)) / found.std()
        assert (0.7 if name == "density" else 0.5) < ratio < 1.4, name


@pytest.mark.parametrize("d", [3, 20])
def test_values_and_errors_are_those_of_all_pairs(d):
    """Few coordinates and many, unequal numbers: which balls hold which points, by hand."""
    rng, k = np.random.default_rng(3), 4
    data, samples = rng.normal(size=(30, d)), 1.0 + 0.8 * rng.normal(size=(50, d))

    def within(points, centres):
        own = np.linalg.norm(centres[:, None] - centres, axis=-1)
        radii = np.sort(own, 1)[:, k]  # after itself
        return np.linalg.norm(points[:, None] - centres, axis=-1) <= radii

    def estimate(values):
        return values.mean(), values.std(ddof=1) / np.sqrt(len(values))

    inside, covered = within(samples, data), within(data, samples)
    found = metrics.precision_recall(data, samples, k)
    expected = estimate(inside.any(1)), estimate(covered.any(1))
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    density, coverage = metrics.density_coverage(data, samples, k)
    of_samples, of_data = estimate(inside.sum(1) / k), estimate(inside.sum(0) * 30 / 50 / k)
    error = np.hypot(of_samples[1], of_data[1])
    np.testing.assert_allclose(density, (of_samples[0], error), rtol=1e-12)
    np.testing.assert_allclose(coverage, estimate(inside.any(0)), rtol=1e-12)
    assert 0 < found.precision.value < 1 and 0 < coverage.value < 1


def test_expected_coverage_has_its_limits():
    assert metrics.expected_coverage(10**7, 10**7, 4) == pytest.approx(1 - 2**-4, abs=1e-6)
    # One sample covers a ball if it is among the k nearest of n.
    assert metrics.expected_coverage(50, 1, 3) == pytest.approx(3 / 50)


def test_expected_coverage_is_that_of_exchangeable_ranks():
    n, m, k = 6, 4, 2
    rng = np.random.default_rng(2)
    ranks = rng.permuted(np.tile(np.arange(n + m - 1), (20_000, 1)), axis=1)
    # The first m ranks are those of the samples; a ball reaches to the k-th of the n - 1 others.
    radius = np.sort(ranks[:, m:], axis=1)[:, k - 1]
    share = np.mean(ranks[:, :m].min(1) < radius)
    assert abs(share - metrics.expected_coverage(n, m, k)) < 4 * 0.5 / np.sqrt(20_000)


def test_more_neighbours_than_points_is_an_error():
    with pytest.raises(PersonError, match="60 neighbours among 59 points"):
        metrics.precision_recall(DATA, DATA, 60)
