"""A run that was stopped, killed or damaged: it says so, and goes on where it was."""

import io
import os
import random
import re
import signal
import subprocess
import sys
import textwrap
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from dfx.errors import PersonError, Stopped
from dfx.runs import read_run
from dfx.runs.outcome import exit_status
from experiments import compiled, environment

ROOT = Path(__file__).parents[2]


def raiser(error):
    def hook():
        raise error

    return hook


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (KeyboardInterrupt(), 130, "dfx: stopped by the keyboard; to go on: dfx run sheep:smoke"),
        (Stopped("step 3: loss is nan"), 3, "dfx: step 3: loss is nan"),
        (PersonError("digits do not match"), 2, "dfx: digits do not match"),
        (OSError(28, "No space left"), 1, "dfx: No space left; to go on: dfx run sheep:smoke"),
    ],
)
def test_a_stopped_run_says_so_in_one_line_and_goes_on_where_it_was(
    dfx, sheep, error, status, line
):
    dfx("run sheep:smoke --workdir=whole")
    sheep.DONE.clear()
    sheep.HOOKS["sample", 3] = raiser(error)
    got, out, err = dfx("run sheep:smoke")
    assert (got, out, err.splitlines()[-1]) == (status, "", line)
    assert "Traceback" not in err
    sheep.HOOKS.clear()
    assert dfx("run sheep:smoke")[0] == 0
    assert sheep.DONE == ["train", "sample"]  # train was not done again
    for name in ("train", "sample"):
        kept = [Path(d) / "arrays" / f"{name}.npz" for d in ("whole", "runs/sheep-smoke")]
        assert kept[0].read_bytes() == kept[1].read_bytes()
    assert read_run("runs/sheep-smoke").metrics("sample")["step"].tolist() == [0, 1, 2, 3, 4]


def test_a_bug_shows_its_traceback_and_how_to_go_on(dfx, sheep):
    sheep.HOOKS["train", 1] = raiser(ZeroDivisionError("a bug"))
    status, _, err = dfx("run sheep:smoke")
    assert status == 1
    assert "Traceback" in err and "a bug" in err and "to go on: dfx run sheep:smoke" in err


def test_an_unfinished_run_has_no_figures_yet(dfx, sheep):
    sheep.HOOKS["sample", 3] = raiser(KeyboardInterrupt())
    dfx("run sheep:smoke --workdir=a")
    status, _, err = dfx("figures a")
    assert status == 2 and "sample.npz is not there: the run is not finished" in err
    status, _, err = dfx("claims a")
    assert status == 2 and "`dfx figures a` makes it" in err


def test_a_finished_run_with_a_damaged_array_computes_that_one_anew(dfx, sheep):
    _, out, _ = dfx("run sheep:smoke --workdir=a")
    whole = Path("a/arrays/sample.npz").read_bytes()
    Path("a/arrays/sample.npz").write_bytes(whole[:50])
    status, _, err = dfx("figures a")
    assert status == 2 and "sample.npz is torn or damaged" in err
    sheep.DONE.clear()
    status, again, err = dfx("run sheep:smoke --workdir=a")
    assert (status, again) == (0, out)
    assert "sample.npz is missing or damaged" in err
    assert sheep.DONE == ["sample"]
    assert Path("a/arrays/sample.npz").read_bytes() == whole


def test_a_finished_run_without_claims_draws_them(dfx, sheep):
    _, out, _ = dfx("run sheep:smoke --workdir=a")
    sheep.DONE.clear()
    for damage in (Path.unlink, lambda path: path.write_text("[{")):
        damage(Path("a/claims.json"))
        assert dfx("run sheep:smoke --workdir=a")[:2] == (0, out)
    assert sheep.DONE == []


