"""Figures and claims of the study `mode_interpolation`, part (d): pictures.

One net a set, so intervals are over samples (Wilson), not over seeds. Half of the samples choose
the threshold of the detector, the other half judges it. "Bad" is an impossible picture for shapes,
and one that the judge is not sure of for digits.
"""

from __future__ import annotations

import numpy as np

from analysis import style
from dfx import metrics
from dfx.runs import Claim, Record, above, below

SURE = 0.9  # the judge's largest probability below which a digit counts as doubtful
ROWS = 48  # pictures a panel


def draw_pictures(run: Record) -> list[Claim]:
    """Draw the figures of every set that the run has, and return its claims."""
    claims: list[Claim] = []
    for name in run.config.pictures.sets:
        samples, judged = run.arrays(f"pictures_{name}"), run.arrays(f"judged_{name}")
        bad = judged["impossible"] if name == "shapes" else doubtful(judged["probabilities"])
        column = best_window(samples["variance"], bad)
        style.save(grids(samples, judged, bad, column), run.figures, f"pictures_{name}")
        style.save(variances(run, samples, bad, column, name), run.figures, f"variances_{name}")
        claims += _claims(run, name, samples["variance"][:, column], bad, judged)
    return claims


def doubtful(probabilities: np.ndarray) -> np.ndarray:
    """Return which pictures the judge is not sure of, bool (n,)."""
    return probabilities.max(1) < SURE


def best_window(variance: np.ndarray, bad: np.ndarray) -> int:
    """Return the window of largest area under the ROC curve on the first half of the samples."""
    half = len(bad) // 2
    areas = [area(column[:half], bad[:half]) for column in variance.T]
    return int(np.nanargmax(areas)) if np.isfinite(areas).any() else 0


def area(scores: np.ndarray, bad: np.ndarray) -> float:
    """Return the area under the ROC curve; nan if there is only one kind."""
    return metrics.auc(scores, bad) if bad.any() and not bad.all() else np.nan


def grids(samples, judged, bad, column: int):
    """Real pictures, samples, and those of smallest and of largest late variance."""
    order = np.argsort(samples["variance"][:, column])
    x = (samples["x"] + 1) / 2
    panels = {
        "data": judged["real"][:ROWS] / 255.0,
        f"samples ({bad.mean():.1%} bad)": x[:ROWS],
        "smallest late variance": x[order[:ROWS]],
        "largest late variance": x[order[-ROWS:]],
    }
    fig, axes = style.figure(2, 2, aspect=0.78)
    for ax, (title, images) in zip(axes.flat, panels.items()):
        style.pictures(ax, images, columns=8)
        ax.set_title(title)
    return fig


def variances(run: Record, samples, bad, column: int, name: str):
    """F-e: the late variance of both groups, and the area under the ROC curve for each window."""
    windows = run.config.pictures.windows
    fig, axes = style.figure(1, 2, width=0.85 * style.PAGE)
    log_variance = np.log10(samples["variance"][:, column])
    edges = np.linspace(log_variance.min(), log_variance.max(), 30)
    for group, label, color in ((~bad, "good", style.BLUE), (bad, "bad", style.VERMILLION)):
        if group.any():
            axes[0, 0].hist(
                log_variance[group], edges, density=True, alpha=0.6, color=color,
                label=f"{label} ({group.sum():,})",
            )  # fmt: skip
    axes[0, 0].set(
        xlabel=rf"$\log_{{10}}$ variance of $\hat x_0$, last {windows[column]} of "
        f"{run.config.pictures.sample_steps} steps",
        ylabel="density", title=name,
    )  # fmt: skip
    axes[0, 0].legend()
    axes[0, 1].plot(windows, [area(scores, bad) for scores in samples["variance"].T], "o-")
    axes[0, 1].axhline(0.5, color=style.GREY, linestyle=":")
    axes[0, 1].set(xlabel="window, last steps", ylabel="area under the ROC curve", ylim=(0, 1.02))
    style.panel_labels(axes.flat)
    return fig


def _claims(run: Record, name: str, scores, bad, judged) -> list[Claim]:
    paper = "Aithal et al. 2024"
    share = tuple(map(float, metrics.wilson(int(bad.sum()), len(bad))))
    what = "impossible combinations" if name == "shapes" else f"judge below {SURE:g} sure"
    found = Claim(
        f"d-{name}", paper, f"{name}: generated pictures, {what}", "> 0", *share,
        rule=above(1e-3), unit="of samples",
    )  # fmt: skip
    half, keep = len(bad) // 2, run.config.detection.keep
    removed = (np.nan, np.nan, np.nan)
    if bad[:half].any() and bad[half:].any() and not bad[:half].all() and not bad[half:].all():
        threshold = metrics.threshold_keeping(scores[:half], bad[:half], keep)
        gone = scores[half:][bad[half:]] > threshold
        removed = tuple(map(float, metrics.wilson(int(gone.sum()), len(gone))))
    detected = Claim(
        f"5-{name}", f"{paper}, abstract", f"{name}: removed at the threshold that keeps {keep:g}",
        "> 0.95", *removed, rule=above(0.95), unit="of these",
    )  # fmt: skip
    return [found, detected, *_judge_claims(name, judged)]


def _judge_claims(name: str, judged) -> list[Claim]:
    """How far the judge of the digits can be trusted."""
    if name != "digits":
        return []
    wrong = doubtful(judged["real_probabilities"])
    low = tuple(map(float, metrics.wilson(int(wrong.sum()), len(wrong))))
    accuracy = float(judged["accuracy"])
    n = int(judged["num_test"])
    right = tuple(map(float, metrics.wilson(round(accuracy * n), n)))
    classes = float(len(np.unique(judged["probabilities"].argmax(1))))
    return [
        Claim("d-judge", "ours", "digits: accuracy of the judge on the test half", "-", *right,
              rule=above(0.95), unit="of digits"),
        Claim("d-real", "ours", f"digits: real ones, judge below {SURE:g} sure", "-", *low,
              rule=below(0.1), unit="of digits"),
        Claim("d-classes", "ours", "digits: classes among the samples", "-", *(3 * [classes]),
              rule=above(judged["probabilities"].shape[1])),
    ]  # fmt: skip
