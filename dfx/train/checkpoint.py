"""Checkpoints of a train state: written in the background, verified when read.

A checkpoint is the folder of its step. orbax writes the leaves of the state, and only a whole
checkpoint gets its final name. Beside them lies a record: format, step, hash of the config, and
for each leaf its name, shape, dtype and sha256. Reading checks all of it, since orbax itself does
not notice a flipped byte. Nothing is pickled.
"""

from __future__ import annotations

import contextlib
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dfx.errors import PersonError
from dfx.train import disk
from dfx.train import record as records
from dfx.train.distributed import any_process, is_first, wait_for_all
from dfx.train.record import Refused
from dfx.train.step import State


class CheckpointError(PersonError):
    """Checkpoints exist, but none of them can be used."""


class Checkpoints:
    """The checkpoints of one run, in one folder.

    Example:
      checkpoints = Checkpoints(workdir / "checkpoints", config_hash)
      state = checkpoints.restore(state) or state
      state = fit(step, state, batch_fn, num_steps, checkpoints=checkpoints)
    """

    def __init__(
        self,
        folder: str | Path,
        config_hash: str,
        keep: int | None = 3,
        warn: Callable[[str], None] | None = None,
    ):
        """Open a folder of checkpoints, which the first `save` makes if there is none.

        Args:
          folder: where the checkpoints lie, one folder a step; with several processes one that all
            of them see.
          config_hash: what the run was configured with; checkpoints of another hash are refused.
          keep: how many of the newest checkpoints to keep, None for all; from 2 up there is one to
            fall back on.
          warn: called with one line for each checkpoint refused; `warnings.warn` by default.

        Raises:
          PersonError: keep is below 1.
        """
        if keep is not None and keep < 1:
            raise PersonError(f"keep {keep!r}: allowed are numbers of checkpoints from 1 up")
        self.folder = Path(folder).absolute()
        self.config_hash, self.keep = config_hash, keep
        self.warn = warn or warnings.warn
        self._orbax: Any = None
        self._saving: int | None = None

    def prepare(self) -> None:
        """Make the folder, and see that it can be written, before hours go into what to save.

        Raises:
          NotSaved: it cannot.
        """
        with self._writing("checkpoints"):
            disk.check_writable(self.folder)

    def save(self, step: int, state: State) -> None:
        """Save a state as the checkpoint of `step`, in the background.

        The state may be donated as soon as this returns. A checkpoint of the same step or a later
        one, left by a run that this one has fallen back from, is renamed to `refused-STEP`; what a
        save that was cut left half-written is removed.

        Raises:
          NotSaved: this save, or the one under way, could not be written; those before are whole.
        """
        import orbax.checkpoint as ocp

        self._set_aside(step)
        record, leaves = records.describe(state, self.config_hash, step)
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(leaves), record=ocp.args.JsonSave(records.seal(record))
        )
        with self._writing(f"checkpoint {step}"):
            self.folder.mkdir(parents=True, exist_ok=True)
            disk.check_room(self.folder, leaves)
            self._manager().save(step, args=items, force=True)
        self._saving = step

    def steps(self) -> list[int]:
        """Return the steps of the whole checkpoints on disk, oldest first, unread."""
        self.wait()
        names = [path.name for path in self.folder.glob("*")] if self.folder.is_dir() else []
        return sorted(int(name) for name in names if name.isdigit())

    def latest(self) -> int | None:
        """Return the newest step on disk, or None; it is not read or verified."""
        return max(self.steps(), default=None)

    def restore(self, template: State) -> State | None:
        """Return the newest checkpoint that is whole and of this run, or None if there are none.

        Each newer one that cannot be used is named in one warning line, with the reason.

        Args:
          template: a state of the same shapes, for example the initial one or its
            `jax.eval_shape`; the result lies on the devices that the template's leaves lie on.

        Raises:
          CheckpointError: there are checkpoints, and none of them can be used.
        """
        steps, refused = self.steps(), []
        for name in self._torn():
            torn = name.partition(".")[0]
            self._say(f"checkpoint {torn} refused: half-written (in {self.folder})")
        for step in reversed(steps):
            try:
                return self.read(step, template)
            except Refused as reason:
                refused.append(f"checkpoint {step} refused: {reason}")
                self._say(f"{refused[-1]} (in {self.folder}); trying the one before")
        if refused:
            raise CheckpointError(
                f"no usable checkpoint in {self.folder}: {'; '.join(refused)}. "
                "Move the folder away to start anew"
            )
        return None

    def read(self, step: int, template: Any) -> Any:
        """Return the state of one checkpoint, verified leaf by leaf.

        Args:
          step: one of `steps()`.
          template: what was saved, or its shapes; see `restore`.

        Raises:
          Refused: it is damaged, of another run, or of other shapes; in any process.
        """
        folder, found, reason = self.folder / str(step), None, None
        try:
            record = records.unseal(records.read_json(folder / "record" / "metadata"))
            records.check(record, template, self.config_hash, step)
            found = records.read(folder / "state", record, template)
        except Refused as error:
            reason = error
        if any_process(reason is not None):
            raise reason or Refused("another process could not read it")
        return found

    def wait(self) -> None:
        """Return once every save is on disk; call it before the process ends.

        Raises:
          NotSaved: the one under way could not be written.
        """
        if self._orbax is not None:
            with self._writing(f"checkpoint {self._saving}"):
                self._orbax.wait_until_finished()

    def _say(self, line: str) -> None:
        """Warn, once for all processes."""
        if is_first():
            self.warn(line)

    def _writing(self, what: str) -> contextlib.AbstractContextManager[None]:
        return disk.writing(what, self.folder, self._clear)

    def _clear(self) -> None:
        """Remove what is half-written; no save may be under way."""
        if is_first():
            for name in self._torn():
                shutil.rmtree(self.folder / name, ignore_errors=True)

    def _manager(self) -> Any:
        """Return the orbax manager, made at the first save: its import takes over a second."""
        import orbax.checkpoint as ocp

        if self._orbax is None:
            self._clear()
            disk.quiet_orbax()
            options = ocp.CheckpointManagerOptions(max_to_keep=self.keep, create=True)
            self._orbax = ocp.CheckpointManager(self.folder, options=options)
        return self._orbax

    def _set_aside(self, step: int) -> None:
        """Rename the checkpoints of `step` and later: orbax would not save below its newest."""
        later = [old for old in self.steps() if old >= step]
        wait_for_all(f"checkpoint {step}: all have looked")
        for old in later if is_first() else []:
            target, copy = self.folder / f"refused-{old}", 1
            while target.exists():
                target, copy = self.folder / f"refused-{old}-{copy}", copy + 1
            (self.folder / str(old)).rename(target)
            self._say(f"checkpoint {old} set aside as {target}: this run now saves step {step}")
        wait_for_all(f"checkpoint {step}: the way is free")
        if later:
            self._manager().reload()

    def _torn(self) -> list[str]:
        """Return the names of half-written checkpoints; orbax never takes them for whole ones."""
        names = [path.name for path in self.folder.glob("*.orbax-checkpoint-tmp*")]
        return sorted(name for name in names if name.partition(".")[0].isdigit())
