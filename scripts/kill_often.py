"""Stop a run again and again at random moments: does it end with the bits of one left alone?

    python scripts/kill_often.py images:smoke --kills=20 --signal=KILL --folder=/tmp/kills
        [--seed=0] [--seconds=30] [any option of dfx run, such as --config.train.num_steps=100]

One run is left alone. Others are started, stopped by the signal at a random moment within so many
seconds (by default half of what a run takes), and started again by the same command, until they
end; then the next one begins, until there have been so many stops. Every run that ends is compared
with the first: its arrays and the state of its last checkpoint bit for bit, and its rows of the
log, without the entries that are times.

Prints where the runs were when they were stopped, and ends with status 1 at the first difference.
"""

from __future__ import annotations

import argparse
import collections
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from dfx.runs import read_run

#: Entries that are measured times, or follow from them.
TIMES = {
    "seconds", "peak", "first_s", "images_per_s", "step_s", "waiting", "memory_gib", "flop_per_s",
    "utilisation",
}  # fmt: skip
LONGEST_SECONDS = 3600


def main(argv: list[str] | None = None) -> int:
    """Stop runs as the command line says, and return 0 if all of them ended alike."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("study")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--signal", choices=("KILL", "TERM"), default="KILL")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=None)
    asked, options = parser.parse_known_args(argv)
    begin = [sys.executable, "-m", "experiments.cli", "run", asked.study, *options]
    number = signal.Signals[f"SIG{asked.signal}"]
    found = survive(begin, asked.folder, asked.kills, number, asked.seed, asked.seconds)
    for (status, where), count in sorted(found.items()):
        print(f"{count:3d} x status {status}, {where}")
    return 0


def survive(
    begin: list[str],
    folder: Path,
    kills: int,
    how: int,
    seed: int = 0,
    longest: float | None = None,
) -> collections.Counter:
    """Return how often runs ended with which status where, all of them alike in the end.

    Args:
      begin: the command, to which --workdir is added.
      folder: for the run folders; that of the run left alone is kept, if it is there.
      kills: how many times a run is stopped that has not ended by itself.
      how: the signal.
      seed: of the moments.
      longest: seconds within which they lie; None for half of what a run takes.

    Raises:
      AssertionError: a run ended otherwise, or with different numbers.
    """
    whole, cut, log = folder / "whole", folder / "cut", folder / "log.txt"
    folder.mkdir(parents=True, exist_ok=True)
    moments, found = random.Random(seed), collections.Counter()
    _run(begin, whole, log)
    if longest is None:  # a second run: what is compiled is there by now
        shutil.rmtree(cut, ignore_errors=True)
        longest = _run(begin, cut, log) / 2
        assert_alike(whole, cut)
    while sum(found.values()) < kills:
        shutil.rmtree(cut, ignore_errors=True)
        while (status := _stopped(begin, cut, log, moments.uniform(0.0, longest), how)) != 0:
            assert status in (-how, 128 + how), f"status {status}: {_tail(log)}"
            found[status, where(cut)] += 1
            if sum(found.values()) >= kills:
                _run(begin, cut, log)
                break
        assert_alike(whole, cut)
        print(f"{sum(found.values())} stops, and a run that ended alike", flush=True)
    return found


def assert_alike(one: Path, other: Path) -> None:
    """Raise AssertionError unless two run folders hold the same bits, times left out."""
    a, b = read_run(one), read_run(other)
    assert a.finished and b.finished and a.names() == b.names() and not b.torn()
    for name in a.names():
        x, y = a.arrays(name), b.arrays(name)
        assert x.keys() == y.keys()
        for key in x.keys() - TIMES:
            np.testing.assert_array_equal(x[key], y[key], err_msg=f"{name}, {key}")
    assert checkpoint(one) == checkpoint(other)
    for stage in a.stages():
        x, y = a.metrics(stage), b.metrics(stage)
        for key in x.keys() - TIMES:
            np.testing.assert_array_equal(x[key], y[key], err_msg=f"log of {stage}, {key}")
    assert not list(other.rglob("*.tmp"))


def checkpoint(folder: Path) -> dict[str, list]:
    """Return the checksums of the leaves of the last checkpoint of each training."""
    steps: dict[str, int] = {}
    for path in folder.glob("checkpoints/*/[0-9]*"):
        if path.name.isdigit():
            steps[path.parent.name] = max(int(path.name), steps.get(path.parent.name, 0))
    found = {}
    for name, step in steps.items():
        record = folder / "checkpoints" / name / str(step) / "record" / "metadata"
        found[name] = [step, json.loads(record.read_text())["record"]["leaves"]]
    return found


def where(folder: Path) -> str:
    """Return in words how far a run has come: what of it is kept."""
    if not (folder / "config.json").exists():
        return "before the folder was opened"
    run, saved = read_run(folder), [0]
    saved += [int(p.name) for p in folder.glob("checkpoints/*/[0-9]*") if p.name.isdigit()]
    ended = ", finished" if run.finished else ""
    return f"{max(saved)} steps saved, {len(run.names())} arrays kept{ended}"


def _run(begin: list[str], folder: Path, log: Path) -> float:
    """Run to the end, if it is not there, and return the seconds it took."""
    start = time.monotonic()
    with open(log, "a") as out:
        status = subprocess.call([*begin, f"--workdir={folder}"], stdout=out, stderr=out)
    assert status == 0, _tail(log)
    return time.monotonic() - start


def _stopped(begin: list[str], folder: Path, log: Path, seconds: float, how: int) -> int:
    """Start a run, stop it after so many seconds, and return its status."""
    with open(log, "a") as out:
        process = subprocess.Popen([*begin, f"--workdir={folder}"], stdout=out, stderr=out)
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(how)
            return process.wait(LONGEST_SECONDS)


def _tail(log: Path) -> str:
    return "\n".join(log.read_text().splitlines()[-20:])


if __name__ == "__main__":
    sys.exit(main())
