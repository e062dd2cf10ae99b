"""How well a score tells positives from negatives.

A score is one number a sample, higher for what should be removed: labels are True for positives
(hallucinated samples) and False for negatives (samples in the support). A filter keeps the samples
with score <= threshold.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata

from dfx.errors import PersonError


class Curve(NamedTuple):
    """A ROC curve: fractions of negatives and positives with score >= threshold, from (0, 0) to (1,
    1).

    All three have one entry per different score, in falling order, after a first one at infinity.
    """

    false_positive: np.ndarray
    true_positive: np.ndarray
    threshold: np.ndarray


class Filtered(NamedTuple):
    """What a filter does.

    removed: the fraction of the num_positive positives above the threshold. kept: the fraction of
    the num_negative negatives at or below it.
    """

    removed: float
    kept: float
    num_positive: int
    num_negative: int


def roc(scores, labels) -> Curve:
    """Return the ROC curve; samples of equal score enter it together, so ties give its diagonal
    pieces.

    Raises:
      PersonError: a class is empty, a score is NaN, or the shapes differ; so do all functions here.
    """
    scores, labels = _checked(scores, labels)
    order = np.argsort(-scores, kind="stable")
    scores, labels = scores[order], labels[order]
    last = np.append(scores[1:] != scores[:-1], True)
    hits, false = np.cumsum(labels)[last], np.cumsum(~labels)[last]
    return Curve(
        np.append(0.0, false / false[-1]),
        np.append(0.0, hits / hits[-1]),
        np.append(np.inf, scores[last]),
    )


def auc(scores, labels) -> float:
    """Return the area under the ROC curve: P(positive > negative) + P(positive = negative) / 2.

    The Mann-Whitney statistic (R - P (P + 1) / 2) / (P N), with R the sum of the P positives'
    midranks. Source: Hanley and McNeil 1982.

    >>> auc([1.0, 2.0, 2.0, 3.0], [False, False, True, True])
    0.875
    """
    scores, labels = _checked(scores, labels)
    positives, negatives = int(labels.sum()), int((~labels).sum())
    rank_sum = rankdata(scores)[labels].sum()
    return float((rank_sum - positives * (positives + 1) / 2) / (positives * negatives))


def threshold_keeping(scores, labels, keep: float = 0.96) -> float:
    """Return the smallest threshold that keeps at least the fraction `keep` of the negatives.

    Choose it on one seed and judge it on others: on the samples that it was chosen on it flatters.

    Raises:
      PersonError: keep is outside (0, 1].
    """
    if not 0 < keep <= 1:
        raise PersonError(f"keep is {keep}, allowed: above 0, at most 1")
    scores, labels = _checked(scores, labels)
    negatives = np.sort(scores[~labels])
    # The tolerance keeps keep * n, a whole number in exact arithmetic, from being rounded up.
    return float(negatives[int(np.ceil(keep * len(negatives) - 1e-9)) - 1])


def removed_and_kept(scores, labels, threshold: float) -> Filtered:
    """Return the fraction of positives above the threshold and of negatives at or below it."""
    scores, labels = _checked(scores, labels)
    above = scores > threshold
    return Filtered(
        float(above[labels].mean()),
        float((~above[~labels]).mean()),
        int(labels.sum()),
        int((~labels).sum()),
    )


def keep_lowest(scores, count: int) -> np.ndarray:
    """Return the indices of the `count` lowest scores, in rising order of the index.

    Of equal scores at the border the first ones stay.

    Raises:
      PersonError: count exceeds the number of scores, or a score is NaN.
    """
    scores = np.asarray(scores, np.float64)
    if not 0 <= count <= len(scores):
        raise PersonError(f"count is {count}, allowed: 0 to {len(scores)}")
    if np.isnan(scores).any():
        raise PersonError(f"{np.isnan(scores).sum()} of the scores are NaN")
    return np.sort(np.argsort(scores, kind="stable")[:count])


def _checked(scores, labels) -> tuple[np.ndarray, np.ndarray]:
    scores, labels = np.asarray(scores, np.float64), np.asarray(labels)
    if scores.ndim != 1 or labels.shape != scores.shape:
        raise PersonError(f"scores {scores.shape} and labels {labels.shape} must both be (n,)")
    if labels.dtype != bool:
        raise PersonError(f"labels are {labels.dtype}, allowed: bool, True for a positive")
    if np.isnan(scores).any():
        raise PersonError(f"{np.isnan(scores).sum()} of the scores are NaN")
    if labels.all() or not labels.any():
        raise PersonError(f"all {len(labels)} labels are equal, both kinds are needed")
    return scores, labels
