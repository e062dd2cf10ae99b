"""Shards of NumPy files: pictures or precomputed latents that do not fit in memory.

SPLIT-00000-of-00008_images.npy, ... hold bytes, SPLIT-00000-of-00008_latents.npy, ... numbers of 16
or 32 bits; beside each may lie SPLIT-00000-of-00008_labels.npy, integers. One file alone is
SPLIT_images.npy. Rows are read one by one where a batch needs them, not mapped: a file that is cut
short while it is read is an error of one line, not the end of the process.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import math
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dfx.data.layout import DataError, one_line
from dfx.data.records import Batch, Cuts, shard_files

#: What may stand in the names of the files, and the types that it may have.
FIELDS = {"images": ("uint8",), "latents": ("float16", "float32")}
LABELS = "labels"


class _File(io.FileIO):
    """A file that closes with its last reference, and without a warning: records have no end."""

    def __del__(self):
        self.close()


class Shard(NamedTuple):
    """A file of rows: its header, and the open file."""

    path: Path
    length: int
    row: tuple[int, ...]
    dtype: np.dtype
    offset: int
    file: io.FileIO


@dataclasses.dataclass(frozen=True, eq=False)
class NpyShards:
    """Records in shards of .npy files; see `npy_shards`. labels: int32 (n,), or None."""

    folder: Path
    split: str
    shards: tuple[Shard, ...]
    labels: np.ndarray | None

    def __len__(self) -> int:
        return len(self._cuts)

    def __reduce__(self):
        """Another process opens the files anew."""
        return npy_shards, (self.folder, self.split)

    def take(self, indices: np.ndarray) -> Batch:
        """See `Records.take`."""
        first = self.shards[0]
        rows = np.empty((len(indices), *first.row), first.dtype)
        as_bytes = rows.reshape(len(indices), -1).view(np.uint8)
        for place, (shard, row) in enumerate(self._cuts.places(np.asarray(indices))):
            _read(self.shards[shard], row, as_bytes[place])
        return (rows,) if self.labels is None else (rows, self.labels[indices])

    @functools.cached_property
    def _cuts(self) -> Cuts:
        return Cuts([shard.length for shard in self.shards])


def npy_shards(folder: str | os.PathLike, split: str = "train") -> NpyShards:
    """Return the pictures or latents of a split, with their labels, unread but for the headers.

    Args:
      folder: where the shards lie; every one that the names promise must be there.
      split: how the names begin.

    Raises:
      DataError: a file is missing, torn, of another type, or its rows have another shape than the
        first; or there is not one label a row.
    """
    root = Path(folder).expanduser()
    field = _field(root, split)
    paths = shard_files(root, split, f"_{field}.npy")
    opened: list[Shard] = []
    for path in paths:
        opened.append(_open(path, FIELDS[field]))
        if (opened[-1].row, opened[-1].dtype) != (opened[0].row, opened[0].dtype):
            raise DataError(
                f"{path}: rows are {opened[-1].dtype} of shape {opened[-1].row}, those of "
                f"{paths[0].name} {opened[0].dtype} of {opened[0].row}"
            )
    return NpyShards(root, split, tuple(opened), _labels(field, opened))


def _field(root: Path, split: str) -> str:
    """Whether the split holds images or latents; both would be ambiguous."""
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    found = [
        name
        for name in FIELDS
        if any(root.glob(f"{split}-*_{name}.npy")) or (root / f"{split}_{name}.npy").is_file()
    ]
    if len(found) == 1:
        return found[0]
    what = "both" if found else "neither"
    raise DataError(
        f"{root}: {what} of {split}-*_images.npy and {split}-*_latents.npy, allowed: one of them"
    )


def _open(path: Path, types: tuple[str, ...], rank: int = 2) -> Shard:
    """A file whose header is sound and fits its size; the rows stay unread."""
    try:
        file = _File(path)
        version = np.lib.format.read_magic(file)
        header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, fortran, dtype = header(file)
        offset = file.tell()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({one_line(error.strerror)})") from error
    except Exception as error:  # a damaged header can raise nearly anything
        raise DataError(f"{path}: torn .npy file ({one_line(error)})") from error
    if dtype.hasobject:
        raise DataError(f"{path}: object array, which is a pickle: refused")
    if dtype.name not in types or not dtype.isnative or fortran or len(shape) < rank or 0 in shape:
        raise DataError(
            f"{path}: {dtype}{' in Fortran order' if fortran else ''} of shape {shape}, allowed: "
            f"{' or '.join(types)} of shape (n{', ...' if rank > 1 else ''}), rows together"
        )
    size = offset + math.prod(shape) * dtype.itemsize
    if path.stat().st_size != size:
        raise DataError(f"{path}: wrong size, {path.stat().st_size} bytes instead of {size}")
    return Shard(path, shape[0], shape[1:], dtype, offset, file)


def _read(shard: Shard, row: int, into: np.ndarray) -> None:
    """Fill `into` with the bytes of a row."""
    try:
        count = os.preadv(shard.file.fileno(), [into.data], shard.offset + row * into.nbytes)
    except OSError as error:
        raise DataError(f"{shard.path}: cannot be read ({one_line(error.strerror)})") from error
    if count != into.nbytes:
        raise DataError(f"{shard.path}: cut short, row {row} has {count} of {into.nbytes} bytes")


def _labels(field: str, shards: list[Shard]) -> np.ndarray | None:
    """All labels, in memory: four bytes a picture."""
    paths = [Path(str(s.path).removesuffix(f"_{field}.npy") + f"_{LABELS}.npy") for s in shards]
    missing = [path for path in paths if not path.is_file()]
    if len(missing) == len(paths):
        return None
    if missing:
        raise DataError(f"{missing[0]}: missing file, other shards have labels")
    integers = tuple(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))
    pieces = []
    for path, shard in zip(paths, shards):
        _open(path, integers, rank=1)
        values = np.load(path, allow_pickle=False)
        if values.shape != (shard.length,):
            raise DataError(f"{path}: labels of shape {values.shape}, rows: {shard.length}")
        if values.min() < 0 or values.max() >= 2**31:
            raise DataError(f"{path}: label {values.min()} or {values.max()}, allowed: from 0 up")
        pieces.append(values.astype(np.int32))
    return np.concatenate(pieces)
