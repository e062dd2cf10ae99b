"""A folder of pictures of any sizes, one subfolder a class, as ImageNet is laid out.

SPLIT/CLASS/PICTURE; labels count the class names in sorted order. Pictures are decoded and brought
to one size where a batch needs them: the folder is listed at the start, and no picture is opened.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np

from dfx.data.folder import class_folders, picture_files
from dfx.data.layout import DataError, read_bytes
from dfx.data.pixels import decode
from dfx.data.records import Batch
from dfx.data.resize import as_channels, centre_square
from dfx.errors import PersonError


@dataclasses.dataclass(frozen=True, eq=False)
class PictureFolder:
    """Records in a folder of pictures; see `picture_folder`.

    root: the folder of the classes. names: CLASS/PICTURE of each example. labels: int32 (n,).
    classes: their names. size, channels: what pictures are brought to.
    """

    root: Path
    names: list[str]
    labels: np.ndarray
    classes: tuple[str, ...]
    size: int
    channels: int

    def __len__(self) -> int:
        return len(self.names)

    def take(self, indices: np.ndarray) -> Batch:
        """See `Records.take`; pictures are uint8 (n, size, size, channels)."""
        shape = len(indices), self.size, self.size, self.channels
        images = np.empty(shape, np.uint8)
        for place, number in enumerate(indices):
            path = self.root / self.names[number]
            pixels = as_channels(decode(read_bytes(path), str(path)), self.channels, str(path))
            images[place] = centre_square(pixels, self.size)
        return images, self.labels[indices]


def picture_folder(
    folder: str | os.PathLike, split: str = "train", size: int = 64, channels: int = 3
) -> PictureFolder:
    """Return the pictures of folder/SPLIT/CLASS/, brought to size x size when they are read.

    Args:
      folder: the parent of the splits.
      split: "train", "val", ...; the name of a subfolder.
      size: side in pixels; see `centre_square`.
      channels: 3 makes grey pictures colour; 1 takes grey pictures only.

    Raises:
      DataError: no such split, a class without pictures, or a file there that is no picture.
      PersonError: size or channels is out of range.
    """
    if size < 1 or channels not in (1, 3):
        raise PersonError(
            f"pictures of size {size} with {channels} channels, allowed: size from 1 up, "
            "1 or 3 channels"
        )
    root = Path(folder).expanduser() / split
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    classes = class_folders(root)
    if not classes:
        raise DataError(f"{root}: no class folders here")
    names, labels = [], []
    for label, entry in enumerate(classes):
        files = picture_files(entry)
        names += [f"{entry.name}/{file.name}" for file in files]
        labels += [label] * len(files)
    return PictureFolder(
        root,
        names,
        np.array(labels, np.int32),
        tuple(entry.name for entry in classes),
        size,
        channels,
    )
