"""The host between compiled chunks of steps: checks, calls back, saves, and ends in order.

This is what `fit` and `fit_feed` share; they differ in where batches come from.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from dfx.errors import PersonError, Stopped
from dfx.train.checkpoint import Checkpoints
from dfx.train.cost import Meter
from dfx.train.step import SKIPPED, State
from dfx.train.stopping import notice

OnChunk = Callable[[State, dict[str, np.ndarray], int], None]

#: So many skipped steps in a row are no accident: the parameters or the data are broken.
MAX_SKIPPED = 100


class NonFinite(Stopped):
    """A loss, a gradient or a parameter became infinite or not a number.

    step: the step that showed it (0 for the first). members: which members of an ensemble, else
    ().
    """

    def __init__(self, message: str, step: int, members: tuple[int, ...] = ()):
        super().__init__(message)
        self.step, self.members = step, members


class Chunk(NamedTuple):
    """What a chunk of steps left on the host: its metrics, steps first; whether the parameters are
    finite after it, () or (members,); seconds in which the device waited for data."""

    metrics: dict[str, np.ndarray]
    sound: np.ndarray
    waited: float = 0.0


def run_chunks(
    advance: Callable[[State, int], tuple[State, Chunk]],
    state: State,
    done: int,
    num_steps: int,
    chunk: int,
    on_chunk: OnChunk | None,
    checkpoints: Checkpoints | None,
    save_every: int,
    allow_nonfinite: bool,
    meter: Meter | None,
) -> State:
    """Return the state after `num_steps` steps, chunk by chunk; arguments as in `fit`.

    advance: (state, number of steps) -> the state after them and what they left; it may donate the
    state. done: the steps that the state has done.
    """
    in_a_row = 0
    if checkpoints is not None and done < num_steps:
        checkpoints.prepare()
    with notice(wanted=checkpoints is not None) as stop:
        try:
            while done < num_steps:
                count = min(chunk - done % chunk, num_steps - done)
                begin = time.perf_counter()
                state, left = advance(state, count)
                if meter is not None:
                    meter.add(count, time.perf_counter() - begin, left.waited)
                if not allow_nonfinite:
                    _check_finite(left, done, checkpoints)
                    in_a_row = _check_skipped(left.metrics, in_a_row, done, checkpoints)
                before, done = done, done + count
                if on_chunk is not None:  # before the save: a row may be logged twice, not never
                    on_chunk(state, left.metrics, done)
                due = done == num_steps or done // save_every > before // save_every
                if checkpoints is None:
                    continue
                ending = stop.come()
                if due or ending:
                    checkpoints.save(done, state)
                if ending:
                    checkpoints.wait()
                    stop.obey(f"step {done} is saved in {checkpoints.folder}")
        finally:
            if checkpoints is not None:
                checkpoints.wait()
    return state


def validate(num_steps: int, done: int, chunk: int, save_every: int) -> None:
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


def _check_finite(left: Chunk, done: int, checkpoints: Checkpoints | None) -> None:
    """Raise NonFinite if the chunk that began at step `done` holds a number that is not finite.

    A step that was not taken for that reason is none.
    """
    metrics, sound = left.metrics, left.sound
    good = np.isfinite(metrics["loss"]) & np.isfinite(metrics["grad_norm"])
    good |= np.asarray(metrics.get(SKIPPED, 0), bool)
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


def _check_skipped(metrics, in_a_row: int, done: int, checkpoints: Checkpoints | None) -> int:
    """Return how many steps in a row are skipped at the end of a chunk, or raise NonFinite."""
    for row, skipped in enumerate(np.asarray(metrics.get(SKIPPED, ()), bool)):
        in_a_row = in_a_row + 1 if np.all(skipped) else 0
        if in_a_row == MAX_SKIPPED:
            raise NonFinite(
                f"not finite at step {done + row}, as in the {MAX_SKIPPED - 1} steps before it, "
                f"all of them skipped. {_how_to_go_on(checkpoints)}",
                done + row,
            )
    return in_a_row


def _how_to_go_on(checkpoints: Any) -> str:
    """Return the sentence that says what is saved and what to do."""
    change = "lower the learning rate or set a gradient clip, in a new folder"
    if checkpoints is None or (last := checkpoints.latest()) is None:
        return f"No checkpoint was saved: {change}"
    return (
        f"Last good checkpoint: step {last} in {checkpoints.folder}. The same command resumes "
        f"there and comes to the same numbers; to avoid them, {change}"
    )
