"""How fast the law of an erroneous field leaves the true one, measured and predicted.

In forward time the laws p_t of the exact velocity v and q_t of v + e, equal at the end time, obey

    d/dt KL(p_t | q_t) = -E_p[e . grad log(p_t / q_t)].

Measured: log q_t at the centres of a grid along the paths of the field (no grid error), KL by
summation, its slope by a central difference of KL at t (1 -+ h). Predicted: the mean on the right,
with grad log q_t by central differences of neighbouring paths. Then e = grad eta + r is split by
the weighted Poisson equation on a grid five times as fine, whose cells have the centres among
theirs, and each part is given its own mean. In float64 throughout.

Source: arXiv 2509.00336 for the question; the identity is that of `dfx.evolution.entropy`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dfx import diagnostics, evolution
from dfx.schedules import diffusion, grids, t_of_log_snr

#: Standard deviations that a box reaches beyond the outermost means.
REACH = 5.5

#: Cells of the fine grid in one of the coarse, along each axis.
FINE = 5  # odd: the centres of the coarse cells are among the fine ones


class Test(NamedTuple):
    """A law under a schedule and how its rates are computed: Runge-Kutta steps, cells an axis, and
    the relative step in t."""

    target: Any
    schedule: Any
    steps: int
    cells: int
    step: float


def rates(test: Test, field, levels) -> dict[str, np.ndarray]:
    """Return at each noise level sigma / alpha (arrays of the length of `levels`):

    kl: KL(p_t | q_t) in nats; measured, predicted: its slope in t; gradient, gauge: the parts of
    the prediction; error, error_gradient, error_gauge: E_p of the squares of e and its parts;
    fisher: I(p_t | q_t); clock: g^2 / sigma^2, the fall of log-SNR per unit of t.
    """
    with jax.enable_x64(True):
        rows = [_rates_at(test, field, time_of(test.schedule, level)) for level in levels]
    return {name: np.asarray([row[name] for row in rows]) for name in rows[0]}


def divergence_from(test: Test, field, level: float) -> float:
    """Return KL(p_t | q_t) in nats at a noise level sigma / alpha."""
    with jax.enable_x64(True):
        t = time_of(test.schedule, level)
        grid = box(test, t)
        return _kl(test, field, grid, t)


def time_of(schedule, level) -> Any:
    """Return the time at which sigma / alpha has this value."""
    return t_of_log_snr(schedule, -2 * np.log(np.asarray(level, np.float64)))


def box(test: Test, t: float) -> evolution.Grid:
    """Return the grid that holds p_t."""
    law = test.target.at(test.schedule.at(float(t)))
    spread = np.sqrt(np.linalg.eigvalsh(_covariances(law)).max())
    low, high = law.means.min(axis=0) - REACH * spread, law.means.max(axis=0) + REACH * spread
    return evolution.make_grid(low, high, [test.cells] * test.target.dim)


def _covariances(law) -> np.ndarray:
    """The covariance of each component, shape (k, d, d)."""
    parts = [type(law)(*_component(law, i)) for i in range(law.num_components)]
    return np.stack([part.covariance() for part in parts])


def _component(law, i: int):
    pick = lambda a: None if a is None else a[i % len(a)][None]  # noqa: E731
    weight = np.zeros(1)
    return weight, law.means[i][None], *map(pick, (law.variance, law.basis, law.spectrum))


def _rates_at(test: Test, field, t: float) -> dict[str, float]:
    grid, level = box(test, t), test.schedule.at(float(t))
    law = _law(test.target, grid, level)
    early, late = (_kl(test, field, grid, s) for s in (t * (1 - test.step), t * (1 + test.step)))
    parts = _split(test, field, grid, law.x, level)
    means = _means(law, *_log_q_and_score(test, field, grid, law.x, t), *parts["fields"])
    return {
        "t": float(t),
        "measured": (late - early) / (2 * test.step * float(t)),
        "clock": float(diffusion(test.schedule, float(t)) / level.sigma**2),
        **{name: float(value) for name, value in means.items()},
        **parts["squares"],
    }


class _Law(NamedTuple):
    """p_t at the centres x of the cells, whose masses are `weights`; those too small to count are
    0."""

    x: Any
    weights: Any
    log_p: Any
    score: Any


@jax.jit
def _law(target, grid, level) -> _Law:
    x = grid.centres(jnp.float64)
    log_p = target.log_prob(x, level)
    p = jnp.exp(log_p)
    weights = jnp.where(p > 1e-14 * p.max(), p * grid.volume, 0.0)
    return _Law(x, weights, log_p, target.score(x, level))


@jax.jit
def _means(law: _Law, log_q, score_q, total, gradient) -> dict[str, Any]:
    rate = lambda e: evolution.relative_entropy_rate(law.weights, -e, law.score, score_q)  # noqa: E731
    return {
        "kl": evolution.relative_entropy(law.weights, law.log_p, log_q),
        "predicted": rate(total),
        "gradient": rate(gradient),
        "gauge": rate(total - gradient),
        "fisher": evolution.relative_fisher(law.weights, law.score, score_q),
    }


def _kl(test: Test, field, grid, t: float) -> float:
    law = _law(test.target, grid, test.schedule.at(float(t)))
    return float(_entropy(law, _log_q(test, field, law.x, _times(test, t))))


@jax.jit
def _entropy(law: _Law, log_q):
    return evolution.relative_entropy(law.weights, law.log_p, log_q)


def _times(test: Test, t: float) -> np.ndarray:
    return grids.uniform_log_snr(test.schedule, test.steps, end=float(t))


def _log_q(test: Test, field, x, times) -> np.ndarray:
    return np.asarray(_carry(test.target, test.schedule, field, x, jnp.asarray(times)))


#: Step of the difference for the score, in cells: an error of 1e-7 of the third derivative, and
#: 1e-9 of rounding.
NUDGE = 1e-3


def _log_q_and_score(test: Test, field, grid, x, t: float):
    """log q at the centres x and its gradient there, order 2 in a step of a thousandth of a
    cell."""
    x, times, slopes = np.asarray(x), _times(test, t), []
    for step, unit in zip(NUDGE * grid.spacing, np.eye(grid.dim)):
        high, low = (_log_q(test, field, x + sign * step * unit, times) for sign in (1, -1))
        slopes.append((high - low) / (2 * step))
    return _log_q(test, field, x, times), np.stack(slopes, axis=-1)


@jax.jit
def _carry(target, schedule, field, x, times):
    motion = evolution.reverse(schedule, field, 0.0)
    start = lambda x: target.log_prob(x, schedule.at(times[0]))  # noqa: E731
    return evolution.carried_log_density(motion, x, times, start)


def _split(test: Test, field, grid, x, level) -> dict[str, Any]:
    """The velocity error at the centres x and its gradient part there, and the three squares."""
    error = lambda x: _in_chunks(_velocity_gap, x, test.target, field, level)  # noqa: E731
    log_p = lambda x: _in_chunks(_log_prob, x, test.target, level)  # noqa: E731
    edges = [
        np.linspace(low, high, FINE * test.cells + 1) for low, high in zip(grid.low, grid.high)
    ]
    split = diagnostics.split_on_grid(error, log_p, edges)
    columns = [_at_centres(g, axis) for axis, g in enumerate(split.gradient)]
    squares = {
        "error": split.parts.total,
        "error_gradient": split.parts.gradient,
        "error_gauge": split.parts.remainder,
    }
    gradient = np.stack([column.ravel() for column in columns], -1)
    return {"fields": (error(x), gradient), "squares": squares}


def _at_centres(faces: np.ndarray, axis: int) -> np.ndarray:
    """From the fine faces across an axis to the centres of the coarse cells."""
    faces, first = np.moveaxis(faces, axis, 0), FINE // 2
    middle = 0.5 * (faces[:-1] + faces[1:])  # of the fine cells 1, 2, ..
    middle = middle[first - 1 :: FINE]
    other = (slice(None), *[slice(first, None, FINE)] * (faces.ndim - 1))
    return np.moveaxis(middle[other], 0, axis)


#: Points at which the split looks at once: one program serves faces and centres.
CHUNK = 4096


def _in_chunks(function, x, *args) -> np.ndarray:
    """function(x, *args) at any number of points (n, d), each by itself."""
    x, rows = np.asarray(x), []
    for i in range(0, len(x), CHUNK):
        chunk = np.resize(x[i : i + CHUNK], (CHUNK, x.shape[1]))  # repeated to that length
        rows.append(function(chunk, *args))
    return np.concatenate(rows)[: len(x)]


@jax.jit
def _velocity_gap(x, target, field, level):
    """The velocity of the field minus the exact one, (n, d)."""
    view = diagnostics.prediction_at(field, level, "velocity")
    return view(x) - target.velocity(x, level)


@jax.jit
def _log_prob(x, target, level):
    return target.log_prob(x, level)
