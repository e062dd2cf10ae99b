"""Batches as a pure function of (key, step).

The stream of examples is epoch after epoch, each a fresh permutation of 0 .. size - 1, cut into
batches; a batch may straddle the edge of an epoch. Position p of the stream is entry p mod size of
permutation p div size, so a resumed run needs the step alone, and any number of devices can draw
the same batch.

A permutation is never stored. Its entry at q is computed from q by a Feistel network: q = L b + R
with L in Z_a and R in Z_b, and in turns

    L <- L + F(R) mod a,        R <- R + G(L) mod b,

with F, G hashes of the key, the epoch and the round. Each line is invertible, so their chain is a
permutation of 0 .. a b - 1; with a = ceil(sqrt(size)) and b = ceil(size / a) that is less than
sqrt(size) numbers too many, and an entry that lands on one of these walks on along its cycle until
it is back below `size`. Source: Black and Rogaway 2002, "Ciphers with Arbitrary Finite Domains",
methods 2 (cycle walking) and 3 (Feistel).
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from dfx.errors import PersonError

#: Pairs of Feistel lines. With six, the 720 orders of six examples still come unequally often
#: (40,000 epochs).
_ROUNDS = 8
#: Above this, two offsets would not add within 32 bits.
_MAX_SIZE = 2**31 - 1


def indices(key, step, batch_size: int, size):
    """Return the indices of the examples in the batch of a step, int32 (batch_size,) in [0, size).

    Over the steps each epoch holds each index exactly once, and epochs differ in their order.

    Args:
      key: a typed key; it names the stream and is not consumed by the step.
      step: 0, 1, 2, ...; a number or a traced scalar below 2**31.
      batch_size: static; it may exceed `size`.
      size: the number of examples, 1 to 2**31 - 1; a number or a traced scalar, so that `vmap` runs
        over data sizes in one program.

    Raises:
      PersonError: batch_size or a concrete size is out of range.

    >>> first = [indices(jax.random.key(0), step, 5, 10) for step in (0, 1)]
    >>> sorted(jnp.concatenate(first).tolist())
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    """
    if batch_size < 1:
        raise PersonError(f"batch_size is {batch_size}, allowed: 1 or more")
    if isinstance(size, int | np.integer) and not 1 <= size <= _MAX_SIZE:
        raise PersonError(f"size is {size}, allowed: 1 to {_MAX_SIZE}")
    return _indices(key, step, batch_size, size)


def batch(data, key, step, batch_size: int, size=None):
    """Return the batch of a step: every leaf of `data` at `indices(key, step, batch_size, size)`.

    Args:
      data: a pytree of arrays with one leading axis, the examples.
      key, step, batch_size: as in `indices`.
      size: use the first `size` examples only; None: all.

    Raises:
      PersonError: the leading axes differ, or a concrete size exceeds them.
    """
    lengths = sorted({len(leaf) for leaf in jax.tree.leaves(data)})
    if len(lengths) != 1:
        raise PersonError(f"leading axes of the data are {lengths}, allowed: one length for all")
    if isinstance(size, int | np.integer) and size > lengths[0]:
        raise PersonError(f"size is {size}, allowed: at most the {lengths[0]} examples of the data")
    chosen = indices(key, step, batch_size, lengths[0] if size is None else size)
    return jax.tree.map(lambda leaf: jnp.asarray(leaf)[chosen], data)


def random_flip(key, images):
    """Return images (n, h, w, c), each mirrored left to right with probability 1/2.

    Picture i has its own coin, a function of (key, i): the same in a batch of any size.
    """
    coins = jax.random.bits(key, (images.shape[0],), jnp.uint32) >> 31
    return jnp.where((coins == 1)[:, None, None, None], images[:, :, ::-1], images)


@functools.partial(jax.jit, static_argnames="batch_size")
def _indices(key, step, batch_size: int, size):
    step, size = (jnp.asarray(a).astype(jnp.uint32) for a in (step, size))
    epoch, offset = _times(step, batch_size, size)
    place = offset + jnp.arange(batch_size, dtype=jnp.uint32)
    # A carry of the sum above would need an offset and a batch of 2**31 each.
    more, place = _divmod(place, size)
    words = jax.random.bits(key, (2 * _ROUNDS + 1,), jnp.uint32)
    return _permute(words, epoch + more, place, size).astype(jnp.int32)


def _times(step, factor: int, size):
    """step * factor div and mod size; the product needs 64 bits, whatever JAX's default is."""
    with jax.enable_x64(True):
        wide = [jax.lax.convert_element_type(a, np.uint64) for a in (step, np.uint32(factor), size)]
        div, mod = _divmod(wide[0] * wide[1], wide[2])
        return tuple(jax.lax.convert_element_type(a, np.uint32) for a in (div, mod))


def _divmod(x, y):
    """x div and mod y by one division: it is the slowest instruction here."""
    div = x // y
    return div, x - div * y


def _wrap(x, bound):
    """x mod bound for x < 2 bound."""
    return jnp.where(x >= bound, x - bound, x)


def _permute(words, epoch, place, size):
    """The permutation of an epoch at `place`, all (n,) uint32; `words` are 2 _ROUNDS + 1."""
    a = _ceil_sqrt(size)
    b = (size + a - 1) // a
    # One word per epoch: a hash of a sum could make epochs shifted copies of each other.
    salt = _hash(epoch ^ words[-1])

    def lines(halves, pair):
        left, right = halves
        left = _wrap(left + _below(_hash(right * _ODD + (salt ^ pair[0])), a), a)
        right = _wrap(right + _below(_hash(left * _ODD + (salt ^ pair[1])), b), b)
        return (left, right), None

    def feistel(q):
        # A scan, not a Python loop: as fast, and half the time to compile.
        (left, right), _ = jax.lax.scan(lines, _divmod(q, b), words[:-1].reshape(_ROUNDS, 2))
        return left * b + right

    walk = functools.partial(jax.lax.while_loop, lambda q: jnp.any(q >= size))
    return walk(lambda q: jnp.where(q >= size, feistel(q), q), feistel(place))


#: The golden ratio times 2**32, made odd: it spreads small numbers over all 32 bits.
_ODD = np.uint32(0x9E3779B1)


def _hash(x):
    """A bijection of uint32: each input bit flips half the output (lowbias32, Wellons 2018)."""
    x = (x ^ (x >> 16)) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * np.uint32(0x846CA68B)
    return x ^ (x >> 16)


def _below(x, bound):
    """floor(x bound / 2**32) without a division: 32 random bits to a number below bound < 2**16."""
    low = ((x & np.uint32(0xFFFF)) * bound) >> 16
    return ((x >> 16) * bound + low) >> 16


def _ceil_sqrt(size):
    """ceil(sqrt(size)): the float32 root is off by at most one, which the comparisons repair."""
    root = jnp.round(jnp.sqrt(size.astype(jnp.float32))).astype(jnp.uint32)
    root = jnp.where(root * root < size, root + 1, root)
    return jnp.where((root - 1) * (root - 1) >= size, root - 1, root)
