"""Figures of the study `solver_laws` on the knobs of the noise, and on errors that it forgets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from analysis import style
from analysis.solver_laws import figures, statistics
from analysis.solver_laws.statistics import MEAN, W2
from dfx.runs import Record
from experiments.solver_laws.members import MEMBERS
from experiments.solver_laws.normal import normals

KNOB_LABELS = {
    "eta": r"$\eta$ of DDIM",
    "tau": r"$\tau$ of SA-Solver",
    "churn": r"$S_{churn}$ of Heun",
}


def draw(run: Record) -> None:
    """Draw the figures of this module."""
    for figure in (sweeps_normal, sweeps_grid, forgetting):
        style.save(figure(run), run.figures, figure.__name__)


def sweeps_normal(run: Record):
    """Exact W_2 on the normal law against each knob, from the exact law and from a wrong prior."""
    kept, nfe = run.arrays("sweeps"), run.config.sweeps.nfe

    def panel(ax, knob, start):
        for j, count in enumerate(nfe):
            ax.plot(run.config.sweeps[knob], kept[knob][start, :, j, W2], **_count_look(j, count))

    return _sweeps(panel, r"$W_2$ / sd")


def sweeps_grid(run: Record):
    """Sliced W_2 on the grid against each knob, from the exact law and from a wrong prior."""
    nfe = run.config.sweeps.nfe

    def panel(ax, knob, start):
        found = statistics.swept(run, ("grid", "grid_early")[start], knob)
        for j, count in enumerate(nfe):
            values = found[:, :, j].T
            style.points(ax, run.config.sweeps[knob], values, **_count_look(j, count))
        figures.exact_line(ax, statistics.floor(run, "grid", "sliced").mean())
        ax.set_yticks([0.03, 0.1, 0.3], ["0.03", "0.1", "0.3"])
        ax.minorticks_off()

    return _sweeps(panel, r"sliced $W_2$")


def _sweeps(panel: Callable, label: str):
    fig, axes = style.figure(2, len(KNOB_LABELS), aspect=0.8, sharex="col", sharey="row")
    for start, row in enumerate(axes):
        for ax, knob in zip(row, KNOB_LABELS):
            ax.set_yscale("log")
            panel(ax, knob, start)
        row[0].set_ylabel(("exact start\n", "wrong prior\n")[start] + label)
    for ax, name in zip(axes[1], KNOB_LABELS.values()):
        ax.set_xlabel(name)
    handles = axes[0, 0].get_legend_handles_labels()
    fig.legend(*handles, title="evaluations", loc="outside lower center", ncols=5)
    return fig


def _count_look(j: int, count: int) -> dict[str, Any]:
    color = (style.SKY, style.BLUE, style.ORANGE, style.VERMILLION, style.BLACK)[j % 5]
    return {"color": color, "marker": "os^Dv"[j % 5], "markersize": 4, "label": str(count),
            "linestyle": "-"}  # fmt: skip


def forgetting(run: Record):
    """What is left of a wrong prior against evaluations, and of a pulse of error by its level."""
    fig, axes = style.figure(1, 3, aspect=1.05)
    exact, law = run.arrays("gaussian"), normals()["gaussian"]
    pair = ("dpm_solver_pp_2m", "sde_dpm_solver_pp_2m")
    for name, tau in zip(pair, (0.0, 1.0)):
        i = list(MEMBERS).index(name)
        figures.draw_line(axes[0, 0], name, exact["rows"][i], exact["errors"][1, i, :, MEAN])
        style.paper_value(axes[0, 0], statistics.wrong_prior_limit(run, law, tau), "closed form")
    names = (*pair, "ddim", "ddpm", "heun_churn", "sa_solver")
    figures.draw_statistic(run, axes[0, 1], "grid_early", "sliced", names)
    kept, limits = run.arrays("pulses"), statistics.pulse_limits(run)
    middle = np.sqrt(kept["lows"] * kept["highs"])
    width = np.log(kept["highs"] / kept["lows"])[0]
    for i, tau in enumerate(run.config.pulse.tau):
        color, mark = (style.GREEN, style.BLACK, style.ORANGE)[i % 3], "Do^"[i % 3]
        axes[0, 2].plot(middle, limits[i] / width, "--", color=style.GREY, linewidth=1.0)
        axes[0, 2].plot(middle, kept["left"][i] / width, mark, color=color, markersize=4,
                        label=rf"$\tau = {tau:g}$")  # fmt: skip
    titles = ("normal law, wrong prior", "grid, wrong prior", "pulse of error")
    labels = ("shift of the mean left / sd", r"sliced $W_2$", "shift left / (size, width)")
    for ax, title, label in zip(axes.flat, titles, labels):
        ax.set(title=title, ylabel=label, xlabel="evaluations", yscale="log")
        figures.count_axis(ax, run.config.mixtures.nfe)
    axes[0, 2].set(xscale="log", xlabel=figures.LEVEL)
    axes[0, 2].set_xticks([0.1, 1, 10], ["0.1", "1", "10"])
    axes[0, 2].invert_xaxis()
    axes[0, 2].legend(loc="lower right")
    figures.draw_legend(fig, axes[0, 1])
    return fig
