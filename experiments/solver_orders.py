"""Errors of every deterministic solver against the exact probability-flow path.

The path of x / alpha against sigma / alpha is the same for every schedule, so one adaptive solve a
law gives the exact ends for all of them. What is kept, one file of arrays a stage:

    axes            the names along the axes of the arrays below
    statistics_LAW  of the field, for DPM-Solver-v3
    exact_LAW       starts x / alpha at the noise levels named below, and the exact ends
    order_SOLVER    median errors (laws, schedules, starts, steps, sets) between two noise levels
    error_SOLVER    mean errors (laws, schedules, grids, budgets, sets) from noise to clean data,
                    and evaluations spent (schedules, grids, budgets); nan where a grid is refused
    public_SOLVER   mean errors (ways, budgets) on the problem of the public packages
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from dfx import fields, schedules, solvers
from dfx.schedules import grids
from experiments.shared import public_problem
from experiments.shared.laws import LAWS
from experiments.shared.solver_budget import (
    EDM,
    PATH,
    WAYS,
    exact_end,
    make_tableau,
    on_path,
    time_of,
    within_budget,
)
from experiments.shared.solver_stack import jitted, run_stack

SCHEDULES: dict[str, schedules.Schedule] = {
    "vp_linear": schedules.VPLinear(),
    "vp_cosine": schedules.VPCosine(),
    "edm": EDM,
    "rectified_linear": PATH,
}

#: The smallest sigma / alpha above 0 of the grids in log-SNR and of Karras.
LAST_NOISE = 0.002


class Grid(NamedTuple):
    """How times are spaced, and whether the last step goes half-way to the denoiser."""

    times: Callable  # (schedule, number of steps, noise at the start) -> n + 1 times, the last 0
    half: bool = False


def _power(exponent):
    return lambda schedule, n, noise: grids.power(schedule, n, exponent, time_of(schedule, noise))


def _log_snr(schedule, n, noise):
    first, last = time_of(schedule, noise), time_of(schedule, LAST_NOISE)
    return np.append(grids.uniform_log_snr(schedule, n - 1, first, last), 0.0)


GRIDS = {
    "uniform": Grid(_power(1.0)),
    "quadratic": Grid(_power(2.0)),
    "log_snr": Grid(_log_snr),
    "karras": Grid(lambda schedule, n, noise: grids.karras(schedule, n, LAST_NOISE, noise)),
    "uniform, half": Grid(_power(1.0), half=True),
    "quadratic, half": Grid(_power(2.0), half=True),
}

#: Orders are measured on two schedules, from two starts.
ORDER_SCHEDULES = ("vp_linear", "rectified_linear")
STARTS = ("early", "late")

#: The solver that is given statistics of the field.
STATISTICAL = "dpm_solver_v3"

#: Solvers that are measured besides the registry's defaults, for their order alone.
VARIANTS = {
    "dpm_solver_pp_3m, reference": ("dpm_solver_pp_3m", {"variant": "reference"}),
    "dpm_solver_3m, reference": ("dpm_solver_3m", {"variant": "reference"}),
    "plms, reference": ("plms", {"variant": "reference"}),
    "ipndm, reference": ("ipndm", {"variant": "reference"}),
}


class Law(NamedTuple):
    """A law's field, compiled, and its statistics if a solver asks for them."""

    field: Callable
    statistics: solvers.ModelStatistics | None


def run(config, run) -> None:
    """Run the parts that the config names; what is in the run folder already is not done again."""
    names = solver_names(config)
    run.plan(*(f"{part} {name}" for part in config.parts for name in names))
    run.arrays("axes", lambda: axes(names))
    with jax.enable_x64(True):
        targets = {name: LAWS[name]() for name in config.laws}
        laws = {name: make_law(config, run, name, target) for name, target in targets.items()}
        for name, target in targets.items():
            run.arrays(f"exact_{name}", lambda target=target: exact(config, target))
        parts = {"orders": orders, "errors": errors, "public": public}
        for part in config.parts:
            parts[part](config, run, laws, names)


def axes(names) -> dict[str, np.ndarray]:
    """Return the names along the axes of the other arrays."""
    variants = [name for name, (base, _) in VARIANTS.items() if base in names]
    return {
        "solvers": np.asarray(names),
        "variants": np.asarray(variants, dtype=np.str_),
        "schedules": np.asarray(list(SCHEDULES)),
        "grids": np.asarray(list(GRIDS)),
        "half": np.asarray([grid.half for grid in GRIDS.values()]),
        "starts": np.asarray(STARTS),
        "ways": np.asarray([str(way) for way in WAYS]),
    }


def solver_names(config) -> tuple[str, ...]:
    """Return the names that the config gives, or those of all deterministic solvers."""
    known = [name for name, solver in solvers.REGISTRY.items() if not solver.stochastic]
    return tuple(config.solvers) or tuple(known)


