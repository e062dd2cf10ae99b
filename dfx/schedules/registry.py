"""Schedules by name, and the check that something is a schedule."""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np

from dfx.errors import PersonError, call
from dfx.schedules.continuous import (
    EDM,
    VE,
    RectifiedLinear,
    SubVP,
    Trigonometric,
    VPCosine,
    VPLinear,
)
from dfx.schedules.discrete import discrete_linear
from dfx.schedules.schedule import Schedule
from dfx.schedules.zero_snr import discrete_zero_snr

#: Name -> factory with keyword arguments.
REGISTRY: dict[str, Callable[..., Schedule]] = {
    "vp_linear": VPLinear,
    "vp_cosine": VPCosine,
    "sub_vp": SubVP,
    "ve": VE,
    "edm": EDM,
    "rectified_linear": RectifiedLinear,
    "trigonometric": Trigonometric,
    "ddpm": discrete_linear,
    "zero_snr": discrete_zero_snr,
}


def make(name: str, **options) -> Schedule:
    """Return the schedule of that name, checked.

    >>> make("ve", sigma_max=80.0)
    VE(sigma_min=0.01, sigma_max=80.0)

    Raises:
      PersonError: unknown name or option (the nearest valid one is named), or numbers that make no
        schedule.
    """
    return check(call("schedule", name, REGISTRY, **options))


def check(schedule: Schedule, num_times: int = 65) -> Schedule:
    """Return the schedule if it is one, as far as `num_times` equally spaced times can tell.

    Its fields must be numbers, alpha and sigma must be finite and not negative, beta finite, and
    log-SNR must fall strictly.

    Raises:
      PersonError: which of these fails, and at which time.
    """
    if not all(np.asarray(leaf).dtype.kind in "iuf" for leaf in jax.tree.leaves(schedule)):
        raise PersonError(f"{schedule!r} is no schedule: its fields must be numbers")
    if not 0 < schedule.end_time < np.inf:
        raise PersonError(f"{schedule!r} is no schedule: its end_time must be positive and finite")
    t = np.linspace(0, schedule.end_time, num_times)
    level = schedule.at(t)
    for name in ("alpha", "beta", "sigma"):
        _require(np.isfinite(getattr(level, name)), t, schedule, f"{name} must be finite")
    for name in ("alpha", "sigma"):
        _require(getattr(level, name) >= 0, t, schedule, f"{name} must not be negative")
    with np.errstate(invalid="ignore"):  # inf - inf does not fall
        falls = np.diff(level.log_snr) < 0
    _require(falls, t[1:], schedule, "log-SNR must fall from the data to the noise")
    return schedule


def _require(holds, t, schedule, rule: str) -> None:
    if not holds.all():
        first = t[np.argmin(holds)]
        raise PersonError(f"{schedule!r} is no schedule: {rule}, and fails to at t = {first:g}")
