"""Figures of the study `gaussian_painters`: what laws explain of learned scores, teleportation,
ranks, and clouds of points seen from afar."""

from __future__ import annotations

import itertools

import numpy as np
from matplotlib.ticker import NullLocator

from analysis import style
from analysis.gaussian_painters import statistics
from analysis.gaussian_painters.statistics import TEST, TRAIN
from dfx.runs import Record

#: Law -> colour, marker, line.
LOOKS = {
    "isotropic": (style.PURPLE, "v", ":"),
    "gaussian": (style.BLUE, "o", "-"),
    "gmm": (style.GREEN, "s", "--"),
    "delta": (style.VERMILLION, "^", "-."),
}
SOLVERS = {
    "dpm_solver_pp_2m": ("DPM++ 2M", style.ORANGE, "o"),
    "dpm_solver_pp_3m": ("DPM++ 3M", style.PURPLE, "s"),
    "unipc_2": ("UniPC-2", style.SKY, "^"),
}
TITLES = {"gaussian": "Gaussian", "delta": "Delta mixture"}
GREY = {"color": style.GREY, "linewidth": 1.0, "zorder": 0}


def draw_exact(run: Record) -> None:
    """Draw the figure of the clouds."""
    style.save(far_field(run), run.figures, "far_field")


def draw_nets(run: Record) -> None:
    """Draw the figures of what explains the nets' scores."""
    for name, draw in {
        "explained": explained,
        "training": training,
        "teleport": teleport,
        "ranks": ranks,
    }.items():
        style.save(draw(run), run.figures, name)


def _look(model: str, **more) -> dict:
    color, marker, line = LOOKS[model.split("_")[0]]
    return {"color": color, "marker": marker, "linestyle": line, "markersize": 3.5} | more


def _mean_band(ax, x, values, **look) -> None:
    """The mean over points of `values` (seeds, n, points), its interval over seeds."""
    style.band(ax, x, values.mean(-1), geometric=True, **look)


def explained(run: Record):
    """1 - EV by noise level: of scores at training and at held-out pictures, and of denoisers."""
    arrays = run.arrays("explained")
    names = [str(name) for name in arrays["names"]]
    panels = (
        ("scores, training pictures", TRAIN, "score"),
        ("scores, held-out pictures", TEST, "score"),
        ("denoisers, training pictures", TRAIN, "denoiser"),
    )
    fig, axes = style.figure(1, 3, aspect=1.1, sharex=True, sharey=True)
    mixtures = [name for name in names if name.startswith("gmm")]
    for ax, (title, split, kind) in zip(axes.flat, panels):
        for name in names:
            faint = 0.35 + 0.65 * (mixtures.index(name) + 1) / len(mixtures) if (
                name in mixtures) else 1.0  # fmt: skip
            look = _look(name, label=name.replace("gmm_", "mixture of "), alpha=faint)
            values = statistics.unexplained(run, name, split, kind)
            _mean_band(ax, arrays["levels"], values, **look)
        if kind == "score" and split == TRAIN:
            _tables(ax, run.config.pictures.name)
        # Fine mixtures at held-out pictures are off by thousands: nothing is to be seen there.
        ax.set(xscale="log", yscale="log", ylim=(None, 5), xlabel=r"noise level $\sigma$")
        ax.set_title(title, fontsize=8, loc="right")
    axes[0, 0].set_ylabel("unexplained share, 1 - EV")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=4)
    style.panel_labels(axes.flat)
    return fig


def _tables(ax, pictures: str) -> None:
    """The authors' values in grey: of the same pictures if they have them, else of both sets."""
    sets = {"cifar10": "CIFAR-10", "mnist": "MNIST"}
    for name, title in sets.items():
        if pictures in sets and name != pictures:
            continue
        for model, (sigma, value) in statistics.TABLES[name].items():
            if model not in ("gaussian", "delta"):
                continue
            line, marker = LOOKS[model][2], LOOKS[model][1]
            ax.plot(sigma, 1 - np.asarray(value), linestyle=line, marker=marker, markersize=2.5,
                    markerfacecolor="white" if name == "mnist" else style.GREY,
                    label=f"{model}, paper's {title}", **GREY)  # fmt: skip


