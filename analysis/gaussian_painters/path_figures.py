"""Figures of the study `gaussian_painters`: paths as pictures and in their planes, growth of modes,
kicks and end samples."""

from __future__ import annotations

import numpy as np
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from analysis import style
from analysis.gaussian_painters import statistics
from analysis.gaussian_painters.statistics import GAUSSIAN, KICKED_MIXTURE, MIXTURE, NET
from dfx import metrics
from dfx.runs import Record, mean_interval

#: Frames of a path that are shown, and samples of each model.
SHOWN, ENDS = 10, 16


def draw_nets(run: Record) -> None:
    """Draw all figures."""
    for name, draw in {
        "paths": paths,
        "plane": plane,
        "modes": modes,
        "kicks": kicks,
        "ends": ends,
    }.items():
        style.save(draw(run), run.figures, name)


def paths(run: Record):
    """x and x0_hat along paths from equal noise: by the net and by the Gaussian's closed form."""
    arrays = run.arrays("paths_shown")
    sigma = arrays["sigma"]
    frames = shown_frames(sigma, float(np.sqrt(run.arrays("spectrum")["variance"][0])))
    count = min(2, arrays["x"].shape[1])
    height, width = arrays["x"].shape[3:5]
    fig, axes = style.figure(4 * count, 1, aspect=1.12 * height / width / len(frames))
    rows = [(kind, which) for kind in ("x", "outline") for which in (NET, GAUSSIAN)]
    titles = {"x": "$x$", "outline": r"$\hat x_0$"}
    for path in range(count):
        for row, (kind, which) in enumerate(rows):
            ax = axes[4 * path + row, 0]
            low = -1.6 if kind == "x" else -1.0
            style.pictures(ax, arrays[kind][which, path, frames], len(frames), low, -low)
            ax.set_axis_on()
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
            name = "net" if which == NET else "Gaussian"
            ax.set_ylabel(f"{name}\n{titles[kind]}", rotation=0, ha="right", va="center")
    places = (np.arange(len(frames)) + 0.5) * (width + 1) - 1
    axes[-1, 0].set_xticks(places, [f"{s:.2g}" for s in sigma[frames]])
    axes[-1, 0].tick_params(length=0)
    axes[-1, 0].set_xlabel(r"noise level $\sigma$; $x$ shown over $\sqrt{\sigma^2 + 1/4}$")
    return fig


def shown_frames(sigma: np.ndarray, largest: float) -> np.ndarray:
    """Return at most SHOWN frames, from noise of 12 times the largest standard deviation, where
    first things are seen in x0_hat, to a tenth of it, where nothing changes any more, and the last.
    """
    first, last = (int(np.argmin(np.abs(sigma - scale * largest))) for scale in (12, 0.1))
    frames = np.linspace(first, last, SHOWN - 1).round().astype(int)
    return np.unique(np.append(frames, len(sigma) - 1))


def plane(run: Record):
    """Paths on VP in the plane of their ends, shares of principal components, R^2 of the turn."""
    shown, arrays = run.arrays("paths_shown"), run.arrays("paths")
    sigma = shown["sigma"]
    fig, axes = style.figure(1, 3, aspect=0.95)
    x = shown["x"] * np.sqrt(sigma**2 + 0.25)[:, None, None, None]
    on_vp = x / np.sqrt(1 + sigma**2)[:, None, None, None]
    length = np.sqrt(np.prod(x.shape[3:]))
    for which, label, color, line in ((NET, "net", style.BLUE, "-"),
                                      (GAUSSIAN, "Gaussian", style.ORANGE, "--")):  # fmt: skip
        found = metrics.end_plane(on_vp[which]).coordinates / length
        for i, path in enumerate(found):
            axes[0, 0].plot(*path.T, line, color=color, marker=".", markersize=3, linewidth=1,
                            label=None if i else label)  # fmt: skip
    angle = np.linspace(0, np.pi / 2, 100)
    axes[0, 0].plot(np.cos(angle), np.sin(angle), ":", label="unit circle",
                    color=style.GREY, linewidth=1, zorder=0)  # fmt: skip
    axes[0, 0].set(xlabel=r"along the noise, / $\sqrt{d}$",
                   ylabel=r"towards the sample, / $\sqrt{d}$", aspect="equal")  # fmt: skip
    axes[0, 0].legend(fontsize=7)
    _shares(run, axes[0, 1], arrays)
    _turns(run, axes[0, 2], arrays)
    style.panel_labels(axes.flat)
    return fig


