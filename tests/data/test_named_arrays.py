"""Arrays by name: as they are stored, whole, finite, and no pickle."""

import io
import zipfile

import numpy as np
import pytest

from dfx import data

ARRAYS = {"a": np.arange(6.0).reshape(2, 3), "b.c": np.arange(3, dtype=np.int32), "other": "text"}


@pytest.fixture
def path(tmp_path):
    np.savez(tmp_path / "some.npz", **ARRAYS)
    return tmp_path / "some.npz"


def message(path, *names):
    with pytest.raises(data.DataError) as caught:
        data.read_named(path, names, "weights")
    assert "\n" not in str(caught.value) and str(caught.value).startswith(str(path))
    return str(caught.value)


def test_named_arrays_are_read_as_they_are_stored_and_others_are_not(path):
    found = data.read_named(path, ("b.c", "a"))
    assert list(found) == ["b.c", "a"]
    for name, array in found.items():
        np.testing.assert_array_equal(array, ARRAYS[name])
        assert array.dtype == ARRAYS[name].dtype


def test_what_is_missing_is_named_with_what_is_needed(path):
    assert "no item named 'd.npy'" in message(path, "a", "d")
    assert message(path, "a", "d").endswith("allowed: .npz with a and d")
    assert message(path, "d", "e", "f", "g").endswith("allowed: .npz with d and 3 more")


def test_what_is_no_number_or_not_finite_is_named(path):
    assert "other is of type <U4, allowed: numbers" in message(path, "a", "other")
    np.savez(path, a=np.array([1.0, np.inf]))
    assert "a holds numbers that are not finite" in message(path, "a")
    np.savez(path, a=np.array([None], object))
    assert "which is a pickle: refused" in message(path, "a")


@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_a_torn_file_is_named(path, damage):
    raw = bytearray(path.read_bytes())
    if damage == "cut":
        raw = raw[:-30]
    else:
        raw[raw.index(ARRAYS["a"].tobytes()) + 9] ^= 1
    path.write_bytes(raw)
    assert "no weights" in message(path, "a")


def test_a_member_that_is_no_array_or_goes_on_after_it_is_named(path):
    member = io.BytesIO()
    np.save(member, ARRAYS["a"])
    for inside, expected in (
        (path.read_bytes(), "not an .npy file, it begins with 50 4b"),
        (member.getvalue() + b"more", "wrong size, 4 bytes after the array"),
    ):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.npy", inside)
        assert expected in message(path, "a")


def test_a_missing_file_is_named(tmp_path):
    assert "cannot be read" in message(tmp_path / "gone.npz", "a")
