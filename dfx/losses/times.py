"""Laws of the training time: at which noise levels a loss looks.

A time sampler is a law on [0, end_time], held as its quantile function: with u uniform on (0, 1),
quantile(u) is a time of that law. Called as `sampler(key, n)` it draws n times, independent of
each other, or one in each of n equal strata if `stratified`. Only the product of the law's
density and the loss weighting matters for what is learned; the law decides the variance of its
estimate.

Every factory takes the schedule first and returns a sampler; t = 0 is the data.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from dfx.errors import PersonError, call
from dfx.schedules import Schedule, t_of_log_snr


@dataclasses.dataclass(frozen=True)
class TimeSampler:
    """A law of times: `sampler(key, n) -> t` of shape (n,).

    With `stratified`, t_i = quantile((u + i / n) mod 1) with one u for all i, the low-discrepancy
    sampler of VDM (Kingma et al. 2021, appendix I.1): each t_i keeps the law, the average over a
    batch varies less. The batch must then be in random order, and t_i depends on n; independent
    times do not.
    """

    quantile: Callable[[jax.Array], jax.Array]
    stratified: bool = False

    def __call__(self, key, n: int, dtype=jnp.float32):
        """Draw n times."""
        if self.stratified:
            offsets = jnp.arange(n, dtype=dtype) / n
            u = (jax.random.uniform(key, (), dtype) + offsets) % 1
        else:
            u = jax.random.uniform(key, (n,), dtype)
        # u = 0, one of 2^23 float32 draws, is the end of an unbounded law: stay half a spacing off.
        half = jnp.finfo(dtype).epsneg
        return self.quantile(jnp.clip(u, half, 1 - half))


def stratify(sampler: TimeSampler) -> TimeSampler:
    """Return the sampler of the same law that draws one time in each of n strata."""
    return dataclasses.replace(sampler, stratified=True)


def uniform(schedule: Schedule, start: float = 0.0, end: float | None = None) -> TimeSampler:
    """Return the uniform law on [start, end]; end is the schedule's end by default.

    Raises:
      PersonError: not 0 <= start < end <= end_time.
    """
    end = schedule.end_time if end is None else end
    if not 0 <= start < end <= schedule.end_time:
        raise PersonError(
            f"times from {start} to {end}: need 0 <= start < end <= {schedule.end_time}"
        )
    return TimeSampler(lambda u: start + (end - start) * u)


def discrete(schedule) -> TimeSampler:
    """Return the uniform law on the times of a discrete schedule's table, indices 0..T-1.

    The probabilities are equal to within T 2^-23 of their value in float32.

    Raises:
      PersonError: the schedule has no table.
    """
    if not hasattr(schedule, "time_of_index"):
        raise PersonError(f"{type(schedule).__name__} has no table of times: use a discrete one")
    num = schedule.num_steps

    def quantile(u):
        index = jnp.minimum(jnp.floor(u * num), num - 1)
        return schedule.time_of_index(index)

    return TimeSampler(quantile)


def logit_normal(schedule: Schedule, mean: float = 0.0, std: float = 1.0) -> TimeSampler:
    """Return the law of t = end_time / (1 + exp(-z)), z ~ N(mean, std^2).

    A positive mean favours the noise.

    Raises:
      PersonError: as `check_normal`.

    Source: Esser et al. (2024), section 3.1.
    """
    check_normal(mean, std)
    end = schedule.end_time
    return TimeSampler(lambda u: end * jax.nn.sigmoid(mean + std * jax.scipy.special.ndtri(u)))


def log_normal_sigma(schedule: Schedule, mean: float = -1.2, std: float = 1.2) -> TimeSampler:
    """Return the law in which log(sigma / alpha) ~ N(mean, std^2).

    What lies beyond an end of the schedule is moved to that end.

    Raises:
      PersonError: as `check_normal`.

    Source: Karras et al. (2022), table 1 (P_mean, P_std).
    """
    check_normal(mean, std)

    def quantile(u):
        log_sigma = mean + std * jax.scipy.special.ndtri(u)
        return t_of_log_snr(schedule, -2 * log_sigma)

    return TimeSampler(quantile)


def check_positive(name: str, value: float):
    """Raise a PersonError unless the value is positive and finite."""
    if not 0 < value < math.inf:
        raise PersonError(f"{name} is {value}: it must be positive and finite")


def check_finite(name: str, value: float):
    """Raise a PersonError unless the value is a finite number."""
    if not math.isfinite(value):
        raise PersonError(f"{name} is {value}: it must be finite")


def check_normal(mean: float, std: float):
    """Raise a PersonError unless the mean is finite, and the deviation too and positive."""
    check_finite("mean", mean)
    check_positive("std", std)


REGISTRY = {
    "uniform": uniform,
    "discrete": discrete,
    "logit_normal": logit_normal,
    "log_normal_sigma": log_normal_sigma,
}


def make(name: str, schedule: Schedule, stratified: bool = False, **options) -> TimeSampler:
    """Return the time sampler of that name.

    Raises:
      PersonError: the name is not in `REGISTRY`, or the sampler has no such option.
    """
    sampler = call("time sampler", name, REGISTRY, schedule, **options)
    return stratify(sampler) if stratified else sampler
