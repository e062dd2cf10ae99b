"""Figures of the study `solver_orders`."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from matplotlib.lines import Line2D

from analysis import style
from analysis.solver_orders.statistics import Errors, Orders, Public
from dfx.runs import Record, mean_interval
from dfx.solvers import REGISTRY

#: Samplers that the curves show, one a family, and their looks; a run with none of them shows its
#: first ones.
FAMILIES = {
    "ddim": (style.BLACK, "o", "-"),
    "heun": (style.ORANGE, "s", "--"),
    "dpm_solver_pp_2m": (style.BLUE, "v", "-"),
    "dpm_solver_pp_3m": (style.SKY, "^", "--"),
    "unipc_3": (style.VERMILLION, "D", "-"),
    "deis_tab": (style.GREEN, "P", "--"),
    "plms": (style.PURPLE, "X", ":"),
    "flow_kutta38": (style.GREY, "*", "-"),
}
#: Those that are shown where there is room for three.
THREE = ("dpm_solver_pp_2m", "unipc_3", "flow_kutta38")

TITLES = {
    "gaussian": "one Gaussian, 2-D",
    "grid": "25 modes, 2-D",
    "low_rank": "8 low-rank modes, 64-D",
}


def draw_orders(run: Record) -> None:
    """Draw the figure of the part "orders"; there is none where no law was asked for."""
    found = Orders(run)
    if found.laws:
        style.save(orders(run, found), run.figures, "orders")


def draw_errors(run: Record) -> None:
    """Draw the figures of the part "errors"; the ranking shows some budgets alone."""
    errors = Errors(run)
    drawn = {"work_precision": work_precision, "grids": grids, "last_step": last_step}
    if ranked_budgets(errors):
        drawn["ranking"] = ranking
    for name, draw in drawn.items():
        style.save(draw(errors), run.figures, name)


def draw_public(run: Record) -> None:
    """Draw the figure of the part "public"; there is none where no budget has a public error."""
    found = Public(run)
    if any(found.ranked(budget) for budget in found.budgets):
        style.save(public(found), run.figures, "public")


def shown(errors: Errors, wanted: Iterable[str], count: int) -> dict[str, tuple[str, str, str]]:
    """Return the wanted samplers of the run and their looks, or else its first ones."""
    names = [name for name in wanted if name in errors.names]
    if names:
        return {name: FAMILIES[name] for name in names}
    return dict(zip(errors.names[:count], FAMILIES.values()))


def orders(run: Record, found: Orders):
    """Fitted against stated order of every solver, by law and start."""
    names = found.names[::-1]
    fig, axes = style.figure(1, len(found.laws), aspect=0.17 * len(names) / 3.5 + 0.2, sharey=True)
    looks = {"early": (style.BLUE, "o"), "late": (style.VERMILLION, "x")}
    for ax, (k, law) in zip(axes.flat, enumerate(found.laws)):
        for j, (start, (color, marker)) in enumerate(looks.items()):
            slopes = np.stack([found.slopes(name)[k, 0, j] for name in names], axis=1)
            mean, low, high = mean_interval(slopes)
            ax.errorbar(
                mean, np.arange(len(names)) + 0.15 * (2 * j - 1), fmt=marker, color=color,
                xerr=np.stack([mean - low, high - mean]), markersize=3.5, capsize=0, label=start,
            )  # fmt: skip
        stated = [REGISTRY[name.split(",")[0]].order for name in names]
        ax.plot(stated, np.arange(len(names)), "|", color=style.GREY, markersize=9, zorder=0)
        ax.set(title=TITLES[law], xlabel="order of the error", xlim=(0.5, 5))
        ax.grid(axis="x")
    axes[0, 0].set_yticks(np.arange(len(names)), names, fontsize=7)
    axes[0, 0].set_ylim(-0.7, len(names) - 0.3)
    settings = run.config.orders
    keys = (
        _mark("early", looks, f"fitted, from half log-SNR {settings.start:g}"),
        _mark("late", looks, f"from {settings.late_start:g}: warm-up shows"),
        Line2D([], [], color=style.GREY, marker="|", linestyle="none", label="stated"),
    )
    fig.legend(handles=keys, loc="outside lower center", ncols=3)
    return fig


def _mark(start, looks, label) -> Line2D:
    color, marker = looks[start]
    return Line2D([], [], color=color, marker=marker, linestyle="none", markersize=4, label=label)


def work_precision(errors: Errors):
    """Error against evaluations, one sampler a family, on two schedules with their usual grids."""
    rows = (("vp_linear", "log_snr"), ("rectified_linear", "quadratic"))
    samplers = shown(errors, FAMILIES, len(FAMILIES))
    fig, axes = style.figure(2, len(errors.laws), aspect=0.95, sharex=True, sharey="col")
    for i, (line, (schedule, grid)) in enumerate(zip(axes, rows)):
        for ax, (k, law) in zip(line, enumerate(errors.laws)):
            for name, (color, marker, dash) in samplers.items():
                spent = errors.spent(name, schedule, grid)
                values = errors.of(name, schedule, grid)[k]
                ok = np.isfinite(values).all(-1) & (np.diff(spent, prepend=0) > 0)
                style.band(
                    ax, spent[ok], values[ok].T, name, geometric=True, color=color,
                    marker=marker, linestyle=dash, markersize=3, linewidth=1,
                )  # fmt: skip
            ax.set(xscale="log", yscale="log", ylim=(1e-7, 10))
            if i == 0:
                ax.set_title(TITLES[law])
            else:
                ax.set_xlabel("evaluations")
        name, spacing = schedule.replace("_", " "), grid.replace("log_snr", "log-SNR")
        line[0].set_ylabel(f"{name}, {spacing}\nmean error")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=4)
    return fig


def ranked_budgets(errors: Errors) -> list[int]:
    """Return the budgets that the ranking shows."""
    return [b for b in (5, 10, 20, 50, 100) if b in errors.budgets]


def ranking(errors: Errors):
    """Decades above the best solver, each on its best schedule and grid, by law and budget."""
    budgets = ranked_budgets(errors)
    columns = [list(errors.budgets).index(b) for b in budgets]
    best = np.nanmin(errors.stacked().mean(-1)[..., columns], axis=(2, 3))  # solvers, laws, budgets
    gap = np.log10(best / np.nanmin(best, axis=0))
    order = np.argsort(np.nanmean(gap, axis=(1, 2)))
    fig, axes = style.figure(
        1, len(errors.laws), aspect=0.16 * len(order) / 2.2 + 0.25, sharey=True
    )
    for ax, (k, law) in zip(axes.flat, enumerate(errors.laws)):
        drawn = ax.imshow(gap[order, k], aspect="auto", vmin=0, vmax=2, cmap="cividis_r")
        ax.set_xticks(range(len(budgets)), [str(b) for b in budgets])
        ax.set(title=TITLES[law], xlabel="evaluations")
        ax.spines[:].set_visible(False)
    axes[0, 0].set_yticks(range(len(order)), [errors.names[i] for i in order], fontsize=7)
    fig.colorbar(drawn, ax=axes, label="decades above the best solver", shrink=0.4, pad=0.01)
    return fig


def grids(errors: Errors):
    """The error of three families on every schedule and grid, at 20 evaluations or the nearest."""
    place = int(np.argmin(np.abs(errors.budgets - 20)))
    names = list(shown(errors, THREE, len(THREE)))
    fig, axes = style.figure(len(names), len(errors.laws), aspect=0.62, sharex=True, sharey=True)
    for row, (line, name) in enumerate(zip(axes, names)):
        for ax, (k, law) in zip(line, enumerate(errors.laws)):
            values = np.log10(errors.errors[name][k, :, :, place].mean(-1))
            drawn = ax.imshow(values, aspect="auto", vmin=-4, vmax=0)
            for (i, j), value in np.ndenumerate(values):
                color = "white" if value < -2 else "black"
                ax.text(j, i, f"{value:.1f}", ha="center", va="center", fontsize=6, color=color)
            ax.spines[:].set_visible(False)
            if row == 0:
                ax.set_title(TITLES[law])
        line[0].set_ylabel(name)
    schedules = [name.replace("_", " ") for name in errors.schedules]
    axes[0, 0].set_yticks(range(len(schedules)), schedules, fontsize=7)
    axes[0, 0].set_xticks(
        range(len(errors.grids)), errors.grids, fontsize=7, rotation=40, ha="right"
    )
    for ax in axes[-1]:
        ax.tick_params(axis="x", labelrotation=40, labelsize=7)
        for label in ax.get_xticklabels():
            label.set_ha("right")
    title = f"log10 of the mean error, {errors.budgets[place]} evaluations"
    fig.colorbar(drawn, ax=axes, label=title, shrink=0.6, pad=0.01)
    return fig


def last_step(errors: Errors):
    """Error against evaluations with the last step to the denoiser and half-way, on equal steps of
    the linear path."""
    samplers = shown(errors, THREE, len(THREE))
    fig, axes = style.figure(1, len(errors.laws), aspect=1.0, sharex=True, sharey=True)
    for ax, (k, law) in zip(axes.flat, enumerate(errors.laws)):
        for name, (color, marker, _) in samplers.items():
            for grid, dash in (("uniform", "--"), ("uniform, half", "-")):
                spent = errors.spent(name, "rectified_linear", grid)
                values = errors.of(name, "rectified_linear", grid)[k]
                ok = np.isfinite(values).all(-1) & (np.diff(spent, prepend=0) > 0)
                style.band(
                    ax, spent[ok], values[ok].T, geometric=True, color=color, marker=marker,
                    linestyle=dash, markersize=3, linewidth=1,
                )  # fmt: skip
        ax.set(xscale="log", yscale="log", title=TITLES[law], xlabel="evaluations")
        x = np.array([50.0, 200.0])
        for order, y in ((2, 0.3), (4, 2e-6)):
            ax.plot(x, y * (x / 50) ** -order, color=style.BLACK, linewidth=0.8)
            ax.text(x[0], y, f"order {order} ", fontsize=7, ha="right", va="center")
    axes[0, 0].set_ylabel("mean error")
    keys = [
        *(Line2D([], [], color=c, marker=m, label=name) for name, (c, m, _) in samplers.items()),
        Line2D([], [], color=style.BLACK, linestyle="--", label="last step to the denoiser"),
        Line2D([], [], color=style.BLACK, label="half-way"),
    ]
    fig.legend(handles=keys, loc="outside lower center", ncols=5)
    return fig


def public(found: Public, count: int = 10):
    """The best solvers here on the problem of the public packages, beside the best of theirs."""
    budgets = [b for b in found.budgets if found.ranked(b)]
    fig, axes = style.figure(1, len(budgets), aspect=1.1)
    for ax, budget in zip(axes.flat, budgets):
        best = found.ranked(budget)[:count]
        theirs = best[0].public_error
        ax.plot([row.error / theirs for row in best], np.arange(len(best)), "o", color=style.BLUE)
        ax.set_yticks(range(len(best)), [row.solver for row in best], fontsize=6.5)
        ax.axvline(1.0, color=style.GREY, linestyle="--", linewidth=1)
        name = best[0].public_name.split(",")[0]
        ax.set_title(f"{budget} evaluations\n1: {name}\n(error {theirs:.2g})", fontsize=8)
        ax.set(xscale="log", xlabel="error / best public", xlim=(0.15, 4))
        ax.set_xticks([0.2, 0.5, 1, 2], ["0.2", "0.5", "1", "2"])
        ax.minorticks_off()
        ax.invert_yaxis()
    return fig
