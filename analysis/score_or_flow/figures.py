"""Figures of the study `score_or_flow` on identities and errors, and which parts draw which."""

from __future__ import annotations

import numpy as np

from analysis import style
from analysis.score_or_flow import net_figures, statistics
from analysis.score_or_flow.panels import ASYMMETRY, LEVEL, RATE, rate_lines
from dfx.runs import Record, geometric_interval

ERRORS = {
    "gauge": ("harmless: gauge", style.BLUE, "o"),
    "gradient": ("harmful: gradient", style.VERMILLION, "s"),
    "twin": ("harmful, equal asymmetry", style.ORANGE, "^"),
}


def draw(run: Record, part: str) -> None:
    """Draw the figures of one part."""
    for figure in _FIGURES[part]:
        style.save(figure(run), run.figures, figure.__name__)


def gradient_flow(run: Record):
    """F5: KL(p_t | N(0, I)) and its slope, measured and predicted."""
    arrays = run.arrays("gradient_flow")
    fig, axes = style.figure(1, 2, width=0.85 * style.PAGE)
    for law, label, color, mark in (
        ("line", "two modes, 1-D", style.BLUE, "o"),
        ("plane", "ring, 2-D", style.ORANGE, "s"),
    ):
        t = arrays["t"]
        axes[0, 0].plot(t, arrays[f"{law}.kl"], color=color, marker=mark, markersize=3, label=label)
        axes[0, 1].plot(t, -arrays[f"{law}.measured"], color=color, marker=mark, markersize=4,
                        linestyle="none", label=f"measured, {label}")  # fmt: skip
        axes[0, 1].plot(t, -arrays[f"{law}.predicted"], color=style.GREY, linestyle="--",
                        linewidth=1, zorder=0)  # fmt: skip
    axes[0, 1].plot([], [], color=style.GREY, linestyle="--", label=r"$(\beta/2)\, I(p_t|\pi)$")
    for ax, label in zip(axes.flat, (r"KL$(p_t|\pi)$ in nats", r"$-d$KL$/dt$, nats per time")):
        ax.set(xscale="log", yscale="log", xlabel="time $t$", ylabel=label)
        ax.legend(loc="lower left")
    style.panel_labels(axes.flat)
    return fig


def rates(run: Record):
    """The rate of KL(p | q) for planted errors: measured, and predicted from each part."""
    panels = {
        "gauge": "gauge error", "gradient": "gradient error", "both": "both", "line": "1-D",
    }  # fmt: skip
    fig, axes = style.figure(1, 4, aspect=1.1, sharex=True)
    for ax, (name, title) in zip(axes.flat, panels.items()):
        rate_lines(ax, run.config.rates.levels, run.arrays(f"rates_{name}"))
        ax.set(title=title, xlabel=LEVEL, xscale="log")
        low, high = ax.get_ylim()
        ax.set_ylim(min(low, -0.01), max(high, 0.002))
    axes[0, 0].set_ylabel(RATE)
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return fig


def weights(run: Record):
    """How much each plain loss counts an error of eps, against log-SNR, uniform t."""
    arrays, names = run.arrays("weights"), run.arrays("losses")["names"]
    fig, axes = style.figure(1, 1, width=style.COLUMN)
    for name, factor, color, dash in zip(names, arrays["factor"], style.COLORS, ("-", "--", "-.")):
        axes[0, 0].plot(arrays["log_snr"], factor / factor.mean(), color=color, linestyle=dash,
                        label=str(name))  # fmt: skip
    axes[0, 0].set(
        yscale="log",
        xlabel="log-SNR (data to the right)",
        ylabel=r"weight of $|\epsilon$ error$|^2$",
    )
    axes[0, 0].legend(title="plain loss on", loc="upper left", bbox_to_anchor=(0.05, 1.0))
    return fig


