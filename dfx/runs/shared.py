"""A run folder as each of several processes sees it: the first writes, all read.

The folder lies on a disk that all of them see, which is looked at before the first step. Where the
first process fails, the others end with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import FrozenConfigDict

from dfx.errors import PersonError
from dfx.runs import arrays as npz
from dfx.runs.config import config_hash, first_difference
from dfx.runs.folder import Run
from dfx.runs.processes import by_first, is_first, together
from dfx.runs.record import CONFIG, array_path, read_run


class SharedRun(Run):
    """An open run folder in one of several processes; the calls of all of them are the same."""

    def arrays(self, name: str, compute: Callable[[], Mapping[str, Any]]) -> dict[str, np.ndarray]:
        """Return the arrays kept under `name`, the very same in every process.

        The first process decides whether they are there. If not, all of them compute, since what
        is computed may need the devices of all; what the first one has found is kept, and read by
        all.

        Args:
          name: see `Run.arrays`.
          compute: likewise; its arrays have to be whole in the first process alone.
        """
        if not by_first(lambda: self.kept(name) is not None):
            found = compute()
            by_first(lambda: self._keep(name, found))
        return npz.load(array_path(self.folder, name))

    def log(self, stage: str, step: int, **values: Any) -> None:
        """Keep numbers of one step, as the first process has them."""
        if is_first():
            super().log(stage, step, **values)

    def finish(self) -> None:
        """Mark the run as computed to its end, once all processes have come here."""
        by_first(super().finish)
        self._about |= read_run(self.folder).provenance

    def discard_if_empty(self) -> None:
        """Take back a run that was begun just now and has kept nothing."""
        if is_first():
            super().discard_if_empty()


def join_run(
    folder: Path,
    config: FrozenConfigDict,
    study: str,
    size: str,
    begin: Callable[[type[SharedRun]], SharedRun],
) -> SharedRun:
    """Return the run that the first process begins, in every process.

    Args:
      folder, config, study, size: see `open_run`.
      begin: opens the folder, as a run of the class it is given, and locks it.

    Raises:
      PersonError: in every process, if the folder cannot be opened, or not all processes see it, or
        one was given another config.
    """
    opened = together(lambda: begin(SharedRun) if is_first() else None)
    try:
        together(lambda: _check_seen(folder, config))
    except BaseException:
        if opened is not None:
            opened.close()
        raise
    return opened or SharedRun(folder, config, study, size, lock=None)


def _check_seen(folder: Path, config: FrozenConfigDict) -> None:
    """Raise a PersonError unless this process sees the run that the first one has begun."""
    if not (folder / CONFIG).exists():
        raise PersonError(f"{folder} is not seen here: it has to lie on a disk that all share")
    there = read_run(folder).config
    if config_hash(there) != config_hash(config):
        setting, first, here = first_difference(there, config) or ("the config", "one", "another")
        raise PersonError(f"{setting} is {first} in process 0 and {here} here")
