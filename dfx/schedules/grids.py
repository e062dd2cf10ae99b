"""Time grids: the times a sampler visits, from the noise to the data.

A grid of n steps is a strictly decreasing float64 NumPy array of n + 1 times. A solver takes
neighbours of it as pairs (from, to), and never asks how they were chosen. Each function says where
its grid starts and ends. All raise PersonError if n is not a positive whole number or if an
argument lies outside the range that its docstring gives.
"""

from __future__ import annotations

from collections.abc import Callable
from numbers import Real

import numpy as np

from dfx.errors import PersonError, call
from dfx.schedules.derived import log_snr, t_of_log_snr
from dfx.schedules.discrete import DiscreteVP
from dfx.schedules.schedule import Schedule
from dfx.schedules.zero_snr import RescaledTable

#: Schedules with indices.
Table = DiscreteVP | RescaledTable


def uniform(schedule: Schedule, n: int, start: float | None = None, end: float = 0.0) -> np.ndarray:
    """Return n equal steps in t, from `start` (None: end_time) to `end` (by default the data).

    Args:
      start, end: times, 0 <= end < start <= end_time. So in all grids.

    >>> from dfx.schedules import RectifiedLinear
    >>> uniform(RectifiedLinear(), 4)
    array([1.  , 0.75, 0.5 , 0.25, 0.  ])
    """
    return np.linspace(*_span(schedule, n, start, end), n + 1)


def power(
    schedule: Schedule,
    n: int,
    exponent: float = 2.0,
    start: float | None = None,
    end: float = 0.0,
) -> np.ndarray:
    """Return n equal steps in t^(1 / exponent), from `start` (None: end_time) to `end`.

    Args:
      exponent: positive; 1 is `uniform`, 2 `quadratic`, more puts more of the steps near the data.

    Source: Zhang & Chen 2023 (DEIS), section 4 ("power-k in t").

    >>> from dfx.schedules import RectifiedLinear
    >>> power(RectifiedLinear(), 2, exponent=3.0)
    array([1.   , 0.125, 0.   ])
    """
    span = _span(schedule, n, start, end)
    _check_numbers(exponent=exponent)
    if not exponent > 0:
        raise PersonError(f"power needs exponent > 0, got {exponent:g}")
    return _even(lambda t: t ** (1 / exponent), lambda v: v**exponent, *span, n)


def quadratic(
    schedule: Schedule, n: int, start: float | None = None, end: float = 0.0
) -> np.ndarray:
    """Return n equal steps in sqrt(t), from `start` (None: end_time) to `end` (default: the data).

    Source: Song et al. 2021 (DDIM), appendix D.2.
    """
    return power(schedule, n, 2.0, start, end)


def uniform_log_snr(
    schedule: Schedule, n: int, start: float | None = None, end: float = 1e-3
) -> np.ndarray:
    """Return n equal steps in log-SNR, from `start` (None: end_time) to `end`, short of the data.

    Log-SNR is infinite at the data, and at end_time too where a schedule leaves no signal (cosine,
    rectified linear, trigonometric): there `start` must be given. A sampler that is to reach the
    data takes one more step to 0: `np.append(grid, 0)`.

    Raises:
      PersonError: log-SNR is infinite at `start` or `end`.

    Source: Lu et al. 2022 (DPM-Solver).
    """
    start, end = _span(schedule, n, start, end)
    for name, t, side in (("start", start, "below"), ("end", end, "above")):
        if not np.isfinite(log_snr(schedule, t)):
            raise PersonError(f"log-SNR is infinite at t = {t:g}: give a {name} {side} {t:g}")
    return _even(lambda t: log_snr(schedule, t), lambda v: t_of_log_snr(schedule, v), start, end, n)


def karras(
    schedule: Schedule, n: int, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0
) -> np.ndarray:
    """Return the times of n noise levels sigma/alpha from sigma_max to sigma_min, then the data.

    sigma_i = (sigma_max^(1/rho) + i/(n-1) (sigma_min^(1/rho) - sigma_max^(1/rho)))^rho for i = 0 to
    n - 1, then t = 0; n = 1 keeps sigma_max alone.

    Args:
      sigma_min, sigma_max: 0 < sigma_min < sigma_max <= sigma/alpha of the schedule at end_time.
      rho: positive; 1 gives equal steps in sigma, large values equal steps in log sigma.

    Source: Karras et al. 2022, equation 5.
    """
    _check_steps(n)
    _check_karras(schedule, sigma_min, sigma_max, rho)
    levels = np.linspace(sigma_max ** (1 / rho), sigma_min ** (1 / rho), n) ** rho
    return np.append(t_of_log_snr(schedule, -2 * np.log(levels)), 0.0)


