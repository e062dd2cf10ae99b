"""One mesh of any size: which device holds which part of a state and of a batch.

A mesh has two axes. Both split the batch; "fsdp" splits the parameters too, and with them
everything of their shape: the optimizer's moments and the averages. A mesh of (8, 1) is data
parallel, (1, 8) fully sharded, (2, 4) both. The program is that of one device; XLA adds what has to
be sent. Layouts give the same numbers up to the order of float32 sums.

A state says itself where it lies, so `fit` and `fit_feed` need no mesh: give them a state made by
`init_on` or moved by `move_to`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from dfx.errors import PersonError

AXES = ("data", "fsdp")
#: Arrays of fewer entries are not worth the sending: every device holds them whole.
MIN_SIZE = 2**16


def make_mesh(data: int = -1, fsdp: int = 1, devices: list | None = None) -> Mesh:
    """Return the mesh of `data` by `fsdp` devices, all of them by default.

    Args:
      data: parts of the batch alone; -1 for the devices that are left.
      fsdp: parts of the batch, the parameters and what has their shape; -1 likewise.
      devices: which devices; all of all processes by default.

    Raises:
      PersonError: the two do not multiply to the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    return _lay_out(devices, mesh_shape(data, fsdp, len(devices)))


def device_mesh(devices: list | None = None) -> Mesh:
    """Return the mesh of "data" alone over the given devices (all of them by default).

    It is the mesh of an ensemble (`spread`), whose members no device shares with another.
    """
    devices = jax.devices() if devices is None else devices
    return _lay_out(devices, (len(devices),))


def _lay_out(devices: list, shape: tuple[int, ...]) -> Mesh:
    """Return devices as a mesh of as many of the axes as the shape has sizes."""
    types = (AxisType.Auto,) * len(shape)
    return jax.make_mesh(shape, AXES[: len(shape)], axis_types=types, devices=devices)


def mesh_shape(data: int, fsdp: int, total: int) -> tuple[int, int]:
    """Return the sizes of the mesh `make_mesh(data, fsdp)` on `total` devices, the -1 replaced.

    Raises:
      PersonError: see `make_mesh`.
    """
    shape = [data, fsdp]
    if sorted(shape)[0] == -1 < sorted(shape)[1]:
        shape[shape.index(-1)] = total // max(max(shape), 1)
    if min(shape) < 1 or shape[0] * shape[1] != total:
        raise PersonError(
            f"mesh of data {data} x fsdp {fsdp} on {total} devices: allowed are numbers from 1 up "
            "that multiply to the devices, and one -1 for the rest"
        )
    return shape[0], shape[1]


def state_shardings(state: Any, mesh: Mesh | AbstractMesh, min_size: int = MIN_SIZE) -> Any:
    """Return where each array of a state lies on a mesh.

    An array of at least `min_size` entries is split along the longest of its axes that the size of
    "fsdp" divides; every device holds the others whole.

    Args:
      state: any pytree of arrays or of their shapes.
      mesh: as `make_mesh` makes it, or an abstract one of the same axes.
      min_size: smallest number of entries to split.
    """
    ways = mesh.shape.get("fsdp", 1)

    def where(leaf) -> NamedSharding:
        axes = [axis for axis, length in enumerate(leaf.shape) if length % ways == 0]
        if ways == 1 or leaf.size < min_size or not axes:
            return NamedSharding(mesh, PartitionSpec())
        longest = max(axes, key=lambda axis: leaf.shape[axis])
        return NamedSharding(mesh, PartitionSpec(*[None] * longest, "fsdp"))

    return jax.tree.map(where, state)


def init_on(mesh: Mesh, make_state: Callable, *args: Any, min_size: int = MIN_SIZE) -> Any:
    """Return `make_state(*args)` on a mesh, each part made where it lies.

    A state that is too large for one device is thus never whole on any.

    Args:
      mesh: as `make_mesh` makes it.
      make_state: pure and jit-able, such as a function of a key that calls `init_state`.
      args: its arguments, the same in every process.
      min_size: see `state_shardings`.
    """
    shardings = state_shardings(jax.eval_shape(make_state, *args), mesh, min_size)
    return jax.jit(make_state, out_shardings=shardings)(*put_whole(args, mesh))


def move_to(mesh: Mesh, state: Any, min_size: int = MIN_SIZE) -> Any:
    """Return a state that exists already, the same in every process, on a mesh."""
    return jax.tree.map(_put, state, state_shardings(state, mesh, min_size))


