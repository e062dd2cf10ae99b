"""The discrete DDPM table, read as a schedule in continuous time.

A table of betas has T steps with abar_i = prod_{j <= i} (1 - beta_j), i = 0 .. T-1. The schedule
puts index i at time t = (i + 1) / T and the clean data at t = 0; between these log alpha is linear
in t, which keeps beta constant over a step. At index i the derivatives are those of the step that
ends there, so drift_coefficient(time_of_index(i)) = T log(1 - beta_i) / 2.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dfx.errors import PersonError
from dfx.pytree import pytree
from dfx.schedules.continuous import one_minus_exp
from dfx.schedules.schedule import Schedule, is_known


# An array field has no truth value, so records compare by identity.
@pytree
@dataclasses.dataclass(frozen=True, eq=False)
class DiscreteVP(Schedule):
    """A table of T noise levels, variance preserving; made by `ddpm_table`. Times in [0, 1].

    Fields:
      log_alpha: log sqrt(abar) at times 0, 1/T, .., 1, shape (T + 1,).
      log_alpha_step: log sqrt(1 - beta_i), its increments, shape (T,); kept because differences of
        log_alpha in float32 would lose digits.
    """

    log_alpha: Any
    log_alpha_step: Any

    @property
    def num_steps(self) -> int:
        """T, the length of the table."""
        return self.log_alpha_step.shape[0]

    def __repr__(self):
        return f"DiscreteVP(num_steps={self.num_steps})"

    def index(self, t):
        """The table index of time t, t T - 1, not rounded; -1 is the clean data."""
        return t * self.num_steps - 1

    def time_of_index(self, i):
        """The time of table index i, (i + 1) / T; index -1 is the clean data."""
        return (i + 1) / self.num_steps

    def alpha(self, t):
        return jnp.exp(self._log_alpha_at(t))

    def variance(self, t):
        return one_minus_exp(-2 * self._log_alpha_at(t))

    def _log_alpha_at(self, t):
        step, share = place_in_table(t, self.num_steps)
        start = jnp.asarray(self.log_alpha, t.dtype)[step]
        slope = jnp.asarray(self.log_alpha_step, t.dtype)[step]
        return start + share * slope


def place_in_table(t, num_steps: int):
    """Return the step of a table in which times lie, and the share of it that is behind them.

    Step i lasts from i / num_steps to (i + 1) / num_steps, which is the time of index i; shares are
    0 and 1 at these ends. Times outside [0, 1] lie in the first or the last step.

    Args:
      t: times, an array of floats of any shape.
      num_steps: T, the length of the table.
    """
    position = t * num_steps
    # A time at the table may come out a rounding error above its index; it still belongs to the
    # step that ends there.
    rounding = 2 * jnp.finfo(t.dtype).eps
    step = jnp.ceil(position * (1 - rounding)).astype(jnp.int32) - 1
    step = jnp.clip(step, 0, num_steps - 1)
    return step, position - step


def ddpm_table(betas) -> DiscreteVP:
    """Return the schedule of a table of betas.

    alpha(time_of_index(i))^2 = abar_i = prod_{j <= i} (1 - betas[j]).

    Args:
      betas: shape (T,), each in (0, 1). A JAX array may be traced; its values are then not checked.

    Raises:
      PersonError: betas is not one row of numbers in (0, 1).

    Source: Ho et al. 2020, equation 4.
    """
    xp = jnp if isinstance(betas, jax.Array) else np
    betas = betas if xp is jnp else np.asarray(betas, np.float64)
    if betas.ndim != 1 or betas.size == 0:
        raise PersonError(f"betas must be one row of numbers, got shape {betas.shape}")
    if is_known(betas):
        values = np.asarray(betas)
        wrong = np.flatnonzero(~((values > 0) & (values < 1)))
        if wrong.size:
            first = wrong[0]
            raise PersonError(f"betas must lie in (0, 1), got betas[{first}] = {values[first]:g}")
    return _table(betas, xp)


def discrete_linear(
    num_steps: int = 1000, beta_start: float = 1e-4, beta_end: float = 2e-2
) -> DiscreteVP:
    """Return the table of betas = linspace(beta_start, beta_end, num_steps).

    >>> schedule = discrete_linear(1000, 0.001, 0.2)
    >>> round(float(schedule.at(schedule.time_of_index(100)).alpha ** 2), 4)
    0.328

    Raises:
      PersonError: num_steps is not a positive whole number, or a beta is not in (0, 1).

    Source: Ho et al. 2020, section 4.
    """
    check_length(num_steps)
    return ddpm_table(np.linspace(beta_start, beta_end, num_steps))


def check_length(num_steps: int, least: int = 1) -> None:
    """Raise a PersonError unless the length of a table is a whole number of at least `least`."""
    whole = isinstance(num_steps, int | np.integer) and not isinstance(num_steps, bool)
    if not whole or num_steps < least:
        raise PersonError(
            f"num_steps must be a whole number of at least {least}, got {num_steps!r}"
        )


def _table(betas, xp) -> DiscreteVP:
    step = 0.5 * xp.log1p(-betas)
    return DiscreteVP(xp.concatenate([xp.zeros_like(step[:1]), xp.cumsum(step)]), step)
