"""Numbers of the study `fokker_planck_gap`, by data law, weight of the residual and seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dfx.runs import Record
from dfx.runs.claims import mean_interval
from dfx.runs.files import atomic
from experiments.fokker_planck_gap.data import SETS

#: The pairs of laws between which distances are kept, in their order.
PAIRS = ("ODE to SDE", "ODE to data", "SDE to data")
GAP, ODE, SDE = range(3)


class Reference(NamedTuple):
    """What the authors' published samples and weights give, one entry a weight.

    distances: (3, 4), W_2^2 between histograms of 64 x 64 of three million samples, pairs first.
    raw: mean of R^2 in the box of the loss. spatial: variance of R over x, mean over times.
    dsm: denoising loss. score_error: mean square of score - exact score, or None. Both are means
    over the coordinates.
    """

    distances: np.ndarray
    raw: np.ndarray
    spatial: np.ndarray
    dsm: np.ndarray
    score_error: np.ndarray | None = None


def _reference(gap, ode, sde, raw, spatial, dsm, score_error=None) -> Reference:
    error = None if score_error is None else np.asarray(score_error)
    raw, spatial, dsm = (np.asarray(values) for values in (raw, spatial, dsm))
    return Reference(np.array([gap, ode, sde]), raw, spatial, dsm, error)


#: Of the files that Deveney et al. (2023) published with their code, not of their printed tables.
REFERENCES = {
    "mixture": _reference(
        (0.01160, 0.00311, 0.00290, 0.00221),
        (0.01097, 0.00604, 0.00528, 0.01722),
        (0.00218, 0.00294, 0.00427, 0.01599),
        (12.5, 0.00926, 0.00329, 0.00111),
        (0.185, 0.0060, 0.0028, 0.00099),
        (0.846, 0.845, 0.845, 0.854),
        (0.0016, 0.0005, 0.0018, 0.0129),
    ),
    "rings": _reference(
        (0.01340, 0.00528, 0.00309, 0.00170),
        (0.01435, 0.00737, 0.00828, 0.00938),
        (0.00227, 0.00332, 0.00454, 0.00910),
        (51, 0.0161, 0.00351, 0.00087),
        (0.302, 0.0110, 0.0032, 0.00081),
        (0.895, 0.895, 0.897, 0.907),
    ),
    "checkerboard": _reference(
        (0.02720, 0.00716, 0.00353, 0.00210),
        (0.02442, 0.01139, 0.01143, 0.03305),
        (0.00368, 0.00539, 0.01155, 0.03216),
        (251, 0.0648, 0.00799, 0.00092),
        (0.947, 0.0229, 0.0039, 0.00071),
        (0.919, 0.921, 0.933, 0.955),
    ),
}


def by_seed(run: Record, values: np.ndarray) -> np.ndarray:
    """Return values of the members of one law, members first, as (weights, seeds, ..)."""
    return values.reshape(len(run.config.weights), run.config.num_seeds, *values.shape[1:])


def distances(run: Record, law: str, kind: str = "smooth") -> np.ndarray:
    """Return squares of W_2 of one data law, shape (3 pairs, weights, seeds)."""
    return np.moveaxis(by_seed(run, run.arrays(f"distances_{law}")[kind]), -1, 0)


def measured(run: Record, law: str, name: str) -> np.ndarray:
    """Return what was measured of the nets of one law, shape (weights, seeds, ..)."""
    return by_seed(run, run.arrays(f"measures_{law}")[name])


def spatial_residual(run: Record, law: str) -> np.ndarray:
    """Return the variance of R over x under p_t, mean over times, shape (weights, seeds)."""
    return measured(run, law, "variance").mean(-1)


def constant_share(run: Record, law: str) -> np.ndarray:
    """Return the share of R^2 under p_t that does not depend on x, shape (weights, seeds)."""
    return 1 - spatial_residual(run, law) / measured(run, law, "mean_square").mean(-1)


def has_histograms(run: Record) -> bool:
    """Return whether the distances of histograms were computed."""
    return bool(np.isfinite(distances(run, SETS[0], "binned")).all())


def share(true: Any) -> float:
    """Return how large a part of the pairs of law and seed a statement is true for."""
    return float(np.mean(np.concatenate([np.ravel(part) for part in true])))


def falls(values: np.ndarray) -> np.ndarray:
    """Return whether values (weights, seeds) fall with every rise of the weight, (seeds,)."""
    return np.all(np.diff(values, axis=0) < 0, axis=0)


def slope(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the slope of log y against log x over the weights, from (weights, seeds): (seeds,)."""
    x, y = (np.log(a) - np.log(a).mean(0) for a in (x, y))
    return (x * y).sum(0) / (x * x).sum(0)


