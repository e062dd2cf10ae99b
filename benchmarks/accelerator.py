"""One accelerator: what it trains, how fast, and what limits it. Under 25 minutes on one GPU.

    python -m benchmarks.accelerator --data=DIR --out=DIR     DIR with CIFAR-10 in a usual layout
    python -m benchmarks.accelerator --smoke --out=DIR        everything tiny, on a CPU, no data

Needs no network. Each part runs in a process of its own, so that the device is free for the next
one and a part that fails hides no other:

    input   pictures a second of the input alone: from memory, as training takes them, and from the
            host's feed
    dit     a step of DiT-B/2, 256 tokens, batch 256, bfloat16: variants and parts (time, share of
            the listed peak)
    unet    a step of EDM's DDPM++ on 32 x 32
    train   `dfx run images:cifar10_small` for the minutes that are left: samples, distances, images
            a second, utilisation

Written to --out as the parts end: accelerator.json, accelerator.png, samples.png, and train/, the
run folder, on which the same command goes on.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from dfx.runs.files import atomic, write_json

PARTS = ("input", "dit", "unet", "train")
LONGEST = {"input": 120, "dit": 540, "unet": 240}  # seconds
EVALUATIONS = 240  # seconds kept for what follows the training
SAVING = 60  # seconds in which a training that takes too long saves itself
MINUTES = 23.0


def main(argv: list[str] | None = None) -> int:
    """Run all parts, or in a process of its own one, and return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", default="", help="folder of CIFAR-10; DFX_DATA if not given")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=MINUTES)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    asked = parser.parse_args(argv)
    if asked.part is not None:
        run_part(asked)
        return 0
    asked.out.mkdir(parents=True, exist_ok=True)
    found = run_all(asked)
    print(summary(found["rows"]))
    return 1 if found["failed"] else 0


def run_all(asked: argparse.Namespace) -> dict[str, Any]:
    """Run the parts one after the other and return the rows of all, written out after each."""
    begin = time.monotonic()
    found: dict[str, Any] = {"rows": [], "failed": {}, "smoke": asked.smoke}
    for part in PARTS:
        left = 60 * asked.minutes - (time.monotonic() - begin)
        limit = left if part == "train" else min(LONGEST[part], left)
        rows, failure = run_child(asked, part, max(limit, 60.0))
        found["rows"] += rows
        if failure:
            found["failed"][part] = failure
        found["seconds"] = time.monotonic() - begin
        write_json(asked.out / "accelerator.json", found)
    draw(found["rows"], asked.out / "accelerator.png")
    return found


def run_child(asked: argparse.Namespace, part: str, limit: float) -> tuple[list[dict], str]:
    """Return the rows that a part printed, and in a line how it failed ("" if it did not)."""
    command = [sys.executable, "-m", "benchmarks.accelerator", f"--part={part}"]
    command += [f"--out={asked.out}", f"--minutes={limit / 60}"]
    command += ["--smoke"] if asked.smoke else []
    command += [f"--data={asked.data}"] if asked.data else []
    rows, begin = [], time.monotonic()
    patience = limit + (SAVING if part == "train" else 0)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as job:
        try:
            out, _ = job.communicate(timeout=patience)
        except subprocess.TimeoutExpired:
            job.terminate()
            out, _ = job.communicate()
    for line in out.splitlines():
        print(line, flush=True)
        if line.startswith("{"):
            rows.append(json.loads(line))
    seconds = time.monotonic() - begin
    return rows, "" if job.returncode == 0 else f"status {job.returncode} after {seconds:.0f} s"


def run_part(asked: argparse.Namespace) -> None:
    """Do one part in this process: its rows are printed as lines of JSON."""
    from experiments import compiled

    compiled.keep_compiled()
    if asked.smoke:
        compiled.compile_in_haste()
    if asked.part == "train":
        train(asked)
    elif asked.part == "input":
        importlib.import_module("benchmarks.accelerator_input").measure(asked.data, asked.smoke)
    else:
        steps = importlib.import_module("benchmarks.accelerator_steps")
        {"dit": steps.dit, "unet": steps.unet}[asked.part](asked.smoke)


