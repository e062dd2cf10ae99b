"""Shards of NumPy files: what is written is read, and what is wrong is named."""

import contextlib
import os
from pathlib import Path

import numpy as np
import pytest

from dfx import data
from dfx.errors import PersonError

IMAGES = np.random.default_rng(0).integers(0, 256, (11, 3, 2, 1), np.uint8)
LABELS = np.arange(11) % 4


def message(folder, split="train"):
    """The one line of the DataError of opening."""
    with pytest.raises(data.DataError) as caught:
        data.npy_shards(folder, split)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("num_shards", [1, 2, 11])
@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32"])
def test_what_is_written_is_read_in_any_order(tmp_path, num_shards, dtype):
    values = IMAGES.astype(dtype)
    data.write_npy_shards(tmp_path, "train", values, LABELS, num_shards)
    records = data.open_records("npy", tmp_path)
    indices = np.array([10, 0, 3, 3, 7])
    rows, labels = records.take(indices)
    np.testing.assert_array_equal(rows, values[indices])
    np.testing.assert_array_equal(labels, LABELS[indices])
    assert rows.dtype == dtype
    assert len(records) == 11


def test_the_plain_array_layout_is_one_shard(tmp_path):
    np.save(tmp_path / "test_images.npy", IMAGES)
    (rows,) = data.npy_shards(tmp_path, "test").take(np.arange(11))
    np.testing.assert_array_equal(rows, IMAGES)


def interrupted(function, left):
    """The function, which is killed once `left` has come to its end."""

    def step(*args, **options):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return function(*args, **options)

    return step


def test_a_writer_that_is_killed_anywhere_leaves_the_old_set_or_the_new_or_none(
    tmp_path, monkeypatch
):
    both = {"old": (IMAGES, LABELS), "new": (IMAGES[::-1], LABELS[::-1] + 1)}
    found = []
    for cut in range(13):  # 4 files written, 4 removed, 4 moved
        folder, left = tmp_path / str(cut), iter(range(cut))
        data.write_npy_shards(folder, "train", *both["old"], 2)
        with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
            for owner, name in ((np, "save"), (Path, "unlink"), (os, "replace")):
                patch.setattr(owner, name, interrupted(getattr(owner, name), left))
            data.write_npy_shards(folder, "train", *both["new"], 2)
        try:
            columns = data.npy_shards(folder).take(np.arange(11))
        except data.DataError:
            found.append("none")
        else:
            same = [all(map(np.array_equal, columns, one)) for one in both.values()]
            assert len(columns) == 2 and sum(same) == 1
            found.append(list(both)[same.index(True)])
    assert found == 5 * ["old"] + 7 * ["none"] + ["new"]


def test_a_split_takes_the_place_of_the_one_before(tmp_path):
    data.write_npy_shards(tmp_path, "train-b", IMAGES, LABELS)
    data.write_npy_shards(tmp_path, "train", IMAGES, LABELS, 3)
    written = data.write_npy_shards(tmp_path, "train", IMAGES[:4])
    assert len(data.npy_shards(tmp_path, "train-b").take(np.arange(11))) == 2
    assert len(data.npy_shards(tmp_path)) == 4 and data.npy_shards(tmp_path).labels is None
    assert [path.name for path in sorted(tmp_path.iterdir()) if "-b" not in path.name] == [
        path.name for path in written
    ]
    with pytest.raises(PersonError, match="the split holds images: give another folder or name"):
        data.write_npy_shards(tmp_path, "train", IMAGES.astype(np.float32))


@pytest.fixture
def files(tmp_path):
    """Two shards of pictures, then two of labels."""
    return data.write_npy_shards(tmp_path, "train", IMAGES, LABELS, 2)


def test_a_missing_shard_is_an_error(files, tmp_path):
    files[0].unlink()
    assert "not one whole set: 1 files, from train-00001-of-00002_images.npy" in message(tmp_path)


