"""Ensembles of small noise predictors on point sets: trained as one program, sampled member by
member.

What toy studies share. A member is one training: a point set (padded to the largest, with its
size), and a key. Stages are named; each leaves one file of arrays in the run folder, and a stage
that has its file is not done again.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dfx import data, fields, losses, nets, schedules, solvers, targets, train
from experiments.shared.members import Training, first_states, fit


class Toy(NamedTuple):
    """What all members of all ensembles of one dimension share."""

    net: nets.Net
    schedule: schedules.DiscreteVP
    optimizer: Any
    step: Callable
    chunk: int


class Members(NamedTuple):
    """The trainings of one ensemble, members first: points (m, n_max, d), sizes (m,), keys (m,)."""

    points: np.ndarray
    sizes: np.ndarray
    keys: jax.Array


def make_toy(config, dim: int, num_steps: int) -> Toy:
    """Return the paper's net, forward process and loss (plain eps, uniform steps), with Adam over
    `num_steps` steps."""
    net = nets.weight_tied_mlp(dim, config.net.width, config.net.depth)
    decay, process = config.train.schedule, tuple(sorted(config.schedule.items()))
    optimizer = train.optimizer(config.train.learning_rate, schedule=decay, total=num_steps)
    return Toy(
        net, make_schedule(config), optimizer, _step(net, process, decay), config.train.chunk
    )


@functools.cache  # the rate and its length are in the state: one program trains for all lengths
def _step(net: nets.Net, process: tuple, decay: str) -> Callable:
    schedule = schedules.discrete_linear(**dict(process))
    loss = losses.denoising(
        net,
        schedule,
        "eps",
        time_sampler=losses.discrete(schedule),
        time=step_number(schedule.num_steps),
    )
    return train.make_step(loss, train.optimizer(schedule=decay, total=1))


def make_schedule(config) -> schedules.DiscreteVP:
    """Return the paper's table of noise levels."""
    return schedules.discrete_linear(**config.schedule)


def law(target: targets.Mixture) -> dict[str, np.ndarray]:
    """Return what an analysis needs to know of an isotropic mixture: its means (k, d) and its
    modes' sd."""
    return {"means": np.asarray(target.means), "std": np.sqrt(target.variance[:1])}


def gather(point_sets: Sequence[np.ndarray], keys: Sequence[jax.Array]) -> Members:
    """Return the members of an ensemble from one point set and one key each."""
    sizes = np.asarray([len(points) for points in point_sets], np.int32)
    padded = [np.resize(points, (sizes.max(), points.shape[1])) for points in point_sets]
    return Members(np.stack(padded).astype(np.float32), sizes, jnp.stack(list(keys)))


def fit_members(
    run, name: str, toy: Toy, members: Members, batch_size: int, snapshots: Sequence[int]
) -> list[Any]:
    """Return the stacked parameters after each number of steps in `snapshots`, as `members.fit`
    does; batches of `batch_size` points for each member."""
    first = first_states(toy.net.init, toy.optimizer, members.keys)
    training = Training(toy.step, _batches(batch_size), toy.chunk)
    return fit(run, name, training, first, tuple(members), snapshots)


@functools.cache
def _batches(batch_size: int) -> Callable:
    """Return the pure function from one member's (points, size, key) and the step to its batch."""

    def batch(member, step):
        points, size, key = member
        order = jax.random.fold_in(key, _ORDER)
        return points[data.indices(order, step, batch_size, size)]

    return batch


_ORDER = 2  # what `first_states` leaves of a member's key: the order of its points


def net_field(toy: Toy, params: Any) -> fields.NetField:
    """Return the field of one member; the net sees the step number."""
    return fields.from_net(toy.net, params, "eps", time=step_number(toy.schedule.num_steps))


@functools.cache  # one function object a table, so that what is compiled for it is found again
def step_number(num_steps: int) -> Callable:
    """Return the function from a level to its step number 0..num_steps - 1, what the paper's net
    takes as t."""
    return lambda level: level.t * num_steps - 1


class Sampler(NamedTuple):
    """A solver with the time of its first level, where the prior is drawn."""

    start_time: float
    tableau: solvers.Tableau


def ancestral(schedule: schedules.DiscreteVP, start_index: int) -> Sampler:
    """Return the paper's sampler: every step below `start_index`, variance beta, no noise in the
    last one."""
    times = np.append(schedule.time_of_index(np.arange(start_index - 1, -1, -1)), 0.0)
    return Sampler(times[0], solvers.ddpm(schedule, times, variance="large"))


def ddim(schedule: schedules.DiscreteVP, start_index: int, num_steps: int) -> Sampler:
    """Return DDIM on equal steps of time over the same range."""
    times = schedules.grids.uniform(
        schedule, num_steps, start=schedule.time_of_index(start_index - 1)
    )
    return Sampler(times[0], solvers.ddim(schedule, times))


def sample_members(
    run,
    name: str,
    toy: Toy,
    params: Any,
    keys: Sequence[jax.Array] | jax.Array,
    sampler: Sampler,
    shape: tuple,
    windows,
) -> dict[str, np.ndarray]:
    """Return samples x (m, n, d) and late variances of x0_hat (m, n, windows), from the run folder
    if there.

    Args:
      run: the run folder.
      name: of the stage.
      toy: net and forward process.
      params: stacked parameters, members first.
      keys: one for each member; members with equal keys get the same noise.
      sampler: as `ancestral` makes it.
      shape: (n, d).
      windows: numbers of last steps over which the variance is taken.
    """

    def compute():
        with run.progress(len(keys), name, unit="net") as bar:
            pairs = []
            for i, key in enumerate(keys):
                field = net_field(toy, train.member(params, i))
                pairs.append(sample_field(toy.schedule, field, key, sampler, shape, windows))
                bar.update(1)
        return dict(zip(("x", "variance"), map(np.stack, zip(*pairs))))

    return run.arrays(name, compute)


def sample_field(schedule, field, key, sampler, shape, windows) -> tuple[np.ndarray, np.ndarray]:
    """Return samples of any field (n, d), and the variances of its x0_hat over the last steps (n,
    windows)."""
    start, noise = jax.random.split(key)
    x = solvers.prior(start, schedule, shape, t=sampler.start_time)
    observe = solvers.window_variance(tuple(windows))
    x, variance = solvers.sample(sampler.tableau, field, x, noise, observe=observe)
    return np.asarray(x), np.asarray(variance)
