"""Sets written as shards, for feeds to read: a set that is made once (latents) or repacked.

A split is written into a folder beside its place and moved at the end. A kill at any moment leaves
the old split, or the new one, or files that readers refuse.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import tempfile
from collections.abc import Iterator
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

    They take the place of the split, labels too, if there is one of the same kind.

    Args:
      folder: made if it is not there.
      split: how the names begin.
      values: an array.
      labels: integers (n,), or None.
      num_shards: files of nearly equal length, at most n.

    Raises:
      PersonError: another type, lengths that differ, more shards than rows, or the folder holds
        latents where pictures are given, or pictures where latents are.
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
    (other,) = FIELDS.keys() - {field}
    if held := _files(Path(folder), split, f"_{other}.npy"):
        raise PersonError(f"{held[0]}: the split holds {other}: give another folder or name")
    written = []
    with _in_place_of(Path(folder), split, [f"_{name}.npy" for name in (field, LABELS)]) as place:
        for name, array in parts.items():
            pieces = np.array_split(array, num_shards)
            for file, piece in zip(shard_names(split, num_shards, f"_{name}.npy"), pieces):
                np.save(place / file, np.ascontiguousarray(piece), allow_pickle=False)
                written.append(Path(folder) / file)
    return written


def write_array_records(
    folder: str | os.PathLike, split: str, values, labels=None, num_shards: int = 1
) -> list[Path]:
    """Write pictures or latents (n, ...) and labels (n,), or None, as shards; return the files.

    They take the place of the split, if there is one.

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
    files = shard_names(split, num_shards, ENDING)
    with _in_place_of(Path(folder), split, [ENDING]) as place:
        for file, rows in zip(files, np.array_split(np.arange(len(values)), num_shards)):
            # One record a group: any record is then read alone, as a shuffled order reads them.
            writer = module.ArrayRecordWriter(str(place / file), "group_size:1")
            for row in rows:
                writer.write(pack(*(column[row] for column in columns)))
            writer.close()
    return [Path(folder) / file for file in files]


def pack(*arrays) -> bytes:
    """Return arrays as the bytes of one record; `unpack` is the inverse."""
    buffer = io.BytesIO()
    for array in arrays:
        np.save(buffer, np.asarray(array), allow_pickle=False)
    return buffer.getvalue()


@contextlib.contextmanager
def _in_place_of(root: Path, split: str, endings: list[str]) -> Iterator[Path]:
    """Yield a folder whose files take the place of the split's when the block ends without error.

    Args:
      root: the split's folder, made if it is not there.
      endings: of the names, that of the values first. They go first and come last: labels alone
        are refused by readers, values alone would be a set without labels.
    """
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root, prefix=f".{split}-") as place:
        yield Path(place)
        for old in [path for ending in endings for path in _files(root, split, ending)]:
            old.unlink()
        for ending in reversed(endings):
            for new in _files(Path(place), split, ending):
                os.replace(new, root / new.name)


def _files(root: Path, split: str, ending: str) -> list[Path]:
    """Return the files of a split with that ending, in order."""
    name = re.compile(rf"{re.escape(split)}(-\d+-of-\d+)?{re.escape(ending)}")
    return sorted(path for path in root.glob("*") if name.fullmatch(path.name))
