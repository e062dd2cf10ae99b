"""Problems of the study `subspace_clustering`: subspaces, points on them, one a member.

Members differ in dimension d, number of samples N of each subspace, and seed, and yet have one
shape: bases have zero columns beyond d, points are padded to the largest N and counted by a size.
Balanced points lie on subspace i mod k, so that the first k N of them are N of each.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from dfx import subspaces, targets, train


class Problems(NamedTuple):
    """Members first: keys (m,), dims and counts (m,), bases (m, k, n, width), points (m, p, n)."""

    keys: jax.Array
    dims: jax.Array
    counts: jax.Array
    bases: jax.Array
    points: jax.Array

    @property
    def sizes(self) -> jax.Array:
        """Points that count, of all subspaces together, (m,)."""
        return self.counts * self.bases.shape[1]


def cells(dims, counts, num_seeds: int) -> tuple[np.ndarray, np.ndarray]:
    """Return d and N of the members of a map, (m,) each: d outermost, then N, then seeds."""
    grid = np.meshgrid(dims, counts, np.arange(num_seeds), indexing="ij")
    return grid[0].ravel().astype(np.int32), grid[1].ravel().astype(np.int32)


def draw(
    key,
    dims,
    counts,
    n: int,
    k: int,
    noise=0.0,
    angle: float = math.pi / 2,
    width: int | None = None,
) -> Problems:
    """Return problems with k subspaces of R^n each.

    Args:
      key: a typed key; member i has the i-th of its split.
      dims, counts: d and N of each subspace, (m,).
      n, k: dimension of the space, number of subspaces.
      noise: standard deviation a coordinate, off the subspaces.
      angle: all principal angles of every two of them, in radians.
      width: columns of the bases; None is the largest d.
    """
    dims, counts = np.asarray(dims, np.int32), np.asarray(counts, np.int32)
    keys = jax.random.split(key, len(dims))
    width = int(dims.max()) if width is None else width
    static = {"n": n, "k": k, "angle": angle, "width": width, "most": k * int(counts.max())}
    bases, points = _draw(keys, dims, np.float32(noise), **static)
    return Problems(keys, jnp.asarray(dims), jnp.asarray(counts), bases, points)


@functools.partial(jax.jit, static_argnames=("n", "k", "angle", "width", "most"))
def _draw(keys, dims, noise, *, n, k, angle, width, most):
    def one(key, d):
        of_bases, of_points = jax.random.split(key)
        bases = targets.random_bases(of_bases, n, (width,) * k, angle) * columns(d, width)
        law = targets.union_of_subspaces(bases, noise)
        return bases, law.sample(of_points, most, balanced=True)

    return jax.vmap(one)(keys, dims)


def columns(d, width: int):
    """Return which of `width` columns exist, 1 or 0, (width,); d may be traced."""
    return (jnp.arange(width) < d).astype(jnp.float32)


def num_devices(num_members: int) -> int:
    """Return on how many devices the members of a program with eigh, SVD or QR are spread evenly.

    On CPU on one. Those three are calls of LAPACK there, which hold a thread of the pool that all
    CPU devices share; a program over two of them was seen to wait for itself for ever (jax 0.10.2).
    """
    return 1 if jax.default_backend() == "cpu" else math.gcd(num_members, jax.device_count())


def spread(tree: Any) -> Any:
    """Put members on their devices, see `num_devices`."""
    count = num_devices(len(jax.tree.leaves(tree)[0]))
    return tree if count == 1 else train.spread(tree, train.device_mesh(jax.devices()[:count]))


def by_cell(values, *shape: int) -> np.ndarray:
    """Return values (m, ..) of members as (dims, counts, seeds, ..)."""
    values = np.asarray(values)
    return values.reshape(*shape, *values.shape[1:])


def principal(problems: Problems) -> np.ndarray:
    """Return the projection distance of the principal subspace from the true one, (m,), k = 1."""
    return np.asarray(_principal(*spread((problems.dims, problems.sizes, *problems[3:]))))


@jax.jit
def _principal(dims, sizes, bases, points):
    def one(d, size, bases, x):
        width, mask = bases.shape[2], jnp.arange(len(x)) < size
        found = subspaces.principal_subspace(x, width, mask)[0]
        # Columns come by falling energy: the first d are the principal subspace of dimension d.
        return subspaces.projection_distance(found * columns(d, width), bases[0])

    return jax.vmap(one)(dims, sizes, bases, points)


def cluster(problems: Problems, d: int, restarts: int, starts: str) -> dict[str, np.ndarray]:
    """Return what K-subspaces finds in problems of one dimension: the largest projection distance
    `error` (m,), and the share of the energy that its subspaces keep, `kept` (m,)."""
    of = problems.keys, problems.sizes, problems.bases[..., :d], problems.points
    found = _clusterer(num_devices(len(problems.keys)), restarts, starts)(*of)
    return dict(zip(("error", "kept"), map(np.asarray, found)))


@functools.cache
def _clusterer(devices: int, restarts: int, starts: str) -> Callable:
    """Return the program over all members. Each device alternates until its own members stand
    still: sharded as one loop they would wait for each other at every turn."""

    def one(key, size, bases, x):
        mask = jnp.arange(len(x)) < size
        dims = (bases.shape[2],) * len(bases)
        found = subspaces.k_subspaces(
            jax.random.fold_in(key, 7), x, dims, mask, restarts, starts=starts
        )
        errors = subspaces.recovery(found.bases, bases).errors
        return errors.max(), found.objective / jnp.where(mask[:, None], x**2, 0).sum()

    mesh = train.device_mesh(jax.devices()[:devices])
    members = PartitionSpec(mesh.axis_names[0])
    return jax.jit(
        jax.shard_map(
            jax.vmap(one), mesh=mesh, in_specs=members, out_specs=members, check_vma=False
        )
    )
