"""Mode interpolation on Gaussian mixtures: parts (a) to (c); part (d), pictures, is
`pictures`.

What is kept, one file of arrays a stage (members are problem x seed, problems outermost):

    control_*           the paper's sampler with the exact score of each problem
    one_d_N, two_d_N    parameters after N steps
    *_laws              the modes of the problems
    *_samples           samples x and late variances of x0_hat: of every member; of the base problem
      along its
                        training (one_d_snapshots), more of them (one_d_detection), and by DDIM
                        (one_d_ddim)
    one_d_score         learned and exact noise predictors, and the denoiser's slope at the
    midpoints one_d_paths         x0_hat over the last steps
    recursion_*         samples of every generation, for each filter

Source: Aithal et al. (2024), arXiv 2406.09358; the set-ups are those of its code.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dfx import fields, solvers, targets, train
from experiments.mode_interpolation.pictures import pictures
from experiments.mode_interpolation.recursion import recursion
from experiments.shared import toy_ddpm


class Problem(NamedTuple):
    """A data law and the number of points drawn from it."""

    name: str
    target: targets.Mixture
    data_size: int


def run(config, run) -> None:
    """Run the parts that the config names; what is in the run folder already is not done again."""
    parts = {"gaussians": gaussians, "recursion": recursion, "pictures": pictures}
    run.plan(*itertools.chain(*(_stages(config)[part] for part in config.parts)))
    for part in config.parts:
        parts[part](config, run)


def _stages(config) -> dict[str, list[str]]:
    """The long stages of each part, for the progress to count."""
    ensembles = ("one_d", "one_d_samples", "one_d_snapshots_samples", "one_d_detection_samples")
    generations = range(config.recursion.generations + 1)
    return {
        "gaussians": [*ensembles, "one_d_ddim_samples", "two_d", "two_d_samples"],
        "recursion": [f"recursion_{i}{kind}" for i in generations for kind in ("", "_samples")],
        "pictures": [
            f"{verb} {name}" for name in config.pictures.sets for verb in ("train", "sample")
        ],
    }


def gaussians(config, run) -> None:
    """Parts (a) and (b): interpolation on 1-D and 2-D mixtures, and what the late variance tells of
    it."""
    line, plane = one_d_problems(config.one_d), two_d_problems(config.two_d)
    control(config, run, line[:1] + line[-1:] + plane)
    one_d(config, run, line)
    two_d(config, run, plane)


def one_d_problems(settings) -> list[Problem]:
    """Return the base problem {1, 2, 3}, its variants in data size and spacing, and last {1, 2, 4,
    5}."""
    std, size = settings.std, settings.data_size
    base = targets.modes_1d((1.0, 2.0, 3.0), std)
    spaced = [
        Problem(f"spacing_{gap:g}", targets.modes_1d((1.0, 1.0 + gap, 1.0 + 2 * gap), std), size)
        for gap in settings.spacings
    ]
    sized = [Problem(f"points_{n}", base, n) for n in settings.data_sizes]
    four = targets.modes_1d((1.0, 2.0, 4.0, 5.0), std)
    return [Problem("base", base, size), *sized, *spaced, Problem("four", four, size)]


def two_d_problems(settings) -> list[Problem]:
    """Return the grid and the grid turned by 45 degrees, both divided by the grid's standard
    deviation."""
    grid = targets.grid_2d(settings.side, std=settings.std)
    rotated = targets.rotated_grid_2d(settings.side, std=settings.std)
    return [
        Problem(name, law, settings.data_size)
        for name, law in (("grid", grid), ("rotated", rotated))
    ]


def control(config, run, problems: list[Problem]) -> None:
    """Sample each problem by the paper's sampler with the exact score, so that only the net is left
    to blame."""
    schedule = toy_ddpm.make_schedule(config)
    sampler = toy_ddpm.ancestral(schedule, config.sample.start_index)
    for i, (name, target, _) in enumerate(problems):

        def compute(target=target, i=i):
            key = jax.random.fold_in(jax.random.key(config.seed), i)
            shape = (config.control.num_samples, target.dim)
            x, variance = toy_ddpm.sample_field(
                schedule, fields.oracle(target), key, sampler, shape, config.detection.windows
            )
            return {"x": x, "variance": variance, **toy_ddpm.law(target)}

        run.arrays(f"control_{name}", compute)


def one_d(config, run, problems: list[Problem]) -> None:
    """Train every 1-D problem and seed as one ensemble; sample, and look at the base nets more
    closely."""
    toy = toy_ddpm.make_toy(config, 1, config.train.num_steps)
    keep_laws(run, "one_d", problems)
    members = draw_members(config, problems, config.num_seeds)
    steps = snapshot_steps(config)
    run.arrays("one_d_steps", lambda: {"steps": np.asarray(steps)})
    *_, last = snapshots = toy_ddpm.fit_members(
        run, "one_d", toy, members, config.train.batch_size, steps
    )
    sample_problems(config, run, "one_d", toy, last, problems, config.one_d.num_samples)
    base = [jax.tree.map(lambda leaf: leaf[: config.num_seeds], params) for params in snapshots]
    sample_snapshots(config, run, toy, base)
    detect(config, run, toy, base[-1])
    score(config, run, toy, problems[0].target, base[-1])
    paths(config, run, toy, base[-1])


def snapshot_steps(config) -> tuple[int, ...]:
    """Return the numbers of steps after which the 1-D nets are looked at; the last is the
    training's."""
    last = config.train.num_steps
    return (*(steps for steps in config.one_d.snapshots if steps < last), last)


