"""Closed-form scores with planted errors: claims 1 to 4 of the study `gauge_freedom`.

The test bed is `experiments.shared.perturbed`: three Gaussians in the plane, VP noise. Axes of the
arrays: error kind (gauge, gradient), size, stop, seed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dfx import diagnostics, evolution, schedules, solvers, targets
from dfx.schedules import grids
from experiments.shared import perturbed

KINDS = ("gauge", "gradient")
METHODS = {"flow_euler": 1, "flow_heun": 2, "flow_rk4": 4}  # evaluations a step

#: Between which times the weight of the gradient error is tabulated, and at how many.
FIRST_TABLE_TIME, TABLE_TIMES = 1e-4, 40

#: Samples kept for a figure.
SHOWN = 600


def make_bed(config) -> perturbed.Bed:
    """Return the test bed of the config's schedule."""
    schedule = schedules.make("vp_linear", **config.schedule)
    return perturbed.Bed(perturbed.three_modes(), schedule)


def seed_keys(config, num_seeds: int, part: int) -> jax.Array:
    """Return one key a seed, others for every part."""
    return jax.random.split(jax.random.fold_in(jax.random.key(config.seed), part), num_seeds)


def table_times(bed) -> np.ndarray:
    """Return the times of the gradient error's weight, denser near the data."""
    end = float(bed.schedule.end_time)
    return np.linspace(FIRST_TABLE_TIME**0.5, end**0.5, TABLE_TIMES) ** 2


def with_gauge(bed, size):
    """Return the exact field with a gauge error, E_p|r|^2 = size^2 E_p|s|^2 at every time."""
    return diagnostics.with_error(bed.exact, perturbed.gauge_error(bed, size))


def with_both(bed, unit, gauge=0.0, gradient=0.0):
    """Return the exact field with errors of both kinds, each of E_p|r|^2 = size^2 E_p|s|^2; `unit`
    as `gradient_weight` returns it. With one of them 0: one program serves both kinds."""
    weight = perturbed.scaled(unit, gradient)
    ripple = diagnostics.gradient_of(perturbed.ripple)
    return diagnostics.with_error(with_gauge(bed, gauge), ripple, weight)


def gradient_weight(config, bed) -> diagnostics.TimeTable:
    """Return the weight at which the gradient error has the size of the score."""
    ripple = diagnostics.gradient_of(perturbed.ripple)
    key = jax.random.fold_in(jax.random.key(config.seed), 100)
    gauge = perturbed.gauge_error(bed)
    return perturbed.equal_weight(bed, ripple, gauge, key, table_times(bed))


def laws(config, run) -> None:
    """Claims 1 to 3: W_2 of marginals to the truth, of both kinds and all sizes, by ODE and SDE."""
    settings, bed = config.exact, make_bed(config)
    keys = seed_keys(config, settings.num_seeds, 0)
    draws = functools.partial(perturbed.truth, bed, keys, settings.num_samples, settings.stops)
    weight = run.arrays("weight", lambda: vars(gradient_weight(config, bed)))
    unit = diagnostics.TimeTable(**weight)
    run.arrays("sizes", lambda: error_sizes(config, bed, unit))
    run.arrays("floor", lambda: {"w2": perturbed.distances(draws(0), draws(1))})
    ways = {"ode": ("flow_rk4", settings.ode_steps), "sde": ("sa_solver", settings.sde_steps)}
    for way, (solver, num_steps) in ways.items():
        plan = way, solver, num_steps
        run.arrays(way, functools.partial(_law, config, run, bed, unit, draws(0), keys, plan))


def _law(config, run, bed, unit, truth, keys, plan) -> dict[str, np.ndarray]:
    settings = config.exact
    way, solver, num_steps = plan

    def compare(field):
        x = perturbed.sample(
            bed, field, keys, settings.num_samples, solver, num_steps, settings.stops
        )
        bar.update(1)
        return perturbed.distances(x, truth), x[-1, 0, :SHOWN]

    with run.progress(1 + len(KINDS) * len(settings.sizes), way, unit="field") as bar:
        none, x_none = compare(with_both(bed, unit))
        pairs = [
            compare(with_both(bed, unit, **{kind: size}))
            for kind in KINDS
            for size in settings.sizes
        ]
    shape = len(KINDS), len(settings.sizes)
    w2, x = (np.stack(a).reshape(*shape, *a[0].shape) for a in zip(*pairs))
    return {"none": none, "w2": w2, "x": x, "x_none": x_none, "x_truth": truth[-1, 0, :SHOWN]}


def error_sizes(config, bed, unit) -> dict[str, np.ndarray]:
    """Return E_p|r|^2 of both kinds at size 1 and E_p|s|^2, between the times of the table."""
    times = table_times(bed)
    middle = 0.5 * (times[:-1] + times[1:])
    rows: dict[str, tuple[Callable, Any]] = {
        "gauge": (perturbed.gauge_error(bed), 1.0),
        "gradient": (diagnostics.gradient_of(perturbed.ripple), unit),
    }
    key = jax.random.fold_in(jax.random.key(config.seed), 101)
    return {"times": middle, **perturbed.sizes(bed, rows, key, middle)}


#: Where the schematic looks: a time, the size of its gauge part, and half the side of its square.
SCHEMATIC_TIME, SCHEMATIC_SIZE, SCHEMATIC_SIDE = 0.1, 1.0, 2.2


def schematic(config, run) -> None:
    """The picture of the idea: score, gauge part and their sum as arrows over the density."""
    run.arrays("schematic", lambda: _schematic(make_bed(config)))