def make_law(config, run, name: str, target) -> Law:
    """Return the law's compiled field, and its statistics if DPM-Solver-v3 is among the solvers."""
    field, found = fields.oracle(target), None
    if STATISTICAL in solver_names(config):
        arrays = run.arrays(f"statistics_{name}", lambda: statistics(config, target)._asdict())
        found = solvers.ModelStatistics(**arrays)
    return Law(jitted(field), found)


def statistics(config, target) -> solvers.ModelStatistics:
    """Return the statistics of the exact field, from samples of the law itself."""
    settings, field = config.statistics, fields.oracle(target)
    draw, noise = jax.random.split(jax.random.key(config.seed))
    x0 = target.sample(draw, settings.num_samples, dtype=np.float64)
    # A little beyond the levels that a solver may evaluate.
    ends = -np.log(1.01 * 200.0), -np.log(0.99 * LAST_NOISE / 100)
    levels = np.linspace(*ends, settings.num_levels)
    found = solvers.model_statistics(field, EDM, x0, noise, levels)
    return jax.tree.map(np.asarray, found)


def exact(config, target) -> dict[str, np.ndarray]:
    """Return starts (n, d) as x / alpha and the ends of the exact path through them: "noise" at the
    largest level, to clean data; "early" and "late" at half log-SNRs, to the one of `orders.end`.
    """
    field = fields.oracle(target)
    key, count = jax.random.key(config.seed + 1), config.num_sets * config.num_starts
    x0 = target.sample(jax.random.fold_in(key, 0), count, dtype=np.float64)
    eps = np.asarray(jax.random.normal(jax.random.fold_in(key, 1), x0.shape, np.float64))
    settings = config.orders
    spans = {
        "noise": (config.noise, 0.0),
        "early": (np.exp(-settings.start), np.exp(-settings.end)),
        "late": (np.exp(-settings.late_start), np.exp(-settings.end)),
    }
    found = {}
    for name, (noise, end) in spans.items():
        start = np.asarray(x0) + noise * eps
        found[f"{name}_start"] = start
        # On the schedule whose alpha is 1, x is x / alpha and the time is the noise.
        found[f"{name}_end"] = exact_end(EDM, field, start, (noise, end), config.tolerance)
    return found


def build(name: str, schedule, times, half: bool, statistics) -> solvers.Tableau:
    """Return the tableau of a solver or variant; v3 gets its statistics."""
    base, options = VARIANTS.get(name, (name, {}))
    return make_tableau(base, schedule, times, half, **options, **given(base, statistics))


def given(name: str, statistics) -> dict:
    """Return the options of a solver that depend on the field."""
    return {"statistics": statistics} if name == STATISTICAL else {}


def ends_of(tableaus: list, sources: list, law: Law, x, count: int) -> np.ndarray:
    """Return x / alpha at the ends of `count` solvers, nan for those that are None.

    Args:
      tableaus: solvers or None.
      sources: the schedule, the time of the start and that of the end of each.
      x: starts as x / alpha, shape (n, d).
    """
    ends = np.full((count, *x.shape), np.nan)
    kept = [i for i, tableau in enumerate(tableaus) if tableau is not None]
    if not kept:
        return ends
    spots = [kept[i % len(kept)] for i in range(count)]  # one shape: one compiled field
    chosen = [tableaus[i] for i in spots]
    first = np.array([sources[i][0].at(sources[i][1]).alpha for i in spots])
    last = np.array([sources[i][0].at(sources[i][2]).alpha for i in spots])
    starts = first[:, None, None] * x
    inputs = [np.ones_like(starts)] * max(tableau.num_inputs for tableau in chosen)
    found = run_stack(chosen, law.field, starts, inputs) / last[:, None, None]
    ends[kept] = found[: len(kept)]
    return ends


def set_errors(ends, exact_ends, num_sets: int, average: Callable = np.mean) -> np.ndarray:
    """Return the mean distance from the exact ends over each set, shape (*stack, sets)."""
    distance = np.linalg.norm(ends - exact_ends, axis=-1)
    return average(distance.reshape(*distance.shape[:-1], num_sets, -1), axis=-1)


def orders(config, run, laws, names) -> None:
    """Measure every solver and variant between two noise levels, on steps equal in log-SNR."""
    variants = [name for name, (base, _) in VARIANTS.items() if base in names]
    for name in (*names, *variants):
        run.arrays(
            f"order_{file_name(name)}", lambda name=name: order_errors(config, run, laws, name)
        )


