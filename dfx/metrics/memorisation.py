"""Are samples copies of the training set? Nearest neighbours in it, judged by held-out data.

A copy is much nearer to one training point than to the next: the ratio of the distances to the
first and the second neighbour is near 0, and near 1 for a sample that is new. A held-out picture
says how often chance does that, in this set and with this distance. In pixels or in features.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dfx.errors import PersonError
from dfx.metrics.estimate import Estimate, mean
from dfx.metrics.intervals import Interval, wilson
from dfx.metrics.neighbours import nearest

#: A ratio below this counts as a copy. Source: Yoon, Choi, Kwon and Ryu 2023, section 3.
CUT = 1 / 3


class Nearness(NamedTuple):
    """How near samples are to the training set, all (n,).

    row: of the nearest training point. distance: to it. ratio: of it to the distance of the second,
    in [0, 1]; 0 for an exact copy, also of a point that the training set holds twice.
    """

    row: np.ndarray
    distance: np.ndarray
    ratio: np.ndarray


class Memorised(NamedTuple):
    """What `memorised` says.

    share: of the samples with a ratio below the cut. chance: that share for held-out data. nearer:
    P(distance of a sample < that of a held-out point), ties half; 1/2 for samples from the law of
    the data, more for copies. below: share of samples nearer than all but `rate` of the held-out
    points.
    """

    share: Interval
    chance: Interval
    nearer: Estimate
    below: Interval


def nearness(samples, training, *, same: bool = False, chunk: int = 2048) -> Nearness:
    """Return the nearest training point of each sample, its distance and the ratio to the second.

    Args:
      samples: (n, ...). training: (m, ...) with m >= 2: pictures, or features of one net.
      same: the samples are the training set; each point is judged against the others, which finds
        near duplicates within it.
      chunk: rows of a block of distances.

    Raises:
      PersonError: shapes that do not fit, or too few training points.

    Source: Yoon et al. 2023; Gu, Du, Pang, Li, Lin and Wang 2023, equation 4.
    """
    found = nearest(samples, training, 2, same=same, chunk=chunk)
    first, second = found.distance.T
    ratio = np.divide(first, second, out=np.zeros_like(first), where=first > 0)
    return Nearness(found.row[:, 0], first, ratio)


def memorised(
    samples: Nearness, held_out: Nearness, cut: float = CUT, rate: float = 0.01, level: float = 0.95
) -> Memorised:
    """Return the share of copies among samples, beside what held-out data give.

    Args:
      samples, held_out: what `nearness` returned, to the same training set in the same distance.
        The held-out points must be disjoint from it: a picture that lies in both halves is a copy.
      cut: on the ratio.
      rate: of false alarms for `below`; at least 1 / the number of held-out points makes sense.
      level: of the intervals, which take the samples as independent and the threshold as given.

    Raises:
      PersonError: cut or rate is outside (0, 1).
    """
    if not (0 < cut < 1 and 0 < rate < 1):
        raise PersonError(f"cut is {cut}, rate is {rate}, allowed: above 0 and below 1")
    threshold = np.quantile(held_out.distance, rate)
    return Memorised(
        _share(samples.ratio < cut, level),
        _share(held_out.ratio < cut, level),
        _nearer(samples.distance, held_out.distance),
        _share(samples.distance < threshold, level),
    )


def _share(hits: np.ndarray, level: float) -> Interval:
    return wilson(hits.sum(), len(hits), level)


def _nearer(samples: np.ndarray, held_out: np.ndarray) -> Estimate:
    """The Mann-Whitney statistic, with the error of both sets (DeLong et al. 1988)."""
    of_sample, of_held_out = 1 - _placed(samples, held_out), _placed(held_out, samples)
    errors = mean(of_sample).standard_error, mean(of_held_out).standard_error
    return Estimate(float(of_sample.mean()), float(np.hypot(*errors)))


def _placed(values: np.ndarray, among: np.ndarray) -> np.ndarray:
    """The share of `among` below each value, ties half."""
    among = np.sort(among)
    sides = [np.searchsorted(among, values, side) for side in ("left", "right")]
    return (sides[0] + sides[1]) / (2 * len(among))
