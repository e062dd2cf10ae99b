"""Fitted samplers against the best of the published ones, at equal numbers of evaluations.

All run on the linear path, from one noise level to clean data; errors are distances from the end of
the exact path. What is kept, one file of arrays a stage:

    axes              the names along the axes of the arrays below
    digits_net        parameters of the net
    ends_FIELD        starts x / alpha and exact ends: to fit on, and to judge on
    fixed_FIELD       errors of every published solver (solvers, ways, budgets, 1 + sets): of the
                      fit's starts first, then of each set
    WAY_FIELD_N       a sampler fitted with N evaluations: its times, corrections, the error along
                      the fit, and its errors on each set
    mixtures          errors on other mixtures (budgets, samplers, mixtures): fitted and best fixed
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from dfx import data, fields, losses, nets, solvers, targets, train
from dfx.runs import say
from dfx.schedules import grids
from experiments.mode_interpolation.pictures import load_digits
from experiments.shared import public_problem
from experiments.shared.laws import LAWS
from experiments.shared.parameters import flatten, unflatten
from experiments.shared.solver_budget import PATH, WAYS, exact_end, on_path, time_of
from experiments.shared.solver_stack import jitted, run_stack


class Problem(NamedTuple):
    """A field, where its paths start, and how starts are drawn: (key, count, held out) -> x / alpha
    of shape (count, d)."""

    field: Callable
    noise: float
    draw: Callable


def run(config, run) -> None:
    """Fit and judge on every field; what is in the run folder already is not done again."""
    run.plan(*_stages(config))
    run.arrays("axes", axes)
    with jax.enable_x64(True):
        for name in config.problems:
            problem = PROBLEMS[name](config, run)
            fixed(config, run, name, problem)
            for way in config.fit.ways:
                for budget in config.budgets:
                    fitted(config, run, way, name, problem, budget)
        if "public" in config.problems:
            run.arrays("mixtures", lambda: mixtures(config, run))


def _stages(config) -> list[str]:
    nets_ = ["train digits"] if "digits" in config.problems else []
    fits = [
        f"{way} {name} {budget}"
        for name in config.problems
        for way in config.fit.ways
        for budget in config.budgets
    ]
    return nets_ + fits


def axes() -> dict[str, np.ndarray]:
    """Return the names along the axes of the other arrays."""
    ways = [str(way) for way in WAYS]
    return {"solvers": np.asarray(solver_names()), "ways": np.asarray(ways)}


def solver_names() -> list[str]:
    """Return the deterministic solvers that need to know nothing of the field."""
    known = solvers.REGISTRY.items()
    return [name for name, s in known if not s.stochastic and name != "dpm_solver_v3"]


def public(config, run) -> Problem:
    """The problem of the public packages; it is judged on their starts first."""

    def draw(key, count, held_out):
        if held_out:
            return public_problem.starts(count)
        scale = np.sqrt(1 + public_problem.NOISE**2)
        return scale * np.asarray(jax.random.normal(key, (count, 2), np.float64))

    return Problem(fields.oracle(public_problem.target()), public_problem.NOISE, draw)


def grid(config, run) -> Problem:
    """25 modes."""
    return Problem(fields.oracle(LAWS["grid"]()), config.noise, noisy(config, LAWS["grid"]()))


def noisy(config, target) -> Callable:
    """Return the function that draws x0 + noise eps with x0 from the law."""

    def draw(key, count, held_out):
        keys = jax.random.split(key)
        x0 = np.asarray(target.sample(keys[0], count, dtype=np.float64))
        return x0 + config.noise * np.asarray(jax.random.normal(keys[1], x0.shape, np.float64))

    return draw


def digits(config, run) -> Problem:
    """A net trained on digits as vectors; to fit, paths go to training pictures, to judge, to
    others."""
    pictures = {
        split: data.to_unit(load_digits(config.data.path, split).images) for split in DIGIT_SPLITS
    }
    flat = {split: np.asarray(x).reshape(len(x), -1) for split, x in pictures.items()}
    net = nets.residual_mlp(flat["train"].shape[1], config.net.width, config.net.depth)
    template = jax.eval_shape(net.init, jax.random.key(0))
    with jax.enable_x64(False):  # the parameters of a net are float32
        stored = run.arrays(
            "digits_net", lambda: flatten(train_net(config, run, net, flat["train"]))
        )
    field = fields.from_net(net, unflatten(template, stored), "velocity", time=milli)

    def draw(key, count, held_out):
        keys = jax.random.split(key)
        x0 = flat["test" if held_out else "train"]
        x0 = x0[np.asarray(jax.random.randint(keys[0], (count,), 0, len(x0)))]
        return x0 + config.noise * np.asarray(jax.random.normal(keys[1], x0.shape, np.float64))

    return Problem(field, config.noise, draw)


DIGIT_SPLITS = ("train", "test")
PROBLEMS = {"public": public, "grid": grid, "digits": digits}


def milli(level):
    """What the net takes as t: its features resolve 0 to 1000 best."""
    return 1000.0 * level.t


def train_net(config, run, net, points: np.ndarray):
    """Return parameters of a velocity net, going on from a checkpoint if there is one."""
    settings, steps = config.net, config.net.num_steps
    loss = losses.denoising(net, PATH, "velocity", time=milli)
    optimizer = train.optimizer(settings.learning_rate, schedule="cosine", total=steps)
    init, noise, order = jax.random.split(jax.random.key(config.seed), 3)
    state = train.init_state(net.init(init), optimizer, noise)
    checkpoints = train.Checkpoints(run.checkpoint_folder("digits"), run.config_hash, warn=say)
    state = checkpoints.restore(state) or state
    with run.progress(steps, "train digits", initial=int(state.step)) as bar:

        def on_chunk(state, metrics, done):
            run.log("digits", done, loss=metrics["loss"].mean())
            bar.update(len(metrics["loss"]), loss=metrics["loss"].mean())

        state = train.fit(
            train.make_step(loss, optimizer), state, _batches(settings.batch_size), steps,
            settings.chunk, on_chunk, data=(np.float32(points), order), checkpoints=checkpoints,
            save_every=10 * settings.chunk,
        )  # fmt: skip
    return state.params


@functools.cache
def _batches(batch_size: int) -> Callable:
    def batch(source, step):
        points, order = source
        return points[data.indices(order, step, batch_size, len(points))]

    return batch


def start_time(problem: Problem) -> float:
    """Return the time of the linear path at which the problem starts."""
    return time_of(PATH, problem.noise)


def ends(config, run, name: str, problem: Problem) -> dict[str, np.ndarray]:
    """Return starts (n, d) as x / alpha and the exact ends: "fit" and "judge"."""

    def compute():
        counts = config.fit.num_starts, config.judge.num_sets * config.judge.num_starts
        found = {}
        for i, (use, count) in enumerate(zip(("fit", "judge"), counts)):
            key = jax.random.fold_in(jax.random.key(config.seed + 1), i)
            found[f"{use}_start"] = problem.draw(key, count, use == "judge")
            path = exact_path(config, problem, found[f"{use}_start"], [start_time(problem), 0.0])
            found[f"{use}_end"] = path[-1]
        return found

    return run.arrays(f"ends_{name}", compute)


def exact_path(config, problem: Problem, start, times) -> np.ndarray:
    """Return the points x of the exact path at the times, shape (len(times), n, d), from starts as
    x / alpha."""
    points = [PATH.at(times[0]).alpha * start]
    for span in itertools.pairwise(times):
        points.append(exact_end(PATH, problem.field, points[-1], span, config.tolerance))
    return np.stack(points)


def fixed(config, run, name: str, problem: Problem) -> dict[str, np.ndarray]:
    """Keep the errors of every published solver in every way at every budget."""

    def compute():
        both = ends(config, run, name, problem)
        x = np.concatenate([both["fit_start"], both["judge_start"]])
        exact = np.concatenate([both["fit_end"], both["judge_end"]])
        field, found = jitted(problem.field), []
        with run.progress(len(solver_names()), f"fixed {name}", unit="solver") as bar:
            for solver in solver_names():
                found.append(fixed_errors(config, problem, field, solver, x, exact))
                bar.update(1)
        distances = np.stack(found)  # (solvers, ways, budgets, starts)
        parts = np.split(distances, [len(both["fit_start"])], axis=-1)
        sets = parts[1].reshape(*parts[1].shape[:-1], config.judge.num_sets, -1).mean(-1)
        return {"errors": np.concatenate([parts[0].mean(-1, keepdims=True), sets], axis=-1)}

    return run.arrays(f"fixed_{name}", compute)


def fixed_errors(config, problem, field, solver: str, x, exact) -> np.ndarray:
    """Return the distances from the exact ends, shape (ways, budgets, starts)."""
    rows = []
    for budget in config.budgets:
        tableaus = [on_path(solver, way, budget, problem.noise) for way in WAYS]
        rows.append(distances(field, tableaus, x, exact, problem))
    return np.stack(rows, axis=1)


def distances(field, tableaus: list, x, exact, problem: Problem) -> np.ndarray:
    """Return |end - exact end| of every solver, shape (solvers, starts); nan for a None."""
    found = np.full((len(tableaus), len(x)), np.nan)
    kept = [i for i, tableau in enumerate(tableaus) if tableau is not None]
    if kept:
        chosen = [tableaus[kept[i % len(kept)]] for i in range(len(tableaus))]  # one shape
        start = PATH.at(start_time(problem)).alpha * x
        stacked = np.broadcast_to(start, (len(tableaus), *start.shape))
        gaps = np.linalg.norm(run_stack(chosen, field, stacked) - exact, axis=-1)
        found[kept] = gaps[: len(kept)]
    return found


def fitted(config, run, way: str, name: str, problem: Problem, budget: int) -> dict:
    """Keep a sampler fitted with `budget` evaluations, and its errors on each set."""

    def compute():
        both, settings = ends(config, run, name, problem), config.fit
        times = grids.power(PATH, budget, settings.exponent, start_time(problem))
        only_end = [times[0], times[-1]] if way != "least_squares" else times
        path = exact_path(config, problem, both["fit_start"], only_end)
        if way != "least_squares":
            path = np.concatenate([path[:1], np.zeros((budget - 1, *path.shape[1:])), path[-1:]])
        with run.progress(1, f"{way} {name} {budget}", unit="fit") as bar:
            fit = FITS[way](config, times, problem.field, path)
            bar.update(1, error=fit.errors[-1])
        gaps = distances(
            jitted(problem.field), [fit.tableau], both["judge_start"], both["judge_end"], problem
        )
        corrections = np.zeros((budget, settings.depth))
        for row, values in zip(corrections, fit.corrections):
            row[: len(values)] = values
        judged = gaps.reshape(config.judge.num_sets, -1).mean(-1)
        return {
            "times": fit.grid, "corrections": corrections, "path": fit.errors, "errors": judged
        }  # fmt: skip

    return run.arrays(f"{way}_{name}_{budget}", compute)


def _descend(config, times, field, path, move_grid: bool):
    settings = config.fit
    return solvers.descend(
        PATH, times, field, path[0], path, depth=settings.depth, move_grid=move_grid,
        num_updates=settings.num_updates, learning_rate=settings.learning_rate,
    )  # fmt: skip


def _least_squares(config, times, field, path):
    return solvers.least_squares(PATH, times, field, path[0], path, depth=config.fit.depth)


FITS: dict[str, Callable[..., solvers.Fit]] = {
    "descend": functools.partial(_descend, move_grid=True),
    "coefficients": functools.partial(_descend, move_grid=False),
    "least_squares": _least_squares,
}


def mixtures(config, run) -> dict[str, np.ndarray]:
    """Return "errors" (budgets, samplers, mixtures) on mixtures like the public one: of the sampler
    fitted on it, and of the published one that is best on it."""
    problem, errors = public(config, run), []
    drawn = [mixture(config.seed + 100 + i) for i in range(config.judge.num_mixtures)]
    x = public_problem.starts(config.judge.num_starts)
    exact = [
        exact_path(config, problem._replace(field=fields.oracle(m)), x, [start_time(problem), 0.0])
        for m in drawn
    ]
    compiled = [jitted(fields.oracle(m)) for m in drawn]
    for budget in config.budgets:
        pair = [learned_tableau(run, budget), best_fixed(config, run, problem, budget)]
        errors.append(
            [distances(f, pair, x, end[-1], problem).mean(-1) for f, end in zip(compiled, exact)]
        )
    return {"errors": np.swapaxes(errors, 1, 2)}


def mixture(seed: int) -> targets.Mixture:
    """Return five Gaussians in the unit disc, of the sizes and weights of the public problem."""
    rng = np.random.default_rng(seed)
    radius, angle = np.sqrt(rng.uniform(0, 1.2, 5)), rng.uniform(0, 2 * np.pi, (2, 5))
    means = radius[:, None] * np.stack([np.cos(angle[0]), np.sin(angle[0])], axis=1)
    sizes = rng.uniform(0.15, 0.35, (5, 2))
    covariances = [public_problem.covariance(a, b, turn) for (a, b), turn in zip(sizes, angle[1])]
    return targets.Mixture.full(means, covariances, rng.permutation(public_problem.WEIGHTS))


def learned_tableau(run, budget: int) -> solvers.Tableau:
    """Return the sampler fitted on the public problem by descent, from the run folder."""
    stored = run.arrays(f"descend_public_{budget}", dict)
    rows = [row[: min(i, len(row))] for i, row in enumerate(stored["corrections"])]
    return solvers.multistep(PATH, stored["times"], rows)


def best_fixed(config, run, problem: Problem, budget: int) -> solvers.Tableau | None:
    """Return the published solver that is best on the starts of the fit."""
    errors = run.arrays("fixed_public", dict)["errors"][:, :, config.budgets.index(budget), 0]
    solver, way = np.unravel_index(np.nanargmin(errors), errors.shape)
    return on_path(solver_names()[int(solver)], WAYS[int(way)], budget, problem.noise)
