"""Teleportation: the first steps of a sampler replaced by the Gaussian's closed form.

For every solver and number of steps left out, from equal noise:

    cold    the closed form to the level skipped to, then the rest of the grid
    warm    for methods with memory: some steps less are left out, and the Gaussian's denoiser
            answers in them instead of the net, so that the method has a past (`solvers.handover`)
    plain   no closed form: as many evaluations as cold, spread over the whole range

Kept: `teleport`, by ARM = SOLVER.GRID.VARIANT, each (seeds, skips, numbers); see `NUMBERS`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np

from dfx import evolution, fields, metrics, schedules, solvers
from dfx.schedules import grids
from experiments.gaussian_painters import nets as setup
from experiments.gaussian_painters.paths import starts

#: Distances to held-out pictures: the squared W_2 of the Gaussian fits, sliced W_2 and W_2. Samples
#: of the closed form alone have the mean and covariance of the data: the first is blind to what is
#: wrong with them, and the second nearly so.
DISTANCES = ("frechet", "sliced", "transport")

#: What is kept of each run: the root mean square distance of the samples to those without a skip
#: and to those of many steps, over the root of the data's total variance; the distances to held-out
#: pictures; net evaluations.
NUMBERS = ("same", "fine", *DISTANCES, "evaluations")

#: Leading principal components in which the Gaussian fits are compared.
FEATURES = 32


class Arm(NamedTuple):
    """A solver on a grid, and how it starts."""

    solver: str
    grid: str
    variant: str

    @property
    def name(self) -> str:
        return ".".join(self)


class Bed(NamedTuple):
    """What all runs share: the field of a net, the Gaussian and its flow, the noise."""

    field: Any
    law: Any
    flow: Any
    noise: Any


def arms(config) -> list[Arm]:
    """Return the arms: Heun on both grids, multistep methods on EDM's."""
    found = [Arm("heun", grid, kind) for grid in ("edm", "scaled") for kind in ("cold", "plain")]
    kinds = ("cold", "warm", "plain")
    return found + [Arm(name, "edm", kind) for name in config.teleport.solvers for kind in kinds]


def highest(config, grid: str, variance: np.ndarray) -> float:
    """Return sigma_max of a grid: EDM's, or in proportion to the data as on CIFAR-10."""
    scaled = config.teleport.ratio * float(np.sqrt(variance.max()))
    return setup.HIGHEST if grid == "edm" else min(scaled, setup.HIGHEST)


def measure_teleport(config, run, net, params, laws, pictures) -> None:
    """Run every arm."""
    run.arrays("teleport", lambda: teleport(config, run, net, params, laws, pictures))


def teleport(config, run, net, params, laws, pictures) -> dict[str, np.ndarray]:
    """Return the numbers of every arm, the grids, and the `DISTANCES` of as many training pictures
    ("floors") and samples of the closed form alone ("linear"), (seeds, 3)."""
    spectrum = run.arrays("spectrum", dict)
    law, flow = laws["gaussian"], evolution.gaussian_flow(laws["gaussian"])
    judge = Judge(config, spectrum, pictures.test)
    rows: dict[str, list] = {arm.name: [] for arm in arms(config)}
    floors, linear = [], []
    with run.progress(config.num_seeds * len(rows), "teleport", unit="arm") as bar:
        for seed in range(config.num_seeds):
            size = config.teleport.num_samples
            noise = starts(config, 5, seed, size, law.dim) / setup.HIGHEST
            bed = Bed(setup.net_field(net, params, seed), law, flow, noise)
            for arm in arms(config):
                sigma_max = highest(config, arm.grid, spectrum["variance"])
                rows[arm.name].append(_run_arm(config, bed, arm, sigma_max, judge))
                bar.update(1)
            order = jax.random.permutation(setup.seed_keys(config, 6)[seed], len(pictures.train))
            floors.append(judge.distances(pictures.train[np.asarray(order)[:size]]))
            start = setup.SCHEDULE.at(setup.HIGHEST)
            alone = flow.move(setup.HIGHEST * noise, start, schedules.CLEAN)
            linear.append(judge.distances(np.asarray(alone, np.float64)))
    levels = {
        f"sigma.{name}": grids.karras(setup.SCHEDULE, config.teleport.num_steps,
                                      sigma_max=highest(config, name, spectrum["variance"]))
        for name in ("edm", "scaled")
    }  # fmt: skip
    return (
        {name: np.asarray(row) for name, row in rows.items()}
        | levels
        | {"floors": np.asarray(floors), "linear": np.asarray(linear)}
    )


