"""Figures of the study `subspace_clustering` on nets and pictures, and which parts draw which."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.lines import Line2D

from analysis import style
from analysis.subspace_clustering import map_figures, statistics
from analysis.subspace_clustering.panels import edges, log_ticks, looks, plain_log
from dfx.runs import Record


def draw(run: Record, part: str) -> None:
    """Draw the figures of a part into the run folder."""
    for figure in _FIGURES[part]:
        style.save(figure(run), run.figures, figure.__name__)
    for name in run.config.pictures.names if part == "pictures" else ():
        style.save(edits(run, name), run.figures, f"edits_{name}")


def collapse(run: Record):
    """Perceptrons: their score as a map, and shares of their samples by N / d and by N."""
    settings, shares = run.config.nets, statistics.scores(run)
    fig, axes = style.figure(2, 2, width=0.85 * style.PAGE, aspect=0.75)
    _score_map(fig, axes[0, 0], run, shares["score"])
    for i, (d, color, mark) in enumerate(looks(settings.dims)):
        ratios = np.asarray(settings.ratios) * 1.03**i  # coinciding marks stay visible
        look: dict[str, Any] = dict(color=color, marker=mark, linestyle="-", label=f"d = {d}")
        style.points(axes[0, 1], ratios, shares["score"][i].T, **look)
        style.points(axes[1, 0], ratios * d, shares["score"][i].T, **look)
        style.points(axes[1, 1], ratios, shares["new"][i].T, **look)
        style.points(axes[1, 1], ratios, shares["placed"][i].T, **{**look, "linestyle": ":"})
    style.paper_value(axes[0, 1], 60, "", axis="x")
    for ax, label in ((axes[0, 1], "new and in place"), (axes[1, 0], "new and in place")):
        ax.set_ylabel(f"samples {label}")
    axes[1, 1].set_ylabel("samples new; in place")
    for ax in (axes[0, 1], axes[1, 1]):
        plain_log(ax, settings.ratios)
        ax.set(xlabel="$N_k / d$", ylim=(-0.05, 1.05))
    ends = settings.dims[0] * settings.ratios[0], settings.dims[-1] * settings.ratios[-1]
    plain_log(axes[1, 0], np.unique(np.round(np.geomspace(*ends, 5)).astype(int)))
    axes[1, 0].set(xlabel="$N_k$", ylim=(-0.05, 1.05))
    keys = (
        *axes[0, 1].get_legend_handles_labels()[0],
        Line2D([], [], color=style.BLACK, linestyle="-", label="new (d)"),
        Line2D([], [], color=style.BLACK, linestyle=":", label="in place (d)"),
        Line2D([], [], color=style.VERMILLION, label="half of the nets at 1/2, 95% (a)"),
        Line2D([], [], color=style.GREY, linestyle="--", label="paper: 1 from here on (a, b)"),
    )
    fig.legend(handles=keys, loc="outside lower center", ncols=3)
    style.panel_labels(axes.flat)
    return fig


def _score_map(fig, ax, run: Record, score) -> None:
    """The mean score over d and N / d, with the transition line in logarithms."""
    settings, line = run.config.nets, statistics.score_line(run)
    x, y = np.log(settings.dims), np.log(settings.ratios)
    across, up = edges(x), edges(y)
    drawn = ax.pcolormesh(across, up, score.mean(2).T, vmin=0, vmax=1)
    fig.colorbar(drawn, ax=ax, label="mean score")
    d = np.linspace(across[0], across[-1], 50)
    rows = line.slopes[:, None] * d + line.intercepts[:, None]
    if np.isfinite(rows).all():
        low, high = np.quantile(rows, (0.025, 0.975), axis=0)
        ax.fill_between(d, low, high, color=style.VERMILLION, alpha=0.35, linewidth=0)
        ax.plot(d, line.slope * d + line.intercept, color=style.VERMILLION)
    ax.axhline(np.log(60), color=style.GREY, linestyle="--")
    ax.set(xlabel="dimension d", ylabel="$N_k / d$", xlim=(d[0], d[-1]), ylim=(up[0], up[-1]))
    ax.set_xticks(x, [str(v) for v in settings.dims])
    ax.set_yticks(y, [str(v) for v in settings.ratios])


def rank(run: Record):
    """Rank of the Jacobian against SNR: exact denoiser, low-rank net, perceptron."""
    table, d = run.arrays("rank"), run.config.nets.rank.dim
    fig, axes = style.figure(1, 1, width=style.COLUMN, aspect=0.85)
    ax, snr = axes[0, 0], 1 / table["levels"]
    for name, label, color, mark, shift in (
        ("exact", "exact", style.BLACK, "o", 1.0),
        ("low_rank", "low-rank net", style.BLUE, "s", 1.05),
        ("perceptron", "perceptron", style.VERMILLION, "^", 0.95),
    ):
        style.points(ax, snr * shift, table[name].mean(2).T, label=label, color=color, marker=mark,
                     linestyle="-")  # fmt: skip
    for value, text in ((2 * d, "K d"), (d, "d")):
        style.paper_value(ax, value, text)
    ax.set(xlabel=r"SNR, $\alpha / \sigma$", ylabel="effective rank of the Jacobian")
    ax.set_ylim(0, None)
    log_ticks(ax, snr)
    fig.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=3,
               columnspacing=1.0, handlelength=1.5)  # fmt: skip
    return fig


def pictures_rank(run: Record):
    """Rank of learned denoisers' Jacobians on pictures against SNR."""
    fig, axes = style.figure(1, 1, width=style.COLUMN, aspect=0.85)
    ax = axes[0, 0]
    for i, (name, color, mark) in enumerate(looks(run.config.pictures.names)):
        table = run.arrays(f"rank_{name}")
        label = f"{name}, {int(table['pixels'])} numbers"
        style.points(
            ax, 1.05**i / table["levels"], statistics.picture_ranks(run, name).T, label=label,
            linestyle="-", color=color, marker=mark,
        )  # fmt: skip
    low, high = (1 / ratio for ratio in statistics.MIDDLE)
    ax.plot([low, high], [0.1, 0.1], "--", color=style.GREY, linewidth=1, label="paper: below 0.1",
            zorder=0)  # fmt: skip
    ax.set(xlabel=r"SNR, $\alpha / \sigma$", ylabel="rank / numbers of a picture", ylim=(0, 1.02))
    log_ticks(ax, 1 / table["levels"])
    fig.legend(*ax.get_legend_handles_labels(), loc="outside lower center")
    return fig


def edits(run: Record, name: str):
    """Pictures decoded after moving along the three leading directions and a random one."""
    table = run.arrays(f"edits_{name}")
    shown, strengths = table["pictures"], table["strengths"]
    count, steps = shown.shape[0], shown.shape[1]
    names = [f"$v_{i + 1}$" for i in range(count - 1)] + ["random"]
    fig, axes = style.figure(1, count, aspect=shown.shape[2] / steps + 0.15)
    for ax, name, rows in zip(axes.flat, names, shown):
        images = np.moveaxis(rows, 0, 1).reshape(-1, *rows.shape[2:])
        style.pictures(ax, images, steps, -1.0, 1.0)
        ax.set_title(name)
        side = rows.shape[3] + 1
        for j, strength in enumerate(strengths):
            label = rf"{strength:+g}$\sigma$" if strength else "0"
            place = (j + 0.5) * side - 0.5, len(rows[0]) * side
            ax.text(*place, label, ha="center", va="top", fontsize=6)
    return fig


_FIGURES = {
    "maps": (map_figures.phases, map_figures.trained_errors),
    "laws": (map_figures.noise, map_figures.labels_and_angles),
    "nets": (collapse, rank),
    "pictures": (pictures_rank,),
}
