"""The training loop: compiled chunks of steps, with the host between them.

Inside a chunk nothing touches the host: batches are a pure function of (data, step). Between
chunks the host checks that the numbers are finite, calls back for progress and logs, and saves.
Chunks end at the multiples of `chunk`, and chunks of every length run the same compiled program,
so a run that was cut and resumed has the bits of one that was not.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from dfx.errors import PersonError, Stopped
from dfx.train.checkpoint import Checkpoints
from dfx.train.ensemble import num_members
from dfx.train.step import Metrics, State


class NonFinite(Stopped):
    """A loss, a gradient or a parameter became infinite or not a number.

    step: the step that showed it (0 for the first). members: which members of an ensemble, else
    ().
    """

    def __init__(self, message: str, step: int, members: tuple[int, ...] = ()):
        super().__init__(message)
        self.step, self.members = step, members


def fit(
    step: Callable[[State, Any], tuple[State, Metrics]],
    state: State,
    batch_fn: Callable[[Any, jax.Array], Any],
    num_steps: int,
    chunk: int = 100,
    on_chunk: Callable[[State, dict[str, np.ndarray], int], None] | None = None,
    *,
    data: Any = None,
    data_axes: Any = 0,
    checkpoints: Checkpoints | None = None,
    save_every: int = 1,
    allow_nonfinite: bool = False,
) -> State:
    """Return the state after `num_steps` steps, counted from the first step of the run.

    A stacked state (see `ensemble`) is trained as an ensemble: `step` and `batch_fn` are those of
    a single run and are vmapped here.

    Args:
      step: what `make_step` returned. Keep the object: another one is compiled again.
      state: where to start; it stays valid. A restored state goes on from its own step.
      batch_fn: `batch_fn(data, step) -> batch`, pure and jit-able; keep the object, as for `step`.
      num_steps: the step to stop at; a state that is there is returned as it is.
      chunk: steps compiled together; 0.2 to 1 s of work is a good size. 1 is a step without a loop
        around it, which convolutions on a CPU need (`_run_chunk`).
      on_chunk: called as `on_chunk(state, metrics, done)` after each chunk that is finite, with
        the metrics of its steps as NumPy arrays, steps first, and before the chunk is saved. The
        next chunk donates `state`: copy what must outlive the call.
      data: any pytree: the training set, the key of its order. Not closed over, so that other data
        of the same shape need no new compilation.
      data_axes: for an ensemble, the axis of `data` that the members lie on, as in `jax.vmap`'s
        in_axes: 0, None for data that all share, or a tree of these.
      checkpoints: a `Checkpoints`, to save the state in every `save_every` steps and at the end.
      save_every: steps between saves, rounded up to the end of a chunk; 1 saves after every chunk.
      allow_nonfinite: go on when numbers are not finite (a sweep in which some members diverge).

    Raises:
      NonFinite: a chunk met a number that is not finite; nothing of that chunk was saved.
      PersonError: num_steps is less than the state has done, or chunk or save_every is below 1.
    """
    done = steps_done(state)
    _validate(num_steps, done, chunk, save_every)
    state = jax.tree.map(jnp.copy, state)  # the caller keeps its own: what runs below is donated
    data = jax.tree.map(jnp.asarray, data)
    static = {"length": chunk, "data_axes": _hashable(data_axes), "shardings": _shardings(state)}
    run = functools.partial(_run_chunk, step=step, batch_fn=batch_fn, **static)
    try:
        while done < num_steps:
            count = min(chunk - done % chunk, num_steps - done)
            state, table, sound = run(state, data, count)
            metrics = _first_rows(table, count)
            if not allow_nonfinite:
                _check_finite(metrics, np.asarray(sound), done, checkpoints)
            before, done = done, done + count
            if on_chunk is not None:  # before the save: a row may be logged twice, not never
                on_chunk(state, metrics, done)
            due = done == num_steps or done // save_every > before // save_every
            if checkpoints is not None and due:
                checkpoints.save(done, state)
    finally:
        if checkpoints is not None:
            checkpoints.wait()
    return state


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
    the same bits and costs no second compilation.

    One step has no loop: XLA on CPU has no fast gradient of a convolution inside a loop (jax issue
    12868; U-Net of width 16, 28 x 28, batch 64, two cores: 0.57 s a step alone, 10.9 s in a loop).
    """

    def advance(state, data):
        return step(state, batch_fn(data, state.step))

    finite = all_finite
    if num_members(state) is not None:
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


def all_finite(tree: Any) -> jax.Array:
    """Return whether every number of a pytree is finite, as a boolean array of shape ()."""
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))


def _first_rows(table: Metrics, count: int) -> dict[str, np.ndarray]:
    """Return the rows of a chunk's steps, on the host."""
    return jax.tree.map(lambda rows: np.asarray(rows)[:count], table)


def _check_finite(metrics, sound: np.ndarray, done: int, checkpoints: Checkpoints | None) -> None:
    """Raise NonFinite if the chunk that began at step `done` holds a number that is not finite."""
    good = np.isfinite(metrics["loss"]) & np.isfinite(metrics["grad_norm"])
    if good.all() and sound.all():
        return
    good[-1] &= sound  # parameters are looked at once a chunk: all we know is its last step
    row = int(np.argmin(good.reshape(len(good), -1).all(axis=1)))
    members = tuple(int(i) for i in np.flatnonzero(~good[row])) if good.ndim > 1 else ()
    first = members[0] if members else 0
    loss, norm = (np.ravel(metrics[name][row])[first] for name in ("loss", "grad_norm"))
    where = f", member {', '.join(map(str, members))}" if members else ""
    what = "parameters, " if np.isfinite(loss) and np.isfinite(norm) else ""
    raise NonFinite(
        f"not finite at step {done + row}{where}: {what}loss {loss:g}, gradient norm {norm:g}. "
        f"{_how_to_go_on(checkpoints)}",
        done + row,
        members,
    )


def _how_to_go_on(checkpoints: Checkpoints | None) -> str:
    """Return the sentence that says what is saved and what to do."""
    change = "lower the learning rate or set a gradient clip, in a new folder"
    if checkpoints is None or (last := checkpoints.latest()) is None:
        return f"No checkpoint was saved: {change}"
    return (
        f"Last good checkpoint: step {last} in {checkpoints.folder}. The same command resumes "
        f"there and comes to the same numbers; to avoid them, {change}"
    )


def _hashable(tree: Any) -> tuple:
    """Return a pytree as the static argument (structure, leaves), for `jax.tree.unflatten`."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, tuple(leaves)


def _shardings(state: State) -> tuple | None:
    """Return the shardings of a state that lies on a mesh, or None: one device needs none."""
    leaves = jax.tree.leaves(state)
    if not all(isinstance(leaf.sharding, NamedSharding) for leaf in leaves):
        return None
    return _hashable(jax.tree.map(lambda leaf: leaf.sharding, state))


def _validate(num_steps: int, done: int, chunk: int, save_every: int) -> None:
    """Raise a PersonError for numbers of steps that make no sense."""
    for name, number, least in (
        ("num_steps", num_steps, 0),
        ("chunk", chunk, 1),
        ("save_every", save_every, 1),
    ):
        if number < least:
            raise PersonError(f"{name} {number!r}: allowed are numbers from {least} up")
    if num_steps < done:
        raise PersonError(f"num_steps {num_steps!r}: the state has done {done} steps already")
