"""Perceptrons on a union of two subspaces: when they generalise, and the rank of their Jacobian.

Kept: `perceptrons_N` (parameters; members are (dims, ratios, seeds), then the law of the rank),
`perceptrons_samples` (of the samples, distances to the training set and to the subspaces),
`rank_low_rank_bases_N`, `rank` (effective rank by noise level of the exact denoiser, the low-rank
net and the perceptrons), `moves` (the exact denoiser along and off its singular directions).

Source: Wang et al. (2024), figures 3 and 5a, where the net is a U-Net; the perceptron, its
training and the score of generalisation are ours.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dfx import data, diagnostics, fields, losses, metrics, nets, schedules, solvers, targets, train
from dfx.schedules import marginal_sample
from experiments import subspace_clustering_problems as problems
from experiments.members import Training, first_states, fit
from experiments.subspace_clustering_laws import level_time
from experiments.subspace_clustering_maps import SCHEDULE, train_nets

#: Subspaces of every law here.
SUBSPACES = 2


def log_level(level):
    """Return what the nets see as their time: 100 log(sigma / alpha), at most some hundreds."""
    return -50.0 * level.log_snr


def perceptrons(config, run) -> None:
    """Train, sample and measure."""
    of = draw_laws(config)
    params = train_perceptrons(config, run, of)
    run.arrays("perceptrons_samples", lambda: samples(config, run, of, params))
    low_rank = train_low_rank(config, run, of)
    run.arrays("rank", lambda: rank(config, run, of, low_rank, params))
    run.arrays("moves", lambda: moves(config, of))


def draw_laws(config) -> problems.Problems:
    """Return the members: d, then N / d, then seeds; last the seeds of the rank's law."""
    settings = config.nets
    pairs = [(d, d * ratio) for d in settings.dims for ratio in settings.ratios]
    pairs.append((settings.rank.dim, settings.rank.count))
    dims, counts = np.repeat(np.asarray(pairs), settings.num_seeds, axis=0).T
    return problems.draw(jax.random.key(config.seed + 40), dims, counts, config.dim, SUBSPACES)


def of_rank(config, members) -> Any:
    """Return the members of the rank's law alone."""
    return jax.tree.map(lambda leaf: leaf[-config.nets.num_seeds :], members)


@functools.cache
def _parts(n: int, width: int, depth: int) -> tuple[nets.Net, Callable]:
    """Return the net and its step; the preconditioning is that of EDM, in variance-preserving
    units, where the net's input has the size of one."""
    net = nets.residual_mlp(n, width, depth)
    loss = losses.denoising(
        net, SCHEDULE, "edm", "edm", losses.log_normal_sigma(SCHEDULE), time=log_level
    )
    return net, train.make_step(loss, train.optimizer(schedule="cosine", total=1, warmup=1))


@functools.cache
def _batches(batch_size: int) -> Callable:
    def batch(source, step):
        points, size, key = source
        return (points[data.indices(key, step, batch_size, size)],)

    return batch