def _groups(run: Record, arrays, net_key: str, exact_key: str, number) -> dict[str, np.ndarray]:
    """Label -> values of single paths."""
    found = {
        "nets": arrays[net_key][:, NET, ...][..., *number].ravel(),
        "Gaussian\nof data": arrays[net_key][:, GAUSSIAN, ...][..., *number].ravel(),
    }
    if "exact" in run.config.parts:
        power = run.arrays("power_paths")[exact_key]
        for exponent, values in zip(run.config.exact.exponents, power):
            found[rf"$k^{{-{exponent:g}}}$"] = values[..., *number].ravel()
    return found


def _scatter(ax, place, values, **look) -> None:
    jitter = np.linspace(-0.12, 0.12, len(values))
    ax.plot(place + jitter, values, ".", markersize=2, alpha=0.5, **look)
    ax.plot(place, np.mean(values), "_", color=style.BLACK, markersize=14)


def _shares(run: Record, ax, arrays) -> None:
    """What the first one and two components leave out."""
    for number, color, label in ((0, style.BLUE, "one component"),
                                 (1, style.VERMILLION, "two")):  # fmt: skip
        groups = _groups(run, arrays, "shares", "vp_shares", (number,))
        for place, values in enumerate(groups.values()):
            _scatter(ax, place, 1 - values, color=color, label=None if place else label)
    ax.set_xticks(range(len(groups)), list(groups), fontsize=7)
    ax.set(yscale="log", ylabel="variance of a path left out")
    ax.set_ylim(bottom=ax.get_ylim()[0] / 5)  # room for the legend
    ax.legend(fontsize=7, markerscale=4, loc="lower left")


def _turns(run: Record, ax, arrays) -> None:
    groups = _groups(run, arrays, "rotation", "rotation", ())
    for place, values in enumerate(groups.values()):
        _scatter(ax, place, values, color=style.GREEN)
    ax.set_xticks(range(len(groups)), list(groups), fontsize=7)
    ax.set(ylabel=r"$R^2$ of $\alpha_t x_0 + \sigma_t x_T$")


def modes(run: Record):
    """Growth of the modes of x0_hat towards their final values, and when they are half-way."""
    sigma, variance = run.arrays("paths")["sigma"][:-1], statistics.mode_variances(run)
    found = statistics.growth(run, NET)[:, :-1]
    fig, axes = style.figure(1, 2, aspect=0.8)
    fine = statistics.finest(run).replace("gmm_", "mixture of ")
    chosen = np.unique(np.geomspace(1, len(variance), 5).round().astype(int)) - 1
    colors = style.plt.cm.cividis(np.linspace(0, 0.85, len(chosen)))
    for k, color in zip(chosen, colors):
        style.band(axes[0, 0], sigma, found[..., k], color=color, label=f"mode {k + 1}")
        axes[0, 0].plot(sigma, 1 / np.sqrt(1 + sigma**2 / variance[k]), "--", color=color,
                        linewidth=1)  # fmt: skip
    axes[0, 0].plot([], [], "--", color=style.GREY, linewidth=1, label="Gaussian")
    axes[0, 0].axhline(0.5, linestyle=":", color=style.GREY, linewidth=1)
    axes[0, 0].set(xscale="log", xlabel=r"noise level $\sigma$", ylim=(-0.1, 1.2),
                   ylabel=r"mode of $\hat x_0$ / its final value")  # fmt: skip
    axes[0, 0].set_xlim(100, 0.02)
    axes[0, 0].legend(fontsize=7)
    grid = np.geomspace(variance[-1], variance[0], 20)
    axes[0, 1].plot(grid, np.sqrt(3 * grid), "--", label=r"$\sqrt{3 \lambda}$, slope 1/2",
                    color=style.GREY, linewidth=1)  # fmt: skip
    for which, label, color, marker in ((NET, "nets", style.BLUE, "o"),
                                        (MIXTURE, fine, style.GREEN, "s")):  # fmt: skip
        levels = statistics.settle_levels(run, which)
        mean, low, high = mean_interval(levels) if len(levels) > 1 else (levels[0],) * 3
        axes[0, 1].errorbar(variance, mean, yerr=np.abs([mean - low, high - mean]), fmt=marker,
                            color=color, markersize=3, linewidth=0.8, label=label)  # fmt: skip
    axes[0, 1].set(xscale="log", yscale="log", xlabel=r"variance $\lambda_k$",
                   ylabel=r"level at half growth, $\sigma_{1/2}$")  # fmt: skip
    for axis in (axes[0, 1].xaxis, axes[0, 1].yaxis):
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_locator(NullLocator())
    axes[0, 1].legend()
    style.panel_labels(axes.flat)
    return fig


