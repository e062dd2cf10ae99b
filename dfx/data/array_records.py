"""Shards of array-records: files of records that are read in any order, as tfds and grain use.

SPLIT-00000-of-00008.array_record, ... A record is bytes: here a picture or latent and, if there is
one, a label, each as an .npy file, one after the other; for records of another make give `decode`.
Needs the packages of the extra `images`.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from dfx.data.layout import DataError, one_line
from dfx.data.records import Batch, Cuts, shard_files
from dfx.errors import PersonError

ENDING = ".array_record"


@dataclasses.dataclass(frozen=True, eq=False)
class ArrayRecords:
    """Records in shards of array-records; see `array_records`.

    folder, split, paths, readers: where they lie. decode: bytes to the arrays of one example.
    """

    folder: Path
    split: str
    paths: tuple[Path, ...]
    readers: tuple[Any, ...]
    decode: Callable[[bytes], tuple[np.ndarray, ...]]

    def __len__(self) -> int:
        return len(self._cuts)

    def __reduce__(self):
        """Another process opens the files anew."""
        return array_records, (self.folder, self.split, self.decode)

    def take(self, indices: np.ndarray) -> Batch:
        """See `Records.take`."""
        examples = [self._example(*place) for place in self._cuts.places(np.asarray(indices))]
        try:
            return tuple(np.stack(column) for column in zip(*examples, strict=True))
        except ValueError as error:
            shapes = sorted({str([np.shape(entry) for entry in example]) for example in examples})
            raise DataError(
                f"{self.folder}: records of shapes {' and '.join(shapes[:2])} in one "
                "batch, allowed: one shape for all"
            ) from error

    @functools.cached_property
    def _cuts(self) -> Cuts:
        return Cuts([reader.num_records() for reader in self.readers])

    def _example(self, shard: int, row: int) -> tuple[np.ndarray, ...]:
        where = f"{self.paths[shard]} record {row}"
        try:
            return self.decode(self.readers[shard].read([row])[0])
        except Exception as error:  # whatever the reader and the caller's function raise
            raise DataError(f"{where}: cannot be read ({one_line(error)})") from error


def array_records(
    folder: str | os.PathLike,
    split: str = "train",
    decode: Callable[[bytes], tuple[np.ndarray, ...]] | None = None,
) -> ArrayRecords:
    """Return the records of a split, unread.

    Args:
      folder: where the shards lie; every one that the names promise must be there.
      split: how the names begin.
      decode: makes the arrays of one example, bytes -> (picture,) or (picture, label); None: what
        `write_array_records` wrote. It runs in threads.

    Raises:
      DataError: a shard is missing or is no array-record.
      PersonError: the package array_record is not installed.
    """
    module = record_module()
    root = Path(folder).expanduser()
    paths = shard_files(root, split, ENDING)
    readers = []
    for path in paths:
        try:
            readers.append(module.ArrayRecordReader(str(path)))
            if not readers[-1].num_records():
                raise ValueError("it holds no records")
        except Exception as error:  # the reader's errors are of several kinds
            raise DataError(f"{path}: not a whole array-record ({one_line(error)})") from error
    return ArrayRecords(root, split, tuple(paths), tuple(readers), decode or unpack)


def unpack(record: bytes) -> tuple[np.ndarray, ...]:
    """Return the arrays of a record that `pack` made, views of its bytes.

    Raises:
      ValueError: the bytes end inside an array, or hold objects.
    """
    arrays, start = [], 0
    while start < len(record):
        end = start + 10 + int.from_bytes(record[start + 8 : start + 10], "little")
        shape, dtype = _header(record[start:end])
        array: np.ndarray = np.ndarray(shape, dtype, record, end)
        arrays.append(array)
        start = end + array.nbytes
    return tuple(arrays)


@functools.lru_cache(maxsize=64)
def _header(header: bytes) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype; the same for all records, and slow to parse (0.1 ms)."""
    file = io.BytesIO(header)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("not an .npy file of version 1.0")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    if dtype.hasobject or fortran:
        raise ValueError("objects or Fortran order: refused")
    return shape, dtype


def record_module():
    """Return the module array_record_module.

    Raises:
      PersonError: the package is not installed.
    """
    try:
        from array_record.python import array_record_module
    except ImportError as error:
        raise PersonError(
            "array-records need the package array_record, part of the extra 'images': "
            "pip install 'dfx[images]'"
        ) from error
    return array_record_module
