"""Which part of a trained net's error enters: the free nets of the toy, split and sampled.

The score error is split level by level on a grid, e = grad eta + r (`gradient_parts`); s is a
gradient, so grad phi = s + grad eta. Then s_theta, grad phi and s are sampled from the same starts
and their laws compared by quadrature. Kept:

    projection          squares of sigma e and of its parts, (m, levels), on draws, and grad eta
    projection_samples  W_2 to the truth (fields, m), KL(p | q) at the last level (fields, m)
    net_rates           d/dt KL(p_t | q_t) of each net, measured and predicted (`rates`)
"""

from __future__ import annotations

import dataclasses

import jax
import numpy as np

from dfx import diagnostics
from experiments.score_or_flow import nets as toy
from experiments.score_or_flow.errors import level_grid
from experiments.score_or_flow.identities import SCHEDULE, make_test
from experiments.score_or_flow.measures import trajectories
from experiments.score_or_flow.rates import divergence_from, rates, time_of
from experiments.shared import perturbed
from experiments.shared.gradient_parts import GradientPart, split_at

#: What is sampled: the net, the gradient part of it, the exact score.
FIELDS = ("net", "gradient", "exact")


def projection(config, run, params) -> None:
    """Split, sample and follow the errors of the free nets."""
    field = toy.net_field("free", config, params)
    members = [jax.tree.map(lambda a, i=i: a[i], field) for i in range(config.num_seeds)]
    split = run.arrays("projection", lambda: split_errors(config, run, members))
    gradients = [gradient_field(split, i) for i in range(config.num_seeds)]
    run.arrays("projection_samples", lambda: compare(config, members, gradients))
    run.arrays("net_rates", lambda: net_rates(config, run, members))


def gradient_field(split: dict[str, np.ndarray], seed: int):
    """Return grad phi of one net as a field, from what `split_errors` keeps."""
    parts = (np.log(split["t"]), split["side"], split["values"][seed])
    rising = GradientPart(*(part[::-1] for part in parts))
    return diagnostics.with_error(toy.BED.exact, rising)


def split_errors(config, run, members) -> dict[str, np.ndarray]:
    """Return what `split_at` finds, arrays (m, levels, ...), from the noise to the data."""
    levels = level_grid(config)
    times = time_of(SCHEDULE, levels)
    keys, rows = toy.member_keys(config, 2), []
    with run.progress(len(times) * len(members), "projection", unit="split") as bar:
        for t in map(float, times):
            x = toy.draws(keys, config.toy.num_points, t)
            for i, member in enumerate(members):
                rows.append(split_at(toy.BED, member, t, x[i], config.toy.num_cells))
                bar.update(1)
    stacked = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    shape = len(times), len(members)
    found = {k: np.swapaxes(a.reshape(*shape, *a.shape[1:]), 0, 1) for k, a in stacked.items()}
    return {"level": levels, "t": times, "side": found.pop("side")[0], **found}


def compare(config, members, gradients) -> dict[str, np.ndarray]:
    """Return W_2 to the truth and KL(p | q) at the last level by field and member."""
    exact = toy.truth(config, 0)
    test = make_test(config, toy.BED.target)
    # The exact field as one with an error of 0: the program of the projected ones.
    exact_fields = [dataclasses.replace(f, weight=0.0) for f in gradients]
    kinds = {"net": members, "gradient": gradients, "exact": exact_fields}
    times = time_of(SCHEDULE, level_grid(config))
    keys = toy.member_keys(config, 0)
    rows: dict[str, list] = {"w2": [], "kl": []}
    for name in FIELDS:
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *kinds[name])
        x = trajectories(stacked, keys, config.toy.num_samples, times)[-1]
        rows["w2"].append(perturbed.distances(x, exact))
        rows["kl"].append(
            [divergence_from(test, _in_float64(f), config.levels.low) for f in kinds[name]]
        )
    found = {name: np.asarray(values) for name, values in rows.items()}
    return {"names": np.asarray(FIELDS), **found}


def net_rates(config, run, members) -> dict[str, np.ndarray]:
    """Return what `rates` finds for each free net, arrays (m, levels)."""
    test = make_test(config, toy.BED.target)
    found = []
    with run.progress(len(members), "rates of nets", unit="net") as bar:
        for field in members:
            found.append(rates(test, _in_float64(field), config.rates.levels))
            bar.update(1)
    return {name: np.stack([row[name] for row in found]) for name in found[0]}


def _in_float64(field):
    return jax.tree.map(lambda a: np.asarray(a, np.float64), field)
