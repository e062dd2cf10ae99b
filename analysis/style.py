"""One look for all figures: sizes, fonts, colours that colour-blind readers can tell apart, saving.

Importing this module sets matplotlib up, without a display. Colours: Okabe and Ito (2008).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dfx.runs.claims import geometric_interval, mean_interval
from dfx.runs.files import atomic

BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY, BLACK, YELLOW = COLORS = (
    "#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#000000", "#F0E442",
)  # fmt: skip
GREY = "#777777"  # for what is not ours: the paper's value, a guide to the eye
COLUMN, PAGE = 3.4, 7.0  # inches: a column and the full width of a two-column paper
DPI = 200

plt.rcParams.update(
    {
        "axes.prop_cycle": plt.cycler(color=COLORS),
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlesize": 9,
        "axes.labelsize": 9,
        "figure.constrained_layout.use": True,
        "font.size": 9,
        "grid.alpha": 0.3,
        "image.cmap": "cividis",
        "legend.fontsize": 8,
        "legend.edgecolor": "none",
        "legend.framealpha": 0.7,
        "lines.linewidth": 1.5,
        "xtick.labelsize": 8,
        "ytick.labelsize": 8,
    }
)


def figure(
    rows: int = 1, columns: int = 1, width: float = PAGE, aspect: float = 0.75, **options: Any
) -> tuple[Figure, np.ndarray]:
    """Return a figure and its axes, shape (rows, columns).

    Args:
      width: of the whole figure, in inches.
      aspect: height over width of one panel.
      options: for `plt.subplots`, such as sharey=True.
    """
    size = (width, width / columns * aspect * rows)
    return plt.subplots(rows, columns, figsize=size, squeeze=False, **options)


def save(fig: Figure, folder: str | Path, name: str) -> Path:
    """Write the figure to folder/NAME.png, whole or not at all, close it and return the path.

    The same drawing gives the same bytes: no date and no version is written into the file.
    """
    path = Path(folder) / f"{name}.png"
    with atomic(path) as temporary:
        fig.savefig(temporary, format="png", dpi=DPI, metadata={"Software": None})
    plt.close(fig)
    return path


def band(
    ax: Axes, x: Any, values: Any, label: str | None = None, geometric: bool = False, **line: Any
) -> None:
    """Draw the mean over seeds of `values` (seeds, n) at x (n,), its 95% interval as a band.

    With `geometric` both are those of the logarithm, for values above 0 on a log axis.
    """
    mean, low, high = (geometric_interval if geometric else mean_interval)(values)
    (drawn,) = ax.plot(x, mean, label=label, **line)
    ax.fill_between(x, low, high, color=drawn.get_color(), alpha=0.2, linewidth=0)


def points(
    ax: Axes, x: Any, values: Any, label: str | None = None, geometric: bool = False, **marks: Any
) -> None:
    """Draw the mean over seeds of `values` (seeds, n) at x (n,), its 95% intervals as bars.

    With `geometric` both are those of the logarithm, for values above 0: no bar reaches 0.
    """
    bars(ax, x, (geometric_interval if geometric else mean_interval)(values), label, **marks)


def bars(ax: Axes, x: Any, interval: Any, label: str | None = None, **marks: Any) -> None:
    """Draw marks at x (n,) with bars, from `interval`: (mean, low, high), each of shape (n,)."""
    mean, low, high = map(np.asarray, interval)
    look: dict[str, Any] = {"marker": "o", "markersize": 4, "capsize": 2, "linestyle": "none"}
    ax.errorbar(x, mean, yerr=np.stack([mean - low, high - mean]), label=label, **(look | marks))


def paper_value(
    ax: Axes, value: float, label: str = "paper", axis: str = "y", start: bool = False
) -> None:
    """Draw a dashed grey line at the paper's value, its label beside it at its end or `start`."""
    look: dict[str, Any] = {"color": GREY, "linestyle": "--", "linewidth": 1.0, "zorder": 0}
    text: dict[str, Any] = {"color": GREY, "fontsize": 8, "textcoords": "offset points"}
    along = 0.0 if start else 1.0
    if axis == "y":
        ax.axhline(value, **look)
        ax.annotate(label, (along, value), xycoords=ax.get_yaxis_transform(), xytext=(0, 1),
                    ha="left" if start else "right", va="bottom", **text)  # fmt: skip
    else:
        ax.axvline(value, **look)
        ax.annotate(label, (value, along), xycoords=ax.get_xaxis_transform(), xytext=(-2, 0),
                    ha="right", va="bottom" if start else "top", rotation=90, **text)  # fmt: skip


def panel_labels(axes: Iterable[Axes]) -> None:
    """Write (a), (b), ... above the upper left corners of the panels."""
    for index, ax in enumerate(np.ravel(np.asarray(list(axes), dtype=object))):
        ax.set_title(f"({chr(ord('a') + index)})", loc="left", fontweight="bold")


def pictures(ax: Axes, images: Any, columns: int, low: float = 0.0, high: float = 1.0) -> None:
    """Draw images (n, h, w[, 1 or 3]) as a grid of rows, `low` black and `high` white."""
    images = np.clip((np.asarray(images, np.float64) - low) / (high - low), 0.0, 1.0)
    images = images[..., None] if images.ndim == 3 else images
    padding = [(0, -len(images) % columns), (0, 1), (0, 1), (0, 0)]  # whole rows, white gaps
    padded = np.pad(images, padding, constant_values=1.0)
    n, h, w, c = padded.shape
    grid = padded.reshape(n // columns, columns, h, w, c).swapaxes(1, 2)
    grid = grid.reshape(n // columns * h, columns * w, c)[:-1, :-1]
    ax.imshow(np.broadcast_to(grid, (*grid.shape[:2], 3)), interpolation="nearest")
    ax.set_axis_off()
