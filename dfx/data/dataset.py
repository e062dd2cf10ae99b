"""Data sets by name: `load("mnist", path)` finds the layout, checks it and returns one record."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dfx.data import arrays, cifar_binary, digits, folder, idx, parquet
from dfx.data.layout import DataError, Layout, Pictures
from dfx.errors import choose, unknown

# Labels are int32, and the largest plus one counts the classes.
_MOST_CLASSES = 2**31 - 1
#: The environment variable that is asked when no path is given.
ENVIRONMENT = "DFX_DATA"
SPLITS = ("train", "test")


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Pictures with their labels; a record that exists is whole and consistent.

    images: uint8 (n, h, w, c), n >= 1. labels: int32 (n,) in [0, num_classes), or None.
    num_classes: 1 to 2**31 - 1, and 0 without labels. Its length is n.

    Raises:
      DataError: the parts do not fit together.
    """

    images: np.ndarray
    labels: np.ndarray | None
    name: str
    num_classes: int

    def __post_init__(self):
        if self.images.dtype != np.uint8 or self.images.ndim != 4 or not self.images.size:
            raise DataError(
                f"data set {self.name!r}: images are {self.images.dtype} of shape "
                f"{self.images.shape}, allowed: uint8 of shape (n, h, w, c), not empty"
            )
        if self.labels is None:
            return
        if self.labels.shape != self.images.shape[:1]:
            raise DataError(
                f"data set {self.name!r}: {len(self.images)} pictures, "
                f"but labels of shape {self.labels.shape}"
            )
        if not 1 <= self.num_classes <= _MOST_CLASSES:
            raise DataError(
                f"data set {self.name!r}: num_classes, or the largest label plus one, is "
                f"{self.num_classes}, allowed: 1 to {_MOST_CLASSES}"
            )
        wrong = np.flatnonzero((self.labels < 0) | (self.labels >= self.num_classes))
        if wrong.size:
            raise DataError(
                f"data set {self.name!r}: label {self.labels[wrong[0]]} of picture {wrong[0]} "
                f"is out of range, allowed: 0 to {self.num_classes - 1}"
            )

    def __len__(self) -> int:
        return len(self.images)


class Source(NamedTuple):
    """How a named set may lie on disk, and what it must look like.

    layouts: tried in this order. subfolders: where below the given path they may lie. shape: (h, w,
    c) that every picture must have. num_classes: None where the layout says it. embedded: the
    reader of a set that needs no file.
    """

    layouts: tuple[Layout, ...] = ()
    subfolders: tuple[str, ...] = ()
    shape: tuple[int, int, int] | None = None
    num_classes: int | None = None
    embedded: Callable[[str, int | None], Pictures] | None = None


_MNIST_LAYOUTS = (idx.LAYOUT, parquet.LAYOUT, arrays.LAYOUT, folder.LAYOUT)
_CIFAR_LAYOUTS = (parquet.LAYOUT, cifar_binary.LAYOUT, arrays.LAYOUT, folder.LAYOUT)

#: The sets by name. The subfolders are those of a common parent, of the published archives and of
#: the hub.
REGISTRY: dict[str, Source] = {
    "digits": Source(shape=(8, 8, 1), num_classes=10, embedded=digits.read),
    "mnist": Source(_MNIST_LAYOUTS, ("mnist", "MNIST/raw"), (28, 28, 1), 10),
    "fashion_mnist": Source(_MNIST_LAYOUTS, ("fashion_mnist", "FashionMNIST/raw"), (28, 28, 1), 10),
    "cifar10": Source(
        _CIFAR_LAYOUTS,
        ("cifar10", "cifar-10-batches-bin", "plain_text", "cifar-10-batches-py"),
        (32, 32, 3),
        10,
    ),
    "arrays": Source((arrays.LAYOUT,)),
    "folder": Source((folder.LAYOUT,)),
    "parquet": Source((parquet.LAYOUT,)),
}


