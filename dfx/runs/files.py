"""Files that are whole or absent: written beside their place, flushed, then moved into it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

_SEAL = "sha256"


@contextlib.contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path; when the block ends without error, it takes the place of `path`.

    The old file stays until then, so a kill at any moment leaves the old file or the new one, never
    a part. The folder is made if need be.

    Raises:
      OSError: the folder cannot be written, or the disk is full; the old file is untouched.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The same folder, so that the move is a rename; the process id, so that two writers share none.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        _flush(temporary)
        os.replace(temporary, path)
        _flush(path.parent)
    except OSError as error:
        error.add_note(f"while writing {path}")
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Wait until the file (or the folder's list of names) is on the disk."""
    if os.name == "nt":  # Windows flushes neither through a read-only handle
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sweep(folder: Path) -> None:
    """Remove the temporary files that a killed process left in `folder`."""
    for left in folder.glob(".*.tmp"):
        left.unlink(missing_ok=True)


def plain(value: Any) -> Any:
    """Return `value` as JSON knows it: tuples and arrays as lists, their numbers as Python's.

    JSON has no word for a number that is not finite; it becomes the text "nan", "inf" or "-inf",
    which `float` reads back.
    """
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(float(value))
    return plain(np.asarray(value).tolist())


def dumps(value: Any, **options: Any) -> str:
    """Return `plain(value)` as strict JSON text."""
    return json.dumps(plain(value), allow_nan=False, **options)


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as JSON to `path`, whole or not at all."""
    with atomic(path) as temporary:
        temporary.write_text(dumps(value, indent=1) + "\n", encoding="utf-8")


def read_json(path: str | Path) -> Any:
    """Return what the JSON file holds.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is damaged.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def write_sealed(path: str | Path, entries: Mapping[str, Any]) -> None:
    """Write `entries` as JSON with a checksum of all of them, whole or not at all."""
    write_json(path, {**entries, _SEAL: digest(entries)})


def read_sealed(path: str | Path) -> dict[str, Any]:
    """Return the entries that `write_sealed` wrote.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is damaged, by a single changed digit even.
    """
    entries = read_json(path)
    if not isinstance(entries, dict) or entries.pop(_SEAL, None) != digest(entries):
        raise ValueError("it is not what was written")
    return entries


def digest(value: Any) -> str:
    """Return the sha256, in hexadecimal, of `plain(value)` as JSON with sorted keys."""
    text = dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
