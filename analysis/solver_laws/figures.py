"""Figures of the study `solver_laws`."""

from __future__ import annotations

from typing import Any

import numpy as np

from analysis import style
from analysis.solver_laws import statistics
from analysis.solver_laws.statistics import COVARIANCE, MEAN, W2
from dfx.runs import Record
from dfx.runs.claims import mean_interval
from dfx.solvers import REGISTRY
from experiments.solver_laws.members import DETERMINISTIC, MEMBERS, SAMPLED, STOCHASTIC
from experiments.solver_laws.normal import CLOCKS

#: Solver -> (label, colour, marker); deterministic ones are dashed.
LOOKS = {
    "ddpm": ("DDPM", style.BLUE, "o"),
    "euler_ancestral": ("Euler ancestral", style.SKY, "x"),
    "sde_dpm_solver_pp_1": ("SDE-DPM++ 1", style.PURPLE, "+"),
    "ddpm_large": ("DDPM, large variance", style.SKY, "s"),
    "ddim_half": (r"DDIM, $\eta = 0.5$", style.PURPLE, "d"),
    "euler_maruyama": ("Euler-Maruyama", style.ORANGE, "^"),
    "reverse_diffusion": ("reverse diffusion", style.GREEN, "v"),
    "heun_churn": ("Heun, churn 10", style.VERMILLION, "P"),
    "sde_dpm_solver_pp_2m": ("SDE-DPM++ 2M", style.GREEN, "D"),
    "sde_dpm_solver_pp_3m": ("SDE-DPM++ 3M", style.ORANGE, "X"),
    "sa_solver": (r"SA-Solver, $\tau = 1$", style.BLACK, "*"),
    "ddim": ("DDIM", style.BLUE, "o"),
    "heun": ("Heun", style.VERMILLION, "P"),
    "dpm_solver_pp_2m": ("DPM++ 2M", style.GREEN, "D"),
}

#: Those that are drawn where all would hide each other.
CHOSEN = ("ddpm", "euler_maruyama", "heun_churn", "sde_dpm_solver_pp_2m", "sa_solver",
          *DETERMINISTIC)  # fmt: skip

LEVEL = r"noise level $\sigma / \alpha$"


def draw(run: Record) -> None:
    """Draw all figures."""
    for name, figure in {
        "orders": orders,
        "distance": distance,
        "moments": moments,
        "modes": modes,
        "path": path,
    }.items():
        style.save(figure(run), run.figures, name)


def orders(run: Record):
    """Exact W_2 against steps for solvers of weak order 1 and 2, and strong distances."""
    arrays, fitted = run.arrays("orders"), statistics.weak_orders(run)[0]
    fig, axes = style.figure(1, 3, aspect=1.6)
    for ax, order in zip(axes.flat, (1, 2)):
        for i, name in enumerate(STOCHASTIC):
            if arrays["stated"][i] == order:
                label = f"{LOOKS[name][0]}: {fitted[i].value:.2f}"
                draw_line(ax, name, arrays["steps"], arrays["errors"][0, i, :, W2], label=label)
        _guide(ax, order)
        ax.set(title=f"weak order {order}", xlabel="steps")
    strong, found = run.arrays("strong"), statistics.strong_orders(run)
    for name, row, fit in zip(CLOCKS, strong["distances"], found):
        label = f"{LOOKS[name][0]}: {fit.value:.2f}"
        draw_line(axes[0, 2], name, strong["steps"], row, label=label)
    _guide(axes[0, 2], 1)
    axes[0, 2].set(title="strong order 1", xlabel="steps $n$")
    axes[0, 2].set_ylabel("rms distance of $n$ and $2n$ steps")
    axes[0, 0].set_ylabel(r"$W_2$ / standard deviation (exact)")
    for ax in axes.flat:
        ax.set_yscale("log")
        count_axis(ax, arrays["steps"])
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), title="fitted order", fontsize=7)
    count_axis(axes[0, 2], strong["steps"])
    axes[0, 2].set_yticks([0.003, 0.01, 0.03], ["0.003", "0.01", "0.03"])
    style.panel_labels(axes.flat)
    return fig


