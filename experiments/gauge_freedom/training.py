"""How the nets of the study `gauge_freedom` are trained: free, conservative, penalised, projected.

    free          eps_hat = psi(x, t), a plain perceptron
    conservative  score = grad of -|psi|^2 / (2 sigma), the same body
    penalised     free, with a penalty on the asymmetry of its Jacobian
    projected     the gradient nearest to a trained free net: grad phi of a scalar net, fitted to it

Every batch is drawn afresh from its law. Nets see half the log-SNR in place of t, and times are
denser near the data, where dimensions are read.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from dfx import fields, losses, nets, train
from dfx.fields import net_time
from dfx.schedules import marginal_sample
from experiments.shared.members import Training, first_states, fit

KINDS = ("free", "conservative", "penalised", "projected")

#: The earliest time of the training, and the power of its law: t = u^3 beyond it.
FIRST_TIME, POWER = 1e-4, 3

#: What is folded into a member's key for its batches: `first_states` takes 0 and 1.
_DATA = 2


def seen_time(level):
    """Return what the nets get as time, log(alpha / sigma) / 4: of order one."""
    return 0.25 * jnp.log(level.alpha / level.sigma)


def _quantile(u):
    return FIRST_TIME + (1 - FIRST_TIME) * u**POWER


TIMES = losses.times.TimeSampler(_quantile)


def make_net(kind: str, dim: int, settings) -> nets.Net | nets.EnergyNet:
    """Return the net of a kind, width and depth from the settings."""
    if kind in ("free", "penalised"):
        return nets.mlp(dim, settings.width, settings.depth)
    form = "squared_norm" if kind == "conservative" else "scalar"
    return nets.energy_mlp(dim, form, settings.width, settings.depth)


def net_field(kind: str, dim: int, settings, params) -> fields.NetField:
    """Return the field of one trained net."""
    return fields.from_net(make_net(kind, dim, settings), params, "eps", time=seen_time)


def train_members(
    run, name: str, kind: str, dim: int, settings, schedule, draws, laws, keys, teachers=None
) -> Any:
    """Return the stacked parameters of nets of one kind, one program for all.

    Args:
      run, name: the run folder, and the name of the training there.
      kind: one of `KINDS`.
      dim: of the space.
      settings: num_steps, batch_size, learning_rate, chunk, width, depth; for "penalised" also
        penalty and penalty_points.
      schedule: the forward process.
      draws: for each law (key, n) -> (n, dim).
      laws: which law each member learns, shape (m,).
      keys: one a member.
      teachers: for "projected", the stacked parameters of the free nets.
    """
    net = make_net(kind, dim, settings)
    optimizer = train.optimizer(settings.learning_rate, schedule="cosine", total=settings.num_steps)
    step = train.make_step(make_loss(kind, dim, settings, schedule), optimizer)
    training = Training(step, _batches(tuple(draws), settings.batch_size), settings.chunk)
    first = first_states(net.init, optimizer, keys)
    source = jnp.asarray(laws), keys, () if teachers is None else teachers
    (params,) = fit(run, name, training, first, source, (settings.num_steps,))
    return params


def make_loss(kind: str, dim: int, settings, schedule) -> Callable:
    """Return the loss of a kind."""
    net = make_net(kind, dim, settings)
    if kind == "projected":
        teacher = make_net("free", dim, settings)
        return _projection_loss(net, teacher, schedule)
    loss = losses.denoising(net, schedule, "eps", time_sampler=TIMES, time=seen_time)
    if kind != "penalised":
        return loss
    where = losses.Collocation(TIMES, num_points=settings.penalty_points)
    penalty = losses.asymmetry(net, schedule, "eps", where, num_probes=1, time=seen_time)
    return losses.plus(loss, penalty, settings.penalty)


def _projection_loss(net, teacher, schedule) -> Callable:
    """E |eps_phi - eps_theta|^2 over points of p_t: its minimum is the gradient part of the teacher
    in L^2(p_t), at every t."""

    def loss(params, key, x0, frozen):
        key_t, key_eps = jax.random.split(key)
        level = schedule.at(TIMES(key_t, len(x0), x0.dtype), x0.ndim)
        x = marginal_sample(x0, jax.random.normal(key_eps, x0.shape, x0.dtype), level)
        t = net_time(seen_time(level), x)
        error = net.apply(params, x, t) - teacher.apply(frozen, x, t)
        return jnp.mean(error**2), {}

    return loss


@functools.cache
def _batches(draws: Sequence[Callable], batch_size: int) -> Callable:
    """(law, key, teacher) and the step -> the batch of one member."""
    branches = [lambda key, draw=draw: draw(key, batch_size) for draw in draws]

    def batch(member, step):
        law, key, teacher = member
        x0 = jax.lax.switch(law, branches, jax.random.fold_in(jax.random.fold_in(key, _DATA), step))
        return (x0, teacher) if teacher else x0

    return batch
