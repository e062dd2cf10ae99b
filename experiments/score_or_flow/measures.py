"""What is read off the fields of the nets in two dimensions, level by level, on exact draws and on
their own trajectories: asymmetry, error, residuals, circulation, samples."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dfx import diagnostics, evolution, fields, nets, schedules, solvers
from experiments.score_or_flow.errors import level_grid
from experiments.score_or_flow.identities import SCHEDULE
from experiments.score_or_flow.nets import (
    BED,
    draws,
    half_log_snr,
    make_kind,
    member_keys,
    net_field,
    snapshot_steps,
    truth,
)
from experiments.score_or_flow.rates import time_of
from experiments.shared import perturbed

#: Runge-Kutta steps from one noise level to the next, and steps of the reverse SDE.
SUBSTEPS, SDE_STEPS = 8, 1000


def measure(config, run, field, kind: str, times) -> dict[str, np.ndarray]:
    """Return what `_look` and `_residuals` see at each level, (members, levels), on draws and, by
    names ending in _own, on the model's own trajectories; and samples of its ODE and SDE."""
    keys, settings = member_keys(config, 0), config.toy
    residual = _residuals(make_kind(kind, settings).net)
    paths = trajectories(field, keys, settings.num_samples, times)
    rows: dict[str, list] = {}
    with run.progress(len(times), f"{kind} fields", unit="level") as bar:
        for t, path in zip(map(float, times), paths):
            x, own = draws(keys, settings.num_points, t), path[:, : settings.num_points]
            seen = list(_look(field, x, jnp.float32(t)).items())
            seen += [(f"{n}_own", v) for n, v in _look(field, own, jnp.float32(t)).items()]
            for name, value in [*seen, *residual(field, x, jnp.float32(t)).items()]:
                rows.setdefault(name, []).append(np.asarray(value))
            bar.update(1)
    found = {name: np.stack(values, axis=1) for name, values in rows.items()}
    noise = sde_samples(config, field, keys, float(times[-1]))
    return {"t": times, "level": level_grid(config), **found, "ode": paths[-1], "sde": noise}


def measure_exact(config, field, times) -> dict[str, np.ndarray]:
    """Return what `_look` sees of the exact score on draws: the floor of the working precision."""
    keys = member_keys(config, 0)
    seen = [
        _look(field, draws(keys, config.toy.num_points, float(t)), jnp.float32(t)) for t in times
    ]
    found = {name: np.stack([np.asarray(row[name]) for row in seen], axis=1) for name in seen[0]}
    return {"t": times, "level": level_grid(config), **found}


@jax.jit
def _look(field, x, t) -> dict[str, Any]:
    """Pooled asymmetry with its standard error, median, and E|eps error|^2, for each member."""
    level = SCHEDULE.at(t)

    def one(field, x):
        found = diagnostics.asymmetry(diagnostics.prediction_at(field, level), x)
        ratio = diagnostics.pooled(found)
        error = level.sigma * diagnostics.score_error(field, BED.exact, level)(x)
        return {
            "asymmetry": ratio.ratio,
            "asymmetry_error": ratio.standard_error,
            "asymmetry_median": ratio.median,
            "error": jnp.mean(jnp.sum(error**2, axis=1)),
        }

    return jax.vmap(one)(field, x)


@functools.cache
def _residuals(net) -> Callable:
    """Return the function that gives the mean square of the score residual, times (sigma^3 /
    g^2)^2, and of an energy net the variance over x of R, times (sigma^2 / g^2)^2."""

    def one(field, x, t):
        level, rate = SCHEDULE.at(t), schedules.diffusion(SCHEDULE, t)
        score = diagnostics.score_residual(SCHEDULE, field, x, t) * level.sigma**3 / rate
        found = {"score_residual": jnp.mean(jnp.sum(score**2, axis=1))}
        if isinstance(net, nets.energy.EnergyNet):
            log_p = nets.energy.log_density(net, field.params, time=half_log_snr)
            residual = diagnostics.potential_residual(SCHEDULE, log_p, x, t)
            variance = diagnostics.spatial(residual).variance
            found["potential_residual"] = variance * (level.sigma**2 / rate) ** 2
        return found

    return jax.jit(jax.vmap(one, in_axes=(0, 0, None)))


def trajectories(field, keys, n: int, times) -> np.ndarray:
    """Return samples of each member's flow at each time, (levels, m, n, 2), from exact starts."""
    x = draws(keys, n, float(SCHEDULE.end_time))
    found = []
    for start, end in zip(np.append(float(SCHEDULE.end_time), times[:-1]), times):
        grid = schedules.grids.uniform_log_snr(SCHEDULE, SUBSTEPS, float(start), float(end))
        x = _flow(field, x, jnp.asarray(grid, jnp.float32))
        found.append(np.asarray(x))
    return np.stack(found)


