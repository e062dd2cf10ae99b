"""The part "toy": nets of three kinds in two dimensions, trained, looked at and compared.

Kept, for each KIND, beside its parameters (`nets`):

    KIND_fields     asymmetry, score error and Fokker-Planck residual by noise level, on draws of
                    p_t and on the model's own trajectories; samples of the ODE and the SDE
    KIND_loops      circulation by noise level and radius, in float64
    KIND_training   asymmetry and W_2 after each of the kept numbers of steps (free only)

`exact_fields` and `exact_loops` (the floor), `quiver` (the first free net's field) and `joint` (the
distances of the samples of every kind, by seed). What becomes of the free nets' errors is in
`projection`.
"""

from __future__ import annotations

import numpy as np

from dfx import metrics
from experiments.score_or_flow.errors import level_grid
from experiments.score_or_flow.identities import SCHEDULE
from experiments.score_or_flow.measures import loops, measure, measure_exact, quiver, training_curve
from experiments.score_or_flow.nets import (
    BED,
    last_time,
    net_field,
    stacked_oracle,
    train_kind,
    truth,
)
from experiments.score_or_flow.rates import time_of
from experiments.shared import perturbed


def train_and_measure(config, run) -> dict[str, list]:
    """Train every kind and look at its fields; return the parameters by kind and kept step."""
    trained = {kind: train_kind(config, run, kind) for kind in config.toy.kinds}
    levels = time_of(SCHEDULE, level_grid(config))
    for kind in config.toy.kinds:
        field = net_field(kind, config, trained[kind][-1])
        run.arrays(f"{kind}_fields", lambda f=field, k=kind: measure(config, run, f, k, levels))
        run.arrays(f"{kind}_loops", lambda f=field: loops(config, f, levels))
    exact = stacked_oracle(config.num_seeds)
    run.arrays("exact_fields", lambda: measure_exact(config, exact, levels))
    run.arrays("exact_loops", lambda: loops(config, exact, levels))
    run.arrays("joint", lambda: joint(config, run))
    free = net_field("free", config, trained["free"][-1])
    run.arrays("quiver", lambda: quiver(free, levels))
    run.arrays("free_training", lambda: training_curve(config, trained["free"], levels))
    return trained


def joint(config, run) -> dict[str, np.ndarray]:
    """Return W_2 by kind and seed: ode and sde to the truth, between both, and the share of each
    beyond 6 sd of every mode; `floor` is W_2 of two exact sets."""
    exact, kinds = truth(config, 0), config.toy.kinds
    samples = [run.arrays(f"{kind}_fields", _missing) for kind in kinds]
    rows = {
        "ode": [perturbed.distances(row["ode"], exact) for row in samples],
        "sde": [perturbed.distances(row["sde"], exact) for row in samples],
        "between": [perturbed.distances(row["ode"], row["sde"]) for row in samples],
        "ode_beyond": [beyond(config, row["ode"]) for row in samples],
        "sde_beyond": [beyond(config, row["sde"]) for row in samples],
    }
    found = {name: np.stack(values) for name, values in rows.items()}
    floor = perturbed.distances(truth(config, 1), exact)
    return {"kinds": np.asarray(kinds), "floor": floor, **found, "truth": exact}


def _missing():
    raise RuntimeError("the stage before has not been computed")


def beyond(config, x) -> np.ndarray:
    """Return the share of samples (m, n, 2) of the last level more than 6 sd from every mode."""
    law = BED.target.at(SCHEDULE.at(last_time(config)))
    std = np.sqrt(law.variance[0])
    return np.asarray([metrics.hallucinated_fraction(one, law.means, std) for one in x])
