"""Batches of a set that does not fit in memory, read ahead by threads.

The batch of step i is a pure function of (key, i): entries i B .. (i + 1) B - 1 of the stream of
`dfx.data.permutation`, whatever the number of processes. Each process reads its own rows of it and
nothing else. A feed has no state: a resumed run asks for `from_step(step)`.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import jax
import numpy as np

from dfx.data.permutation import Order, order
from dfx.data.records import Batch, Records
from dfx.data.workers import by_processes
from dfx.errors import PersonError


@dataclasses.dataclass(frozen=True, eq=False)
class Feed:
    """Batches by step, from records on disk.

    Attributes:
      records: the examples by number.
      batch_size: B, of the whole batch, over all processes.
      key: a typed key, the name of the stream; the same in every process.
      rows: which rows of each batch are read here, increasing: `train.local_rows(B, mesh)`. None:
        an equal part for each process, in their order.
      threads: batches read at the same time; None: the number of cores, at most 16.
      ahead: batches held ready or being read, at least `threads`; None: 2 + threads. Memory for
        so many local batches is needed.
      processes: 0 reads in this process; more share the steps, each with the threads and the
        batches ahead above (1 and 2 by default), see `dfx.data.workers`.

    Raises:
      PersonError: a number is out of range, or the processes cannot share B equally.
    """

    records: Records
    batch_size: int
    key: jax.Array
    rows: np.ndarray | None = None
    threads: int | None = None
    ahead: int | None = None
    processes: int = 0

    def __post_init__(self):
        if not len(self.records):
            raise PersonError("feed: the records are empty, allowed: at least one example")
        rows = self._rows
        inside = rows.size and rows[0] >= 0 and rows[-1] < self.batch_size
        if not inside or (np.diff(rows) < 1).any():
            raise PersonError(
                f"feed: rows are {rows}, allowed: increasing, from 0 to {self.batch_size - 1}"
            )
        if self._threads < 1 or self._ahead < self._threads or self.processes < 0:
            raise PersonError(
                f"feed: {self._threads} threads of {self.processes} processes read {self._ahead} "
                "batches ahead, allowed: threads from 1 up, no fewer batches, processes from 0 up"
            )

    def indices(self, step: int) -> np.ndarray:
        """Return the numbers of this process's examples in the batch of a step, int64."""
        return self._order.at(int(step) * self.batch_size + self._rows)

    def batch(self, step: int) -> Batch:
        """Return this process's part of the batch of a step; see `Records.take`.

        Raises:
          DataError: a file is torn or gone; the line names it.
        """
        return self.records.take(self.indices(step))

    def from_step(self, step: int) -> Iterator[Batch]:
        """Return the iterator of the batches of steps `step`, `step` + 1, ... without end.

        Reading starts at once, in threads of its own, and stops at the iterator's `close`. An
        error of reading is raised at the step that it belongs to, and ends the stream.

        Raises:
          PersonError: step is negative, or a package for `processes` is not installed.
        """
        if step < 0:
            raise PersonError(f"feed: step is {step}, allowed: 0 or more")
        if not self.processes:
            return Batches(self, int(step), self._threads, self._ahead)
        return by_processes(self.batch, int(step), self.processes, self._threads, self._ahead)

    def __getstate__(self) -> dict:
        """What another process needs; without the key, which lies on a device."""
        return {**self.__dict__, "key": None, "_order": self._order, "_rows": self._rows}

    @functools.cached_property
    def _order(self) -> Order:
        return order(self.key, len(self.records))

    @functools.cached_property
    def _rows(self) -> np.ndarray:
        if self.rows is not None:
            return np.asarray(self.rows, np.int64)
        index, count = jax.process_index(), jax.process_count()
        if self.batch_size < 1 or self.batch_size % count:
            raise PersonError(
                f"feed: batch_size is {self.batch_size}, allowed: multiples of {count} processes"
            )
        share = self.batch_size // count
        return np.arange(index * share, (index + 1) * share)

    @property
    def _threads(self) -> int:
        several = 1 if self.processes else min(os.cpu_count() or 1, 16)
        return several if self.threads is None else self.threads

    @property
    def _ahead(self) -> int:
        more = 1 if self.processes else 2
        return self._threads + more if self.ahead is None else self.ahead


class Batches(Iterator):
    """The batches of a feed in the order of their steps; see `Feed.from_step`."""

    def __init__(self, feed: Feed, step: int, threads: int, ahead: int):
        self._feed, self._next = feed, step
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="feed")
        self._ready: collections.deque[Future] = collections.deque()
        for _ in range(ahead):
            self._ask()

    def __next__(self) -> Batch:
        if not self._ready:
            raise StopIteration
        try:
            batch = self._ready.popleft().result()
        except BaseException:
            self.close()  # what follows a lost batch would be another run
            raise
        self._ask()
        return batch

    def close(self) -> None:
        """Stop reading; batches that were read ahead are dropped."""
        self._ready.clear()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def __enter__(self) -> Batches:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _ask(self) -> None:
        self._ready.append(self._pool.submit(self._feed.batch, self._next))
        self._next += 1
