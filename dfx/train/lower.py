"""A training step lowered for devices that are not there: a pod's program checked on a laptop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import AbstractMesh, AxisType

from dfx.train.fit import sharded_step, shardings_of
from dfx.train.mesh import AXES, MIN_SIZE, batch_sharding, state_shardings


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
    mesh = AbstractMesh((data, fsdp), AXES, axis_types=(AxisType.Auto,) * 2)

    def at(leaf, sharding):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    state = jax.tree.map(at, state, state_shardings(state, mesh, min_size))
    batch = jax.tree.map(lambda leaf: at(leaf, batch_sharding(mesh)), batch)
    traced = jax.jit(sharded_step(step, shardings_of(state)), donate_argnums=0).trace(state, batch)
    return traced.lower(lowering_platforms=(platform,))
