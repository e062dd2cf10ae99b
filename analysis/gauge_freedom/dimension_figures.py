"""Figures of the study `gauge_freedom`: singular values and counts of dimensions."""

from __future__ import annotations

from typing import Any

import numpy as np

from analysis import style
from analysis.gauge_freedom import statistics
from analysis.gauge_freedom.statistics import EXACT
from dfx.runs import Record

TITLES = {
    "exact": "exact score",
    "exact_gauge": "exact + gauge",
    "conservative": "conservative net",
    "free": "free net",
    "penalised": "free, penalised",
    "projected": "free, projected",
}
#: Colours of the singular values, the largest first.
RANKS = (style.BLUE, style.GREEN, style.ORANGE, style.VERMILLION, style.PURPLE)
DASHES = ("-", "--", "-.", ":", (0, (1, 1)))
ORDER = ("exact", "exact_gauge", "conservative", "free", "penalised", "projected")
MARKERS, COLORS = (
    dict(zip(ORDER, "sDo^vP")),
    dict(
        zip(
            ORDER, (style.BLACK, style.SKY, style.BLUE, style.VERMILLION, style.ORANGE, style.GREEN)
        )
    ),
)


def draw(run: Record) -> None:
    """Draw the figures of claims 7 and 8."""
    if statistics.planes(run):
        style.save(plane(run), run.figures, "singular_values_plane")
    if len(statistics.planes(run)) < len(run.arrays("dimension_laws")["names"]):
        style.save(manifolds(run), run.figures, "singular_values")
    style.save(success(run), run.figures, "dimension")
    if np.isfinite(run.arrays("net_errors")["error"]).any():
        style.save(errors(run), run.figures, "net_errors")


def plane(run: Record):
    """F3: singular values against time on the Gaussian of rank 2, the exact ones in grey."""
    place, about = statistics.planes(run)[0], run.arrays("dimension_laws")
    dim, times = int(about["dims"][place]), about["times"]
    exact = statistics.plane_values(run, dim)
    fig, axes = style.figure(2, 3, aspect=0.85, sharex=True, sharey=True)
    for ax, name in zip(axes.flat, ORDER):
        ax.plot(times, exact, color=style.GREY, linestyle="--", linewidth=1, zorder=3)
        _spectrum(ax, times, run.arrays(f"{name}_values")["values"][place, ..., :dim])
        ax.set_title(f"{TITLES[name]}: {_rate(run, name, place)}")
    _label(axes)
    return fig


def manifolds(run: Record):
    """F5: the same on the other laws, for conservative and free nets and the free net's gradient
    part; in grey the medians of the exact score, where it is known."""
    about = run.arrays("dimension_laws")
    laws = [i for i in range(len(about["names"])) if i not in statistics.planes(run)]
    shown = ("conservative", "free", "penalised", "projected")
    fig, axes = style.figure(len(laws), 4, aspect=0.75, sharex=True, sharey=True)
    for row, place in zip(axes, laws):
        dim = int(about["dims"][place])
        exact = run.arrays(f"{EXACT}_values")["values"][place, ..., :dim]
        for ax, name in zip(row, shown):
            if np.isfinite(exact).any():
                middle = np.nanmedian(exact, axis=(0, 2))
                ax.plot(about["times"], middle, color=style.GREY, linestyle="--", linewidth=1,
                        zorder=3)  # fmt: skip
            _spectrum(ax, about["times"], run.arrays(f"{name}_values")["values"][place, ..., :dim])
            ax.set_title(f"{TITLES[name]}: {_rate(run, name, place)}", fontsize=7.5)
        row[0].set_ylabel(f"{_law(about, place)}\nsingular values")
    for ax in axes[-1]:
        ax.set_xlabel("time t")
    return fig


def _spectrum(ax, times, values) -> None:
    """Medians over points and seeds, with bands from the 10th to the 90th percentile."""
    for rank in range(values.shape[-1]):
        low, mid, high = np.nanquantile(values[..., rank], (0.1, 0.5, 0.9), axis=(0, 2))
        ax.plot(times, mid, color=RANKS[rank], linestyle=DASHES[rank])
        ax.fill_between(times, low, high, color=RANKS[rank], alpha=0.15, linewidth=0)
    ax.set(xscale="log", yscale="log", xlim=(1, times[-1]), ylim=(1e-3, 5))


def _label(axes) -> None:
    for ax in axes[-1]:
        ax.set_xlabel("time t")
    for ax in axes[:, 0]:
        ax.set_ylabel(r"singular values of $\partial x_t / \partial x_1$")


def _rate(run: Record, name: str, place: int) -> str:
    rate = statistics.success(run, name)[place, :, -1].mean()
    return "-" if np.isnan(rate) else f"{rate:.0%} right"


def _law(about, place: int) -> str:
    name = str(about["names"][place])
    return f"{name[:-1]} in $R^{name[-1]}$"


def success(run: Record):
    """The share of points with the right count: at the last time by law, and along time."""
    about = run.arrays("dimension_laws")
    fig, axes = style.figure(1, 2, aspect=0.85)
    place = np.arange(len(about["names"]))
    for i, name in enumerate(ORDER):
        rate = statistics.success(run, name)
        known = np.isfinite(rate[..., -1]).all(axis=1)
        look: dict[str, Any] = {
            "marker": MARKERS[name],
            "color": COLORS[name],
            "label": TITLES[name],
        }
        style.points(axes[0, 0], place[known] + 0.12 * (i - 2.5), rate[known, :, -1].T, **look)
        mean = rate[known].mean(axis=0)
        style.band(axes[0, 1], about["times"], mean, color=COLORS[name])
        axes[0, 1].plot(about["times"], mean.mean(axis=0), **look, linestyle="none", markersize=4)
    axes[0, 0].set_xticks(place, [_law(about, int(i)) for i in place], rotation=30, ha="right")
    axes[0, 1].set(xscale="log", xlim=(1, about["times"][-1]), xlabel="time t of the count")
    axes[0, 1].set_ylabel("mean over the laws")
    axes[0, 0].set_ylabel(f"right at t = {about['times'][-1]:g}, share of points")
    for ax in axes.flat:
        ax.set_ylim(-0.05, 1.05)
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    style.panel_labels(axes.flat)
    return fig


def errors(run: Record):
    """Errors of the nets to the exact field by time: whether counts differ by accuracy alone."""
    from experiments.gauge_freedom.training import KINDS

    arrays, about = run.arrays("net_errors"), run.arrays("dimension_laws")
    known = [i for i in range(len(about["names"])) if np.isfinite(arrays["error"][0, i]).all()]
    fig, axes = style.figure(1, len(known), aspect=1.1 if len(known) > 2 else 0.8, sharey=True)
    for ax, place in zip(axes.flat, known):
        for kind, error in zip(KINDS, arrays["error"][:, place]):
            style.band(ax, arrays["times"], error, geometric=True, label=TITLES[kind],
                       color=COLORS[kind], marker=MARKERS[kind], markersize=3)  # fmt: skip
        ax.set(xscale="log", yscale="log", xlabel="time t", title=_law(about, place))
    axes[0, 0].set_ylabel(r"$E|\hat\epsilon - \epsilon^*|^2 / d$")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return fig
