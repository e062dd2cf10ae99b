"""Examples by number: what a feed reads from.

Records know how many examples there are and return any of them, in any order, as arrays with the
examples on the leading axis. They are read by several threads at once.
"""

from __future__ import annotations

import bisect
import dataclasses
import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np

from dfx.data.layout import DataError
from dfx.errors import PersonError

#: (pictures,) or (pictures, labels): pictures uint8 (n, h, w, c) or latents, labels int32 (n,).
Batch: TypeAlias = tuple[np.ndarray, ...]


class Records(Protocol):
    """Examples by number, safe to read from several threads."""

    def __len__(self) -> int:
        """The number of examples."""

    def take(self, indices: np.ndarray) -> Batch:
        """Return the examples of the given numbers in [0, len), stacked; bytes stay bytes.

        Raises:
          DataError: a file is torn or gone; one line names it.
        """


@dataclasses.dataclass(frozen=True, eq=False)
class HostArrays:
    """Records in the memory of the host, for sets too large for the device.

    arrays: pictures, and labels if there are any, of one length.

    Raises:
      PersonError: the lengths differ.
    """

    arrays: Batch

    def __post_init__(self):
        lengths = sorted({len(array) for array in self.arrays})
        if len(lengths) != 1:
            raise PersonError(f"records have lengths {lengths}, allowed: one length for all")

    def __len__(self) -> int:
        return len(self.arrays[0])

    def take(self, indices: np.ndarray) -> Batch:
        """See `Records.take`."""
        return tuple(array[indices] for array in self.arrays)


def faults(records: Records, chunk: int = 64) -> list[str]:
    """Return one line for each example that cannot be read; the whole set is read once.

    To be run once on a new copy of a set: a feed stops at the first fault that it meets.
    """
    found = []
    for start in range(0, len(records), chunk):
        numbers = np.arange(start, min(start + chunk, len(records)))
        if _fault(records, numbers):
            lines = (_fault(records, numbers[i : i + 1]) for i in range(len(numbers)))
            found += [line for line in lines if line]
    return found


def _fault(records: Records, numbers: np.ndarray) -> str | None:
    try:
        records.take(numbers)
    except DataError as error:
        return str(error)
    return None


class Cuts:
    """Where the examples of a set that is cut into shards lie: numbers to (shard, row)."""

    def __init__(self, lengths: Sequence[int]):
        self.ends = list(itertools.accumulate(lengths))

    def __len__(self) -> int:
        return self.ends[-1] if self.ends else 0

    def places(self, indices: np.ndarray) -> Iterator[tuple[int, int]]:
        """Yield (shard, row) of each number."""
        for number in indices.tolist():
            shard = bisect.bisect_right(self.ends, number)
            yield shard, number - (self.ends[shard - 1] if shard else 0)


def shard_files(folder: Path, split: str, ending: str) -> list[Path]:
    """Return SPLIT-00000-of-00002ENDING and its fellows in order, or SPLITENDING alone.

    Raises:
      DataError: none is there, or not all that the names promise.
    """
    name = re.compile(rf"{re.escape(split)}-(\d+)-of-(\d+){re.escape(ending)}")
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    found = sorted(
        (int(match[1]), int(match[2]), path)
        for path in folder.iterdir()
        if (match := name.fullmatch(path.name))
    )
    whole = folder / f"{split}{ending}"
    if not found and whole.is_file():
        return [whole]
    if not found:
        raise DataError(
            f"{folder}: missing file, looked for {split}-*-of-*{ending} or {whole.name}"
        )
    totals = {total for _, total, _ in found}
    if len(totals) != 1 or [number for number, _, _ in found] != list(range(min(totals))):
        raise DataError(
            f"{folder}: shards {split}-*{ending} are not one whole set: {len(found)} files, "
            f"from {found[0][2].name} to {found[-1][2].name}"
        )
    return [path for _, _, path in found]


def shard_names(split: str, count: int, ending: str) -> list[str]:
    """Return the names of the shards of a set that is written in `count` files."""
    return [f"{split}-{number:05d}-of-{count:05d}{ending}" for number in range(count)]
