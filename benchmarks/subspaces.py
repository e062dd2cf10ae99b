"""Many small trainings: low-rank nets as one vmapped program against a Python loop.

A training is `--steps` steps of Adam at batch 32 on the plain loss: one subspace of dimension 4 in
48 dimensions from 8 points of its own, a net of a cell of the study `subspace_clustering`. `dfx`
trains all of them as one program, its members spread over the devices; `loop` calls the same
compiled training once for each.

    python -m benchmarks.subspaces --members 256

Reported per training; `trainings_per_s` is by the wall, warm.
"""

from __future__ import annotations

import argparse
import functools
import math

import jax
import jax.numpy as jnp

from benchmarks.timing import measure_in_turn, num_cpus, report
from dfx import data, losses, nets, schedules, targets, train
from experiments.subspace_clustering.maps import masked_low_rank

DIM, RANK, POINTS, BATCH, RATE = 48, 4, 8, 32, 0.05
SCHEDULE = schedules.VPLinear()
NET = masked_low_rank(DIM, 1, RANK)


def make_states(members: int):
    """Return stacked states before the first step, and the source of their batches: points and
    keys of their order."""
    optimizer = train.optimizer(RATE)

    def one(key):
        of_bases, of_points, of_net, of_step = jax.random.split(key, 4)
        law = targets.union_of_subspaces(targets.random_bases(of_bases, DIM, (RANK,)))
        state = train.init_state(NET.init(of_net), optimizer, of_step)
        return state, (law.sample(of_points, POINTS), key)

    return jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), members))


def batch(source, step):
    """Return the batch of one member, and that all columns of its net count."""
    points, key = source
    return points[data.indices(key, step, BATCH, POINTS)], jnp.ones(RANK)


def spread(tree, members: int):
    """Return the members on as many of the devices as share them evenly."""
    count = math.gcd(members, jax.device_count())
    return tree if count == 1 else train.spread(tree, train.device_mesh(jax.devices()[:count]))


def ways(members: int, steps: int) -> dict:
    """Return the calls that train all members, by name."""
    times = losses.uniform(SCHEDULE, 0.02, 0.98)
    loss = losses.denoising(NET, SCHEDULE, "x0", time_sampler=times, time=nets.alpha_sigma)
    step = train.make_step(loss, train.optimizer(RATE))
    fit = functools.partial(train.fit, step, batch_fn=batch, num_steps=steps, chunk=steps)
    states, source = make_states(members)
    alone = [(train.member(states, i), train.member(source, i)) for i in range(members)]
    states, source = spread((states, source), members)
    return {
        "dfx": lambda: fit(state=states, data=source),
        "loop": lambda: [fit(state=state, data=points) for state, points in alone],
    }


def main() -> None:
    """Run the workload as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--members", type=int, nargs="+", default=[16, 128])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    for members in args.members:
        for name, time in measure_in_turn(ways(members, args.steps), args.repeats).items():
            each = {key: time[key] / members for key in ("wall_s", "cpu_s")}
            rate = {"trainings_per_s": members / time["wall_s"], "devices": jax.device_count()}
            first = {"first_s": time["first_s"], "cpus": num_cpus(), "steps": args.steps}
            report("subspaces", f"{members}-nets {name}", **each, **first, **rate)


if __name__ == "__main__":
    main()