def train(asked: argparse.Namespace) -> None:
    """Run the study `images` for the minutes that are left, and report what its folder says."""
    size, folder = "digits_smoke" if asked.smoke else "cifar10_small", asked.out / "train"
    words = ["run", f"images:{size}", f"--workdir={folder}"]
    if not asked.smoke and not (folder / "config.json").exists():
        words.append(f"--config.train.minutes={max(asked.minutes - EVALUATIONS / 60, 0.5):.1f}")
    elif not asked.smoke:  # go on with what was begun
        kept = json.loads((folder / "config.json").read_text())["config"]
        words.append(f"--config.train.minutes={kept['train']['minutes']}")
    environment = os.environ | ({"DFX_DATA": asked.data} if asked.data else {})
    command = [sys.executable, "-m", "experiments.cli", *words]
    with subprocess.Popen(command, stdout=sys.stderr, env=environment) as job:
        try:
            status = job.wait(60 * asked.minutes)
        except subprocess.TimeoutExpired:
            job.terminate()  # it saves what it has
            status = job.wait()
    report_run(folder, asked.out)
    if status:
        raise SystemExit(status)


def report_run(folder: Path, out: Path) -> None:
    """Report speed and distances of a run, as far as it came, and copy its picture of samples."""
    import numpy as np

    from benchmarks.timing import report
    from dfx.runs import read_run

    run = read_run(folder)
    rows = run.metrics("train")
    names = ("seconds", "loss", "images_per_s", "step_s", "utilisation", "waiting", "memory_gib")
    if len(rows["step"]):
        last = {name: float(rows[name][-1]) for name in names if name in rows}
        report("train", run.size, step=int(rows["step"][-1]), first_s=float(rows["first_s"][0]),
               **last)  # fmt: skip
    for name in (name for name in run.names() if name.startswith("judged_")):
        kept = run.arrays(name)
        scores = ("frechet", "precision", "recall", "density", "coverage", "loss_test", "bits")
        values = {key: np.round(kept[key], 5).tolist() for key in scores if key in kept}
        report("train", name, **values)
    pictures = sorted(run.figures.glob("*sample*.png"))
    if pictures:
        shutil.copy(pictures[0], out / "samples.png")


def summary(rows: list[dict]) -> str:
    """Return the rows that matter as a table in text."""
    lines = [f"{'case':44} {'ms':>9} {'images/s':>10} {'of peak':>8}"]
    for row in rows:
        ms = row.get("step_ms") or 1e3 * row.get("step_s", 0.0)
        speed = row.get("images_per_s") or row.get("pictures_per_s")
        share = row.get("utilisation")
        columns = (
            f"{ms:.2f}" if ms else "", f"{speed:.0f}" if speed else "",
            f"{share:.1%}" if share else "",
        )  # fmt: skip
        ending = row.get("failed") or "{:>9} {:>10} {:>8}".format(*columns)
        lines.append(f"{row['workload']} {row['case']}".ljust(45) + ending)
    return "\n".join(lines)


def draw(rows: list[dict], path: Path) -> None:
    """Draw the share of the peak of every case that has one."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = [row for row in rows if row.get("utilisation") is not None]
    names = [f"{row['workload']}: {row['case']}" for row in shown]
    figure, axes = pyplot.subplots(figsize=(8, 1 + 0.3 * max(len(shown), 1)))
    axes.barh(names[::-1], [100 * row["utilisation"] for row in shown][::-1])
    axes.axvline(40, color="k", linewidth=0.8, linestyle="dashed")
    axes.set_xlabel("model FLOP/s over peak, %")
    figure.tight_layout()
    with atomic(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
    pyplot.close(figure)


if __name__ == "__main__":
    sys.exit(main())