def equal_norm(run: Record):
    """F3: W_2 against asymmetry at equal norms, and against the number of Euler steps."""
    arrays, steps = run.arrays("errors"), run.arrays("errors_steps")
    fig, axes = style.figure(1, 2, width=0.95 * style.PAGE, aspect=0.85)
    ax = axes[0, 0]
    for kind, (label, color, mark) in ERRORS.items():
        sizes = sorted(arrays["sizes"][arrays["kinds"] == kind])
        x = [statistics.planted(run, "asymmetry", kind, c).mean() for c in sizes]
        y = np.stack([statistics.w2(run, kind, c) for c in sizes], axis=1)
        line = "-" if len(sizes) > 1 else "none"
        style.points(ax, x, y, label=label, geometric=True, color=color, marker=mark,
                     linestyle=line, linewidth=1)  # fmt: skip
    mean, low, high = geometric_interval(arrays["floor"])
    ax.axhspan(low, high, color=style.GREY, alpha=0.25, linewidth=0)
    style.paper_value(ax, mean, "two exact sets")
    ax.set(yscale="log", xlabel=f"{ASYMMETRY} of $s + e$", ylabel="$W_2$ to the truth")
    ax.set_ylim(None, 3 * ax.get_ylim()[1])
    ax.legend(loc="upper right")
    for row, size in enumerate(steps["sizes"]):
        color, mark = style.COLORS[row % 7], "osx^dvP*"[row % 8]
        style.points(axes[0, 1], steps["nfe"], steps["w2"][row].T, label=f"c = {size:g}",
                     geometric=True, color=color, marker=mark, linestyle="-",
                     linewidth=1)  # fmt: skip
    style.paper_value(axes[0, 1], mean, "")
    axes[0, 1].set(xscale="log", yscale="log", xlabel="Euler steps", ylabel="$W_2$ to the truth",
                   title="gauge error $c\\,A s$")  # fmt: skip
    axes[0, 1].set_xticks(steps["nfe"], [str(n) for n in steps["nfe"]])
    axes[0, 1].minorticks_off()
    axes[0, 1].legend(loc="upper right")
    return fig


def equal_asymmetry(run: Record):
    """Bars: the pair of equal norm and equal asymmetry, and the gradient of equal norm."""
    size = run.config.errors.twin
    fig, axes = style.figure(1, 3, width=0.9 * style.PAGE, aspect=0.95)
    score = run.arrays("errors_norms")["score"]
    for place, (kind, (_, color, _)) in enumerate(ERRORS.items()):
        norm = np.sqrt(statistics.planted(run, "error", kind, size) / score).mean()
        turned = statistics.planted(run, "asymmetry", kind, size).mean()
        mean, low, high = geometric_interval(statistics.w2(run, kind, size))
        for ax, value in zip(axes.flat, (norm, turned, mean)):
            ax.bar(place, value, color=color, width=0.7)
        axes[0, 2].errorbar(place, mean, [[mean - low], [high - mean]], color=style.BLACK,
                            capsize=3)  # fmt: skip
    axes[0, 2].set_xlim(-0.6, 3.6)  # leaves a place for the words beside the bars
    style.paper_value(axes[0, 2], run.arrays("errors")["floor"].mean(), "exact")
    for ax, label in zip(
        axes.flat, (r"$\|e\| / \|s\|$ in $L^2(p_t)$", ASYMMETRY, "$W_2$ to truth")
    ):
        ax.set_ylabel(label)
        ax.set_xticks(range(3), ["gauge", "gradient", "twin"], rotation=20)
    style.panel_labels(axes.flat)
    return fig


_FIGURES = {
    "identities": (gradient_flow, rates, weights),
    "errors": (equal_norm, equal_asymmetry),
    "toy": (
        net_figures.loops, net_figures.asymmetry, net_figures.training, net_figures.split,
        net_figures.net_rates, net_figures.joint,
    ),
    "pictures": (net_figures.pictures,),
}  # fmt: skip
