"""Figures of the study `guided_sampling`, part (a): solvers on guided fields."""

from __future__ import annotations

from typing import Any

import numpy as np

from analysis import style
from analysis.guided_sampling import statistics
from dfx.runs import Record

#: What a solver integrates -> its colour; its kind -> its mark.
PREDICTIONS = {"noise": style.VERMILLION, "data": style.BLUE}
MARKS = {"2s": "^", "3s": "v", "2m": "o", "3m": "s"}
OTHERS = {
    "ddim": ("*", style.BLACK, "-"),
    "deis_tab": ("D", style.ORANGE, "--"),
    "ipndm": ("P", style.PURPLE, "--"),
    "unipc_noise": ("X", style.ORANGE, ":"),
    "unipc_data": ("X", style.SKY, ":"),
}

#: Errors beyond these are drawn at them: rounding, and a solver that has left the data by far.
FLOOR, CEILING = 1e-8, 1e3

#: How the times are spaced, in words.
TIMES = {"uniform": "equal in time", "uniform_log_snr": "equal in log-SNR"}


def draw(run: Record) -> None:
    """Draw the figures of part (a) into the run's folder."""
    style.save(stability(run), run.figures, "stability")
    style.save(lost(run), run.figures, "lost")
    if statistics.is_clipped(run, "grid"):
        style.save(data_range(run), run.figures, "range")


def stability(run: Record):
    """Errors of the solvers: against the weight on each spacing of the times, and against the
    evaluations on the last."""
    settings = run.config.stability
    columns = len(settings.spacings) + 1
    fig, axes = style.figure(
        len(settings.laws), columns, width=style.PAGE, aspect=0.95, sharex="col", sharey="row"
    )
    for row, name in zip(axes, settings.laws):
        found = statistics.Stability(run, name)
        column, last = found.weights.index(settings.weight), settings.spacings[-1]
        for method in found.methods:
            for ax, spacing in zip(row, settings.spacings):
                error = found.at(found.error, spacing, method, settings.budget)
                _curve(ax, found.weights, error, method)
            errors = [found.at(found.error, last, method, n)[column] for n in found.evaluations]
            _curve(row[-1], found.evaluations, np.stack(errors), method)
        row[0].set_ylabel(f"{name}: $\\log_{{10}}$ error")
        row[-1].set_xscale("log")
        row[-1].set_xticks(found.evaluations, [str(n) for n in found.evaluations])
        row[-1].minorticks_off()
    titles = [f"{settings.budget} evaluations,\n{TIMES[name]}" for name in settings.spacings]
    titles.append(f"w = {settings.weight:g},\n{TIMES[settings.spacings[-1]]}")
    for ax, title in zip(axes[0], titles):
        ax.set_title(title)
    for ax in axes[-1]:
        ax.set_xlabel("weight w")
    axes[-1, -1].set_xlabel("evaluations")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return fig


def lost(run: Record):
    """The share of samples that end far from where they should, against the weight."""
    settings = run.config.stability
    fig, axes = style.figure(
        len(settings.laws), len(settings.spacings), width=0.85 * style.PAGE, aspect=0.7,
        sharex=True, sharey=True,
    )  # fmt: skip
    for row, name in zip(axes, settings.laws):
        found = statistics.Stability(run, name)
        for ax, spacing in zip(row, settings.spacings):
            for method in found.methods:
                share = found.at(found.lost, spacing, method, settings.budget)
                style.points(ax, found.weights, share.T, label=_label(method), **_look(method))
        row[0].set_ylabel(f"{name}: share lost")
    for ax, spacing in zip(axes[0], settings.spacings):
        ax.set_title(f"{settings.budget} evaluations, {TIMES[spacing]}")
    for ax in axes[-1]:
        ax.set_xlabel("weight w")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return fig


def _curve(ax, places, error, method: str) -> None:
    """Draw the errors (places, seeds) by their logarithms, as their tails are heavy."""
    values = np.log10(np.clip(error, FLOOR, CEILING)).T
    style.points(ax, places, values, label=_label(method), **_look(method))


def _label(method: str) -> str:
    """The name that papers give to a method."""
    kind = method.rpartition("_")[2].upper()
    if method.startswith("dpm_solver_pp"):
        return f"DPM-Solver++ {kind}"
    if method.startswith("dpm_solver"):
        return f"DPM-Solver {kind}"
    return {
        "ddim": "DDIM", "deis_tab": "tAB-DEIS", "ipndm": "iPNDM", "unipc_noise": "UniPC (noise)",
        "unipc_data": "UniPC (data)",
    }[method]  # fmt: skip


def _look(method: str) -> dict[str, Any]:
    """Colour by prediction, mark by kind."""
    marker, color, dashes = OTHERS.get(method) or (
        MARKS[method[-2:]],
        PREDICTIONS["data" if "_pp_" in method else "noise"],
        "-",
    )
    return {"marker": marker, "color": color, "linestyle": dashes, "linewidth": 1.0,
            "markersize": 3.5, "elinewidth": 0.6, "capsize": 1.0}  # fmt: skip


def data_range(run: Record):
    """The grid law: share of ends outside the box of the data, without and with the denoiser
    clipped to it."""
    settings = run.config.stability
    fig, axes = style.figure(1, len(settings.spacings), width=0.85 * style.PAGE, sharey=True)
    methods = ("dpm_solver_2m", "dpm_solver_pp_2m")
    for clipped, end, dashes in ((False, "", "-"), (True, ", clipped", "--")):
        found = statistics.Stability(run, "grid", clipped)
        for ax, spacing in zip(axes.flat, settings.spacings):
            style.points(ax, found.weights, found.exact_outside.T, label="tight solve" + end,
                         color=style.BLACK, marker="*", linestyle=dashes)  # fmt: skip
            for method, mark in zip(methods, "os"):
                share = found.at(found.outside, spacing, method, settings.budget)
                look = _look(method) | {"marker": mark, "linestyle": dashes}
                style.points(ax, found.weights, share.T, label=_label(method) + end, **look)
    for ax, spacing in zip(axes.flat, settings.spacings):
        ax.set(title=f"{settings.budget} evaluations, {TIMES[spacing]}", xlabel="weight w")
    axes[0, 0].set_ylabel("share outside the box")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return fig