def keep_laws(run, name: str, problems: list[Problem]) -> None:
    """Keep the modes of the problems, in their order, for the analysis."""
    laws = {
        f"{problem.name}.{key}": value
        for problem in problems
        for key, value in toy_ddpm.law(problem.target).items()
    }
    names = np.asarray([problem.name for problem in problems])
    run.arrays(f"{name}_laws", lambda: {"names": names, **laws})


def draw_members(config, problems: list[Problem], num_seeds: int) -> toy_ddpm.Members:
    """Return the members problem x seed; a seed has its own points, parameters, noise and order."""
    roots = jax.random.split(jax.random.key(config.seed), len(problems) * num_seeds)
    pairs = [problem for problem in problems for _ in range(num_seeds)]
    points = [
        problem.target.sample(jax.random.fold_in(key, 0), problem.data_size, balanced=True)
        for problem, key in zip(pairs, roots)
    ]
    return toy_ddpm.gather(points, [jax.random.fold_in(key, 1) for key in roots])


def sample_problems(config, run, name, toy, params, problems, num_samples) -> None:
    """Sample every member, problems outermost."""
    windows = config.detection.windows
    sampler = toy_ddpm.ancestral(toy.schedule, config.sample.start_index)
    keys = sampling_keys(config, 0, len(problems) * config.num_seeds)
    shape = (num_samples, problems[0].target.dim)
    toy_ddpm.sample_members(run, f"{name}_samples", toy, params, keys, sampler, shape, windows)


def sampling_keys(config, stage: int, count: int) -> jax.Array:
    """Return one key a member for the sampling stage of that number."""
    return jax.random.split(jax.random.fold_in(jax.random.key(config.seed + 1), stage), count)


def sample_snapshots(config, run, toy, base: list) -> None:
    """Sample the base problem at each number of training steps, with the same noise."""
    sampler = toy_ddpm.ancestral(toy.schedule, config.sample.start_index)
    stacked = jax.tree.map(lambda *leaves: np.concatenate(leaves), *base)
    keys = jnp.tile(sampling_keys(config, 1, config.num_seeds), len(base))
    shape = (config.one_d.num_samples, 1)
    toy_ddpm.sample_members(
        run, "one_d_snapshots_samples", toy, stacked, keys, sampler, shape, config.detection.windows
    )


