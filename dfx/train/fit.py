"""The training loop for data on the device: compiled chunks of steps, with the host between them.

Inside a chunk nothing touches the host: batches are a pure function of (data, step). Between
chunks the host checks that the numbers are finite, calls back for progress and logs, and saves.
Chunks end at the multiples of `chunk`, and chunks of every length run the same compiled program,
so a run that was cut and resumed has the bits of one that was not. `feed` has the loop for data
that come from the host.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from dfx.errors import PersonError
from dfx.train.checkpoint import Checkpoints
from dfx.train.cost import Meter
from dfx.train.ensemble import num_members
from dfx.train.loop import Chunk, NonFinite, OnChunk, run_chunks, validate
from dfx.train.mesh import constrain_batch, mesh_of, put_whole
from dfx.train.step import Metrics, State

__all__ = ["NonFinite", "all_finite", "fit", "steps_done"]


def fit(
    step: Callable[[State, Any], tuple[State, Metrics]],
    state: State,
    batch_fn: Callable[[Any, jax.Array], Any],
    num_steps: int,
    chunk: int = 100,
    on_chunk: OnChunk | None = None,
    *,
    data: Any = None,
    data_axes: Any = 0,
    checkpoints: Checkpoints | None = None,
    save_every: int = 1,
    allow_nonfinite: bool = False,
    meter: Meter | None = None,
) -> State:
    """Return the state after `num_steps` steps, counted from the first step of the run.

    A stacked state (see `ensemble`) is trained as an ensemble: `step` and `batch_fn` are those of
    a single run and are vmapped here. A single state that lies on a mesh (see `mesh`) is trained
    there, each batch split over all its devices.

    Args:
      step: what `make_step` returned. Keep the object: another one is compiled again.
      state: where to start; it stays valid. A restored state goes on from its own step.
      batch_fn: `batch_fn(data, step) -> batch`, pure and jit-able; keep the object, as for `step`.
      num_steps: the step to stop at; a state that is there is returned as it is.
      chunk: steps compiled together; 0.2 to 1 s of work is a good size. 1 is a step without a loop
        around it, for nets with `jax.lax` convolutions on a CPU: XLA's gradients of these are slow
        in a loop (jax issue 12868), those of `nets` are not (`nets.convolve`).
      on_chunk: called as `on_chunk(state, metrics, done)` after each chunk that is finite, with
        the metrics of its steps as NumPy arrays, steps first, and before the chunk is saved. The
        next chunk donates `state`: copy what must outlive the call. Every process is called, with
        the same metrics: let the first alone write (`is_first`).
      data: any pytree: the training set, the key of its order. Not closed over, so that other data
        of the same shape need no new compilation. On a mesh every device holds all of it.
      data_axes: for an ensemble, the axis of `data` that the members lie on, as in `jax.vmap`'s
        in_axes: 0, None for data that all share, or a tree of these.
      checkpoints: a `Checkpoints`, to save the state in every `save_every` steps and at the end.
        With it SIGTERM lets the chunk end, saves, and ends the process (see `stopping`).
      save_every: steps between saves, rounded up to the end of a chunk; 1 saves after every chunk.
      allow_nonfinite: go on when numbers are not finite (a sweep in which some members diverge).
        Steps that `make_step` skips are no reason to stop, short of 100 in a row.
      meter: a `Meter`, to measure with.

    Raises:
      NonFinite: a chunk met a number that is not finite; nothing of that chunk was saved.
      NotSaved: a checkpoint could not be written; the one before it is whole.
      PersonError: num_steps is less than the state has done, chunk or save_every is below 1, or
        the devices do not divide the batch.
    """
    done = steps_done(state)
    validate(num_steps, done, chunk, save_every)
    shardings = shardings_of(state)
    state = _copied(state)  # the caller keeps its own: what runs below is donated
    data = _beside(state, data)
    static = {"length": chunk, "data_axes": _hashable(data_axes), "shardings": shardings}
    run = functools.partial(_run_chunk, step=step, batch_fn=batch_fn, **static)

    def advance(state, count):
        state, table, sound = run(state, data, count)
        metrics = jax.tree.map(lambda rows: np.asarray(rows)[:count], table)
        return state, Chunk(metrics, np.asarray(sound))

    return run_chunks(
        advance, state, done, num_steps, chunk, on_chunk,
        checkpoints, save_every, allow_nonfinite, meter,
    )  # fmt: skip


@jax.jit  # one program for the whole state, not one for each shape in it
def _copied(state: State) -> State:
    return jax.tree.map(jnp.copy, state)


def steps_done(state: State) -> int:
    """Return the number of steps that a state has done; all members of an ensemble agree on it."""
    steps = np.unique(np.asarray(state.step))
    if steps.size != 1:
        raise PersonError(f"the members of an ensemble are at different steps: {steps.tolist()}")
    return int(steps[0])


@functools.partial(
    jax.jit,
    static_argnames=("step", "batch_fn", "length", "data_axes", "shardings"),
    donate_argnames=("state",),
)
def _run_chunk(state, data, count, *, step, batch_fn, length, data_axes, shardings):
    """Return the state after `count` steps, `length` rows of metrics, whether params are finite.

    The trip count is traced, not static: the last, shorter chunk is the same program, so it has
    the same bits and costs no second compilation. A chunk of one step has no loop at all.
    """
    stacked = num_members(state) is not None

    def advance(state, data):
        batch = batch_fn(data, state.step)
        return sharded_step(step, None if stacked else shardings)(state, batch)

    finite = all_finite
    if stacked:
        advance = jax.vmap(advance, in_axes=(0, jax.tree.unflatten(*data_axes)))
        finite = jax.vmap(all_finite)

    def body(i, carry):
        state, table = carry
        state, metrics = advance(state, data)
        return state, jax.tree.map(lambda rows, row: rows.at[i].set(row), table, metrics)

    metrics = jax.eval_shape(advance, state, data)[1]
    table = jax.tree.map(lambda m: jnp.zeros((length, *m.shape), m.dtype), metrics)
    if length == 1:
        state, table = body(0, (state, table))
    else:
        state, table = jax.lax.fori_loop(0, count, body, (state, table))
    if shardings is not None:
        state = jax.lax.with_sharding_constraint(state, jax.tree.unflatten(*shardings))
    return state, table, finite(state.params)


def sharded_step(step: Callable, shardings: tuple | None) -> Callable:
    """Return a step, to be jitted, whose batch is split over the mesh and whose state stays there.

    Its metrics are whole on every device, so that every process can read them.

    Args:
      step: what `make_step` returned.
      shardings: what `shardings_of` returned for the state; None returns the step as it is.
    """
    if shardings is None:
        return step
    places = jax.tree.unflatten(*shardings)
    mesh = jax.tree.leaves(places)[0].mesh

    def placed(state, batch):
        state, metrics = step(state, constrain_batch(batch, mesh))
        state = jax.lax.with_sharding_constraint(state, places)
        whole = NamedSharding(mesh, PartitionSpec())
        return state, jax.lax.with_sharding_constraint(metrics, whole)

    return placed


def shardings_of(state: State) -> tuple | None:
    """Return where a state on a mesh lies, as a static argument; None: one device needs none."""
    if mesh_of(state) is None:
        return None
    return _hashable(jax.tree.map(lambda leaf: leaf.sharding, state))


def all_finite(tree: Any) -> jax.Array:
    """Return whether every number of a pytree is finite, as a boolean array of shape ()."""
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))


def _beside(state: State, data: Any) -> Any:
    """Return the data on the device or the mesh of the state: once, not at every chunk."""
    mesh = mesh_of(state)
    if mesh is None:
        return jax.tree.map(jnp.asarray, data)

    def put(leaf):
        there = isinstance(getattr(leaf, "sharding", None), NamedSharding)
        return leaf if there else put_whole(leaf, mesh)

    return jax.tree.map(put, data)


def _hashable(tree: Any) -> tuple:
    """Return a pytree as the static argument (structure, leaves), for `jax.tree.unflatten`."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, tuple(leaves)
