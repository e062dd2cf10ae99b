"""Data told by what they hold: the same wherever they lie, others even if little differs."""

import shutil

import numpy as np
import pytest

import configs
from dfx.data import HostArrays
from dfx.runs import config_hash, load
from dfx.runs.fingerprint import ROWS, of_files, of_records, of_sets


def write_mnist(folder, seed):
    """Write 80 random pictures of each split as .npy files."""
    rng = np.random.default_rng(seed)
    (folder / "mnist").mkdir(parents=True)
    for split in ("train", "test"):
        np.save(folder / "mnist" / f"{split}_images.npy", rng.integers(0, 256, (80, 28, 28), "u1"))
        np.save(folder / "mnist" / f"{split}_labels.npy", np.arange(80) % 10)


@pytest.fixture
def folders(tmp_path):
    """Three folders with MNIST: one, its copy, and one with other pictures."""
    write_mnist(tmp_path / "a", 0)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    write_mnist(tmp_path / "c", 1)
    return [str(tmp_path / name) for name in "abc"]


def test_rows_labels_types_and_lengths_are_told_apart():
    images = np.random.default_rng(0).integers(0, 256, (200, 2, 2, 1), "u1")
    labels = np.arange(200, dtype=np.int32) % 10
    changed = images.copy()
    changed[-1] += 1
    sets = [
        (images, labels), (images,), (changed, labels), (images, labels[::-1]),
        (images, labels.astype(np.int16)), (images[:-1], labels[:-1]),
    ]  # fmt: skip
    told = [of_records("x", HostArrays(columns)) for columns in sets]
    assert len(set(told)) == len(sets) and all(text.startswith("x ") for text in told)
    assert told[0] == of_records("x", HostArrays((images.copy(), labels)))
    one, two = HostArrays(sets[0]), HostArrays(sets[2])
    assert of_records("x", one, two) != of_records("x", two, one)
    assert of_records("x", HostArrays((images[: ROWS // 2],)))


def test_sets_are_told_by_their_pictures_and_those_without_files_by_nothing(folders):
    one, copy, other = (of_sets(("digits", "mnist"), folder) for folder in folders)
    assert one == copy != other and one.startswith("mnist ")
    assert of_sets(("digits",), folders[0]) == of_sets((), folders[0]) == ""


def test_files_are_told_by_their_bytes_and_order(tmp_path):
    one, two, copy = (tmp_path / name for name in ("one", "two", "copy"))
    for path, content in ((one, b"a"), (two, b"b"), (copy, b"a")):
        path.write_bytes(content)
    assert of_files("x", one, two) == of_files("x", copy, two) != of_files("x", two, one)
    assert of_files("x", one, two) != of_files("x", one, copy) and of_files("x") == ""
    assert of_files("x", one).startswith("x ")


#: Settings with which the smoke size of each study that reads data reads MNIST.
READERS = {
    "gaussian_painters": [("pictures.name", "mnist")],
    "images": [("data.name", "mnist"), ("net.patch", "4")],
    "learned_solvers": [],
    "mode_interpolation": [],
    "score_or_flow": [("pictures.name", "mnist")],
    "subspace_clustering": [("pictures.names", "mnist")],
}


@pytest.mark.parametrize("study", READERS)
def test_a_config_knows_its_data_wherever_they_are_and_however_they_are_named(
    study, folders, monkeypatch
):
    def loaded(folder, named):
        path = [("data.path", folder)] if named else []
        monkeypatch.setenv("DFX_DATA", "" if named else folder)
        return load(configs.studies()[study], "smoke", READERS[study] + path)

    one, copy, other = (config_hash(loaded(folder, named=True)) for folder in folders)
    assert one == copy == config_hash(loaded(folders[0], named=False)) != other


@pytest.mark.parametrize("study", [study for study, settings in READERS.items() if settings])
def test_a_study_of_the_digits_is_the_same_wherever_other_data_are(study, folders, monkeypatch):
    hashes = set()
    for folder in ("", *folders):
        monkeypatch.setenv("DFX_DATA", folder)
        hashes.add(config_hash(load(configs.studies()[study], "smoke")))
    assert len(hashes) == 1
