"""Pictures, nets and the laws that are to explain them: what the parts of the study share.

Everything is a vector: pictures are flattened, in [-1, 1]. Time is the noise level, alpha = 1 and
sigma = t (EDM), and nets predict EDM's F from x / sqrt(sigma^2 + 1/4) (Karras et al. 2022, eq. 7).
Kept: `net_N`, the parameters after N steps.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dfx import data, fields, losses, nets, schedules, targets, train
from dfx.fields.convert import SIGMA_DATA
from experiments.shared.members import Training, first_states, fit

#: The process of the nets, and the noise levels they are told apart.
SCHEDULE = schedules.make("edm", sigma_max=80.0)
LOWEST, HIGHEST = 0.002, 80.0
_SPAN = math.log(HIGHEST / LOWEST)


class Pictures(NamedTuple):
    """Flat pictures in [-1, 1], shape (n, d), and the shape of one."""

    train: np.ndarray
    test: np.ndarray
    shape: tuple[int, int, int]


def load(config) -> Pictures:
    """Return both halves of the set, at most `pictures.limit` of each, padded with background."""
    settings = config.pictures
    halves = []
    for split in ("train", "test"):
        images = data.load(settings.name, config.data.path or None, split, settings.limit).images
        pad = ((0, 0), (settings.pad, settings.pad), (settings.pad, settings.pad), (0, 0))
        halves.append(np.asarray(data.to_unit(np.pad(images, pad)), np.float32))
    shape = halves[0].shape[1:]
    first, second = (half.reshape(len(half), -1) for half in halves)
    return Pictures(first, second, shape)


def fit_laws(config, points: np.ndarray) -> dict[str, Any]:
    """Return the laws fitted to the training pictures, the coarse ones first.

    "isotropic" (mean and mean variance), "gaussian", "gmm_K", and "delta", the pictures themselves.
    """
    settings = config.models
    found = {"isotropic": targets.fit.isotropic(points), "gaussian": targets.fit.gaussian(points)}
    for k in settings.num_modes:
        key = jax.random.key(config.seed + 42)
        found[f"gmm_{k}"] = targets.fit.kmeans_mixture(key, points, k, floor=settings.floor)
    return found | {"delta": targets.Empirical(jax.device_put(points))}


def noise_step(level):
    """Return what nets see as their time: log sigma, LOWEST at 0 and HIGHEST at 1000."""
    return 1000.0 * jnp.log(level.sigma / level.alpha / LOWEST) / _SPAN


@functools.cache  # one pair a net, so that what is compiled for it is found again
def preconditioned(net: nets.Net, shape: tuple[int, ...]) -> nets.Net:
    """Return the net on flat pictures scaled to variance about 1 by 1 / sqrt(sigma^2 + 1/4)."""

    def apply(params, x, t, cond=None):
        sigma = LOWEST * jnp.exp(t * (_SPAN / 1000.0))
        scaled = x / jnp.sqrt(sigma**2 + SIGMA_DATA**2)[:, None]
        return net.apply(params, scaled.reshape(len(x), *shape), t, cond).reshape(x.shape)

    return nets.Net(net.init, apply)


def make_net(config, shape: tuple[int, int, int]) -> nets.Net:
    """Return the net: a residual perceptron, or a transformer on the pictures."""
    settings = config.net
    if settings.kind == "dit":
        net = nets.dit(shape, settings.patch, settings.width, settings.depth, settings.heads)
        return preconditioned(net, shape)
    dim = math.prod(shape)
    return preconditioned(nets.residual_mlp(dim, settings.width, settings.depth), (dim,))


def snapshot_steps(config) -> tuple[int, ...]:
    """Return the numbers of steps after which the nets are looked at, the last the training's."""
    return (*config.train.snapshots, config.train.num_steps)


def train_nets(config, run, net: nets.Net, points: np.ndarray) -> list[Any]:
    """Return the stacked parameters of one net a seed, for each of `snapshot_steps`."""
    settings = config.train
    steps = settings.num_steps
    optimizer = train.optimizer(
        settings.learning_rate, warmup=steps // 20, schedule="cosine", total=steps, clip=1.0
    )
    keys = jax.random.split(jax.random.key(config.seed), config.num_seeds)
    source = np.stack([points] * config.num_seeds), keys
    step = _step(net, settings.mean, settings.std)
    training = Training(step, _batches(settings.batch_size), settings.chunk)
    first = first_states(net.init, optimizer, keys)
    return fit(run, "net", training, first, source, snapshot_steps(config))


@functools.cache
def _step(net: nets.Net, mean: float, std: float) -> Callable:
    """EDM's loss: weight 1 on F."""
    times = losses.times.log_normal_sigma(SCHEDULE, mean, std)
    # The level to which too small times are moved is the first that the net can tell.
    clipped = lambda key, n, dtype: jnp.maximum(times(key, n, dtype), LOWEST)  # noqa: E731
    loss = losses.denoising(net, SCHEDULE, "edm", time_sampler=clipped, time=noise_step)
    return train.make_step(loss, train.optimizer(schedule="cosine", total=1, clip=1.0))


@functools.cache
def _batches(batch_size: int) -> Callable:
    def batch(source, step):
        points, key = source
        order = jax.random.fold_in(key, 2)  # what `first_states` leaves of a member's key
        return (points[data.indices(order, step, batch_size, len(points))],)

    return batch


def net_field(net: nets.Net, params: Any, member: int) -> fields.NetField:
    """Return the field of one of the nets."""
    return fields.from_net(net, train.member(params, member), "edm", time=noise_step)


def seed_keys(config, stage: int) -> jax.Array:
    """Return one key a seed for the stage of that number."""
    return jax.random.split(jax.random.fold_in(jax.random.key(config.seed + 1), stage),
                            config.num_seeds)  # fmt: skip