@pytest.mark.parametrize(
    ("line", "status"),
    [("list", 0), ("run sheep --config.train.num_stpes=3", 2), ("run shep", 2), ("claims x", 2)],
)
def test_what_needs_no_jax_does_not_import_it(drive, line, status):
    process = drive(line)
    _, err = process.communicate()
    assert process.returncode == status
    assert err.splitlines()[-1] == "False"


def test_a_reader_that_stops_reading_is_no_traceback(drive):
    process = drive("list")
    process.stdout.close()
    err = process.stderr.read()
    assert process.wait() in (0, 1)
    assert "Error" not in err


def test_what_a_terminal_cannot_show_is_no_traceback(monkeypatch):
    out = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr(sys, "stdout", out)
    assert exit_status(lambda: print("1 ± 2 in \udcff")) == 0
    assert out.buffer.getvalue() == rb"1 \xb1 2 in \udcff" + b"\n"


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [("JAX_ENABLE_X64", "maybe", "true or false"), ("JAX_NUM_CPU_DEVICES", "x", "a whole number")],
)
def test_what_keeps_jax_from_being_imported_is_one_line(drive, monkeypatch, name, value, allowed):
    monkeypatch.setenv(name, value)
    process = drive("solvers")
    _, err = process.communicate()
    line, imported = err.splitlines()
    assert (process.returncode, imported) == (2, "False")
    assert f"does not start with {name}='{value}' in the environment, allowed: {allowed}" in line


def test_devices_that_are_not_here_are_one_line_and_a_bug_is_none(dfx, sheep, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "foo")
    sheep.HOOKS["train", 1] = raiser(AssertionError())
    status, _, err = dfx("run sheep:smoke --workdir=a")
    assert status == 1 and "Traceback" in err
    monkeypatch.setattr("jax.devices", raiser(AssertionError()))
    status, _, err = dfx("run sheep:smoke --workdir=b")
    assert status == 2 and err.count("\n") == 1 and not Path("b").exists()
    assert "JAX does not start with JAX_PLATFORMS='foo' in the environment, allowed:" in err
    monkeypatch.delenv("JAX_PLATFORMS")
    assert dfx("run sheep:smoke --workdir=b")[0] == 1  # nothing in the environment is to blame


def test_figures_take_no_backend_from_the_environment(dfx, monkeypatch):
    dfx("run sheep:smoke --workdir=a")
    monkeypatch.setenv("MPLBACKEND", "foo")
    assert dfx("figures a")[0] == 0
    assert os.environ["MPLBACKEND"] == "agg"


def test_a_folder_for_compiled_programs_that_cannot_be_is_named(tmp_path, monkeypatch, capsys):
    for folder in (str(tmp_path), str(tmp_path / "new/er"), "gs://bucket/x", ""):
        monkeypatch.setenv(compiled.FOLDER, folder)
        environment.keep_only_where_possible()
        assert os.environ[compiled.FOLDER] == folder
    assert capsys.readouterr().err == "" and not os.listdir(tmp_path)
    monkeypatch.setenv(compiled.FOLDER, "/dev/null/x")
    environment.keep_only_where_possible()
    assert os.environ[compiled.FOLDER] == ""
    expected = "/dev/null/x: /dev/null is no folder: compiled programs are not kept"
    assert expected in capsys.readouterr().err


def test_sigterm_ends_with_143_and_says_how_to_go_on(studies, drive):
    process = drive("run sheep:smoke --workdir=a", pause=0.2)
    while not (studies.parent / "a" / "metrics.jsonl").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate()
    assert process.returncode == 143
    stopped = "dfx: stopped by SIGTERM; to go on: dfx run sheep:smoke --workdir=a"
    assert err.splitlines()[1] == stopped


