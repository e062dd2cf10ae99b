"""Detection statistics against two Gaussians, brute force over pairs, and their symmetries."""

import numpy as np
import pytest
from scipy import stats

from dfx import metrics
from dfx.errors import PersonError

SHIFT = 1.5


def gaussians(n=4000, shift=SHIFT, seed=0):
    """Scores N(0, 1) of n negatives and N(shift, 1) of n positives, mixed."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(2 * n) % 2 == 0)
    return rng.standard_normal(2 * n) + shift * labels, labels


def tied(seed=0, n=60):
    """Few different scores, so that most comparisons tie; unequal classes."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3 == 0
    return rng.integers(0, 5, n) + 1.0 * labels, labels


def test_the_area_of_two_gaussians_is_phi_of_their_distance():
    scores, labels = gaussians()
    area, n = stats.norm.cdf(SHIFT / np.sqrt(2)), len(scores) // 2
    # Standard error by Hanley and McNeil 1982, with their Q1 and Q2.
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    error = np.sqrt((area * (1 - area) + (n - 1) * (q1 + q2 - 2 * area**2)) / n**2)
    assert abs(metrics.auc(scores, labels) - area) < 4 * error


def test_the_roc_of_two_gaussians_is_a_shifted_probit_line():
    scores, labels = gaussians()
    curve = metrics.roc(scores, labels)
    n = len(scores) // 2
    for seen, truth in (
        (curve.false_positive, stats.norm.sf(curve.threshold)),
        (curve.true_positive, stats.norm.sf(curve.threshold - SHIFT)),
    ):
        # Dvoretzky-Kiefer-Wolfowitz: exceeded with probability 2 exp(-2 * 4) = 7e-4.
        assert np.abs(seen - truth).max() < 2 / np.sqrt(n)


def test_the_area_counts_pairs_and_half_of_the_ties():
    for seed in range(5):
        scores, labels = tied(seed)
        difference = scores[labels][:, None] - scores[~labels][None]
        pairs = np.mean(difference > 0) + np.mean(difference == 0) / 2
        assert metrics.auc(scores, labels) == pytest.approx(pairs, abs=1e-12)


@pytest.mark.parametrize("sample", [gaussians(200), tied()])
def test_the_area_is_the_integral_of_the_curve(sample):
    curve = metrics.roc(*sample)
    area = np.trapezoid(curve.true_positive, curve.false_positive)
    assert metrics.auc(*sample) == pytest.approx(area, abs=1e-12)


def test_the_curve_is_the_pair_of_fractions_at_each_threshold():
    scores, labels = tied()
    curve = metrics.roc(scores, labels)
    assert (curve.false_positive[0], curve.true_positive[0]) == (0, 0)
    assert (curve.false_positive[-1], curve.true_positive[-1]) == (1, 1)
    np.testing.assert_array_equal(curve.threshold[1:], np.unique(scores)[::-1])
    for false, hit, threshold in zip(*curve):
        assert hit == pytest.approx(np.mean(scores[labels] >= threshold))
        assert false == pytest.approx(np.mean(scores[~labels] >= threshold))


def test_the_area_sees_only_the_order_of_the_scores():
    scores, labels = gaussians(300)
    area = metrics.auc(scores, labels)
    assert metrics.auc(np.exp(3 * scores), labels) == area
    assert metrics.auc(-scores, labels) == pytest.approx(1 - area, abs=1e-12)
    assert metrics.auc(scores, ~labels) == pytest.approx(1 - area, abs=1e-12)
    assert metrics.auc(np.zeros_like(scores), labels) == 0.5
    assert metrics.auc(labels.astype(float), labels) == 1
    assert metrics.auc(np.where(labels, np.inf, scores), labels) == 1


