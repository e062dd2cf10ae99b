"""Every layout gives back exactly what was written, and nothing at all from a damaged file."""

import itertools

import numpy as np
import pytest

from dfx import data

#: Where a file is cut: in the magic number, in the header, in the body, one byte before the end.
CUTS = (0, 1, 3, 4, 7, 8, 12, 0.1, 0.5, 0.9, -8, -4, -1)
#: A flipped bit, and all bits of a byte flipped.
FLIPS = (0x01, 0x80, 0xFF)


def load(written, **kw):
    return data.load(written.name, written.root, written.split, **kw)


def test_what_was_written_is_read(written):
    dataset = load(written)
    np.testing.assert_array_equal(dataset.images, written.images)
    np.testing.assert_array_equal(dataset.labels, written.labels)
    assert dataset.images.dtype == np.uint8
    assert dataset.labels.dtype == np.int32
    assert dataset.name == written.name
    classes = {"mnist": 10, "cifar10": 10, "arrays": 4, "folder": 2}
    assert dataset.num_classes == classes[written.name]
    assert len(dataset) == len(written.images)


def test_a_limit_takes_the_first_examples_and_keeps_the_classes(written):
    whole, part = load(written), load(written, limit=3)
    np.testing.assert_array_equal(part.images, whole.images[:3])
    np.testing.assert_array_equal(part.labels, whole.labels[:3])
    assert part.num_classes == whole.num_classes
    assert len(load(written, limit=10**6)) == len(whole)


def test_a_cut_file_is_an_error_wherever_it_is_cut(written):
    for path in written.files[:2]:
        content = path.read_bytes()
        for cut in CUTS:
            end = int(cut * len(content)) if isinstance(cut, float) else cut
            path.write_bytes(content[:end])
            with pytest.raises(data.DataError) as caught:
                load(written)
            assert "\n" not in str(caught.value), cut
            assert str(path.parent) in str(caught.value), cut
        path.write_bytes(content)


def guarded(path, size):
    """Where a flip must be noticed: in headers, and at the end where there are checksums."""
    if path.suffix == ".bin":
        return ()
    if path.name.endswith("idx3-ubyte"):
        return range(16)
    if path.name.endswith("idx1-ubyte"):
        return range(8)
    return range(60) if path.suffix == ".npy" else (*range(40), *range(size - 40, size))


def test_a_flipped_byte_in_a_header_is_an_error_or_does_not_matter(written):
    # A date in a gzip header, say, does not matter; then the content is right to the last byte.
    for path in written.files[:2]:
        content = path.read_bytes()
        for place, flip in itertools.product(guarded(path, len(content)), FLIPS):
            damaged = bytearray(content)
            damaged[place] ^= flip
            path.write_bytes(damaged)
            try:
                dataset = load(written)
            except data.DataError:
                continue
            np.testing.assert_array_equal(dataset.images, written.images)
            np.testing.assert_array_equal(dataset.labels, written.labels)
        path.write_bytes(content)


@pytest.mark.parametrize(
    "layout", ["idx", "idx_gz", "parquet", "arrays_npy", "arrays_npz", "folder"]
)
def test_a_file_that_begins_otherwise_is_an_error(write, layout):
    # CIFAR's binary files alone have no magic number.
    written = write(layout)
    content = written.files[0].read_bytes()
    written.files[0].write_bytes(bytes([content[0] ^ 0x01]) + content[1:])
    with pytest.raises(data.DataError):
        load(written)


@pytest.mark.parametrize("layout", ["idx", "arrays_npy", "parquet", "cifar_binary"])
def test_bytes_after_the_end_are_an_error(write, layout):
    written = write(layout)
    with written.files[0].open("ab") as file:
        file.write(b"\0")
    with pytest.raises(data.DataError):
        load(written)


@pytest.mark.parametrize("layout", ["idx", "idx_gz", "parquet", "folder"])
def test_a_named_set_is_found_in_its_own_folder_and_in_the_parent(write, layout, monkeypatch):
    written = write(layout)
    own = {"folder": written.root}.get(layout, written.root / written.name)
    for path in (written.root, own):
        found = data.load(written.name, str(path), written.split)
        np.testing.assert_array_equal(found.images, written.images)
    monkeypatch.setenv("DFX_DATA", str(written.root))
    found = data.load(written.name, split=written.split)
    np.testing.assert_array_equal(found.images, written.images)


