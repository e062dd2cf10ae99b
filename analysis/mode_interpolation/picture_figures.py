"""Figures and claims of the study `mode_interpolation`, part (d): pictures.

One net a set, so intervals are over samples (Wilson), not over seeds. Half of the samples choose
the threshold of the detector, the other half judges it: claims d2 and d7 can hold only where that
half has 73 bad ones or more, since Wilson's interval of 72 of 72 reaches below 0.95. "Bad" is an
impossible picture for shapes, and one that the judge is not sure of for digits.
"""

from __future__ import annotations

from typing import Any

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
    bad_id, removed_id = ("d6", "d7") if name == "shapes" else ("d1", "d2")
    what = "impossible combinations" if name == "shapes" else f"judge below {SURE:g} sure"
    half, keep = len(bad) // 2, run.config.detection.keep
    gone = np.zeros(0, bool)  # without bad samples in both halves there is nothing to judge by
    if not np.isnan([area(scores[:half], bad[:half]), area(scores[half:], bad[half:])]).any():
        threshold = metrics.threshold_keeping(scores[:half], bad[:half], keep)
        gone = scores[half:][bad[half:]] > threshold
    return [
        Claim(
            id=bad_id, paper=paper, statement=f"{name}: generated pictures, {what}",
            paper_value="> 0", rule=above(1e-3), unit="of samples", **share_of(bad),
        ),
        Claim(
            id=removed_id, paper=f"{paper}, abstract", paper_value="> 0.95", rule=above(0.95),
            statement=f"{name}: removed of {len(gone)} at the threshold that keeps {keep:g}",
            unit="of these",
            **share_of(gone),
        ),
        *(_judge_claims(judged) if name == "digits" else []),
    ]  # fmt: skip


def share_of(flags: np.ndarray) -> dict[str, Any]:
    """Return the share of true flags with its 95% Wilson interval; nan without any flag."""
    if not len(flags):
        return {"ours": np.nan, "low": np.nan, "high": np.nan}
    interval = metrics.wilson(int(flags.sum()), len(flags))
    return dict(zip(("ours", "low", "high"), map(float, interval)))


def _judge_claims(judged) -> list[Claim]:
    """How far the judge of the digits can be trusted, and whether it sees every class."""
    classes = len(np.unique(judged["probabilities"].argmax(1)))
    return [
        Claim(
            id="d3", paper="ours", statement="digits: the judge is right on the test half",
            paper_value="-", rule=above(0.95), unit="of digits", **share_of(judged["right"]),
        ),
        Claim(
            id="d4", paper="ours", statement=f"digits: real ones, judge below {SURE:g} sure",
            paper_value="-", rule=below(0.1), unit="of digits",
            **share_of(doubtful(judged["real_probabilities"])),
        ),
        Claim(
            id="d5", paper="ours", statement="digits: classes among the samples",
            paper_value="-", rule=above(10), ours=classes, low=classes, high=classes,
        ),
    ]  # fmt: skip
