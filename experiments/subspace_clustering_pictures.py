"""A net on pictures: the rank of its Jacobian by noise level, and edits along its directions.

Kept: `pictures_N` (parameters), `pictures_rank` (effective rank, (levels, seeds, points), with the
number of pixels), `pictures_edits` (decoded pictures of the first net: directions v_1 to v_3 and a
random one, strengths, pictures; `change`, by net and direction, of the denoiser's output).

Source: Wang et al. (2024), figures 2 and 3; edits by Chen et al. (2024), arXiv 2409.02374. The net,
its training and the noise level of the edits are ours.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dfx import data, diagnostics, fields, losses, nets, schedules, solvers, subspaces, train
from dfx.schedules import marginal_sample
from experiments.members import Training, first_states, fit
from experiments.subspace_clustering_laws import level_time
from experiments.subspace_clustering_maps import SCHEDULE

#: Singular directions that are moved along.
DIRECTIONS = 3


def thousand(level):
    """Return what the nets see as their time, a step number 0..1000."""
    return 1000.0 * level.t


def pictures(config, run) -> None:
    """Train, measure and edit."""
    shape = load(config, "test", 1).shape[1:]
    settings = config.pictures.net
    net = nets.dit(shape, settings.patch, settings.width, settings.depth, settings.heads)
    params = train_nets(config, run, net)
    run.arrays("pictures_rank", lambda: rank(config, run, net, params))
    run.arrays("pictures_edits", lambda: edits(config, net, params))


def load(config, split: str, limit: int) -> np.ndarray:
    """Return pictures, uint8 (n, h, w, c)."""
    path = config.data.path or None
    return data.load(config.pictures.name, path, split, limit).images


def train_nets(config, run, net) -> Any:
    """Return the stacked parameters of one net a seed; they predict v."""
    settings = config.pictures
    steps = settings.num_steps
    optimizer = train.optimizer(
        settings.learning_rate, warmup=max(1, steps // 20), schedule="cosine", total=steps, clip=1.0
    )
    keys = jax.random.split(jax.random.key(config.seed + 60), settings.num_seeds)
    images = load(config, "train", settings.limit)
    source = np.stack([images] * settings.num_seeds), keys
    training = Training(_step(net), _batches(settings.batch_size), settings.chunk)
    first = first_states(net.init, optimizer, keys)
    return fit(run, "pictures", training, first, source, (steps,))[-1]


@functools.cache
def _step(net) -> Callable:
    loss = losses.denoising(net, SCHEDULE, "v", time=thousand)
    return train.make_step(loss, train.optimizer(schedule="cosine", total=1, warmup=1, clip=1.0))


@functools.cache
def _batches(batch_size: int) -> Callable:
    def batch(source, step):
        images, key = source
        order = jax.random.fold_in(key, 2)
        return (data.to_unit(images[data.indices(order, step, batch_size, len(images))]),)

    return batch


def field_of(net, params, seed: int) -> fields.NetField:
    """Return the field of one net."""
    return fields.from_net(net, train.member(params, seed), "v", time=thousand)


def noised(config, seed: int, index: int, ratio: float, count: int):
    """Return test pictures at a noise level sigma / alpha, (count, h, w, c), and the level."""
    level = SCHEDULE.at(np.float32(level_time(SCHEDULE, ratio))).astype(np.float32)
    clean = data.to_unit(load(config, "test", count))
    key = jax.random.fold_in(jax.random.key(config.seed + 61 + seed), index)
    return marginal_sample(clean, jax.random.normal(key, clean.shape), level), level


def rank(config, run, net, params) -> dict[str, np.ndarray]:
    """Return effective ranks of the Jacobian of x0_hat at noised test pictures."""
    settings, rows = config.pictures, []
    with run.progress(len(settings.levels), "pictures_rank", unit="level") as bar:
        for i, ratio in enumerate(settings.levels):
            for seed in range(settings.num_seeds):
                x, level = noised(config, seed, i, ratio, settings.num_points)
                values = diagnostics.jacobian_svd(field_of(net, params, seed), x, level).values
                rows.append(np.asarray(diagnostics.effective_rank(values)))
            bar.update(1)
    ranks = np.stack(rows).reshape(len(settings.levels), settings.num_seeds, -1)
    return {"levels": np.asarray(settings.levels), "rank": ranks, "pixels": np.asarray(x[0].size)}


#: Pictures that are edited and shown.
EDITED = 4


def edits(config, net, params) -> dict[str, np.ndarray]:
    """Return edited pictures, (directions + 1, strengths, pictures, h, w, c), and `change`
    (seeds, directions + 1): |x0_hat(x + lambda v) - x0_hat(x)| at the largest strength, in the mean
    over pictures, the random direction last. Strengths are in units of sigma."""
    settings, shown, changes = config.pictures, [], []
    for seed in range(settings.num_seeds):
        x, level = noised(config, seed, 1000, settings.edit_level, EDITED)
        field = field_of(net, params, seed)
        right = diagnostics.jacobian_svd(field, x, level, DIRECTIONS).right
        # Its largest entry is positive: the sign of a singular direction is arbitrary.
        flat = right.reshape(*right.shape[:2], -1)
        most = jnp.take_along_axis(flat, jnp.abs(flat).argmax(2)[..., None], 2)
        right = right * jnp.sign(most).reshape(*right.shape[:2], *[1] * (x.ndim - 1))
        random = jax.random.normal(jax.random.key(config.seed + 62 + seed), x.shape)
        lengths = jnp.sqrt((random**2).sum(tuple(range(1, x.ndim)), keepdims=True))
        directions = [*jnp.moveaxis(right, 1, 0), random / lengths]
        strengths = np.float32(settings.strengths) * level.sigma
        changes.append([_change(field, x, level, v, strengths[-1]) for v in directions])
        if seed == 0:
            t = level_time(SCHEDULE, settings.edit_level)
            grid = schedules.grids.uniform_log_snr(SCHEDULE, settings.sample_steps, float(t))
            tableau = solvers.ddim(SCHEDULE, np.append(grid, 0.0))
            shown = [subspaces.edited(tableau, field, x, v, strengths) for v in directions]
    return {
        "strengths": np.asarray(settings.strengths),
        "pictures": np.stack(list(map(np.asarray, shown))),
        "change": np.asarray(changes),
    }


def _change(field, x, level, direction, strength) -> float:
    seen = field(x + strength * direction, level) - field(x, level)
    return float(jnp.sqrt((seen.reshape(len(x), -1) ** 2).sum(1)).mean())