def detect(config, run, toy, params) -> None:
    """Sample the base nets often enough to judge a detector, by the ancestral sampler and by
    DDIM."""
    keys = sampling_keys(config, 2, config.num_seeds)
    shape, windows = (config.detection.num_samples, 1), config.detection.windows
    ddpm = toy_ddpm.ancestral(toy.schedule, config.sample.start_index)
    toy_ddpm.sample_members(run, "one_d_detection_samples", toy, params, keys, ddpm, shape, windows)
    ddim = toy_ddpm.ddim(toy.schedule, config.sample.start_index, config.sample.ddim_steps)
    toy_ddpm.sample_members(run, "one_d_ddim_samples", toy, params, keys, ddim, shape, (1,))


SCORE_STEPS = (2, 5, 9, 15, 20, 30, 50, 80)


def score(config, run, toy, target, params) -> None:
    """Compare the learned noise predictor and the slope of its denoiser with the exact ones."""

    def compute():
        x = np.linspace(target.means.min() - 0.5, target.means.max() + 0.5, 401, dtype=np.float32)
        middles = (np.sort(target.means[:, 0])[1:] + np.sort(target.means[:, 0])[:-1]) / 2
        nets = [toy_ddpm.net_field(toy, train.member(params, i)) for i in range(config.num_seeds)]
        rows = [
            _score_row(toy.schedule, i, x, middles, [fields.oracle(target), *nets])
            for i in SCORE_STEPS
        ]
        eps, slopes = map(np.stack, zip(*rows))
        return {"x": x, "steps": np.asarray(SCORE_STEPS), "eps": eps, "slopes": slopes}

    run.arrays("one_d_score", compute)


def _score_row(schedule, index, y, middles, of) -> tuple[np.ndarray, np.ndarray]:
    """Return eps at x = alpha y, shape (fields, len(y)), and d x0_hat / d y at the midpoints
    (fields, midpoints)."""
    level = schedule.at(schedule.time_of_index(index))
    x, middle = (np.float32(level.alpha * place.reshape(-1, 1)) for place in (y, middles))
    eps, slopes = zip(*(_eps_and_slope(field, x, middle, level.astype(np.float32)) for field in of))
    return np.stack(eps), level.alpha * np.stack(slopes)


@jax.jit
def _eps_and_slope(field, x, middle, level):
    slope = fields.jacobian(lambda z: field(z, level), middle)[:, 0, 0]
    return fields.as_prediction(field, "eps")(x, level)[:, 0], slope


def paths(config, run, toy, params) -> None:
    """Keep x0_hat over the last steps of some samples of the first seed."""

    def compute():
        start, noise = jax.random.split(sampling_keys(config, 3, 1)[0])
        sampler = toy_ddpm.ancestral(toy.schedule, config.sample.start_index)
        shape = (config.one_d.num_samples, 1)
        x = solvers.prior(start, toy.schedule, shape, t=sampler.start_time)
        field = toy_ddpm.net_field(toy, train.member(params, 0))
        x, seen = solvers.sample(sampler.tableau, field, x, noise, observe=solvers.trajectory())
        return {"x": np.asarray(x), "x0": np.asarray(seen[1])[:, -LAST_STEPS:, 0]}

    run.arrays("one_d_paths", compute)


LAST_STEPS = 60


def two_d(config, run, problems: list[Problem]) -> None:
    """Train and sample the grid and the rotated grid."""
    settings = config.two_d
    toy = toy_ddpm.make_toy(config, 2, settings.num_steps)
    keep_laws(run, "two_d", problems)
    members = draw_members(config, problems, config.num_seeds)
    (params,) = toy_ddpm.fit_members(
        run, "two_d", toy, members, settings.batch_size, (settings.num_steps,)
    )
    sample_problems(config, run, "two_d", toy, params, problems, settings.num_samples)
