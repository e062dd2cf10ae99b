"""One net, two laws: what the Fokker-Planck residual has to do with the gap between the laws of its
ODE and of its SDE.

What is kept, one file of arrays a stage; members are data law x weight x seed, seeds fastest:

    nets_N              parameters of all members after N steps
    measures_LAW        residuals and errors, members of that law first (weights x seeds)
    laws_LAW            masses of the laws of ODE and SDE in the cells of the grid, and the truth
    distances_LAW       squares of W_2 between the three, what left the window
    refined_LAW         the same of each weight's first seed with half the steps
    exact               the same for the exact score of the mixture: what the computation leaves
    bound               the bound of the gap where both sides are known

Source: Deveney et al. (2023), arXiv 2311.15996.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from dfx import fields
from experiments.fokker_planck_gap import data, laws, nets
from experiments.fokker_planck_gap.bound import bounds
from experiments.fokker_planck_gap.measures import measure, points
from experiments.shared.members import first_states, fit

#: What is folded into the seed for the points and the histograms; members take seeds below.
_POINTS, _HISTOGRAMS = 1001, 1002


def run(config, run) -> None:
    """Train all members, then measure the nets and their laws, one data law after the other."""
    stages = ("measures", "laws", "distances", "refined")
    steps = sum(config.train.phase_steps)
    run.plan("nets", *(f"{stage}_{name}" for name in data.SETS for stage in stages))
    run.arrays("bound", lambda: bounds(config.bound))
    net = nets.make_net(config.net)
    members = nets.make_members(config)
    first = first_states(net.init, nets.make_optimizer(config.train), members.keys)
    (params,) = fit(run, "nets", nets.make_training(config, net), first, tuple(members), (steps,))
    exact(config, run)
    for law in range(len(data.SETS)):
        judge(config, run, net, params, law)


def exact(config, run) -> None:
    """Compute the laws of the exact score of the mixture as those of a net are computed."""
    schedule, space = nets.make_schedule(config), laws.window(config.laws)
    truth = data.masses("mixture", space.grid)

    def compute():
        at = laws.times(config.end_time, config.laws, config.laws.num_steps)
        found = laws.generated(schedule, fields.oracle(data.mixture()), space, at)
        return laws.distances(config, space, truth, found, _key(config, _HISTOGRAMS))

    run.arrays("exact", compute)


def judge(config, run, net, params: Any, law: int) -> None:
    """Measure the nets of one data law, compute their laws and the distances between these."""
    name, schedule, space = data.SETS[law], nets.make_schedule(config), laws.window(config.laws)
    count = len(config.weights) * config.num_seeds
    own = range(law * count, (law + 1) * count)
    at = points(config, schedule, law, jax.random.fold_in(_key(config, _POINTS), law))
    truth = data.masses(name, space.grid)
    keys = jax.random.split(jax.random.fold_in(_key(config, _HISTOGRAMS), 1 + law), count)

    def measured(params, _):
        return measure(net, params, schedule, at, config.measures.num_each)

    def lawful(num_steps):
        grid = laws.times(config.end_time, config.laws, num_steps)
        return lambda params, _: laws.net_laws(net, params, schedule, space, grid)

    def compared(found, member):
        return laws.distances(config, space, truth, found, keys[member])

    stage(run, f"measures_{name}", count, lambda bar: nets.each(measured, params, own, bar))
    whole = stage(
        run, f"laws_{name}", count,
        lambda bar: nets.each(lawful(config.laws.num_steps), params, own, bar),
    )  # fmt: skip
    pairs = [{kind: whole[kind][i] for kind in ("ode", "sde")} for i in range(count)]
    run.arrays(f"truth_{name}", lambda: {"truth": truth})
    stage(run, f"distances_{name}", count, lambda bar: compare(compared, pairs, range(count), bar))
    firsts = range(0, count, config.num_seeds)

    def refined(bar):
        coarse = lawful(config.laws.num_steps // 2)
        found = nets.each(coarse, params, [law * count + i for i in firsts])
        return compare(compared, found, firsts, bar)

    stage(run, f"refined_{name}", len(firsts), refined)


def compare(compared: Callable, found: list[dict], members, bar) -> list[dict]:
    """Return the distances compared(found[i], members[i]) of each member in turn."""
    rows = []
    for laws_of_one, member in zip(found, members):
        rows.append(compared(laws_of_one, member))
        bar.update(1)
    return rows


def stage(run, name: str, total: int, rows: Callable) -> dict[str, np.ndarray]:
    """Return the arrays of a stage that is a list of dictionaries, members first in every array."""

    def compute():
        with run.progress(total, name, unit="net") as bar:
            found = rows(bar)
        return {key: np.stack([row[key] for row in found]) for key in found[0]}

    return run.arrays(name, compute)


def _key(config, number: int) -> jax.Array:
    return jax.random.fold_in(jax.random.key(config.seed), number)
