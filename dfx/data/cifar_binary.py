"""The binary version of CIFAR-10 (Krizhevsky 2009).

Training pictures lie in data_batch_1.bin .. data_batch_5.bin, test pictures in test_batch.bin:
10,000 records a file, each one label byte and 3 x 32 x 32 bytes, channel first. The Python version
is a pickle and is refused.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dfx.data.layout import DataError, Layout, Pictures, existing, read_bytes

_FILES = {
    "train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
    "test": ("test_batch.bin",),
}
_RECORD = 1 + 3 * 32 * 32
#: Records have no end mark: only their number tells a file cut between two of them.
_RECORDS = 10_000


def read_records(path: Path, num_records: int = _RECORDS) -> tuple[np.ndarray, np.ndarray]:
    """Return the images uint8 (num_records, 32, 32, 3) and labels (num_records,) of one file.

    Raises:
      DataError: the file has not exactly `num_records` records.
    """
    data = np.frombuffer(read_bytes(path), np.uint8)
    if data.size != num_records * _RECORD:
        raise DataError(
            f"{path}: wrong size, {data.size} bytes instead of {num_records * _RECORD} "
            f"({num_records} records of {_RECORD})"
        )
    records = data.reshape(num_records, _RECORD)
    return records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), records[:, 0]


def read(folder: Path, split: str, limit: int | None = None) -> Pictures:
    """Return the pictures and labels of a split; every file is checked, whatever the limit.

    Raises:
      DataError: a file is missing or has the wrong size, or it is the Python version.
    """
    names = _FILES[split]
    python = [name.removesuffix(".bin") for name in names]
    if not (folder / names[0]).is_file() and (folder / python[0]).is_file():
        raise DataError(
            f"{folder / python[0]}: the Python version of CIFAR-10 is a pickle, and no pickle is "
            f"ever loaded; use the binary version ({names[0]}) or the parquet files"
        )
    images, labels = zip(*(read_records(existing(folder, (name,))) for name in names))
    return Pictures(np.concatenate(images)[:limit].copy(), np.concatenate(labels)[:limit].copy())


LAYOUT = Layout(lambda split: ("data_batch_*",) if split == "train" else ("test_batch*",), read)
