"""A run folder read: what is missing or damaged is named, never taken for whole."""

import json
import random

import numpy as np
import pytest
from ml_collections import ConfigDict

from dfx.runs import DamagedRun, MissingRun, open_run, read_run

CONFIG = ConfigDict({"seed": 3, "train": {"steps": 5, "rates": (0.1, 0.2)}, "path": None})


def opened(folder, config=CONFIG, study="fake", **options):
    return open_run(folder, config, study, "smoke", start={"time": "now"}, **options)


def never():
    pytest.fail("computed again")


def test_a_finished_run_is_finished_and_reopening_makes_it_unfinished(tmp_path):
    with opened(tmp_path / "r") as run:
        run.arrays("x", lambda: {"a": 1})
        assert not run.finished
        run.finish()
        assert run.finished
    record = read_run(tmp_path / "r")
    assert record.finished and record.torn() == []
    with opened(tmp_path / "r") as run:
        assert not run.finished
    assert [start["time"] for start in read_run(tmp_path / "r").provenance["starts"]] == ["now"] * 2


def test_a_finished_run_knows_which_arrays_are_torn(tmp_path):
    with opened(tmp_path / "r") as run:
        for name in ("x", "y", "z"):
            run.arrays(name, lambda name=name: {"a": np.arange(ord(name))})
        run.finish()
    record = read_run(tmp_path / "r")
    (record.folder / "arrays" / "x.npz").unlink()
    (record.folder / "arrays" / "z.npz").write_bytes(b"half")
    assert record.torn() == ["x", "z"]
    other = (record.folder / "arrays" / "y.npz").read_bytes()
    (record.folder / "arrays" / "x.npz").write_bytes(other)
    assert record.torn() == ["x", "z"]
    with pytest.raises(DamagedRun, match=r"x\.npz is not what the run kept; run again"):
        record.arrays("x")


def test_there_is_no_run_is_one_line(tmp_path):
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(MissingRun, match="there is no run in"):
            read_run(folder)


def test_arrays_not_computed_yet_are_missing(tmp_path):
    with opened(tmp_path / "r"):
        pass
    with pytest.raises(MissingRun, match=r"x\.npz is not there: the run is not finished"):
        read_run(tmp_path / "r").arrays("x")


def test_a_damaged_array_is_not_read(tmp_path):
    with opened(tmp_path / "r") as run:
        run.arrays("x", lambda: {"a": 1})
    (tmp_path / "r" / "arrays" / "x.npz").write_bytes(b"PK")
    with pytest.raises(DamagedRun, match=r"x\.npz is torn or damaged"):
        read_run(tmp_path / "r").arrays("x")


@pytest.mark.parametrize("file", ["config.json", "provenance.json"])
def test_torn_json_is_refused_by_name_and_never_overwritten(tmp_path, file):
    with opened(tmp_path / "r") as run:
        run.finish()
    path = tmp_path / "r" / file
    whole = path.read_bytes()
    rng = random.Random(0)
    damaged = [whole[: rng.randrange(len(whole) - 1)] for _ in range(20)]
    damaged += [b"", b"[]", b"3", b"null", b"{}", b'{"config": 3}', b"\xff\xfe", b"\0" * 20]
    for data in damaged:
        path.write_bytes(data)
        with pytest.raises(DamagedRun, match=rf"{file} is damaged"):
            read_run(tmp_path / "r")
        with pytest.raises(DamagedRun, match=rf"{file} is damaged"):
            opened(tmp_path / "r")
        assert path.read_bytes() == data


def test_a_changed_config_file_is_noticed(tmp_path):
    with opened(tmp_path / "r"):
        pass
    path = tmp_path / "r" / "config.json"
    about = json.loads(path.read_text())
    others = [{"study": "style"}, {"size": "pod"}, {"config": {".rain": {}}}, {"config": 3}]
    for changed in others:
        path.write_text(json.dumps(about | changed))
        with pytest.raises(DamagedRun, match=r"config\.json is damaged"):
            read_run(tmp_path / "r")


def test_a_column_that_is_not_there_is_a_fault_of_the_file(tmp_path):
    with opened(tmp_path / "r") as run:
        run.log("train", 1, loss=0.5)
    rows = read_run(tmp_path / "r").metrics("train")
    assert rows["loss"] == [0.5] and rows.get("seconds") is None
    with pytest.raises(DamagedRun, match=r"metrics\.jsonl has no 'seconds' of stage 'train'"):
        rows["seconds"]


def test_a_lost_provenance_is_begun_anew(tmp_path):
    with opened(tmp_path / "r") as run:
        run.arrays("x", lambda: {"a": 1})
        run.finish()
    (tmp_path / "r" / "provenance.json").unlink()
    assert not read_run(tmp_path / "r").finished
    with opened(tmp_path / "r") as run:
        run.arrays("x", never)
        run.finish()
    assert read_run(tmp_path / "r").finished
