"""A run is a folder: what a study writes, so that it can be killed at any moment and go on.

    config.json       the study, its size and the whole config
    provenance.json   versions, commit, devices, seed, times; every start; when it was finished
    metrics.jsonl     one line for each (stage, step)
    arrays/           results, one npz for each name
    checkpoints/      whatever the training loop keeps
    figures/          pictures, drawn from the rest
    claims.json       what the paper says and what was found

Every file is written whole or not at all, and one process at a time writes a folder.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import FrozenConfigDict

from dfx.runs import arrays as npz
from dfx.runs import metrics, provenance
from dfx.runs.claims import FILE as CLAIMS
from dfx.runs.config import config_hash, to_plain
from dfx.runs.files import sweep, write_sealed
from dfx.runs.lock import NAME as LOCK
from dfx.runs.lock import Lock
from dfx.runs.progress import Progress, say
from dfx.runs.record import CONFIG, METRICS, PROVENANCE, array_path, read_run

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.=+-]*")


class Run:
    """An open run folder. Made by `open_run`; closed by `close` or at the end of a `with` block.

    Attributes:
      folder: where it is.
      config: the frozen config.
      study, size: what is run.
      config_hash: the config's own name, for checkpoints.
    """

    def __init__(
        self,
        folder: Path,
        config: FrozenConfigDict,
        study: str,
        size: str,
        lock: Lock | None,
        made: Sequence[Path] = (),
    ):
        self.folder, self.config, self.study, self.size = folder, config, study, size
        self.config_hash = config_hash(config)
        self._lock, self._made = lock, made
        self._new = not (folder / CONFIG).exists()
        self._plan: tuple[str, ...] = ()
        self._about: dict[str, Any] = {}

    def plan(self, *labels: str) -> None:
        """Say which stages there are, so that progress can show "2/7" beside a stage's label."""
        self._plan = labels

    def arrays(self, name: str, compute: Callable[[], Mapping[str, Any]]) -> dict[str, np.ndarray]:
        """Return the arrays kept under `name`; if there are none yet, compute and keep them.

        A run that was killed calls `compute` only for what is missing. A damaged file is named in a
        warning and computed anew.

        Args:
          name: letters, digits and _ . = + -.
          compute: returns arrays by name; called at most once.
        """
        kept = self.kept(name)
        if kept is not None:
            return kept
        self._keep(name, compute())
        return npz.load(array_path(self.folder, name))

    def kept(self, name: str) -> dict[str, np.ndarray] | None:
        """Return the arrays kept under `name`, None if there are none that are whole."""
        path, before = array_path(self.folder, checked(name)), self._about.get("arrays", {})
        try:
            digest = npz.checksum(path)
            if before.get(name, digest) != digest:
                raise npz.Damaged(f"{path} is not what the run kept")
            kept = npz.load(path)
        except FileNotFoundError:
            return None
        except npz.Damaged as error:
            say(f"warning: {error}: computing it anew")
            return None
        if name in self._plan:
            say(f"{self._label(name)}: kept from before")
        return kept

    def log(self, stage: str, step: int, **values: Any) -> None:
        """Keep numbers (or arrays of numbers) of one step; logged again, they replace the first."""
        metrics.append(self.folder / METRICS, stage, step, values)

    def progress(self, total: int, label: str, initial: int = 0, unit: str = "step") -> Progress:
        """Return a bar: `with run.progress(n, "train") as bar: bar.update(1, loss=loss)`."""
        return Progress(total, self._label(label), initial, unit)

    def checkpoint_folder(self, name: str) -> Path:
        """Return the folder for the checkpoints of `name`, made if need be."""
        return make_folder(self.folder / "checkpoints" / checked(name))

    @property
    def figures(self) -> Path:
        """The folder for figures, made if need be."""
        return make_folder(self.folder / "figures")

    @property
    def finished(self) -> bool:
        """Whether `finish` was called, now or in an earlier process."""
        return self._about.get("finished") is not None

    def finish(self) -> None:
        """Mark the run as computed to its end, with the checksums of its arrays."""
        names = read_run(self.folder).names()
        digests = {name: npz.checksum(array_path(self.folder, name)) for name in names}
        self._note(finished=provenance.now(), arrays=digests)

    def discard_if_empty(self) -> None:
        """Take back a run that was begun just now and has kept nothing: no file of it stays."""
        files = {path.name for path in self.folder.rglob("*") if not path.is_dir()}
        if not self._new or files - {CONFIG, PROVENANCE, LOCK}:
            return
        for path in self.folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        for folder in self._made:
            folder.rmdir()

    def close(self) -> None:
        """Give the folder back to others."""
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _keep(self, name: str, found: Mapping[str, Any]) -> None:
        npz.save(array_path(self.folder, name), found)
        if self._about.get("arrays", {}).pop(name, None):  # of what a finished run had kept
            self._note()

    def _label(self, label: str) -> str:
        if label not in self._plan:
            return label
        return f"[{self._plan.index(label) + 1}/{len(self._plan)}] {label}"

    def _note(self, **entries: Any) -> None:
        self._about |= entries
        write_sealed(self.folder / PROVENANCE, self._about)

    def begin(self, start: dict[str, Any]) -> None:
        """Write config and provenance of a new run, or add a start to those of an old one."""
        for part in (self.folder, self.folder / "arrays"):
            sweep(part)
        metrics.repair(self.folder / METRICS)
        (self.folder / CLAIMS).unlink(missing_ok=True)  # they were of the run as it stood before
        if not (self.folder / CONFIG).exists():
            about = {"study": self.study, "size": self.size, "config": to_plain(self.config)}
            write_sealed(self.folder / CONFIG, about)
        self._about = {"arrays": {}} | read_run(self.folder).provenance
        starts = self._about.get("starts", [])
        changed = provenance.difference(starts[-1], start) if starts else None
        if changed:
            say(f"warning: numbers may differ from before: {changed}")
        self._note(study=self.study, seed=self.config.get("seed"), starts=[*starts, start],
                   finished=None)  # fmt: skip


def make_folder(folder: Path) -> Path:
    """Return the folder, made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def checked(name: str) -> str:
    """Return a name that may be that of a file in a run folder; raise ValueError if it may not."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name for a file: use letters, digits and _ . = + -")
    return name
