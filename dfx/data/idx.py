"""The idx layout, in which MNIST is published (LeCun, Cortes, Burges 1998).

An idx file is: two zero bytes, one byte for the type of the entries (8: unsigned byte), one byte
for the number of axes, one big-endian uint32 for the length of each axis, and the entries, last
axis fastest.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from dfx.data.layout import DataError, Layout, Pictures, existing, read_bytes

_STEM = {"train": "train", "test": "t10k"}


def read_idx(path: Path, rank: int) -> np.ndarray:
    """Return the array of unsigned bytes in an idx file, plain or gzip.

    Args:
      path: the file.
      rank: the number of axes that it must have: 3 for pictures, 1 for labels.

    Raises:
      DataError: the magic number is another one, or the length is not exactly what the header says.
    """
    data = read_bytes(path)
    start = 4 + 4 * rank
    magic = bytes([0, 0, 8, rank])
    if data[:4] != magic:
        raise DataError(
            f"{path}: wrong magic number {data[:4].hex(' ') or '(empty file)'}, "
            f"expected {magic.hex(' ')} (idx, unsigned bytes, {rank} axes)"
        )
    if len(data) < start:
        raise DataError(f"{path}: torn idx file, its header has {len(data)} of {start} bytes")
    shape = tuple(int(length) for length in np.frombuffer(data, ">u4", rank, offset=4))
    if len(data) != start + math.prod(shape):
        raise DataError(
            f"{path}: wrong size, the header says {' x '.join(map(str, shape))} entries, "
            f"the file holds {len(data) - start}"
        )
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def read(folder: Path, split: str, limit: int | None = None) -> Pictures:
    """Return the grey pictures and labels of a split; the whole files are checked, whatever the
    limit.

    Raises:
      DataError: a file is missing or torn, or there is not one label for each picture.
    """
    images_path, labels_path = (existing(folder, names) for names in _names(split))
    images, labels = read_idx(images_path, 3), read_idx(labels_path, 1)
    if len(images) != len(labels):
        raise DataError(
            f"{images_path}: {len(images)} pictures, but {len(labels)} labels in {labels_path.name}"
        )
    # Copies: a view of the first few would keep the bytes of the whole file alive.
    return Pictures(images[:limit, ..., None].copy(), labels[:limit].copy())


def _names(split: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of the picture file and of the label file, in the spellings that are in use."""
    images, labels = (
        tuple(
            f"{_STEM[split]}-{kind}{dot}ubyte{packed}"
            for dot in (f"-idx{rank}-", f".idx{rank}-")
            for packed in ("", ".gz")
        )
        for kind, rank in (("images", 3), ("labels", 1))
    )
    return images, labels


def _patterns(split: str) -> tuple[str, ...]:
    return f"{_STEM[split]}-images*ubyte*", f"{_STEM[split]}-labels*ubyte*"


LAYOUT = Layout(_patterns, read)
