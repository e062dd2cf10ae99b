"""Figures of the study `guided_sampling`, parts (b) to (d)."""

from __future__ import annotations

import numpy as np

from analysis import style
from analysis.guided_sampling import stability_figures, statistics
from dfx.runs import Record

ODE, SDE, TARGET = style.BLUE, style.VERMILLION, style.BLACK


def draw(run: Record) -> None:
    """Draw all figures into the run's folder."""
    for name, figure in {
        "laws": guided_laws,
        "tilt": tilt,
        "pair": pair,
        "cfgpp": cfgpp,
        "interval": intervals,
        "autoguidance": autoguidance,
    }.items():
        style.save(figure(run), run.figures, name)
    stability_figures.draw(run)


def guided_laws(run: Record):
    """The two modes: densities of the ODE's and the SDE's ends, the tilted law and the class."""
    tilted, ode, sde = (run.arrays(name) for name in ("tilted", "ode", "sde"))
    weights = np.asarray(run.config.tilt.weights)
    rows = [row for row in range(len(weights)) if weights[row] in (2.0, 4.0, 8.0)]
    fig, axes = style.figure(1, len(rows), width=style.PAGE, aspect=0.9, sharey=True)
    for ax, row in zip(axes.flat, rows):
        ax.hist(
            sde["x"][row].ravel(), np.linspace(-0.5, 3, 71), density=True, histtype="stepfilled",
            color=SDE, alpha=0.4, label="SDE, samples",
        )  # fmt: skip
        ends = ode["ends"][row]
        ax.plot(ends, statistics.flow_density(ode["z"], ends), color=ODE, label="ODE")
        ax.plot(tilted["x"], tilted["density"][row], color=TARGET, label="tilted law")
        ax.plot(tilted["x"], tilted["class"], "--", color=style.GREY, label="class (w = 1)")
        ax.set(title=f"w = {weights[row]:g}", xlabel="x", xlim=(-0.5, 3.0))
    axes[0, 0].set_ylabel("density")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return fig


def tilt(run: Record):
    """W_1 to the tilted law: against the weight, and after Langevin steps."""
    of_flow, of_samples, floor = statistics.tilted_distances(run)
    fig, axes = style.figure(1, 3, width=style.PAGE, aspect=0.95)
    ax, weights = axes[0, 0], np.asarray(run.config.tilt.weights)
    ax.plot(weights, of_flow, "o-", color=ODE, markersize=4, label="ODE")
    style.points(ax, weights, of_samples.T, label="SDE", color=SDE, marker="s", linestyle="-")
    ax.plot(weights, floor, "--", color=style.GREY, linewidth=1, label="exact samples")
    ax.set(xlabel="weight w", ylabel=r"$W_1$ to the tilted law")
    ax.set_ylim(0, 1.6 * of_flow.max())  # room for the legend
    ax.legend(loc="upper left")
    panels = (
        ("corrected", np.asarray(run.config.corrector.corrections), "Langevin steps a level"),
        ("relaxed", run.arrays("relaxed")["times"], "Langevin time, last level"),
    )
    for ax, (name, places, label) in zip(axes[0, 1:], panels):
        distances, limit = statistics.corrected_distances(run, name)
        style.points(ax, places, distances.T, color=style.GREEN, linestyle="-")
        ax.axhline(limit, linestyle="--", color=style.GREY, linewidth=1)
        threshold = places[places > 0].min()
        ax.set_xscale("symlog", linthresh=threshold, linscale=0.4)
        ax.set(xlabel=label, yscale="log", title=f"w = {run.config.corrector.weight:g}")
        ax.set_xlim(-0.3 * threshold, 1.6 * places.max())
        ticks = places if name == "corrected" else places[[0, *range(2, len(places), 4)]]
        ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        ax.minorticks_off()
    style.panel_labels(axes.flat)
    return fig


def pair(run: Record):
    """The Gaussian pair: mean and variance of ODE and SDE on their closed forms."""
    arrays, weights = run.arrays("pair"), np.asarray(run.config.pair.weights)
    mean, std = statistics.moments(arrays["z"], arrays["ode"])
    samples = arrays["sde"].astype(np.float64)
    found = (
        (mean, samples.mean(-1), "mean"),
        (std**2, samples.var(-1, ddof=1), "variance"),
    )
    fig, axes = style.figure(1, 2, width=0.8 * style.PAGE, aspect=0.85)
    for column, (ax, (flow, sampled, label)) in enumerate(zip(axes.flat, found)):
        for kind, (name, color, dashes) in enumerate(
            (("ODE", ODE, "-"), ("SDE", SDE, "-."), ("tilted law", TARGET, "--"))
        ):
            ax.plot(arrays["dense"], arrays["exact"][kind, :, column], dashes, color=color,
                    label=f"{name}, closed form")  # fmt: skip
        ax.plot(weights, flow, "o", color=ODE, markersize=5, label="ODE, solved")
        style.points(ax, weights, sampled.T, color=SDE, marker="s", label="SDE, sampled")
        ax.set(xlabel="weight w", ylabel=label)
    axes[0, 1].set_yscale("log")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    style.panel_labels(axes.flat)
    return fig


