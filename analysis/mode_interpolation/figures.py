"""Figures of the study `mode_interpolation`, parts (a) to (c)."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from analysis import style
from analysis.mode_interpolation.statistics import (
    Hallucinations,
    control_share,
    generation_shares,
    slope_ratios,
    spacing_cut,
    window_column,
)
from analysis.shares import share_interval
from dfx import metrics
from dfx.runs import Record
from experiments.mode_interpolation.recursion import FILTERS

IN_SUPPORT, HALLUCINATED = style.BLUE, style.VERMILLION


def draw_gaussians(run: Record) -> None:
    """Draw the figures of parts (a) and (b)."""
    for name, draw in {
        "histograms": histograms,
        "shares": shares,
        "planes": planes,
        "score": score,
        "paths": paths,
        "variances": variances,
        "detection": detection,
    }.items():
        style.save(draw(run), run.figures, name)


def draw_recursion(run: Record) -> None:
    """Draw the figure of part (c)."""
    style.save(generations(run), run.figures, "generations")


def histograms(run: Record):
    """F-a: generated samples against the true density, with few and many points, near and far
    modes."""
    one, settings = Hallucinations(run, "one_d"), run.config.one_d
    panels = {
        f"points_{min(settings.data_sizes)}": f"n = {min(settings.data_sizes):,}",
        "base": f"n = {settings.data_size:,}, spacing 1",
        f"spacing_{min(settings.spacings):g}": f"spacing {min(settings.spacings):g}",
        f"spacing_{max(settings.spacings):g}": f"spacing {max(settings.spacings):g}",
        "four": "modes 1, 2, 4, 5",
    }
    fig, axes = style.figure(2, 3, aspect=0.8, sharey=True)
    for ax, (name, title) in zip(axes.flat, panels.items()):
        _histogram(ax, one, name)
        ax.set_title(title)
    control = run.arrays("control_base")
    _histogram(axes.flat[5], one, "base", control["x"][None], style.GREEN)
    axes.flat[5].set_title("exact score, spacing 1")
    for ax in axes[:, 0]:
        ax.set_ylabel("density")
    for ax in axes[1]:
        ax.set_xlabel("x")
    keys = (
        Patch(color=IN_SUPPORT, alpha=0.6, label="trained nets, all seeds"),
        Patch(color=style.GREEN, alpha=0.6, label="exact score"),
        Line2D([], [], color=style.BLACK, linewidth=1, label="data law"),
    )
    fig.legend(handles=keys, loc="outside lower center", ncols=3)
    return fig


def _histogram(ax, one: Hallucinations, name: str, x=None, color=IN_SUPPORT) -> None:
    x = one.x[one.names.index(name)] if x is None else x
    modes, std = one.means(name)[:, 0], one.std(name)
    grid = np.linspace(modes.min() - 0.6, modes.max() + 0.6, 2000)
    density = np.exp(-((grid[:, None] - modes) ** 2) / (2 * std**2)).mean(1) / np.sqrt(
        2 * np.pi * std**2
    )
    edges = np.linspace(grid[0], grid[-1], 121)
    count = np.histogram(x, edges)[0]
    ax.stairs(
        count / x.size / np.diff(edges), edges, fill=True, color=color, alpha=0.6, label="samples"
    )
    ax.plot(grid, density, color=style.BLACK, linewidth=1, label="data law")
    ax.set_yscale("log")
    ax.set_ylim(1e-4, 10)


def shares(run: Record):
    """The hallucinated share against training steps, number of points and spacing: the geometric
    mean where every seed has some."""
    one, settings = Hallucinations(run, "one_d"), run.config.one_d
    along = Hallucinations(run, "one_d_snapshots", "one_d").shares()
    sizes = sorted({*settings.data_sizes, settings.data_size})
    by_size = [one.share("base" if n == settings.data_size else f"points_{n}") for n in sizes]
    gaps = sorted({*settings.spacings, 1.0})
    cut = spacing_cut(run)
    by_gap = [one.share("base" if gap == 1.0 else f"spacing_{gap:g}", cut) for gap in gaps]
    fig, axes = style.figure(1, 3, aspect=0.9, sharey=True)
    panels: tuple[tuple[Any, Any, str], ...] = (
        (run.arrays("one_d_steps")["steps"], along, "training steps"),
        (sizes, by_size, "training points"),
        (gaps, by_gap, f"spacing of modes (beyond {cut:g} sd)"),
    )
    for ax, (x, y, label) in zip(axes.flat, panels):
        ax.plot(x, _visible(y), ".", color=style.GREY, markersize=4)
        style.points(ax, x, np.transpose(y), geometric=True, linestyle="-", color=IN_SUPPORT)
        ax.set_xscale("log")
        ax.set_xticks(x, [f"{value:g}" for value in x])
        ax.minorticks_off()
        ax.set_xlabel(label)
        ax.axhline(control_share(run, "base")[2], color=style.GREEN, linestyle=":")
    axes[0, 0].set_yscale("log")
    axes[0, 0].set_ylabel(f"share beyond {run.config.detection.cut:g} sd")
    axes[0, 0].text(
        0.02, control_share(run, "base")[2], "exact score: below", color=style.GREEN, fontsize=8,
        transform=axes[0, 0].get_yaxis_transform(), va="bottom",
    )  # fmt: skip
    style.panel_labels(axes.flat)
    return fig


def _visible(share):
    """Zero has no place on a log axis: it is drawn at 1e-5."""
    return np.maximum(share, 1e-5)


def planes(run: Record):
    """F-b: the grid and the rotated grid; trained net of the first seed above, exact score
    below."""
    two = Hallucinations(run, "two_d")
    fig, axes = style.figure(2, 2, aspect=0.95, width=0.75 * style.PAGE, sharex="col", sharey="col")
    for column, name in enumerate(two.names):
        index = two.names.index(name)
        control = run.arrays(f"control_{name}")["x"][: len(two.x[index, 0])]
        far = metrics.nearest_mode(control, two.means(name), two.std(name))[1] > two.cut
        for ax, x, bad in (
            (axes[0, column], two.x[index, 0], two.labels(index)[0]),
            (axes[1, column], control, far),
        ):
            ax.plot(*x[~bad].T, ".", color=IN_SUPPORT, markersize=1, label="in support")
            ax.plot(*x[bad].T, ".", color=HALLUCINATED, markersize=1.5, label="hallucinated")
            reach = 1.15 * np.abs(two.means(name)).max()
            ax.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
            ax.text(0.99, 1.0, f"{bad.mean():.2%} beyond {two.cut:g} sd", transform=ax.transAxes,
                    ha="right", va="bottom", fontsize=8)  # fmt: skip
        axes[0, column].set_title(name, loc="left")
        axes[1, column].set_xlabel("$x_1$ (standardised)")
    axes[0, 0].set_ylabel("trained net\n$x_2$ (standardised)")
    axes[1, 0].set_ylabel("exact score\n$x_2$ (standardised)")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=2, markerscale=6)
    return fig


def score(run: Record):
    """F-c: exact and learned noise predictor against x, and the slope of the denoiser at the
    midpoints."""
    arrays = run.arrays("one_d_score")
    steps, ratios = slope_ratios(run)
    chosen = [0, len(steps) // 2, len(steps) - 1]
    fig, axes = style.figure(1, 4, aspect=1.15)
    for ax, i in zip(axes.flat, chosen):
        ax.plot(arrays["x"], arrays["eps"][i, 0], color=style.BLACK, label="exact")
        learned = arrays["eps"][i, 1:]
        ax.plot(arrays["x"], learned.T, color=HALLUCINATED, linewidth=0.9, label="learned")
        ax.set_title(f"step {steps[i]}")
        ax.set_xlabel(r"$x_t / \alpha_t$")
    axes[0, 0].set_ylabel(r"$\hat\epsilon(x_t, t)$")
    keys = (
        Line2D([], [], color=style.BLACK, label="exact"),
        Line2D([], [], color=HALLUCINATED, label="learned, each seed"),
    )
    fig.legend(handles=keys, loc="outside lower center", ncols=2)
    ax = axes[0, 3]
    style.points(ax, steps, ratios.T, linestyle="-", color=HALLUCINATED)
    ax.axhline(1.0, color=style.BLACK, linewidth=1)
    ax.set(xlabel="step", title="midpoint slope", ylabel="learned / exact", xscale="log")
    ax.set_xticks(steps[[0, 2, 4, 7]], [str(step) for step in steps[[0, 2, 4, 7]]])
    ax.minorticks_off()
    ax.set_ylim(0, None)
    return fig


def paths(run: Record):
    """F-d: the denoiser over the last steps, for hallucinated samples and others."""
    arrays, law = run.arrays("one_d_paths"), run.arrays("one_d_laws")
    modes, std = law["base.means"], float(law["base.std"][0])
    bad = metrics.nearest_mode(arrays["x"], modes, std)[1] > run.config.detection.cut
    left = np.arange(arrays["x0"].shape[1])[::-1]
    fig, axes = style.figure(1, 2, width=0.8 * style.PAGE, sharey=True)
    for ax, of, title, color in (
        (axes[0, 0], ~bad, "in support", IN_SUPPORT),
        (axes[0, 1], bad, "hallucinated", HALLUCINATED),
    ):
        ax.plot(left, arrays["x0"][of][:30].T, color=color, linewidth=0.7, alpha=0.7)
        for mode in modes[:, 0]:
            ax.axhspan(mode - 2 * std, mode + 2 * std, color=style.GREY, alpha=0.2, linewidth=0)
        ax.set(title=f"{title} ({min(30, of.sum())} of {of.sum():,})", xlabel="steps left")
        ax.axvspan(-0.5, 9.5, color=style.YELLOW, alpha=0.2, linewidth=0)
        ax.invert_xaxis()
    axes[0, 0].set_ylabel(r"$\hat x_0$")
    return fig


def variances(run: Record):
    """F-e: the late variance of both groups, in one and in two dimensions."""
    column = window_column(run, 10)
    fig, axes = style.figure(1, 2, width=0.8 * style.PAGE)
    panels = (
        (Hallucinations(run, "one_d_detection", "one_d"), "modes 1, 2, 3"),
        (Hallucinations(run, "two_d"), "grid"),
    )
    for ax, (samples, title) in zip(axes.flat, panels):
        bad = samples.labels().ravel()
        log_variance = np.log10(samples.variance[0, :, :, column].ravel())
        edges = np.linspace(log_variance.min(), log_variance.max(), 60)
        for group, label, color in (
            (~bad, "in support", IN_SUPPORT),
            (bad, "hallucinated", HALLUCINATED),
        ):
            ax.hist(log_variance[group], edges, density=True, color=color, alpha=0.6, label=label)
        cut = np.quantile(log_variance[~bad], run.config.detection.keep)
        ax.axvline(cut, color=style.BLACK, linestyle="--", linewidth=1)
        ax.text(
            cut, 0.98, f" {run.config.detection.keep:.0%} kept", va="top", fontsize=8,
            transform=ax.get_xaxis_transform(),
        )  # fmt: skip
        ax.set_title(f"{title}: {(~bad).sum():,} and {bad.sum():,}")
        ax.set_xlabel(r"$\log_{10}$ variance of $\hat x_0$, last 10 steps")
        ax.set_ylim(0, 1.15 * ax.get_ylim()[1])  # room for the words
    axes[0, 0].set_ylabel("density")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return fig


def detection(run: Record):
    """ROC for each window, and what the threshold of another seed removes, against the window."""
    windows, keep = run.config.detection.windows, run.config.detection.keep
    samples = Hallucinations(run, "one_d_detection", "one_d")
    plane = Hallucinations(run, "two_d")
    fig, axes = style.figure(1, 2, width=0.85 * style.PAGE, aspect=1.05)
    scores, labels = samples.variance[0], samples.labels()
    for column, window in enumerate(windows):
        false, true = metrics.roc(scores[..., column].ravel(), labels.ravel())[:2]
        area = metrics.auc(scores[..., column].ravel(), labels.ravel())
        axes[0, 0].plot(false, true, label=f"{window}: {area:.3f}", linewidth=1.2)
    axes[0, 0].plot(1 - keep, 0.95, "*", color=style.BLACK, markersize=9, label="paper's pair")
    axes[0, 0].set(
        xlabel="in support, removed", ylabel="hallucinated, removed", title="modes 1, 2, 3"
    )
    curves = axes[0, 0].get_legend_handles_labels()
    fig.legend(*curves, title="(a) window: area", loc="outside lower center", ncols=4)
    for group, color, label in (
        (samples, IN_SUPPORT, "modes 1, 2, 3"),
        (plane, style.ORANGE, "grid"),
    ):
        removed = [share_interval(group.removed(c, keep)) for c in range(len(windows))]
        style.bars(axes[0, 1], windows, np.transpose(removed), label, color=color, linestyle="-")
    style.paper_value(axes[0, 1], 0.95, "paper: over 0.95")
    axes[0, 1].set(
        xlabel="window, last steps",
        ylabel=f"removed at {keep:.0%} kept",
        xscale="log",
        ylim=(-0.02, 1.05),
    )
    axes[0, 1].set_xticks(windows, [str(w) for w in windows])
    axes[0, 1].minorticks_off()
    axes[0, 1].legend(loc="lower left", bbox_to_anchor=(0.5, 0.45))
    style.panel_labels(axes.flat)
    return fig


def generations(run: Record):
    """F-f: the hallucinated share over generations, by filter."""
    found = generation_shares(run)
    fig, axes = style.figure(1, 1, width=style.COLUMN, aspect=0.8)
    ax = axes[0, 0]
    for rule, color, mark in zip(FILTERS, (style.BLUE, style.ORANGE), "os"):
        share = found[rule]
        generation = np.arange(len(share)) + (0.05 if rule == "random" else -0.05)
        style.points(
            ax, generation, share.T, label=f"{rule} filter", color=color, marker=mark, linestyle="-"
        )
    ax.set(xlabel="generation", ylabel=f"share beyond {run.config.detection.cut:g} sd")
    ax.set_xticks(range(len(share)))
    ax.set_ylim(0, None)
    ax.legend()
    return fig
