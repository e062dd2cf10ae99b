"""Orders of convergence, fitted to errors without noise."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.special import stdtrit

from dfx.runs import Claim


class Order(NamedTuple):
    """A fitted order with its 95% interval."""

    value: float
    low: float
    high: float


def fit_order(steps: Any, errors: Any) -> Order:
    """Return minus the slope of log error against log steps.

    The interval is that of the straight line, Student's t with n - 2 degrees of freedom. What it
    holds is the bend of the line, since exact errors have no noise.
    """
    x, y = np.log(steps), np.log(errors)
    (slope, level), n = np.polyfit(x, y, 1), len(x)
    rest = np.sum((y - slope * x - level) ** 2) / (n - 2)
    half = stdtrit(n - 2, 0.975) * np.sqrt(rest / np.sum((x - x.mean()) ** 2))
    return Order(-slope, -slope - half, -slope + half)


def from_order(order: Order, **fields: Any) -> Claim:
    """Return the claim on a fitted order, whose interval is that of its line."""
    return Claim(ours=order.value, low=order.low, high=order.high, **fields)
