"""Shards of array-records."""

import sys

import numpy as np
import pytest

from dfx import data
from dfx.errors import PersonError

IMAGES = np.random.default_rng(0).integers(0, 256, (9, 3, 2, 1), np.uint8)
LABELS = np.arange(9) % 4


@pytest.fixture
def package():
    pytest.importorskip("array_record")


@pytest.mark.parametrize("num_shards", [1, 4])
def test_what_is_written_is_read_in_any_order(package, tmp_path, num_shards):
    data.write_array_records(tmp_path, "train", IMAGES, LABELS, num_shards)
    records = data.open_records("array_record", tmp_path)
    indices = np.array([8, 0, 3, 3])
    rows, labels = records.take(indices)
    np.testing.assert_array_equal(rows, IMAGES[indices])
    np.testing.assert_array_equal(labels, LABELS[indices])
    assert (len(records), rows.dtype, labels.dtype) == (9, np.uint8, np.int32)


def test_a_split_takes_the_place_of_the_one_before(package, tmp_path):
    data.write_array_records(tmp_path, "train", IMAGES, LABELS, 3)
    data.write_array_records(tmp_path, "train", IMAGES[:4], num_shards=2)
    (rows,) = data.array_records(tmp_path).take(np.arange(4))
    np.testing.assert_array_equal(rows, IMAGES[:4])
    assert len(list(tmp_path.iterdir())) == 2


def test_records_of_another_make_are_decoded_by_the_caller(package, tmp_path):
    data.write_array_records(tmp_path, "train", IMAGES)
    records = data.array_records(tmp_path, decode=lambda record: (data.unpack(record)[0] // 2,))
    np.testing.assert_array_equal(records.take(np.arange(9))[0], IMAGES // 2)


def test_a_torn_shard_is_named(package, tmp_path):
    (path,) = data.write_array_records(tmp_path, "train", IMAGES)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(data.DataError, match="not a whole array-record") as caught:
        data.array_records(tmp_path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_a_record_that_is_no_array_is_named(package, tmp_path):
    (path,) = data.write_array_records(tmp_path, "train", IMAGES)

    def refuse(record):
        raise ValueError("not a\npicture")

    records = data.array_records(tmp_path, decode=refuse)
    with pytest.raises(data.DataError, match=r"record 4: cannot be read \(not a picture\)$"):
        records.take(np.array([4]))
    assert path.name in data.faults(records)[0]


def test_records_of_different_shape_are_refused_in_one_batch(package, tmp_path):
    data.write_array_records(tmp_path, "train", [IMAGES[0], IMAGES[0, :2]])
    with pytest.raises(data.DataError, match="in one batch, allowed: one shape for all"):
        data.array_records(tmp_path).take(np.array([0, 1]))


def test_rows_that_cannot_be_written_are_refused(package, tmp_path):
    with pytest.raises(PersonError, match="9, 8 rows in 1 shards"):
        data.write_array_records(tmp_path, "train", IMAGES, LABELS[1:])


def test_a_missing_package_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "array_record.python", None)
    with pytest.raises(PersonError, match=r"need the package array_record, .*dfx\[images\]") as e:
        data.open_records("array_record", tmp_path)
    assert "\n" not in str(e.value)


def test_unpack_is_the_inverse_of_pack():
    arrays = IMAGES[0], np.int32(7), np.zeros((2, 0), np.float16)
    for back, array in zip(data.unpack(data.pack(*arrays)), arrays, strict=True):
        np.testing.assert_array_equal(back, array)
        assert back.dtype == array.dtype


@pytest.mark.parametrize("cut", [1, 20, 130])
def test_a_torn_record_is_an_error(cut):
    record = data.pack(IMAGES[0], IMAGES[1])
    with pytest.raises((ValueError, TypeError)):
        data.unpack(record[:-cut])


def test_objects_are_never_unpacked():
    import io

    buffer = io.BytesIO()
    np.save(buffer, np.array([None], object), allow_pickle=True)
    with pytest.raises(ValueError, match="refused"):
        data.unpack(buffer.getvalue())
