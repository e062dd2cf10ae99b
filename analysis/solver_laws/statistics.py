"""Orders, best values and closed forms of the study `solver_laws`."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import chdtrc

from analysis.orders import Order, fit_order
from dfx.runs import Record
from experiments.solver_laws import exact
from experiments.solver_laws.sampling import STATISTICS

MEAN, COVARIANCE, W2 = range(3)  # kinds of exact errors

#: Nodes of the quadrature over a pulse, whose integrand is smooth: the error is below 1e-12.
NODES = 20


def weak_orders(run: Record, kind: int = W2) -> list[list[Order]]:
    """Return the fitted weak orders, laws x solvers."""
    arrays, fit = run.arrays("orders"), run.config.orders.fit
    steps = arrays["steps"][-fit:]
    return [[fit_order(steps, row[-fit:, kind]) for row in law] for law in arrays["errors"]]


def strong_orders(run: Record) -> list[Order]:
    """Return the fitted strong orders of the solvers of the stage `strong`."""
    arrays, fit = run.arrays("strong"), run.config.orders.fit
    return [fit_order(arrays["steps"][-fit:], row[-fit:]) for row in arrays["distances"]]


def sampled(run: Record, law: str, statistic: str, part: str = "solvers") -> np.ndarray:
    """Return one statistic, shape (solvers or knob values, seeds, nfe).

    Args:
      law: "grid", "grid_early" or "low_rank".
      part: "solvers", or a knob.
    """
    settings = run.config.low_rank if law == "low_rank" else run.config.mixtures
    kept = [run.arrays(f"{law}_{nfe}")[part] for nfe in settings.nfe]
    return np.stack(kept, axis=-1)[:, :, STATISTICS.index(statistic)]


def floor(run: Record, law: str, statistic: str) -> np.ndarray:
    """Return the statistic of an exact sample, shape (seeds,)."""
    return run.arrays(f"{law}_floor")["statistics"][:, STATISTICS.index(statistic)]


def swept(run: Record, law: str, knob: str) -> np.ndarray:
    """Return sliced W_2 of a knob's values at the sweep's evaluations, (values, seeds, nfe)."""
    columns = [run.config.mixtures.nfe.index(nfe) for nfe in run.config.sweeps.nfe]
    return sampled(run, law, "sliced", knob)[..., columns]


def check_p_value(run: Record) -> float:
    """Return the probability of moments as far off as the worst solver's, times their number."""
    arrays = run.arrays("check")
    totals, seeds = arrays["chi_square"].sum(1), arrays["chi_square"].shape[1]
    return float(min(1.0, len(totals) * chdtrc(seeds * arrays["freedom"], totals.max())))


def remembered(variances: Any, shift: Any, level: float, tau: float) -> np.ndarray:
    """Return what exact sampling leaves of a wrong mean at a noise level, in data deviations.

    In x / alpha, along an axis where the data have variance v, the reverse equation with tau^2
    times the usual noise takes a shift at level s = sigma / alpha to clean data as

        shift (v / (v + s^2))^((1 + tau^2) / 2).

    So tau = 0 keeps it in units of the standard deviation, and tau = 1 divides it once more by
    sqrt(1 + s^2 / v).

    Args:
      variances: of the data along the axes, shape (d,).
      shift: along these, in x / alpha.
    """
    variances = np.asarray(variances)
    kept = (variances / (variances + level**2)) ** ((1 + tau**2) / 2)
    return np.asarray(shift) * kept / np.sqrt(variances)


def pulse_left(variance: float, lows: Any, highs: Any, end: float, tau: float) -> np.ndarray:
    """Return the shift at level `end`, in x / alpha, from a denoiser off by 1 between two levels.

    With a = (1 + tau^2) / 2 the shift d obeys dd/d(s^2) = a (d / (v + s^2) - 1 / s^2), so it is
    a int ((v + end^2) / (v + s^2))^a d log s^2 over the pulse. All levels are sigma / alpha.
    """
    power = (1 + tau**2) / 2
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    low, high = (2 * np.log(np.asarray(bound))[:, None] for bound in (lows, highs))
    squares = np.exp((low + high) / 2 + (high - low) / 2 * nodes)
    kept = ((variance + end**2) / (variance + squares)) ** power
    return power * np.sum(weights * kept * (high - low) / 2, axis=1)


def pulse_limits(run: Record) -> np.ndarray:
    """Return what the closed form says of the stage `pulses`, shape (taus, levels)."""
    kept = run.arrays("pulses")
    variance, end = float(kept["size"]) ** 2, float(kept["end"])
    of = [pulse_left(variance, kept["lows"], kept["highs"], end, t) for t in run.config.pulse.tau]
    return np.stack(of)


def wrong_prior_limit(run: Record, law: exact.Normal, tau: float) -> float:
    """Return the whitened norm of the mean at the end that a wrong prior leaves without steps."""
    variances, axes = np.linalg.eigh(law.covariance)
    level = run.config.grid.sigma_max
    shift = axes.T @ np.full(len(variances), run.config.early_shift * level)
    return float(np.linalg.norm(remembered(variances, shift, level, tau)))


def best(errors: np.ndarray, names: tuple[str, ...], of: tuple[str, ...]) -> np.ndarray:
    """Return the smallest errors among the solvers `of`; the first axis is `names`."""
    return np.min([errors[names.index(name)] for name in of], axis=0)