def training(run: Record):
    """EV of three laws against the pictures seen in training, by noise level."""
    arrays = run.arrays("explained_training")
    levels, steps = arrays["levels"], np.asarray(arrays["steps"], float)
    seen = steps * run.config.train.batch_size / 1000
    start = seen[seen > 0].min() / 3  # the place of step 0 on a logarithmic axis
    seen = np.maximum(seen, start)
    names = [str(name) for name in arrays["names"]]
    fig, axes = style.figure(1, len(names), aspect=1.0, sharey=True)
    colors = style.plt.cm.cividis(np.linspace(0.0, 0.85, len(levels)))
    for ax, name in zip(axes.flat, names):
        for sigma, color, marker in zip(levels, colors, itertools.cycle("osv^Dx+*")):
            style.band(ax, seen, statistics.along_training(run, name, sigma), color=color,
                       marker=marker, markersize=3.5, label=rf"$\sigma$ = {sigma:g}")  # fmt: skip
        ax.set(xscale="log", ylim=(0.0, 1.02), xlabel="pictures seen, thousands",
               title=TITLES.get(name, name.replace("gmm_", "Mixture of ")))  # fmt: skip
        _tick_start(ax, start)
    seen_there, value = statistics.TRAINING_TABLE
    axes[0, 0].plot(np.maximum(seen_there, start), value, "--",
                    label=r"paper's CIFAR-10, $\sigma$ = 0.5", **GREY)  # fmt: skip
    axes[0, 0].set_ylabel("EV of scores")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    style.panel_labels(axes.flat)
    return fig


def _tick_start(ax, start: float) -> None:
    """Mark the place of step 0 as 0; the logarithmic axis begins with the step after it."""
    low, high = 3 * start, ax.get_xlim()[1]
    powers = np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)))
    decades = [power for power in powers if low <= 10**power <= high]
    between = np.outer(10**powers, np.arange(2, 10)).ravel()
    names = [f"$10^{{{power:.0f}}}$" for power in decades]
    ax.set_xticks([start, *(10**power for power in decades)], ["0", *names])
    ax.set_xticks(between[(between >= low) & (between <= high)], minor=True)


def teleport(run: Record):
    """Distances to held-out pictures and to the samples without a skip, against what is saved."""
    fig, axes = style.figure(2, 2, aspect=0.72)
    for column, grid in enumerate(("edm", "scaled")):
        _quality(run, axes[0, column], grid)
    _distance(run, axes[1, 0])
    _memory(run, axes[1, 1])
    style.panel_labels(axes.flat)
    return fig


def _quality(run: Record, ax, grid: str) -> None:
    sigma = run.arrays("teleport")[f"sigma.{grid}"]
    for kind, label, color, marker, line in (
        ("cold", "steps skipped", style.BLUE, "o", "-"),
        ("plain", "fewer steps", style.ORANGE, "s", "--"),
    ):
        name = f"heun.{grid}.{kind}"
        evaluations = statistics.arm(run, name, "evaluations")[0]
        style.band(ax, evaluations[0] - evaluations, statistics.arm(run, name, "transport"),
                   geometric=True, label=label, color=color, marker=marker, linestyle=line,
                   markersize=3.5)  # fmt: skip
    for kind, label, line in (("floors", "training pictures", ":"),
                              ("linear", "Gaussian alone", "-.")):  # fmt: skip
        value = float(statistics.reference(run, kind, "transport").mean())
        ax.axhline(value, linestyle=line, label=label, **GREY)
    ax.axvspan(0.15 * evaluations[0], 0.3 * evaluations[0], color=style.GREY, alpha=0.15,
               linewidth=0, label="saved in the paper")  # fmt: skip
    ax.set(xlabel="net evaluations saved", ylabel="$W_2$ to held-out pictures",
           title=rf"Heun from $\sigma$ = {sigma[0]:.3g}")  # fmt: skip
    if grid == "edm":
        ax.legend(fontsize=7)


