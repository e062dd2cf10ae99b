"""A run folder: every result is computed once and kept whole."""

import os
import random
import sys

import numpy as np
import pytest
from ml_collections import ConfigDict

from dfx.runs import config_hash, open_run, provenance, read_run

CONFIG = ConfigDict({"seed": 3, "train": {"steps": 5, "rates": (0.1, 0.2)}, "path": None})


def opened(folder, config=CONFIG, study="fake", **options):
    return open_run(folder, config, study, "smoke", start={"time": "now"}, **options)


def never():
    pytest.fail("computed again")


def test_a_new_run_keeps_its_config_and_provenance_before_the_first_step(tmp_path):
    with opened(tmp_path / "a" / "b") as run:
        record = read_run(tmp_path / "a" / "b")
        assert record.config == run.config
        assert config_hash(record.config) == run.config_hash == config_hash(CONFIG)
        assert (record.study, record.size, record.finished) == ("fake", "smoke", False)
        assert record.provenance["seed"] == 3
        assert record.provenance["starts"] == [{"time": "now"}]
        assert type(record.config.train.rates) is tuple


def test_provenance_says_versions_device_and_command(tmp_path):
    import jax

    with open_run(tmp_path / "r", CONFIG, "fake", command="dfx run fake"):
        (start,) = read_run(tmp_path / "r").provenance["starts"]
    assert start["command"] == "dfx run fake"
    assert start["versions"]["jax"] == jax.__version__
    assert start["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert {"jaxlib", "flax", "optax", "dfx"} <= start["versions"].keys()
    assert start["devices"]["count"] == jax.device_count()
    assert start["devices"]["kind"] == jax.devices()[0].device_kind
    assert start.keys() >= {"time", "commit"}


def test_arrays_are_computed_once(tmp_path):
    with opened(tmp_path / "r") as run:
        first = run.arrays("x", lambda: {"a": np.arange(3), "b": 2.5})
        assert run.arrays("x", never)["b"] == 2.5
    with opened(tmp_path / "r") as run:
        again = run.arrays("x", never)
    assert first.keys() == again.keys() == {"a", "b"}
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])
        assert first[name].dtype == again[name].dtype
    np.testing.assert_array_equal(read_run(tmp_path / "r").arrays("x")["a"], np.arange(3))


def test_an_error_in_compute_keeps_nothing(tmp_path):
    with opened(tmp_path / "r") as run:
        with pytest.raises(RuntimeError):
            run.arrays("x", lambda: (_ for _ in ()).throw(RuntimeError))
        assert read_run(run.folder).names() == []
        run.arrays("x", lambda: {"a": 1})
        assert read_run(run.folder).names() == ["x"]


def test_a_damaged_array_is_named_in_one_line_and_computed_anew(tmp_path, capsys):
    rng = random.Random(0)
    path = tmp_path / "r" / "arrays" / "x.npz"
    with opened(tmp_path / "r") as run:
        run.arrays("x", lambda: {"a": np.arange(100)})
        whole = path.read_bytes()
        for _ in range(20):
            path.write_bytes(whole[: rng.randrange(len(whole))])
            capsys.readouterr()
            run.arrays("x", lambda: {"a": np.arange(100)})
            lines = capsys.readouterr().err.splitlines()
            assert len(lines) == 1 and "x.npz is torn or damaged" in lines[0]
            assert path.read_bytes() == whole


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".x", "a b", "x\n"])
def test_a_name_is_a_plain_file_name(tmp_path, name):
    with opened(tmp_path / "r") as run:
        for use in (lambda: run.arrays(name, never), lambda: run.checkpoint_folder(name)):
            with pytest.raises(ValueError, match="no name for a file"):
                use()


