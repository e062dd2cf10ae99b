"""A person's mistake with a data set is one line that names the place and says what is right."""

import pickle
import re

import numpy as np
import pytest
from PIL import Image

from dfx import data
from dfx.errors import PersonError


def message(*args, **kw):
    """The message of the DataError that `load` raises; one line, whatever was wrong."""
    with pytest.raises(data.DataError) as caught:
        data.load(*args, **kw)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_data_error_is_a_persons_error():
    assert issubclass(data.DataError, PersonError)


def test_an_unknown_set_names_the_nearest():
    with pytest.raises(PersonError, match="unknown data set 'mnits': did you mean 'mnist'"):
        data.load("mnits")


def test_an_unknown_split_names_the_allowed():
    with pytest.raises(PersonError, match=r"unknown split 'tset': did you mean 'test'\? allowed"):
        data.load("digits", split="tset")


@pytest.mark.parametrize("limit", [0, -3, 2.5, "ten"])
def test_a_limit_must_be_a_positive_integer(limit):
    assert message("digits", limit=limit) == (
        f"limit is {limit!r}, allowed: a positive integer, or None for all"
    )


def test_a_set_without_a_path_says_how_to_give_one():
    assert message("mnist") == "data set 'mnist' needs a path: give one or set DFX_DATA"


def test_a_path_that_does_not_exist_is_named(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    assert message("mnist", gone) == f"data set 'mnist': path '{gone}' does not exist"
    monkeypatch.setenv("DFX_DATA", str(gone))
    assert message("mnist") == f"data set 'mnist': path '{gone}' (from DFX_DATA) does not exist"


def test_a_folder_without_the_set_lists_what_was_looked_for(tmp_path):
    text = message("mnist", tmp_path, "test")
    assert text.startswith(f"data set 'mnist': no test files in {tmp_path}; looked for t10k-images")
    assert "test-*-of-*.parquet" in text and "test.npz" in text


def test_a_missing_label_file_is_named(write):
    written = write("idx_gz")
    written.files[1].unlink()
    text = message("mnist", written.root)
    assert text.startswith(f"{written.root / 'mnist'}: missing file, looked for train-labels")
    assert "train-labels-idx1-ubyte.gz" in text


def test_a_file_of_another_kind_has_the_wrong_magic_number(write):
    written = write("idx")
    written.files[0].write_bytes(b"<html>not found</html>")
    assert message("mnist", written.root) == (
        f"{written.files[0]}: wrong magic number 3c 68 74 6d, "
        "expected 00 00 08 03 (idx, unsigned bytes, 3 axes)"
    )


def test_a_torn_gzip_file_is_called_torn(write):
    written = write("idx_gz")
    written.files[0].write_bytes(written.files[0].read_bytes()[:-100])
    assert re.match(f"{written.files[0]}: torn gzip file", message("mnist", written.root))


def test_an_idx_file_of_the_wrong_size_says_both_sizes(write):
    written = write("idx")
    written.files[0].write_bytes(written.files[0].read_bytes()[:-1])
    assert message("mnist", written.root) == (
        f"{written.files[0]}: wrong size, the header says 30 x 28 x 28 entries, "
        "the file holds 23519"
    )


def test_pictures_and_labels_of_different_number_are_an_error(write, make):
    written = write("idx")
    make.put(written.files[1], make.idx_bytes(np.zeros(29, np.uint8)))
    assert "30 pictures, but 29 labels" in message("mnist", written.root)


def test_a_label_out_of_range_is_named(write, make):
    written = write("idx")
    labels = written.labels.astype(np.uint8)
    labels[4] = 10
    make.put(written.files[1], make.idx_bytes(labels))
    text = message("mnist", written.root)
    assert "label 10 of picture 4 is out of range, allowed: 0 to 9" in text


def test_pictures_of_the_wrong_shape_are_not_the_named_set(tmp_path, make):
    images, labels = make.draw(4, (27, 28, 1))
    make.put(tmp_path / "train-images-idx3-ubyte", make.idx_bytes(images[..., 0]))
    make.put(tmp_path / "train-labels-idx1-ubyte", make.idx_bytes(labels.astype(np.uint8)))
    assert "(27, 28, 1), those of 'mnist' have (28, 28, 1)" in message("mnist", tmp_path)


def test_a_missing_parquet_shard_is_an_error(write):
    written = write("parquet")
    written.files[1].unlink()
    text = message("cifar10", written.root, "test")
    assert "not one whole set: found test-00000-of-00002.parquet" in text


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"label": [1]}, "needs the columns 'label' and 'img' or 'image', has 'label'"),
        ({"img": [b"x"], "label": [1]}, "column 'img' must be a struct with 'bytes', is binary"),
        ({"img": [{"bytes": b"x"}], "label": ["a"]}, "column 'label' must hold integers"),
        ({"img": [{"bytes": b"x"}], "label": [1]}, "row 0: not a whole picture"),
        ({"img": [{"bytes": b""}], "label": [1]}, "row 0: not a whole picture (no bytes)"),
        ({"img": [{"bytes": b"x"}, None], "label": [None, 1]}, "row 0: empty label"),
        ({"img": [None, {"bytes": b"x"}], "label": [0, 1]}, "row 0: empty picture"),
    ],
)
def test_parquet_columns_must_be_pictures_and_integers(tmp_path, columns, expected):
    import pyarrow as pa
    from pyarrow.parquet import write_table

    write_table(pa.table(columns), tmp_path / "train.parquet")
    assert expected in message("parquet", tmp_path)


