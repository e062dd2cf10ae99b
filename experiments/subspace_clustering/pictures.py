"""Nets on pictures: the rank of their Jacobian by noise level, and edits along its directions.

Kept for each set of pictures: `pictures_SET_N` (parameters), `rank_SET` (effective rank, (levels,
seeds, points), with the number of pixels), `edits_SET` (decoded pictures of the first net:
directions v_1 to v_3 and a random one, strengths, pictures; `change`, by net and direction, of the
denoiser's output).

Source: Wang et al. (2024), figures 2 and 3; edits by Chen et al. (2024), arXiv 2409.02374. The net,
its training and the noise level of the edits are ours.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dfx import data, diagnostics, fields, schedules, solvers, subspaces, train
from dfx.schedules import marginal_sample
from experiments.shared.picture_nets import Learning, make_net, thousand, train_nets
from experiments.subspace_clustering.laws import level_at, time_at
from experiments.subspace_clustering.maps import SCHEDULE

#: Singular directions that are moved along.
DIRECTIONS = 3


def pictures(config, run) -> None:
    """Train, measure and edit, one set of pictures after the other."""
    for name in config.pictures.names:
        settings, shape = config.pictures[name], load(config, name, "test", 1).shape[1:]
        net = make_net(settings, shape)
        params = train_all(config, run, name, net)
        run.arrays(f"rank_{name}", functools.partial(rank, config, run, name, net, params))
        run.arrays(f"edits_{name}", functools.partial(edits, config, name, net, params))


def load(config, name: str, split: str, limit: int) -> np.ndarray:
    """Return pictures, uint8 (n, h, w, c)."""
    return data.load(name, config.data.path or None, split, limit).images


def train_all(config, run, name: str, net) -> Any:
    """Return the stacked parameters of one net a seed; they predict v."""
    settings, own = config.pictures, config.pictures[name]
    learning = Learning(
        SCHEDULE, "v", own.num_steps, own.batch_size, settings.learning_rate, settings.chunk
    )
    keys = jax.random.split(jax.random.key(config.seed + 60), settings.num_seeds)
    images = load(config, name, "train", settings.limit)
    return train_nets(run, f"pictures_{name}", net, learning, images, keys)


def noised(config, name: str, seed: int, index: int, ratio: float, count: int):
    """Return test pictures at a noise level sigma / alpha, (count, h, w, c), and the level."""
    level = level_at(SCHEDULE, ratio).astype(np.float32)
    clean = load(config, name, "test", count)
    return _noised(clean, jax.random.key(config.seed + 61 + seed), index, level), level


@jax.jit
def _noised(clean, key, index, level):
    clean = data.to_unit(clean)
    eps = jax.random.normal(jax.random.fold_in(key, index), clean.shape)
    return marginal_sample(clean, eps, level)


def field_of(net, params, seed: int) -> fields.NetField:
    """Return the field of one net."""
    return fields.from_net(net, train.member(params, seed), "v", time=thousand)


def rank(config, run, name: str, net, params) -> dict[str, np.ndarray]:
    """Return effective ranks of the Jacobian of x0_hat at noised test pictures."""
    settings, rows = config.pictures, []
    with run.progress(len(settings.levels), f"rank_{name}", unit="level") as bar:
        for i, ratio in enumerate(settings.levels):
            for seed in range(settings.num_seeds):
                x, level = noised(config, name, seed, i, ratio, settings[name].num_points)
                values = singular_values(field_of(net, params, seed), x, level)
                rows.append(np.asarray(diagnostics.effective_rank(values)))
            bar.update(1)
    ranks = np.stack(rows).reshape(len(settings.levels), settings.num_seeds, -1)
    return {"levels": np.asarray(settings.levels), "rank": ranks, "pixels": np.asarray(x[0].size)}


@jax.jit
def singular_values(field, x, level):
    """Return all singular values of the Jacobian of x0_hat at each point, (n, d), falling.

    They are roots of the eigenvalues of J^T J, which is several times faster than the SVD of
    `diagnostics.jacobian_svd`. A value below 1e-3 of the largest has few digits then; of 98 % of
    the energy it is no part.
    """

    def one(point):
        matrix = fields.jacobian(lambda z: fields.denoiser(field(z, level)), point[None])[0]
        squares = jnp.linalg.eigvalsh(jnp.matmul(matrix.T, matrix, precision="highest"))
        return jnp.sqrt(jnp.maximum(squares[::-1], 0))

    return jax.lax.map(one, x)


#: Pictures that are edited and shown.
EDITED = 4

#: Pictures of more numbers have their leading directions by random projections.
MOST_EXACT = 256


def edits(config, name: str, net, params) -> dict[str, np.ndarray]:
    """Return edited pictures, (directions + 1, strengths, pictures, h, w, c), and `change`
    (seeds, directions + 1): |x0_hat(x + lambda v) - x0_hat(x)| at the largest strength, in the mean
    over pictures, the random direction last. Strengths are in units of sigma."""
    settings, shown, changes = config.pictures, [], []
    strengths = np.asarray(settings.strengths, np.float32)
    for seed in range(settings.num_seeds):
        x, level = noised(config, name, seed, 1000, settings.edit_level, EDITED)
        field = field_of(net, params, seed)
        v = directions(field, x, level, jax.random.key(config.seed + 62 + seed))
        changes.append(_changes(field, x, level, v, strengths[-1]))
        if seed == 0:
            t = time_at(SCHEDULE, settings.edit_level)
            grid = schedules.grids.uniform_log_snr(SCHEDULE, settings.sample_steps, float(t))
            tableau = solvers.ddim(SCHEDULE, np.append(grid, 0.0))
            shown = _decoded(tableau, field, x, v, strengths * np.float32(level.sigma))
    return {
        "strengths": np.asarray(settings.strengths),
        "pictures": np.asarray(shown),
        "change": np.stack(list(map(np.asarray, changes))),
    }


def directions(field, x, level, key):
    """Return the leading right singular directions at each point and a random one, all of length
    one, (directions + 1, n, *sample)."""
    of_svd, of_random = jax.random.split(key)
    projected = of_svd if x[0].size > MOST_EXACT else None
    right = diagnostics.jacobian_svd(field, x, level, DIRECTIONS, projected).right
    return _with_random(right, of_random)


@jax.jit
def _with_random(right, key):
    # Their largest entry is positive: the sign of a singular direction is arbitrary.
    flat = right.reshape(*right.shape[:2], -1)
    most = jnp.take_along_axis(flat, jnp.abs(flat).argmax(2)[..., None], 2)
    random = jax.random.normal(key, flat[:, :1].shape)
    random = random / jnp.linalg.norm(random, axis=2, keepdims=True)
    found = jnp.concatenate([flat * jnp.sign(most), random], axis=1).reshape(
        len(flat), -1, *right.shape[2:]
    )
    return jnp.moveaxis(found, 1, 0)


@jax.jit
def _changes(field, x, level, directions, strength):
    """The mean length of the move of x0_hat, (directions,)."""
    seen = jax.lax.map(lambda v: field(x + strength * level.sigma * v, level), directions)
    moves = (seen - field(x, level)).reshape(*seen.shape[:2], -1)
    return jnp.linalg.norm(moves, axis=2).mean(1)


@jax.jit
def _decoded(tableau, field, x, directions, strengths):
    return jax.lax.map(lambda v: subspaces.edited(tableau, field, x, v, strengths), directions)
