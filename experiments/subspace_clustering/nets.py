"""Perceptrons on a union of two subspaces: when they generalise, and the rank of their Jacobian.

Kept: `perceptrons_N` (parameters; members are (dims, ratios, seeds), then the law of the rank),
`perceptrons_samples` (of the samples, distances to the training set and to the subspaces),
`rank_low_rank_bases_N`, `rank` (effective rank by noise level of the exact denoiser, the low-rank
net and the perceptrons), `moves` (the exact denoiser along and off its singular directions).

The perceptrons see `unit` times x0, of mean square 1 a coordinate. On x0 as it is, of size 0.2 to
0.4, they did not tell the two subspaces apart in 5000 steps: samples were spread over the span of
both.

Source: Wang et al. (2024), figures 3 and 5a, where the net is a U-Net; the perceptron, its
training and the score of generalisation are ours.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dfx import data, diagnostics, fields, losses, nets, schedules, solvers, targets, train
from dfx.schedules import marginal_sample
from experiments.shared.members import Training, first_states, fit
from experiments.subspace_clustering import problems
from experiments.subspace_clustering.laws import level_at
from experiments.subspace_clustering.maps import SCHEDULE, train_nets

#: Subspaces of every law here.
SUBSPACES = 2

#: Mean and standard deviation of log(sigma / alpha) in the training; EDM's, for data of half the
#: size, are (-1.2, 1.2).
LOG_SIGMA = (-0.8, 1.2)


def perceptrons(config, run) -> None:
    """Train, sample and measure."""
    of = draw_laws(config)
    params = train_perceptrons(config, run, of)
    run.arrays("perceptrons_samples", lambda: samples(config, of, params))
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


def unit(n: int, dims):
    """Return what x0 of these dimensions is multiplied with: sqrt(n / d)."""
    return np.sqrt(n / np.asarray(dims, np.float32))


def log_level(level):
    """Return what the nets see as their time: log(sigma / alpha) / 2, of order one."""
    return -0.25 * level.log_snr


@functools.cache
def _parts(n: int, width: int, depth: int) -> tuple[nets.Net, Callable]:
    """Return the net and its step; preconditioning and weighting are those of EDM."""
    net = nets.mlp(n, width, depth)
    times = losses.log_normal_sigma(SCHEDULE, *LOG_SIGMA)
    loss = losses.denoising(net, SCHEDULE, "edm", "edm", times, time=log_level)
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
    points = np.asarray(of.points) * unit(config.dim, of.dims)[:, None, None]
    return fit(run, "perceptrons", training, first, (points, of.sizes, of.keys), (steps,))[-1]


def samples(config, of: problems.Problems, params) -> dict[str, np.ndarray]:
    """Return by member, (m, n): distance of samples to the nearest training point, `distance`, and
    relative to the nearest subspace, `off`; `fresh` are distances of fresh data."""
    settings = config.nets
    draw = _sampler(settings.width, settings.depth, settings.num_samples, settings.sample_steps)
    found = draw(of, unit(config.dim, of.dims), params, settings.num_seeds)
    found = {name: np.asarray(values) for name, values in found.items()}
    return {"dims": np.asarray(of.dims), "counts": np.asarray(of.counts), **found}


@functools.cache
def _sampler(width: int, depth: int, count: int, steps: int) -> Callable:
    """Return the program over all members, some at a time, which bounds memory."""
    grid = schedules.grids.karras(SCHEDULE, steps)
    tableau = solvers.heun(SCHEDULE, grid)

    def one(args):
        of, size, scale, params = args
        net = _parts(of.bases.shape[1], width, depth)[0]
        start, new = jax.random.split(jax.random.fold_in(of.keys, 20))
        x = solvers.prior(start, SCHEDULE, (count, of.bases.shape[1]), t=grid[0])
        field = fields.from_net(net, params, "edm", time=log_level)
        x = solvers.sample(tableau, field, x) / scale
        fresh = targets.union_of_subspaces(of.bases).sample(new, count, balanced=True)
        mask = jnp.arange(len(of.points)) < size
        return {
            "distance": _nearest(x, of.points, mask),
            "fresh": _nearest(fresh, of.points, mask),
            "off": off_subspaces(x, of.bases),
        }

    def every(of, scale, params, at_once):
        return jax.lax.map(one, (of, of.sizes, scale, params), batch_size=at_once)

    return jax.jit(every, static_argnames="at_once")


def _nearest(x, points, mask):
    """The distance to the nearest of the points that count, (n,)."""
    squares = ((x[:, None] - points) ** 2).sum(2)
    return jnp.sqrt(jnp.where(mask, squares, jnp.inf).min(1))


def off_subspaces(x, bases):
    """Return the distance of points (n, d) to the nearest subspace over their length, (n,)."""
    inside = jnp.einsum("kdr,nd->nkr", bases, x, precision="highest")
    share = (inside**2).sum(2).max(1) / (x**2).sum(1)
    return jnp.sqrt(jnp.maximum(0, 1 - share))


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
    ranks = _ranker(config.nets.width, config.nets.depth, settings.dim, settings.num_points)
    args = members.keys, members.bases, low_rank, of_rank(config, params)
    scale, rows = float(unit(config.dim, settings.dim)), []
    with run.progress(len(settings.levels), "rank", unit="level") as bar:
        for i, ratio in enumerate(settings.levels):
            levels = (level_at(SCHEDULE, s * ratio).astype(jnp.float32) for s in (1.0, scale))
            rows.append(jax.tree.map(np.asarray, ranks(i, *args, *levels)))
            bar.update(1)
    found = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    return {"levels": np.asarray(settings.levels), **found}


@functools.cache
def _ranker(width: int, depth: int, d: int, count: int) -> Callable:
    """Return the program over all seeds at one noise level: of x0, and of unit * x0."""

    def one(index, key, bases, low_rank, params, level, scaled):
        n = bases.shape[1]
        law, key = targets.union_of_subspaces(bases), jax.random.fold_in(key, 30)
        x, wide = noised(law, jax.random.fold_in(key, index), count, level, scaled)
        low, net = nets.low_rank(n, (d,) * SUBSPACES), _parts(n, width, depth)[0]
        exact = fields.from_net(low, {"bases": bases[..., :d]}, "x0", nets.alpha_sigma)
        found = {
            "exact": diagnostics.jacobian_svd(exact, x, level),
            "low_rank": diagnostics.jacobian_svd(
                fields.from_net(low, low_rank, "x0", nets.alpha_sigma), x, level
            ),
            # unit * x0 at the ratio unit * sigma / alpha: the same Jacobian.
            "perceptron": diagnostics.jacobian_svd(
                fields.from_net(net, params, "edm", time=log_level), wide, scaled
            ),
        }
        ranks = {name: diagnostics.effective_rank(of.values) for name, of in found.items()}
        return ranks | {"weight": law.responsibilities(x, level).max(1)}

    return jax.jit(jax.vmap(one, (None, 0, 0, 0, 0, None, None)))


def noised(law, key, count: int, level, scaled):
    """Return draws of x_t at a level, (count, n), and of the same x0 and noise at the level of
    unit * x0, where sigma / alpha is `unit` times as large."""
    of_points, of_noise = jax.random.split(key)
    x0 = law.sample(of_points, count, balanced=True)
    eps = jax.random.normal(of_noise, x0.shape)
    scale = scaled.sigma / scaled.alpha * level.alpha / level.sigma
    return marginal_sample(x0, eps, level), marginal_sample(scale * x0, eps, scaled)


#: The noise levels of moves, and their lengths: the error is taken between the first and the last.
MOVE_LEVELS, LENGTHS = (0.1, 1.0, 5.0), (1e-3, 2e-3, 4e-3, 8e-3)


def moves(config, of: problems.Problems) -> dict[str, np.ndarray]:
    """Return for the exact denoiser of the rank's law, in float64, by (levels, seeds): `order` of
    the error of the linear law lambda s_1 u_1 in lambda (smooth: 2), `random`, the change along
    random directions over that along v_1, `outside`, the part of v_1 off the active subspace."""
    members, settings = of_rank(config, of), config.nets.rank
    with jax.enable_x64(True):
        bases = np.asarray(members.bases[..., : settings.dim], np.float64)
        levels = [level_at(SCHEDULE, ratio) for ratio in MOVE_LEVELS]
        rows = [_moves(members.keys, bases, level, settings.num_points) for level in levels]
        errors, random, outside = (np.stack(list(map(np.asarray, row))) for row in zip(*rows))
    slopes = np.polyfit(np.log(LENGTHS), np.log(errors).reshape(-1, len(LENGTHS)).T, 1)[0]
    order = slopes.reshape(random.shape)
    return {"levels": np.asarray(MOVE_LEVELS), "order": order, "random": random, "outside": outside}


@functools.partial(jax.jit, static_argnames="count")
def _moves(keys, bases, level, count):
    """Over seeds: mean errors of the linear law, (seeds, lengths), and two shares, (seeds,)."""

    def one(key, bases):
        _, n, d = bases.shape
        bases = jnp.linalg.qr(bases)[0]
        field = fields.from_net(
            nets.low_rank(n, (d,) * SUBSPACES), {"bases": bases}, "x0", nets.alpha_sigma
        )
        law, key = targets.union_of_subspaces(bases), jax.random.fold_in(key, 50)
        x = noised(law, key, count, level, level)[0].astype(bases.dtype)
        found = diagnostics.jacobian_svd(field, x, level)
        lengths = jnp.asarray(LENGTHS)[:, None, None]
        moved = jax.lax.map(lambda step: field(x + step * found.right[:, 0], level), lengths)
        linear = lengths * (found.values[:, :1] * found.left[:, 0])
        errors = jnp.linalg.norm(moved - field(x, level) - linear, axis=2).mean(1)
        # |J r|^2 in the mean over unit r is |J|_F^2 / n.
        random = jnp.sqrt((found.values**2).sum(1)) / (math.sqrt(n) * found.values[:, 0])
        inside = jnp.einsum("kdr,nd->nkr", bases, found.right[:, 0])
        outside = jnp.sqrt(jnp.maximum(0, 1 - (inside**2).sum(2).max(1)))
        return errors, random.mean(), outside.mean()

    return jax.vmap(one)(keys, bases)
