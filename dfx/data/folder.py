"""The folder layout: one picture a file, one subfolder a class.

PATH/train/CLASS/PICTURE and PATH/test/CLASS/PICTURE, or PATH/CLASS/PICTURE for a set without a test
split; labels count the class names in sorted order. Pictures that lie in the split itself make a
set without labels. The order is the first picture of every class by name, then the second of every
class, so that the first n examples are balanced.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dfx.data.layout import DataError, Layout, Pictures, read_bytes
from dfx.data.pixels import decode

_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


def read(folder: Path, split: str, limit: int | None = None) -> Pictures:
    """Return the pictures and labels of a split; only the first `limit` files are opened.

    Raises:
      DataError: the split or its pictures are missing, a class holds a file that is no picture, or
        a picture is torn or of another size than the first.
    """
    root = _split_folder(folder, split)
    classes = sorted(entry for entry in _visible(root) if entry.is_dir())
    loose = [entry for entry in _visible(root) if entry.suffix.lower() in _SUFFIXES]
    if classes and loose:
        raise DataError(f"{loose[0]}: picture beside class folders, which class is it?")
    # (rank in the class, label, path): sorting takes the classes in turns.
    files = sorted(
        (rank, label, path)
        for label, entry in enumerate(classes)
        for rank, path in enumerate(_pictures(entry))
    ) or [(rank, 0, path) for rank, path in enumerate(loose)]
    if not files:
        raise DataError(f"{root}: no pictures here ({', '.join(_SUFFIXES)})")
    images = _same_shape([path for _, _, path in files[:limit]])
    labels = np.array([label for _, label, _ in files[:limit]])
    return Pictures(images, labels, len(classes)) if classes else Pictures(images, None)


def _split_folder(folder: Path, split: str) -> Path:
    if (folder / split).is_dir():
        return folder / split
    # Without the other split's folder, an undivided set serves for training and never for testing.
    other = {"train": "test", "test": "train"}[split]
    if split == "train" and not (folder / other).is_dir():
        return folder
    raise DataError(f"{folder}: missing folder {split!r}")


def _visible(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))


def _pictures(folder: Path) -> list[Path]:
    """The picture files of one class; leaving out anything else there silently would be wrong."""
    entries = _visible(folder)
    for entry in entries:
        if entry.suffix.lower() not in _SUFFIXES or entry.is_dir():
            raise DataError(f"{entry}: no picture ({', '.join(_SUFFIXES)}), but in a class folder")
    if not entries:
        raise DataError(f"{folder}: class folder without pictures")
    return entries


def _same_shape(paths: list[Path]) -> np.ndarray:
    images: list[np.ndarray] = []
    for path in paths:
        images.append(decode(read_bytes(path), str(path)))
        if images[-1].shape != images[0].shape:
            raise DataError(
                f"{path}: picture of shape {images[-1].shape}, the first is {images[0].shape}"
            )
    return np.stack(images)


# A named set is taken for a folder of pictures only with its split's folder; the set "folder" asks
# `read` alone.
LAYOUT = Layout(lambda split: (f"{split}/*/*",), read)
