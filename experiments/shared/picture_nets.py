"""Small transformers on pictures: one a seed, trained as one program on the same pictures."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from dfx import data, losses, nets, train
from dfx.schedules import Schedule
from experiments.shared.members import Training, first_states, fit


class Learning(NamedTuple):
    """What the nets predict, on which schedule, and how long and fast they learn it."""

    schedule: Schedule
    prediction: str
    num_steps: int
    batch_size: int
    learning_rate: float
    chunk: int


def thousand(level):
    """Return what the nets see as their time, a step number 0..1000."""
    return 1000.0 * level.t


def make_net(settings, shape: tuple[int, int, int]) -> nets.Net:
    """Return the transformer for pictures of that shape (h, w, c)."""
    return nets.dit(shape, settings.patch, settings.width, settings.depth, settings.heads)


def train_nets(run, name: str, net: nets.Net, learning: Learning, images, keys) -> Any:
    """Return the stacked parameters of one net a key, as the stage NAME_STEPS of the run.

    Args:
      run: the run folder.
      name: of the training.
      net: of which each member is one.
      learning: how.
      images: uint8, shape (n, h, w, c); every member sees them in an order of its own.
      keys: shape (m,).
    """
    steps = learning.num_steps
    optimizer = _optimizer(learning.learning_rate, steps, max(1, steps // 20))
    source = np.stack([images] * len(keys)), keys
    step = _step(net, learning.schedule, learning.prediction)
    training = Training(step, _batches(learning.batch_size), learning.chunk)
    first = first_states(net.init, optimizer, keys)
    return fit(run, name, training, first, source, (steps,))[-1]


def _optimizer(learning_rate: float, steps: int, warmup: int):
    return train.optimizer(learning_rate, warmup=warmup, schedule="cosine", total=steps, clip=1.0)


@functools.cache
def _step(net: nets.Net, schedule: Schedule, prediction: str) -> Callable:
    loss = losses.denoising(net, schedule, prediction, time=thousand)
    return train.make_step(loss, _optimizer(1.0, 1, 1))  # its numbers are in the states


@functools.cache
def _batches(batch_size: int) -> Callable:
    def batch(source, step):
        images, key = source
        order = jax.random.fold_in(key, 2)
        return (data.to_unit(images[data.indices(order, step, batch_size, len(images))]),)

    return batch