def _distance(run: Record, ax) -> None:
    skips = np.asarray(run.config.teleport.skips)[1:]
    for grid, color, marker in (("edm", style.BLUE, "o"), ("scaled", style.GREEN, "s")):
        sigma = run.arrays("teleport")[f"sigma.{grid}"]
        same = statistics.arm(run, f"heun.{grid}.cold", "same")[:, 1:]
        style.band(ax, sigma[skips], same, geometric=True, color=color, marker=marker,
                   markersize=3.5, label=rf"from $\sigma$ = {sigma[0]:.3g}")  # fmt: skip
        error = statistics.arm(run, f"heun.{grid}.cold", "fine")[:, 0].mean()
        ax.axhline(error, color=color, linestyle=":", linewidth=1)
    top = float(np.sqrt(run.arrays("spectrum")["variance"][0]))
    style.paper_value(ax, top, r"$\sqrt{\lambda_1}$", axis="x", start=True)
    ax.set(xscale="log", yscale="log", xlabel=r"noise level skipped to, $\sigma$",
           ylabel="distance to no skip / spread")  # fmt: skip
    ax.plot([], [], ":", color=style.GREY, linewidth=1, label="Heun's own error")
    ax.legend(fontsize=7)


def _memory(run: Record, ax) -> None:
    skips = np.asarray(run.config.teleport.skips)[1:]
    for name in run.config.teleport.solvers:
        label, color, marker = SOLVERS[name]
        for kind, line, face in (("cold", "--", "white"), ("warm", "-", color)):
            values = statistics.arm(run, f"{name}.edm.{kind}", "same")[:, 1:]
            style.band(ax, skips, values, geometric=True, color=color, linestyle=line,
                       marker=marker, markersize=3.5, markerfacecolor=face,
                       label=f"{label}, {kind}")  # fmt: skip
    ax.set(yscale="log", xlabel=f"steps skipped of {run.config.teleport.num_steps}",
           ylabel="distance to no skip / spread", title=r"from $\sigma$ = 80")  # fmt: skip
    ax.legend(fontsize=6.5, loc="lower right")


def ranks(run: Record):
    """The denoising loss of a Gaussian against its rank, and the spectrum."""
    arrays, variance = run.arrays("ranks"), run.arrays("spectrum")["variance"]
    fig, axes = style.figure(1, 2, width=0.9 * style.PAGE, aspect=0.75)
    for name, label, color, marker in (
        ("floor", "rest: floor", style.BLUE, "o"),
        ("mean", "rest: its mean variance", style.GREEN, "s"),
    ):
        axes[0, 0].plot(arrays["ranks"] / len(variance), arrays[name] / arrays["floor"][-1],
                        color=color, marker=marker, markersize=3.5, label=label)  # fmt: skip
    paper = np.asarray([(8, 1570), (64, 585), (256, 256), (512, 184), (1024, 157.2),
                        (2048, 153.7), (3072, 154.0)])  # fmt: skip
    axes[0, 0].plot(paper[:, 0] / 3072, paper[:, 1] / 154.0, "--", marker="x", markersize=4,
                    label="paper's CIFAR-10", **GREY)  # fmt: skip
    axes[0, 0].set(xscale="log", yscale="log", xlabel="rank / dimension",
                   ylabel="loss / loss of full rank")  # fmt: skip
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    shown = np.flatnonzero(variance > 1e-6)
    axes[0, 1].plot(shown + 1, variance[shown], ".-", color=style.BLUE)
    axes[0, 1].set(xscale="log", yscale="log", xlabel="principal component $k$",
                   ylabel=r"variance $\lambda_k$")  # fmt: skip
    style.panel_labels(axes.flat)
    return fig


def far_field(run: Record):
    """1 - EV of clouds of points from afar, with the predicted slopes."""
    arrays = run.arrays("far_field")
    fig, axes = style.figure(1, 1, width=style.COLUMN, aspect=0.85)
    ax, levels = axes[0, 0], arrays["levels"]
    rows = zip(
        ("skewed, Gaussian", "symmetric, Gaussian", "skewed, mean alone"), (6, 8, 4),
        (style.BLUE, style.GREEN, style.PURPLE), "osv", arrays["unexplained"],
    )  # fmt: skip
    for label, power, color, marker, values in rows:
        ax.plot(levels, values[-1] * (levels[-1] / levels) ** power, "--", **GREY)
        ax.plot(levels, values, color=color, marker=marker, linestyle="none", markersize=5,
                label=rf"{label}, $\sigma^{{-{power}}}$")  # fmt: skip
    ax.set(xscale="log", yscale="log", xlabel=r"noise level $\sigma$", ylabel="1 - EV of the score")
    ax.set_xticks(levels, [f"{level:g}" for level in levels])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.legend(fontsize=7)
    return fig
