"""Figures of the study `subspace_clustering`."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from matplotlib.lines import Line2D

from analysis import style
from analysis.subspace_clustering import statistics
from dfx import metrics
from dfx.runs import Record

COLORS = (
    style.BLUE, style.VERMILLION, style.GREEN, style.PURPLE, style.ORANGE, style.SKY, style.BLACK,
)  # fmt: skip
MARKS = "os^Dv<>P"


def draw(run: Record, part: str) -> None:
    """Draw the figures of a part into the run folder."""
    for figure in _FIGURES[part]:
        style.save(figure(run), run.figures, figure.__name__)
    for name in run.config.pictures.names if part == "pictures" else ():
        style.save(edits(run, name), run.figures, f"edits_{name}")


def _looks(values: Iterable[Any]) -> Iterator[tuple[Any, str, str]]:
    """Each value with a colour and a marker: the first seven differ in both, 56 in one of them."""
    return zip(values, itertools.cycle(COLORS), itertools.cycle(MARKS))


def phases(run: Record):
    """Recovery over dimension and samples: solvers above, trained low-rank nets below."""
    trained = statistics.trained_maps(run)
    count = run.config.maps.two.restarts
    panels = (
        ("PCA, K = 1", "map_pca", statistics.found(run, "map_pca")),
        *(
            (label.replace("K =", "solver, K ="), name, statistics.found(run, name))
            for name, label in statistics.SOLVERS.items()
        ),
        ("net, K = 1", "map_net_1", trained["net_1"]),
        (f"net, K = 2, best of {count} starts", "map_net_2", trained["net_2"]),
        ("net, K = 2, from the truth", "map_net_2", trained["net_2_truth"]),
    )
    fig, axes = style.figure(2, 4, aspect=1.15)
    for ax, (title, name, success) in zip(axes.flat, panels):
        table = run.arrays(name)
        drawn = _heat(ax, success, table["dims"], table["counts"])
        ax.set_title(title, fontsize=7.5)
    for ax in axes[:, 0]:
        ax.set_ylabel("samples N a subspace")
    for ax in (*axes[1, :3], axes[0, 3]):
        ax.set_xlabel("dimension d")
    blank = axes[1, 3]
    blank.set_axis_off()
    place = blank.inset_axes((0.1, 0.0, 0.12, 0.6))
    fig.colorbar(drawn, cax=place, label="share of trials that\nfind all subspaces")
    keys = (
        Line2D([], [], color=style.VERMILLION, label="fitted line, 95%"),
        Line2D([], [], color=style.GREY, linestyle="--", label="paper: from N = d"),
    )
    blank.legend(handles=keys, loc="upper left", bbox_to_anchor=(-0.15, 1.05))
    return fig


def _heat(ax, success, dims, counts):
    places = _edges(np.asarray(dims, float)), _edges(np.asarray(counts, float))
    drawn = ax.pcolormesh(*places, success.mean(2).T, vmin=0, vmax=1)
    d = np.linspace(places[0][0], places[0][-1], 50)
    ax.plot(d, d - 0.5, color="white", linewidth=4)  # so that it shows on both colours
    ax.plot(d, d - 0.5, color=style.GREY, linestyle="--", linewidth=2)
    line = statistics.line(success, dims, counts)
    rows = line.slopes[:, None] * d + line.intercepts[:, None]
    if np.isfinite(rows).all():
        low, high = np.quantile(rows, (0.025, 0.975), axis=0)
        ax.fill_between(d, low, high, color=style.VERMILLION, alpha=0.35, linewidth=0)
        ax.plot(d, line.slope * d + line.intercept, color=style.VERMILLION)
    ax.set(ylim=(places[1][0], places[1][-1]), xlim=(d[0], d[-1]), xticks=dims)
    wide = counts[-1] > 16
    ax.set_yticks([n for n in counts if n % (10 if wide else 2 if len(counts) > 7 else 1) == 0])
    return drawn


def _edges(x):
    """Cell borders halfway between the values."""
    if len(x) == 1:
        return np.array([x[0] - 0.5, x[0] + 0.5])
    middle = (x[1:] + x[:-1]) / 2
    return np.concatenate([[2 * x[0] - middle[0]], middle, [2 * x[-1] - middle[-1]]])


def trained_errors(run: Record):
    """Largest projection distance of trained nets, two subspaces: random starts and the truth."""
    table = run.arrays("map_net_2")
    dims, counts, error = table["dims"], table["counts"], table["error"]
    fig, axes = style.figure(1, len(dims), aspect=0.9, sharey=True)
    for i, (ax, d) in enumerate(zip(axes.flat, dims)):
        random = error[i, :, :, :-1].reshape(len(counts), -1)
        for values, color, mark, shift, label in (
            (random, style.BLUE, "o", 0.97, "random start"),
            (error[i, :, :, -1], style.ORANGE, "s", 1.03, "from the truth"),
        ):
            ax.plot(
                np.repeat(counts * shift, values.shape[1]), values.ravel(), mark, color=color,
                markersize=2, alpha=0.35, markeredgewidth=0,
            )  # fmt: skip
            ax.plot(counts * shift, np.median(values, 1), color=color, marker=mark, markersize=4,
                    label=f"{label}: median")  # fmt: skip
        ax.axhline(np.sqrt(2), color=style.GREY, linestyle=":", linewidth=1)
        ax.axhline(run.config.tolerance, color=style.BLACK, linestyle="-.", linewidth=1)
        ax.axvline(d, color=style.GREY, linestyle="--", linewidth=1)
        ax.set(title=f"d = {d}", xscale="log", xlabel="samples N a subspace")
        ticks = [count for count in counts if count in (2, 3, 4, 6, 10, 20, 30, 60)]
        ax.set_xticks(ticks, [str(tick) for tick in ticks])
        ax.minorticks_off()
    axes[0, 0].set_ylabel("projection distance")
    keys = (
        *axes[0, 0].get_legend_handles_labels()[0],
        Line2D([], [], color=style.BLACK, linestyle="-.", linewidth=1, label="found below"),
        Line2D([], [], color=style.GREY, linestyle=":", linewidth=1, label="one direction wrong"),
        Line2D([], [], color=style.GREY, linestyle="--", linewidth=1, label="paper: N = d"),
    )
    fig.legend(handles=keys, loc="outside lower center", ncols=3)
    return fig


def noise(run: Record):
    """PCA with noise: success against N - d, and mean error against the paper's rate."""
    table, config = run.arrays("noise"), run.config
    dims, counts, error = table["dims"], table["counts"], table["error"]
    rate = statistics.theory_rate(dims, counts)
    fig, axes = style.figure(1, 2, width=0.9 * style.PAGE, aspect=0.85)
    for i, (d, color, mark) in enumerate(_looks(dims)):
        inside = np.isfinite(rate[i])
        for k, (n, dash) in enumerate(zip(table["ambient"], ("-", ":"))):
            label = f"d = {d}, n = {n}"
            near = np.abs(counts - d) <= 12
            share, bars = _shares(error[k, i][near] <= config.tolerance)
            look = {"color": color, "marker": mark, "markersize": 4 if k == 0 else 2.5}
            axes[0, 0].errorbar(
                counts[near] - d, share, yerr=bars, linestyle=dash, label=label, capsize=2, **look
            )
            mean = error[k, i].mean(1)
            axes[0, 1].plot(rate[i][inside], mean[inside], linestyle=dash, **look)
    axes[0, 0].axvline(-0.5, color=style.GREY, linestyle="--", linewidth=1)
    axes[0, 0].set(xlabel="N - d", ylabel="success")
    span = np.asarray([np.nanmin(rate), np.nanmax(rate)])
    level = np.nanmin(error[0].mean(2)[np.isfinite(rate)]) / span[0]
    axes[0, 1].plot(span, level * span, color=style.GREY, linestyle="--", label="paper: slope 1")
    axes[0, 1].set(
        yscale="log", ylabel="mean projection distance",
        xlabel=r"$1 / (\sqrt{N} - \sqrt{d - 1})$",
    )  # fmt: skip
    _log_ticks(axes[0, 1], span)
    low, high = axes[0, 1].get_ylim()
    ticks = [tick for tick in _TICKS if low <= tick <= high]
    axes[0, 1].set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes[0, 1].legend(loc="upper left")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=4)
    style.panel_labels(axes.flat)
    return fig