@pytest.mark.parametrize("keep", [0.5, 0.9, 0.96, 0.999, 1.0])
@pytest.mark.parametrize("sample", [gaussians(500), tied()])
def test_the_threshold_keeps_enough_and_the_next_lower_one_does_not(sample, keep):
    scores, labels = sample
    threshold = metrics.threshold_keeping(scores, labels, keep)
    assert np.mean(scores[~labels] <= threshold) >= keep - 1e-12
    assert np.mean(scores[~labels] < threshold) < keep
    assert metrics.removed_and_kept(scores, labels, threshold).kept >= keep - 1e-12


def test_keeping_96_of_100_keeps_96():
    # 0.96 * 100 is 96, and 0.07 * 100 is 7.000000000000001 in floating point.
    scores, labels = np.arange(200.0), np.arange(200) >= 100
    for keep, count in ((0.96, 96), (0.07, 7), (0.29, 29), (0.955, 96)):
        threshold = metrics.threshold_keeping(scores, labels, keep)
        assert metrics.removed_and_kept(scores, labels, threshold).kept == count / 100


def test_the_removed_fraction_of_two_gaussians_is_a_normal_tail():
    n, keep, shift = 4000, 0.96, 3.0
    threshold = metrics.threshold_keeping(*gaussians(n, shift, seed=1), keep)
    judged = metrics.removed_and_kept(*gaussians(n, shift, seed=2), threshold)
    exact = stats.norm.sf(stats.norm.ppf(keep) - shift)
    # Two binomial errors: of the quantile (times the density at it) on one seed, and of the
    # fraction on the other; 4 standard errors of their sum.
    slope = stats.norm.pdf(stats.norm.ppf(keep) - shift) / stats.norm.pdf(stats.norm.ppf(keep))
    error = np.sqrt((exact * (1 - exact) + slope**2 * keep * (1 - keep)) / n)
    assert abs(judged.removed - exact) < 4 * error
    assert abs(judged.kept - keep) < 4 * np.sqrt(2 * keep * (1 - keep) / n)
    assert (judged.num_positive, judged.num_negative) == (n, n)


def test_a_score_at_the_threshold_is_kept():
    labels = np.array([True, True, False, False])
    filtered = metrics.removed_and_kept([1.0, 2.0, 1.0, 2.0], labels, 1.0)
    assert filtered == metrics.Filtered(0.5, 0.5, 2, 2)


def test_exactly_the_lowest_scores_survive():
    n, extra = 1000, 250
    scores = np.random.default_rng(3).exponential(size=n + extra)
    kept = metrics.keep_lowest(scores, n)
    dropped = np.setdiff1d(np.arange(n + extra), kept)
    assert len(kept) == n
    assert scores[kept].max() <= scores[dropped].min()
    np.testing.assert_array_equal(kept, np.sort(kept))
    np.testing.assert_array_equal(metrics.keep_lowest([1.0, 0.0, 1.0, 1.0], 3), [0, 1, 2])


@pytest.mark.parametrize("call", [metrics.roc, metrics.auc, metrics.threshold_keeping])
@pytest.mark.parametrize(
    ("scores", "labels", "said"),
    [
        ([1.0, 2.0], np.array([True, True]), "all 2 labels are equal"),
        ([1.0, np.nan], np.array([True, False]), "1 of the scores are NaN"),
        ([1.0, 2.0], np.array([1, 0]), "labels are int64, allowed: bool"),
        ([1.0], np.array([True, False]), "must both be"),
    ],
)
def test_wrong_scores_and_labels_are_named(call, scores, labels, said):
    with pytest.raises(PersonError, match=said):
        call(scores, labels)


def test_impossible_fractions_and_counts_are_named():
    with pytest.raises(PersonError, match="keep is 0, allowed"):
        metrics.threshold_keeping(*tied(), keep=0)
    with pytest.raises(PersonError, match="count is 3, allowed: 0 to 2"):
        metrics.keep_lowest([1.0, 2.0], 3)
    with pytest.raises(PersonError, match="NaN"):
        metrics.keep_lowest([1.0, np.nan], 1)