def put_whole(tree: Any, mesh: Mesh) -> Any:
    """Return a pytree, the same in every process, with all of it on every device of a mesh."""
    return jax.tree.map(lambda leaf: _put(leaf, NamedSharding(mesh, PartitionSpec())), tree)


def batch_sharding(mesh: Mesh | AbstractMesh) -> NamedSharding:
    """Return how a batch lies on a mesh: its first axis split over all devices."""
    return NamedSharding(mesh, PartitionSpec(tuple(mesh.axis_names)))


def check_batch(batch_size: int, mesh: Mesh | AbstractMesh | None = None, slices: int = 1) -> int:
    """Return how many samples of each batch this process feeds; all of them to an abstract mesh.

    Args:
      batch_size: samples of a step, on all devices of all processes.
      mesh: None for one device.
      slices: equal parts that a step takes one after the other (`make_step`).

    Raises:
      PersonError: the devices times the slices do not divide the batch.
    """
    devices = 1 if mesh is None else mesh.size
    if batch_size < 1 or slices < 1 or batch_size % (devices * slices):
        where = "" if mesh is None else f" on {_named(mesh)}"
        raise PersonError(
            f"batch of {batch_size} samples{where} in {slices} slices: allowed are multiples of "
            f"{devices * max(slices, 1)}"
        )
    return len(local_rows(batch_size, mesh)) if isinstance(mesh, Mesh) else batch_size


def local_rows(batch_size: int, mesh: Mesh) -> np.ndarray:
    """Return which samples of a batch lie on the devices of this process, increasing."""
    places = batch_sharding(mesh).addressable_devices_indices_map((batch_size,))
    parts = [range(batch_size)[index[0]] for index in places.values() if index is not None]
    return np.unique(np.concatenate([np.arange(part.start, part.stop) for part in parts]))


def put_batch(batch: Any, mesh: Mesh) -> Any:
    """Return the batch on a mesh of which this process has the rows `local_rows`.

    Args:
      batch: a pytree of NumPy arrays, samples first; single numbers are the same in every process.
      mesh: as `make_mesh` makes it.
    """
    share = len(local_rows(mesh.size, mesh))

    def put(leaf):
        leaf = np.asarray(leaf)
        if leaf.ndim == 0:
            return put_whole(leaf, mesh)
        if leaf.shape[0] % share:
            raise PersonError(
                f"a feed of {leaf.shape[0]} samples a step for {share} devices of this process: "
                f"allowed are multiples of {share}"
            )
        count = leaf.shape[0] // share * mesh.size
        rows = local_rows(count, mesh)

        def part(index):
            start, stop, _ = index[0].indices(count)
            first = np.searchsorted(rows, start)
            return leaf[first : first + stop - start]

        shape = (count, *leaf.shape[1:])
        return jax.make_array_from_callback(shape, batch_sharding(mesh), part)

    return jax.tree.map(put, batch)


def constrain_batch(batch: Any, mesh: Mesh) -> Any:
    """Return a batch, inside `jit`, split over all devices of a mesh.

    Raises:
      PersonError: the devices do not divide the batch.
    """

    def split(leaf):
        if jnp.ndim(leaf) == 0:
            return leaf
        if leaf.shape[0] % mesh.size:
            raise PersonError(
                f"batch of {leaf.shape[0]} samples on {_named(mesh)}: allowed are multiples of "
                f"{mesh.size}"
            )
        return jax.lax.with_sharding_constraint(leaf, batch_sharding(mesh))

    return jax.tree.map(split, batch)


def mesh_of(tree: Any) -> Mesh | None:
    """Return the mesh that a pytree of arrays lies on, None if it lies on single devices."""
    shardings = [leaf.sharding for leaf in jax.tree.leaves(tree)]
    on_mesh = all(isinstance(sharding, NamedSharding) for sharding in shardings)
    return shardings[0].mesh if shardings and on_mesh else None


def _put(leaf: Any, sharding: NamedSharding) -> jax.Array:
    """Return an array that every process has, where a sharding says."""
    if jax.process_count() == 1:
        return jax.device_put(leaf, sharding)
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        data = _put(jax.random.key_data(leaf), NamedSharding(sharding.mesh, PartitionSpec()))
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    array = np.asarray(leaf)
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def _named(mesh: Mesh | AbstractMesh) -> str:
    """Return the devices of a mesh in words."""
    sizes = ", ".join(f"{axis} {size}" for axis, size in mesh.shape.items())
    return f"{mesh.size} devices ({sizes})"
