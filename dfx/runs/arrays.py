"""Arrays on disk: npz files that end in the sha256 of themselves.

The checksum is the zip archive's comment, its last 64 bytes, so `numpy.load` opens the file as any
other; here it is compared first, and a torn or damaged file is never taken for a whole one. Equal
arrays give equal bytes: entries are sorted and carry no date.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from dfx.runs.files import atomic

_DIGEST = 64  # hexadecimal digits of a sha256
_BLOCK = 1 << 20


class Damaged(ValueError):
    """A file that is torn, or whose bytes have changed since it was written."""


def save(path: str | Path, arrays: Mapping[str, Any]) -> None:
    """Write the arrays to an npz file, whole or not at all.

    Raises:
      TypeError: an array has a type that npz cannot keep (objects, bfloat16, random keys).
    """
    kept = {str(name): _checked(name, value) for name, value in arrays.items()}
    with atomic(path) as temporary:
        _write_zip(temporary, kept)
        with open(temporary, "r+b") as file:
            digest = _digest(file)
            file.seek(-_DIGEST, 2)
            file.write(digest)


def load(path: str | Path) -> dict[str, np.ndarray]:
    """Return the arrays by name.

    Raises:
      FileNotFoundError: there is no such file.
      Damaged: the file is not the one that `save` wrote.
    """
    checksum(path)
    with np.load(path, allow_pickle=False) as kept:
        return {name: kept[name] for name in kept.files}


def checksum(path: str | Path) -> str:
    """Return the file's checksum, having compared it with the file's bytes.

    Raises:
      Damaged: they do not agree.
    """
    with open(path, "rb") as file:
        digest = _digest(file)
        if file.read() != digest:
            raise Damaged(f"{path} is torn or damaged")
    return digest.decode()


def _checked(name: str, value: Any) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind not in "biufcSU":
        raise TypeError(f"array {name!r} has type {array.dtype}, which npz cannot keep: convert it")
    return array


def _write_zip(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in sorted(arrays):
            entry = zipfile.ZipInfo(f"{name}.npy")  # dated 1980: equal arrays give equal bytes
            with archive.open(entry, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, arrays[name], allow_pickle=False)
        archive.comment = b"0" * _DIGEST


def _digest(file: BinaryIO) -> bytes:
    """Return the sha256 of all but the last 64 bytes, and leave the file there."""
    size = file.seek(0, 2) - _DIGEST
    file.seek(0)
    digest = hashlib.sha256()
    while file.tell() < size:
        digest.update(file.read(min(_BLOCK, size - file.tell())))
    return digest.hexdigest().encode()
