"""Ensembles trained within a run: all members as one program, the parameters kept after chosen
numbers of steps, killed and resumed at any step to the same bits.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from dfx import train
from dfx.runs import say
from experiments.shared.parameters import flatten, unflatten


class Training(NamedTuple):
    """How the members of an ensemble are trained; see `train.fit`.

    step: of a single member. batch: (source, step) -> the batch of a single member. Keep both
    objects: others are compiled again. chunk: steps compiled together.
    """

    step: Callable
    batch: Callable
    chunk: int


def first_states(init: Callable, optimizer, keys: jax.Array) -> train.State:
    """Return the stacked states before the first step.

    Args:
      init: key -> parameters.
      optimizer: an optax pair.
      keys: (m,), one for each member; member i starts from `init(fold_in(key, 0))` and draws with
        `fold_in(key, 1)`, so that a source may use `fold_in(key, 2)` and above.
    """

    def one(key):
        params = init(jax.random.fold_in(key, _PARAMS))
        return train.init_state(params, optimizer, jax.random.fold_in(key, _NOISE))

    return jax.jit(jax.vmap(one))(keys)


_PARAMS, _NOISE = range(2)


def fit(
    run,
    name: str,
    training: Training,
    first: train.State,
    source: Any,
    snapshots: Sequence[int],
) -> list[Any]:
    """Return the stacked parameters after each number of steps in `snapshots`, from the run folder
    if they are there; each is a stage, NAME_STEPS.

    Args:
      run: the run folder.
      name: of the training.
      training: how.
      first: the stacked states of the start.
      source: what batches are made of, members first in every leaf.
      snapshots: increasing numbers of steps; the last is the length of the training.
    """
    advance = _advance(run, name, training, first, source, snapshots[-1])
    stored = [run.arrays(f"{name}_{n}", functools.partial(advance, n)) for n in snapshots]
    return [unflatten(first.params, arrays) for arrays in stored]


def _advance(run, name, training, first, source, last: int) -> Callable:
    """Return the function that trains on to a number of steps and returns the parameters there.

    It goes on from where it was, or from the last checkpoint; from the start if that is past the
    steps asked for, which happens when the file of a snapshot was lost.
    """
    first, source = _spread((first, source), len(first.step))
    checkpoints = train.Checkpoints(run.checkpoint_folder(name), run.config_hash, warn=say)
    held: list[train.State] = []

    def advance(steps: int) -> dict[str, np.ndarray]:
        state = held.pop() if held else checkpoints.restore(first) or first
        behind = state.step[0] > steps
        state = first if behind else state
        with run.progress(last, name, initial=int(state.step[0])) as bar:

            def on_chunk(state, metrics, done):
                loss = metrics["loss"].mean(axis=0)
                run.log(name, done, loss=loss)
                bar.update(len(metrics["loss"]), loss=loss.mean())

            state = train.fit(
                training.step, state, training.batch, steps, training.chunk, on_chunk,
                data=source, checkpoints=None if behind else checkpoints,
                save_every=10 * training.chunk,
            )  # fmt: skip
        held.append(state)
        return flatten(state.params)

    return advance


def _spread(tree: Any, num_members: int) -> Any:
    """Put the members on as many of the devices as share them evenly."""
    count = math.gcd(num_members, jax.device_count())
    return tree if count == 1 else train.spread(tree, train.device_mesh(jax.devices()[:count]))
