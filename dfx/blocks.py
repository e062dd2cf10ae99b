"""Samples taken block by block, so that what is held for one block fits into cache or memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def by_blocks(f: Callable, arrays: Any, size: int):
    """Return f(arrays), computed for about `size` points at a time.

    Args:
      f: of a tree of arrays whose first axis counts the points, each by itself, to such a tree.
      arrays: such a tree.
      size: points at a time; the blocks are made equal, and the last is filled up with points from
        the front that are cut off again.
    """
    n = jax.tree.leaves(arrays)[0].shape[0]
    count = -(-n // max(size, 1))
    if count <= 1:
        return f(arrays)
    size = -(-n // count)
    missing = count * size - n

    def split(a):
        a = jnp.concatenate([a, a[:missing]]) if missing else a
        return a.reshape(count, size, *a.shape[1:])

    values = jax.lax.map(f, jax.tree.map(split, arrays))
    return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:])[:n], values)
