"""Sets that stay on disk, by name: `open_records("folder", path, split, size=64)`."""

from __future__ import annotations

import os

from dfx.data.array_records import array_records
from dfx.data.dataset import root_of
from dfx.data.layout import DataError
from dfx.data.npy_shards import npy_shards
from dfx.data.picture_folder import picture_folder
from dfx.data.records import Records
from dfx.errors import call

#: How a set may lie on disk that is read batch by batch.
RECORDS = {"array_record": array_records, "folder": picture_folder, "npy": npy_shards}


def open_records(
    kind: str, path: str | os.PathLike | None = None, split: str = "train", **options
) -> Records:
    """Return the records of a set on disk, unread.

    Args:
      kind: a name in RECORDS.
      path: the folder; None: the environment variable DFX_DATA.
      split: how the files, or the subfolder, are called.
      options: those of the function in RECORDS, as size and channels of "folder".

    Raises:
      DataError: no path, or files that are missing or torn; one line says which.
      PersonError: an unknown kind or option, or a package that is not installed.
    """
    try:
        return call("kind of records", kind, RECORDS, root_of(kind, path), split, **options)
    except OSError as error:  # a folder that may not be listed
        raise DataError(f"{error.filename}: cannot be read ({error.strerror})") from error
