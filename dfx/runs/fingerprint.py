"""What a run reads, told by what it holds and not by where it lies.

A config file of a study that reads data has `fingerprint(config) -> str`, made of these; `load`
keeps it as the setting `data.fingerprint`, so that a run does not go on with other data.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

ROWS = 64  # of a split that are looked at, spread over it
FIRST = 1000  # of a set by name, of which no more is decoded


def of_records(name: str, *splits: Any) -> str:
    """Return the name and the start of a sha256: of the lengths, and of rows spread evenly.

    Args:
      name: of the set.
      splits: `dfx.data.Records`.
    """
    digest = hashlib.sha256()
    for records in splits:
        rows = np.unique(np.linspace(0, len(records) - 1, ROWS).astype(np.int64))
        digest.update(f"{len(records)}".encode())
        for column in records.take(rows):
            digest.update(f"{column.dtype}{column.shape}".encode() + column.tobytes())
    return f"{name} {digest.hexdigest()[:16]}"


def of_sets(names: tuple[str, ...], path: str) -> str:
    """Return the fingerprints of sets that `dfx.data.load` knows; one that needs no file has none.

    Raises:
      DataError: a set is not where the path points, or torn.
    """
    return ", ".join(filter(None, (_of_set(name, path) for name in names)))


def of_files(name: str, *paths: Path) -> str:
    """Return the name and the start of a sha256 of the files, one after the other; "" for none."""
    if not paths:
        return ""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return f"{name} {digest.hexdigest()[:16]}"


def _of_set(name: str, path: str) -> str:
    from dfx import data  # here: it imports JAX, which runs without data do not need

    if data.REGISTRY[name].embedded is not None:
        return ""
    sets = (data.load(name, path or None, split, FIRST) for split in ("train", "test"))
    columns = [tuple(c for c in (s.images, s.labels) if c is not None) for s in sets]
    return of_records(name, *map(data.HostArrays, columns))
