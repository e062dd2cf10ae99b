"""Exact scores with planted errors of equal size: which of them the samples feel.

On three modes in two dimensions (`perturbed`), with A = [[0, 1], [-1, 0]] and sizes c:

    gauge:     e = c A s,               harmless at every c in continuous time,
    gradient:  e = c w(t) grad u,       the same E_p|e|^2 at every t, no asymmetry,
    twin:      e = b s + a A s,         |e| = c |s| and the asymmetry of the gauge error, at every
                                        point: b = -2 c^2 / (1 + c^2), a^2 + b^2 = c^2.

The twin: s + e = ((1 + b) I + a A) s with a / (1 + b) = c, so its Jacobian is 1 + b times that of
the gauge field, and the normalised asymmetry is the same. In the plane of (1 + b, a) both lie on
the circle of radius c round (1, 0), on one line through 0.

Kept: `errors` (samples' W_2 by kind, size and set), `errors_norms` (E|e|^2 and the asymmetry by
kind, size and noise level), `errors_steps` (W_2 against the number of Euler steps).
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dfx import diagnostics, fields
from experiments.score_or_flow.identities import SCHEDULE
from experiments.score_or_flow.rates import time_of
from experiments.shared import perturbed

KINDS = ("gauge", "gradient", "twin")


def errors(config, run) -> None:
    """Compute the part."""
    bed = perturbed.Bed(perturbed.three_modes(), SCHEDULE)
    weight = run.arrays("errors_weight", lambda: equal_weights(config, bed))
    planted = plant(config, bed, diagnostics.TimeTable(weight["times"], weight["values"]))
    run.arrays("errors_norms", lambda: norms(config, bed, planted))
    run.arrays("errors", lambda: distances(config, run, bed, planted))
    run.arrays("errors_steps", lambda: few_steps(config, bed, planted))


def equal_weights(config, bed) -> dict[str, np.ndarray]:
    """Return the times and the weight that gives grad u the size of the score."""
    times = np.sort(time_of(bed.schedule, level_grid(config)))
    error = diagnostics.gradient_of(perturbed.ripple)
    table = perturbed.equal_weight(
        bed, error, perturbed.gauge_error(bed), jax.random.key(config.seed + 1), times,
        config.errors.num_points,
    )  # fmt: skip
    return {"times": np.asarray(table.times), "values": np.asarray(table.values)}


def level_grid(config) -> np.ndarray:
    """Return the noise levels sigma / alpha, falling, equally spaced in their logarithm."""
    levels = config.levels
    return np.geomspace(levels.high, levels.low, levels.count)


def twin_parts(size: float) -> tuple[float, float]:
    """Return (b, a) of the twin: the error b s + a A s of size c = `size`."""
    b = -2 * size**2 / (1 + size**2)
    return b, float(np.sqrt(size**2 - b**2))


def plant(config, bed, weight) -> dict[tuple[str, float], Any]:
    """Return the erroneous fields: (kind, size) -> field. Size 0 is the exact one, once."""
    sizes = config.errors.sizes
    planted = {("gauge", c): _field(bed, gauge=c, weight=weight) for c in sizes}
    planted |= {("gradient", c): _field(bed, gradient=c, weight=weight) for c in sizes if c > 0}
    b, a = twin_parts(config.errors.twin)
    planted["twin", config.errors.twin] = _field(bed, gauge=a, along=b, weight=weight)
    return planted


def _field(bed, gauge: float = 0.0, gradient: float = 0.0, along: float = 0.0, weight=None):
    """The exact field with all errors, of which some are 0: one program serves all fields."""
    ripple = diagnostics.gradient_of(perturbed.ripple)
    score = fields.as_prediction(bed.exact, "score")
    field = diagnostics.with_error(bed.exact, ripple, perturbed.scaled(weight, gradient))
    field = diagnostics.with_error(field, score, along)
    return diagnostics.with_error(field, perturbed.gauge_error(bed), gauge)


def norms(config, bed, planted) -> dict[str, np.ndarray]:
    """Return E|e|^2, E|s|^2 and the normalised asymmetry of each field, (fields, levels), on draws
    that the weights have not seen; and a second asymmetry, the floor, of the exact score."""
    times = time_of(bed.schedule, level_grid(config))
    key = jax.random.key(config.seed + 2)
    draws = [
        bed.draw(jax.random.fold_in(key, i), config.errors.num_points, float(t))
        for i, t in enumerate(times)
    ]
    rows = [
        np.stack([_norms(bed, field, x, jnp.float32(t)) for x, t in zip(draws, times)], axis=1)
        for field in planted.values()
    ]
    error, asymmetry, score = np.stack(rows, axis=1)
    return {**_labels(planted), "error": error, "asymmetry": asymmetry, "score": score[0]}


@jax.jit
def _norms(bed, field, x, t):
    level = bed.schedule.at(t)
    e = diagnostics.score_error(field, bed.exact, level)(x)
    s = diagnostics.prediction_at(bed.exact, level)(x)
    found = diagnostics.asymmetry(diagnostics.prediction_at(field, level), x)
    square = lambda a: jnp.mean(jnp.sum(a * a, axis=1))  # noqa: E731
    return jnp.stack([square(e), diagnostics.pooled(found).ratio, square(s)])


def _labels(planted) -> dict[str, np.ndarray]:
    kinds, sizes = zip(*planted)
    return {"kinds": np.asarray(kinds), "sizes": np.asarray(sizes)}


def distances(config, run, bed, planted) -> dict[str, np.ndarray]:
    """Return W_2 of the samples to the truth (fields, sets), by fine Runge-Kutta steps, and that
    of two exact sets of that size (sets,)."""
    sample = functools.partial(_sample, config, bed, "flow_rk4", config.errors.num_steps)
    truth, other = (_truth(config, bed, copy) for copy in (0, 1))
    found = []
    with run.progress(len(planted), "errors", unit="field") as bar:
        for field in planted.values():
            x = sample(field)
            found.append(perturbed.distances(x, truth))
            bar.update(1)
    return {**_labels(planted), "w2": np.stack(found), "floor": perturbed.distances(other, truth)}


def few_steps(config, bed, planted) -> dict[str, np.ndarray]:
    """Return W_2 to the truth at few Euler steps, (gauge sizes, numbers of steps, sets)."""
    truth = _truth(config, bed, 0)
    gauge = {size: field for (kind, size), field in planted.items() if kind == "gauge"}
    found = [
        [
            perturbed.distances(_sample(config, bed, "flow_euler", nfe, field), truth)
            for nfe in config.errors.nfe
        ]
        for field in gauge.values()
    ]
    return {
        "sizes": np.asarray(list(gauge)), "nfe": np.asarray(config.errors.nfe),
        "w2": np.asarray(found),
    }  # fmt: skip


def _sample(config, bed, solver: str, num_steps: int, field) -> np.ndarray:
    keys, stops = _keys(config), _stops(config, bed)
    return perturbed.sample(
        bed, field, keys, config.errors.num_samples, solver, num_steps, stops
    )[-1]  # fmt: skip


def _truth(config, bed, copy: int) -> np.ndarray:
    stops = _stops(config, bed)
    return perturbed.truth(bed, _keys(config), config.errors.num_samples, stops, copy)[-1]


def _stops(config, bed) -> tuple[float]:
    return (float(time_of(bed.schedule, config.levels.low)),)


def _keys(config) -> jax.Array:
    return jax.random.split(jax.random.key(config.seed + 3), config.errors.num_sets)
