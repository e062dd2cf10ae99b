"""What the study `solver_orders` reads off its errors."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dfx.runs import Record
from dfx.solvers import REGISTRY
from experiments.shared.public_problem import BEST_PUBLIC

#: How far a fitted order may lie from the stated one: up to order 3, and above, where the last
#: terms of the error fall faster than rounding lets one see.
TOLERANCES = (0.15, 0.4)

#: Solvers that are given statistics of the field.
INFORMED = ("dpm_solver_v3",)

#: The two starts of orders, as the arrays hold them.
STARTS = ("early", "late")


def names_of(run: Record) -> dict[str, list[str]]:
    """Return the names along the axes of the run's arrays."""
    return {key: value.tolist() for key, value in run.arrays("axes").items()}


class Orders:
    """Errors between two noise levels, and the orders fitted to them.

    Attributes:
      names: solvers, then their variants.
      errors: by name, shape (laws, schedules, starts, steps, sets).
    """

    def __init__(self, run: Record):
        """Read the errors of every solver of the run."""
        axes = names_of(run)
        self.names, self.solvers = [*axes["solvers"], *axes["variants"]], axes["solvers"]
        self.laws = [law for law in run.config.orders.laws if law in run.config.laws]
        self.steps = np.asarray(run.config.orders.steps)
        self.errors = {
            name: run.arrays(f"order_{name.replace(', ', '.')}")["errors"] for name in self.names
        }

    def slopes(self, name: str) -> np.ndarray:
        """The fitted orders, shape (laws, schedules, starts, sets)."""
        return fitted_order(self.steps, np.moveaxis(self.errors[name], 3, -1))

    def share_as_stated(self, law: int) -> np.ndarray:
        """The share of the registry's solvers whose order, started early, is the stated one on both
        schedules, shape (sets,)."""
        found = []
        for name in self.solvers:
            stated = REGISTRY[name].order
            deviation = np.abs(self.slopes(name)[law, :, 0] - stated)
            found.append((deviation <= TOLERANCES[stated > 3]).all(axis=0))
        return np.mean(found, axis=0)


def fitted_order(steps, errors) -> np.ndarray:
    """Return minus the slope of log error against log number of steps, by least squares.

    Args:
      steps: shape (k,).
      errors: shape (*shape, k).
    """
    x = np.log(steps) - np.log(steps).mean()
    return -(np.log(errors) @ x) / (x @ x)


class Errors:
    """Errors from noise to clean data at equal numbers of evaluations.

    Attributes:
      names, laws, schedules, grids: along the axes.
      half: which grids end half-way to the denoiser.
      budgets: most evaluations, rising.
      errors: by name, shape (laws, schedules, grids, budgets, sets); nan where a grid is refused.
      evaluations: spent, by name, shape (schedules, grids, budgets).
    """

    def __init__(self, run: Record):
        """Read the errors of every solver of the run."""
        axes = names_of(run)
        self.names, self.laws = axes["solvers"], list(run.config.laws)
        self.schedules, self.grids, self.half = axes["schedules"], axes["grids"], axes["half"]
        self.budgets = np.asarray(run.config.errors.budgets)
        arrays = {name: run.arrays(f"error_{name}") for name in self.names}
        self.errors = {name: found["errors"] for name, found in arrays.items()}
        self.evaluations = {name: found["evaluations"] for name, found in arrays.items()}

    def has(self, budgets: tuple[int, int]) -> bool:
        """Whether a budget between the two, both included, was measured."""
        return bool(self._between(budgets).any())

    def of(self, name: str, schedule: str, grid: str) -> np.ndarray:
        """Errors of one sampler, shape (laws, budgets, sets)."""
        return self.errors[name][:, self.schedules.index(schedule), self.grids.index(grid)]

    def spent(self, name: str, schedule: str, grid: str) -> np.ndarray:
        """Evaluations of one sampler, shape (budgets,)."""
        return self.evaluations[name][self.schedules.index(schedule), self.grids.index(grid)]

    def ratio(self, one: tuple, other: tuple, budgets: tuple[int, int]) -> np.ndarray:
        """The error of one (solver, schedule, grid) over that of another: geometric mean over laws
        and the budgets between the two, shape (sets,)."""
        chosen = self._between(budgets)
        logs = [np.log(self.of(*sampler)[:, chosen]) for sampler in (one, other)]
        return np.exp(np.nanmean(logs[0] - logs[1], axis=(0, 1)))

    def late_budgets(self) -> np.ndarray:
        """The budgets from 50 on, where errors follow their order."""
        return self.budgets[self.budgets >= 50]

    def fitted_order(self, name: str, law: str, schedule: str, grid: str) -> np.ndarray:
        """The fitted order against evaluations over the late budgets, shape (sets,)."""
        late = self.budgets >= 50
        errors = self.of(name, schedule, grid)[self.laws.index(law)][late]
        return fitted_order(self.spent(name, schedule, grid)[late], errors.T)

    def stacked(self) -> np.ndarray:
        """All errors, shape (solvers, laws, schedules, grids, budgets, sets)."""
        return np.stack([self.errors[name] for name in self.names])

    def second_order(self) -> np.ndarray:
        """Which solvers have an order above 1, shape (solvers,)."""
        return np.asarray([REGISTRY[name].order > 1 for name in self.names])

    def straight_over_noise(self, budgets: tuple[int, int]) -> np.ndarray:
        """The best error on grids in the linear path's time over the best on grids in the noise
        level, of any solver; geometric mean over laws and budgets, shape (sets,)."""
        errors = self.stacked()[..., self._between(budgets), :]
        index = self.grids.index
        straight = errors[:, :, self.schedules.index("rectified_linear")]
        straight = straight[:, :, [index("uniform"), index("quadratic")]].min(axis=(0, 2))
        noise = np.nanmin(errors[:, :, :, [index("log_snr"), index("karras")]], axis=(0, 2, 3))
        return np.exp(np.log(straight / noise).mean(axis=(0, 1)))

    def grid_over_solver(self, budgets: tuple[int, int]) -> np.ndarray:
        """The variance of the log error between (schedule, grid) over that between solvers, each
        after averaging over the other: mean over laws and budgets, shape (sets,).

        First-order solvers are left out: everything beats them.
        """
        errors = self.stacked()[self.second_order()][:, :, :, ~np.asarray(self.half)]
        logs = np.log(errors[..., self._between(budgets), :])
        solvers, laws, schedules, grids, budgets_, sets = logs.shape
        logs = logs.reshape(solvers, laws, schedules * grids, budgets_, sets)
        between_grids = np.nanvar(np.nanmean(logs, axis=0), axis=1)
        between_solvers = np.nanvar(np.nanmean(logs, axis=2), axis=0)
        return between_grids.mean(axis=(0, 1)) / between_solvers.mean(axis=(0, 1))

    def _between(self, budgets: tuple[int, int]) -> np.ndarray:
        low, high = budgets
        return (self.budgets >= low) & (self.budgets <= high)