@pytest.mark.parametrize(
    ("label", "expected"),
    [(2**40, "is 1099511627777, allowed: 1 to 2147483647"), (-1, "label -1 of picture 0 is out")],
)
def test_labels_of_parquet_must_be_classes(tmp_path, make, label, expected):
    from pyarrow.parquet import write_table

    images, _ = make.draw(1, (2, 2, 1))
    write_table(make.parquet_table(images, [label]), tmp_path / "train.parquet")
    assert expected in message("parquet", tmp_path)


def test_the_python_version_of_cifar_is_refused_unread(tmp_path):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("a pickle was loaded",))

    (tmp_path / "data_batch_1").write_bytes(pickle.dumps(Trap()))
    text = message("cifar10", tmp_path)
    assert "is a pickle" in text and "binary version (data_batch_1.bin)" in text


@pytest.mark.parametrize("name", ["train.npz", "train_images.npy"])
def test_object_arrays_are_refused(tmp_path, name):
    objects = np.array([b"a", None], dtype=object)
    save = np.save if name.endswith(".npy") else lambda path, images: np.savez(path, images=images)
    save(tmp_path / name, objects)
    assert "object array, which is a pickle: refused" in message("arrays", tmp_path)


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ({"pictures": np.zeros((1, 2, 2), np.uint8)}, "keys are 'pictures', allowed: 'images'"),
        ({"images": np.zeros((1, 2, 2), np.uint8), "label": [1]}, "keys are 'images', 'label'"),
        ({"images": np.zeros((1, 2, 2))}, "images are float64 of shape (1, 2, 2), allowed: uint8"),
        ({"images": np.zeros((2, 2), np.uint8)}, "images are uint8 of shape (2, 2)"),
        ({"images": np.zeros((0, 2, 2), np.uint8)}, "(0, 2, 2, 1), allowed: uint8"),
        ({"images": np.zeros((1, 2, 2), np.uint8), "labels": [0.5]}, "labels are float64"),
        ({"images": np.zeros((2, 2, 2), np.uint8), "labels": [0]}, "integers of shape (2,)"),
        ({"images": np.zeros((1, 2, 2), np.uint8), "labels": [-1]}, "label -1 of picture 0"),
        ({"images": np.zeros((1, 2, 2), np.uint8), "labels": [5], "num_classes": 3}, "label 5"),
        ({"images": np.zeros((1, 2, 2), np.uint8), "labels": [0], "num_classes": 0}, "is 0, allow"),
        (
            {"images": np.zeros((3, 2, 2), np.uint8), "labels": [0, 1, 2**32 + 1]},
            "num_classes, or the largest label plus one, is 4294967298, allowed: 1 to 2147483647",
        ),
        # It must not wrap to 0 in int32.
        (
            {"images": np.zeros((1, 2, 2), np.uint8), "labels": [2**32], "num_classes": 10},
            "label 4294967296 of picture 0",
        ),
    ],
)
def test_arrays_must_be_bytes_with_integer_labels(tmp_path, entries, expected):
    np.savez(tmp_path / "train.npz", **entries)
    assert expected in message("arrays", tmp_path)


def test_one_file_is_no_test_split(write):
    written = write("arrays_npz")
    assert "give a folder for 'test'" in message("arrays", written.files[0], "test")
    assert "is a file, give the folder" in message("folder", written.files[0])


def test_a_picture_of_another_size_is_named(write, make):
    written = write("folder")
    odd = make.put(written.files[4], make.encode(np.zeros((7, 8, 3), np.uint8)))
    text = message("folder", written.root)
    assert text == f"{odd}: picture of shape (7, 8, 3), the first is (7, 9, 3)"


def test_what_is_no_picture_is_named(write, make):
    written = write("folder")
    note = make.put(written.root / "train" / "cat" / "notes.txt", b"a note")
    assert message("folder", written.root).startswith(f"{note}: no picture")


@pytest.mark.parametrize(
    ("arrange", "expected"),
    [
        (lambda root: (root / "train" / "fish").mkdir(), "class folder without pictures"),
        (lambda root: (root / "train" / "x.png").touch(), "picture beside class folders"),
        (lambda root: (root / "train").rename(root / "other"), "missing folder 'train'"),
    ],
)
def test_a_folder_that_could_be_misread_is_an_error(write, arrange, expected):
    written = write("folder")
    arrange(written.root)
    assert expected in message("folder", written.root)


def test_an_undivided_folder_is_no_test_set(write):
    root = write("folder").root / "train"
    assert len(data.load("folder", root)) == 5
    assert message("folder", root, "test") == f"{root}: missing folder 'test'"
    assert "no pictures here" in message("folder", root.parent, "test")


@pytest.mark.parametrize(
    ("mode", "expected"), [("I;16", "picture of mode I;16"), ("RGBA", "partly transparent")]
)
def test_pixels_that_are_not_grey_or_colour_bytes_are_refused(write, mode, expected):
    written = write("folder")
    Image.new(mode, (9, 7)).save(written.files[0])
    assert expected in message("folder", written.root)


def test_an_opaque_alpha_channel_is_dropped(write):
    written = write("folder")
    Image.fromarray(written.images[0]).convert("RGBA").save(written.files[0])
    np.testing.assert_array_equal(data.load("folder", written.root).images, written.images)


def test_a_folder_that_may_not_be_listed_is_named(write, monkeypatch):
    written = write("folder")

    def denied(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.iterdir", denied)
    assert message("folder", written.root) == (
        f"{written.root / 'train'}: cannot be read (Permission denied)"
    )


def test_a_record_that_does_not_fit_together_is_not_made():
    images = np.zeros((2, 4, 4, 1), np.uint8)
    with pytest.raises(data.DataError, match="2 pictures, but labels of shape"):
        data.Dataset(images, np.zeros(3, np.int32), "mine", 10)
    with pytest.raises(data.DataError, match="images are float32"):
        data.Dataset(images.astype(np.float32), None, "mine", 0)
