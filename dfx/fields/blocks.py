"""How many points and directions are taken at a time: blocks whose values stay in cache.

A derivative along m directions at n points is m n rows through the layers of a net. On a CPU it is
fastest where the values of one layer, for the rows taken at once, fit into the cache of a core; a
block also bounds the memory. How wide a layer is, is read off what its linear map keeps of a point.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

#: Bytes that the values of the widest layer may take in a block. On a CPU half of a second-level
#: cache of 2 MiB: a layer reads one array of this size and writes another. Elsewhere a bound of
#: memory alone.
WORKING_SET = {"cpu": 2**20}
ELSEWHERE = 2**28


@dataclasses.dataclass(frozen=True)
class Marked:
    """A function of points that says whether it treats each by itself and holds nothing of one."""

    function: Callable
    pointwise: bool

    def __call__(self, x):
        return self.function(x)


def is_pointwise(f: Callable) -> bool:
    """Return whether f says of itself that it may be given any of its points alone."""
    return bool(getattr(f, "pointwise", False))


def is_shared(tree: Any) -> bool:
    """Return whether all arrays of a tree are the same for every sample: scalars or leading 1."""
    return all(jnp.ndim(a) == 0 or jnp.shape(a)[0] == 1 for a in jax.tree.leaves(tree))


def rows_at_once(f: Callable, x) -> int:
    """Return how many rows of f, points times directions, are to be taken at a time; at least 1.

    Args:
      f: (n, *sample) -> any shape with the batch axis first. It is traced, not run.
      x: points, shape (n, *sample).
    """
    kept = jax.eval_shape(lambda x: jax.linearize(f, x)[1], x)
    arrays = [a for a in jax.tree.leaves(kept) if a.shape[:1] == x.shape[:1]]
    row = max(math.prod(a.shape[1:]) * a.dtype.itemsize for a in [*arrays, x])
    return max(1, WORKING_SET.get(jax.default_backend(), ELSEWHERE) // max(row, 1))
