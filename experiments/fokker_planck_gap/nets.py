"""The nets of the study `fokker_planck_gap`: scalar potentials, trained by denoising plus a weight
times the Fokker-Planck residual.

A member is a data law, a weight w and a seed. Laws and weights are numbers of the members, not
of the program, so that all of them are trained as one; members of one law and seed start from the
same parameters and see the same points.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from dfx import losses, nets, train
from dfx.losses import collocation, regularisers
from dfx.nets import energy
from experiments.fokker_planck_gap.data import SETS, OrnsteinUhlenbeck, draw
from experiments.shared.members import Training

ACTIVATIONS = ("tanh", "softplus")

_DATA = 2  # what `first_states` leaves of a member's key: its points


class Potential(nn.Module):
    """(x, t) -> one number: a perceptron of x and t as they are."""

    width: int
    depth: int
    activation: str
    sharpness: float

    @nn.compact
    def __call__(self, x, t):
        h = jnp.concatenate([t[:, None], x], axis=-1)
        for i in range(self.depth):
            h = self._bend(nn.Dense(self.width, name=f"hidden_{i}")(h))
        return nn.Dense(1, name="output")(h)

    def _bend(self, h):
        if self.activation == "tanh":
            return jnp.tanh(h)
        return nn.softplus(self.sharpness * h) / self.sharpness


class Members(NamedTuple):
    """The trainings, members first: number of the law in `SETS` (m,), weights (m,), keys (m,)."""

    law: np.ndarray
    weight: np.ndarray
    keys: jax.Array


def make_net(settings) -> nets.EnergyNet:
    """Return the net: phi = log p_t up to a constant of t, its gradient is the score."""
    module = Potential(
        settings.width, settings.depth, settings.activation, float(settings.sharpness)
    )
    return energy.scalar(nets.from_linen(module, (2,)), "score")


def make_schedule(config) -> OrnsteinUhlenbeck:
    """Return the forward process of the study."""
    return OrnsteinUhlenbeck(float(config.end_time))


def make_members(config) -> Members:
    """Return law x weight x seed, seeds running fastest; all weights share a seed's key."""
    shape = (len(SETS), len(config.weights), config.num_seeds)
    law, weight, seed = (a.ravel() for a in np.indices(shape))
    roots = jax.random.split(jax.random.key(config.seed), len(SETS) * config.num_seeds)
    weights = np.asarray(config.weights, np.float32)[weight]
    return Members(law.astype(np.int32), weights, roots[law * config.num_seeds + seed])


def make_optimizer(settings) -> optax.GradientTransformation:
    """Return Adam whose rate is constant in each phase.

    The moments run on from phase to phase; the paper's code starts them anew.
    """
    bounds = np.cumsum(settings.phase_steps)[:-1]
    factors = np.divide(settings.phase_rates[1:], settings.phase_rates[:-1])
    rate = optax.piecewise_constant_schedule(
        settings.phase_rates[0], dict(zip(map(int, bounds), map(float, factors)))
    )
    return optax.adam(rate)


def make_loss(config, net: nets.EnergyNet) -> Callable:
    """Return `loss(params, key, x0, weight)`: denoising + weight * mean R^2, weight shape (n,).

    Denoising is unweighted, its times are eps + (T - eps) Beta(1, 2). R is per unit of time.
    """
    schedule, settings = make_schedule(config), config.collocation
    dsm = losses.denoising(
        net, schedule, "score", time_sampler=collocation.beta(schedule, config.start_time)
    )
    width, power = settings.half_width, {"uniform": 1.0, "beta": 2.0}[settings.times]
    at = collocation.Collocation(
        collocation.beta(schedule, config.start_time, power=power),
        collocation.box(-width, width) if settings.points == "box" else collocation.noised,
        settings.num_points // config.train.slices,
    )
    penalty = regularisers.fokker_planck(net, schedule, at, weighting="uniform")

    def loss(params, key, x0, weight):
        return regularisers.plus(dsm, penalty, weight[0])(params, key, x0)

    return loss


def make_training(config, net: nets.EnergyNet) -> Training:
    """Return how a member is trained; its source is a row of `Members`."""
    size, optimizer = config.train.batch_size, make_optimizer(config.train)
    step = train.make_step(make_loss(config, net), optimizer, slices=config.train.slices)

    def batch(member, step):
        law, weight, key = member
        key = jax.random.fold_in(jax.random.fold_in(key, _DATA), step)
        return draw(law, key, size), jnp.full(size, weight)

    return Training(step, batch, config.train.chunk)


def each(function: Callable, params: Any, indices, bar: Any = None) -> list[Any]:
    """Return function(parameters, index) for some members, on all devices at once.

    The members are dealt to the devices in turn; `function` is called in one thread a device.
    """
    devices = jax.local_devices()

    def one(place, index):
        with jax.default_device(devices[place % len(devices)]):
            found = jax.tree.map(np.asarray, function(train.member(params, index), index))
        if bar is not None:
            bar.update(1)
        return found

    with ThreadPoolExecutor(len(devices)) as pool:
        return list(pool.map(one, *zip(*enumerate(indices))))
