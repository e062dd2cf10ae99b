"""How many points a mixture takes at once, and with which part of a level."""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np

from dfx.blocks import by_blocks

#: Numbers (points x components x coordinates) held at once on a CPU, whose caches they should fit:
#: 64 dimensions and 8 components take 11 us a point in blocks of 64, and 94 all at once.
NUMBERS = 2**15

#: The same elsewhere, where only memory sets the limit.
NUMBERS_ON_ACCELERATORS = 2**26

#: Blocks are not smaller than this: the loop over coordinates would cost more than its contents.
FEWEST = 4


def block_size(num_numbers: int) -> int:
    """Return how many points to take at once if each needs that many numbers."""
    on_cpu = jax.default_backend() == "cpu"
    return max(FEWEST, (NUMBERS if on_cpu else NUMBERS_ON_ACCELERATORS) // num_numbers)


def in_blocks(f: Callable, x, level, size: int):
    """Return f(x, level), which treats each point by itself, taken `size` points at a time.

    Memory is that of one block and of the result. Entries of the level with one number for each
    point, shape (n, 1), are cut with the points; NumPy ones keep all points together, since the
    digits that they have beyond the dtype of x would be lost on the way.
    """
    own = {name: a for name, a in level._asdict().items() if np.shape(a) == (len(x), 1)}
    if len(x) <= size or not all(isinstance(a, jax.Array) for a in own.values()):
        return f(x, level)

    def run(arrays):
        x, own = arrays
        return f(x, level._replace(**own))

    return by_blocks(run, (x, own), size)