def _shares(success) -> tuple[np.ndarray, np.ndarray]:
    """Return shares of (cells, trials) and the lengths of their Wilson bars, (2, cells)."""
    rows = [metrics.wilson(int(row.sum()), row.size) for row in success]
    share, low, high = np.transpose(rows)
    return share, np.maximum(0, [share - low, high - share])


def labels_and_angles(run: Record):
    """What the true labels are worth by noise level; recovery by principal angle."""
    table, angle = run.arrays("hard_soft"), run.arrays("angles")
    fig, axes = style.figure(1, 2, width=0.85 * style.PAGE, aspect=0.85)
    style.points(axes[0, 0], table["levels"], table["soft"] / table["hard"], linestyle="-",
                 color=style.BLUE)  # fmt: skip
    axes[0, 0].axhline(1, color=style.GREY, linestyle="--", linewidth=1)
    axes[0, 0].text(0.98, 1.0, "true labels", color=style.GREY, fontsize=8, ha="right", va="bottom",
                    transform=axes[0, 0].get_yaxis_transform())  # fmt: skip
    axes[0, 0].set(xlabel=r"$\sigma / \alpha$", ylabel="loss, soft / true labels")
    _log_ticks(axes[0, 0], table["levels"])
    success = statistics.angle_success(run)
    for j, (count, color, mark) in enumerate(_looks(angle["counts"])):
        share, bars = _shares(success[:, j])
        axes[0, 1].errorbar(
            angle["angles"] + 0.6 * (j - 1), share, yerr=bars, color=color,
            marker=mark, markersize=4, capsize=2, label=f"N = {count}",
        )  # fmt: skip
    axes[0, 1].set(xlabel="principal angle, degrees", ylabel="success, d = 3", ylim=(-0.05, 1.1))
    axes[0, 1].legend(loc="lower right", title="K-subspaces, K = 2")
    style.panel_labels(axes.flat)
    return fig


