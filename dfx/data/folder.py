"""The folder layout: one picture a file, one subfolder a class.

PATH/train/CLASS/PICTURE and PATH/test/CLASS/PICTURE, or PATH/CLASS/PICTURE for a set without a test
split; labels count the class names in sorted order. Pictures that lie in the split itself make a
set without labels. The order is the first picture of every class by name, then the second of every
class, so that the first n examples are balanced.
"""

from __future__ import annotations

import os
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
    classes = class_folders(root)
    loose = [entry for entry in _visible(root) if entry.suffix.lower() in _SUFFIXES]
    # (rank in the class, label, path): sorting takes the classes in turns.
    files = sorted(
        (rank, label, path)
        for label, entry in enumerate(classes)
        for rank, path in enumerate(picture_files(entry))
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


def class_folders(root: Path) -> list[Path]:
    """Return the folders of the classes in sorted order; none in a set without labels.

    Raises:
      DataError: a picture lies beside them.
    """
    entries = _visible(root)
    classes = [entry for entry in entries if entry.is_dir()]
    loose = next((entry for entry in entries if entry.suffix.lower() in _SUFFIXES), None)
    if classes and loose:
        raise DataError(f"{loose}: picture beside class folders, which class is it?")
    return classes


def picture_files(folder: Path) -> list[Path]:
    """Return the picture files of one class, sorted.

    Raises:
      DataError: anything else lies there, since to leave it out silently would be wrong.
    """
    with os.scandir(folder) as entries:  # it knows the kind of an entry without asking the disk
        found = {entry.name: entry.is_dir() for entry in entries if entry.name[0] != "."}
    for name in sorted(found):
        if not name.lower().endswith(_SUFFIXES) or found[name]:
            what = f"no picture ({', '.join(_SUFFIXES)}), but in a class folder"
            raise DataError(f"{folder / name}: {what}")
    if not found:
        raise DataError(f"{folder}: class folder without pictures")
    return [folder / name for name in sorted(found)]


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
