"""A run folder as a reader sees it: the config, the provenance, the arrays and the metrics."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import FrozenConfigDict

from dfx.errors import PersonError
from dfx.runs import arrays as npz
from dfx.runs import metrics
from dfx.runs.config import from_plain
from dfx.runs.files import read_sealed

CONFIG = "config.json"
PROVENANCE = "provenance.json"
METRICS = "metrics.jsonl"
_CURES = {
    CONFIG: "move the folder away and run again",
    PROVENANCE: "delete that file and run again; what is kept is not computed anew",
}


class MissingRun(PersonError):
    """There is no run in the folder, or it has not got so far."""


class DamagedRun(PersonError):
    """A file of the run is torn or damaged."""


@dataclasses.dataclass(frozen=True)
class Record:
    """A run folder, read only: what analysis works from."""

    folder: Path
    study: str
    size: str
    config: FrozenConfigDict
    provenance: dict[str, Any]

    @property
    def finished(self) -> bool:
        """Whether the run was computed to its end."""
        return self.provenance.get("finished") is not None

    @property
    def figures(self) -> Path:
        """The folder of the figures."""
        return self.folder / "figures"

    def names(self) -> list[str]:
        """Return the names of the arrays kept so far."""
        return sorted(path.stem for path in (self.folder / "arrays").glob("[!.]*.npz"))

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """Return the arrays that the run kept under `name`.

        Raises:
          MissingRun: the run has not computed them yet.
          DamagedRun: their file is torn or damaged.
        """
        path = array_path(self.folder, name)
        try:
            if self.finished and npz.checksum(path) != self.provenance["arrays"].get(name):
                raise npz.Damaged(f"{path} is not what the run kept")
            return npz.load(path)
        except FileNotFoundError:
            state = "finished without it" if self.finished else "not finished"
            raise MissingRun(f"{path} is not there: the run is {state}; run it again") from None
        except npz.Damaged as error:
            raise DamagedRun(f"{error}; run again to compute it anew") from None
        except OSError as error:
            raise DamagedRun(f"{path} cannot be read: {error.strerror}") from None

    def metrics(self, stage: str | None = None) -> dict[str, np.ndarray]:
        """Return the columns logged for a stage: "step" and the values (see `metrics.read`).

        Raises:
          DamagedRun: rows of one column differ in shape; or, when it is asked for, that there is no
            column of that name.
        """
        path = self.folder / METRICS
        try:
            return _Columns(path, stage, metrics.read(path, stage))
        except ValueError as error:
            raise DamagedRun(f"{path} is damaged: {error}") from None

    def stages(self) -> list[str]:
        """Return the stages that have metrics."""
        return metrics.stages(self.folder / METRICS)

    def torn(self) -> list[str]:
        """Return the arrays of a finished run that are now missing, damaged or others."""
        kept = self.provenance.get("arrays", {})
        return [name for name in kept if _checksum(array_path(self.folder, name)) != kept[name]]


class _Columns(dict):
    """Columns by name; one that is missing is a fault of the file."""

    def __init__(self, path: Path, stage: str | None, columns: dict[str, np.ndarray]):
        super().__init__(columns)
        self._where = f"{path} has no {{!r}} of stage {stage!r}"

    def __missing__(self, name: str):
        raise DamagedRun(f"{self._where.format(name)}: it is damaged, or the run is not that far")


def read_run(folder: str | Path) -> Record:
    """Return the record of a run folder.

    Raises:
      MissingRun: there is no run in it.
      DamagedRun: its config or its provenance cannot be read.
    """
    folder = Path(folder)
    about = _read(folder / CONFIG, {"study": str, "size": str, "config": dict})
    if about is None:
        raise MissingRun(f"there is no run in {str(folder)!r}")
    config = from_plain(about["config"])
    provenance = _read(folder / PROVENANCE, {"starts": list, "arrays": dict})
    return Record(folder, about["study"], about["size"], config, provenance or {})


def _read(path: Path, entries: dict[str, type]) -> dict[str, Any] | None:
    """Return what the JSON file holds, None if there is none; `entries` gives names and types."""
    try:
        value = read_sealed(path)
        if all(isinstance(value[name], kind) for name, kind in entries.items()):
            return value
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise MissingRun(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, KeyError):
        pass
    raise DamagedRun(f"{path} is damaged: {_CURES[path.name]}")


def array_path(folder: Path, name: str) -> Path:
    """Return where the arrays called `name` are kept."""
    return folder / "arrays" / f"{name}.npz"


def _checksum(path: Path) -> str | None:
    try:
        return npz.checksum(path)
    except (OSError, npz.Damaged):
        return None
