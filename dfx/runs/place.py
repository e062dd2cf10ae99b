"""Whether a folder can take a run: looked at before anything is written."""

from __future__ import annotations

import os
from pathlib import Path

from ml_collections import ConfigDict

from dfx.errors import PersonError
from dfx.runs.config import config_hash, first_difference, to_plain
from dfx.runs.lock import NAME as LOCK
from dfx.runs.record import CONFIG, read_run


def default_folder(study: str, size: str, config: ConfigDict, base: ConfigDict) -> Path:
    """Return runs/STUDY-SIZE, with the first 8 digits of the config's hash if it is not `base`;
    what the data are found to be makes no other name."""
    settings = [to_plain(config), to_plain(base)]
    for plain in settings:
        plain.get("data", {}).pop("fingerprint", None)
    same = config_hash(settings[0]) == config_hash(settings[1])
    return Path("runs") / (f"{study}-{size}" + ("" if same else f"-{config_hash(config)[:8]}"))


def check(folder: Path, config: ConfigDict, study: str) -> None:
    """Return if `folder` is free for this run or holds it already.

    Raises:
      PersonError: it holds another run (the first setting that differs is named) or things that
        are no run, a file is in its way, or it cannot be written.
    """
    try:
        _check_way(folder)
        if (folder / CONFIG).exists():
            _check_same(folder, config, study)
        elif folder.exists():
            _check_empty(folder)
    except OSError as error:
        raise PersonError(f"{str(folder)!r} cannot be used: {error.strerror}") from None


def _check_way(folder: Path) -> None:
    there = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    if not there.is_dir():
        raise PersonError(f"{there} is in the way: it is no folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise PersonError(f"{there} cannot be written: permission denied")


def _check_same(folder: Path, config: ConfigDict, study: str) -> None:
    old = read_run(folder)
    other = "choose another --workdir or delete the folder"
    if old.study != study:
        raise PersonError(f"{folder} holds a run of {old.study}, not of {study}: {other}")
    different = first_difference(old.config, config)
    if different:
        setting, was, now = different
        message = f"{folder} holds another run: {setting} is {was} there and {now} here: {other}"
        raise PersonError(message)


def _check_empty(folder: Path) -> None:
    # A run killed in its first moment leaves its lock and, it may be, a temporary file.
    other = [p.name for p in folder.iterdir() if p.name != LOCK and not _temporary(p)]
    if other:
        found = ", ".join(sorted(other)[:3]) + (", ..." if len(other) > 3 else "")
        message = f"{folder} is no run folder: it holds {found}; choose an empty or a new folder"
        raise PersonError(message)


def _temporary(path: Path) -> bool:
    return path.name.startswith(f".{CONFIG}.") and path.name.endswith(".tmp")
