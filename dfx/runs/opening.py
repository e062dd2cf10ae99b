"""A run folder opened: by the process that computes it, or by several."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ml_collections import ConfigDict

from dfx.errors import PersonError
from dfx.runs import place, provenance
from dfx.runs.config import from_plain
from dfx.runs.folder import Run, make_folder
from dfx.runs.lock import Lock
from dfx.runs.processes import several
from dfx.runs.shared import join_run

R = TypeVar("R", bound=Run)


def open_run(
    folder: str | Path,
    config: ConfigDict,
    study: str,
    size: str = "default",
    command: str = "",
    start: Mapping[str, Any] | None = None,
) -> Run:
    """Return the run in `folder`, begun anew or reopened, locked for this process.

    With several processes the first one locks it and writes, and all of them have to call this; see
    `dfx.runs.shared`.

    Args:
      command: the command line, kept in the provenance.
      start: what to keep of this start; the default is `provenance.collect`, which imports JAX.

    Raises:
      PersonError: the folder holds another run or other things, cannot be written, or is in use.
        Nothing has been written then.
    """
    folder, frozen = Path(folder), from_plain(config)

    def begin(kind: type[R]) -> R:
        place.check(folder, frozen, study)
        now = provenance.collect(command) if start is None else dict(start)
        new = [path for path in (folder, *folder.parents) if not path.exists()]
        try:
            run = kind(make_folder(folder), frozen, study, size, Lock(folder), new)
        except OSError as error:
            _remove(new)
            raise PersonError(f"{folder} cannot be written: {error.strerror}") from None
        try:
            place.check(folder, frozen, study)  # again, now that nobody else can write
            run.begin(now)
        except BaseException:
            run.close()
            raise
        return run

    return join_run(folder, frozen, study, size, begin) if several() else begin(Run)


def _remove(made: Sequence[Path]) -> None:
    """Remove those of the folders that are there and empty, the innermost first."""
    for folder in made:
        with contextlib.suppress(OSError):
            folder.rmdir()
