"""An image training that is stopped at random moments ends with the bits of one left alone."""

import signal
import sys

import numpy as np
import pytest

from dfx.runs import open_run
from scripts import kill_often

SHORT = (
    "images:smoke --config.train.num_steps=30 --config.evaluation.every=30 "
    "--config.evaluation.parts=loss, --config.ema.posthoc=0.1, --config.train.save_every=10"
)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_a_training_stopped_by_either_signal_ends_to_the_bit(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "compiled"))
    begin = [sys.executable, "-m", "experiments.cli", "run", *SHORT.split()]
    for how in (signal.SIGKILL, signal.SIGTERM):
        found = kill_often.survive(begin, tmp_path, 1, how, longest=12.0)
        assert sum(found.values()) == 1


def test_runs_that_differ_in_a_bit_are_told_apart(tmp_path):
    """An entry that is a time may differ; a number, the last digit of it, may not."""
    x = np.linspace(0.0, 1.0, 5)
    for name, change, seconds in (("a", 0.0, 1.0), ("b", 0.0, 2.0), ("c", 2.0**-52, 1.0)):
        with open_run(tmp_path / name, {"seed": 0}, "fake", start={}) as run:
            run.arrays("x", lambda: {"x": x + change * x, "seconds": seconds})  # noqa: B023
            run.log("train", 1, loss=0.5, seconds=seconds)
            run.finish()
    kill_often.assert_alike(tmp_path / "a", tmp_path / "b")
    with pytest.raises(AssertionError, match="x, x"):
        kill_often.assert_alike(tmp_path / "a", tmp_path / "c")
