"""Reference statistics of features: the .npz files with `mu` and `sigma` that go with a FID."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import numpy as np

from dfx.data.layout import DataError, one_line, read_bytes


def read_statistics(path: str | os.PathLike) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean (d,) and the covariance (d, d) in a file of reference statistics, float64.

    `dfx.moments.given` makes moments of them.

    Args:
      path: an .npz file with the keys mu and sigma, as published with FIDs; others are ignored. The
        newer .pkl files are pickles and are refused.

    Raises:
      DataError: the file is missing, torn, a pickle, or its arrays are no mean and covariance.
    """
    where = Path(path).expanduser()
    try:
        with zipfile.ZipFile(io.BytesIO(read_bytes(where))) as archive:
            raw = {key: archive.read(f"{key}.npy") for key in ("mu", "sigma")}
        mean, covariance = (
            np.asarray(np.load(io.BytesIO(data), allow_pickle=False), np.float64)
            for data in raw.values()
        )
    except DataError:
        raise
    except Exception as error:  # zipfile and NumPy raise some ten kinds for broken files
        raise DataError(
            f"{where}: no statistics ({one_line(error)}), allowed: .npz with mu and sigma"
        ) from error
    if mean.ndim != 1 or covariance.shape != (mean.size, mean.size):
        raise DataError(
            f"{where}: mu is {mean.shape}, sigma is {covariance.shape}, allowed: (d,) and (d, d)"
        )
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise DataError(f"{where}: mu or sigma holds numbers that are not finite")
    return mean, covariance
