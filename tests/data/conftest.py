"""Small sets with known content, written in every layout."""

import gzip
import io
import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image


class Written(NamedTuple):
    """A set on disk: `load(name, root, split)` must give images and labels."""

    name: str
    root: Path
    split: str
    images: np.ndarray
    labels: np.ndarray | None
    files: list[Path]


def encode(image, kind="PNG"):
    """The bytes of a picture file."""
    buffer = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(buffer, kind)
    return buffer.getvalue()


def idx_bytes(array):
    """An idx file after its definition."""
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


def draw(n, shape, num_classes=10, seed=0):
    """Random pictures and labels; every class occurs."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % num_classes)
    return rng.integers(0, 256, (n, *shape), np.uint8), labels


def put(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def write_idx(root, pack=lambda data: data, suffix=""):
    images, labels = draw(30, (28, 28, 1))
    folder = root / "mnist"
    files = [
        put(folder / f"train-images-idx3-ubyte{suffix}", pack(idx_bytes(images[..., 0]))),
        put(folder / f"train-labels-idx1-ubyte{suffix}", pack(idx_bytes(labels.astype(np.uint8)))),
    ]
    return Written("mnist", root, "train", images, labels, files)


def write_idx_gz(root):
    return write_idx(root, gzip.compress, ".gz")


def parquet_table(images, labels, column="img", kind="PNG"):
    import pyarrow as pa

    rows = [{"bytes": encode(image, kind), "path": None} for image in images]
    struct_type = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    return pa.table({column: pa.array(rows, struct_type), "label": pa.array(labels, pa.int64())})


def write_parquet(root):
    from pyarrow.parquet import write_table

    images, labels = draw(30, (32, 32, 3))
    files = [root / "cifar10" / f"test-0000{i}-of-00002.parquet" for i in (0, 1)]
    files[0].parent.mkdir(parents=True)
    for path, half in zip(files, (slice(20), slice(20, None))):
        table = parquet_table(images[half], labels[half])
        write_table(table, path, row_group_size=8, write_page_checksum=True)
    return Written("cifar10", root, "test", images, labels, files)


def write_cifar_binary(root):
    images, labels = draw(10_000, (32, 32, 3))
    # A record: the label, then the red, green and blue planes.
    planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    records = np.concatenate([labels[:, None].astype(np.uint8), planes], axis=1)
    path = put(root / "cifar-10-batches-bin" / "test_batch.bin", records.tobytes())
    return Written("cifar10", root, "test", images, labels, [path])


def write_npz(root):
    images, labels = draw(20, (6, 5, 3), num_classes=4)
    np.savez(root / "train.npz", images=images, labels=labels)
    return Written("arrays", root, "train", images, labels, [root / "train.npz"])


def write_npy(root):
    images, labels = draw(20, (6, 5, 1), num_classes=4)
    files = [root / "test_images.npy", root / "test_labels.npy"]
    np.save(files[0], images[..., 0])
    np.save(files[1], labels)
    return Written("arrays", root, "test", images, labels, files)


def write_folder(root):
    images, _ = draw(6, (7, 9, 3))
    names = ("bird/a.png", "cat/1.png", "bird/b.PNG", "cat/2.png", "cat/3.png")
    files = [put(root / "train" / name, encode(image)) for name, image in zip(names, images)]
    put(root / "train" / "cat" / ".hidden", b"not a picture, and not looked at")
    (root / "test").mkdir()
    return Written("folder", root, "train", images[:5], np.array([0, 1, 0, 1, 1]), files)


WRITERS = {
    "arrays_npy": write_npy,
    "arrays_npz": write_npz,
    "cifar_binary": write_cifar_binary,
    "folder": write_folder,
    "idx": write_idx,
    "idx_gz": write_idx_gz,
    "parquet": write_parquet,
}


@pytest.fixture(params=sorted(WRITERS))
def written(request, tmp_path):
    """A whole small set, once in each layout."""
    return WRITERS[request.param](tmp_path)


@pytest.fixture
def write(tmp_path):
    """write("idx") writes the small set of one layout."""
    return lambda layout: WRITERS[layout](tmp_path)


@pytest.fixture
def make():
    """The pieces of which files are made, for tests that make them wrong."""

    class Make(NamedTuple):
        encode = staticmethod(encode)
        idx_bytes = staticmethod(idx_bytes)
        draw = staticmethod(draw)
        put = staticmethod(put)
        parquet_table = staticmethod(parquet_table)

    return Make()


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    """The person's own DFX_DATA must not reach a test."""
    monkeypatch.delenv("DFX_DATA", raising=False)
