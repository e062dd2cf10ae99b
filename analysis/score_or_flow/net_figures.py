"""Figures of the study `score_or_flow` on trained nets and pictures."""

from __future__ import annotations

import numpy as np
from matplotlib.patches import Circle

from analysis import style
from analysis.score_or_flow import statistics
from analysis.score_or_flow.panels import ASYMMETRY, LEVEL, LOOK, RATE, SHORT, rate_lines
from dfx.runs import Record, geometric_interval, mean_interval


def loops(run: Record):
    """F1: a trained field with its circles, and their circulation against the radius."""
    field, radii = run.arrays("quiver"), np.asarray(run.config.toy.radii)
    fig, axes = style.figure(1, 2, width=0.95 * style.PAGE, aspect=0.9)
    ax, x = axes[0, 0], field["x"]
    near = field["log_p"] > field["log_p"].max() - 8
    ax.tricontourf(*x.T, np.exp(field["log_p"]), levels=8, cmap="Greys", alpha=0.6)
    ax.quiver(*x[near].T, *field["score"][near].T, color=style.VERMILLION, width=0.004)
    centre = x[np.argmax(field["log_p"])]
    for radius in radii:
        ax.add_patch(Circle(centre, radius * field["sigma"], fill=False, color=style.BLUE))
    ax.set(aspect="equal", xlabel="$x_1$", ylabel="$x_2$",
           title=rf"free net, $\sigma/\alpha$ = {float(field['ratio']):.2g}")  # fmt: skip
    ax = axes[0, 1]
    for kind in (*run.config.toy.kinds, "exact"):
        color, mark, dash = LOOK[kind]
        # |C| / (2 pi r |s|), times r: the slope of C itself.
        values = statistics.over_levels(np.moveaxis(statistics.circulation(run, kind), 1, -1))
        style.band(ax, radii, values * radii, label=kind, geometric=True, color=color, marker=mark,
                   linestyle=dash, markersize=4)  # fmt: skip
    guide = statistics.over_levels(np.moveaxis(statistics.circulation(run, "free"), 1, -1)).mean(0)
    ax.plot(radii, guide[0] * radii[0] * (radii / radii[0]) ** 2 * 3, color=style.GREY,
            linestyle="--", linewidth=1, label="slope 2")  # fmt: skip
    ax.set(xscale="log", yscale="log", xlabel=r"radius $r/\sigma$",
           ylabel=r"$|C| / 2\pi\sigma \langle|s|\rangle$, rms")  # fmt: skip
    ax.legend(loc="center left")
    return fig


def asymmetry(run: Record):
    """F2: asymmetry against the noise level, on p_t and on the nets' own trajectories."""
    fig, axes = style.figure(1, 2, width=0.95 * style.PAGE, aspect=0.85, sharey=True)
    for ax, ending, title in zip(axes.flat, ("", "_own"), ("draws of $p_t$", "own trajectories")):
        kinds = (*run.config.toy.kinds, "exact") if not ending else run.config.toy.kinds
        for kind in kinds:
            color, mark, dash = LOOK[kind]
            values = np.maximum(statistics.asymmetry(run, kind, ending), 1e-20)
            level = run.arrays(f"{kind}_fields")["level"]
            style.band(ax, level, values, label=kind, geometric=True, color=color, marker=mark,
                       linestyle=dash, markersize=3)  # fmt: skip
        ax.set(xscale="log", yscale="log", xlabel=LEVEL, title=title)
    axes[0, 0].set_ylabel(f"{ASYMMETRY}, float32")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return fig


