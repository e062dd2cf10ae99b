"""What the study `guided_sampling` reads off its laws, samples and errors.

A law on the line is a map of normal quantiles z (`ends`), a set of samples, or a density on a grid.
"""

from __future__ import annotations

import numpy as np
from scipy import special

from dfx.runs import Record

#: Data have unit size; a sample that ends this far from where it should is lost.
LOST = 1.0

#: The weight that the authors of CFG++ set against the scale 0.6.
AUTHORS_WEIGHT = 7.5


def normal_weights(z) -> np.ndarray:
    """Return the standard normal weights of equally spaced z, which add up to 1, shape of z."""
    weights = np.exp(-0.5 * z**2)
    return weights / weights.sum()


def moments(z, ends) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of the laws `ends` (..., m) of z (m,), shape (...)."""
    weights = normal_weights(z)
    mean = ends @ weights
    return mean, np.sqrt((ends - mean[..., None]) ** 2 @ weights)


def flow_density(z, ends) -> np.ndarray:
    """Return the density at `ends` (..., m) of a rising map of z: phi(z) / (d ends / dz)."""
    return np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi) / np.gradient(ends, z, axis=-1)


def cumulative(x, density) -> np.ndarray:
    """Return the distribution function on the grid x of a density there, from 0 to 1, shape (m,).

    By the trapezoidal rule: off by the square of the spacing.
    """
    parts = 0.5 * (density[1:] + density[:-1]) * np.diff(x)
    whole = np.concatenate([[0.0], np.cumsum(parts)])
    return whole / whole[-1]


def quantiles(x, density, levels) -> np.ndarray:
    """Return the quantiles of a density on the grid x, shape of levels, which lie in [0, 1]."""
    return np.interp(levels, cumulative(x, density), x)


def flow_distance(z, ends, x, density, power: float = 1.0) -> float:
    """Return W_p between a rising map of z and a density: both quantile functions at Phi(z)."""
    return map_distance(z, ends, quantiles(x, density, special.ndtr(z)), power)


def map_distance(z, ends, others, power: float = 1.0) -> float:
    """Return W_p between two rising maps (m,) of z."""
    gaps = np.abs(ends - others) ** power
    return float(gaps @ normal_weights(z)) ** (1 / power)


def sample_distance(samples, x, density) -> np.ndarray:
    """Return W_1 between sets of samples (..., n) and a density, shape (...).

    The quantiles of the density are taken in the middle of the n steps: off by 1 / n^2 of the
    density's width, next to a sampling error of 1 / sqrt(n).
    """
    n = samples.shape[-1]
    exact = quantiles(x, density, (np.arange(n) + 0.5) / n)
    return np.abs(np.sort(np.asarray(samples, np.float64), axis=-1) - exact).mean(-1)


def sampling_floor(x, density, n: int) -> float:
    """Return the mean W_1 of n exact samples of a density: sqrt(2 / (pi n)) int sqrt(F (1 - F)) dx.

    Each point of the empirical distribution function is normal with variance F (1 - F) / n (del
    Barrio, Gine & Matran 1999).
    """
    below = cumulative(x, density)
    spread = np.sqrt(np.maximum(below * (1 - below), 0.0))
    return float(np.sqrt(2 / (np.pi * n)) * np.trapezoid(spread, x))


class Stability:
    """The errors of the solvers on one law.

    Attributes:
      methods: their names.
      weights, evaluations: of the config.
      error: root mean square distance to the tight solve, (spacings, methods, evaluations, weights,
        seeds); inf where a sample is not finite.
      lost: share of samples off by more than LOST, same shape.
      outside: share outside the box of the data, same shape; `exact_outside` (weights, seeds) is
        that of the tight solve.
    """

    def __init__(self, run: Record, name: str, clipped: bool = False):
        """Read the arrays of a law, with the denoiser clipped to the box or not."""
        arrays = run.arrays(f"stability_{name}" + ("_clipped" if clipped else ""))
        settings = run.config.stability
        self.methods = [str(method) for method in arrays["methods"]]
        self.weights, self.evaluations = list(settings.weights), list(settings.evaluations)
        self.spacings = list(settings.spacings)
        distance = np.nan_to_num(arrays["error"], nan=np.inf, posinf=np.inf)
        self.error = np.sqrt((distance**2).mean(-1))
        self.lost = (distance > LOST).mean(-1)
        self.outside = arrays["outside"].mean(-1)
        self.exact_outside = arrays["exact_outside"].mean(-1)

    def at(self, values, spacing: str, method: str, evaluations: int) -> np.ndarray:
        """Return the entry of `values` of one solver on one grid of times, (weights, seeds)."""
        row = self.spacings.index(spacing), self.methods.index(method)
        return values[*row, self.evaluations.index(evaluations)]

    def ratio(self, spacing: str, pair, evaluations: int, weight: float) -> np.ndarray:
        """Return the error of the first method of a pair over that of the second, (seeds,)."""
        first, second = (self.at(self.error, spacing, name, evaluations) for name in pair)
        column = self.weights.index(weight)
        return first[column] / second[column]


def is_clipped(run: Record, name: str) -> bool:
    """Whether a law was solved with its denoiser clipped to the box of its data too."""
    return f"stability_{name}_clipped" in run.names()


def tilted_distances(run: Record) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return W_1 to the tilted law at each weight: of the ODE from infinite noise (weights,), of
    the SDE (weights, seeds), and of exact samples in its place (weights,)."""
    tilted, ode, sde = (run.arrays(name) for name in ("tilted", "ode", "sde"))
    x = tilted["x"]
    of_flow, of_samples, floor = [], [], []
    for density, ends, samples in zip(tilted["density"], ode["ends"], sde["x"]):
        of_flow.append(flow_distance(ode["z"], ends, x, density))
        of_samples.append(sample_distance(samples, x, density))
        floor.append(sampling_floor(x, density, samples.shape[-1]))
    return np.asarray(of_flow), np.stack(of_samples), np.asarray(floor)