def collapse(run: Record):
    """Perceptrons: their score as a map, and shares of their samples by N / d and by N."""
    settings, shares = run.config.nets, statistics.scores(run)
    fig, axes = style.figure(2, 2, width=0.85 * style.PAGE, aspect=0.75)
    _score_map(fig, axes[0, 0], run, shares["score"])
    for i, (d, color, mark) in enumerate(_looks(settings.dims)):
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
        _plain_log(ax, settings.ratios)
        ax.set(xlabel="$N_k / d$", ylim=(-0.05, 1.05))
    ends = settings.dims[0] * settings.ratios[0], settings.dims[-1] * settings.ratios[-1]
    _plain_log(axes[1, 0], np.unique(np.round(np.geomspace(*ends, 5)).astype(int)))
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
    across, up = _edges(x), _edges(y)
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


def _plain_log(ax, ticks) -> None:
    ax.set_xscale("log")
    ax.minorticks_off()
    ax.set_xticks(ticks, [str(tick) for tick in ticks])


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
    _log_ticks(ax, snr)
    fig.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=3,
               columnspacing=1.0, handlelength=1.5)  # fmt: skip
    return fig


_TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)


def _log_ticks(ax, x) -> None:
    """Make the x axis logarithmic, with plain numbers at its ticks."""
    ax.set_xscale("log")
    ax.minorticks_off()
    among = _TICKS if max(x) < 1000 * min(x) else _TICKS[::3]  # powers of ten alone
    ticks = [tick for tick in among if 0.95 * min(x) <= tick <= 1.05 * max(x)]
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])


def pictures_rank(run: Record):
    """Rank of learned denoisers' Jacobians on pictures against SNR."""
    fig, axes = style.figure(1, 1, width=style.COLUMN, aspect=0.85)
    ax = axes[0, 0]
    for i, (name, color, mark) in enumerate(_looks(run.config.pictures.names)):
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
    _log_ticks(ax, 1 / table["levels"])
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
    "maps": (phases, trained_errors),
    "laws": (noise, labels_and_angles),
    "nets": (collapse, rank),
    "pictures": (pictures_rank,),
}