def _schematic(bed) -> dict[str, np.ndarray]:
    level = bed.schedule.at(SCHEMATIC_TIME)

    def square(n):
        axis = np.linspace(-SCHEMATIC_SIDE, SCHEMATIC_SIDE, n, dtype=np.float32)
        return np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)

    score = np.asarray(_score(bed.target, square(15), level))
    return {
        "x": square(15),
        "score": score,
        "gauge": SCHEMATIC_SIZE * score @ perturbed.TURN.T,
        "density_x": square(80),
        "density": np.exp(_log_prob(bed.target, square(80), level)),
    }


_score = jax.jit(lambda target, x, level: target.score(x, level))


def density(config, run) -> None:
    """Claim 1: the log-density along the model's own path, against the number of RK4 steps."""
    run.arrays("density", lambda: _density(config, run))


def _density(config, run) -> dict[str, np.ndarray]:
    settings, bed, last = config.density, make_bed(config), config.exact.stops[-1]
    level, noise = bed.schedule.at(last), bed.schedule.at(bed.schedule.end_time)
    sizes = (0.0, *config.exact.sizes)
    with jax.enable_x64(True), run.progress(len(settings.steps), "density") as bar:
        key = seed_keys(config, 1, 1)[0]
        x = bed.draw(key, settings.num_points, last, jnp.float64)
        exact = _log_prob(bed.target, x, level)
        errors = []
        for num_steps in settings.steps:
            # In pieces of equal length, which are one compiled program for all numbers of steps.
            times = np.linspace(last, float(noise.t), num_steps + 1)
            pieces = [
                times[i : i + settings.steps[0] + 1] for i in range(0, num_steps, settings.steps[0])
            ]
            errors.append([_path_error(bed, size, x, pieces, exact, noise) for size in sizes])
            bar.update(1)
    return {"steps": np.asarray(settings.steps), "sizes": np.asarray(sizes),
            "error": np.swapaxes(errors, 0, 1)}  # fmt: skip


_log_prob = jax.jit(lambda target, x, level: target.log_prob(x, level))


def _path_error(bed, size, x, pieces, exact, noise) -> np.ndarray:
    """|log q - log p| at each point, q the law that the erroneous field carries from p_T:

    log q(x) = log p_T(x_T) - change, x_T the point whose path ends at x, found by going back.
    """
    field = with_gauge(bed, size)
    motion, change = evolution.reverse(bed.schedule, field, 0.0), 0.0
    for times in pieces:
        x, more = evolution.move_with_density(motion, x, times)
        change = change + more
    return np.abs(np.asarray(_log_prob(bed.target, x, noise) - change - exact))


def rotation(config, run) -> None:
    """Claim 4: radii of N(0, I) under a pure rotation by Euler, Heun and RK4."""
    run.arrays("rotation", lambda: _rotation(config))


#: Rotations start at the end of a schedule of constant rate and end here, just short of the data.
ROTATION_END = 1e-6


def _rotation(config) -> dict[str, np.ndarray]:
    """The exact score of N(0, I) moves nothing; r = c A s turns all by c rate / 2 per unit time."""
    settings, rate = config.rotation, 10.0
    schedule = schedules.make("vp_linear", beta_min=rate, beta_max=rate)
    bed = perturbed.Bed(targets.Mixture.isotropic(np.zeros((1, 2)), 1.0), schedule)
    size = 2 * settings.speed / rate
    with jax.enable_x64(True):
        field = with_gauge(bed, size)
        x = jnp.asarray([[1.0, 0.0], [0.0, 2.0]])
        factors = []
        for tableau in solvers.pad(
            [
                solvers.make(name, schedule, grids.uniform(schedule, n, end=ROTATION_END))
                for name in METHODS
                for n in settings.steps
            ]
        ):
            end = solvers.sample(tableau, field, x)
            factors.append(np.asarray(jnp.linalg.norm(end, axis=1) / jnp.linalg.norm(x, axis=1)))
    shape = len(METHODS), len(settings.steps), -1
    return {"steps": np.asarray(settings.steps), "factor": np.reshape(factors, shape),
            "length": np.asarray(1 - ROTATION_END)}  # fmt: skip


def evaluations(config, run) -> None:
    """Claim 4: W_2 against the number of evaluations, with and without the gauge error."""
    run.arrays("evaluations", lambda: _evaluations(config, run))


def _evaluations(config, run) -> dict[str, np.ndarray]:
    settings, bed, last = config.evaluations, make_bed(config), config.exact.stops[-1]
    keys, n = seed_keys(config, config.exact.num_seeds, 2), config.exact.num_samples
    truth = perturbed.truth(bed, keys, n, (last,))
    tableaus = solvers.pad(
        [
            solvers.make(name, bed.schedule, grids.uniform(bed.schedule, m // cost, end=last))
            for name, cost in METHODS.items()
            for m in settings.budgets
        ]
    )
    rows = []
    with run.progress(2 * len(tableaus), "evaluations", unit="solver") as bar:
        for size in (0.0, settings.size):
            for tableau in tableaus:
                x = perturbed.follow(bed, with_gauge(bed, size), keys, n, [tableau])
                rows.append(perturbed.distances(x, truth)[0])
                bar.update(1)
    floor = perturbed.distances(perturbed.truth(bed, keys, n, (last,), 1), truth)[0]
    shape = 2, len(METHODS), len(settings.budgets), len(keys)
    return {"w2": np.reshape(rows, shape), "floor": floor}