def corrected_distances(run: Record, name: str) -> tuple[np.ndarray, float]:
    """Return W_1 to the tilted law of the samples `name` ("corrected", "relaxed"), shape (rows,
    seeds), and of exact samples in their place."""
    tilted, samples = run.arrays("tilted"), run.arrays(name)["x"]
    row = list(run.config.tilt.weights).index(run.config.corrector.weight)
    density = tilted["density"][row]
    floor = sampling_floor(tilted["x"], density, samples.shape[-1])
    return sample_distance(samples, tilted["x"], density), floor


def round_trip_errors(run: Record) -> dict[str, np.ndarray]:
    """Return the root mean square errors of the round trip: `free` of CFG (steps, weights, seeds),
    `plus` of CFG++ (steps, scales, seeds) and `matched` of CFG at the mean weights that the scales
    amount to, which are `effective` (steps, scales)."""
    arrays = run.arrays("round_trip")
    errors = {name: np.sqrt((arrays[name] ** 2).mean(-1)) for name in ("free", "plus", "matched")}
    return errors | {"effective": arrays["effective"]}


def round_trip_ratios(run: Record, weight: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the round trip's error of CFG++ at the config's scale over that of CFG, each of shape
    (steps, seeds): CFG at a nominal weight, and at the mean weight that the scale amounts to."""
    errors, settings = round_trip_errors(run), run.config.cfgpp
    row = list(settings.scales).index(settings.scale)
    plus = errors["plus"][:, row]
    nominal = errors["free"][:, list(settings.weights).index(weight)]
    return plus / nominal, plus / errors["matched"][:, row]


def autoguided(run: Record, name: str) -> np.ndarray:
    """Return W_2 to the truth of an autoguided law at each weight and, last, at w*, (m + 1,)."""
    arrays = run.arrays("autoguidance")
    ends = [*arrays[name], arrays[f"{name}.best"]]
    return np.asarray(
        [map_distance(arrays["z"], end, arrays[f"truth.{name}"], 2.0) for end in ends]
    )


def best_weight(run: Record, name: str) -> tuple[float, float, np.ndarray]:
    """Return the weight of the smallest W_2 to the truth of an autoguided law, the spacing of the
    weights, and W_2 at each (weights,)."""
    weights = run.arrays("autoguidance")["weights"]
    found = autoguided(run, name)[:-1]
    return float(weights[found.argmin()]), float(weights[1] - weights[0]), found
