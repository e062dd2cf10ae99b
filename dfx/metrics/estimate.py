"""A number from samples with its standard error."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dfx.errors import PersonError


class Estimate(NamedTuple):
    """value, and the standard deviation that it would have over repeated samples."""

    value: float
    standard_error: float


def mean(values) -> Estimate:
    """Return the mean of independent values (n,) with its error, std / sqrt(n).

    The error of a single value is NaN.

    Raises:
      PersonError: values is empty or no vector.

    >>> mean([1.0, 2.0, 3.0]).value
    2.0
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or not values.size:
        raise PersonError(f"values are of shape {values.shape}, allowed: (n,), not empty")
    error = values.std(ddof=1) / np.sqrt(values.size) if values.size > 1 else np.nan
    return Estimate(float(values.mean()), float(error))