def cfgpp(run: Record):
    """CFG++ has no limit; its round trip beside that of CFG."""
    settings, limit = run.config.cfgpp, run.arrays("cfgpp_limit")
    fig, axes = style.figure(1, 3, width=style.PAGE, aspect=1.0)
    ax = axes[0, 0]
    for name, label, color, mark in (
        ("plus", rf"CFG++, $\lambda$ = {settings.scale:g}", SDE, "s"),
        ("free", f"CFG, w = {float(limit['weight']):.1f}", ODE, "o"),
    ):
        mean = statistics.moments(limit["z"], limit[name])[0]
        ax.plot(settings.steps, mean, color=color, marker=mark, markersize=4, label=label)
    ax.axhline(1.0, linestyle="--", color=style.GREY, linewidth=1, label="class")
    ax.set(xscale="log", xlabel="steps", ylabel="mean, two modes", ylim=(0, 6.5))
    ax.legend(loc="upper left")
    ax, errors = axes[0, 1], statistics.round_trip_errors(run)
    row = list(settings.round_trip_steps).index(50)
    style.points(ax, settings.weights, errors["free"][row].T, label="CFG", color=ODE,
                 linestyle="-")  # fmt: skip
    style.points(ax, errors["effective"][row], errors["plus"][row].T, label="CFG++", color=SDE,
                 marker="s", linestyle="--")  # fmt: skip
    ax.set(xlabel="mean weight, 50 steps", ylabel="round trip error (rms)", ylim=(0, None))
    ax.legend(loc="lower right")
    ax = axes[0, 2]
    weight, steps = statistics.AUTHORS_WEIGHT, settings.round_trip_steps
    nominal, matched = statistics.round_trip_ratios(run, weight)
    style.points(ax, steps, nominal.T, label=f"at w = {weight:g}", color=style.GREEN,
                 linestyle="-")  # fmt: skip
    style.points(ax, steps, matched.T, label="at its mean weight", color=style.PURPLE,
                 marker="D", linestyle="--")  # fmt: skip
    ax.axhline(1.0, linestyle="--", color=style.GREY, linewidth=1)
    ax.set(xscale="log", xlabel="steps", ylim=(0, 1.7 * nominal.max()),
           ylabel=rf"CFG++ ($\lambda$ = {settings.scale:g}) / CFG")  # fmt: skip
    ax.set_xticks(steps, [str(n) for n in steps])
    ax.minorticks_off()
    ax.legend(loc="upper left", title="CFG")
    style.panel_labels(axes.flat)
    return fig


def intervals(run: Record):
    """What guidance at one noise level does, and what it does below, between and above two."""
    arrays, settings = run.arrays("intervals"), run.config.interval
    mean, std = statistics.moments(arrays["z"], arrays["named"])
    tile_mean, tile_std = statistics.moments(arrays["z"], arrays["tiles"])
    fig, axes = style.figure(1, 2, width=0.85 * style.PAGE, aspect=0.85)
    ax, centres = axes[0, 0], arrays["lows"] * np.sqrt(settings.width)
    ax.plot(centres, tile_mean - mean[0], "o-", color=ODE, markersize=4, label="mean")
    ax.plot(centres, tile_std - std[0], "s--", color=SDE, markersize=4, label="deviation")
    ax.axhline(0.0, color=style.GREY, linewidth=1)
    for edge in settings.edges:
        ax.axvline(edge, color=style.GREY, linestyle=":", linewidth=1)
    ax.set(xscale="log", xlabel=r"noise level $\sigma/\alpha$ of the interval",
           ylabel=f"shift by guidance, w = {settings.weight:g}")  # fmt: skip
    ax.set_ylim(-0.2, 0.4)
    ax.legend(loc="upper left", framealpha=1.0)
    ax, tilted = axes[0, 1], run.arrays("tilted")
    low, high = settings.edges
    labels = {
        "none": "none", "low": rf"$\sigma \leq$ {low:g}",
        "middle": rf"{low:g} < $\sigma \leq$ {high:g}",
        "high": rf"$\sigma$ > {high:g}", "all": "all",
    }  # fmt: skip
    for name, ends, dashes, color in zip(
        arrays["names"], arrays["named"], ("--", "-", "-.", ":", "-"),
        (style.GREY, style.GREEN, style.ORANGE, style.PURPLE, ODE),
    ):  # fmt: skip
        density = statistics.flow_density(arrays["z"], ends)
        ax.plot(ends, density, dashes, color=color, label=labels[str(name)])
    weights = list(run.config.tilt.weights)
    if settings.weight in weights:
        row = weights.index(settings.weight)
        ax.plot(tilted["x"], tilted["density"][row], color=TARGET, linewidth=1, label="tilted law")
    ax.set(xlabel="x", ylabel="density", xlim=(-0.7, 2.8), ylim=(0, None))
    fig.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    style.panel_labels(axes.flat)
    return fig


def autoguidance(run: Record):
    """W_2 to the truth against the weight of autoguidance."""
    best = float(run.arrays("autoguidance")["best"])
    fig, axes = style.figure(1, 1, width=style.COLUMN, aspect=0.85)
    ax, weights = axes[0, 0], np.append(run.arrays("autoguidance")["weights"], best)
    order = np.argsort(weights)
    for name, label, color, dashes in (
        ("gaussian", "Gaussian, more blur", ODE, "-"),
        ("modes", "two modes, more blur", style.GREEN, "-."),
        ("unrelated", "two modes, shifted", SDE, "--"),
    ):
        ax.plot(
            weights[order],
            statistics.autoguided(run, name)[order],
            dashes,
            color=color,
            label=label,
        )
    style.paper_value(ax, best, f"w* = {best:.3f}", axis="x")
    # The shifted one goes on straight to ten times this.
    top = 2 * statistics.best_weight(run, "gaussian")[2].max()
    ax.set(xlabel="weight w", ylabel=r"$W_2$ to the truth", ylim=(0, top))
    ax.legend(loc="upper right")
    return fig