@pytest.mark.slow
def test_kill_9_and_the_same_command_again_end_with_the_same_bytes(studies, drive):
    home, rng = studies.parent, random.Random(0)
    assert drive("run sheep:smoke --workdir=whole").wait() == 0
    for _ in range(4):
        process = drive("run sheep:smoke --workdir=a", pause=0.02)
        time.sleep(rng.uniform(0.3, 0.9))
        process.kill()
        process.communicate()
    process = drive("run sheep:smoke --workdir=a")
    _, err = process.communicate()
    assert process.returncode == 0, err
    for name in ("arrays/train.npz", "arrays/sample.npz", "claims.json"):
        assert (home / "a" / name).read_bytes() == (home / "whole" / name).read_bytes()
    whole, killed = read_run(home / "whole"), read_run(home / "a")
    for stage in whole.stages():
        np.testing.assert_array_equal(killed.metrics(stage)["mean"], whole.metrics(stage)["mean"])


def test_compiled_programs_are_kept_in_the_users_cache_unless_a_folder_is_named(monkeypatch):
    monkeypatch.setattr(os, "environ", {"XDG_CACHE_HOME": "/cache"})
    compiled.keep_compiled()
    assert os.environ[compiled.FOLDER].startswith("/cache/dfx/jax/")
    os.environ[compiled.FOLDER] = "/mine"
    compiled.keep_compiled()
    assert os.environ[compiled.FOLDER] == "/mine"


def test_the_smallest_size_compiles_in_haste_unless_the_person_has_chosen(monkeypatch):
    monkeypatch.setattr(os, "environ", {"XLA_FLAGS": "--mine"})
    compiled.compile_in_haste()
    flags = f"--mine {compiled.HASTY_FLAG}"
    assert os.environ == {compiled.HASTE: "1", "XLA_FLAGS": flags}
    for chosen in ({compiled.HASTE: "0"}, {compiled.HASTE: "1"}):
        monkeypatch.setattr(os, "environ", dict(chosen))
        compiled.compile_in_haste()
        assert os.environ == chosen


def test_every_core_is_a_device_unless_a_number_is_named(monkeypatch):
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=3"}
    monkeypatch.setattr(os, "environ", flags)
    compiled.device_a_core()
    assert compiled.DEVICES not in os.environ
    del flags["XLA_FLAGS"]
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(4), raising=False)
    compiled.device_a_core()
    assert os.environ[compiled.DEVICES] == "4"
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(64))
    compiled.device_a_core()
    assert os.environ[compiled.DEVICES] == "4"


def test_a_run_sets_them_before_jax_is_there():
    lines = """
        import os, sys
        from experiments import launch

        def load(*_):
            assert "jax" not in sys.modules
            print(os.environ["JAX_COMPILATION_CACHE_DIR"], os.environ["JAX_NUM_CPU_DEVICES"])
            raise SystemExit

        launch.load = load
        launch.run_study("mode_interpolation", launch.Arguments((), {}, ()), "")
    """
    environment = {
        key: value
        for key, value in os.environ.items()
        if key not in (compiled.FOLDER, compiled.DEVICES, "XLA_FLAGS")
    }
    command = [sys.executable, "-c", textwrap.dedent(lines)]
    run = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert re.fullmatch(r"\S+ \d+", run.stdout.strip()), run.stderr


def test_a_torn_compiled_program_is_removed_with_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(compiled.FOLDER, str(tmp_path))
    for name in ("jit_f-12-cache", "jit_f_g-3-cache"):
        (tmp_path / name).touch()
    with compiled.plain_warnings(), warnings.catch_warnings(record=False):
        warnings.simplefilter("always")
        torn = "Error reading persistent compilation cache entry for 'jit_f': error -5"
        warnings.warn(torn, stacklevel=1)
        warnings.warn("something\nelse", stacklevel=1)
        full = "Error writing persistent compilation cache entry for 'jit_f_g': No space left"
        warnings.warn(full, stacklevel=1)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "dfx: warning: the kept compilation of jit_f was damaged: compiling it again",
        "dfx: warning: something else",
        f"dfx: warning: {full}",
    ]
    assert os.listdir(tmp_path) == ["jit_f_g-3-cache"]
