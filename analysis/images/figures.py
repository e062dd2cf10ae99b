"""Figures of the study `images`."""

from __future__ import annotations

import numpy as np

from analysis import style
from analysis.images.scores import Judged, published
from dfx import metrics
from dfx.metrics.memorisation import CUT
from dfx.runs import Record

#: How the references are drawn: name -> (label, colour, dashes).
REFERENCES = {
    "real": ("real test pictures", style.GREEN, "--"),
    "gaussian": ("Gaussian fit", style.ORANGE, "-."),
    "empirical": ("empirical denoiser", style.PURPLE, ":"),
}
ROWS = 8  # of a grid of pictures


def draw(run: Record, judged: Judged) -> None:
    """Draw all figures that the run has arrays for."""
    parts = run.config.evaluation.parts
    figures = {"cost": cost, "loss": loss} if "loss" in parts else {"cost": cost}
    if "loss" in parts:
        figures["levels"] = levels
    if "samples" in parts:
        figures |= {"samples": samples, "progress": progress}
    if "judge" in parts:
        figures |= {"distance": distance, "classes": classes}
    if "neighbours" in parts:
        figures["neighbours"] = neighbours
    if "fid" in judged.last:
        figures["fid"] = fid
    for name, make in figures.items():
        style.save(make(run, judged), run.figures, name)


def loss(run: Record, judged: Judged):
    """The training loss, the averaged net's loss on both splits, and the losses of references."""
    rows, floors = run.metrics("train"), run.arrays("floors")
    fig, axes = style.figure(1, 1, width=style.COLUMN * 1.4)
    ax = axes[0, 0]
    ax.plot(rows["step"], rows["loss"], color=style.SKY, linewidth=0.5, alpha=0.6)
    ax.plot(rows["step"], smooth(rows["loss"]), color=style.BLUE, label="training, running mean")
    steps = list(judged.stops)
    for split, color, mark in (("train", style.BLACK, "s"), ("test", style.VERMILLION, "o")):
        found = judged.column(f"loss_{split}")
        ax.errorbar(
            steps, found[:, 0], 1.96 * found[:, 1], fmt=f"{mark}-", markersize=3, capsize=2,
            color=color, label=f"averaged net, {split} pictures",
        )  # fmt: skip
    for name in ("gaussian", "empirical"):
        label, color, dashes = REFERENCES[name]
        value = judged.references[name]["loss_test"][0]
        ax.axhline(value, color=color, linestyle=dashes, label=f"{label}, test pictures")
    ax.axhline(floors["constant"], color=style.GREY, linestyle="--", linewidth=1)
    ax.text(0.99, floors["constant"], "best constant", color=style.GREY, fontsize=8, ha="right",
            va="bottom", transform=ax.get_yaxis_transform())  # fmt: skip
    ax.set(xlabel="step", ylabel=f"loss of recipe {run.config.recipe}", yscale="log")
    _legend_below(fig, ax, ncols=2)
    return fig


def levels(run: Record, judged: Judged):
    """The error of x0_hat at each noise level, of the net and of the references."""
    floors = run.arrays("floors")
    noise, exact = floors["levels"], floors["posterior"]
    fig, axes = style.figure(1, 2)
    for ax, unit in zip(axes[0], (np.ones_like(exact), exact)):
        for split, color, mark in (("train", style.BLACK, "s"), ("test", style.VERMILLION, "o")):
            found = judged.last[f"errors_{split}"] / unit
            ax.errorbar(
                noise, found[0], 1.96 * found[1], fmt=f"{mark}-", markersize=3, capsize=2,
                color=color, label=f"net, {split} pictures",
            )  # fmt: skip
        for name in ("gaussian", "empirical"):
            label, color, dashes = REFERENCES[name]
            found = judged.references[name]["errors_test"][0] / unit
            ax.plot(noise, found, color=color, linestyle=dashes, label=f"{label}, test pictures")
        ax.plot(noise, exact / unit, color=style.GREY, linewidth=1, label="Gaussian law, exact")
        ax.set(xlabel=r"noise level $\sigma / \alpha$", xscale="log", yscale="log")
    axes[0, 0].set_ylabel(r"mean square of $\hat x_0 - x_0$")
    # The empirical denoiser leaves the panel where it can only return training pictures.
    axes[0, 1].set(ylabel="over that of the Gaussian law", ylim=(0.1, 10.0))
    _legend_below(fig, axes[0, 0])
    style.panel_labels(axes.flat)
    return fig