def kicks(run: Record):
    """What is left in the sample of a unit kick along a component, by level: law, nets, mixture;
    and the size of the change by kicks that grow with the noise."""
    arrays = run.arrays("kicks")
    maps = {
        "Gaussian law": arrays["law"],
        "nets": arrays["along"][:, NET].mean(axis=0),
        statistics.finest(run).replace("gmm_", "mixture of "): arrays["along"][
            :, KICKED_MIXTURE
        ].mean(0),
    }
    fig, axes = style.figure(1, 4, aspect=1.45)
    numbers = run.config.kicks.modes
    for ax, (title, values) in zip(axes.flat, maps.items()):
        image = ax.imshow(values, vmin=0, vmax=1, aspect="auto", origin="lower")
        ax.set_title(title, fontsize=8)
        ax.set_xticks(range(len(numbers)), [str(n) for n in numbers])
        ax.set_yticks(range(len(arrays["levels"])), [f"{s:g}" for s in arrays["levels"]])
        for (row, column), value in np.ndenumerate(values):
            ax.text(column, row, f"{value:.2f}".replace("0.", "."), ha="center", va="center",
                    fontsize=5, color="white" if value < 0.6 else "black")  # fmt: skip
        ax.set_xlabel("component kicked")
    axes[0, 0].set_ylabel(r"level $\sigma$ of the kick")
    fig.colorbar(image, ax=axes[0, :3], label="left in the sample", location="bottom", shrink=0.5)
    ax, levels = axes[0, 3], arrays["levels"]
    for which, label, color, marker in ((NET, "nets", style.BLUE, "o"),
                                        (KICKED_MIXTURE, "mixture", style.GREEN, "s")):  # fmt: skip
        style.band(ax, levels, arrays["whole"][:, which] * levels, geometric=True, color=color,
                   marker=marker, markersize=3.5, label=label)  # fmt: skip
    ax.plot(levels, arrays["whole_law"] * levels, "--", color=style.GREY, linewidth=1, label="law")
    ax.set(xscale="log", yscale="log", xlabel=r"level $\sigma$",
           title=r"change / $\varepsilon$ of kick $\varepsilon\sigma$")  # fmt: skip
    ax.title.set_fontsize(8)
    ax.legend(fontsize=7, loc="lower right")
    return fig


def ends(run: Record):
    """Samples of the first net and of the models, from equal noise."""
    arrays, shape = run.arrays("ends"), run.arrays("paths_shown")["x"].shape[3:]
    names = [
        str(name).replace("gmm_", "mixture\nof ").replace("gauss", "Gauss")
        for name in arrays["names"]
    ]
    count = min(ENDS, arrays["x"].shape[2])
    fig, axes = style.figure(len(names), 1, aspect=1.15 / count)
    for ax, name, x in zip(axes.flat, names, arrays["x"][:, 0, :count]):
        style.pictures(ax, x.reshape(count, *shape), count, -1.0, 1.0)
        ax.set_axis_on()
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
        ax.set_ylabel(name, rotation=0, ha="right", va="center")
    return fig
