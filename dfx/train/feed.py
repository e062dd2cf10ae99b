"""The training loop for data that come from the host: sets that no device holds.

A feed has `from_step(step) -> iterator over batches`: those of step, step + 1, .., each a pytree of
NumPy arrays with the rows of this process (`local_rows`) on the first axis. Which samples are in
the batch of a step is a function of (seed, step) alone, so a run resumes from its state. What can
run on the device (flips, dequantisation) is not the feed's work but `make_step`'s `prepare`.

A thread reads ahead and puts batches on the devices while they compute. The step is the compiled
step of `fit`, and between chunks the host does the same.
"""

from __future__ import annotations

import functools
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from dfx.errors import PersonError
from dfx.train.checkpoint import Checkpoints
from dfx.train.cost import Meter
from dfx.train.ensemble import num_members
from dfx.train.fit import all_finite, sharded_step, shardings_of, steps_done
from dfx.train.loop import Chunk, OnChunk, run_chunks, validate
from dfx.train.mesh import mesh_of, put_batch
from dfx.train.step import Metrics, State

READER = "dfx reads ahead"  # the thread's name


class Feed(Protocol):
    """Where batches come from; see the opening text."""

    def from_step(self, step: int) -> Iterator[Any]:
        """Return the batches of the steps from `step` on; closed at the end if it has `close`."""
        ...


def fit_feed(
    step: Callable[[State, Any], tuple[State, Metrics]],
    state: State,
    feed: Feed,
    num_steps: int,
    chunk: int = 100,
    on_chunk: OnChunk | None = None,
    *,
    checkpoints: Checkpoints | None = None,
    save_every: int = 1,
    allow_nonfinite: bool = False,
    meter: Meter | None = None,
    ahead: int = 2,
) -> State:
    """Return the state after `num_steps` steps, counted from the first step of the run.

    Args:
      step, state, num_steps, on_chunk, checkpoints, save_every, allow_nonfinite, meter: see `fit`.
      feed: where batches come from, for this process.
      chunk: steps between two looks at the numbers.
      ahead: how many batches to have on the devices before they are needed, and how many steps to
        hand to the devices before the first is done.

    Raises:
      NonFinite, NotSaved: see `fit`.
      PersonError: as `fit`, or the state is an ensemble, or the feed ended before num_steps.
    """
    done = steps_done(state)
    validate(num_steps, done, chunk, save_every)
    if num_members(state) is not None:
        raise PersonError("an ensemble cannot be fed from the host: train it by fit")
    if ahead < 1:
        raise PersonError(f"ahead {ahead!r}: allowed are numbers of batches from 1 up")
    run = functools.partial(_run_step, step=step, shardings=shardings_of(state))
    mesh = mesh_of(state)
    put = jax.device_put if mesh is None else functools.partial(put_batch, mesh=mesh)
    state = jax.tree.map(jnp.copy, state)  # the caller keeps its own: what runs below is donated
    if done == num_steps:
        return state
    with Ahead(feed.from_step(done), put, ahead) as batches:

        def advance(state, count):
            rows: list[Metrics] = []
            waited = 0.0
            for _ in range(count):
                batch, seconds = batches.take(busy=rows[-1:])
                state, metrics = run(state, batch)
                rows.append(metrics)
                waited += seconds
                jax.block_until_ready(rows[-ahead - 1 : -ahead])  # bounds the batches in flight
            sound = _all_finite(state.params)
            metrics = jax.tree.map(lambda *row: np.stack(row), *jax.device_get(rows))
            return state, Chunk(metrics, np.asarray(sound), waited)

        return run_chunks(
            advance, state, done, num_steps, chunk, on_chunk,
            checkpoints, save_every, allow_nonfinite, meter,
        )  # fmt: skip


@functools.partial(jax.jit, static_argnames=("step", "shardings"), donate_argnames=("state",))
def _run_step(state, batch, *, step, shardings):
    return sharded_step(step, shardings)(state, batch)


_all_finite = jax.jit(all_finite)


class Ahead:
    """A thread that reads batches and puts them on the devices before they are needed.

    Used as a context; leaving it ends the thread after the batch in hand and closes the batches.
    """

    def __init__(self, batches: Iterator[Any], put: Callable[[Any], Any], ahead: int):
        """Read from `batches`, place by `put`, hold at most `ahead`."""
        self._queue: queue.Queue = queue.Queue(ahead)
        self._ended = threading.Event()
        self._thread = threading.Thread(
            target=self._work, args=(batches, put), name=READER, daemon=True
        )

    def take(self, busy: Any = ()) -> tuple[Any, float]:
        """Return the next batch, and for how many seconds the devices waited for it.

        Args:
          busy: arrays that the devices are at work on; until these are done nobody waits.

        Raises:
          PersonError: there are no more batches.
          Exception: what the feed raised.
        """
        try:
            kind, value = self._queue.get_nowait()
            waited = 0.0
        except queue.Empty:
            jax.block_until_ready(busy)
            begin = time.perf_counter()
            kind, value = self._queue.get()
            waited = time.perf_counter() - begin
        if kind == "error":
            raise value
        if kind == "end":
            raise PersonError("the feed ended before the last step: it has to go on for ever")
        return value, waited

    def __enter__(self) -> Ahead:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _work(self, batches: Iterator[Any], put: Callable[[Any], Any]) -> None:
        try:
            for batch in batches:
                self._hand_over("batch", put(batch))
                if self._ended.is_set():
                    return
            self._hand_over("end", None)
        except BaseException as error:  # raised where the batch is taken
            self._hand_over("error", error)
        finally:  # a feed may read ahead by itself
            getattr(batches, "close", lambda: None)()

    def _hand_over(self, kind: str, value: Any) -> None:
        while not self._ended.is_set():
            try:
                return self._queue.put((kind, value), timeout=0.1)
            except queue.Full:
                pass