def train_perceptrons(config, run, of: problems.Problems) -> Any:
    """Return the stacked parameters of one net a member."""
    settings = config.nets
    net, step = _parts(config.dim, settings.width, settings.depth)
    steps = settings.num_steps
    optimizer = train.optimizer(
        settings.learning_rate, warmup=max(1, steps // 20), schedule="cosine", total=steps
    )
    training = Training(step, _batches(settings.batch_size), settings.chunk)
    first = first_states(net.init, optimizer, of.keys)
    return fit(run, "perceptrons", training, first, (of.points, of.sizes, of.keys), (steps,))[-1]


def net_field(config, params) -> fields.NetField:
    """Return the field of one member."""
    net = _parts(config.dim, config.nets.width, config.nets.depth)[0]
    return fields.from_net(net, params, "edm", time=log_level)


def samples(config, run, of: problems.Problems, params) -> dict[str, np.ndarray]:
    """Return by member, (m, n): distance of samples to the nearest training point, `distance`, and
    relative to the nearest subspace, `off`; `fresh` are distances of fresh data."""
    settings, rows = config.nets, []
    grid = schedules.grids.karras(SCHEDULE, settings.sample_steps)
    tableau = solvers.heun(SCHEDULE, grid)
    with run.progress(len(of.dims), "perceptrons_samples", unit="net") as bar:
        for i in range(len(of.dims)):
            start, new = jax.random.split(jax.random.fold_in(of.keys[i], 20))
            shape = (settings.num_samples, config.dim)
            x = solvers.prior(start, SCHEDULE, shape, t=grid[0])
            x = solvers.sample(tableau, net_field(config, train.member(params, i)), x)
            fresh = targets.union_of_subspaces(of.bases[i]).sample(new, len(x), balanced=True)
            training = np.asarray(of.points[i])[: int(of.sizes[i])]
            rows.append(
                {
                    "distance": metrics.nearest(x, training, 1).distance[:, 0],
                    "fresh": metrics.nearest(fresh, training, 1).distance[:, 0],
                    "off": off_subspaces(np.asarray(x), np.asarray(of.bases[i])),
                }
            )
            bar.update(1)
    found = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    return {"dims": np.asarray(of.dims), "counts": np.asarray(of.counts), **found}


def off_subspaces(x: np.ndarray, bases: np.ndarray) -> np.ndarray:
    """Return the distance of points (n, d) to the nearest subspace over their length, (n,)."""
    inside = np.linalg.norm(np.einsum("kdr,nd->nkr", bases, x), axis=2).max(1)
    share = inside / np.linalg.norm(x, axis=1)
    return np.sqrt(np.maximum(0, 1 - share**2))


def train_low_rank(config, run, of: problems.Problems) -> Any:
    """Return low-rank nets of the rank's law, trained as those of the maps are, from the truth:
    what remains is the loss's own error."""
    members = of_rank(config, of)
    members = members._replace(bases=members.bases[..., : config.nets.rank.dim])
    from_truth = jnp.ones(len(members.dims), bool)
    return train_nets(run, "rank_low_rank", members, config.maps.two, config.maps.chunk, from_truth)


def rank(config, run, of: problems.Problems, low_rank, params) -> dict[str, np.ndarray]:
    """Return effective ranks by field and noise level, (levels, seeds, points), at noised draws,
    and `weight`, the largest posterior weight of a subspace there."""
    settings, members = config.nets.rank, of_rank(config, of)
    learned = of_rank(config, params)
    net = nets.low_rank(config.dim, (settings.dim,) * SUBSPACES)
    exact = {"bases": members.bases[..., : settings.dim]}
    rows: dict[str, list] = {}
    with run.progress(len(settings.levels), "rank", unit="level") as bar:
        for i, ratio in enumerate(settings.levels):
            level = SCHEDULE.at(np.float32(level_time(SCHEDULE, ratio))).astype(np.float32)
            for seed in range(config.nets.num_seeds):
                key = jax.random.fold_in(jax.random.fold_in(members.keys[seed], 30), i)
                law = targets.union_of_subspaces(members.bases[seed])
                x = noised(law, key, settings.num_points, level)
                of_net = lambda tree, seed=seed: fields.from_net(  # noqa: E731
                    net, jax.tree.map(lambda a: jnp.asarray(a[seed]), tree), "x0", nets.alpha_sigma
                )
                for name, field in {
                    "exact": of_net(exact),
                    "low_rank": of_net(low_rank),
                    "perceptron": net_field(config, train.member(learned, seed)),
                }.items():
                    values = diagnostics.jacobian_svd(field, x, level).values
                    rows.setdefault(name, []).append(diagnostics.effective_rank(values))
                weights = law.responsibilities(x, level).max(1)
                rows.setdefault("weight", []).append(weights)
            bar.update(1)
    shape = len(settings.levels), config.nets.num_seeds, -1
    found = {name: np.stack(list(map(np.asarray, r))).reshape(shape) for name, r in rows.items()}
    return {"levels": np.asarray(settings.levels), **found}


def noised(law, key, count: int, level):
    """Return draws of x_t at a level, (count, n)."""
    of_points, of_noise = jax.random.split(key)
    x0 = law.sample(of_points, count, balanced=True)
    return marginal_sample(x0, jax.random.normal(of_noise, x0.shape), level)


#: The noise levels of moves, and their lengths: the error is taken between the first and the last.
MOVE_LEVELS, LENGTHS = (0.1, 1.0, 5.0), (1e-3, 2e-3, 4e-3, 8e-3)


def moves(config, of: problems.Problems) -> dict[str, np.ndarray]:
    """Return for the exact denoiser of the rank's law, in float64, by (levels, seeds): `order` of
    the error of the linear law lambda s_1 u_1 in lambda (smooth: 2), `random`, the change along
    random directions over that along v_1, `outside`, the part of v_1 off the active subspace."""
    with jax.enable_x64(True):
        members, rows = of_rank(config, of), []
        for ratio in MOVE_LEVELS:
            for seed in range(config.nets.num_seeds):
                rows.append(_moves(config, members, seed, ratio))
    shape = len(MOVE_LEVELS), config.nets.num_seeds
    found = {name: np.asarray([row[name] for row in rows]).reshape(shape) for name in rows[0]}
    return {"levels": np.asarray(MOVE_LEVELS), **found}


def _moves(config, members, seed: int, ratio: float) -> dict[str, float]:
    settings = config.nets.rank
    bases = jnp.linalg.qr(members.bases[seed, :, :, : settings.dim].astype(jnp.float64))[0]
    net = nets.low_rank(config.dim, (settings.dim,) * SUBSPACES)
    field = fields.from_net(net, {"bases": bases}, "x0", nets.alpha_sigma)
    level = SCHEDULE.at(level_time(SCHEDULE, ratio))
    key = jax.random.fold_in(members.keys[seed], 50)
    x = noised(targets.union_of_subspaces(bases), key, settings.num_points, level)
    x = x.astype(jnp.float64)
    found = diagnostics.jacobian_svd(field, x, level)
    lengths = jnp.asarray(LENGTHS)[:, None, None]
    moved = jax.vmap(lambda step: field(x + step * found.right[:, 0], level))(lengths[:, 0])
    linear = lengths * (found.values[:, :1] * found.left[:, 0])
    errors = jnp.linalg.norm(moved - field(x, level) - linear, axis=2).mean(1)
    # |J r|^2 in the mean over unit r is |J|_F^2 / n.
    random = jnp.sqrt((found.values**2).sum(1) / config.dim) / found.values[:, 0]
    inside = jnp.einsum("kdr,nd->nkr", bases, found.right[:, 0])
    outside = jnp.sqrt(jnp.maximum(0, 1 - (inside**2).sum(2).max(1)))
    slope = np.polyfit(np.log(LENGTHS), np.log(np.asarray(errors)), 1)[0]
    return {"order": slope, "random": float(random.mean()), "outside": float(outside.mean())}
