"""What the study `score_or_flow` reads off its arrays."""

from __future__ import annotations

import numpy as np

from dfx.runs import Record

#: The radii, in units of sigma, between which the slope of the circulation is taken: the two
#: smallest.
SMALL = slice(0, 2)


def over_levels(values: np.ndarray) -> np.ndarray:
    """Return the geometric mean over levels, the last axis, of numbers above 0."""
    return np.exp(np.mean(np.log(values), axis=-1))


def asymmetry(run: Record, kind: str, ending: str = "") -> np.ndarray:
    """Return the pooled normalised asymmetry, (seeds, levels)."""
    return run.arrays(f"{kind}_fields")[f"asymmetry{ending}"]


def circulation(run: Record, kind: str) -> np.ndarray:
    """Return the root mean square over loops of C over the integral of |s| |dl|, (seeds, levels,
    radii)."""
    return np.sqrt(np.mean(run.arrays(f"{kind}_loops")["circulation"] ** 2, axis=-1))


def circulation_slope(run: Record) -> np.ndarray:
    """Return the slope of log |C| in log r between the two smallest radii, median over loops and
    levels, (seeds,).

    C is kept over pi r^2 times the curl at the centre, which is the same at both radii: the slope
    of that ratio is 2 less.
    """
    radii = np.log(np.asarray(run.config.toy.radii)[SMALL])
    ratio = np.log(np.abs(run.arrays("free_loops")["over_curl"][..., SMALL, :]))
    slope = (ratio[..., 1, :] - ratio[..., 0, :]) / (radii[1] - radii[0])
    return 2 + np.median(slope, axis=(-2, -1))


def w2(run: Record, kind: str, size: float) -> np.ndarray:
    """Return W_2 to the truth of the samples with a planted error, (seeds,)."""
    return run.arrays("errors")["w2"][_row(run.arrays("errors"), kind, size)]


def planted(run: Record, name: str, kind: str, size: float) -> np.ndarray:
    """Return "error" (E|e|^2) or "asymmetry" of a planted error, (levels,)."""
    arrays = run.arrays("errors_norms")
    return arrays[name][_row(arrays, kind, size)]


def _row(arrays, kind: str, size: float) -> int:
    (row,) = np.flatnonzero((arrays["kinds"] == kind) & (arrays["sizes"] == size))
    return int(row)


def euler_ratio(run: Record) -> tuple[int, float, np.ndarray]:
    """Return the smallest number of Euler steps, the largest gauge size, and its W_2 there over
    that of the exact field, (seeds,)."""
    arrays = run.arrays("errors_steps")
    exact, largest = np.argmin(arrays["sizes"]), np.argmax(arrays["sizes"])
    ratio = arrays["w2"][largest, 0] / arrays["w2"][exact, 0]
    return int(arrays["nfe"][0]), float(arrays["sizes"][largest]), ratio


def relative_gap(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Return the largest |found - expected| / |expected| over the last axis."""
    return np.max(np.abs(found - expected) / np.abs(expected), axis=-1)


def gauge_share(rates: dict[str, np.ndarray]) -> np.ndarray:
    """Return E|r|^2 / E|e|^2, the shape of the rates."""
    return rates["error_gauge"] / rates["error"]


def remainder_share(run: Record) -> np.ndarray:
    """Return the part of the free nets' squared error that is no gradient, (seeds, levels)."""
    arrays = run.arrays("projection")
    return arrays["remainder"] / arrays["total"]


def weighted_log_snr(run: Record) -> dict[str, float]:
    """Return the median log-SNR of the weight of each plain loss under uniform t."""
    arrays, names = run.arrays("weights"), run.arrays("losses")["names"]
    medians = {}
    for name, factor in zip(names, arrays["factor"]):
        share = np.cumsum(factor) / factor.sum()
        medians[str(name)] = float(arrays["log_snr"][np.searchsorted(share, 0.5)])
    return medians


#: The columns of the joint table: name -> label. Residuals are free of the unit of time: a change
#: of time multiplies R and g^2 alike.
COLUMNS = {
    "gradient": r"$E|\sigma(\nabla\phi - s)|^2$",
    "remainder": r"$E|\sigma r|^2$",
    "score_residual": r"$(\sigma^3 / g^2)^2 \, E|\nabla R|^2$",
    "potential_residual": r"$(\sigma^2 / g^2)^2 \, \mathrm{Var}_x R$",
    "ode": "$W_2$(ODE, truth)",
    "sde": "$W_2$(SDE, truth)",
    "between": "$W_2$(ODE, SDE)",
    "ode_beyond": "share beyond\n6 sd, ODE",
    "sde_beyond": "share beyond\n6 sd, SDE",
}

#: Those that are 0 for some seeds, and have no logarithm.
SHARES = ("ode_beyond", "sde_beyond")


def joint_table(run: Record) -> dict[str, dict[str, np.ndarray]]:
    """Return kind -> column -> values by seed; means over the noise levels where there are many.

    A conservative net's error is a gradient as its score and the exact one are: its remainder is 0
    and is not estimated.
    """
    joint, rows = run.arrays("joint"), {}
    for number, kind in enumerate(map(str, joint["kinds"])):
        fields = run.arrays(f"{kind}_fields")
        row = {name: joint[name][number] for name in COLUMNS if name in joint}
        for name in ("score_residual", "potential_residual"):
            if name in fields:
                row[name] = fields[name].mean(axis=-1)
        if kind == "free":
            split = run.arrays("projection")
            row |= {name: split[name].mean(axis=-1) for name in ("gradient", "remainder")}
        else:
            row["gradient"] = fields["error"].mean(axis=-1)
        rows[kind] = row
    return rows
