"""Confidence intervals of a fraction, and of any statistic by resampling.

That of a mean over seeds is `dfx.runs.mean_interval`, beside the claims that rest on it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from scipy import stats

from dfx.errors import PersonError


class Interval(NamedTuple):
    """An estimate with the ends of its confidence interval; all three of one shape."""

    estimate: np.ndarray
    low: np.ndarray
    high: np.ndarray


def wilson(count, num_trials, level: float = 0.95) -> Interval:
    """Return a fraction with its score interval; never empty, and inside [0, 1] for 0 or all hits
    too.

    With p = count / n and z the normal quantile, the ends are
    (p + z^2 / 2n +- z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n). Source: Wilson 1927.

    Args:
      count: hits, 0 to num_trials; broadcasts against num_trials.
      num_trials: independent trials, 1 or more.
      level: in (0, 1).

    Raises:
      PersonError: a count outside 0 to num_trials, no trials, or a level outside (0, 1).
    """
    count, n = np.asarray(count, np.float64), np.asarray(num_trials, np.float64)
    if np.any(n < 1) or np.any(count < 0) or np.any(count > n):
        raise PersonError(f"{count} hits of {n} trials, allowed: 0 to n hits of 1 trial or more")
    z = stats.norm.ppf(_upper(level))
    p = count / n
    centre = p + z**2 / (2 * n)
    half = z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    low, high = (centre - half) / (1 + z**2 / n), (centre + half) / (1 + z**2 / n)
    # In exact arithmetic these ends are 0 and 1.
    return Interval(p, np.where(count == 0, 0.0, low), np.where(count == n, 1.0, high))


def bootstrap(
    key, statistic: Callable, *samples, num_resamples: int = 1000, level: float = 0.95
) -> Interval:
    """Return a statistic with its percentile bootstrap interval (Efron 1979).

    The interval covers at about its level for a smooth statistic of many samples; with fewer than
    some 20 it is too short, and a mean over seeds wants `dfx.runs.mean_interval`.

    Args:
      key: a typed key.
      statistic: a function of arrays like `samples`, of a number or array.
      samples: arrays of equal length n, resampled together by row.
      num_resamples: the ends have a relative error of about 1 / sqrt((1 - level) num_resamples).
      level: in (0, 1).

    Raises:
      PersonError: the lengths differ or are 0, or a level outside (0, 1).
    """
    arrays = [np.asarray(sample) for sample in samples]
    lengths = {len(array) for array in arrays}
    if len(lengths) != 1 or 0 in lengths:
        raise PersonError(f"samples have lengths {sorted(lengths)}, allowed: one, at least 1")
    (n,) = lengths
    upper = _upper(level)
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    rows = (rng.integers(0, n, n) for _ in range(num_resamples))
    values = [statistic(*(array[row] for array in arrays)) for row in rows]
    low, high = np.quantile(np.asarray(values, np.float64), [1 - upper, upper], axis=0)
    return Interval(np.asarray(statistic(*arrays)), low, high)


def _upper(level: float) -> float:
    """The probability below the upper end of a two-sided interval."""
    if not 0 < level < 1:
        raise PersonError(f"level is {level}, allowed: above 0 and below 1")
    return (1 + level) / 2
