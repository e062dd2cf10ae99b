"""What the figures of `subspace_clustering` share."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from analysis import style

COLORS = (
    style.BLUE, style.VERMILLION, style.GREEN, style.PURPLE, style.ORANGE, style.SKY, style.BLACK,
)  # fmt: skip
MARKS = "os^Dv<>P"
TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)


def looks(values: Iterable[Any]) -> Iterator[tuple[Any, str, str]]:
    """Each value with a colour and a marker: the first seven differ in both, 56 in one of them."""
    return zip(values, itertools.cycle(COLORS), itertools.cycle(MARKS))


def edges(x: np.ndarray) -> np.ndarray:
    """Return the borders (n + 1,) of cells around rising values (n,), halfway between them."""
    if len(x) == 1:
        return np.array([x[0] - 0.5, x[0] + 0.5])
    middle = (x[1:] + x[:-1]) / 2
    return np.concatenate([[2 * x[0] - middle[0]], middle, [2 * x[-1] - middle[-1]]])


def plain_log(ax, ticks) -> None:
    """Make the x axis logarithmic, with these ticks alone."""
    ax.set_xscale("log")
    ax.minorticks_off()
    ax.set_xticks(ticks, [str(tick) for tick in ticks])


def log_ticks(ax, x) -> None:
    """Make the x axis logarithmic, with plain numbers at its ticks."""
    ax.set_xscale("log")
    ax.minorticks_off()
    among = TICKS if max(x) < 1000 * min(x) else TICKS[::3]  # powers of ten alone
    ticks = [tick for tick in among if 0.95 * min(x) <= tick <= 1.05 * max(x)]
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