def test_cifar_binary_reads_the_five_training_files_in_order(tmp_path):
    for i in range(1, 6):
        # One record of label i and red level 10 i, the rest zeros: a sparse file of full length.
        with (tmp_path / f"data_batch_{i}.bin").open("wb") as file:
            file.write(bytes([i]) + bytes([10 * i]) * 1024)
            file.truncate(10_000 * 3073)
    cifar = data.load("cifar10", tmp_path)
    assert cifar.images.shape == (50_000, 32, 32, 3)
    np.testing.assert_array_equal(cifar.labels[::10_000], [1, 2, 3, 4, 5])
    np.testing.assert_array_equal(cifar.images[::10_000, 5, 7, 0], [10, 20, 30, 40, 50])
    assert cifar.images[..., 1:].max() == 0
    (tmp_path / "data_batch_3.bin").unlink()
    with pytest.raises(data.DataError, match=r"missing file, looked for data_batch_3\.bin"):
        data.load("cifar10", tmp_path)


def test_one_array_file_is_a_training_set(write):
    written = write("arrays_npz")
    np.testing.assert_array_equal(data.load("arrays", written.files[0]).images, written.images)
    np.save(written.root / "alone.npy", written.images)
    alone = data.load("arrays", written.root / "alone.npy", limit=2)
    np.testing.assert_array_equal(alone.images, written.images[:2])
    assert alone.labels is None
    assert alone.num_classes == 0


def test_num_classes_of_an_array_file_may_exceed_its_labels(tmp_path, make):
    images, labels = make.draw(8, (4, 4, 1), num_classes=2)
    np.savez(tmp_path / "test.npz", images=images, labels=labels, num_classes=7)
    assert data.load("arrays", tmp_path, "test").num_classes == 7


def test_the_classes_of_a_parquet_file_do_not_depend_on_the_limit(tmp_path, make):
    from pyarrow.parquet import write_table

    images, _ = make.draw(5, (4, 4, 3))
    write_table(make.parquet_table(images, [0, 1, 0, 4, 2]), tmp_path / "train.parquet")
    for limit in (None, 2):
        assert data.load("parquet", tmp_path, limit=limit).num_classes == 5


def test_pictures_without_class_folders_have_no_labels(tmp_path, make):
    images, _ = make.draw(3, (5, 5, 1))
    for name, image in zip("abc", images):
        make.put(tmp_path / f"{name}.png", make.encode(image))
    dataset = data.load("folder", tmp_path)
    np.testing.assert_array_equal(dataset.images, images)
    assert dataset.labels is None


def test_jpeg_bytes_in_a_parquet_file_are_decoded(tmp_path, make):
    from pyarrow.parquet import write_table

    smooth = np.tile(np.arange(0, 256, 8, dtype=np.uint8)[:, None, None], (3, 1, 32, 3))
    table = make.parquet_table(smooth, [0, 1, 2], column="image", kind="JPEG")
    write_table(table, tmp_path / "train.parquet")
    images = data.load("parquet", tmp_path).images.astype(int)
    # JPEG at quality 75 keeps a smooth ramp to a few grey levels of 255.
    assert np.abs(images - smooth).max() < 12


def test_digits_are_the_embedded_ones():
    from sklearn.datasets import load_digits

    truth = load_digits()
    train, test = data.load("digits"), data.load("digits", split="test")
    assert (len(train), len(test)) == (1438, 359)
    assert train.images.shape[1:] == (8, 8, 1)
    # The values 0..16 come back from 0..255, and the two splits are the whole set without overlap.
    back = np.round(np.concatenate([train.images, test.images])[..., 0] * (16 / 255))
    every_fifth = np.arange(1797) % 5 == 4
    order = np.concatenate([np.flatnonzero(~every_fifth), np.flatnonzero(every_fifth)])
    np.testing.assert_array_equal(back, truth.images[order])
    np.testing.assert_array_equal(np.concatenate([train.labels, test.labels]), truth.target[order])
    np.testing.assert_array_equal(data.load("digits", limit=7).images, train.images[:7])