def distance(run: Record, judged: Judged):
    """The Frechet distance of features, and the shares of both manifolds, against training time."""
    minutes = judged.column("seconds") / 60
    fig, axes = style.figure(1, 2)
    found = judged.column("frechet_limit")
    axes[0, 0].errorbar(
        minutes, found[:, 0], 1.96 * found[:, 1], fmt="o-", markersize=3, capsize=2, label="net"
    )
    for name, (label, color, dashes) in REFERENCES.items():
        value = judged.references[name]["frechet_limit"][0]
        axes[0, 0].axhline(value, color=color, linestyle=dashes, label=label)
    axes[0, 0].set(xlabel="minutes of training", ylabel="Frechet distance", yscale="symlog")
    shares = ("precision", "recall", "density", "coverage")
    for name, color, mark in zip(shares, style.COLORS, "osv^"):
        found = judged.column(name)
        axes[0, 1].errorbar(
            minutes, found[:, 0], 1.96 * found[:, 1], fmt=f"{mark}-", markersize=3, capsize=2,
            color=color, label=name,
        )  # fmt: skip
        real = judged.references["real"][name][0]
        axes[0, 1].axhline(real, color=color, linestyle="--", linewidth=0.8)
    axes[0, 1].set(xlabel="minutes of training", ylabel="share (dashed: real)")
    _legend_below(fig, *axes.flat)
    style.panel_labels(axes.flat)
    return fig


def fid(run: Record, judged: Judged):
    """The FID at the number of samples drawn, beside the references' and the papers'."""
    fig, axes = style.figure(1, 1, width=style.COLUMN * 1.4)
    ax, found = axes[0, 0], judged.column("fid")
    ax.errorbar(
        judged.column("seconds") / 60, found[:, 0], 1.96 * found[:, 1], fmt="o-", markersize=3,
        capsize=2, label="net",
    )  # fmt: skip
    for name, (label, color, dashes) in REFERENCES.items():
        ax.axhline(judged.references[name]["fid"][0], color=color, linestyle=dashes, label=label)
    for paper in published(run):
        ax.axhline(paper.value, color=style.GREY, linestyle="--", linewidth=1)
        ax.text(0.99, paper.value, f"paper, {paper.how}", color=style.GREY, fontsize=7, ha="right",
                va="bottom", transform=ax.get_yaxis_transform())  # fmt: skip
    count = int(judged.last["count"])
    ax.set(xlabel="minutes of training", ylabel=f"FID of {count:,} samples", yscale="log")
    _legend_below(fig, ax)
    return fig


def classes(run: Record, judged: Judged):
    """Which classes the judge sees among samples and among real pictures, and how sure it is."""
    fig, axes = style.figure(1, 2)
    edges = np.linspace(0, 1, 41)
    rows = {"net": (judged.last, style.BLUE), "real test pictures": (judged.references["real"],
            style.GREEN)}  # fmt: skip
    for place, (label, (found, color)) in zip((-0.2, 0.2), rows.items()):
        histogram = metrics.class_histogram(found["probabilities"])
        share, low, high = histogram.shares
        axes[0, 0].bar(
            np.arange(len(share)) + place, share, 0.4, yerr=[share - low, high - share],
            color=color, label=label, error_kw={"linewidth": 0.8},
        )  # fmt: skip
        axes[0, 1].hist(
            found["probabilities"].max(axis=1), edges, histtype="step", color=color, density=True,
            cumulative=True, label=label,
        )  # fmt: skip
    if len(share) <= 12:
        axes[0, 0].set_xticks(np.arange(len(share)))
    axes[0, 0].set(xlabel="class by the judge", ylabel="share of pictures")
    axes[0, 0].legend()
    axes[0, 1].axvline(run.config.judge.sure, color=style.GREY, linestyle="--", linewidth=1)
    axes[0, 1].set(xlabel="probability of that class", ylabel="share of pictures below")
    style.panel_labels(axes.flat)
    return fig


