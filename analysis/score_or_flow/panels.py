"""What the figures of `score_or_flow` share."""

from __future__ import annotations

from analysis import style

#: How kinds of nets look: colour, marker, dash.
LOOK = {
    "free": (style.VERMILLION, "o", "-"),
    "conservative": (style.BLUE, "s", "--"),
    "regularised": (style.GREEN, "^", "-."),
    "exact": (style.BLACK, "x", ":"),
}
SHORT = {"free": "free", "conservative": "cons.", "regularised": "reg.", "exact": "exact"}
RATE = r"$d$KL$(p_t|q_t)\,/\,d$log SNR" + "\n(nats)"
LEVEL = r"noise level $\sigma/\alpha$"
ASYMMETRY = r"asymmetry $\|J-J^T\|^2 / 4\|J\|^2$"


def rate_lines(ax, levels, arrays) -> None:
    """Rates per unit of falling log-SNR, so that all noise levels are of one size."""
    clock = arrays["clock"]
    ax.plot(levels, arrays["gradient"] / clock, color=style.GREY, linestyle="--", linewidth=2,
            label=r"predicted from $\nabla\eta$ alone")  # fmt: skip
    ax.plot(levels, arrays["gauge"] / clock, color=style.ORANGE, linestyle=":", marker="^",
            markersize=4, label="predicted from the gauge part")  # fmt: skip
    ax.plot(levels, arrays["measured"] / clock, "o", color=style.BLUE, markersize=5,
            fillstyle="none", label="measured")  # fmt: skip