def leading(schedule: Table, n: int, offset: int = 0) -> np.ndarray:
    """Return the times of the table indices i k + offset, i = n-1 to 0, k = T // n, then the data.

    It starts about k steps short of the end of the table, where some signal is left.

    Args:
      schedule: a table of T levels, T >= n. So in the two other spacings.
      offset: whole number from 0 to T - 1 - (n-1) k; `steps_offset` of diffusers.

    Source: Lin et al. 2023, table 2.
    """
    length = _check_table(schedule, n)
    stride = length // n
    largest = length - 1 - (n - 1) * stride
    if not isinstance(offset, int | np.integer) or not 0 <= offset <= largest:
        raise PersonError(f"offset must be a whole number from 0 to {largest}, got {offset!r}")
    return _times(schedule, np.arange(n)[::-1] * stride + offset)


def trailing(schedule: Table, n: int) -> np.ndarray:
    """Return the times of the table indices round(T - i T/n) - 1 for i = 0 to n-1, then the data.

    It starts at the end of the table, t = 1: with no signal left on a `zero_terminal_snr` table, as
    the source has it.

    Source: Lin et al. 2023, table 2 and section 3.3.
    """
    length = _check_table(schedule, n)
    return _times(schedule, np.round(length - np.arange(n) * (length / n)) - 1)


def linspace(schedule: Table, n: int) -> np.ndarray:
    """Return the times of n equally spaced, rounded table indices from T-1 to 0, then the data.

    It starts at the end of the table, t = 1, and has at least 2 steps.

    Source: Lin et al. 2023, table 2.
    """
    length = _check_table(schedule, n)
    if n == 1:
        raise PersonError("linspace needs at least 2 steps: with 1 it starts next to the data")
    return _times(schedule, np.round(np.linspace(0, length - 1, n))[::-1])


#: Name -> grid function of (schedule, n, ...).
REGISTRY: dict[str, Callable[..., np.ndarray]] = {
    f.__name__: f
    for f in (uniform, uniform_log_snr, power, quadratic, karras, leading, trailing, linspace)
}


def make(name: str, schedule: Schedule, n: int, **options) -> np.ndarray:
    """Return the grid of that name.

    >>> from dfx.schedules import RectifiedLinear
    >>> make("uniform", RectifiedLinear(), 2, end=0.5)
    array([1.  , 0.75, 0.5 ])

    Raises:
      PersonError: unknown name or option (the nearest valid one is named), or as the grid itself.
    """
    return call("grid", name, REGISTRY, schedule, n, **options)


def _even(forward, inverse, start: float, end: float, n: int) -> np.ndarray:
    """Return the grid with equal steps in forward(t), its ends exact."""
    grid = np.array(inverse(np.linspace(forward(start), forward(end), n + 1)), np.float64)
    grid[0], grid[-1] = start, end
    return grid


def _times(schedule: Table, indices: np.ndarray) -> np.ndarray:
    return np.append(schedule.time_of_index(indices.astype(np.float64)), 0.0)


def _span(schedule: Schedule, n: int, start, end) -> tuple[float, float]:
    _check_steps(n)
    last = float(schedule.end_time)
    start = last if start is None else start
    _check_numbers(start=start, end=end)
    if not 0 <= end < start <= last:
        raise PersonError(
            f"a grid needs 0 <= end < start <= {last:g}, got start = {start:g}, end = {end:g}"
        )
    return float(start), float(end)


def _check_steps(n) -> None:
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
        raise PersonError(f"the number of steps must be a whole number of at least 1, got {n!r}")


def _check_numbers(**values) -> None:
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, Real):
            raise PersonError(f"{name} must be a number, got {value!r}")


def _check_table(schedule, n) -> int:
    _check_steps(n)
    if not isinstance(schedule, Table):
        raise PersonError(f"this grid needs a discrete table such as 'ddpm', got {schedule!r}")
    if n > schedule.num_steps:
        raise PersonError(f"{n} steps are more than the {schedule.num_steps} levels of the table")
    return schedule.num_steps


def _check_karras(schedule, sigma_min, sigma_max, rho) -> None:
    _check_numbers(sigma_min=sigma_min, sigma_max=sigma_max, rho=rho)
    if not 0 < sigma_min < sigma_max:
        raise PersonError(
            f"karras needs 0 < sigma_min < sigma_max, got {sigma_min:g} and {sigma_max:g}"
        )
    if not rho > 0:
        raise PersonError(f"karras needs rho > 0, got {rho:g}")
    largest = np.exp(-0.5 * log_snr(schedule, float(schedule.end_time)))
    # A few rounding errors are forgiven, so that sigma_max may be the largest level itself.
    if sigma_max > largest * (1 + 1e-12):
        raise PersonError(
            f"karras: sigma_max = {sigma_max:g} exceeds the schedule's sigma/alpha, {largest:g}"
        )