@jax.jit
def _flow(field, x, times):
    move = lambda field, x: evolution.move(  # noqa: E731
        evolution.reverse(SCHEDULE, field, 0.0), x, times
    )
    return jax.vmap(move)(field, x)


def sde_samples(config, field, keys, end: float) -> np.ndarray:
    """Return samples of each member by its reverse SDE, shape (m, n, 2)."""
    grid = schedules.grids.uniform_log_snr(SCHEDULE, SDE_STEPS, end=end)
    tableau = solvers.make("ddpm", SCHEDULE, grid)
    x = draws(keys, config.toy.num_samples, float(SCHEDULE.end_time))
    found = []
    for i, key in enumerate(keys):
        one = jax.tree.map(lambda leaf, i=i: leaf[i], field)
        found.append(np.asarray(solvers.sample(tableau, one, x[i], jax.random.fold_in(key, 1))))
    return np.stack(found)


def training_curve(config, snapshots, times) -> dict[str, np.ndarray]:
    """Return asymmetry and eps error (m, steps, levels) and W_2 (m, steps) along the training of
    the free nets, the same draws and starts after every number of steps."""
    keys, exact = member_keys(config, 0), truth(config, 0)
    asymmetry, error, distance = [], [], []
    for params in snapshots:
        field = net_field("free", config, params)
        seen = [
            _look(field, draws(keys, config.toy.num_points, float(t)), jnp.float32(t))
            for t in times
        ]
        asymmetry.append(np.stack([row["asymmetry"] for row in seen], axis=1))
        error.append(np.stack([row["error"] for row in seen], axis=1))
        x = trajectories(field, keys, config.toy.num_samples, times)[-1]
        distance.append(perturbed.distances(x, exact))
    return {
        "steps": np.asarray(snapshot_steps(config)),
        "asymmetry": np.stack(asymmetry, axis=1),
        "error": np.stack(error, axis=1),
        "w2": np.stack(distance, axis=1),
    }


def quiver(field, times) -> dict[str, np.ndarray]:
    """Return the score of the first net on a square grid, (n, 2) each, at the level nearest to
    sigma / alpha = 0.3, with the exact score and density there."""
    t = times[np.argmin(np.abs(times - time_of(SCHEDULE, 0.3)))]
    level, side = SCHEDULE.at(float(t)), np.linspace(-1.9, 1.9, 24, dtype=np.float32)
    x = np.stack(np.meshgrid(side, side, indexing="ij"), -1).reshape(-1, 2)
    found = _scores(jax.tree.map(lambda a: a[0], field), x, level)
    scales = {"sigma": level.sigma, "ratio": level.sigma / level.alpha}
    return {"x": x, **{name: np.asarray(a) for name, a in (found | scales).items()}}


@jax.jit
def _scores(field, x, level) -> dict[str, Any]:
    return {
        "score": diagnostics.prediction_at(field, level)(x),
        "exact": BED.target.score(x, level),
        "log_p": BED.target.log_prob(x, level),
    }


def loops(config, field, times) -> dict[str, np.ndarray]:
    """Return normalised circulations (m, levels, radii, loops) round draws of p_t, and the ratio
    of C to pi r^2 e2.(J - J^T) e1 at the centre; radii in units of sigma; in float64."""
    settings = config.toy
    with jax.enable_x64(True):
        field = jax.tree.map(lambda a: np.asarray(a, np.float64), field)
        keys, rows = member_keys(config, 1), []
        for t in times:
            x = draws(keys, settings.num_loops, float(t), jnp.float64)
            radii = jnp.asarray(settings.radii) * SCHEDULE.at(float(t)).sigma
            rows.append(jax.tree.map(np.asarray, _loops(field, x, jnp.float64(t), radii)))
    value, curl = (np.stack(parts, axis=1) for parts in zip(*rows))
    return {"level": level_grid(config), "circulation": value, "over_curl": curl}


NODES = 256


@jax.jit
def _loops(field, x, t, radii):
    level, plane = SCHEDULE.at(t), jnp.eye(2, dtype=x.dtype)

    def one(field, x, radius):
        view = diagnostics.prediction_at(field, level)
        found = diagnostics.circulation(
            view, diagnostics.circle(x, radius, plane[0], plane[1], NODES)
        )
        jacobian = fields.jacobian(view, x[None])[0]
        curl = jacobian[1, 0] - jacobian[0, 1]
        return found.normalised, found.value / (jnp.pi * radius**2 * curl)

    for axes in ((None, 0, None), (None, None, 0), (0, 0, None)):
        one = jax.vmap(one, axes)
    value, curl = one(field, x, radii)
    return value, curl
