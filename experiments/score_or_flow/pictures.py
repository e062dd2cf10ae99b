"""Nets on pictures: how far from a gradient, by noise level.

Small transformers (`nets.dit`), one a seed, trained as one program to predict the noise of digits,
MNIST or CIFAR-10 pictures. On noised test pictures: the asymmetry of the Jacobian by random probes,
that of a block of it exactly, and circulations round small circles in random planes. Beside them
the same numbers of a score that is a gradient, that of a few training pictures as a mixture: the
floor of float32. Kept: `pictures_N` (parameters), `pictures`, `pictures_samples`.

The net, its training and the data are ours; those of arXiv 2509.00336 are not known to us.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dfx import data, diagnostics, fields, schedules, solvers, targets
from dfx.schedules import marginal_sample
from experiments.score_or_flow.identities import SCHEDULE
from experiments.score_or_flow.rates import time_of
from experiments.shared.picture_nets import Learning, make_net, thousand, train_nets

#: Pictures that the exact score of the floor is made of.
FLOOR_POINTS = 200

#: Radius of the circles in units of sigma, and their nodes: the fields are smooth at that size.
RADIUS, NODES = 0.1, 32

#: Side of the block of neighbouring pixels whose Jacobian is taken exactly.
BLOCK_SIDE = 4


def pictures(config, run) -> None:
    """Train, measure and sample."""
    shape = load(config, "test", 1).shape[1:]
    net = make_net(config.pictures.net, shape)
    params = train_all(config, run, net)
    run.arrays("pictures", lambda: measure(config, run, net, params, shape))
    run.arrays("pictures_samples", lambda: samples(config, net, params, shape))


def load(config, split: str, limit: int) -> np.ndarray:
    """Return pictures, uint8 (n, h, w, c)."""
    path = config.data.path or None
    return data.load(config.pictures.name, path, split, limit).images


def train_all(config, run, net) -> Any:
    """Return the stacked parameters of one net a seed; they predict eps."""
    settings = config.pictures
    learning = Learning(
        SCHEDULE, "eps", settings.num_steps, settings.batch_size, settings.learning_rate,
        settings.chunk,
    )  # fmt: skip
    keys = jax.random.split(jax.random.key(config.seed + 40), config.num_seeds)
    return train_nets(run, "pictures", net, learning, load(config, "train", settings.limit), keys)


def measure(config, run, net, params, shape) -> dict[str, np.ndarray]:
    """Return what `_look` sees by level, (members, levels), of the nets and, as `floor_NAME`,
    (levels,), of the exact score."""
    settings = config.pictures
    field = fields.from_net(net, params, "eps", time=thousand)
    floor = _floor(config)
    clean = data.to_unit(load(config, "test", settings.num_points))
    keys = jax.random.split(jax.random.key(config.seed + 41), config.num_seeds)
    rows: dict[str, list] = {}
    counts = settings.num_probes, settings.num_planes
    with run.progress(len(settings.levels), "pictures measured", unit="level") as bar:
        for i, level in enumerate(settings.levels):
            t = jnp.float32(time_of(SCHEDULE, level))
            folded = jax.vmap(lambda key, i=i: jax.random.fold_in(key, i))(keys)
            seen = _look_all(field, clean, folded, t, counts=counts)
            beside = _look(floor, clean, folded[0], t, counts=counts)
            for name, value in {**seen, **{f"floor_{k}": v for k, v in beside.items()}}.items():
                rows.setdefault(name, []).append(np.asarray(value))
            bar.update(1)
    found = {name: np.stack(values, axis=-1) for name, values in rows.items()}
    return {"level": np.asarray(settings.levels), "shape": np.asarray(shape), **found}


def _floor(config):
    """The exact field of the law that puts equal weight on some training pictures."""
    points = data.to_unit(load(config, "train", FLOOR_POINTS))
    return fields.oracle(targets.Empirical(jnp.asarray(points)))


@functools.partial(jax.jit, static_argnames="counts")
def _look_all(field, clean, keys, t, *, counts):
    look = functools.partial(_look, counts=counts)
    return jax.lax.map(lambda args: look(args[0], clean, args[1], t), (field, keys))


@functools.partial(jax.jit, static_argnames="counts")
def _look(field, clean, key, t, *, counts) -> dict[str, Any]:
    """The asymmetry by probes with its standard error, that of a block, that of the planes of
    circles, circulations over their bound (root mean square), and the mean of |eps - eps_hat|^2."""
    num_probes, num_planes = counts
    noise, probes, planes = jax.random.split(key, 3)
    level = SCHEDULE.at(t)
    eps = jax.random.normal(noise, clean.shape, jnp.float32)
    x = marginal_sample(clean, eps, level)
    view = diagnostics.prediction_at(field, level, "eps")
    found = diagnostics.asymmetry(view, x, probes, num_probes)
    whole = diagnostics.pooled(found)
    block = diagnostics.pooled(diagnostics.asymmetry(view, x, coordinates=middle(clean.shape[1:])))
    around = _circles(view, x, level.sigma, planes, num_planes)
    radius, d = RADIUS * level.sigma, clean[0].size
    square = jnp.mean((around.value / (jnp.pi * radius**2)) ** 2)
    return {
        "asymmetry": whole.ratio,
        "asymmetry_error": whole.standard_error,
        "block": block.ratio,
        "block_error": block.standard_error,
        # The mean over planes of the squared curl is |J - J^T|^2 / (d (d - 1)).
        "planes": square * d * (d - 1) / (4 * jnp.mean(found.size)),
        "circulation": jnp.sqrt(jnp.mean(around.normalised**2)),
        "mse": jnp.mean((view(x) - eps) ** 2),
    }


def _circles(view, x, sigma, key, num_planes: int):
    """Circulations round each point, each in planes of its own, (planes, n)."""

    def one(args):
        centre, key = args
        first, second = diagnostics.random_plane(key, centre.shape)
        loop = diagnostics.circle(centre, RADIUS * sigma, first, second, NODES)
        return diagnostics.circulation(view, loop)

    keys = jax.random.split(key, (num_planes, len(x)))
    return jax.lax.map(lambda keys: jax.lax.map(one, (x, keys)), keys)


def middle(shape) -> tuple[int, ...]:
    """Return the flat indices of the middle block of pixels, of the first channel."""
    rows, columns = (np.arange(BLOCK_SIDE) + (side - BLOCK_SIDE) // 2 for side in shape[:2])
    places = np.stack(np.meshgrid(rows, columns, indexing="ij"), -1).reshape(-1, 2)
    return tuple(int(np.ravel_multi_index((*place, 0), shape)) for place in places)


def samples(config, net, params, shape) -> dict[str, np.ndarray]:
    """Return 16 samples of the first net, and 16 real pictures, to see what the nets can do."""
    grid = schedules.grids.uniform_log_snr(
        SCHEDULE, config.pictures.sample_steps, end=float(time_of(SCHEDULE, 0.02))
    )
    tableau = solvers.ddim(SCHEDULE, np.append(grid, 0.0))
    one = jax.tree.map(lambda a: a[0], params)
    field = fields.from_net(net, one, "eps", time=thousand)
    start = solvers.prior(jax.random.key(config.seed + 42), SCHEDULE, (16, *shape))
    x = solvers.sample(tableau, field, start)
    return {"x": np.asarray(x), "real": np.asarray(data.to_unit(load(config, "test", 16)))}
