"""Which classes samples fall into, by a classifier: are all there, equally often, and surely?"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dfx.errors import PersonError
from dfx.metrics.estimate import Estimate
from dfx.metrics.intervals import Interval, wilson


class Classes(NamedTuple):
    """A histogram of classes.

    counts, shares: (k,), shares with intervals. entropy: of the shares in nats; log k for equal
    ones. even: exp(entropy) / k, in (0, 1]. all_present: whether no class is empty. missing: the
    numbers of the empty ones. sure: share of samples whose most probable class has at least the
    probability asked for; None without probabilities.
    """

    counts: np.ndarray
    shares: Interval
    entropy: Estimate
    even: float
    all_present: bool
    missing: np.ndarray
    sure: Interval | None


def class_histogram(
    judged, num_classes: int | None = None, sure_from: float = 0.9, level: float = 0.95
) -> Classes:
    """Return the histogram of the classes of n samples.

    The entropy of the counts is low by (s - 1) / 2n to first order, s the number of classes that
    can occur (Miller 1955); this is added with those that did, and the sum is cut at log k. Its
    error is std(log share) / sqrt(n), which is 0 for equal shares, where the error is of order
    k / n.

    Args:
      judged: probabilities (n, k), rows summing to 1; or labels (n,), integers.
      num_classes: k, needed with labels.
      sure_from: a probability.
      level: of the intervals.

    Raises:
      PersonError: no samples, labels out of range, or rows that are no probabilities.

    >>> class_histogram(np.array([0, 1, 1, 0]), 3).missing
    array([2])
    """
    judged = np.asarray(judged)
    labels, top, k = _labels(judged, num_classes)
    counts = np.bincount(labels, minlength=k)
    n = len(labels)
    entropy = _entropy(counts, n)
    sure = None if top is None else wilson((top >= sure_from).sum(), n, level)
    missing = np.flatnonzero(counts == 0)
    even = float(np.exp(entropy.value) / k)
    return Classes(counts, wilson(counts, n, level), entropy, even, not len(missing), missing, sure)


def all_present_probability(n: int, num_classes: int) -> float:
    """Return the probability that n samples of k equally frequent classes show all of them:

        sum_j (-1)^j C(k, j) (1 - j / k)^n    (inclusion and exclusion).

    >>> round(all_present_probability(44, 10), 2)
    0.91
    """
    hit = np.zeros(num_classes + 1)
    hit[0] = 1.0
    classes = np.arange(num_classes + 1)
    # The chain of the number of classes seen: all terms positive, where the sum above cancels.
    for _ in range(n):
        hit = hit * classes / num_classes + np.append(
            0.0, hit[:-1] * (1 - classes[:-1] / num_classes)
        )
    return float(hit[-1])


def _labels(judged: np.ndarray, num_classes: int | None):
    """Labels, the highest probabilities or None, and the number of classes."""
    if judged.ndim == 2 and judged.size:
        # float32 softmax rows sum to 1 within a few roundings a class.
        if np.any(judged < 0) or not (np.abs(judged.sum(1) - 1) <= 1e-3).all():
            raise PersonError("rows are no probabilities, allowed: from 0 up, with the sum 1")
        if num_classes not in (None, judged.shape[1]):
            raise PersonError(f"num_classes is {num_classes}, the rows have {judged.shape[1]}")
        return judged.argmax(1), judged.max(1), judged.shape[1]
    if judged.ndim != 1 or judged.dtype.kind not in "iu" or not judged.size or not num_classes:
        raise PersonError(
            f"judged is {judged.dtype} of shape {judged.shape}, allowed: probabilities (n, k), or "
            "integers (n,) with num_classes"
        )
    if judged.min() < 0 or judged.max() >= num_classes:
        ends = f"{judged.min()} or {judged.max()}"
        raise PersonError(f"label {ends}, allowed: 0 to {num_classes - 1}")
    return judged, None, num_classes


def _entropy(counts: np.ndarray, n: int) -> Estimate:
    seen = counts[counts > 0] / n
    plain = -np.sum(seen * np.log(seen))
    variance = np.sum(seen * np.log(seen) ** 2) - plain**2
    value = min(plain + (len(seen) - 1) / (2 * n), np.log(len(counts)))
    return Estimate(float(value), float(np.sqrt(max(variance, 0.0) / n)))
