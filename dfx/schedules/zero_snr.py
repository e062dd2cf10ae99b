"""A table of noise levels stretched until nothing of the data is left at its end."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

from dfx.errors import PersonError
from dfx.pytree import pytree
from dfx.schedules.discrete import DiscreteVP, check_length, ddpm_table, place_in_table
from dfx.schedules.schedule import Schedule


# An array field has no truth value, so records compare by identity.
@pytree
@dataclasses.dataclass(frozen=True, eq=False)
class RescaledTable(Schedule):
    """A variance preserving table with alpha = 0 at its end; made by `zero_terminal_snr`.

    Index i of T lies at t = (i + 1) / T and the data at t = 0; alpha is linear in t between.
    Times in [0, 1]. Log-SNR is -inf at t = 1.

    Fields:
      signal: alpha at times 0, 1/T, .., 1, shape (T + 1,).
      signal_step: its increments, shape (T,), of their own: their differences in float32 would lose
        digits.
      loss: 1 - signal, of its own for the same reason: sigma^2 = (1 - alpha)(1 + alpha).
    """

    signal: Any
    signal_step: Any
    loss: Any

    @property
    def num_steps(self) -> int:
        """T, the length of the table."""
        return self.signal_step.shape[0]

    def __repr__(self):
        return f"RescaledTable(num_steps={self.num_steps})"

    def time_of_index(self, i):
        """The time of table index i, (i + 1) / T."""
        return (i + 1) / self.num_steps

    def alpha(self, t):
        signal, loss = self._both(t)
        return jnp.where(loss < 0.5, 1 - loss, signal)

    def variance(self, t):
        signal, loss = self._both(t)
        near_data = loss < 0.5
        loss = jnp.where(near_data, loss, 1 - signal)
        return loss * (2 - loss)

    def _both(self, t):
        """Alpha, with its digits near the noise and 0 at the end, and 1 - alpha near the data.

        In float32 a time is rounded by up to 6e-5 of a step of 1000: within the last step, where
        alpha falls to 0, by more and more of what is left.
        """
        step, share = place_in_table(t, self.num_steps)
        signal, rise, loss = (
            jnp.asarray(table, t.dtype) for table in (self.signal, self.signal_step, self.loss)
        )
        return signal[step + 1] - (1 - share) * rise[step], loss[step] - share * rise[step]


def zero_terminal_snr(table: DiscreteVP) -> RescaledTable:
    """Return a table with its square roots of abar moved and stretched to end at exactly 0:

        alpha_i <- (alpha_i - alpha_{T-1}) alpha_0 / (alpha_0 - alpha_{T-1}).

    The first entry stays. At the end eps tells nothing of x0: predict v or x0.

    Raises:
      PersonError: the schedule is no `DiscreteVP`, or has a single level: nothing would be left.

    Source: Lin, Liu, Li & Yang 2023, algorithm 1.
    """
    if not isinstance(table, DiscreteVP) or table.num_steps < 2:
        raise PersonError(f"a discrete table of at least 2 levels is needed, got {table!r}")
    log_alpha = np.asarray(table.log_alpha, np.float64)
    first, last = np.exp(log_alpha[1]), np.exp(log_alpha[-1])
    factor = first / (first - last)
    signal = (np.exp(log_alpha) - last) * factor
    # 1 - signal = (1 - alpha) factor + (1 - factor (1 - last)), where the second is small.
    loss = -np.expm1(log_alpha) * factor + (1 - factor * (1 - last))
    # The data are at alpha = 1; the rule above is about the entries of the table.
    signal[0], loss[0] = 1.0, 0.0
    return RescaledTable(signal, np.diff(signal), loss)


def discrete_zero_snr(
    num_steps: int = 1000, beta_start: float = 0.00085, beta_end: float = 0.012
) -> RescaledTable:
    """Return the table of betas whose roots rise linearly, stretched by `zero_terminal_snr`.

    The default numbers are those of Stable Diffusion.

    >>> schedule = discrete_zero_snr()
    >>> float(schedule.at(1.0).alpha), float(schedule.at(1.0).sigma)
    (0.0, 1.0)

    Raises:
      PersonError: num_steps is not a whole number of at least 2, or a beta is not in (0, 1).

    Source: Lin, Liu, Li & Yang 2023, section 3.1; Rombach et al. 2022 (the table).
    """
    check_length(num_steps, 2)  # of a single entry nothing is left
    with np.errstate(invalid="ignore"):  # of a negative beta, which `ddpm_table` refuses
        roots = np.linspace(np.sqrt(beta_start), np.sqrt(beta_end), num_steps)
    return zero_terminal_snr(ddpm_table(roots**2))
