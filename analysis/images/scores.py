"""What the study `images` has found, by name, and the table of its scores with their setting."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np

from dfx import recipes
from dfx.runs import Record
from dfx.runs.files import atomic

REFERENCES = ("real", "gaussian", "empirical")
NAMED = {
    "net": "net, {steps:,} steps", "real": "real test pictures", "gaussian": "Gaussian fit",
    "empirical": "empirical denoiser",
}  # fmt: skip
COLUMNS = {
    "frechet": "Frechet distance", "frechet_limit": "its limit for many samples",
    "fid": "FID", "fid_limit": "its limit for many samples",
    "precision": "precision", "recall": "recall", "density": "density", "coverage": "coverage",
    "loss_test": "held-out loss", "loss_train": "loss on training pictures",
    "bits": "bits per dimension",
}  # fmt: skip


class Judged(NamedTuple):
    """What was said of nets and references.

    stops: steps -> arrays of `judged_STEP`, rising. references: name -> arrays of `judged_NAME`.
    """

    stops: dict[int, dict[str, np.ndarray]]
    references: dict[str, dict[str, np.ndarray]]

    @property
    def last(self) -> dict[str, np.ndarray]:
        """The arrays of the last stop."""
        return self.stops[max(self.stops)]

    def column(self, name: str) -> np.ndarray:
        """Return one entry at every stop that has it, stops first."""
        return np.stack([found[name] for found in self.stops.values() if name in found])


def read_judged(run: Record) -> Judged:
    """Return what the run has kept of its stops and references."""
    steps = sorted(
        int(name.removeprefix("judged_")) for name in run.names() if name[-8:].isdecimal()
    )
    stops = {step: run.arrays(f"judged_{step:08d}") for step in steps}
    return Judged(stops, {name: run.arrays(f"judged_{name}") for name in REFERENCES})


def published(run: Record) -> tuple[recipes.Reached, ...]:
    """Return the FIDs that the recipe's paper prints for the data of the run."""
    name = run.config.data.name
    return tuple(
        found
        for found in recipes.make(run.config.recipe).reached
        if found.metric == "FID" and re.sub("[^a-z0-9]", "", found.data.lower()) == name
    )


def write(run: Record, judged: Judged) -> None:
    """Write figures/scores.md: every score with its standard error, and what it was got by."""
    rows = {"net": judged.last, **judged.references}
    steps = max(judged.stops)
    names = [name for name in COLUMNS if any(name in found for found in rows.values())]
    head = ["", *(COLUMNS[name] for name in names), "judge is sure of"]
    lines = [head, ["---"] * len(head)]
    for key, found in rows.items():
        cells = [cell(found.get(name)) for name in names]
        lines.append([NAMED[key].format(steps=steps), *cells, sure(run, found)])
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    with atomic(run.figures / "scores.md") as temporary:
        temporary.write_text(f"{table}\n\n{caption(run, judged)}\n", encoding="utf-8")


def caption(run: Record, judged: Judged) -> str:
    """Return what every number names: sampler, average, seed, counts, and what errors are over."""
    config, setting = run.config, run.arrays("setting")
    wanted = config.evaluation
    text = (
        f"{config.data.name}, recipe {config.recipe}, {config.net.name} of "
        f"{int(setting['num_params']):,} parameters, {int(setting['steps']):,} steps of "
        f"{config.train.batch_size} ({float(setting['seconds']) / 60:.1f} minutes). "
        f"Samples by {setting['solver']} on the {setting['grid']} grid, "
        f"{int(setting['evaluations'])} evaluations, guidance {wanted.guidance:g}, average "
        f"{wanted.ema}, seed {config.seed}, {wanted.samples:,} samples; references as many. Losses "
        f"and errors are over {wanted.held_out:,} pictures of a split, bits over {wanted.bits}; "
        "after the sign stands one standard error, over pictures (one net, no spread over seeds)."
    )
    if "judge" in wanted.parts:
        right = run.arrays("judge")["right"]
        text += (
            f" Features and classes are those of a classifier that the study trains: "
            f"{right.mean():.2%} right on {len(right):,} test pictures."
        )
    if config.inception.weights:
        text += (
            f" FID: the Frechet distance of Inception's features ({config.inception.weights}) to "
            f"the statistics in {config.inception.reference}."
        )
    return text


def cell(value: np.ndarray | None) -> str:
    """Return an estimate, (value, error), as text."""
    return "-" if value is None else f"{value[0]:.4g} ± {value[1]:.2g}"


def sure(run: Record, found: dict[str, Any]) -> str:
    """Return the share of pictures that the judge is sure of, as text."""
    if "probabilities" not in found:
        return "-"
    return f"{(found['probabilities'].max(axis=1) >= run.config.judge.sure).mean():.1%}"
