"""Nets in two dimensions beside their exact score: eight modes on a ring, linear VP.

Three kinds with one body: "free" (an eps-net), "conservative" (the gradient of a scalar net) and
"regularised" (conservative with a Fokker-Planck penalty). Members are seeds, trained as one program
a kind. Kept, for each KIND: KIND_N, the parameters after N steps.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dfx import fields, losses, nets, train
from experiments.score_or_flow.identities import SCHEDULE, ring
from experiments.score_or_flow.rates import time_of
from experiments.shared import perturbed
from experiments.shared.members import Training, first_states, fit

#: The earliest time that nets are trained at.
FIRST = 1e-3

BED = perturbed.Bed(ring(), SCHEDULE)


def half_log_snr(level):
    """Return what the nets see as their time: log(alpha / sigma) / 3, of order one."""
    return level.half_log_snr / 3.0


def log_uniform_time(u):
    """Return the quantiles of the training times: log t uniform from `FIRST` to 1."""
    return FIRST ** (1 - u)


class Kind(NamedTuple):
    """A kind of net and its pure step."""

    net: Any
    step: Callable


def make_kind(name: str, settings) -> Kind:
    """Return the net of a kind and the step that trains it."""
    penalty = settings.regulariser.weight, settings.regulariser.num_points
    return _kind(name, settings.width, settings.depth, *penalty)


@functools.cache  # one step object a kind and size, so that what is compiled for it is found again
def _kind(name: str, width: int, depth: int, weight: float, num_points: int) -> Kind:
    body = nets.mlp(2, width, depth)
    net: Any = body if name == "free" else nets.energy.inner_product(body)
    sampler = losses.TimeSampler(log_uniform_time)
    loss = losses.denoising(net, SCHEDULE, "eps", time_sampler=sampler, time=half_log_snr)
    if name == "regularised":
        at = losses.Collocation(sampler, num_points=num_points)
        penalty = losses.fokker_planck(net, SCHEDULE, at, time=half_log_snr)
        loss = losses.plus(loss, penalty, weight)
    return Kind(net, train.make_step(loss, train.optimizer(schedule="cosine", total=1)))


def snapshot_steps(config) -> tuple[int, ...]:
    """Return the numbers of steps after which nets are kept; the last is the training's."""
    return (*config.toy.snapshots, config.toy.num_steps)


def train_kind(config, run, kind: str) -> list[Any]:
    """Return the stacked parameters of a kind after each kept number of steps."""
    settings = config.toy
    net, step = make_kind(kind, settings)
    keys = jax.random.split(jax.random.key(config.seed + 4), config.num_seeds)
    optimizer = train.optimizer(settings.learning_rate, schedule="cosine", total=settings.num_steps)
    first = first_states(net.init, optimizer, keys)
    training = Training(step, _batches(settings.batch_size), settings.chunk)
    steps = snapshot_steps(config) if kind == "free" else (settings.num_steps,)
    return fit(run, kind, training, first, keys, steps)


@functools.cache
def _batches(batch_size: int) -> Callable:
    def batch(key, step):
        draw = jax.random.fold_in(jax.random.fold_in(key, _DATA), step)
        return (BED.target.sample(draw, batch_size),)

    return batch


_DATA = 2  # what `first_states` leaves of a member's key


def net_field(kind: str, config, params) -> fields.NetField:
    """Return the fields of all members, stacked."""
    return fields.from_net(make_kind(kind, config.toy).net, params, "eps", time=half_log_snr)


def stacked_oracle(count: int):
    """Return the exact field, `count` times."""
    repeat = lambda a: np.stack([np.asarray(a, np.float32)] * count)  # noqa: E731
    return fields.oracle(jax.tree.map(repeat, BED.target))


def member_keys(config, number: int) -> jax.Array:
    """Return one key a seed for the stage of that number."""
    return jax.random.split(jax.random.key(config.seed + 5 + number), config.num_seeds)


def draws(keys, n: int, t: float, dtype=jnp.float32):
    """Return draws of p_t for each key, shape (m, n, 2)."""
    return jax.vmap(lambda key: BED.draw(key, n, t, dtype))(keys)


def truth(config, copy: int) -> np.ndarray:
    """Return exact draws at the last level, shape (m, n, 2)."""
    keys = member_keys(config, 20 + copy)
    return np.asarray(draws(keys, config.toy.num_samples, last_time(config)))


def last_time(config) -> float:
    """Return the time of the last level."""
    return float(time_of(SCHEDULE, config.levels.low))
