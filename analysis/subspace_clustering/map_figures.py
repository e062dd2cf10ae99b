"""Figures of the study `subspace_clustering` on maps of recovery and on the laws behind them."""

from __future__ import annotations

import numpy as np
from matplotlib.lines import Line2D

from analysis import style
from analysis.subspace_clustering import statistics
from analysis.subspace_clustering.panels import TICKS, edges, log_ticks, looks
from dfx import metrics
from dfx.runs import Record


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
    places = edges(np.asarray(dims, float)), edges(np.asarray(counts, float))
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
    for i, (d, color, mark) in enumerate(looks(dims)):
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
    log_ticks(axes[0, 1], span)
    low, high = axes[0, 1].get_ylim()
    ticks = [tick for tick in TICKS if low <= tick <= high]
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
    log_ticks(axes[0, 0], table["levels"])
    success = statistics.angle_success(run)
    for j, (count, color, mark) in enumerate(looks(angle["counts"])):
        share, bars = _shares(success[:, j])
        axes[0, 1].errorbar(
            angle["angles"] + 0.6 * (j - 1), share, yerr=bars, color=color,
            marker=mark, markersize=4, capsize=2, label=f"N = {count}",
        )  # fmt: skip
    axes[0, 1].set(xlabel="principal angle, degrees", ylabel="success, d = 3", ylim=(-0.05, 1.1))
    axes[0, 1].legend(loc="lower right", title="K-subspaces, K = 2")
    style.panel_labels(axes.flat)
    return fig
