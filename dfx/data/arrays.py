"""The array layout: a set saved by NumPy.

Either SPLIT.npz with the keys `images`, uint8 (n, h, w) or (n, h, w, c), and, if there are any,
`labels`, integer (n,), and `num_classes` (default: the largest label plus one), and no others; or
SPLIT_images.npy with SPLIT_labels.npy. Object arrays are pickles and are refused.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np

from dfx.data.layout import DataError, Layout, Pictures, existing, one_line, read_bytes

_NPY_MAGIC = b"\x93NUMPY"
_KEYS = ("images", "labels", "num_classes")


def read(folder: Path, split: str, limit: int | None = None) -> Pictures:
    """Return the images and labels of a split; the whole files are checked, whatever the limit.

    Raises:
      DataError: a file is missing, torn, a pickle, or of another dtype or shape.
    """
    if (folder / f"{split}.npz").is_file():
        return read_file(folder / f"{split}.npz", limit)
    images = existing(folder, (f"{split}_images.npy",))
    labels = folder / f"{split}_labels.npy"
    entries = {"images": array_of(read_bytes(images), str(images))}
    if labels.is_file():
        entries["labels"] = array_of(read_bytes(labels), str(labels))
    return _pictures(entries, str(images), limit)


def read_file(path: Path, limit: int | None = None) -> Pictures:
    """Return the images and labels of one .npz file, or the images of one .npy file.

    Raises:
      DataError: as `read`.
    """
    data = read_bytes(path)
    if path.suffix == ".npy":
        return _pictures({"images": array_of(data, str(path))}, str(path), limit)
    return _pictures(_members(data, str(path)), str(path), limit)


def _members(data: bytes, where: str) -> dict[str, np.ndarray]:
    """The known arrays of an .npz file, each read to its end, where zip has the checksum."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
            raw = {key: archive.read(f"{key}.npy") for key in _KEYS if key in names}
    except Exception as error:  # zipfile raises some five kinds for broken archives
        raise DataError(f"{where}: torn .npz file ({one_line(error)})") from error
    if "images" not in raw or len(raw) < len(names):  # an unread key may be misspelt labels
        has = ", ".join(map(repr, names)) or "none"
        raise DataError(f"{where}: keys are {has}, allowed: 'images', 'labels', 'num_classes'")
    return {key: array_of(entry, f"{where} key {key!r}") for key, entry in raw.items()}


def array_of(data: bytes, where: str) -> np.ndarray:
    """Return the array in the bytes of an .npy file, which must end where the array does.

    Raises:
      DataError: it is none, torn, or a pickle; the line begins with `where`.
    """
    if not data.startswith(_NPY_MAGIC):
        begin = data[:6].hex(" ") or "nothing"
        raise DataError(f"{where}: not an .npy file, it begins with {begin}")
    buffer = io.BytesIO(data)
    try:
        array = np.load(buffer, allow_pickle=False)
    except Exception as error:  # a damaged header can raise nearly anything
        if "Object arrays" in str(error):
            raise DataError(f"{where}: object array, which is a pickle: refused") from error
        raise DataError(f"{where}: torn .npy file ({one_line(error)})") from error
    if buffer.tell() != len(data):
        raise DataError(f"{where}: wrong size, {len(data) - buffer.tell()} bytes after the array")
    return array


def _pictures(entries: dict[str, np.ndarray], where: str, limit: int | None) -> Pictures:
    images, labels = entries["images"], entries.get("labels")
    given = entries.get("num_classes")
    if images.dtype != np.uint8 or images.ndim not in (3, 4):
        raise DataError(
            f"{where}: images are {images.dtype} of shape {images.shape}, "
            "allowed: uint8 of shape (n, h, w) or (n, h, w, c)"
        )
    if labels is not None and (labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]):
        raise DataError(
            f"{where}: labels are {labels.dtype} of shape {labels.shape}, "
            f"allowed: integers of shape {images.shape[:1]}"
        )
    if given is not None and (given.dtype.kind not in "iu" or given.ndim):
        raise DataError(f"{where}: num_classes must be one integer")
    num_classes = None if given is None else int(given)
    if given is None and labels is not None and len(labels):
        num_classes = int(labels.max(initial=0)) + 1
    images = images[..., None] if images.ndim == 3 else images
    return Pictures(
        images[:limit].copy(),
        None if labels is None else labels[:limit],
        num_classes,
    )


LAYOUT = Layout(lambda split: (f"{split}.npz", f"{split}_images.npy"), read)
