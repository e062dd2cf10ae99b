"""Where a run may be: its own folder or a new one, one process at a time."""

import os
import shutil
import subprocess
import sys

import pytest
from ml_collections import ConfigDict

from dfx.errors import PersonError
from dfx.runs import config_hash, open_run, read_run
from dfx.runs import lock as locks
from dfx.runs.place import default_folder

CONFIG = ConfigDict({"seed": 3, "train": {"steps": 5, "rates": (0.1, 0.2)}, "path": None})


def opened(folder, config=CONFIG, study="fake", **options):
    return open_run(folder, config, study, "smoke", start={"time": "now"}, **options)


def everything(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_folder_of_another_config_is_refused_with_both_values(tmp_path):
    with opened(tmp_path / "r"):
        pass
    before = everything(tmp_path)
    other = CONFIG.copy_and_resolve_references()
    other.train.steps = 6
    with pytest.raises(PersonError, match=r"config\.train\.steps is 5 there and 6 here"):
        opened(tmp_path / "r", other)
    with pytest.raises(PersonError, match="holds a run of fake, not of other"):
        opened(tmp_path / "r", study="other")
    assert everything(tmp_path) == before


def test_a_folder_of_other_things_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(PersonError, match=r"is no run folder: it holds thesis\.tex"):
        opened(tmp_path)
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_an_empty_folder_and_the_rest_of_a_first_moment_are_taken(tmp_path):
    with opened(tmp_path):
        pass
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    (tmp_path / ".lock").touch()
    (tmp_path / ".config.json.77.tmp").write_text("{")
    with opened(tmp_path):
        pass
    assert not list(tmp_path.glob(".*.tmp"))


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "a" / "b"):
        with pytest.raises(PersonError, match=r"file is in the way"):
            opened(folder)
    assert os.listdir(tmp_path) == ["file"]


def test_a_dangling_link_is_in_the_way(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    with pytest.raises(PersonError, match="link is in the way"):
        opened(tmp_path / "link")


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs a folder nobody can write")
def test_an_unwritable_folder_is_named():
    with pytest.raises(PersonError, match=r"/proc/dfx cannot be (written|used): "):
        opened("/proc/dfx")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PersonError, match="permission denied"):
        opened(tmp_path / "r")


def test_permission_is_looked_at_before_writing(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(PersonError, match="permission denied"):
        opened(tmp_path / "r")
    assert os.listdir(tmp_path) == []


def test_a_name_too_long_is_one_line(tmp_path):
    with pytest.raises(PersonError, match="cannot be used"):
        opened(tmp_path / ("x" * 300))


def test_one_process_at_a_time_writes_a_folder(tmp_path):
    with opened(tmp_path / "r"):
        with pytest.raises(PersonError, match=rf"in use by another .*process {os.getpid()}"):
            opened(tmp_path / "r")
        read_run(tmp_path / "r")  # readers are free
    with opened(tmp_path / "r"):
        pass


def test_a_folder_taken_by_another_run_at_the_last_moment_is_refused(tmp_path, monkeypatch):
    from dfx.runs import opening

    def slow_lock(place):  # while this process waits, another one begins its run and ends
        monkeypatch.setattr(opening, "Lock", locks.Lock)
        opened(place, study="other").close()
        return locks.Lock(place)

    monkeypatch.setattr(opening, "Lock", slow_lock)
    with pytest.raises(PersonError, match="holds a run of other, not of fake"):
        opened(tmp_path / "r")
    assert read_run(tmp_path / "r").study == "other"


def test_an_error_on_opening_gives_the_lock_back(tmp_path, monkeypatch):
    from dfx.runs import folder

    def broken(*_):
        raise RuntimeError

    with monkeypatch.context() as patch:
        patch.setattr(folder.metrics, "repair", broken)
        with pytest.raises(RuntimeError):
            opened(tmp_path / "r")
    with opened(tmp_path / "r"):
        pass


def test_the_lock_ends_with_its_process(tmp_path):
    code = "import sys, time, pathlib, dfx.runs.lock as l; k = l.Lock(pathlib.Path(sys.argv[1]))"
    code += "; print('held', flush=True); time.sleep(60)"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    with pytest.raises(PersonError, match=f"process {process.pid}"):
        locks.Lock(tmp_path)
    process.kill()
    process.wait()
    locks.Lock(tmp_path).release()


def test_without_locks_a_run_works_with_a_warning(tmp_path, monkeypatch, capsys):
    def flock(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(locks.fcntl, "flock", flock)
    with opened(tmp_path / "r"):
        pass
    assert "cannot be locked (No locks available)" in capsys.readouterr().err


def test_the_default_folder_is_named_by_what_differs():
    other = CONFIG.copy_and_resolve_references()
    assert str(default_folder("a", "smoke", other, CONFIG)) == "runs/a-smoke"
    other.seed = 4
    name = str(default_folder("a", "smoke", other, CONFIG))
    assert name == f"runs/a-smoke-{config_hash(other)[:8]}"


def test_a_run_goes_on_where_its_data_lie_now_and_on_no_others(tmp_path):
    def config(path, told):
        return ConfigDict({"seed": 3, "data": {"path": path, "fingerprint": told}})

    opened(tmp_path / "r", config("a", "mnist 1")).close()
    with opened(tmp_path / "r", config("b", "mnist 1")) as run:
        assert run.config.data.path == "b"
    with pytest.raises(PersonError, match=r'fingerprint is "mnist 1" there and "mnist 2" here'):
        opened(tmp_path / "r", config("a", "mnist 2"))
    base = ConfigDict({"seed": 3, "data": {"path": ""}})  # nobody has looked for its data
    assert str(default_folder("a", "smoke", config("a", "mnist 1"), base)) == "runs/a-smoke"
