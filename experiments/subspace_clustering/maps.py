"""Recovery maps of the study `subspace_clustering`: solvers, and low-rank nets trained to the end.

Kept, each by (dims, counts, seeds): `map_pca`, and those of `SOLVERS` (solvers); `map_net_1` and
`map_net_2` (errors of trained nets and their final losses, with a last axis of starts: random ones,
and for two subspaces last the truth). All nets of a map are members of one compiled program.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dfx import data, losses, nets, schedules, subspaces, train
from dfx.nets.gram_schmidt import gram_schmidt
from dfx.nets.low_rank import mix_projections
from experiments.shared.members import Training, first_states, fit
from experiments.subspace_clustering import problems

SCHEDULE = schedules.VPLinear()

#: The times of the loss, uniform: at the ends nothing is to be learned, or nothing can be.
TIMES = (0.02, 0.98)

#: Maps of the K-subspaces solver: the number of subspaces, and what it starts from.
SOLVERS = {
    "map_k2": (2, "uniform"),
    "map_k2_points": (2, "points"),
    "map_k3": (3, "points"),
}

#: Draws of noise for each point when the final loss is measured.
REPEATS = 32


def maps(config, run) -> None:
    """Fill the maps."""
    run.arrays("map_pca", lambda: pca(config))
    for name, (k, starts) in SOLVERS.items():
        run.arrays(name, functools.partial(clustering, config, run, name, k, starts))
    of_one = {**config.maps.one, "dims": config.maps.dims, "counts": config.maps.counts}
    trained(config, run, 1, of_one, 1)
    trained(config, run, 2, config.maps.two, config.maps.two.restarts)


def pca(config) -> dict[str, np.ndarray]:
    """Return errors of the principal subspace."""
    settings = config.maps
    shape = len(settings.dims), len(settings.counts), settings.pca_seeds
    key = jax.random.key(config.seed + 1)
    members = problems.cells(settings.dims, settings.counts, settings.pca_seeds)
    error = problems.principal(problems.draw(key, *members, config.dim, 1))
    return _table(settings.dims, settings.counts, error=error.reshape(shape))


def clustering(config, run, name: str, k: int, starts: str) -> dict[str, np.ndarray]:
    """Return errors of the K-subspaces solver, and the share of the energy that it keeps; one
    compiled program for each d, whose members are N and seed."""
    cells = config.maps if starts == "uniform" else config.maps.points
    restarts = config.maps.restarts[0 if starts == "uniform" else 1]
    shape, found = (len(cells.counts), config.maps.num_seeds), []
    with run.progress(len(cells.dims), name, unit="dimension") as bar:
        for d in cells.dims:
            key = jax.random.fold_in(jax.random.key(config.seed + k), d)
            members = problems.cells((d,), cells.counts, config.maps.num_seeds)
            of = problems.draw(key, *members, config.dim, k, width=max(cells.dims))
            found.append(problems.cluster(of, d, restarts, starts))
            bar.update(1)
    tables = {name: np.stack([row[name].reshape(shape) for row in found]) for name in found[0]}
    return _table(cells.dims, cells.counts, **tables)


def _table(dims, counts, **values) -> dict[str, np.ndarray]:
    return {"dims": np.asarray(dims), "counts": np.asarray(counts), **values}


def trained(config, run, k: int, settings, restarts: int) -> None:
    """Train the low-rank nets of a map by the plain loss; compare with the true subspaces."""
    num_seeds, name = config.maps.num_seeds, f"map_net_{k}"
    shape = len(settings["dims"]), len(settings["counts"]), num_seeds
    key = jax.random.key(config.seed + 10 + k)
    of = problems.draw(
        key, *problems.cells(settings["dims"], settings["counts"], num_seeds), config.dim, k
    )
    starts = restarts + (k > 1)  # the truth is one more start
    members = _repeated(of, starts)
    from_truth = jnp.arange(len(members.dims)) % starts >= restarts
    params = train_nets(run, name, members, settings, config.maps.chunk, from_truth)

    def compute():
        error, loss = judge(members, params)
        tables = {"error": error.reshape(*shape, starts), "loss": loss.reshape(*shape, starts)}
        return _table(settings["dims"], settings["counts"], **tables)

    run.arrays(name, compute)


@functools.partial(jax.jit, static_argnames="times")
def _repeated(members, times: int):
    return jax.tree.map(lambda leaf: jnp.repeat(leaf, times, axis=0), members)


def masked_low_rank(n: int, k: int, width: int) -> nets.Net:
    """Return `nets.low_rank` of k subspaces of one dimension that is an argument, so that nets of
    every d are members of one program.

    cond holds which columns exist, (width,), 1 up to d and 0 beyond: the first d orthonormal
    columns span what the first d columns of the matrix do, and the loss has no gradient along the
    others. Soft weights; there is no determinant where all d are equal.
    """

    def apply(params, x, t, cond):
        bases = gram_schmidt(params["bases"]) * cond
        return mix_projections(bases, x, t, lambda closeness, _: jax.nn.softmax(closeness, axis=1))

    return nets.Net(nets.low_rank(n, (width,) * k).init, apply)


@functools.cache
def _parts(n: int, k: int, width: int) -> tuple[nets.Net, Callable]:
    """Return the net and its step; the rate and the length are in the state."""
    net = masked_low_rank(n, k, width)
    times = losses.uniform(SCHEDULE, *TIMES)
    loss = losses.denoising(net, SCHEDULE, "x0", time_sampler=times, time=nets.alpha_sigma)
    return net, train.make_step(loss, train.optimizer(schedule="cosine", total=1))


@functools.cache
def _batches(batch_size: int) -> Callable:
    def batch(source, step):
        points, size, mask, key = source
        return points[data.indices(key, step, batch_size, size)], mask

    return batch


def _masks(members) -> jax.Array:
    width = members.bases.shape[3]
    return jax.vmap(lambda d: problems.columns(d, width))(members.dims)


def train_nets(run, name: str, members, settings, chunk: int, from_truth) -> Any:
    """Return the stacked parameters of one net a member, {"bases": (m, k, n, width)}.

    Equal members differ in their starts and in nothing else: same points, order and noise.

    Args:
      members: `Problems`.
      settings: num_steps, batch_size, learning_rate.
      from_truth: (m,), which start at the true subspaces.
    """
    _, k, n, width = members.bases.shape
    net, step = _parts(n, k, width)
    steps = settings["num_steps"]
    optimizer = train.optimizer(settings["learning_rate"], schedule="cosine", total=steps)
    first = first_states(net.init, optimizer, _places(members.keys))
    first, source = _begin(first, members, from_truth)
    training = Training(step, _batches(settings["batch_size"]), chunk)
    return fit(run, f"{name}_bases", training, first, source, (steps,))[-1]


@jax.jit
def _places(keys):
    return jax.vmap(jax.random.fold_in)(keys, jnp.arange(len(keys)))


@jax.jit
def _begin(first, members, from_truth):
    """The states at their starts, and what batches are made of."""
    masks = _masks(members)
    drawn = first.params["bases"]
    known = members.bases + (1 - masks)[:, None, None] * drawn
    bases = jnp.where(from_truth[:, None, None, None], known, drawn)
    keys = jax.vmap(lambda key: jax.random.fold_in(key, 9))(members.keys)
    source = members.points, members.sizes, masks, members.keys
    return first._replace(params={"bases": bases}, key=keys), source


def judge(members, params) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest projection distance of a true subspace from its own, and the plain loss on
    the training points, (m,) each; equal noise for equal members."""
    found = _judge(*problems.spread((members, params["bases"])))
    return np.asarray(found[0]), np.asarray(found[1])


@jax.jit
def _judge(members, bases):
    _, k, n, width = members.bases.shape
    net = masked_low_rank(n, k, width)
    each = losses.per_sample(net, SCHEDULE, "x0", time=nets.alpha_sigma)

    def one(args):
        key, size, mask, truth, x, bases = args
        found = gram_schmidt(bases) * mask
        error = subspaces.recovery(found, truth).errors.max()
        of_time, of_order, of_noise = jax.random.split(jax.random.fold_in(key, 11), 3)
        x0 = jnp.tile(x, (REPEATS, 1))
        strata = (jnp.arange(len(x0)) + jax.random.uniform(of_time, (len(x0),))) / len(x0)
        t = TIMES[0] + (TIMES[1] - TIMES[0]) * jax.random.permutation(of_order, strata)
        eps = jax.random.normal(of_noise, x0.shape)
        counts = jnp.tile(jnp.arange(len(x)) < size, REPEATS)
        loss = jnp.where(counts, each({"bases": bases}, x0, eps, t, mask), 0).sum() / counts.sum()
        return error, loss

    keys, _, _, truth, points = members
    return jax.lax.map(
        one, (keys, members.sizes, _masks(members), truth, points, bases), batch_size=64
    )