def load(
    name: str, path: str | os.PathLike | None = None, split: str = "train", limit: int | None = None
) -> Dataset:
    """Return a data set, read and checked.

    Args:
      name: a name in REGISTRY; "digits" needs no path.
      path: the set's own folder, or the parent that holds it under its name ("mnist", "cifar10"),
        or one .npz / .npy file; None: the environment variable DFX_DATA.
      split: "train" or "test".
      limit: at most so many examples, the first ones in the set's order; None: all.

    Raises:
      DataError: no path, missing, torn or wrong files; one line says which.
      PersonError: an unknown name or split.

    >>> load("digits").images.shape
    (1438, 8, 8, 1)
    """
    source = choose("data set", name, REGISTRY)
    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    if limit is not None and (not isinstance(limit, int | np.integer) or limit < 1):
        raise DataError(f"limit is {limit!r}, allowed: a positive integer, or None for all")
    if source.embedded:
        return _dataset(name, source, source.embedded(split, limit), name)
    root = root_of(name, path)
    if root.is_file():
        return _dataset(name, source, _read_one_file(source, root, split, limit), str(root))
    try:
        layout, place = _find(name, source, root, split)
        return _dataset(name, source, layout.read(place, split, limit), str(place))
    except OSError as error:  # a folder that may not be listed
        raise DataError(f"{error.filename or root}: cannot be read ({error.strerror})") from error


def root_of(name: str, path: str | os.PathLike | None) -> Path:
    """Return the folder or file of a path, or of DFX_DATA where none is given.

    Raises:
      DataError: neither is given, or it does not exist.
    """
    given = path or os.environ.get(ENVIRONMENT)
    if not given:
        raise DataError(f"data set {name!r} needs a path: give one or set {ENVIRONMENT}")
    root = Path(given).expanduser()
    if not root.exists():
        told = "" if path else f" (from {ENVIRONMENT})"
        raise DataError(f"data set {name!r}: path {str(root)!r}{told} does not exist")
    return root


def _read_one_file(source: Source, path: Path, split: str, limit: int | None) -> Pictures:
    if arrays.LAYOUT not in source.layouts or path.suffix not in (".npz", ".npy"):
        raise DataError(f"{path}: is a file, give the folder of the set")
    if split != "train":
        raise DataError(f"{path}: one file holds the split 'train', give a folder for {split!r}")
    return arrays.read_file(path, limit)


def _find(name: str, source: Source, root: Path, split: str) -> tuple[Layout, Path]:
    """The first layout that is there, in the named subfolders first and then in the path itself."""
    if len(source.layouts) == 1:  # its own errors say more than that nothing was found
        return source.layouts[0], root
    places = [p for sub in source.subfolders if (p := root / sub).is_dir()] + [root]
    for layout in source.layouts:
        for place in places:
            if layout.found(place, split):
                return layout, place
    names = dict.fromkeys(name for layout in source.layouts for name in layout.patterns(split))
    raise DataError(
        f"data set {name!r}: no {split} files in {' or '.join(map(str, places))}; "
        f"looked for {', '.join(names)}"
    )


def _dataset(name: str, source: Source, pictures: Pictures, place: str) -> Dataset:
    images, labels, known = pictures
    if source.shape and images.shape[1:] != source.shape:
        raise DataError(
            f"{place}: pictures of shape {images.shape[1:]}, those of {name!r} have {source.shape}"
        )
    if labels is None:
        return Dataset(images, None, name, 0)
    num_classes = source.num_classes or known
    if num_classes is None:
        num_classes = int(labels.max(initial=0)) + 1
    try:
        dataset = Dataset(images, labels, name, num_classes)
    except DataError as error:
        raise DataError(f"{place}: {error}") from error
    # The range is checked above, before this narrowing could wrap a large label.
    return dataclasses.replace(dataset, labels=labels.astype(np.int32))
