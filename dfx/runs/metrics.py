"""Metrics: one JSON line for each (stage, step), appended as they come and read back as columns.

Each ends in a checksum of itself, so that a changed digit does not go unseen.
"""

from __future__ import annotations

import errno
import json
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from dfx.runs.files import dumps
from dfx.runs.progress import say


def append(path: Path, stage: str, step: int, values: dict[str, Any]) -> None:
    """Append one row; a value is a number or an array of numbers (one for each seed, say).

    The row reaches the operating system in one write before this returns, so a kill loses at most
    the row in hand.

    Raises:
      OSError: the disk is full; the rows before are whole.
    """
    row = {"stage": stage, "step": int(step)}
    row |= {name: np.asarray(value, np.float64) for name, value in values.items()}
    line = _seal(dumps(row).encode()) + b"\n"
    with open(path, "ab", buffering=0) as file:
        try:
            if file.write(line) < len(line):  # the last bytes of the disk took a part of it
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            error.add_note(f"while writing {path}")
            raise


def repair(path: Path) -> None:
    """Cut off a last line that a kill left half-written, so that the next row starts a line."""
    if not path.exists():
        return
    text = path.read_bytes()
    whole = text.rfind(b"\n") + 1
    if whole < len(text):
        with open(path, "r+b") as file:
            file.truncate(whole)


def read(path: Path, stage: str | None = None) -> dict[str, np.ndarray]:
    """Return the rows of one stage (of all, if None) as columns, sorted by step.

    A (stage, step) that was logged again, after a resume, counts once, as last logged. Columns:
    "step" int64 (n,), and for each value float64 (n, *shape), nan where a row lacks it.
    """
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    for row in _rows(path):
        if stage is None or row["stage"] == stage:
            rows[row["stage"], row["step"]] = row
    ordered = sorted(rows.values(), key=lambda row: row["step"])
    names = dict.fromkeys(name for row in ordered for name in row if name not in ("stage", "step"))
    columns = {"step": np.asarray([row["step"] for row in ordered], np.int64)}
    return columns | {name: _column([row.get(name) for row in ordered]) for name in names}


def stages(path: Path) -> list[str]:
    """Return the names of the stages in the order of their first rows."""
    return list(dict.fromkeys(row["stage"] for row in _rows(path)))


def _column(values: list[np.ndarray | None]) -> np.ndarray:
    shape = next(value.shape for value in values if value is not None)
    return np.stack([np.full(shape, np.nan) if value is None else value for value in values])


def _seal(text: bytes) -> bytes:
    """A JSON object with the entry "crc32", that of the text without it."""
    return text[:-1] + b', "crc32": "%08x"}' % zlib.crc32(text)


def _unseal(line: bytes) -> bytes:
    text = line.rpartition(b', "crc32": ')[0] + b"}"
    if _seal(text) != line:
        raise ValueError("it is not what was written")
    return text


def _row(row: dict[str, Any]) -> dict[str, Any]:
    values = {k: np.asarray(v, np.float64) for k, v in row.items() if k not in ("stage", "step")}
    return {"stage": str(row["stage"]), "step": int(row["step"]), **values}


def _rows(path: Path) -> list[dict[str, Any]]:
    rows = []
    lines = path.read_bytes().split(b"\n") if path.exists() else [b""]
    for number, line in enumerate(lines[:-1], 1):  # what follows the last newline is half a line
        try:
            rows.append(_row(json.loads(_unseal(line))))
        except ValueError:
            say(f"warning: line {number} of {path} is damaged and is left out")
    return rows