def test_a_change_of_versions_is_warned_of(tmp_path, capsys):
    first = {"versions": {"jax": "0.10.2"}, "devices": {"kind": "cpu"}, "commit": {"hash": "a"}}
    second = {**first, "versions": {"jax": "0.11.2"}}
    open_run(tmp_path / "r", CONFIG, "fake", start=first).close()
    open_run(tmp_path / "r", CONFIG, "fake", start=first).close()
    assert capsys.readouterr().err == ""
    open_run(tmp_path / "r", CONFIG, "fake", start=second).close()
    assert "numbers may differ from before: jax 0.10.2, now 0.11.2" in capsys.readouterr().err


@pytest.mark.parametrize("package", provenance.PACKAGES)
def test_every_package_that_decides_the_numbers_is_compared(package):
    old, new = ({"versions": provenance.versions() | {package: v}} for v in ("1", "2"))
    assert provenance.difference(old, old) is None
    assert provenance.difference(old, new) == f"{package} 1, now 2"


def test_a_run_that_kept_nothing_can_be_taken_back(tmp_path):
    with opened(tmp_path / "a" / "b") as run:
        run.checkpoint_folder("x")
        run.discard_if_empty()
    assert os.listdir(tmp_path) == []
    (tmp_path / "mine").mkdir()
    with opened(tmp_path / "mine") as run:
        run.discard_if_empty()
    assert os.listdir(tmp_path / "mine") == []


def test_a_run_that_kept_something_is_not_taken_back(tmp_path):
    with opened(tmp_path / "r") as run:
        run.log("a", 1, x=1)
        run.discard_if_empty()
        assert read_run(run.folder).metrics("a")["x"] == [1]
    (tmp_path / "r" / "metrics.jsonl").unlink()
    with opened(tmp_path / "r") as run:  # reopened: an earlier process was here
        run.discard_if_empty()
        assert read_run(run.folder).study == "fake"


def test_arrays_of_a_finished_run_that_are_others_now_are_computed_anew(tmp_path, capsys):
    with opened(tmp_path / "r") as run:
        run.arrays("x", lambda: {"a": 1})
        run.arrays("y", lambda: {"a": 2})
        run.finish()
    place = tmp_path / "r" / "arrays"
    (place / "x.npz").write_bytes((place / "y.npz").read_bytes())
    for value in (3, 4):  # killed before it is finished again: what was computed since then stays
        with opened(tmp_path / "r") as run:
            assert run.arrays("x", lambda value=value: {"a": value})["a"] == 3
            assert run.arrays("y", lambda: pytest.fail("computed again"))["a"] == 2
    assert capsys.readouterr().err.count("x.npz is not what the run kept: computing it anew") == 1


def test_metrics_survive_a_torn_last_line(tmp_path):
    with opened(tmp_path / "r") as run:
        run.log("train", 1, loss=0.5)
        run.log("train", 2, loss=0.25)
    path = tmp_path / "r" / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-4])
    with opened(tmp_path / "r") as run:
        run.log("train", 2, loss=0.125)
    np.testing.assert_array_equal(read_run(tmp_path / "r").metrics("train")["loss"], [0.5, 0.125])
    assert read_run(tmp_path / "r").stages() == ["train"]


def test_claims_of_an_earlier_state_do_not_outlive_a_reopening(tmp_path):
    with opened(tmp_path / "r"):
        (tmp_path / "r" / "claims.json").write_text("[]")
    with opened(tmp_path / "r"):
        assert not (tmp_path / "r" / "claims.json").exists()


def test_folders_for_checkpoints_and_figures_are_made(tmp_path):
    with opened(tmp_path / "r") as run:
        assert run.checkpoint_folder("a") == tmp_path / "r" / "checkpoints" / "a"
        assert run.checkpoint_folder("a").is_dir() and run.figures.is_dir()
        assert read_run(run.folder).figures == run.figures


def test_labels_of_the_plan_are_numbered(tmp_path, capsys):
    with opened(tmp_path / "r") as run:
        run.plan("train", "sample")
        run.arrays("sample", lambda: {"x": 1})
        run.arrays("sample", never)
        assert capsys.readouterr().err == "dfx: [2/2] sample: kept from before\n"
