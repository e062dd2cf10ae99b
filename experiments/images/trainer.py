"""One image training within a run folder: begun or gone on with, fed, timed, stopped and logged."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from dfx import data, train
from dfx.runs import read_run, say
from dfx.train.distributed import any_process
from dfx.train.mesh import put_whole
from experiments.images import data as images_data
from experiments.images.data import Pictures
from experiments.images.training import Parts, make_mesh, model_flop

STAGE = "train"  # of the log
PEAK_SIZE = 1024  # of the product that measures a peak which is not listed


class Trainer:
    """A training: its state, its clock, and the way to its end.

    The state is restored on the devices that there are now; without a checkpoint it is made there.
    """

    def __init__(self, config, run, pictures: Pictures, parts: Parts):
        """Find the devices, and what was saved.

        Args:
          config: of the run.
          run: the run folder.
          pictures: what to train on.
          parts: what `make_parts` made of the config.
        """
        self.config, self.run, self.parts = config, run, parts
        self.mesh = make_mesh(config)
        first, self._order = jax.random.split(jax.random.key(config.seed))
        folder, name = run.checkpoint_folder("state"), run.config_hash
        self._checkpoints = train.Checkpoints(folder, name, warn=say)
        restored = self._checkpoints.restore(self._template())
        self.state = restored or train.init_on(self.mesh, parts.make_state, first)
        self.seconds = seconds_until(run.folder, self.done)
        self.peak, self.flop = train.peak_flops(PEAK_SIZE)[0], model_flop(config, parts)
        self.meter = train.Meter(config.train.batch_size, self.flop, self.peak)
        folder = run.checkpoint_folder("snapshots")
        self.snapshots = train.Snapshots(folder, name, config.ema.sigma_rels or (0.1,), say)
        self._advance = self._make_advance(pictures)

    @property
    def done(self) -> int:
        """The number of steps done."""
        return train.steps_done(self.state)

    def run_to_end(self, at_stop: Callable[[train.State, int, bool], Any]) -> None:
        """Train to the end, and call `at_stop(state, done, last)` where averages are judged.

        It is called where the run stands already, too: a kill may have come before it.
        """
        every = self.config.evaluation.every
        kept_every = self.config.ema.snapshot_every
        with Clock(self.config, self.run, self.done, self.seconds) as clock:
            while True:
                done, over = self.done, self._is_over()
                if is_due(done, kept_every) or (over and kept_every > 0):
                    self.snapshots.save(done, self.state)
                if over or is_due(done, every):
                    at_stop(self.state, done, over)
                if over:
                    return
                end = next_end(self.config, done)
                self.state = self._advance(self.state, end, self._on_chunk(clock))

    def _on_chunk(self, clock: Clock) -> Callable:
        """Return what happens after each chunk of steps: the time is counted, numbers are kept."""
        last = time.perf_counter()

        def on_chunk(state, metrics, done):
            nonlocal last
            now = time.perf_counter()
            self.seconds, last = self.seconds + now - last, now
            if train.is_first():
                speed = self.meter.report(last=10)
                row = summary(metrics)
                self.run.log(STAGE, done, **row, seconds=self.seconds, **speed)
                clock.show(done, self.seconds, row["loss"], speed)

        return on_chunk

    def _is_over(self) -> bool:
        """Whether the steps or the minutes are up; the first process has the clock of all."""
        settings = self.config.train
        late = 0 < 60 * settings.minutes <= self.seconds
        return self.done >= settings.num_steps or any_process(train.is_first() and late)

    def _template(self) -> train.State:
        """Return the shapes of the state, and where they are to lie."""
        shapes = jax.eval_shape(self.parts.make_state, jax.random.key(0))
        places = train.state_shardings(shapes, self.mesh)
        return jax.tree.map(
            lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
            shapes, places,
        )  # fmt: skip

    def _make_advance(self, pictures: Pictures) -> Callable:
        """Return (state, step to stop at, on_chunk) -> the state there, by the loop that the data
        need."""
        settings, step = self.config.train, self.parts.step
        options: dict[str, Any] = dict(
            checkpoints=self._checkpoints, save_every=settings.save_every, meter=self.meter
        )
        if self.config.data.kind == images_data.MEMORY:
            columns = pictures.train.take(np.arange(len(pictures.train)))
            held = put_whole((columns, self._order), self.mesh)
            batches = make_batches(settings.batch_size)
            return lambda state, end, on_chunk: train.fit(
                step, state, batches, end, settings.chunk, on_chunk, data=held, **options
            )
        rows = train.local_rows(settings.batch_size, self.mesh)
        feed = data.Feed(pictures.train, settings.batch_size, self._order, rows)
        return lambda state, end, on_chunk: train.fit_feed(
            step, state, feed, end, settings.chunk, on_chunk, **options
        )


class Clock:
    """The bar of a training: over its steps, or over its seconds where these end it."""

    def __init__(self, config, run, done: int, seconds: float):
        """Begin at a number of steps and of seconds that were there before."""
        self._timed = config.train.minutes > 0
        total = round(60 * config.train.minutes) if self._timed else config.train.num_steps
        self._at = round(seconds) if self._timed else done
        unit = "second" if self._timed else "step"
        self._bar = run.progress(total, STAGE, initial=self._at, unit=unit)

    def show(self, done: int, seconds: float, loss: float, speed: dict[str, float]) -> None:
        """Move on to a number of steps and of seconds."""
        now = round(seconds) if self._timed else done
        shown = {name: speed[name] for name in ("images_per_s", "utilisation") if name in speed}
        self._bar.update(now - self._at, loss=loss, **shown)
        self._at = now

    def __enter__(self) -> Clock:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.__exit__(*error)


def is_due(done: int, every: int) -> bool:
    """Whether something is to be done after so many steps; 0 is never."""
    return done > 0 and every > 0 and done % every == 0


def next_end(config, done: int) -> int:
    """Return the step to train to from here: the next stop, or look at the clock, or the end."""
    every = [config.evaluation.every, config.ema.snapshot_every]
    if config.train.minutes > 0:
        every.append(config.train.save_every)
    ends = [(done // n + 1) * n for n in every if n > 0]
    return min([*ends, config.train.num_steps])


def summary(metrics: dict[str, np.ndarray]) -> dict[str, float]:
    """Return one row of the log for the steps of a chunk."""
    row = {name: float(np.mean(metrics[name])) for name in ("loss", "grad_norm")}
    return row | {name: float(metrics[name].sum()) for name in ("skipped",) if name in metrics}


def seconds_until(folder, done: int) -> float:
    """Return for how long the run in a folder had been training when it was at a step."""
    rows = read_run(folder).metrics(STAGE)
    before = np.flatnonzero(rows["step"] <= done)
    return float(rows["seconds"][before[-1]]) if before.size and done else 0.0


@functools.cache  # one function object a size, so that what is compiled for it is found again
def make_batches(batch_size: int) -> Callable:
    """Return (columns and key, step) -> the batch of the step, a tuple of columns."""

    def batch(source, step):
        columns, order = source
        chosen = data.indices(order, step, batch_size, len(columns[0]))
        return tuple(column[chosen] for column in columns)

    return batch
