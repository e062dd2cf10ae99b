"""What the study `gauge_freedom` counts in its arrays; seeds come last, as in the arrays, but first
in what goes to `from_seeds`."""

from __future__ import annotations

import numpy as np

from analysis.orders import Order, fit_order
from analysis.shares import Counts
from dfx import diagnostics
from dfx.runs import Record
from experiments.gauge_freedom.dimension import CLOSED
from experiments.gauge_freedom.exact import KINDS, METHODS
from experiments.gauge_freedom.manifolds import PLANE
from experiments.gauge_freedom.nets import FIELDS
from experiments.gauge_freedom.training import KINDS as NETS

EXACT, EXACT_GAUGE = CLOSED
GAUGE, GRADIENT = map(KINDS.index, ("gauge", "gradient"))


def middle(sizes) -> int:
    """Return the index of the error size that figures and single claims speak of."""
    return len(sizes) // 2


def excess(run: Record, way: str, kind: int) -> np.ndarray:
    """Return W_2 with the error minus W_2 without, of the same starts and truth, shape (sizes,
    stops, seeds)."""
    arrays = run.arrays(way)
    return arrays["w2"][kind] - arrays["none"]


def density_order(run: Record, size: float) -> Order:
    """Return the order of the log-density's error in the number of steps; the first number, where
    steps may be too long for the order to show, is left out if there are four or more."""
    arrays = run.arrays("density")
    mean = arrays["error"][nearest(arrays["sizes"], size)].mean(axis=-1)
    keep = slice(1 if len(mean) > 3 else 0, None)
    return fit_order(arrays["steps"][keep], mean[keep])


def nearest(values, value: float) -> int:
    """Return the index of the entry nearest to a value."""
    return int(np.argmin(np.abs(np.asarray(values) - value)))


def inflation(steps, speed: float, length: float) -> np.ndarray:
    """Return the factor of radii after a rotation of that angular speed over a length of time, by
    Euler, Heun and RK4 in n steps of h = length / n, shape (methods, steps); y = h speed:

        (1 + y^2)^(n/2),    (1 + y^4 / 4)^(n/2),    (1 - y^6 / 72 + y^8 / 576)^(n/2).
    """
    n = np.asarray(steps)
    y = speed * length / n
    a_step = {
        "flow_euler": 1 + y**2,
        "flow_heun": 1 + y**4 / 4,
        "flow_rk4": 1 - y**6 / 72 + y**8 / 576,
    }
    return np.stack([a_step[name] ** (n / 2) for name in METHODS])


def rotation_gap(run: Record) -> np.ndarray:
    """Return |measured / formula - 1|, shape (methods, steps, points)."""
    arrays = run.arrays("rotation")
    formula = inflation(arrays["steps"], run.config.rotation.speed, float(arrays["length"]))
    return np.abs(arrays["factor"] / formula[..., None] - 1)


def method_excess(run: Record) -> np.ndarray:
    """Return W_2 minus its floor by size (none, gauge), method, budget and seed."""
    arrays = run.arrays("evaluations")
    return arrays["w2"] - arrays["floor"]


def root_mean_z(run: Record, name: str) -> np.ndarray:
    """Return the root mean square of a mean in units of its standard error, shape (seeds,)."""
    arrays = run.arrays("mixture")
    return np.sqrt(np.mean((arrays[name] / arrays[f"{name}_error"]) ** 2, axis=0))


def gauge_shares(run: Record) -> np.ndarray:
    """Return E|r|^2 / E|s_theta - s|^2 of the nets, shape (levels, seeds)."""
    found = run.arrays("net_split")
    return found["remainder"] / found["total"]


def relative_entropies(run: Record) -> dict[str, np.ndarray]:
    """Return KL(p || law of the field's ODE) of each field, shape (seeds,)."""
    return dict(zip(FIELDS, run.arrays("net_density")["gap"].mean(axis=-1)))


def counts(run: Record, name: str) -> np.ndarray:
    """Return whether the count at each point is right, by law, seed, time and point; NaN where
    there is no field or no path."""
    about, values = run.arrays("dimension_laws"), run.arrays(f"{name}_values")["values"]
    found = np.full(values.shape[:-1], np.nan)
    for i, (dim, intrinsic) in enumerate(zip(about["dims"], about["intrinsic"])):
        own = values[i, ..., :dim]
        known = np.isfinite(own).all(axis=-1)
        count = np.asarray(diagnostics.count_by_gap(np.where(known[..., None], own, 1.0)))
        found[i] = np.where(known, count == intrinsic, np.nan)
    return found


def success(run: Record, name: str) -> np.ndarray:
    """Return the share of points with the right count, shape (laws, seeds, times); NaN where the
    field does not exist."""
    right = counts(run, name)
    known = np.isfinite(right)
    total = np.where(known, right, 0.0).sum(axis=-1)
    return np.where(known.any(axis=-1), total / np.maximum(known.sum(axis=-1), 1), np.nan)


def final_success(run: Record, name: str) -> np.ndarray:
    """Return the share at the last time, mean over the laws that have the field, shape (seeds,)."""
    last = success(run, name)[..., -1]
    return last[np.isfinite(last).all(axis=1)].mean(axis=0)


def last_counts(run: Record, name: str, place: int) -> Counts:
    """Return how many points of the law at `place` have the right count at the last time."""
    right = counts(run, name)[place, :, -1]
    return Counts(np.nansum(right, axis=-1), np.isfinite(right).sum(axis=-1))


def planes(run: Record) -> list[int]:
    """Return the places of the Gaussian laws."""
    names = run.arrays("dimension_laws")["names"]
    return [i for i, name in enumerate(names) if str(name).startswith("plane")]


def plane_values(run: Record, dim: int) -> np.ndarray:
    """Return the exact singular values sqrt(v_i(t) / v_i(1)) of the plane at the read times, v_i =
    alpha^2 l_i + sigma^2, shape (times, dim)."""
    from dfx import schedules

    schedule = schedules.make("vp_linear", **run.config.schedule)
    variances = np.concatenate([PLANE, np.zeros(dim - len(PLANE))])

    def at(t):
        level = schedule.at(t)
        return level.alpha[:, None] ** 2 * variances + level.sigma[:, None] ** 2

    times = run.arrays("dimension_laws")["times"]
    return np.sqrt(at(times) / at(np.ones(1)))


def plane_gap(run: Record, name: str) -> np.ndarray:
    """Return the largest |log(singular value / exact)| over points and times, shape (seeds,)."""
    place = planes(run)[0]
    dim = run.arrays("dimension_laws")["dims"][place]
    values = run.arrays(f"{name}_values")["values"][place, ..., :dim]
    gap = np.abs(np.log(values / plane_values(run, int(dim))[:, None]))
    return gap.max(axis=(1, 2, 3))


METHODS_OF_DIMENSION = (*CLOSED, *NETS)
