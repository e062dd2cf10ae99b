"""Mode statistics of samples from a mixture with known, well separated modes.

Distances are counted in standard deviations of the mode, and a sample belongs to the mode that is
nearest so; for modes of one std that is the one with the nearest mean. It is *hallucinated* when it
lies further than `cut` of them from every mean, where the law itself has next to no mass:
P(chi_d > 6) is 2e-9 in d = 1 dimension and 1.5e-8 in d = 2. The paper (Aithal et al. 2024, arXiv
2406.09358) states no cut; 6 is ours, and 4 and 8 show how much depends on it.

Throughout, x has shape (n, d), means (k, d) with d >= 1, and std is one number or one per mode,
(k,).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.spatial import KDTree

from dfx.errors import PersonError

#: Where a sample stops belonging to a mode, in standard deviations.
CUT = 6.0


class Between(NamedTuple):
    """On which segment between two modes each sample lies.

    pair: the two modes i < j, int (n, 2); (-1, -1) for a sample on no segment. position: 0 at mode
    i, 1 at mode j, (n,); NaN on no segment. length: the distance of the two means, (n,); NaN on no
    segment.
    """

    pair: np.ndarray
    position: np.ndarray
    length: np.ndarray


def nearest_mode(x, means, std) -> tuple[np.ndarray, np.ndarray]:
    """Return the mode of each sample, int (n,), the one with the least distance |x - mean| / std,
    and that distance, (n,).

    Raises:
      PersonError: the shapes do not fit, std is not positive, or x is not finite.

    >>> nearest_mode([[1.1], [2.8]], [[1.0], [2.0], [3.0]], 0.05)
    (array([0, 2]), array([2., 4.]))
    """
    x, means, std = _checked(x, means, std)
    index, nearest = np.zeros(len(x), int), np.full(len(x), np.inf)
    for one in np.unique(std):
        modes = np.flatnonzero(std == one)
        distance, place = KDTree(means[modes]).query(x)
        nearer = distance / one < nearest
        index[nearer], nearest[nearer] = modes[place[nearer]], distance[nearer] / one
    return index, nearest


def hallucinated(x, means, std, cut: float = CUT) -> np.ndarray:
    """Return whether each sample lies over `cut` standard deviations from every mean, bool (n,)."""
    return nearest_mode(x, means, std)[1] > cut


def hallucinated_fraction(x, means, std, cut: float = CUT) -> float:
    """Return the fraction of the samples that is hallucinated; for its interval see `wilson`."""
    return float(hallucinated(x, means, std, cut).mean())


def mode_shares(x, means) -> np.ndarray:
    """Return the share of the samples nearest to each mean, hallucinated ones included, (k,).

    The shares sum to one; a sampler of an equal mixture gives 1/k with standard error
    sqrt((1/k) (1 - 1/k) / n).
    """
    index, _ = nearest_mode(x, means, 1.0)
    return np.bincount(index, minlength=len(means)) / len(index)


def within_mode_std(x, means, std, cut: float = CUT, pooled: bool = False):
    """Return the standard deviation per coordinate of the samples of each mode about their own
    mean, (k,).

    Hallucinated samples are left out. A mode with m samples has sqrt(sum |x - mean|^2 / (d (m -
    1))), NaN for m < 2.

    Args:
      x, means, std, cut: as in `hallucinated`.
      pooled: one number for all modes, the squares and the degrees of freedom summed over them.
    """
    index, distance = nearest_mode(x, means, std)
    x = np.asarray(x, np.float64)
    groups = [x[(index == mode) & (distance <= cut)] for mode in range(len(means))]
    squares = np.array([((g - g.mean(0)) ** 2).sum() if len(g) else 0.0 for g in groups])
    freedom = np.array([max(len(g) - 1, 0) for g in groups]) * x.shape[1]
    if pooled:
        squares, freedom = squares.sum(), freedom.sum()
    with np.errstate(invalid="ignore"):
        return np.sqrt(squares / freedom)


def between_modes(x, means, std, cut: float = CUT, max_length: float = np.inf) -> Between:
    """Return the segment between two modes on which each hallucinated sample lies.

    A sample lies on the segment of modes i and j if it is within `cut` standard deviations of it;
    of several segments the shortest counts, so that neighbours come before what lies behind them,
    and of equally short ones the nearest. Samples that are not hallucinated lie on no segment.

    Args:
      x, means, std, cut: as in `hallucinated`; for modes of different std the larger of the two
        counts.
      max_length: leave out pairs further apart; the cost is n times the number of pairs.
    """
    x, means, std = _checked(x, means, std)
    pair, position, length = np.full((len(x), 2), -1), *np.full((2, len(x)), np.nan)
    nearest = np.full(len(x), np.inf)
    todo = np.flatnonzero(hallucinated(x, means, std, cut))
    for i, j, span in _pairs(means, max_length):
        at, distance = _project(x[todo], means[i], means[j])
        distance = distance / max(std[i], std[j])
        # A shorter segment was taken already, up to the rounding of lengths that are meant to be
        # equal.
        free = np.isnan(length[todo]) | (span <= length[todo] * (1 + 1e-9))
        take = (distance <= cut) & free & (distance < nearest[todo])
        rows = todo[take]
        pair[rows], position[rows], length[rows] = (i, j), at[take], span
        nearest[rows] = distance[take]
    return Between(pair, position, length)


def pair_counts(between: Between, num_modes: int) -> np.ndarray:
    """Return how many samples lie between modes i and j: symmetric, int (num_modes, num_modes)."""
    i, j = between.pair[between.pair[:, 0] >= 0].T
    counts = np.zeros((num_modes, num_modes), int)
    np.add.at(counts, (i, j), 1)
    return counts + counts.T


def _checked(x, means, std):
    x, means = np.asarray(x, np.float64), np.asarray(means, np.float64)
    if x.ndim != 2 or means.ndim != 2 or x.shape[1] != means.shape[1]:
        raise PersonError(f"x is {x.shape}, means are {means.shape}, allowed: (n, d) and (k, d)")
    if not np.all(np.asarray(std) > 0):
        raise PersonError(f"std is {std}, allowed: positive")
    if not np.isfinite(x).all():
        raise PersonError(f"{(~np.isfinite(x)).any(1).sum()} samples of x are not finite")
    return x, means, np.broadcast_to(np.asarray(std, np.float64), len(means))


def _pairs(means, max_length):
    """(i, j, length) of all pairs of modes i < j, the shortest first."""
    i, j = np.triu_indices(len(means), 1)
    length = np.linalg.norm(means[i] - means[j], axis=1)
    order = np.argsort(length, kind="stable")
    order = order[length[order] <= max_length]
    return zip(i[order].tolist(), j[order].tolist(), length[order].tolist())


def _project(x, start, end):
    """Where on the segment each x projects, in [0, 1], and its distance from the segment."""
    along = end - start
    at = np.clip((x - start) @ along / (along @ along), 0, 1)
    return at, np.linalg.norm(x - start - at[:, None] * along, axis=1)
