"""Killed and resumed in a new process; one device and eight; one process and two."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

CHILD = Path(__file__).with_name("train_children.py")


def start(*arguments, devices=1):
    own = {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices), "XLA_FLAGS": ""}
    command = [sys.executable, str(CHILD), *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=os.environ | own, stdout=pipe, stderr=pipe, text=True)


def run(*arguments, devices=1):
    """Return the exit status, the lines and the complaints of a child that has ended."""
    with start(*arguments, devices=devices) as child:
        out, err = child.communicate(timeout=600)
    return child.returncode, out, err


def begun(lines):
    """Return the step that a child began at."""
    return next(int(line.split()[1]) for line in lines.splitlines() if line.startswith("from"))


def assert_same_files(one, other, **tolerance):
    with np.load(one) as a, np.load(other) as b:
        assert a.files == b.files
        for name in a.files:
            if tolerance:
                np.testing.assert_allclose(a[name], b[name], **tolerance)
            else:
                np.testing.assert_array_equal(a[name], b[name])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The end of a run that nobody interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    status, out, err = run("resume", folder / "a", 0, folder / "whole.npz")
    assert status == 0 and begun(out) == 0, err
    return folder / "whole.npz"


@pytest.mark.slow
def test_killed_while_saving_and_resumed_is_uninterrupted_to_the_bit(tmp_path, whole):
    """Of three processes in a row the first two are killed, at steps 20 and 45."""
    steps = []
    for die_at in (20, 45, 0):
        status, out, err = run("resume", tmp_path / "b", die_at, tmp_path / "cut.npz")
        assert status == (-signal.SIGKILL if die_at else 0), err
        steps.append(begun(out))
        # The save under way when the process died is there or not; a torn one is named.
        refused = out.split("from")[0]
        assert refused == "" or "half-written" in refused
    assert steps[0] == 0 and steps[1] in (10, 15, 20) and steps[2] in (35, 40, 45)
    assert_same_files(whole, tmp_path / "cut.npz")


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_stopped_at_random_moments_and_resumed_is_uninterrupted_to_the_bit(tmp_path, whole, end):
    """SIGTERM saves by itself, so that nothing is lost though no save is due before the end."""
    save_every, moments = (1000 if end == signal.SIGTERM else 1), random.Random(0)
    reached = 0
    for attempt in range(4):
        arguments = ("resume", tmp_path / "c", 0, tmp_path / "end.npz", save_every)
        with start(*arguments) as child:
            out = child.stdout.readline()
            while not out.splitlines()[-1:] or not out.splitlines()[-1].startswith("from"):
                out += child.stdout.readline()
            if attempt < 3:
                time.sleep(moments.uniform(0.0, 1.5))
                child.send_signal(end)
            rest, err = child.communicate(timeout=600)
        if end == signal.SIGTERM:
            assert begun(out) == reached, err
        if child.returncode == 0:
            break
        assert child.returncode == -end and err == "", err
        reached = max([begun(out), *(int(line.split()[1]) for line in rest.splitlines())])
    assert child.returncode == 0, err
    assert_same_files(whole, tmp_path / "end.npz")


@pytest.mark.slow
@pytest.mark.parametrize("what", ["devices", "meshes"])
def test_training_on_eight_devices_is_the_training_on_one(tmp_path, what):
    """Of an ensemble spread over them, and of one net on meshes of them."""
    _, out, err = run(what, tmp_path, devices=8)
    assert out.split() == ["same"], err


@pytest.mark.slow
def test_two_processes_are_one(tmp_path):
    """The same mesh of four devices; fed from the host, saved, restored, then from memory."""
    alone = run("pair", tmp_path / "one", tmp_path / "one.npz", devices=4)
    assert alone[0] == 0, alone[2]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = ("pair", tmp_path / "two", tmp_path / "two.npz", port)
    with start(*arguments, 1, devices=2) as second:
        first = run(*arguments, 0, devices=2)
        err = second.communicate(timeout=600)[1]
    assert first[0] == second.returncode == 0, first[2] + err
    # Sums of float32 in another order, 12 steps apart.
    assert_same_files(tmp_path / "one.npz", tmp_path / "two.npz", rtol=2e-4, atol=2e-6)