def step_error(run: Record, law: str) -> np.ndarray:
    """Return the change of W_2^2 from ODE to SDE at half the steps, first seeds, (weights,)."""
    halved = run.arrays(f"refined_{law}")["smooth"][:, GAP]
    return np.abs(halved - distances(run, law)[GAP, :, 0])


def normalised_dsm(values: np.ndarray) -> np.ndarray:
    """Return the loss scaled to [-1/2, 1/2] over the weights (first axis), as in the paper."""
    low, high = values.min(0), values.max(0)
    return (values - low) / (high - low) - 0.5


def write_table(run: Record) -> Path:
    """Write every number by law and weight, with its interval over seeds, to distances.md."""
    lines = [
        "# Squares of W_2, residuals and errors",
        "",
        'Mean over seeds [95% interval]; below it, after "ref.", what the authors\' published',
        "samples and weights give (histograms of 64 x 64, one net a row). Histograms here have",
        f"{run.config.distances.cells} x {run.config.distances.cells} cells and are too far apart;",
        f"two samples of {run.config.distances.num_samples:,} points of the data are apart by:",
        "; ".join(f"{law} {_floor(run, law):.2g}" for law in SETS) + ".",
        "All nets are measured at the same points, whose own sampling error (0.03 of the denoising",
        "loss at 20,000 points) is in no interval.",
        "",
        "| " + " | ".join(_HEADINGS) + " |",
        "|" + " --- |" * len(_HEADINGS),
    ]
    for law in SETS:
        for i, weight in enumerate(run.config.weights):
            lines.append(f"| {law} | {weight:g} | " + " | ".join(_row(run, law, i)) + " |")
    path = run.folder / "distances.md"
    with atomic(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n")
    return path


_HEADINGS = (
    "data", "w_R",
    *(f"{pair}, W_2^2" for pair in PAIRS),
    *(f"{pair}, histograms" for pair in PAIRS),
    "mean R^2, box", "mean_t Var_x R", "denoising loss", "score error",
    "ODE beyond 3.5", "SDE beyond 3.5",
)  # fmt: skip


def _row(run, law, i):
    known = REFERENCES[law]
    error = None if known.score_error is None else known.score_error[i]
    outside = by_seed(run, run.arrays(f"distances_{law}")["outside"])
    return [
        *(_cell(values[i]) for values in distances(run, law)),
        *(
            _cell(values[i], paper)
            for values, paper in zip(distances(run, law, "binned"), known.distances[:, i])
        ),
        _cell(measured(run, law, "raw")[i], known.raw[i]),
        _cell(spatial_residual(run, law)[i], known.spatial[i]),
        _cell(measured(run, law, "dsm")[i], known.dsm[i]),
        _cell(measured(run, law, "score_error")[i] if error else np.array([np.nan]), error),
        _cell(outside[i, :, 0]),
        _cell(outside[i, :, 1]),
    ]


def _floor(run, law):
    return run.arrays(f"distances_{law}")["floor"].mean()


def _cell(values, paper=None) -> str:
    if not np.isfinite(values).all():
        return "-"
    mean, low, high = mean_interval(values)
    text = f"{mean:.3g} [{low:.2g}, {high:.2g}]"
    return text if paper is None else f"{text}; ref. {paper:.3g}"
