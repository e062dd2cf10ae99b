"""Killed and resumed in a new process; one device and eight."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

CHILD = Path(__file__).with_name("train_children.py")


def run(*arguments, devices=1):
    own = {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices), "XLA_FLAGS": ""}
    environment = os.environ | own
    command = [sys.executable, str(CHILD), *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_killed_while_saving_and_resumed_is_uninterrupted_to_the_bit(tmp_path):
    """One process lives; of three in a row the first two are killed, at steps 20 and 45."""
    whole, cut = tmp_path / "whole.npz", tmp_path / "cut.npz"
    lived = run("resume", tmp_path / "a", 0, whole)
    assert lived.stdout.split() == ["from", "0"], lived.stderr
    begun = []
    for die_at in (20, 45, 0):
        child = run("resume", tmp_path / "b", die_at, cut)
        assert child.returncode == (-signal.SIGKILL if die_at else 0), child.stderr
        begun.append(int(child.stdout.split("from")[1]))
        # The save under way when the process died is there or not; a torn one is named.
        refused = child.stdout.split("from")[0]
        assert refused == "" or "half-written" in refused
    assert begun[0] == 0 and begun[1] in (10, 15, 20) and begun[2] in (35, 40, 45)
    with np.load(whole) as one, np.load(cut) as other:
        assert one.files == other.files
        for name in one.files:
            np.testing.assert_array_equal(one[name], other[name])


@pytest.mark.slow
def test_ensemble_on_eight_devices_is_the_ensemble_on_one(tmp_path):
    child = run("devices", tmp_path, devices=8)
    assert child.stdout.split() == ["same"], child.stderr
