"""What a person sees: progress, exit statuses, one line for each way to end."""

import errno
import io
import os
import signal
import time

import pytest

from dfx.errors import PersonError, Stopped
from dfx.runs import Progress, progress, provenance, say
from dfx.runs.outcome import exit_status
from dfx.runs.processes import OtherFailed


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_without_a_terminal_there_is_a_line_now_and_then(capsys, monkeypatch):
    clock = iter(range(0, 10_000, 4))  # each look at the clock takes four seconds
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    with Progress(100, "train", initial=40) as bar:
        for _ in range(10):
            bar.update(6, loss=0.123456)
    lines = capsys.readouterr().err.splitlines()
    assert 1 <= len(lines) <= 5
    assert all(line.startswith("dfx: train: ") and line.endswith("loss=0.1235") for line in lines)
    done = [int(line.split()[2].split("/")[0]) for line in lines]
    assert done == sorted(done) and done[-1] <= 100


def test_a_fast_stage_without_a_terminal_is_quiet(capsys):
    with Progress(1000, "train") as bar:
        for _ in range(1000):
            bar.update(1, loss=1.0)
    assert capsys.readouterr().err == ""


def test_on_a_terminal_there_is_a_bar(monkeypatch):
    screen = Terminal()
    monkeypatch.setattr(progress.sys, "stderr", screen)
    with Progress(10, "train", unit="batch") as bar:
        bar.update(10, loss=0.25, rate=1e-3)
        say("a word")
    text = screen.getvalue()
    assert "train" in text and "10/10" in text and "loss=0.25, rate=0.001" in text
    assert "dfx: a word\n" in text


def test_a_resumed_bar_begins_where_it_was(monkeypatch):
    screen = Terminal()
    monkeypatch.setattr(progress.sys, "stderr", screen)
    with Progress(100, "train", initial=40) as bar:
        bar.update(60)
    assert "40/100" in screen.getvalue() and "100/100" in screen.getvalue()


def raising(error):
    def command():
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (PersonError("no such\n thing"), 2, "dfx: no such thing"),
        (Stopped("step 3: loss nan"), 3, "dfx: step 3: loss nan"),
        (OtherFailed("process 1: lost"), 1, "dfx: process 1: lost"),  # not its own doing
        (KeyboardInterrupt(), 130, "dfx: stopped by the keyboard"),
        (OSError(errno.ENOSPC, "No space left", "a.npz"), 1, "dfx: No space left: a.npz"),
    ],
)
def test_each_way_to_end_has_its_status_and_one_line(capsys, error, status, line):
    assert exit_status(raising(error)) == status
    assert capsys.readouterr().err == line + "\n"
    error.add_note("to go on: dfx run x")
    assert exit_status(raising(error)) == status
    assert capsys.readouterr().err == line + "; to go on: dfx run x\n"


@pytest.mark.parametrize("error", [ValueError("x"), ZeroDivisionError("x"), OSError(2, "x")])
def test_a_bug_shows_its_traceback(capsys, error):
    assert exit_status(raising(error)) == 1
    assert "Traceback" in capsys.readouterr().err


def test_what_works_is_0_and_silent(capsys):
    assert exit_status(lambda: None) == 0
    assert capsys.readouterr() == ("", "")


def test_sigterm_ends_in_order(capsys):
    closed = []

    def command():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        finally:
            closed.append(True)

    before = signal.getsignal(signal.SIGTERM)
    assert exit_status(command) == 143
    assert closed == [True]
    assert capsys.readouterr().err == "dfx: stopped by SIGTERM\n"
    assert signal.getsignal(signal.SIGTERM) == before


def test_the_commit_is_that_of_the_source_tree(tmp_path, monkeypatch):
    import subprocess

    monkeypatch.setattr(provenance, "_ROOT", tmp_path)
    assert provenance.commit() is None  # not a source tree
    (tmp_path / "pyproject.toml").touch()
    assert provenance.commit() is None  # not a checkout
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-qm", "x"], check=True)
    clean = provenance.commit()
    assert len(clean["hash"]) == 40 and clean["dirty"] is False
    (tmp_path / "new").touch()
    assert provenance.commit() == {"hash": clean["hash"], "dirty": True}


def test_a_package_that_is_not_installed_has_no_version():
    assert provenance.version("no-such-package-anywhere") is None
