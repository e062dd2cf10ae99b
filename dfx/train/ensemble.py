"""Many trainings at once: states stacked along a leading axis, one member a seed or a setting.

A stacked state is an ordinary `State` whose every leaf has the members first, `step` too. `fit`
knows it by that and vmaps the step, so one compiled program trains the whole ensemble. Each
member's numbers are those of the member trained alone, to float32 rounding.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from dfx.errors import PersonError
from dfx.train.mesh import AXES
from dfx.train.step import State


def stack(trees: list) -> Any:
    """Return the members as one pytree with a leading axis: of states, of data, of numbers.

    States are stacked faster by one compiled `jax.jit(jax.vmap(make_state))(keys, rates)`.
    """
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def member(tree: Any, index: int) -> Any:
    """Return one member of a stacked pytree, with the leading axis taken away."""
    return jax.tree.map(lambda leaf: leaf[index], tree)


def num_members(state: State) -> int | None:
    """Return how many members a state holds, or None if it is the state of a single run."""
    return None if state.step.ndim == 0 else state.step.shape[0]


def spread(tree: Any, mesh: Mesh) -> Any:
    """Return a stacked pytree with its members spread evenly over the devices of a mesh.

    Args:
      tree: every leaf has the members first.
      mesh: as `device_mesh` makes it; one device is fine.

    Raises:
      PersonError: the number of members is not a multiple of the number of devices.
    """
    count = jax.tree.leaves(tree)[0].shape[0]
    if count % mesh.size:
        raise PersonError(
            f"{count} members on {mesh.size} devices: allowed are multiples of {mesh.size}"
        )
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec(AXES[0])))