class Sampler(NamedTuple):
    """A solver on a schedule and grid, the evaluations it spends and its mean error."""

    solver: str
    schedule: str
    grid: str
    evaluations: int
    error: float


def best_of(errors: Errors, law: str, budget: int, count: int) -> list[Sampler]:
    """Return the samplers with the smallest errors at a budget, each solver once."""
    place = errors.laws.index(law), list(errors.budgets).index(budget)
    found = []
    for name in errors.names:
        mean = errors.errors[name][place[0], :, :, place[1]].mean(-1)
        if np.isfinite(mean).any():
            i, j = np.unravel_index(np.nanargmin(mean), mean.shape)
            spent = int(errors.evaluations[name][i, j, place[1]])
            found.append(Sampler(name, errors.schedules[i], errors.grids[j], spent, mean[i, j]))
    return sorted(found, key=lambda sampler: sampler.error)[:count]


def best_samplers(errors: Errors, count: int = 5) -> str:
    """Return the best samplers of every law and budget as a table in Markdown."""
    lines = [
        "| law | budget | solver | schedule | grid | evaluations | mean error |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for law in errors.laws:
        for budget in errors.budgets:
            for found in best_of(errors, law, budget, count):
                cells = (law, budget, *found[:4], f"{found.error:.2g}")
                lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join([*lines, ""])


class Best(NamedTuple):
    """The best sampler here at a budget, and the best public one."""

    budget: int
    error: float
    solver: str
    public_error: float
    public_name: str

    @property
    def ratio(self) -> float:
        """The error here over theirs."""
        return self.error / self.public_error


class Public:
    """Errors on the problem of the public packages.

    Attributes:
      errors: by solver, shape (ways, budgets).
    """

    def __init__(self, run: Record):
        """Read the errors of every solver of the run."""
        self.names = names_of(run)["solvers"]
        self.budgets = list(run.config.public.budgets)
        self.errors = {name: run.arrays(f"public_{name}")["errors"] for name in self.names}

    def ranked(self, budget: int, blind: bool = False) -> list[Best]:
        """The solvers by their best error at a budget, the smallest first; only where a public
        figure exists. `blind` leaves out those that are given statistics of the field."""
        if budget not in BEST_PUBLIC:
            return []
        public_error, public_name = BEST_PUBLIC[budget]
        column, found = self.budgets.index(budget), []
        for name in self.names:
            errors = self.errors[name][:, column]
            if np.isfinite(errors).any() and not (blind and name in INFORMED):
                found.append(Best(budget, np.nanmin(errors), name, public_error, public_name))
        return sorted(found, key=lambda best: best.error)

    def best(self, blind: bool) -> list[Best]:
        """The best sampler of every budget."""
        ranked = [self.ranked(budget, blind) for budget in self.budgets]
        return [found[0] for found in ranked if found]
