"""Figures of the study `gauge_freedom`: closed forms and trained nets in the plane."""

from __future__ import annotations

import numpy as np
from matplotlib.lines import Line2D

from analysis import style
from analysis.gauge_freedom import statistics
from analysis.gauge_freedom.statistics import GAUGE, GRADIENT
from dfx.runs import Record, mean_interval
from experiments.gauge_freedom.exact import METHODS
from experiments.gauge_freedom.nets import FIELDS, STOPS

COLOR = {GAUGE: style.BLUE, GRADIENT: style.VERMILLION}
NAME = {GAUGE: "gauge, r = c A s", GRADIENT: "gradient, r = c w grad u"}
METHOD_LOOK = dict(
    zip(
        METHODS,
        (("o", style.VERMILLION, "Euler"), ("s", style.GREEN, "Heun"), ("^", style.BLUE, "RK4")),
    )
)
FIELD_NAME = dict(zip(FIELDS, ("exact $s$", r"net $s_\theta$", r"$\nabla\phi$")))


def draw_exact(run: Record) -> None:
    """Draw the figures of claims 1 to 5."""
    for name, draw in {
        "schematic": schematic,
        "samples": samples,
        "equal_norm": equal_norm,
        "marginals": marginals,
        "density": density,
        "steps": steps,
    }.items():
        style.save(draw(run), run.figures, name)


def draw_nets(run: Record) -> None:
    """Draw the figure of claim 6."""
    style.save(nets(run), run.figures, "nets")


def schematic(run: Record):
    """F1: a field is its gradient part plus a gauge part, which flows along without changing p."""
    arrays = run.arrays("schematic")
    fields = {
        r"$s_\theta = \nabla\phi + r$": arrays["score"] + arrays["gauge"],
        r"gradient part $\nabla\phi$": arrays["score"],
        r"gauge part, $\mathrm{div}(p\,r) = 0$": arrays["gauge"],
    }
    fig, axes = style.figure(1, 3, aspect=1.05, sharey=True)
    side = round(len(arrays["density"]) ** 0.5)
    plane = arrays["density_x"].reshape(side, side, 2)
    for ax, (title, field) in zip(axes.flat, fields.items()):
        ax.contourf(plane[..., 0], plane[..., 1], arrays["density"].reshape(side, side), 8,
                    cmap="Greys", vmin=0, vmax=2 * arrays["density"].max())  # fmt: skip
        length = np.linalg.norm(field, axis=1, keepdims=True)
        shown = field / length * np.minimum(length, 6) ** 0.5  # lengths drawn as their roots
        ax.quiver(*arrays["x"].T, *shown.T, color=style.BLUE, width=0.006, scale=28)
        ax.set_title(title)
        ax.set_aspect("equal")
        ax.set_xlabel("$x_1$")
    axes[0, 0].set_ylabel("$x_2$")
    return fig


def samples(run: Record):
    """Samples of the ODE: no error, a gauge and a gradient error of equal norm, exact draws."""
    arrays = run.arrays("ode")
    at = statistics.middle(run.config.exact.sizes)
    size = run.config.exact.sizes[at]
    panels = {
        "exact draws": arrays["x_truth"],
        "no error": arrays["x_none"],
        f"gauge, c = {size:g}": arrays["x"][GAUGE, at],
        f"gradient, c = {size:g}": arrays["x"][GRADIENT, at],
    }
    fig, axes = style.figure(1, 4, aspect=1.1, sharex=True, sharey=True)
    colors = (style.GREY, style.GREEN, COLOR[GAUGE], COLOR[GRADIENT])
    for ax, (title, x), color in zip(axes.flat, panels.items(), colors):
        ax.plot(*x.T, ".", color=color, markersize=2)
        ax.set_title(title)
        ax.set_xlabel("$x_1$")
        ax.set(xlim=(-2.2, 2.6), ylim=(-2.4, 2.4), aspect="equal")
    axes[0, 0].set_ylabel("$x_2$")
    return fig