def _guide(ax, order: int) -> None:
    """A dashed grey line of the stated slope below the curves."""
    lines = [line.get_data() for line in ax.get_lines()]
    steps = np.asarray(lines[0][0], float)
    height = 0.6 * min(y[0] for _, y in lines)
    look = {"color": style.GREY, "linestyle": "--", "linewidth": 1.0, "zorder": 0}
    ax.plot(steps, height * (steps[0] / steps) ** order, label=f"slope {order}", **look)


def distance(run: Record):
    """W_2 against evaluations on the three laws, and on the normal law from a wrong prior."""
    fig, axes = style.figure(2, 2, aspect=0.72)
    exact = run.arrays("gaussian")
    for ax, start in zip((axes[0, 0], axes[0, 1]), (0, 1)):
        for name in CHOSEN:
            i = list(MEMBERS).index(name)
            draw_line(ax, name, exact["rows"][i], exact["errors"][start, i, :, W2])
        exact_line(ax, exact["units"][W2])
    count = f"{run.config.gaussian.num_samples:,}"
    axes[0, 0].set(title=f"normal law, exact (n = {count})", ylabel=r"$W_2$ / standard deviation")
    axes[0, 1].set_title("normal law, wrong prior")
    for ax, law in ((axes[1, 0], "grid"), (axes[1, 1], "low_rank")):
        draw_statistic(run, ax, law, "sliced", CHOSEN)
    axes[1, 0].set(title="grid of 25 modes, sampled", ylabel=r"sliced $W_2$")
    axes[1, 1].set(title="8 modes in 64 dimensions, sampled", ylabel=r"sliced $W_2$")
    for ax in axes.flat:
        ax.set(yscale="log", xlabel="evaluations of the field")
        count_axis(ax, run.config.mixtures.nfe)
    count_axis(axes[1, 1], run.config.low_rank.nfe)
    draw_legend(fig, axes[1, 0])
    return fig


def moments(run: Record):
    """Errors of mean and covariance in units of their standard error, on the three laws."""
    fig, axes = style.figure(2, 3, aspect=0.85, sharex="col")
    exact = run.arrays("gaussian")
    for ax, kind in zip(axes[:, 0], (MEAN, COVARIANCE)):
        for name in CHOSEN:
            i = list(MEMBERS).index(name)
            found = exact["errors"][0, i, :, kind] / exact["units"][kind]
            # Means that are right to rounding are drawn at the lower end.
            draw_line(ax, name, exact["rows"][i], np.maximum(found, 1e-3))
        exact_line(ax, 1.0)
    for column, law in ((1, "grid"), (2, "low_rank")):
        for ax, statistic in zip(axes[:, column], ("mean", "covariance")):
            draw_statistic(run, ax, law, statistic, CHOSEN)
    count = run.config.gaussian.num_samples
    for ax, title in zip(axes[0], (f"normal law, exact (n = {count:,})", "grid", "64 dimensions")):
        ax.set_title(title)
    for ax, label in zip(axes[:, 0], ("mean", "covariance")):
        ax.set_ylabel(f"error of the {label}\n/ standard error")
    for ax in axes.flat:
        ax.set_yscale("log")
        count_axis(ax, run.config.mixtures.nfe)
    for ax in axes[:, 2]:
        count_axis(ax, run.config.low_rank.nfe)
    for ax in axes[1]:
        ax.set_xlabel("evaluations")
    draw_legend(fig, axes[0, 1])
    return fig


def modes(run: Record):
    """Shares of the modes and the spread inside them on the grid, and shares in 64 dimensions."""
    fig, axes = style.figure(1, 3, aspect=1.1)
    draw_statistic(run, axes[0, 0], "grid", "shares", CHOSEN)
    draw_statistic(run, axes[0, 1], "low_rank", "shares", CHOSEN)
    draw_statistic(run, axes[0, 2], "grid", "within", CHOSEN)
    axes[0, 0].set(title="grid", ylabel="wrong shares of modes", yscale="log")
    axes[0, 1].set(title="64 dimensions", ylabel="wrong shares of modes", yscale="log")
    # Two-stage solvers of three evaluations are far outside.
    axes[0, 2].set(title="grid", ylabel="excess sd inside modes", ylim=(-0.4, 2.1))
    for ax in axes.flat:
        ax.set_xlabel("evaluations")
        count_axis(ax, run.config.mixtures.nfe)
    count_axis(axes[0, 1], run.config.low_rank.nfe)
    draw_legend(fig, axes[0, 0])
    return fig


