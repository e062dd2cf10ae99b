"""Figures of the study `fokker_planck_gap`."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.lines import Line2D

from analysis import style
from analysis.fokker_planck_gap import statistics
from analysis.fokker_planck_gap.statistics import PAIRS, REFERENCES
from dfx.runs import Record
from experiments.fokker_planck_gap.data import SETS
from experiments.fokker_planck_gap.laws import window
from experiments.fokker_planck_gap.measures import residual_times, score_times

COLORS = dict(zip(SETS, (style.BLUE, style.VERMILLION, style.GREEN)))
MARKS = dict(zip(SETS, "os^"))
_THICK, _THIN = 1.6, 0.7  # lines of the spatial and of the constant part of the residual
PAIR_COLORS, PAIR_MARKS = (style.BLACK, style.SKY, style.ORANGE), "oDv"


def draw(run: Record) -> None:
    """Draw every figure."""
    figures = {
        "data": data,
        "laws": laws,
        "gap_against_residual": gap_against_residual,
        "loss_against_residual": loss_against_residual,
        "distances": distances,
        "residual_over_time": residual_over_time,
        "score_residual": score_residual,
        "bound": bound,
    }
    for name, figure in figures.items():
        style.save(figure(run), run.figures, name)


def data(run: Record):
    """F1: the masses of the three data laws."""
    fig, axes = style.figure(1, 3, aspect=1.0, sharey=True)
    for ax, law in zip(axes.flat, SETS):
        _masses(run, ax, run.arrays(f"truth_{law}")["truth"])
        ax.set(title=law, xlabel="$x_1$")
    axes[0, 0].set_ylabel("$x_2$")
    return fig


def laws(run: Record):
    """F2: the laws of SDE and ODE of the first seed; rows weights, columns data laws."""
    weights = run.config.weights
    fig, axes = style.figure(len(weights), 6, aspect=1.0, sharex=True, sharey=True)
    for column, law in enumerate(SETS):
        arrays = run.arrays(f"laws_{law}")
        top = run.arrays(f"truth_{law}")["truth"].max()
        for kind, name in enumerate(("sde", "ode")):
            of = statistics.by_seed(run, arrays[name])[:, 0]
            for row in range(len(weights)):
                ax = axes[row, 2 * column + kind]
                _masses(run, ax, of[row], top)
                ax.set(xticks=[], yticks=[])
            axes[0, 2 * column + kind].set_title(f"{law}\n{name.upper()}", fontsize=8)
    for row, weight in enumerate(weights):
        axes[row, 0].set_ylabel(f"$w_R$ = {weight:g}")
    return fig


def _masses(run, ax, masses, top=None):
    space = window(run.config.laws)
    reach = run.config.laws.half_width
    ax.imshow(
        space.crop(masses).T, origin="lower", extent=(-reach, reach, -reach, reach), vmin=0,
        vmax=top, interpolation="nearest",
    )  # fmt: skip
    ax.spines[:].set_visible(False)


def gap_against_residual(run: Record):
    """F3: W_2^2 from ODE to SDE against the residual: its spatial part, and raw."""
    fig, axes = style.figure(1, 2, sharex=True, aspect=0.85)
    panels = (
        (statistics.spatial_residual, "spatial", r"mean$_t$ Var$_x R$ under $p_t$  (time$^{-2}$)"),
        (_raw, "raw", r"mean $R^2$ in the box  (time$^{-2}$)"),
    )
    for ax, (residual, known, label) in zip(axes.flat, panels):
        for law in SETS:
            gap, found = statistics.distances(run, law)[0], residual(run, law)
            look = dict(color=COLORS[law], marker=MARKS[law], markersize=4)
            ax.plot(gap.ravel(), found.ravel(), linestyle="none", label=law, **look)
            middle = [np.exp(np.log(a).mean(1)) for a in (gap, found)]
            ax.plot(*middle, color=COLORS[law], linewidth=0.8)
            theirs = REFERENCES[law].distances[0], getattr(REFERENCES[law], known)
            ax.plot(*theirs, "--", color=style.GREY, marker=MARKS[law], markersize=4,
                    markerfacecolor="none", linewidth=0.8)  # fmt: skip
        ax.set(xscale="log", yscale="log", ylabel=label)
        ax.set_xlabel(r"$W_2^2$(ODE, SDE)  (length$^2$)")
    style.panel_labels(axes.flat)
    _legend(fig, "authors' nets, histograms")
    return fig


def _raw(run, law):
    return statistics.measured(run, law, "raw")


def loss_against_residual(run: Record):
    """F4: the denoising loss, scaled over the weights of each seed, against the raw residual."""
    fig, axes = style.figure(1, 1, width=style.COLUMN, aspect=0.9)
    ax = axes[0, 0]
    for law in SETS:
        loss = statistics.normalised_dsm(statistics.measured(run, law, "dsm"))
        ax.plot(loss.ravel(), _raw(run, law).ravel(), MARKS[law], color=COLORS[law], markersize=4)
        theirs = statistics.normalised_dsm(REFERENCES[law].dsm)
        ax.plot(theirs, REFERENCES[law].raw, MARKS[law], color=style.GREY, markersize=4,
                markerfacecolor="none")  # fmt: skip
    ax.set(yscale="log", xlabel="denoising loss, scaled to [-1/2, 1/2]")
    ax.set_ylabel(r"mean $R^2$ in the box  (time$^{-2}$)")
    _legend(fig, "authors' nets", ncols=2)
    return fig


def _legend(fig, theirs, ncols=4):
    handles = [
        Line2D([], [], color=COLORS[law], marker=MARKS[law], markersize=4, label=law)
        for law in SETS
    ]
    handles.append(
        Line2D([], [], color=style.GREY, marker="o", markersize=4, markerfacecolor="none",
               linestyle="--", label=theirs)
    )  # fmt: skip
    fig.legend(handles=handles, loc="outside lower center", ncols=ncols)


def distances(run: Record):
    """T1-T3: the three distances against the weight; above W_2^2, below between histograms."""
    kinds = ["smooth"] + ["binned"] * statistics.has_histograms(run)
    names = {"smooth": "$W_2^2$", "binned": "histograms, $W_2^2$"}
    fig, axes = style.figure(len(kinds), 3, sharex=True, sharey="row", aspect=0.95)
    place = np.arange(len(run.config.weights))
    for row, kind in enumerate(kinds):
        for ax, law in zip(axes[row], SETS):
            pairs = statistics.distances(run, law, kind)
            for i, values in enumerate(pairs):
                style.band(ax, place, values.T, geometric=True, color=PAIR_COLORS[i],
                           marker=PAIR_MARKS[i], markersize=4)  # fmt: skip
                ax.plot(place, REFERENCES[law].distances[i], "--", color=style.GREY,
                        marker=PAIR_MARKS[i], markersize=4, markerfacecolor="none",
                        linewidth=0.8)  # fmt: skip
            ax.set_yscale("log")
        axes[row, 0].set_ylabel(f"{names[kind]}  (length$^2$)")
    for ax, law in zip(axes[0], SETS):
        ax.set_title(law)
    for ax in axes[-1]:
        ax.set_xticks(place, [f"{w:g}" for w in run.config.weights])
        ax.set_xlabel("weight $w_R$ of the residual")
    handles = [
        Line2D([], [], color=c, marker=m, markersize=4, label=pair)
        for pair, c, m in zip(PAIRS, PAIR_COLORS, PAIR_MARKS)
    ]
    grey = Line2D([], [], color=style.GREY, linestyle="--", label="authors' nets, histograms")
    fig.legend(handles=[*handles, grey], loc="outside lower center", ncols=4)
    return fig


def residual_over_time(run: Record):
    """Spatial and constant part of R under p_t against time, without and with the penalty."""
    fig, axes = style.figure(1, 3, sharey=True, aspect=0.95)
    t = residual_times(run.config)
    lines: tuple[Any, ...] = ((0, "-", style.VERMILLION), (2, "--", style.BLUE))
    for ax, law in zip(axes.flat, SETS):
        for index, dash, color in lines:
            style.band(ax, t, statistics.measured(run, law, "variance")[index], geometric=True,
                       color=color, linestyle=dash, linewidth=_THICK)  # fmt: skip
            constant = np.mean(statistics.measured(run, law, "constant")[index] ** 2, axis=0)
            ax.plot(t, constant, color=color, linestyle=dash, linewidth=_THIN)
        ax.set(title=law, xlabel="time $t$", yscale="log")
    axes[0, 0].set_ylabel(r"$R^2$ under $p_t$  (time$^{-2}$)")
    handles = [
        Line2D([], [], color=color, linestyle=dash, linewidth=width,
               label=f"$w_R$ = {run.config.weights[index]:g}, {part}")
        for index, dash, color in lines
        for part, width in (("Var$_x R$", _THICK), ("(mean$_x R)^2$", _THIN))
    ]  # fmt: skip
    fig.legend(handles=handles, loc="outside lower center", ncols=4)
    return fig


def score_residual(run: Record):
    """G: the residual of the score equation against time, for every weight."""
    fig, axes = style.figure(1, 3, sharey=True, aspect=0.95)
    colors, t = (style.BLACK, style.SKY, style.ORANGE, style.PURPLE), score_times(run.config)
    for ax, law in zip(axes.flat, SETS):
        values = statistics.measured(run, law, "score_residual")
        for i, weight in enumerate(run.config.weights):
            style.band(ax, t, values[i], f"$w_R$ = {weight:g}", geometric=True, color=colors[i],
                       marker="osD^"[i], markersize=3, linewidth=1)  # fmt: skip
        ax.set(title=law, xlabel="time $t$", xscale="log", yscale="log")
    axes[0, 0].set_ylabel("rms residual of score eq.\n(length$^{-1}$ time$^{-1}$)")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=4)
    return fig


def bound(run: Record):
    """Gap and its bound on the line, and in the linear case where they are equal."""
    arrays = run.arrays("bound")
    fig, axes = style.figure(1, 1, width=style.COLUMN, aspect=0.85)
    ax, errors = axes[0, 0], run.config.bound.errors
    gap, limit, growth = arrays["line"].T
    ax.plot(errors, gap, "o-", color=style.BLACK, label="gap $W_2$(ODE, SDE)", markersize=4)
    ax.plot(errors, limit, "s-", color=style.VERMILLION, label="bound", markersize=4)
    ax.plot(errors, limit / growth, "^--", color=style.SKY, markersize=4,
            label=r"bound / $\exp\int l$")  # fmt: skip
    ax.axhline(arrays["linear"][0], color=style.GREY, linestyle="--", linewidth=1)
    ax.text(1.0, arrays["linear"][0], "linear score: gap = bound", color=style.GREY, fontsize=8,
            ha="right", va="top", transform=ax.get_yaxis_transform())  # fmt: skip
    ax.set(xscale="log", yscale="log", xlabel="size $e$ of the bump in the potential")
    ax.set_ylabel("$W_2$  (length)")
    ax.set_xticks(errors, [f"{e:g}" for e in errors])
    ax.minorticks_off()
    fig.legend(loc="outside lower center", ncols=2)
    return fig
