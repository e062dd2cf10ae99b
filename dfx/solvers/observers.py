"""Observers: statistics folded over the rows of a solver while it runs; no path is stored."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dfx.errors import PersonError


class Row(NamedTuple):
    """What an observer sees of a row: before the update, after the evaluation.

    Attributes:
      index: 0, 1, .., num_rows - 1; an int32 array.
      x: the point that was evaluated, shape (n, *sample).
      x0: the denoiser there, shape of x.
      level: what the field was given.
    """

    index: Any
    x: Any
    x0: Any
    level: Any


def _same(state):
    return state


class Observer(NamedTuple):
    """A fold over rows: `init(x, num_rows)`, then `update(state, row)` after each row, then
    `finish(state)`.

    States are pytrees of arrays. What `finish` returns begins with the batch axis in every leaf:
    large sets of samples run in blocks, whose observations are put together along it. An observer
    is part of the compiled program: keep one and use it again.
    """

    init: Callable
    update: Callable
    finish: Callable = _same


@functools.lru_cache
def trajectory(every: int = 1) -> Observer:
    """Return the observer that keeps the evaluated points of rows 0, every, 2 every, .. and of the
    last row.

    Observes (x, x0), each of shape (n, frames, *sample) with frames = ceil((num_rows - 1) / every)
    + 1. The memory is all of that: choose `every`, or another observer.

    Raises:
      PersonError: `every` below 1.
    """
    if every < 1:
        raise PersonError(f"every = {every}: must be at least 1")

    def init(x, num_rows):
        frames = -(-(num_rows - 1) // every) + 1
        empty = jnp.zeros((x.shape[0], frames, *x.shape[1:]), x.dtype)
        return empty, empty

    def update(state, row):
        frame = -(-row.index // every)  # rows between two frames are overwritten by the later one
        return tuple(
            jax.lax.dynamic_update_index_in_dim(kept, new, frame, 1)
            for kept, new in zip(state, (row.x, row.x0))
        )

    return Observer(init, update)


def window_variance(windows: tuple[int, ...] = (10, 30, 50, 100)) -> Observer:
    """Return the observer of how much the denoiser still moves at the end: shape (n, number of
    windows).

    For a window w it is the population variance over the last w rows of x0_hat, then the mean over
    the coordinates of a sample; zero for a constant path, h^2 for one that alternates between +h
    and -h. If there are fewer than w rows, all are used. Memory: one array of the size of x and one
    number per window.

    Raises:
      PersonError: no window, or one below 1.

    Source: Aithal, Maini, Lipton & Kolter 2024, section 5; the updating formula is Welford 1962.
    """
    windows = tuple(windows)
    if not windows or min(windows) < 1:
        raise PersonError(f"windows = {windows}: at least one, each of at least 1 row")
    return _window_variance(windows)


@functools.lru_cache
def _window_variance(windows):
    def init(x, num_rows):
        n, d, w = x.shape[0], math.prod(x.shape[1:]), len(windows)
        return num_rows, jnp.zeros((n, w, d), x.dtype), jnp.zeros((n, w), x.dtype)

    def update(state, row):
        first = state[0] - max(windows)
        return jax.lax.cond(row.index >= first, _welford, lambda state, row: state, state, row)

    def _welford(state, row):
        num_rows, mean, moment = state
        first_rows = jnp.maximum(num_rows - jnp.array(windows), 0)
        seen = row.index + 1 - first_rows  # rows in each window so far
        weight = jnp.where(seen > 0, 1.0, 0.0).astype(mean.dtype)
        change = row.x0.reshape(mean.shape[0], 1, -1) - mean
        step = change / jnp.maximum(seen, 1).astype(mean.dtype)[:, None]
        squares = jnp.mean(change * (change - step), axis=-1)
        return num_rows, mean + weight[:, None] * step, moment + weight * squares

    def finish(state):
        num_rows, _, moment = state
        return moment / jnp.minimum(num_rows, jnp.array(windows)).astype(moment.dtype)

    return Observer(init, update, finish)


def together(**observers: Observer) -> Observer:
    """Return one observer of several; what is observed is a dict with their names."""
    return _together(tuple(observers.items()))


@functools.lru_cache
def _together(observers):
    def init(x, num_rows):
        return {name: o.init(x, num_rows) for name, o in observers}

    def update(state, row):
        return {name: o.update(state[name], row) for name, o in observers}

    def finish(state):
        return {name: o.finish(state[name]) for name, o in observers}

    return Observer(init, update, finish)
