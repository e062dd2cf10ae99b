"""Frechet distance between feature sets: the squared W_2 between their Gaussian fits.

With the features of an Inception net it is the FID (Heusel et al. 2017). From n samples it is
biased upwards by c / n to first order, with c of the order of d^2 / 4 for unit covariance, so it
may be compared at equal n alone, or in the limit of many samples (Chong and Forsyth 2020).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from dfx.errors import PersonError
from dfx.metrics.estimate import Estimate
from dfx.moments import Moments, merge, moments, remove


class FrechetEstimate(NamedTuple):
    """The distance at n samples, and its limit for infinitely many.

    distance: the usual number, biased at n. limit: without the bias of order 1 / n; it may be
    negative. num_samples: n. Both errors are those over repeated samples.
    """

    distance: Estimate
    limit: Estimate
    num_samples: int


def bures(a, b) -> float:
    """Return the squared W_2 between centred Gaussians with covariances a and b, (d, d).

        min over rotations U of |A^1/2 - B^1/2 U|_F^2,

    attained at U = V W^T with W S V^T the singular value decomposition of A^1/2 B^1/2. It equals
    tr A + tr B - 2 tr (A^1/2 B A^1/2)^1/2, without that difference of large numbers: equal matrices
    give about 1e-29 of their trace, and singular ones are allowed. In float64 on the host.
    Source: Bhatia, Jain and Lim 2019, theorem 1.

    Raises:
      PersonError: shapes that do not fit.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.shape != b.shape or a.ndim != 2 or a.shape[0] != a.shape[1]:
        raise PersonError(f"covariances are {a.shape} and {b.shape}, allowed: (d, d) both")
    return _bures_of_roots(_root(a), _root(b))


def frechet_gaussian(mean_x, cov_x, mean_y, cov_y) -> float:
    """Return the squared W_2 between two Gaussians, means (d,) and covariances (d, d).

    |mean_x - mean_y|^2 + `bures`(cov_x, cov_y). Source: Dowson and Landau 1982.
    """
    shift = np.asarray(mean_x, np.float64) - np.asarray(mean_y, np.float64)
    return float(shift @ shift) + bures(cov_x, cov_y)


def frechet(x, y) -> float:
    """Return the squared W_2 between the Gaussian fits of two sets of features, (n, d) and (m, d).

    With unbiased covariances. Of two sets from one law it is not 0: for unit covariance its mean is
    about d (1 + (d + 1) / 4) (1/n + 1/m). `frechet_estimate` has the limit and an error.

    Raises:
      PersonError: the dimensions differ, or a set has fewer than two points.
    """
    x, y = np.asarray(x), np.asarray(y)
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or min(len(x), len(y)) < 2:
        raise PersonError(f"shapes are {x.shape} and {y.shape}, allowed: (n, d), (m, d), n, m > 1")
    return frechet_distance(moments(x), moments(y))


def frechet_distance(a: Moments, b: Moments) -> float:
    """Return |mean_a - mean_b|^2 + `bures`(cov_a, cov_b), with unbiased covariances.

    Raises:
      PersonError: shapes that do not fit, or fewer than two features.
    """
    return _to(b)(a)


def frechet_estimate(
    groups: Sequence[Moments], reference: Moments | Sequence[Moments]
) -> FrechetEstimate:
    """Return the Frechet distance of samples to a reference, its limit and both errors.

    By the jackknife: with F that of all groups and F_g that without group g, the G pseudo-values

        P_g = G F - (G - 1) F_g

    have the mean `limit`, in which the bias c / n cancels, and their standard deviation over
    sqrt(G) is the error. It is the line through 1/n and 1/(n - n/G), extended to 0, where Chong and
    Forsyth fit one through several n. The cost is G + 1 distances of O(d^3).

    Args:
      groups: moments of equal, independent parts of the samples, as `moments.split` returns; 10
        leave an uncertainty of a quarter in the error.
      reference: moments that are taken as exact, as in published FIDs; or groups of a sample, whose
        bias and error then count too.

    Raises:
      PersonError: fewer than two groups, groups of different size, or shapes that do not fit.

    Source: Chong and Forsyth 2020; Efron and Tibshirani 1993, chapter 11.
    """
    whole = _whole(groups)
    fixed = reference if isinstance(reference, Moments) else _whole(reference)
    distance = _to(fixed)
    value = distance(whole)
    values = [_pseudo_values(value, whole, groups, distance)]
    if not isinstance(reference, Moments):
        values.append(_pseudo_values(value, fixed, reference, _to(whole)))
    error = float(np.sqrt(sum(v.var(ddof=1) / len(v) for v in values)))
    limit = value + sum(float(v.mean()) - value for v in values)
    return FrechetEstimate(Estimate(value, error), Estimate(limit, error), whole.size)


def _whole(groups: Sequence[Moments]) -> Moments:
    counts = sorted({group.size for group in groups})
    if len(groups) < 2 or len(counts) != 1:
        raise PersonError(
            f"{len(groups)} groups of {' and '.join(map(str, counts))} features, allowed: two "
            "groups or more, of one size"
        )
    return functools.reduce(merge, groups)


def _pseudo_values(value, whole: Moments, groups, distance) -> np.ndarray:
    left_out = np.array([distance(remove(whole, group)) for group in groups])
    return len(groups) * value - (len(groups) - 1) * left_out


def _to(reference: Moments) -> Callable[[Moments], float]:
    """The distance to a reference, whose root is taken once."""
    root = _root(reference.covariance(ddof=1))

    def distance(other: Moments) -> float:
        if other.mean.shape != reference.mean.shape:
            raise PersonError(
                f"features of {len(other.mean)} and {len(reference.mean)} numbers, allowed: equal"
            )
        shift = other.mean - reference.mean
        return float(shift @ shift) + _bures_of_roots(_root(other.covariance(ddof=1)), root)

    return distance


def _bures_of_roots(a: np.ndarray, b: np.ndarray) -> float:
    left, _, right = np.linalg.svd(a @ b)
    # The minimum is flat: an error of the rotation enters squared.
    return float(np.sum((a - b @ (left @ right).T) ** 2))


def _root(covariance: np.ndarray) -> np.ndarray:
    """The symmetric root."""
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    # What may be rounding is 0: the root of 1e-16 would be 1e-8.
    noise = len(values) * np.finfo(np.float64).eps * np.abs(values).max(initial=0)
    return vectors * np.sqrt(np.where(values > noise, values, 0)) @ vectors.T