def equal_norm(run: Record):
    """L2 score error, equal by construction, beside the sample error it makes."""
    sizes, floor = run.config.exact.sizes, run.arrays("floor")["w2"][-1]
    score = run.arrays("sizes")
    share = [(score[k] / score["score"]).mean() for k in ("gauge", "gradient")]
    fig, axes = style.figure(1, 3, aspect=1.0)
    place, half = np.arange(len(sizes)), 0.2
    for kind in (GAUGE, GRADIENT):
        look = {"width": 2 * half, "color": COLOR[kind], "capsize": 2, "error_kw": {"lw": 1}}
        x = place + (2 * kind - 1) * half
        heights = np.asarray(sizes) * share[kind] ** 0.5
        axes[0, 0].bar(x, heights, width=2 * half, color=COLOR[kind], label=NAME[kind])
        for ax, way in zip(axes[0, 1:], ("ode", "sde")):
            mean, low, high = mean_interval(run.arrays(way)["w2"][kind, :, -1].T)
            ax.bar(x, mean, yerr=[mean - low, high - mean], **look)
    axes[0, 0].set_yscale("log")
    axes[0, 0].set_ylabel(r"$L^2$ score error / $L^2$ score")
    for ax, title in zip(axes[0, 1:], ("probability flow, RK4", "reverse SDE, SA-Solver")):
        ax.axhline(floor.mean(), color="k", linestyle="--", linewidth=1)
        ax.set_title(title, loc="right", fontsize=8)
        ax.set_ylabel("$W_2$ to the data law")
    for ax in axes.flat:
        ax.set_xticks(place, [f"{size:g}" for size in sizes])
        ax.set_xlabel("size of the error, c")
    bars = axes[0, 0].get_legend_handles_labels()[0]
    line = Line2D([], [], color="k", linestyle="--", linewidth=1, label="two exact draws")
    fig.legend(handles=[*bars, line], loc="outside lower center", ncols=3)
    style.panel_labels(axes.flat)
    return fig


def marginals(run: Record):
    """W_2 of marginals at several times, not at the data alone, by ODE and SDE."""
    stops, sizes = np.asarray(run.config.exact.stops), run.config.exact.sizes
    at = statistics.middle(sizes)
    fig, axes = style.figure(1, 2, aspect=0.8, sharey=True)
    for ax, way in zip(axes.flat, ("ode", "sde")):
        arrays = run.arrays(way)
        rows = [
            ("two exact draws", run.arrays("floor")["w2"], style.GREY, "--", "x"),
            ("no error", arrays["none"], style.GREEN, "-", "D"),
            (f"gauge, c = {sizes[at]:g}", arrays["w2"][GAUGE, at], style.BLUE, "-", "o"),
            (f"gauge, c = {sizes[-1]:g}", arrays["w2"][GAUGE, -1], style.SKY, "-", "s"),
            (
                f"gradient, c = {sizes[at]:g}",
                arrays["w2"][GRADIENT, at],
                style.VERMILLION,
                "-",
                "^",
            ),
        ]
        for i, (label, values, color, line, marker) in enumerate(rows):
            shift = 1.04 ** (i - 2)  # side by side: several of them are one law
            style.points(ax, stops * shift, values.T, label=label, color=color, linestyle=line,
                         marker=marker)  # fmt: skip
        ax.set(xscale="log", xlabel="time t of the marginal", title=way.upper(), ylim=(0, None))
    axes[0, 0].set_ylabel("$W_2$ to exact draws of $p_t$")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right upper")
    return fig


def density(run: Record):
    """Errors of the log-density against the number of RK4 steps."""
    arrays = run.arrays("density")
    fig, axes = style.figure(1, 1, width=style.COLUMN, aspect=0.85)
    ax, markers = axes[0, 0], "oDs^vPX*"
    steps, error = arrays["steps"], arrays["error"].mean(axis=-1)
    for i, (size, row) in enumerate(zip(arrays["sizes"], error)):
        ax.plot(steps, row, marker=markers[i % 8], markersize=4, label=f"c = {size:g}",
                color=style.COLORS[i % 8])  # fmt: skip
    guide = error[-1, -1] * (steps[-1] / steps) ** 4
    ax.plot(steps, 2 * guide, color=style.GREY, linestyle="--", linewidth=1, label="order 4")
    ax.set(xscale="log", yscale="log", xlabel="steps of RK4")
    ax.set_ylabel("mean |log q - log p| (nats)")
    ax.set_xticks(steps, [str(n) for n in steps])
    ax.minorticks_off()
    ax.legend(fontsize=7, loc="lower left")
    return fig