def training(run: Record):
    """F4: asymmetry and W_2 of the free nets against training steps."""
    arrays = run.arrays("free_training")
    steps = np.maximum(arrays["steps"], arrays["steps"][1] / 3)  # 0 has no place on a log axis
    fig, axes = style.figure(1, 2, width=0.95 * style.PAGE, aspect=0.8)
    levels = run.arrays("free_fields")["level"]
    chosen = [len(levels) // 4, len(levels) // 2, 3 * len(levels) // 4]
    for i, color, mark in zip(chosen, (style.PURPLE, style.GREEN, style.ORANGE), "os^"):
        style.band(axes[0, 0], steps, arrays["asymmetry"][..., i], geometric=True, color=color,
                   marker=mark, markersize=4,
                   label=rf"$\sigma/\alpha$ = {levels[i]:.2g}")  # fmt: skip
    style.band(axes[0, 0], steps, statistics.over_levels(arrays["asymmetry"]), geometric=True,
               color=style.BLACK, linestyle="--", label="all levels")  # fmt: skip
    style.band(axes[0, 1], steps, arrays["w2"], geometric=True, color=style.VERMILLION, marker="o",
               markersize=4)  # fmt: skip
    floor = run.arrays("joint")["floor"].mean()
    style.paper_value(axes[0, 1], floor, "")
    axes[0, 1].text(steps[0], floor, "two exact sets", color=style.GREY, fontsize=8, va="bottom")
    for ax, label in zip(axes.flat, (ASYMMETRY, "$W_2$(ODE, truth)")):
        ax.set(xscale="log", yscale="log", xlabel="training steps", ylabel=label)
        ax.set_xticks(steps, [f"{s:,}" for s in arrays["steps"]], rotation=45)
        ax.minorticks_off()
    axes[0, 0].legend(fontsize=7)
    style.panel_labels(axes.flat)
    return fig


def split(run: Record):
    """Claim 5: the parts of the free nets' error by level, and what each field samples."""
    arrays, compared = run.arrays("projection"), run.arrays("projection_samples")
    fig, axes = style.figure(1, 3, aspect=1.05)
    for name, label, color, mark in (
        ("total", r"$e = s_\theta - s$", style.BLACK, "o"),
        ("gradient", r"$\nabla\eta$", style.VERMILLION, "s"),
        ("remainder", "$r$", style.BLUE, "^"),
    ):
        style.band(axes[0, 0], arrays["level"], arrays[name], geometric=True, label=label,
                   color=color, marker=mark, markersize=3)  # fmt: skip
    axes[0, 0].set(xscale="log", yscale="log", xlabel=LEVEL, ylabel=r"$\sigma^2 E|\cdot|^2$")
    axes[0, 0].legend(fontsize=7)
    # KL of the exact score is 0 up to rounding, which has no logarithm.
    for ax, name, interval, label in (
        (axes[0, 1], "w2", geometric_interval, "$W_2$ to truth"),
        (axes[0, 2], "kl", mean_interval, "KL$(p|q)$, nats"),
    ):
        mean, low, high = interval(compared[name].T)
        ax.bar(range(3), mean, color=(style.BLACK, style.VERMILLION, style.GREY),
               alpha=0.7)  # fmt: skip
        ax.errorbar(range(3), mean, np.stack([mean - low, high - mean]), fmt="none",
                    color=style.BLACK, capsize=3)  # fmt: skip
        ax.set_xticks(range(3), [r"$s_\theta$", r"$\nabla\phi$", "$s$"])
        ax.set(ylabel=label, ylim=(0, None))
    style.panel_labels(axes.flat)
    return fig


def net_rates(run: Record):
    """The rate of KL(p | q) for the free nets, each seed a panel."""
    arrays = run.arrays("net_rates")
    count = min(3, len(arrays["kl"]))
    fig, axes = style.figure(1, count, aspect=0.9, sharey=True)
    for seed, ax in enumerate(axes.flat):
        rate_lines(ax, run.config.rates.levels, {k: v[seed] for k, v in arrays.items()})
        share = statistics.gauge_share(arrays)[seed].mean()
        ax.set(title=f"seed {seed}: $r$ is {share:.0%} of $|e|^2$", xlabel=LEVEL, xscale="log")
    axes[0, 0].set_ylabel(RATE)
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return fig


def joint(run: Record):
    """The joint table, as marks: one panel a column, kinds side by side."""
    table = statistics.joint_table(run)
    fig, axes = style.figure(3, 3, aspect=0.62)
    for ax, (name, label) in zip(axes.flat, statistics.COLUMNS.items()):
        kinds = list(table)
        for place, kind in enumerate(kinds):
            color, mark, _ = LOOK[kind]
            values = table[kind].get(name, np.empty(0))
            if name in statistics.SHARES:  # every seed
                ax.plot(np.full(len(values), place), values, mark, color=color, markersize=4,
                        clip_on=False)  # fmt: skip
            elif len(values):
                style.points(ax, [place], values[:, None], geometric=True, color=color, marker=mark)
        ax.set_xticks(range(len(kinds)), [SHORT[kind] for kind in kinds])
        ax.set(ylabel=label, xlim=(-0.5, len(kinds) - 0.5))
        ax.set_ylim(0, None)
    for ax in axes[-1]:
        ax.set_xlabel("kind of net")
    return fig


def pictures(run: Record):
    """Asymmetry and circulation of nets on pictures against the noise level, and samples."""
    found, drawn = run.arrays("pictures"), run.arrays("pictures_samples")
    fig, axes = style.figure(1, 3, aspect=1.05)
    ax, level = axes[0, 0], found["level"]
    for name, label, color, mark in (
        ("asymmetry", "probes", style.VERMILLION, "o"),
        ("block", "4 x 4 block", style.ORANGE, "s"),
        ("planes", "random loops", style.PURPLE, "^"),
    ):
        style.band(ax, level, found[name], label=label, geometric=True, color=color, marker=mark,
                   markersize=4)  # fmt: skip
        axes_label = "exact score" if name == "asymmetry" else None
        ax.plot(level, np.maximum(found[f"floor_{name}"], 1e-18), color=color, linestyle=":",
                linewidth=1, label=axes_label)  # fmt: skip
    ax.set(xscale="log", yscale="log", xlabel=LEVEL, ylabel=ASYMMETRY)
    fig.legend(*ax.get_legend_handles_labels(), loc="outside lower left", ncols=4, fontsize=7)
    style.band(axes[0, 1], level, found["circulation"], geometric=True, color=style.VERMILLION,
               marker="o", markersize=4, label="nets")  # fmt: skip
    axes[0, 1].plot(level, found["floor_circulation"], color=style.GREY, linestyle="--",
                    label="exact score, float32")  # fmt: skip
    axes[0, 1].set(xscale="log", yscale="log", xlabel=LEVEL,
                   ylabel=r"$|C| / \oint |s||dl|$, rms")  # fmt: skip
    axes[0, 1].legend(loc="center left", fontsize=7)
    both = np.concatenate([drawn["x"][:8], drawn["real"][:8]])
    style.pictures(axes[0, 2], both, 4, -1.0, 1.0)
    axes[0, 2].set_title("samples above, real below", fontsize=8)
    style.panel_labels(axes.flat[:2])
    return fig
