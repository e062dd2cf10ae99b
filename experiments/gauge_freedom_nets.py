"""The gauge part of trained nets' score errors: claim 6 of the study `gauge_freedom`.

Nets learn six Gaussians in the plane. Their score error e = s_theta - s is split at every noise
level, e = grad u + r, on a grid, where the split is exact up to the size of the cells; beside it
stands the split by random waves, which miss a part of grad u. Then s_theta is replaced by its
gradient part grad phi = s + grad u. Axes: level, seed.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dfx import diagnostics, evolution, schedules, targets, train
from dfx.pytree import pytree
from experiments import perturbed
from experiments.gauge_freedom_exact import seed_keys
from experiments.gauge_freedom_split import make_features
from experiments.gauge_freedom_training import net_field, train_members

STAGES = ("net", "net_split", "net_laws", "net_density")

#: Where samples end, and where marginals are compared.
LAST_TIME = 1e-3
STOPS = (0.2, 0.02, LAST_TIME)

#: The box of the grid reaches so many standard deviations of a mode beyond the modes.
REACH = 3.5

#: Of each of the six modes.
MODE_STD = 0.15

FIELDS = ("exact", "net", "gradient")


@pytree
@dataclasses.dataclass(frozen=True)
class GradientPart:
    """The error grad u of a score from its values on grids, eps = -sigma grad u.

    Bilinear in x / (half the side of the level's box), constant beyond the box, linear in log t.

    Attributes:
      log_times: of the levels, rising, shape (k,).
      sides: half sides of the boxes, shape (k,).
      values: eps at the centres of the cells, shape (k, 2, cells, cells).
    """

    log_times: Any
    sides: Any
    values: Any
    pointwise = True

    def __call__(self, x, level):
        log_t = jnp.log(jnp.reshape(jnp.asarray(level.t, x.dtype), ()))
        log_times = jnp.asarray(self.log_times, x.dtype)
        last = len(self.log_times) - 1
        place = jnp.interp(log_t, log_times, jnp.arange(last + 1, dtype=x.dtype))
        below = jnp.clip(jnp.floor(place).astype(int), 0, last - 1)
        share = place - below
        eps = (1 - share) * self._at(x, below) + share * self._at(x, below + 1)
        return -eps / jnp.asarray(level.sigma, x.dtype)

    def _at(self, x, index):
        values = jnp.asarray(self.values, x.dtype)[index]
        cells = values.shape[-1]
        unit = x / jnp.asarray(self.sides, x.dtype)[index]
        place = 0.5 * (unit.T + 1) * cells - 0.5  # in units of cells, from the first centre
        pick = lambda a: jax.scipy.ndimage.map_coordinates(a, list(place), 1, mode="nearest")  # noqa: E731
        return jnp.stack([pick(a) for a in values], axis=1)


def make_bed(config) -> perturbed.Bed:
    """Return six equal Gaussians of standard deviation `MODE_STD` on the unit circle."""
    angles = 2 * np.pi * np.arange(6) / 6
    target = targets.Mixture.isotropic(np.stack([np.cos(angles), np.sin(angles)], 1), MODE_STD)
    return perturbed.Bed(target, schedules.make("vp_linear", **config.schedule))


def trained(config, run) -> None:
    """Train, split, replace."""
    settings, bed = config.nets, make_bed(config)
    keys = seed_keys(config, settings.num_seeds, 20)
    params = train_members(
        run,
        "net",
        "free",
        2,
        settings,
        bed.schedule,
        (bed.target.sample,),
        np.zeros(len(keys), int),
        keys,
    )
    members = [net_field("free", 2, settings, train.member(params, i)) for i in range(len(keys))]
    features = make_features(seed_keys(config, 1, 21)[0], settings.num_features)
    found = run.arrays("net_split", lambda: split_errors(config, run, bed, members, features))
    fields = [
        (bed.exact, member, diagnostics.with_error(bed.exact, gradient_part(found, i)))
        for i, member in enumerate(members)
    ]
    run.arrays("net_laws", lambda: laws(config, run, bed, fields))
    run.arrays("net_density", lambda: densities(config, run, bed, fields))


def gradient_part(found: dict[str, np.ndarray], seed: int) -> GradientPart:
    """Return the gradient part of one net's error, from what `split_errors` keeps."""
    return GradientPart(np.log(found["times"]), found["sides"], found["values"][:, seed])


def split_errors(config, run, bed, members, features) -> dict[str, np.ndarray]:
    """Return the parts of the eps errors by level and seed: total, gradient, remainder, inner, on
    draws, with the gradient part from the grid; its `values`; and `waves`, the share of the
    remainder that the features leave."""
    settings = config.nets
    times = np.geomspace(LAST_TIME, float(bed.schedule.end_time), settings.num_levels)
    keys = seed_keys(config, len(members), 22)
    sides = np.asarray([half_side(bed.schedule.at(t)) for t in times])
    rows = []
    with run.progress(len(times) * len(members), "net_split", unit="split") as bar:
        for t, side in zip(times, sides):
            for member, key in zip(members, keys):
                rows.append(_split_once(settings, bed, member, features, (t, side), key))
                bar.update(1)
    shape = len(times), len(members)
    arrays = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    arrays = {k: a.reshape(*shape, *a.shape[1:]) for k, a in arrays.items()}
    return {"times": times, "sides": sides, **arrays}


def _split_once(settings, bed, member, features, where, key) -> dict:
    t, side = where
    level = bed.schedule.at(t)
    fit, judge = (
        bed.draw(jax.random.fold_in(key, i), n, t)
        for i, n in enumerate((settings.num_fit, settings.num_judge))
    )
    error = eps_error(bed, member, judge, level)
    values = grid_gradient(settings, bed, member, t, side)
    on_grid = GradientPart(np.log([t, 2 * t]), np.full(2, side), np.stack([values, values]))
    slope = -level.sigma * _apply(on_grid, judge, level)
    parts = diagnostics.parts(Known(slope), judge, error)._asdict()
    potential = diagnostics.project(features, fit, eps_error(bed, member, fit, level))
    waves = diagnostics.parts(potential, judge, error)
    shares = {name: float(value) for name, value in parts.items()}
    return {**shares, "values": values, "waves": float(waves.remainder / waves.total)}


_apply = jax.jit(lambda part, x, level: part(x, level))


@pytree
@dataclasses.dataclass(frozen=True)
class Known:
    """The function of x that has the given values at the points where it is asked."""

    values: Any

    def __call__(self, x):
        return jnp.asarray(self.values, x.dtype)


@jax.jit
def eps_error(bed, member, x, level):
    """Return -sigma (s_theta - s) at x, shape of x."""
    of, minus = (diagnostics.prediction_at(f, level, "eps") for f in (member, bed.exact))
    return of(x) - minus(x)


def half_side(level) -> float:
    """Return half the side of the box around the modes at a level."""
    return float(level.alpha + REACH * np.hypot(MODE_STD * level.alpha, level.sigma))


def grid_gradient(settings, bed, member, t, side: float) -> np.ndarray:
    """Return the gradient part of the eps error at the centres of the cells, shape (2, cells,
    cells), from its exact split on the grid."""
    level = bed.schedule.at(t)
    edges = [np.linspace(-side, side, settings.num_cells + 1)] * 2
    with jax.enable_x64(True):
        error = functools.partial(eps_error, bed, member, level=level)
        log_p = functools.partial(_log_prob, bed.target, level=level)
        on_host = lambda f: lambda x: np.asarray(f(jnp.asarray(x)), np.float64)  # noqa: E731
        found = diagnostics.split_on_grid(on_host(error), on_host(log_p), edges)
    return np.stack([at_centres(g, axis) for axis, g in enumerate(found.gradient)])


def at_centres(on_faces, axis: int) -> np.ndarray:
    """Return the means of neighbouring inner faces, at the centres; the outermost cells take that
    of their one face."""
    first, last = (np.take(on_faces, [i], axis) for i in (0, -1))
    padded = np.concatenate([first, on_faces, last], axis)
    n = padded.shape[axis]
    below, above = (np.take(padded, range(i, n - 1 + i), axis) for i in (0, 1))
    return 0.5 * (below + above)


_log_prob = jax.jit(lambda target, x, level: target.log_prob(x, level))


def laws(config, run, bed, fields) -> dict[str, np.ndarray]:
    """Return W_2 of samples by the ODE: `truth` of each field to exact draws, shape (fields, stops,
    seeds); `net_gradient` between net and gradient part, from the same starts; `floor` between
    exact draws."""
    n, keys = config.exact.num_samples, seed_keys(config, len(fields), 23)
    with run.progress(len(fields) * len(FIELDS), "net_laws", unit="field") as bar:

        def follow(field, i):
            x = perturbed.sample(
                bed, field, keys[i : i + 1], n, "flow_rk4", config.nets.num_steps_ode, STOPS
            )
            bar.update(1)
            return x[:, 0]

        x = np.stack([[follow(field, i) for field in trio] for i, trio in enumerate(fields)], 2)
    first, second = (perturbed.truth(bed, keys, n, STOPS, copy) for copy in (0, 1))
    return {
        "truth": np.stack([perturbed.distances(of_field, first) for of_field in x]),
        "net_gradient": perturbed.distances(x[1], x[2]),
        "floor": perturbed.distances(first, second),
        "x": x[:, -1, 0],
    }


def densities(config, run, bed, fields) -> dict[str, np.ndarray]:
    """Return log p - log q at exact draws of p at the last time, shape (fields, seeds, points): its
    mean is the relative entropy of p to the law q of the field's ODE."""
    settings = config.nets
    level, noise = bed.schedule.at(LAST_TIME), bed.schedule.at(bed.schedule.end_time)
    num_steps = len(STOPS) * settings.num_steps_ode
    times = np.linspace(LAST_TIME**0.5, float(noise.t) ** 0.5, num_steps + 1) ** 2
    keys, rows = seed_keys(config, len(fields), 25), []
    with jax.enable_x64(True), run.progress(len(fields) * len(FIELDS), "net_density") as bar:
        for trio, key in zip(fields, keys):
            x = bed.draw(key, settings.num_points, LAST_TIME, jnp.float64)
            log_p = _log_prob(bed.target, x, level)
            for field in trio:
                motion = evolution.reverse(bed.schedule, field, 0.0)
                end, change = evolution.move_with_density(motion, x, times)
                log_q = _log_prob(bed.target, end, noise) - change
                rows.append(np.asarray(log_p - log_q))
                bar.update(1)
    gap = np.reshape(rows, (len(fields), len(FIELDS), -1))
    return {"gap": np.swapaxes(gap, 0, 1)}