def order_errors(config, run, laws, name: str) -> dict[str, np.ndarray]:
    """Return "errors" (laws, schedules, starts, steps, sets); starts are "early" and "late"."""
    settings = config.orders
    half_log_snrs = dict(zip(STARTS, (settings.start, settings.late_start)))
    sources = [
        (s, time_of(s, np.exp(-start)), time_of(s, np.exp(-settings.end)))
        for s in (SCHEDULES[name] for name in ORDER_SCHEDULES)
        for start in half_log_snrs.values()
    ]
    found = []
    chosen = [law for law in settings.laws if law in laws]
    with run.progress(len(chosen) * len(settings.steps), f"orders {name}", unit="run") as bar:
        for law_name in chosen:
            arrays, law = run.arrays(f"exact_{law_name}", dict), laws[law_name]
            for n in settings.steps:
                tableaus = [
                    build(name, s, grids.uniform_log_snr(s, n, first, last), False, law.statistics)
                    for s, first, last in sources
                ]
                found.append(_order_errors(config, tableaus, sources, law, arrays))
                bar.update(1)
    shape = (len(chosen), len(settings.steps), len(ORDER_SCHEDULES), len(STARTS), config.num_sets)
    return {"errors": np.moveaxis(np.reshape(found, shape), 1, 3)}


def _order_errors(config, tableaus, sources, law, arrays) -> np.ndarray:
    """Errors of a stack (schedules x starts), shape (stack, sets).

    Medians: starts next to the border between two modes have errors, and so orders, of their own.
    """
    errors = []
    for k, kind in enumerate(STARTS):
        own = [t if i % len(STARTS) == k else None for i, t in enumerate(tableaus)]
        ends = ends_of(own, sources, law, arrays[f"{kind}_start"], len(tableaus))
        errors.append(set_errors(ends, arrays[f"{kind}_end"], config.num_sets, np.median))
    return np.nanmax(np.stack(errors), axis=0)  # each entry is a number in one of them


def errors(config, run, laws, names) -> None:
    """Measure every solver from noise to clean data, on every schedule and grid."""
    for name in names:
        run.arrays(f"error_{name}", lambda name=name: budget_errors(config, run, laws, name))


def budget_errors(config, run, laws, name: str) -> dict[str, np.ndarray]:
    """Return "errors" (laws, schedules, grids, budgets, sets) and "evaluations" (schedules, grids,
    budgets)."""
    budgets = config.errors.budgets
    found, spent = [], []
    with run.progress(len(budgets), f"errors {name}", unit="budget") as bar:
        for budget in budgets:
            rows: list[np.ndarray] = []
            for law_name in config.laws:
                law, arrays = laws[law_name], run.arrays(f"exact_{law_name}", dict)
                if not rows or name == STATISTICAL:  # only its tableaus depend on the law
                    tableaus, sources = stack_of(config, name, budget, law.statistics)
                ends = ends_of(tableaus, sources, law, arrays["noise_start"], len(tableaus))
                rows.append(set_errors(ends, arrays["noise_end"], config.num_sets))
            found.append(rows)
            spent.append([0 if t is None else t.num_rows for t in tableaus])
            bar.update(1)
    shape = (len(budgets), len(config.laws), len(SCHEDULES), len(GRIDS), config.num_sets)
    evaluations = np.reshape(spent, (len(budgets), len(SCHEDULES), len(GRIDS)))
    return {
        "errors": np.moveaxis(np.reshape(found, shape), 0, 3),
        "evaluations": np.moveaxis(evaluations, 0, 2),
    }


def stack_of(config, name: str, budget: int, statistics):
    """Return the solver's tableaus within the budget on every schedule and grid, and what `ends_of`
    needs to know of them."""
    per_step = solvers.REGISTRY[name].evaluations
    tableaus, sources = [], []
    for schedule in SCHEDULES.values():
        for grid in GRIDS.values():

            def make(n, schedule=schedule, grid=grid):
                times = grid.times(schedule, n, config.noise)
                return build(name, schedule, times, grid.half, statistics)

            tableaus.append(within_budget(make, budget, per_step))
            sources.append((schedule, time_of(schedule, config.noise), 0.0))
    return tableaus, sources


def public(config, run, laws, names) -> None:
    """Measure every solver on the problem on which public packages were measured."""
    law = make_law(config, run, "public", public_problem.target())
    x = public_problem.starts(public_problem.NUM_STARTS)

    def solve():
        field = fields.oracle(public_problem.target())
        return {"end": exact_end(EDM, field, x, (public_problem.NOISE, 0.0), config.tolerance)}

    end = run.arrays("public_exact", solve)["end"]
    for name in names:
        run.arrays(f"public_{name}", lambda name=name: public_errors(config, law, x, end, name))


def public_errors(config, law: Law, x, end, name: str) -> dict[str, np.ndarray]:
    """Return "errors" (ways, budgets) and "evaluations" of the same shape."""
    start, options = time_of(PATH, public_problem.NOISE), given(name, law.statistics)
    found, spent = [], []
    for budget in config.public.budgets:
        tableaus = [on_path(name, way, budget, public_problem.NOISE, **options) for way in WAYS]
        ends = ends_of(tableaus, [(PATH, start, 0.0)] * len(WAYS), law, x, len(WAYS))
        found.append(set_errors(ends, end, 1)[:, 0])
        spent.append([0 if t is None else t.num_rows for t in tableaus])
    return {"errors": np.transpose(found), "evaluations": np.transpose(spent)}


def file_name(name: str) -> str:
    """Return the name of a solver or variant as it may be part of a file name."""
    return name.replace(", ", ".")
