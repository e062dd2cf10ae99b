"""Where a penalty looks: laws of times and, given the time, of points (collocation).

A law of points is a function (key, x0, level, y) -> x with the shape of x0, whose first axis is the
number of points asked for; x0 are samples of the data and y endpoints of the mean term.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from dfx.errors import PersonError
from dfx.losses import times
from dfx.schedules import Schedule, marginal_sample
from dfx.schedules.schedule import check_endpoint


def beta(schedule: Schedule, start: float = 0.0, end: float | None = None, power: float = 2.0):
    """Return the law start + (end - start) Beta(1, power): density falling as (1 - u)^(power - 1).

    Power 1 is uniform, 2 the law of Deveney et al. 2023, which favours the data.

    Raises:
      PersonError: not 0 <= start < end <= end_time, or a power that is not positive and finite.
    """
    times.check_positive("power", power)
    uniform = times.uniform(schedule, start, end)
    # 1 - (1 - u)^(1 / power), without the cancellation next to the data.
    return times.TimeSampler(lambda u: uniform.quantile(-jnp.expm1(jnp.log1p(-u) / power)))


def noised(key, x0, level, y=None):
    """Return points of p_t: alpha x0 + beta y + sigma eps."""
    return marginal_sample(x0, jax.random.normal(key, x0.shape, x0.dtype), level, y)


def box(low, high) -> Callable:
    """Return the uniform law on the box [low, high]; both broadcast against one sample.

    Raises:
      PersonError: low is not below high.
    """
    if not np.all(np.asarray(low) < np.asarray(high)):
        raise PersonError(f"box from {low} to {high}: low must be below high")

    def points(key, x0, level, y=None):
        low_, high_ = (jnp.asarray(a, x0.dtype) for a in (low, high))
        return low_ + (high_ - low_) * jax.random.uniform(key, x0.shape, x0.dtype)

    return points


def given(array) -> Callable:
    """Return the uniform law on given points, shape (m, *sample).

    Drawn without repetition as far as they go: m points ask for each of them once.
    """

    def points(key, x0, level, y=None):
        order = jax.random.permutation(key, len(array))
        return jnp.asarray(array, x0.dtype)[order[jnp.arange(len(x0)) % len(array)]]

    return points


@dataclasses.dataclass(frozen=True)
class Collocation:
    """Where a penalty looks: the law of its times and, given the time, of its points.

    Attributes:
      time_sampler: "beta", a name in `dfx.losses.times.REGISTRY`, or a function (key, n, dtype) ->
        t, shape (n,).
      points: `noised` (p_t), `box(low, high)`, `given(array)`, or another (key, x0, level, y) -> x.
      num_points: how many; None is the batch size. The samples of the batch are gone through again
        with other noise if they are fewer.
    """

    time_sampler: str | Callable = "uniform"
    points: Callable = noised
    num_points: int | None = None

    def bind(self, schedule: Schedule) -> Callable:
        """Return (key, x0, cond, y) -> (x, t, cond, y).

        Raises:
          PersonError: an unknown time sampler or no points, at once; a schedule with a mean term
            and no y, at the first call.
        """
        draw_times = self.time_sampler
        if isinstance(draw_times, str):
            is_beta = draw_times == "beta"
            draw_times = beta(schedule) if is_beta else times.make(draw_times, schedule)
        if self.num_points is not None and self.num_points < 1:
            raise PersonError(f"num_points = {self.num_points}: at least 1 is needed")

        def draw(key, x0, cond, y):
            check_endpoint(schedule, y, "the loss")
            key_t, key_x = jax.random.split(key)
            n = len(x0) if self.num_points is None else self.num_points
            index = jnp.arange(n) % len(x0)
            x0, cond, y = jax.tree.map(lambda a: a[index], (x0, cond, y))
            x0 = x0.astype(jnp.promote_types(x0.dtype, jnp.float32))
            t = draw_times(key_t, n, x0.dtype)
            return self.points(key_x, x0, schedule.at(t, x0.ndim), y), t, cond, y

        return draw
