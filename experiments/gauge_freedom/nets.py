"""The gauge part of trained nets' score errors: claim 6 of the study `gauge_freedom`.

Nets learn six Gaussians in the plane. Their score error e = s_theta - s is split at every noise
level, e = grad u + r, on a grid, where the split is exact up to the size of the cells; beside it
stands the split by random waves, which miss a part of grad u. Then s_theta is replaced by its
gradient part grad phi = s + grad u. Axes: level, seed.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from dfx import diagnostics, evolution, schedules, targets, train
from experiments.gauge_freedom.exact import seed_keys
from experiments.gauge_freedom.split import make_features
from experiments.gauge_freedom.training import net_field, train_members
from experiments.shared import perturbed
from experiments.shared.gradient_parts import GradientPart, eps_error, log_prob, split_at

STAGES = ("net", "net_split", "net_laws", "net_density")

#: Where samples end, and where marginals are compared.
LAST_TIME = 1e-3
STOPS = (0.2, 0.02, LAST_TIME)

#: Of each of the six modes.
MODE_STD = 0.15

FIELDS = ("exact", "net", "gradient")


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
    keys, rows = seed_keys(config, len(members), 22), []
    with run.progress(len(times) * len(members), "net_split", unit="split") as bar:
        for t in times:
            for member, key in zip(members, keys):
                rows.append(_split_once(settings, bed, member, features, float(t), key))
                bar.update(1)
    shape = len(times), len(members)
    arrays = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    arrays = {k: a.reshape(*shape, *a.shape[1:]) for k, a in arrays.items()}
    return {"times": times, "sides": arrays.pop("side")[:, 0], **arrays}


def _split_once(settings, bed, member, features, t, key) -> dict:
    level = bed.schedule.at(t)
    fit, judge = (
        bed.draw(jax.random.fold_in(key, i), n, t)
        for i, n in enumerate((settings.num_fit, settings.num_judge))
    )
    found = split_at(bed, member, t, judge, settings.num_cells)
    potential = diagnostics.project(features, fit, eps_error(bed, member, fit, level))
    waves = diagnostics.parts(potential, judge, eps_error(bed, member, judge, level))
    return {**found, "waves": float(waves.remainder / waves.total)}


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
            log_p = log_prob(bed.target, x, level)
            for field in trio:
                motion = evolution.reverse(bed.schedule, field, 0.0)
                end, change = evolution.move_with_density(motion, x, times)
                log_q = log_prob(bed.target, end, noise) - change
                rows.append(np.asarray(log_p - log_q))
                bar.update(1)
    gap = np.reshape(rows, (len(fields), len(FIELDS), -1))
    return {"gap": np.swapaxes(gap, 0, 1)}
