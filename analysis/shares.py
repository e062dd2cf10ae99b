"""Shares: how many of some samples have a property, over several seeds."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from dfx import metrics
from dfx.runs import Claim, mean_interval


class Counts(NamedTuple):
    """Hits and trials of each seed, both of shape (seeds,)."""

    hits: np.ndarray
    trials: np.ndarray

    @property
    def shares(self) -> np.ndarray:
        """The share of every seed, shape (seeds,); nan for one without trials."""
        return np.where(self.trials > 0, self.hits / np.maximum(self.trials, 1), np.nan)


def share_interval(counts: Counts) -> tuple[float, float, float]:
    """Return the mean share over seeds and the ends of its 95% interval, within 0 and 1.

    The interval is the wider one, at either end, of two: Student's t over the seeds, which knows
    how much they differ but of equal seeds says that nothing is uncertain, and Wilson's for as many
    trials in one, which knows how few there were. Nan if a seed has no trials.
    """
    mean, *spread = map(float, mean_interval(counts.shares))
    if np.isnan(mean):
        return mean, mean, mean
    trials = counts.trials.sum()
    _, low, high = map(float, metrics.wilson(mean * trials, trials))
    return mean, max(0.0, np.fmin(low, spread[0])), min(1.0, np.fmax(high, spread[1]))


def from_shares(counts: Counts, **fields: Any) -> Claim:
    """Return the claim on a share, its mean over seeds, with `share_interval`."""
    mean, low, high = share_interval(counts)
    return Claim(ours=mean, low=low, high=high, seeds=len(counts.trials), **fields)
