"""The leading directions of a denoiser's Jacobian: what moves the estimate of x0, and where to.

At a point x and a level,

    J = d x0_hat / d x = U diag(s) V^T,

moving x by a small lambda v_i moves x0_hat by lambda s_i u_i. For exact fields J is
(alpha / sigma^2) Cov[x0 | x], symmetric, and u_i = v_i; learned fields need not be. Exact through
all d axes for small samples; for pictures by randomised subspace iteration through jvp and vjp, so
that no (d, d) matrix is made. How many of the values count is `effective_rank`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from dfx.errors import PersonError, choose
from dfx.fields import denoiser
from dfx.fields.field import as_pytree

#: How many directions are taken at once, by default.
CHUNK = 16


class JacobianSVD(NamedTuple):
    """Singular values and directions of a Jacobian at each of n points.

    Attributes:
      left: u_i, directions of x0_hat, shape (n, r, *sample), orthonormal.
      values: s_i, falling, shape (n, r).
      right: v_i, directions of x, shape (n, r, *sample), orthonormal.
    """

    left: jax.Array
    values: jax.Array
    right: jax.Array


def jacobian_svd(
    field: Callable,
    x,
    level,
    rank: int | None = None,
    key=None,
    oversampling: int = 8,
    iterations: int = 3,
    mask=None,
    at_once: int = CHUNK,
) -> JacobianSVD:
    """Return the `rank` largest singular values of d x0_hat / d x at each point, with directions.

    Without a key it is exact: d forward derivatives and n matrices (d, d). With a key the range of
    J is found from m = rank + oversampling random directions, `iterations` times turned by J^T
    and J: (2 iterations + 2) m derivatives, m vectors in memory. The relative error of a value
    falls as (s_(m+1) / s_rank)^(4 iterations + 2), that of a direction as the root of this; both
    are rounding where J has rank m or less.

    Args:
      field: (x, level) -> x0_hat, each sample by itself; a pytree is an argument of the compiled
        program.
      x: points x_t, shape (n, *sample), floating.
      level: their noise level.
      rank: r, at most d; None is all d.
      key: of the random directions, the same for sample i in every batch.
      oversampling: directions more than needed, 0 or more; at most d are taken in all.
      iterations: turns, 0 or more.
      mask: broadcasts against one sample; J is that of mask * x0_hat. None means all of it.
      at_once: directions taken together, which bounds memory.

    Raises:
      PersonError: numbers out of their range.

    Source: Halko, Martinsson & Tropp 2011, algorithms 4.4 and 5.1; for denoisers Chen et al. 2024
    (LOCO Edit), who iterate without oversampling.
    """
    d = math.prod(x.shape[1:])
    rank = d if rank is None else rank
    if not 0 < rank <= d:
        raise PersonError(f"rank = {rank}: allowed are numbers from 1 to {d}, or None")
    if min(oversampling, iterations) < 0 or at_once < 1:
        given = f"oversampling = {oversampling}, iterations = {iterations}, at_once = {at_once}"
        raise PersonError(f"{given}: must not be negative, at_once at least 1")
    width = d if key is None else min(d, rank + oversampling)
    if mask is not None:
        mask = jnp.broadcast_to(jnp.asarray(mask, x.dtype), x.shape[1:])
    parts = _svd(as_pytree(field), x, level, key, mask, width, iterations, at_once)
    return JacobianSVD(*(a[:, :rank] for a in parts))


@functools.partial(jax.jit, static_argnames=("width", "iterations", "at_once"))
def _svd(field, x, level, key, mask, width, iterations, at_once):
    f = lambda x: denoiser(field(x, level)) * (1 if mask is None else mask)  # noqa: E731
    forward = lambda z: jax.jvp(f, (x,), (z,))[1]  # noqa: E731
    backward = lambda z: jax.vjp(f, x)[1](z)[0]  # noqa: E731
    n, d = len(x), math.prod(x.shape[1:])

    def through(turn, columns):
        """J or J^T on every column of (n, d, m)."""
        vectors = jnp.moveaxis(columns, 2, 0).reshape(-1, *x.shape)
        images = jax.lax.map(turn, vectors, batch_size=at_once)
        return jnp.moveaxis(images.reshape(-1, n, d), 0, 2)

    if key is None:
        axes = jnp.broadcast_to(jnp.eye(d, dtype=x.dtype), (n, d, d))
        u, values, rows = jnp.linalg.svd(through(forward, axes), full_matrices=False)
        columns = u
    else:
        # Directions first, so that the ones of a sample are those of every batch.
        keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(n))
        start = jax.vmap(lambda key: jax.random.normal(key, (d, width), x.dtype))(keys)
        q = jnp.linalg.qr(through(forward, start))[0]
        for _ in range(iterations):
            z = jnp.linalg.qr(through(backward, q))[0]
            q = jnp.linalg.qr(through(forward, z))[0]
        small = jnp.swapaxes(through(backward, q), 1, 2)
        u, values, rows = jnp.linalg.svd(small, full_matrices=False)
        columns = jnp.matmul(q, u, precision="highest")
    shape = (n, width, *x.shape[1:])
    return jnp.swapaxes(columns, 1, 2).reshape(shape), values, rows.reshape(shape)


def _first_above(cumulative, whole):
    return 1 + (cumulative <= whole).sum(-1)


def _norm(values, squares, total, share):
    return _first_above(jnp.sqrt(jnp.cumsum(squares, -1)), share * jnp.sqrt(total))


def _energy(values, squares, total, share):
    return _first_above(jnp.cumsum(squares, -1), share * total)


def _entropy(values, squares, total, share):
    p = values / values.sum(-1, keepdims=True)
    return jnp.exp(-jax.scipy.special.xlogy(p, p).sum(-1))


#: Rule -> (values, their squares, the sum of all squares, share) -> rank.
RULES: dict[str, Callable] = {
    "norm": _norm,
    "energy": _energy,
    "stable": lambda values, squares, total, share: total[..., 0] / squares[..., 0],
    "participation": lambda values, squares, total, share: (
        total[..., 0] ** 2 / (squares**2).sum(-1)
    ),
    "entropy": _entropy,
}


def effective_rank(values, share: float = 0.99, rule: str = "norm", total=None):
    """Return how many singular values count, shape values.shape[:-1].

        norm           the first r with sqrt(s_1^2 + .. + s_r^2) > share sqrt(sum s^2): at the
                       default 98 % of the energy, the rule of Wang et al.'s code;
        energy         the first r with s_1^2 + .. + s_r^2 > share sum s^2;
        stable         sum s^2 / s_1^2 (Rudelson & Vershynin 2007);
        participation  (sum s^2)^2 / sum s^4;
        entropy        exp of the entropy of s / sum s (Roy & Vetterli 2007).

    The first two are integers and never above the number of values (+ 1 if the total has more than
    the values reach), the others any number from 1 up; r equal values have rank r under all of
    them, where share is above (r - 1) / r.

    Args:
      values: not negative, falling along the last axis, not all zero.
      share: for "norm" and "energy", in (0, 1).
      rule: one of `RULES`.
      total: sum s^2 of all values, shape values.shape[:-1], where only the leading ones are given;
        not for "entropy".

    Raises:
      PersonError: an unknown rule, a share out of range, or a total with "entropy".

    >>> effective_rank(jnp.array([1.0, 1.0, 0.01]))
    Array(2, dtype=int32)
    """
    measure = choose("rule", rule, RULES)
    if not 0 < share < 1:
        raise PersonError(f"share = {share}: must lie between 0 and 1")
    if total is not None and rule == "entropy":
        raise PersonError("rule 'entropy' needs all values: a total does not replace them")
    values = jnp.asarray(values)
    squares = values**2
    whole = squares.sum(-1) if total is None else jnp.asarray(total)
    found = measure(values, squares, whole[..., None], share)
    # A share within rounding of 1 is not passed by the sum of all.
    return jnp.minimum(found, values.shape[-1]) if total is None else found
