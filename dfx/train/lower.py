"""A training step lowered for devices that are not there: a pod's program checked on a laptop."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import AbstractMesh, AxisType

from dfx.train.fit import sharded_step, shardings_of
from dfx.train.mesh import AXES, MIN_SIZE, batch_sharding, state_shardings


def abstract_mesh(data: int, fsdp: int = 1) -> AbstractMesh:
    """Return the mesh of data x fsdp devices that need not exist (`make_mesh`)."""
    return AbstractMesh((data, fsdp), AXES, axis_types=(AxisType.Auto,) * 2)


def shapes_on(mesh: AbstractMesh, state: Any, min_size: int = MIN_SIZE) -> Any:
    """Return the shapes of a state with where they lie on a mesh (`state_shardings`)."""
    return jax.tree.map(_at, state, state_shardings(state, mesh, min_size))


def bytes_per_device(shapes: Any) -> int:
    """Return how many bytes of a pytree each device holds; equal on all of them.

    Args:
      shapes: arrays, or shapes with shardings as `shapes_on` returns them. Typed keys count as 8
        bytes a key, which is what JAX's default generator has.
    """
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * _bytes(leaf.dtype)
        for leaf in jax.tree.leaves(shapes)
    )


def lower_step(
    step: Callable,
    state: Any,
    batch: Any,
    data: int,
    fsdp: int = 1,
    platform: str = "tpu",
    min_size: int = MIN_SIZE,
) -> Any:
    """Return the step of `fit_feed` lowered for a mesh of data x fsdp devices that need not exist.

    Nothing is computed or compiled. The result is a `jax.stages.Lowered`: its `as_text()` is the
    program with its shardings, its `cost_analysis()` the cost before XLA's passes.

    Args:
      step: what `make_step` returned.
      state: the shapes of the state, `jax.eval_shape(make_state, key)`.
      batch: the shapes of a batch on all devices, samples first.
      data, fsdp: sizes of the mesh (`make_mesh`).
      platform: "tpu", "cuda" or "cpu".
      min_size: see `state_shardings`.

    Raises:
      PersonError: the devices do not divide the batch.
    """
    mesh = abstract_mesh(data, fsdp)
    state = shapes_on(mesh, state, min_size)
    batch = jax.tree.map(lambda leaf: _at(leaf, batch_sharding(mesh)), batch)
    traced = jax.jit(sharded_step(step, shardings_of(state)), donate_argnums=0).trace(state, batch)
    return traced.lower(lowering_platforms=(platform,))


def _at(leaf: Any, sharding: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _bytes(dtype: Any) -> int:
    return 8 if jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key) else dtype.itemsize
