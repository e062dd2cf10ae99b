"""A table of noise levels stretched until nothing of the data is left at its end."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

from dfx.pytree import pytree
from dfx.schedules import DiscreteVP, Schedule


# An array field has no truth value, so records compare by identity.
@pytree
@dataclasses.dataclass(frozen=True, eq=False)
class RescaledTable(Schedule):
    """A variance preserving table with alpha = 0 at its end; made by `zero_terminal_snr`.

    Index i of T lies at t = (i + 1) / T and the data at t = 0; alpha is linear in t between.
    Times in [0, 1]. Log-SNR is -inf at t = 1.

    Fields:
      signal: alpha at times 0, 1/T, .., 1, shape (T + 1,).
      loss: 1 - signal, of its own: sigma^2 = (1 - alpha)(1 + alpha) keeps its digits near the data.
    """

    signal: Any
    loss: Any

    @property
    def num_steps(self) -> int:
        """T, the length of the table."""
        return self.signal.shape[0] - 1

    def time_of_index(self, i):
        """The time of table index i, (i + 1) / T."""
        return (i + 1) / self.num_steps

    def alpha(self, t):
        return self._between(self.signal, t)

    def variance(self, t):
        return self._between(self.loss, t) * (1 + self.alpha(t))

    def _between(self, table, t):
        position = t * self.num_steps
        # As in `DiscreteVP`: a time of the table belongs to the step that ends there.
        rounding = 2 * jnp.finfo(t.dtype).eps
        step = jnp.ceil(position * (1 - rounding)).astype(jnp.int32) - 1
        step = jnp.clip(step, 0, self.num_steps - 1)
        table = jnp.asarray(table, t.dtype)
        share = position - step
        # Of both ends, not start plus slope: the last entry is then met exactly.
        return (1 - share) * table[step] + share * table[step + 1]


def zero_terminal_snr(table: DiscreteVP) -> RescaledTable:
    """Return a table with its square roots of abar moved and stretched to end at exactly 0:

        alpha_i <- (alpha_i - alpha_{T-1}) alpha_0 / (alpha_0 - alpha_{T-1}).

    The first entry stays. At the end eps tells nothing of x0: predict v or x0.

    Source: Lin, Liu, Li & Yang 2023, algorithm 1.
    """
    log_alpha = np.asarray(table.log_alpha, np.float64)
    first, last = np.exp(log_alpha[1]), np.exp(log_alpha[-1])
    factor = first / (first - last)
    signal = (np.exp(log_alpha) - last) * factor
    # 1 - signal = (1 - alpha) factor + (1 - factor (1 - last)), where the second is small.
    loss = -np.expm1(log_alpha) * factor + (1 - factor * (1 - last))
    # The data are at alpha = 1; the rule above is about the entries of the table.
    signal[0], loss[0] = 1.0, 0.0
    return RescaledTable(signal, loss)