def steps(run: Record):
    """Claim 4: radii after a rotation, and W_2 against evaluations with and without r."""
    arrays, nfe = run.arrays("rotation"), run.arrays("evaluations")
    fig, axes = style.figure(1, 2, aspect=0.85)
    n = np.geomspace(arrays["steps"][0], arrays["steps"][-1], 200)
    formula = statistics.inflation(n, run.config.rotation.speed, float(arrays["length"]))
    for i, (marker, color, label) in enumerate(METHOD_LOOK.values()):
        axes[0, 0].plot(n, np.abs(formula[i] - 1), color=style.GREY, linestyle="--", linewidth=1)
        axes[0, 0].plot(arrays["steps"], np.abs(arrays["factor"][i, :, 0] - 1), marker,
                        color=color, label=label)  # fmt: skip
        for size, line in ((0, ":"), (1, "-")):
            style.points(axes[0, 1], run.config.evaluations.budgets, nfe["w2"][size, i].T,
                         geometric=True, marker=marker, color=color, linestyle=line,
                         markerfacecolor=color if size else "white")  # fmt: skip
    axes[0, 0].set(xscale="log", yscale="log", xlabel="steps over unit time")
    axes[0, 0].set_ylabel("|radius factor - 1|")
    axes[0, 0].set_title(f"rotation, speed {run.config.rotation.speed:g}")
    axes[0, 0].legend()
    axes[0, 1].axhline(nfe["floor"].mean(), color=style.GREY, linestyle="--", linewidth=1)
    budgets = run.config.evaluations.budgets
    axes[0, 1].set(xscale="log", yscale="log", xlabel="evaluations of the field")
    axes[0, 1].set_xticks(budgets, [str(b) for b in budgets])
    axes[0, 1].minorticks_off()
    axes[0, 1].set_ylabel("$W_2$ to the data law")
    axes[0, 1].set_title("mixture")
    keys = (
        Line2D([], [], color="k", label=f"with r, c = {run.config.evaluations.size:g}"),
        Line2D([], [], color="k", linestyle=":", label="without r"),
        Line2D([], [], color=style.GREY, linestyle="--", label="two exact draws"),
    )
    axes[0, 1].legend(handles=keys)
    style.panel_labels(axes.flat)
    return fig


def nets(run: Record):
    """Claim 6: the share of the gauge part by level, and what leaving it out does to the law."""
    found, laws = run.arrays("net_split"), run.arrays("net_laws")
    fig, axes = style.figure(1, 3, aspect=1.0)
    shares = {"grid": statistics.gauge_shares(run), "random waves": found["waves"]}
    for (label, share), color, line in zip(shares.items(), (style.BLUE, style.ORANGE), "-:"):
        style.band(axes[0, 0], found["times"], share.T, label=label, color=color, linestyle=line)
    axes[0, 0].set(xscale="log", xlabel="time t", ylim=(0, 1))
    axes[0, 0].set_ylabel(r"$E|r|^2 \,/\, E|s_\theta - s|^2$")
    place, colors = np.arange(len(FIELDS)), (style.GREEN, style.VERMILLION, style.BLUE)
    for i, stop in enumerate(STOPS):
        x = np.arange(-1, len(FIELDS)) + 0.15 * (i - 1)
        found_at = np.concatenate([laws["floor"][None, i], laws["truth"][:, i]])
        style.points(axes[0, 1], x, found_at.T, label=f"t = {stop:g}",
                     marker="os^"[i], color=style.COLORS[i])  # fmt: skip
    axes[0, 1].set(ylim=(0, None), ylabel="$W_2$ to exact draws")
    entropy = statistics.relative_entropies(run)
    for i, name in enumerate(FIELDS):
        style.points(axes[0, 2], [i], entropy[name][:, None], color=colors[i])
        axes[0, 2].plot(i + 0.12 + 0 * entropy[name], entropy[name], ".", color=style.GREY)
    axes[0, 2].set_ylabel("KL(p || ODE law) (nats)")
    names = [FIELD_NAME[name] for name in FIELDS]
    axes[0, 1].set_xticks([-1, *place], ["draws", *names])
    axes[0, 2].set_xticks(place, names)
    axes[0, 2].set_xlim(-0.5, len(FIELDS) - 0.5)
    named = [pair for ax in axes[0, :2] for pair in zip(*ax.get_legend_handles_labels())]
    fig.legend(*zip(*named), loc="outside lower center", ncols=6, fontsize=7, columnspacing=1.2)
    style.panel_labels(axes.flat)
    return fig