def samples(run: Record, judged: Judged):
    """Samples beside real pictures, and those of the references."""
    panels = {"net": judged.last, **judged.references}
    shown = {name: found for name, found in panels.items() if "shown" in found}
    fig, axes = style.figure(-(-len(shown) // 2), min(2, len(shown)), aspect=1.04)
    for ax, (name, found) in zip(axes.flat, shown.items()):
        style.pictures(ax, found["shown"], columns=columns(found), high=255.0)
        ax.set_title(REFERENCES[name][0] if name in REFERENCES else "net")
    return fig


def progress(run: Record, judged: Judged):
    """The same noise at every stop: one row a stop, the first stop on top."""
    fig, axes = style.figure(1, 1, aspect=min(0.09 * len(judged.stops) + 0.05, 1.3))
    count = min(12, len(judged.last["shown"]))
    rows = [found["shown"][:count] for found in judged.stops.values()]
    style.pictures(axes[0, 0], np.concatenate(rows), columns=count, high=255.0)
    axes[0, 0].set_title(f"after {', '.join(f'{step:,}' for step in judged.stops)} steps")
    return fig


def neighbours(run: Record, judged: Judged):
    """Samples over their nearest training pictures, and how near these are."""
    fig, axes = style.figure(1, 2)
    found = judged.last
    count = min(24, len(found["shown"]))
    rows = [
        part[i : i + ROWS]
        for i in range(0, count, ROWS)
        for part in (found["shown"], found["nearest"])
    ]
    style.pictures(axes[0, 0], np.concatenate(rows), columns=ROWS, high=255.0)
    axes[0, 0].set_title("samples, each over its nearest training picture")
    edges = np.linspace(0, 1, 31)
    axes[0, 1].hist(found["ratio"], edges, alpha=0.6, color=style.BLUE, density=True, label="net")
    for name in ("real", "empirical"):
        label, color, _ = REFERENCES[name]
        axes[0, 1].hist(
            judged.references[name]["ratio"], edges, histtype="step", color=color, density=True,
            label=label,
        )  # fmt: skip
    axes[0, 1].axvline(CUT, color=style.GREY, linestyle="--", linewidth=1)
    axes[0, 1].set(
        xlabel="distance to nearest over second nearest", ylabel="density", yscale="symlog"
    )
    axes[0, 1].legend(loc="upper center")
    return fig


def cost(run: Record, judged: Judged):
    """Images a second, utilisation and memory along the training, but for the first chunk."""
    rows = run.metrics("train")
    fig, axes = style.figure(1, 3, aspect=0.9)
    panels = {"images_per_s": "images a second", "utilisation": "share of peak FLOP/s",
              "memory_gib": "memory (GiB)"}  # fmt: skip
    for ax, (name, label) in zip(axes[0], panels.items()):
        ax.plot(rows["seconds"][1:] / 60, rows[name][1:])
        ax.set(xlabel="minutes of training", ylabel=label, ylim=(0, 1.1 * rows[name].max()))
    waiting, first = np.mean(rows["waiting"]), rows["first_s"][0]
    fig.suptitle(
        f"first steps done after {first:.0f} s; devices wait for data {waiting:.1%} of the time",
        fontsize=9,
    )
    return fig


def smooth(values: np.ndarray) -> np.ndarray:
    """Return the running mean over a tenth of what came before each value, at least one."""
    sums = np.append(0.0, np.cumsum(values))
    end = np.arange(1, len(values) + 1)
    start = (0.9 * end).astype(int)
    start = np.minimum(start, end - 1)
    return (sums[end] - sums[start]) / (end - start)


def columns(found) -> int:
    """Return the columns of a square grid of the shown pictures."""
    return max(1, round(len(found["shown"]) ** 0.5))


def _legend_below(fig, *axes, ncols: int = 4) -> None:
    """Name what is in the panels below them, where it covers nothing."""
    named = [pair for ax in axes for pair in zip(*ax.get_legend_handles_labels())]
    handles, labels = zip(*named)
    fig.legend(handles, labels, loc="outside lower center", ncols=ncols, fontsize=7)