class Judge:
    """Distances of samples to held-out pictures, with the same directions for all."""

    def __init__(self, config, spectrum, test):
        self._basis = spectrum["basis"][:, :FEATURES]
        self._test = test[: config.teleport.num_samples]
        self._key = jax.random.key(config.seed + 7)
        self.size = float(np.sqrt(spectrum["variance"].sum()))

    def distances(self, x) -> tuple[float, float, float]:
        """Return the `DISTANCES`; the first in leading components, the last of equal numbers."""
        features = [np.asarray(a, np.float64) @ self._basis for a in (x, self._test)]
        count = min(len(x), len(self._test))
        return (metrics.frechet(*features), metrics.sliced_wasserstein(self._key, x, self._test),
                metrics.wasserstein_exact(x[:count], self._test[:count]))  # fmt: skip

    def apart(self, x, y) -> float:
        """Return the root mean square distance of pairs over the spread of the data."""
        return float(np.sqrt(np.mean(np.sum((x - y) ** 2, axis=1)))) / self.size


def _run_arm(config, bed: Bed, arm: Arm, sigma_max: float, judge: Judge) -> list[list[float]]:
    """One row of `NUMBERS` for each skip."""
    settings, rows = config.teleport, []
    fine_grid = grids.karras(setup.SCHEDULE, settings.reference_steps, sigma_max=sigma_max)
    x = sigma_max * bed.noise
    fine = _solve(solvers.heun(setup.SCHEDULE, fine_grid), bed.field, x)
    plans = [plan(settings, bed, arm, sigma_max, skip) for skip in settings.skips]
    # Of one length and pattern: one compiled program runs them all.
    padded = solvers.pad([tableau for tableau, _, _ in plans])
    ends = [_solve(tableau, field, start) for tableau, (_, field, start) in zip(padded, plans)]
    for skip, (tableau, _, _), end in zip(settings.skips, plans, ends):
        past = min(skip, settings.memory) if arm.variant == "warm" else 0
        rows.append([judge.apart(end, ends[0]), judge.apart(end, fine), *judge.distances(end),
                     tableau.num_rows - past])  # fmt: skip
    return rows


def plan(settings, bed: Bed, arm: Arm, sigma_max: float, skip: int):
    """Return the tableau, field and start of an arm that leaves out so many steps."""
    x = sigma_max * bed.noise
    if arm.variant == "plain":
        grid = grids.karras(setup.SCHEDULE, settings.num_steps - skip, sigma_max=sigma_max)
        return solvers.make(arm.solver, setup.SCHEDULE, grid), bed.field, x
    grid = grids.karras(setup.SCHEDULE, settings.num_steps, sigma_max=sigma_max)
    field, first = bed.field, skip
    if arm.variant == "warm":
        first = max(skip - settings.memory, 0)
        field = solvers.handover(
            fields.oracle(bed.law), bed.field, setup.SCHEDULE, float(grid[skip])
        )
    start = solvers.teleport(setup.SCHEDULE, bed.flow.move, x, grid, first)
    return solvers.make(arm.solver, setup.SCHEDULE, start.grid), field, start.x


def _solve(tableau, field, x) -> np.ndarray:
    return np.asarray(solvers.sample(tableau, field, x), np.float64)
