"""K-subspaces: points shared out among subspaces so that most of their energy is kept.

    maximise over U_1, .., U_k and labels z:    sum_i |U_z(i)^T x_i|^2.

Alternately each point goes to the subspace that keeps most of it, and each subspace becomes the
leading right singular space of its points (Bradley & Mangasarian 2000 for planes through the
origin); neither step lowers the sum, and the labels end at a fixed point. That is a local maximum,
so the best of several random starts is returned. Where each subspace has only d_k points, or fewer,
there are many exact maximisers: any split into parts of d_k points keeps all the energy. Which one
comes out then depends on the starts:

    uniform     uniform subspaces, which know nothing of the data;
    points      lines through one random point each, which on orthogonal subspaces without noise
                are at the true partition as soon as the points come from different ones.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from dfx.errors import PersonError, choose
from dfx.subspaces.objective import assign, energies


class Clustering(NamedTuple):
    """What `k_subspaces` finds.

    Attributes:
      bases: shape (k, d, r), columns orthonormal, by falling energy; zero beyond the own d_k.
      labels: shape (n,), integers; of points outside the mask they mean nothing.
      objective: the energy kept, sum_i |U_z(i)^T x_i|^2.
      steps: alternations done from the best start.
      objectives: of all starts, shape (restarts,).
    """

    bases: jax.Array
    labels: jax.Array
    objective: jax.Array
    steps: jax.Array
    objectives: jax.Array


def principal_subspace(x, dim: int, mask=None):
    """Return the principal subspace of points without centring, and the energy it keeps.

    The leading right singular vectors of x: the subspace U that keeps most of sum_i |U^T x_i|^2.
    Directions beyond the rank of x are arbitrary, and orthonormal.

    Args:
      x: shape (n, d).
      dim: the dimension r of the subspace, at most d; static.
      mask: shape (n,), points that count; None means all.

    Returns:
      A basis (d, r), by falling energy, and a number.
    """
    _check_dims(x, (dim,))
    values, basis = _leading(_counted(x, mask), dim)
    return basis, (values**2).sum()


@functools.partial(jax.jit, static_argnames=("dims", "restarts", "max_steps", "starts"))
def k_subspaces(
    key,
    x,
    dims: tuple[int, ...],
    mask=None,
    restarts: int = 10,
    max_steps: int = 50,
    starts: str = "uniform",
    start=None,
) -> Clustering:
    """Return the best clustering into subspaces of these dimensions from several random starts.

    Pure: `vmap` it over keys, points and masks for many problems in one program, which then
    alternates until the slowest start stands still. Padded points cost time and change nothing.
    A step costs k eigenvalue problems of size min(n, d), exact; the bases returned come from one
    singular value decomposition at the labels found, so that no digits are lost to squares.

    Args:
      key: of the starts.
      x: shape (n, d), floating.
      dims: the dimensions d_k, static.
      mask: shape (n,), points that count; None means all.
      restarts: the number of starts, 1 or more.
      max_steps: alternations at most.
      starts: one of `STARTS`.
      start: bases (k, d, r) that take the place of the first random start, such as the true ones.

    Raises:
      PersonError: dimensions or numbers of starts that are not possible, or an unknown kind.
    """
    _check_dims(x, dims)
    if restarts < 1 or max_steps < 1:
        raise PersonError(f"restarts = {restarts}, max_steps = {max_steps}: 1 or more are needed")
    draw = choose("starts", starts, STARTS)
    x = _counted(x, mask)
    begin = jax.vmap(lambda key: draw(key, x, dims))(jax.random.split(key, restarts))
    if start is not None:
        begin = begin.at[0].set(start)
    labels, steps = jax.vmap(lambda bases: _alternate(x, bases, dims, max_steps))(begin)
    bases, objectives = jax.vmap(lambda labels: _fit_exactly(x, labels, dims))(labels)
    best = objectives.argmax()
    return Clustering(bases[best], labels[best], objectives[best], steps[best], objectives)


def _counted(x, mask):
    """Zeros where the mask is: a product would keep what is not a number."""
    return x if mask is None else jnp.where(mask[:, None], x, 0)


def _uniform(key, x, dims):
    shape = (len(dims), x.shape[1], max(dims))
    return jnp.linalg.qr(jax.random.normal(key, shape, x.dtype))[0] * _present(dims, x)


def _through_points(key, x, dims):
    energy = (x**2).sum(1)
    # The largest of log p + Gumbel noise: points without repetition, none of those masked out.
    order = jnp.argsort(-(jnp.log(energy) + jax.random.gumbel(key, energy.shape, x.dtype)))
    points = x[order[jnp.arange(len(dims)) % len(x)]]
    lengths = jnp.maximum(jnp.linalg.norm(points, axis=1), jnp.finfo(x.dtype).tiny)
    lines = (points / lengths[:, None])[:, :, None]
    return jnp.pad(lines, ((0, 0), (0, 0), (0, max(dims) - 1)))


#: Name -> (key, x, dims) -> bases to start from, shape (k, d, max(dims)).
STARTS = {"uniform": _uniform, "points": _through_points}


def _alternate(x, bases, dims, max_steps):
    """Labels at which both steps stand still, and the number of alternations."""

    def more(state):
        _, moved, step = state
        return moved & (step < max_steps)

    def turn(state):
        labels, _, step = state
        new = _fit_and_assign(x, labels, dims)
        return new, (new != labels).any(), step + 1

    first = assign(bases, x)
    labels, _, steps = jax.lax.while_loop(more, turn, (first, jnp.array(True), jnp.array(0)))
    return labels, steps


def _fit_and_assign(x, labels, dims):
    """The labels for the best subspaces at these labels, through the smaller of the two squares."""
    own = jnp.moveaxis(jax.nn.one_hot(labels, len(dims), dtype=x.dtype), 1, 0)
    own = own[:, :, None] * x
    if x.shape[0] > x.shape[1]:
        square = jnp.einsum("kni,nj->kij", own, x, precision="highest")
        basis = jnp.linalg.eigh(square)[1][:, :, ::-1][:, :, : max(dims)]
    else:
        values, vectors = jnp.linalg.eigh(jnp.einsum("kid,kjd->kij", own, own, precision="highest"))
        values, vectors = (a[..., ::-1][..., : max(dims)] for a in (values, vectors))
        # A direction that is not there keeps nothing: it must not be made of rounding.
        least = jnp.finfo(x.dtype).eps * x.shape[0] * values[:, :1]
        scale = jnp.where(values > least, jax.lax.rsqrt(jnp.maximum(values, least)), 0)
        basis = jnp.einsum("knd,knr->kdr", own, vectors * scale[:, None], precision="highest")
    basis = basis * _present(dims, x)[:, :, : basis.shape[2]]
    each = energies(basis, x)
    # Ties stay where they are, so that rounding alone never moves a point.
    mine = jnp.take_along_axis(each, labels[:, None], 1)
    gain = 16 * jnp.finfo(x.dtype).eps * (x**2).sum(1, keepdims=True)
    return jnp.where((each.max(1, keepdims=True) > mine + gain)[:, 0], each.argmax(1), labels)


def _fit_exactly(x, labels, dims):
    own = jnp.moveaxis(jax.nn.one_hot(labels, len(dims), dtype=x.dtype), 1, 0)
    values, bases = jax.vmap(lambda mine: _leading(mine[:, None] * x, max(dims)))(own)
    present = _present(dims, x)
    return bases * present, (values[:, None] ** 2 * present).sum()


def _leading(x, dim):
    """The leading singular values and right singular vectors, (d, dim), orthonormal in any case."""
    missing = max(0, dim - x.shape[0])
    _, values, rows = jnp.linalg.svd(jnp.pad(x, ((0, missing), (0, 0))), full_matrices=False)
    return values[:dim], rows[:dim].T


def _present(dims, x):
    """Which columns exist, shape (k, 1, max(dims))."""
    exists = jnp.arange(max(dims)) < jnp.asarray(dims)[:, None]
    return exists[:, None].astype(x.dtype)


def _check_dims(x, dims):
    if x.ndim != 2 or not dims or min(dims) < 1 or max(dims) > x.shape[1]:
        raise PersonError(f"dims {dims}: numbers from 1 to d are needed for x (n, d), {x.shape}")
