"""Arrays by name from an .npz file: no pickle, each with its checksum, all finite."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from dfx.data.arrays import array_of
from dfx.data.layout import DataError, one_line, read_bytes


def read_named(
    path: str | os.PathLike, names: Iterable[str], what: str = "arrays"
) -> dict[str, np.ndarray]:
    """Return the arrays of these names, as they are stored; others in the file are ignored.

    Args:
      path: an .npz file.
      names: at least one.
      what: they are, in messages.

    Raises:
      DataError: the file is missing, torn or a pickle, or an array is missing or holds something
        else than finite numbers; one line says which.
    """
    where, names = Path(path).expanduser(), tuple(names)
    try:
        with zipfile.ZipFile(io.BytesIO(read_bytes(where))) as archive:
            found = {
                name: array_of(archive.read(f"{name}.npy"), f"{where} key {name!r}")
                for name in names
            }
    except DataError:
        raise
    except Exception as error:  # zipfile and NumPy raise some ten kinds for broken files
        some = " and ".join(names) if len(names) < 4 else f"{names[0]} and {len(names) - 1} more"
        raise DataError(
            f"{where}: no {what} ({one_line(error)}), allowed: .npz with {some}"
        ) from error
    for name, array in found.items():
        if array.dtype.kind not in "fiu":
            raise DataError(f"{where}: {name} is of type {array.dtype}, allowed: numbers")
        if not np.isfinite(array).all():
            raise DataError(f"{where}: {name} holds numbers that are not finite")
    return found
