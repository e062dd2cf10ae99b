"""The laws of stochastic samplers on exact fields.

What is kept, one file of arrays a stage:

    orders            weak errors of every stochastic solver on two normal laws, exact
    strong            root mean square distances of n and 2 n steps on one Brownian path, exact
    gaussian          errors against evaluations, from the exact law and from a wrong prior, exact
    gaussian_path     errors of the evaluated points along the noise levels, exact
    sweeps            the same for the knobs eta, tau and churn, exact
    pulses            how much of a short error of the denoiser is left at the end
    check             moments of samples against their exact propagation
    grid_N            what `sampling.statistics` counts after N evaluations
    grid_early_N      the same from a wrong prior
    grid_path         marginal W_2 along the noise levels
    low_rank_N        as grid_N
    *_floor           a first exact sample in place of a sampler's

Axes of errors: solver, number of evaluations, kind of error. Axes of statistics: solver (or knob
value), seed, statistic.
"""

from __future__ import annotations

import jax
import numpy as np

from dfx import solvers
from experiments.shared import laws
from experiments.solver_laws import exact, members, normal, sampling
from experiments.solver_laws.members import MEMBERS, SAMPLED, SCHEDULE


def run(config, run) -> None:
    """Run all stages; what is in the run folder already is not done again."""
    run.plan("grid", "grid_early", "low_rank")
    run.arrays("orders", lambda: normal.orders(config))
    run.arrays("strong", lambda: normal.strong(config))
    run.arrays("gaussian", lambda: normal.gaussian(config))
    run.arrays("gaussian_path", lambda: normal.gaussian_path(config))
    run.arrays("sweeps", lambda: normal.sweeps(config))
    run.arrays("pulses", lambda: normal.pulses(config))
    run.arrays("check", lambda: check(config))
    knobs = normal.knobs(config)
    for name, shift in (("grid", 0.0), ("grid_early", config.early_shift)):
        mixture(config, run, name, laws.grid(), shift, config.mixtures, SAMPLED, knobs)
    run.arrays("grid_path", lambda: grid_path(config))
    some = config.low_rank.solvers
    mixture(config, run, "low_rank", laws.low_rank(), 0.0, config.low_rank, some, {})


def check(config) -> dict[str, np.ndarray]:
    """Return chi-square statistics of sampled moments about their exact propagation, shape
    (solvers, seeds), of d + d (d + 1) / 2 degrees of freedom each.

    With the propagated law whitened, n |mean|^2 + n |covariance - 1|_F^2 / 2.
    """
    target, n = laws.gaussian(), config.gaussian.num_samples
    law = exact.normal_of(target)
    tableaus = [MEMBERS[s].with_evaluations(config.path_nfe, config.grid) for s in SAMPLED]
    denoiser, start = exact.denoiser_of(law), normal.start_law(config, law, 0.0)
    ends = _sample(config, target, tableaus, 0.0, n, stage=0)
    found = []
    for tableau, x in zip(tableaus, ends):
        end = exact.propagate(tableau, denoiser, start).end
        found.append([_chi_square(sample.astype(np.float64), end) for sample in x])
    d = target.dim
    return {"chi_square": np.array(found), "freedom": np.array(d + d * (d + 1) // 2)}


def _chi_square(x: np.ndarray, law: exact.Normal) -> float:
    white = np.linalg.solve(np.linalg.cholesky(law.covariance), (x - law.mean).T)
    off = np.cov(white) - np.eye(len(white))
    return len(x) * (np.sum(white.mean(1) ** 2) + 0.5 * np.sum(off**2))


def _sample(config, target, tableaus, shift, num_samples, stage, observe=None):
    """Ends of all tableaus, shape (tableaus, seeds, n, d); with `observe`, (ends, observed)."""
    first, noise = jax.random.split(jax.random.fold_in(jax.random.key(config.seed), stage))
    count = config.num_seeds * num_samples
    x = sampling.start_points(target, first, normal.first_time(config), count, shift)
    found = sampling.sample_all(tableaus, target, x, noise, observe)

    def by_seed(a):
        return a.reshape(len(a), config.num_seeds, num_samples, *a.shape[2:])

    return jax.tree.map(by_seed, found)


def mixture(config, run, name, target, shift, settings, names, values) -> None:
    """Sample a mixture by all solvers, and by all values of the knobs, and count."""
    directions = config.mixtures.num_directions
    n, key = settings.num_samples, jax.random.fold_in(jax.random.key(config.seed), 1)
    pair = sampling.draw(target, key, config.num_seeds, n)

    def judge(x):
        return np.stack(
            [sampling.statistics(target, a, b, key, directions) for a, b in zip(x, pair.second)]
        )

    run.arrays(f"{name}_floor", lambda: {"statistics": judge(pair.first)})
    plan = [MEMBERS[solver] for solver in names]
    plan += [members.turned(knob, v) for knob in values for v in values[knob]]
    with run.progress(len(settings.nfe), name, unit="grid") as bar:
        for stage, nfe in enumerate(settings.nfe, 2):

            def compute(nfe=nfe, stage=stage):
                tableaus = [member.with_evaluations(nfe, config.grid) for member in plan]
                ends = _sample(config, target, tableaus, shift, n, stage)
                judged, rows = np.stack([judge(x) for x in ends]), [t.num_rows for t in tableaus]
                parts = np.split(judged, np.cumsum([len(names), *map(len, values.values())])[:-1])
                named = dict(zip(("solvers", *values), parts))
                return {**named, "rows": np.array(rows[: len(names)])}

            run.arrays(f"{name}_{nfe}", compute)
            bar.update(1)


def grid_path(config) -> dict[str, np.ndarray]:
    """Return for each solver with one evaluation a step the marginal W_2 along the noise levels.

    The root mean square over coordinates of the W_2 of a coordinate of x_t to that of a second
    exact sample, over sigma: shape (seeds, rows); `floor` has a first exact sample instead.
    """
    target, n = laws.grid(), config.mixtures.num_samples
    names = [s for s in SAMPLED if solvers.REGISTRY[MEMBERS[s].solver].evaluations == 1]
    grid = members.practical_grid(config.path_nfe, config.grid)
    levels = SCHEDULE.at(grid[:-1])
    tableaus = [MEMBERS[name].on(grid) for name in names]
    _, (points, _) = _sample(config, target, tableaus, 0.0, n, 1, solvers.trajectory())
    exact_points = [_noised_samples(config, target, grid[:-1], n, part) for part in (0, 1)]
    found = {"levels": levels.sigma / levels.alpha}
    size = np.sqrt(levels.alpha**2 + levels.sigma**2)  # the law's covariance is the unit matrix
    for name, x in zip([*names, "floor"], [*points, exact_points[0]]):
        found[name] = np.array([_marginal(a, b) for a, b in zip(x, exact_points[1])]) / size
    return found


def _noised_samples(config, target, times, n, part):
    """Exact samples at every level, shape (seeds, n, levels, d)."""
    key = jax.random.fold_in(jax.random.key(config.seed), 100 + part)
    count = config.num_seeds * n
    keys = jax.random.split(key, len(times))
    x = [sampling.start_points(target, k, t, count) for k, t in zip(keys, times)]
    return np.stack(x, 1).reshape(config.num_seeds, n, len(times), -1)


def _marginal(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """W_2 of coordinates, root mean square over them: (n, levels, d) twice -> (levels,)."""
    x, y = np.sort(x, axis=0), np.sort(y, axis=0)
    return np.sqrt(np.mean((x - y) ** 2, axis=(0, 2), dtype=np.float64))
