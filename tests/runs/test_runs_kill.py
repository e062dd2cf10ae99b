"""A run killed at random moments and started again ends with the very bytes of one left alone."""

import random
import subprocess
import sys
import time

import numpy as np
import pytest
from ml_collections import ConfigDict

from dfx.runs import open_run, read_run

# A run without JAX, so that it starts fast: a chain in which each stage needs the one before.
STUDY = """
import sys, time
import numpy as np
from ml_collections import ConfigDict
from dfx.runs import open_run

def work(run, name, before):
    def compute():
        total = np.array(before)
        for step in range(20):
            total = np.sin(total * 1.7 + step)
            run.log(name, step, total=total.sum())
            time.sleep(0.002)
        return {"total": total}
    return run.arrays(name, compute)["total"]

config = ConfigDict({"seed": 0, "stages": 8})
with open_run(sys.argv[1], config, "chain", start={}) as run:
    print("open", flush=True)
    value = np.linspace(0, 1, 50_000)
    for stage in range(config.stages):
        value = work(run, f"stage{stage}", value)
    run.finish()
"""


def start(folder):
    command = [sys.executable, "-c", STUDY, str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def results(folder):
    run = read_run(folder)
    assert run.finished and run.torn() == []
    kept = {path.name: path.read_bytes() for path in (folder / "arrays").iterdir()}
    return kept, {stage: run.metrics(stage) for stage in run.stages()}


@pytest.mark.parametrize("wanted", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_kill_9_at_random_moments_changes_no_bit(tmp_path, wanted):
    assert start(tmp_path / "whole").wait() == 0
    rng, kills = random.Random(wanted), 0
    for _ in range(3 * wanted):
        process = start(tmp_path / "killed")
        process.stdout.readline()  # the folder is open: from here on every moment counts
        time.sleep(rng.uniform(0, 0.1))
        process.kill()
        kills += process.wait() != 0
        if kills == wanted:
            break
    process = start(tmp_path / "killed")
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    assert kills == wanted
    whole, killed = results(tmp_path / "whole"), results(tmp_path / "killed")
    assert killed[0] == whole[0]
    assert killed[1].keys() == whole[1].keys()
    for stage, columns in whole[1].items():
        for name, column in columns.items():
            np.testing.assert_array_equal(killed[1][stage][name], column)
    assert not list((tmp_path / "killed").rglob("*.tmp"))


FULL = """
import resource, sys
import numpy as np
from ml_collections import ConfigDict
from dfx.runs import open_run
from dfx.runs.outcome import exit_status

def command():
    with open_run(sys.argv[1], ConfigDict({"seed": 0}), "full", start={}) as run:
        run.arrays("small", lambda: {"x": np.zeros(10)})
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        run.arrays("large", lambda: {"x": np.zeros(10_000)})

sys.exit(exit_status(command))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX limits")
def test_a_file_that_does_not_fit_ends_in_one_line_and_loses_nothing(tmp_path):
    # A limit on the size of files stands in for a full disk: the same error path.
    command = [sys.executable, "-c", FULL, str(tmp_path / "r")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("dfx: ") and "large.npz" in line
    run = read_run(tmp_path / "r")
    assert run.names() == ["small"] and not run.finished
    np.testing.assert_array_equal(run.arrays("small")["x"], np.zeros(10))
    assert not list((tmp_path / "r").rglob("*.tmp"))


FULL_LOG = """
import resource, sys
from ml_collections import ConfigDict
from dfx.runs import open_run
from dfx.runs.outcome import exit_status

def command():
    with open_run(sys.argv[1], ConfigDict({"seed": 0}), "full", start={}) as run:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, 2_000))
        for step in range(1000):
            run.log("train", step, loss=step / 8)

sys.exit(exit_status(command))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX limits")
def test_a_log_that_does_not_fit_ends_in_one_line_and_keeps_every_row_before(tmp_path):
    command = [sys.executable, "-c", FULL_LOG, str(tmp_path / "r")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("dfx: ") and "metrics.jsonl" in line
    with open_run(tmp_path / "r", ConfigDict({"seed": 0}), "full", start={}) as run:
        rows = read_run(run.folder).metrics("train")["loss"]
        assert 20 < len(rows) < 100
        np.testing.assert_array_equal(rows, np.arange(len(rows)) / 8)
        run.log("train", len(rows), loss=0.0)  # there is room again
    assert len(read_run(run.folder).metrics("train")["loss"]) == len(rows) + 1
