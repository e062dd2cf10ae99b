"""Reference statistics of features: the .npz files with `mu` and `sigma` that go with a FID."""

from __future__ import annotations

import os

import numpy as np

from dfx.data.layout import DataError
from dfx.data.named_arrays import read_named

# Of what is published in float32, sums over 50,000 features included, beside the largest variance.
_ROUNDING = 1e-4


def read_statistics(path: str | os.PathLike) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean (d,) and the covariance (d, d) in a file of reference statistics, float64.

    `dfx.moments.given` makes moments of them.

    Args:
      path: an .npz file with the keys mu and sigma, as published with FIDs; others are ignored. The
        newer .pkl files are pickles and are refused.

    Raises:
      DataError: the file is missing, torn, a pickle, or its arrays are no mean and covariance.
    """
    found = read_named(path, ("mu", "sigma"), "statistics")
    mean, covariance = (np.asarray(array, np.float64) for array in found.values())
    if mean.ndim != 1 or covariance.shape != (mean.size, mean.size):
        raise DataError(
            f"{path}: mu is {mean.shape}, sigma is {covariance.shape}, allowed: (d,) and (d, d)"
        )
    largest = covariance.diagonal().max(initial=0)
    skew = np.abs(covariance - covariance.T).max(initial=0)
    if skew > _ROUNDING * largest or covariance.diagonal().min(initial=0) < -_ROUNDING * largest:
        raise DataError(
            f"{path}: sigma is no covariance, allowed: symmetric, with no variance below 0"
        )
    return mean, covariance
