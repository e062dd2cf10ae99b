"""Random numbers of a sampler: every draw is a function of (key, row, number of the sample)."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from dfx.schedules.schedule import check_mean

#: Samples are drawn for in blocks of this many; block b of a row has the row's key with b folded
#: in.
BLOCK = 1000

#: Samples of at most this size are drawn for a whole block at a time with the batch axis last,
#: which is the faster layout on a CPU; larger ones with the batch axis first, so that no number is
#: drawn in vain.
TINY = 16

#: Rows with numbers of their own besides 0, 1, ..: noise before the first row, and the prior.
START_ROW, PRIOR_ROW = -1, -2


def is_tiny(sample_shape: tuple[int, ...]) -> bool:
    """Whether samples of this shape are drawn for with the batch axis last."""
    return math.prod(sample_shape) <= TINY


def draw(key, row, shape: tuple[int, ...], dtype, first_block=0, batch_last: bool = False):
    """Return standard normal noise for one row, shape (n, *sample), or (*sample, n) with
    `batch_last`.

    Sample i gets entry i % 1000 of the draw with fold_in(fold_in(key, row + 2), i // 1000): the
    same numbers in a batch of 8 or of 8,000, and whether samples run together or in blocks.

    Args:
      key: a typed key.
      row: the number of the row, `START_ROW` or `PRIOR_ROW`.
      shape: (n, *sample).
      dtype: of the result.
      first_block: i // 1000 of the first sample, which must be a multiple of 1000.
      batch_last: the layout of the result; does not change the numbers.
    """
    key = jax.random.fold_in(key, jnp.uint32(row - PRIOR_ROW))
    n, sample = shape[0], shape[1:]
    if is_tiny(sample):
        z = _draw_blocks(key, first_block, -(-n // BLOCK), (*sample, BLOCK), dtype)
        if batch_last:
            return jnp.moveaxis(z, 0, -2).reshape(*sample, -1)[..., :n]
        return jnp.moveaxis(z, -1, 1).reshape(-1, *sample)[:n]
    full, rest = divmod(n, BLOCK)
    parts = [_draw_blocks(key, first_block, full, (BLOCK, *sample), dtype).reshape(-1, *sample)]
    parts.append(_draw_block(key, first_block + full, (rest, *sample), dtype))
    z = jnp.concatenate(parts) if full and rest else parts[0 if full else 1]
    return jnp.moveaxis(z, 0, -1) if batch_last else z


def draw_size(shape: tuple[int, ...]) -> int:
    """Return how many numbers `draw` draws for one row."""
    n, sample = shape[0], shape[1:]
    return (-(-n // BLOCK) * BLOCK if is_tiny(sample) else n) * math.prod(sample)


def prior(key, schedule, shape, t=None, dtype=jnp.float32, y=None):
    """Return samples of the noise end, beta(t) y + sigma(t) eps: shape `shape` = (n, *sample).

    Args:
      key: a typed key; sample i is the same for every n.
      schedule: the forward process.
      shape: (n, *sample).
      t: the time, `schedule.end_time` by default; use the first time of the grid.
      dtype: of the samples.
      y: endpoints of the mean term, broadcasting against `shape`; needed where beta is not zero.

    Raises:
      PersonError: a mean term without y.
    """
    level = schedule.at(schedule.end_time if t is None else t)
    check_mean(level.beta, y, "the prior")
    x = jnp.asarray(level.sigma, dtype) * draw(key, PRIOR_ROW, tuple(shape), dtype)
    return x if y is None else x + jnp.asarray(level.beta, dtype) * y


def _draw_blocks(key, first, count, shape, dtype):
    return jax.vmap(lambda b: _draw_block(key, b, shape, dtype))(first + jnp.arange(count))


def _draw_block(key, block, shape, dtype):
    return jax.random.normal(jax.random.fold_in(key, block), shape, dtype)