def test_a_missing_label_file_is_named(files, tmp_path):
    files[3].unlink()
    assert message(tmp_path) == f"{files[3]}: missing file, other shards have labels"


@pytest.mark.parametrize("cut", [1, 40, 100, 130])
def test_a_torn_shard_is_named(files, tmp_path, cut):
    files[1].write_bytes(files[1].read_bytes()[:-cut])
    text = message(tmp_path)
    assert text.startswith(f"{files[1]}: wrong size") or text.startswith(f"{files[1]}: torn")


def test_bytes_after_the_array_are_an_error(files, tmp_path):
    files[1].write_bytes(files[1].read_bytes() + b"x")
    assert message(tmp_path) == f"{files[1]}: wrong size, 159 bytes instead of 158"


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.array([None, b"x"], object), "object array, which is a pickle: refused"),
        (IMAGES[:5].astype(np.int64), "int64 of shape (5, 3, 2, 1), allowed: uint8"),
        (np.asfortranarray(IMAGES[:5]), "uint8 in Fortran order of shape"),
        (np.zeros(5, np.uint8), "of shape (5,), allowed: uint8 of shape (n, ...)"),
        (np.zeros((0, 3, 2, 1), np.uint8), "of shape (0, 3, 2, 1)"),
        (np.zeros((5, 3, 3, 1), np.uint8), "rows are uint8 of shape (3, 3, 1), those of train-0"),
    ],
)
def test_another_kind_of_array_is_named(files, tmp_path, array, expected):
    np.save(files[1], array, allow_pickle=True)
    text = message(tmp_path)
    assert text.startswith(str(files[1])) and expected in text


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (np.arange(4), "labels of shape (4,), rows: 5"),
        (np.full(5, -1), "label -1"),
        (np.full(5, 2**31), "label 2147483648"),
        (np.zeros(5), "float64 of shape (5,), allowed: int8"),
    ],
)
def test_labels_that_do_not_fit_are_named(files, tmp_path, labels, expected):
    np.save(files[3], labels)
    text = message(tmp_path)
    assert text.startswith(str(files[3])) and expected in text


def test_a_shard_that_is_cut_while_it_is_read_is_named(files, tmp_path):
    records = data.npy_shards(tmp_path)
    os.truncate(files[0], files[0].stat().st_size - 3)
    with pytest.raises(data.DataError, match="cut short, row 5 has 3 of 6 bytes"):
        records.take(np.array([0, 5]))
    assert data.faults(records) == [f"{files[0]}: cut short, row 5 has 3 of 6 bytes"]


def test_no_folder_no_files_and_two_kinds_are_told_apart(tmp_path):
    assert message(tmp_path / "gone").endswith("gone: no such folder")
    assert "neither of train-*_images.npy" in message(tmp_path)
    np.save(tmp_path / "train_images.npy", IMAGES)
    np.save(tmp_path / "train_latents.npy", IMAGES.astype(np.float32))
    assert "both of" in message(tmp_path)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"values": IMAGES.astype(int)}, "values are int64"),
        ({"values": IMAGES, "num_shards": 12}, "num_shards is 12, allowed: 1 to the 11 rows"),
        ({"values": IMAGES, "labels": LABELS[1:]}, r"labels are \(10,\), allowed: \(11,\)"),
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path, options, expected):
    with pytest.raises(PersonError, match=expected):
        data.write_npy_shards(tmp_path, "train", **options)


def test_an_unknown_kind_or_option_names_the_nearest(tmp_path):
    with pytest.raises(PersonError, match=r"unknown kind of records 'nyp'.* did you mean 'npy'"):
        data.open_records("nyp", tmp_path)
    with pytest.raises(PersonError, match=r"unknown option .*'sise'.* did you mean 'size'"):
        data.open_records("folder", tmp_path, sise=3)
    with pytest.raises(data.DataError, match="needs a path"):
        data.open_records("npy")
