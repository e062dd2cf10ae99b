"""The order of `batches`, on the host: the same permutations, without a device.

A set that is read from disk comes in the order in which `data.indices` draws one in memory, number
for number, so that moving a set from memory to disk does not change a run. The threads that read
ahead compute it in NumPy: a batch of 256 takes about a millisecond.
"""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from dfx.data.batches import _MAX_SIZE, _ODD, _ROUNDS, _below, _divmod, _hash
from dfx.errors import PersonError


@dataclasses.dataclass(frozen=True, eq=False)
class Order:
    """The stream of examples, epoch after epoch; see `dfx.data.batches` for the permutation.

    words: the random words of the key, uint32. size: the number of examples.
    """

    words: np.ndarray
    size: int

    def at(self, positions) -> np.ndarray:
        """Return the examples at positions 0, 1, 2, ... of the stream, int64 of their shape (n,).

        Entries step * batch_size + (0 .. batch_size - 1) are `data.indices(key, step, ...)`.
        """
        epoch, place = np.divmod(np.asarray(positions, np.int64), self.size)
        salt = _hash(epoch.astype(np.uint32) ^ self.words[-1])
        place = self._feistel(place.astype(np.uint32), salt)
        while (out := place >= self.size).any():
            place[out] = self._feistel(place[out], salt[out])
        return place.astype(np.int64)

    def _feistel(self, place, salt):
        root = math.isqrt(self.size - 1) + 1
        a, b = np.uint32(root), np.uint32(-(-self.size // root))
        left, right = _divmod(place, b)
        for one, other in self.words[:-1].reshape(_ROUNDS, 2):
            left = (left + _below(_hash(right * _ODD + (salt ^ one)), a)) % a
            right = (right + _below(_hash(left * _ODD + (salt ^ other)), b)) % b
        return left * b + right


def order(key, size: int) -> Order:
    """Return the order that a key gives to `size` examples.

    Args:
      key: a typed key; it names the stream.
      size: 1 to 2**31 - 1.

    Raises:
      PersonError: the size is out of range.

    >>> sorted(order(jax.random.key(0), 5).at(np.arange(5)).tolist())
    [0, 1, 2, 3, 4]
    """
    if not 1 <= size <= _MAX_SIZE:
        raise PersonError(f"size is {size}, allowed: 1 to {_MAX_SIZE}")
    return Order(np.asarray(jax.random.bits(key, (2 * _ROUNDS + 1,), jnp.uint32)), size)
