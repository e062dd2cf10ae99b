"""Sets written as shards, for feeds to read: a set that is made once (latents) or repacked."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np

from dfx.data.array_records import ENDING, record_module
from dfx.data.npy_shards import FIELDS, LABELS
from dfx.data.records import shard_names
from dfx.errors import PersonError


def write_npy_shards(
    folder: str | os.PathLike, split: str, values, labels=None, num_shards: int = 1
) -> list[Path]:
    """Write pictures (uint8) or latents (float16, float32), (n, ...), as shards; return the files.

    Args:
      folder: made if it is not there.
      split: how the names begin.
      values: an array.
      labels: integers (n,), or None.
      num_shards: files of nearly equal length, at most n.

    Raises:
      PersonError: another type, lengths that differ, or more shards than rows.
    """
    values = np.asarray(values)
    field = next((name for name, types in FIELDS.items() if values.dtype.name in types), None)
    if field is None or values.ndim < 2:
        raise PersonError(
            f"values are {values.dtype} of shape {values.shape}, allowed: (n, ...) of "
            f"{', '.join(name for types in FIELDS.values() for name in types)}"
        )
    if not 1 <= num_shards <= len(values):
        raise PersonError(f"num_shards is {num_shards}, allowed: 1 to the {len(values)} rows")
    parts = {field: values}
    if labels is not None:
        parts[LABELS] = np.asarray(labels, np.int32)
        if parts[LABELS].shape != values.shape[:1]:
            raise PersonError(f"labels are {parts[LABELS].shape}, allowed: {values.shape[:1]}")
    root = Path(folder)
    root.mkdir(parents=True, exist_ok=True)
    written = []
    for name, array in parts.items():
        pieces = np.array_split(array, num_shards)
        for file, piece in zip(shard_names(split, num_shards, f"_{name}.npy"), pieces):
            np.save(root / file, np.ascontiguousarray(piece), allow_pickle=False)
            written.append(root / file)
    return written


def write_array_records(
    folder: str | os.PathLike, split: str, values, labels=None, num_shards: int = 1
) -> list[Path]:
    """Write pictures or latents (n, ...) and labels (n,), or None, as shards; return the files.

    Raises:
      PersonError: lengths that differ, more shards than rows, or array_record is not installed.
    """
    module = record_module()
    columns = (values,) if labels is None else (values, np.asarray(labels, np.int32))
    if len({len(column) for column in columns}) != 1 or not 1 <= num_shards <= len(values):
        raise PersonError(
            f"{', '.join(str(len(column)) for column in columns)} rows in {num_shards} shards, "
            "allowed: one length for all, 1 shard to one a row"
        )
    root = Path(folder)
    root.mkdir(parents=True, exist_ok=True)
    paths = [root / name for name in shard_names(split, num_shards, ENDING)]
    for path, rows in zip(paths, np.array_split(np.arange(len(values)), num_shards)):
        # One record a group: any record is then read alone, as a shuffled order reads them.
        writer = module.ArrayRecordWriter(str(path), "group_size:1")
        for row in rows:
            writer.write(pack(*(column[row] for column in columns)))
        writer.close()
    return paths


def pack(*arrays) -> bytes:
    """Return arrays as the bytes of one record; `unpack` is the inverse."""
    buffer = io.BytesIO()
    for array in arrays:
        np.save(buffer, np.asarray(array), allow_pickle=False)
    return buffer.getvalue()