def path(run: Record):
    """The error of the law of x_t along the noise levels, on the normal law and on the grid."""
    fig, axes = style.figure(1, 2, aspect=0.8)
    exact, kept = run.arrays("gaussian_path"), run.arrays("grid_path")
    for name in CHOSEN:
        # Where steps begin, without predictors, and without the start, which is right to rounding.
        stages = slice(None, None, REGISTRY[MEMBERS[name].solver].evaluations)
        levels, errors = (exact[f"{name}.{key}"][stages][1:] for key in ("levels", "errors"))
        draw_line(axes[0, 0], name, levels, errors[:, W2], markersize=2.5)
        if name in kept:
            draw_seeds(axes[0, 1], name, kept["levels"], kept[name], markersize=2.5)
    draw_floor(axes[0, 1], kept["levels"], kept["floor"])
    axes[0, 0].set_title("normal law, exact")
    axes[0, 1].set_title("grid, sampled: marginals")
    axes[0, 0].set_ylabel(r"$W_2$ of $x_t$ / its standard deviation")
    for ax in axes.flat:
        ax.set(xscale="log", yscale="log", xlabel=LEVEL)
        ax.invert_xaxis()
    draw_legend(fig, *axes[0])
    return fig


def draw_statistic(run: Record, ax, law: str, statistic: str, names) -> None:
    """One statistic against evaluations with intervals over seeds, and its floor."""
    is_rank = law == "low_rank"
    members = tuple(run.config.low_rank.solvers) if is_rank else SAMPLED
    counts = (run.config.low_rank if is_rank else run.config.mixtures).nfe
    rows = np.stack([run.arrays(f"{law}_{nfe}")["rows"] for nfe in counts], axis=-1)
    found = statistics.sampled(run, law, statistic)
    for name in names:
        if name in members:
            i = members.index(name)
            draw_seeds(ax, name, rows[i], found[i])
    exact = statistics.floor(run, "low_rank" if is_rank else "grid", statistic)
    draw_floor(ax, counts, np.repeat(exact[:, None], len(counts), axis=1))


def draw_line(ax, name: str, x, y, **options: Any) -> None:
    """A solver's curve without intervals."""
    ax.plot(x, y, **(_look(name) | options))


def draw_seeds(ax, name: str, x, values, **options: Any) -> None:
    """A solver's means over seeds with intervals, values of shape (seeds, n)."""
    style.points(ax, x, values, **({"capsize": 1.5, "elinewidth": 0.8} | _look(name) | options))


def draw_floor(ax, x, values) -> None:
    """The value of an exact sample with its interval over seeds, values of shape (seeds, n)."""
    mean, low, high = mean_interval(values)
    grey = {"color": style.GREY, "zorder": 0}
    ax.fill_between(x, low, high, alpha=0.25, linewidth=0, **grey)
    ax.plot(x, mean, linestyle="--", linewidth=1.0, label="exact sample", **grey)


def _look(name: str) -> dict[str, Any]:
    label, color, marker = LOOKS[name]
    line, face = (":", "none") if name in DETERMINISTIC else ("-", color)
    return {"label": label, "color": color, "marker": marker, "markersize": 4, "linewidth": 1.1,
            "linestyle": line, "markerfacecolor": face}  # fmt: skip


def exact_line(ax, value: float) -> None:
    """The value of an exact sample where it is known in closed form."""
    look = {"color": style.GREY, "linestyle": "--", "linewidth": 1.0, "zorder": 0}
    ax.axhline(value, label="exact sample", **look)


def count_axis(ax, counts) -> None:
    """A logarithmic axis of whole numbers, marked at `counts`."""
    ax.set_xscale("log")
    ax.set_xticks(counts, [str(count) for count in counts])
    ax.minorticks_off()


def draw_legend(fig, *axes) -> None:
    """One legend of some panels below the figure; a label is shown once."""
    handles: dict[str, Any] = {}
    for ax in axes:
        handles |= {label: handle for handle, label in zip(*ax.get_legend_handles_labels())}
    fig.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=5)
