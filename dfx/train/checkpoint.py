"""Checkpoints of a train state: written in the background, verified when read.

A checkpoint is the folder of its step. orbax writes the leaves of the state, and only a whole
checkpoint gets its final name. Beside them lies a record: format, step, hash of the config, and
for each leaf its name, shape, dtype and sha256. Reading checks all of it, since orbax itself does
not notice a flipped byte. Nothing is pickled.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from dfx.errors import PersonError
from dfx.train import record as records
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
        keep: int = 3,
        warn: Callable[[str], None] | None = None,
    ):
        """Open a folder of checkpoints, which the first `save` makes if there is none.

        Args:
          folder: where the checkpoints lie, one folder a step.
          config_hash: what the run was configured with; checkpoints of another hash are refused.
          keep: how many of the newest checkpoints to keep; from 2 up there is one to fall back on.
          warn: called with one line for each checkpoint refused; `warnings.warn` by default.

        Raises:
          PersonError: keep is below 1.
        """
        if keep < 1:
            raise PersonError(f"keep {keep!r}: allowed are numbers of checkpoints from 1 up")
        self.folder = Path(folder).absolute()
        self.config_hash, self.keep = config_hash, keep
        self.warn = warn or warnings.warn
        self._orbax: Any = None

    def save(self, step: int, state: State) -> None:
        """Save a state as the checkpoint of `step`, in the background.

        The state may be donated as soon as this returns. A checkpoint of the same step or a later
        one, left by a run that this one has fallen back from, is renamed to `refused-STEP`; what a
        save that was cut left half-written is removed.
        """
        import orbax.checkpoint as ocp

        self._set_aside(step)
        record, leaves = records.describe(state, self.config_hash, step)
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(leaves), record=ocp.args.JsonSave(records.seal(record))
        )
        self._manager().save(step, args=items, force=True)

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
            self.warn(f"checkpoint {torn} refused: half-written (in {self.folder})")
        for step in reversed(steps):
            try:
                return self._read(step, template)
            except Refused as reason:
                refused.append(f"checkpoint {step} refused: {reason}")
                self.warn(f"{refused[-1]} (in {self.folder}); trying the one before")
        if refused:
            raise CheckpointError(
                f"no usable checkpoint in {self.folder}: {'; '.join(refused)}. "
                "Move the folder away to start anew"
            )
        return None

    def wait(self) -> None:
        """Return once every save is on disk; call it before the process ends."""
        if self._orbax is not None:
            self._orbax.wait_until_finished()

    def _manager(self) -> Any:
        """Return the orbax manager, made at the first save: its import takes over a second."""
        import orbax.checkpoint as ocp

        if self._orbax is None:
            if jax.process_index() == 0:
                for name in self._torn():
                    shutil.rmtree(self.folder / name)
            options = ocp.CheckpointManagerOptions(max_to_keep=self.keep, create=True)
            self._orbax = ocp.CheckpointManager(self.folder, options=options)
        return self._orbax

    def _set_aside(self, step: int) -> None:
        """Rename the checkpoints of `step` and later: orbax would not save below its newest."""
        later = [old for old in self.steps() if old >= step]
        for old in later:
            target, copy = self.folder / f"refused-{old}", 1
            while target.exists():
                target, copy = self.folder / f"refused-{old}-{copy}", copy + 1
            (self.folder / str(old)).rename(target)
            self.warn(f"checkpoint {old} set aside as {target}: this run now saves step {step}")
        if later:
            self._manager().reload()

    def _torn(self) -> list[str]:
        """Return the names of half-written checkpoints; orbax never takes them for whole ones."""
        names = [path.name for path in self.folder.glob("*.orbax-checkpoint-tmp*")]
        return sorted(name for name in names if name.partition(".")[0].isdigit())

    def _read(self, step: int, template: State) -> State:
        """Return the state of one checkpoint, verified leaf by leaf, or raise Refused."""
        folder = self.folder / str(step)
        record = records.unseal(records.read_json(folder / "record" / "metadata"))
        records.check(record, template, self.config_hash, step)
        return records.read(folder / "state", record, template)
