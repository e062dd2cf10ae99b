"""What a layout is: the way a data set lies in a folder.

A layout knows the file names it consists of and reads them whole or not at all: sizes, checksums
and labels are checked before anything is returned, and every fault is a `DataError` of one line
that names the file.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dfx.errors import PersonError

#: The first two bytes of every gzip file. The bytes decide, not the name: some tools unpack and
#: keep ".gz".
_GZIP_MAGIC = b"\x1f\x8b"


class DataError(PersonError):
    """A data set that is missing, torn or not what its name says; one line names the file."""


class Pictures(NamedTuple):
    """images uint8 (n, h, w, c), labels integer (n,) or None, num_classes where it is known."""

    images: np.ndarray
    labels: np.ndarray | None
    num_classes: int | None = None


class Layout(NamedTuple):
    """A pair of functions.

    patterns(split) returns the names (with * for any text) of which at least one lies in a folder
    of this layout; read(folder, split, limit) returns the first `limit` pictures (None: all) as
    `Pictures`.
    """

    patterns: Callable[[str], tuple[str, ...]]
    read: Callable[[Path, str, int | None], Pictures]

    def found(self, folder: Path, split: str) -> bool:
        """Return whether the folder holds a name of this layout."""
        return any(next(folder.glob(pattern), None) for pattern in self.patterns(split))


def one_line(error: object) -> str:
    """Return the text of an error without line breaks, for the end of a message."""
    return " ".join(str(error).split()) or type(error).__name__


def existing(folder: Path, names: Iterable[str]) -> Path:
    """Return the path of the first of `names` that is a file in `folder`.

    Raises:
      DataError: none is there; the message lists the names.
    """
    names = tuple(names)
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise DataError(f"{folder}: missing file, looked for {' or '.join(names)}")


def read_bytes(path: Path) -> bytes:
    """Return the bytes of a file, unpacked if they are gzip.

    Raises:
      DataError: the file cannot be read, or its gzip stream is torn or fails its checksum.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({one_line(error.strerror)})") from error
    if not data.startswith(_GZIP_MAGIC):
        return data
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: torn gzip file ({one_line(error)}); fetch it again") from error
