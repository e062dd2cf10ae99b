"""The stages of the study `solver_laws` on normal laws: exact, without a sample."""

from __future__ import annotations

import numpy as np

from dfx import solvers
from experiments.shared import laws
from experiments.solver_laws import exact, members
from experiments.solver_laws.members import MEMBERS, SAMPLED, SCHEDULE, STOCHASTIC

#: A one-dimensional normal law beside the two-dimensional one of `laws`.
NARROW = exact.Normal(np.array([0.7]), np.array([[0.25]]))

#: Solver -> the clock in which its noise has independent increments of a Brownian path.
CLOCKS = {
    "ddpm": lambda level: level.snr,
    "euler_maruyama": lambda level: level.t,
    "sde_dpm_solver_pp_2m": lambda level: level.snr,
    "sa_solver": lambda level: level.snr,
}


def knobs(config) -> dict[str, tuple[float, ...]]:
    """Return the values of each knob."""
    return {knob: tuple(config.sweeps[knob]) for knob in members.KNOBS}


def normals() -> dict[str, exact.Normal]:
    """Return the normal laws of the exact parts."""
    return {"gaussian": exact.normal_of(laws.gaussian()), "narrow": NARROW}


def orders(config) -> dict[str, np.ndarray]:
    """Return the exact errors of every stochastic solver, shape (laws, solvers, steps, 3)."""
    settings = config.orders
    grids = [members.even_grid(n, settings.start, settings.end) for n in settings.steps]
    tableaus = [[member.on(grid) for grid in grids] for member in STOCHASTIC.values()]
    found = [
        [[_error(tableau, law, grids[0]) for tableau in row] for row in tableaus]
        for law in normals().values()
    ]
    stated = np.array([member.order for member in STOCHASTIC.values()])
    return {"errors": np.array(found), "stated": stated, "steps": np.array(settings.steps)}


def _error(tableau, law: exact.Normal, grid) -> np.ndarray:
    """The errors at the end of a tableau begun in the exact law at the start of its grid."""
    begin, end = (exact.noised(law, SCHEDULE.at(grid[i])) for i in (0, -1))
    return exact.errors(exact.propagate(tableau, exact.denoiser_of(law), begin).end, end)


def strong(config) -> dict[str, np.ndarray]:
    """Return the root mean square distances of n and 2 n steps, shape (solvers, steps - 1)."""
    settings, law = config.orders, NARROW
    denoiser, found = exact.denoiser_of(law), []
    for name, clock in CLOCKS.items():
        grids = [members.even_grid(n, settings.start, settings.end) for n in settings.steps]
        start = exact.noised(law, SCHEDULE.at(grids[0][0])).covariance
        answers = [exact.responses(MEMBERS[name].on(grid), denoiser, 1) for grid in grids]
        cells = [np.abs(np.diff(clock(SCHEDULE.at(grid)))) for grid in grids]
        pairs = zip(answers[:-1], answers[1:], cells[1:])
        found.append([exact.strong_distance(a, b, c, start) for a, b, c in pairs])
    return {"distances": np.array(found), "steps": np.array(settings.steps[:-1])}


def gaussian(config) -> dict[str, np.ndarray]:
    """Return errors (starts, solvers, nfe, 3) of all solvers, from the exact law and a wrong prior,
    the evaluations used (solvers, nfe), and the standard errors of a sample (3,)."""
    law = normals()["gaussian"]
    tableaus = [
        [member.with_evaluations(nfe, config.grid) for nfe in config.nfe]
        for member in MEMBERS.values()
    ]
    return {
        "errors": _end_errors(config, tableaus, law),
        "rows": np.array([[tableau.num_rows for tableau in row] for row in tableaus]),
        "units": exact.standard_errors(law, config.gaussian.num_samples),
    }


def _end_errors(config, tableaus, law: exact.Normal) -> np.ndarray:
    """Errors at clean data of lists of tableaus, for both starts."""
    denoiser = exact.denoiser_of(law)
    starts = [start_law(config, law, shift) for shift in (0.0, config.early_shift)]
    return np.array(
        [
            [[exact.errors(exact.propagate(t, denoiser, start).end, law) for t in row]
             for row in tableaus]
            for start in starts
        ]
    )  # fmt: skip


def start_law(config, law: exact.Normal, shift: float) -> exact.Normal:
    """Return the law at the first level, its mean moved by `shift` sigma in every coordinate."""
    level = SCHEDULE.at(first_time(config))
    right = exact.noised(law, level)
    return right._replace(mean=right.mean + shift * level.sigma)


def first_time(config) -> float:
    """Return the time at which the grids of samplers start."""
    return members.practical_grid(2, config.grid)[0]


def gaussian_path(config) -> dict[str, np.ndarray]:
    """Return for each solver the levels sigma / alpha of its rows and the errors there, (rows, 3).

    The law of an evaluated point against the noised law of that level; of a predictor's too.
    """
    law = normals()["gaussian"]
    denoiser, start, found = exact.denoiser_of(law), start_law(config, law, 0.0), {}
    for name in SAMPLED:
        tableau = MEMBERS[name].with_evaluations(config.path_nfe, config.grid)
        path = exact.propagate(tableau, denoiser, start)
        rows = zip(path.points, path.levels)
        found[f"{name}.errors"] = np.array([exact.errors(p, exact.noised(law, v)) for p, v in rows])
        found[f"{name}.levels"] = np.array([v.sigma / v.alpha for v in path.levels])
    return found


def sweeps(config) -> dict[str, np.ndarray]:
    """Return for each knob the errors (starts, values, nfe, 3) on the normal law."""
    law, found = normals()["gaussian"], {}
    for knob, values in knobs(config).items():
        tableaus = [
            [members.turned(knob, v).with_evaluations(n, config.grid) for n in config.sweeps.nfe]
            for v in values
        ]
        found[knob] = _end_errors(config, tableaus, law)
    return found


def pulses(config) -> dict[str, np.ndarray]:
    """Return what is left at the end of a pulse of wrong denoiser, shape (taus, levels).

    Where lows < sigma / alpha <= highs the denoiser is off by one standard deviation of the data;
    left is the shift of the mean at the end in the same unit. First-order exponential steps: the
    error acts over whole steps, so that only the size of the step separates it from its limit.
    """
    settings, law = config.pulse, NARROW
    grid = members.even_grid(settings.steps, config.orders.start, config.orders.end)
    levels = SCHEDULE.at(grid)
    ratio = levels.sigma / levels.alpha
    starts = np.linspace(0, settings.steps - settings.width, settings.count).astype(int)
    # Bounds between grid points, in logarithm: the comparison is then not at the mercy of rounding.
    middles = np.sqrt(ratio * np.append(ratio[0] ** 2 / ratio[1], ratio[:-1]))
    begin = exact.noised(law, SCHEDULE.at(grid[0]))
    right, size = exact.denoiser_of(law), np.sqrt(law.covariance[0, 0])
    left = np.zeros((len(settings.tau), len(starts)))
    for i, tau in enumerate(settings.tau):
        tableau = solvers.sde_dpm_multistep(SCHEDULE, grid, order=1, eta=tau**2)
        # Clean means stay exact without a pulse, so the shift of the mean is the pulse's alone.
        target = exact.noised(law, SCHEDULE.at(grid[-1])).mean[0]
        for j, first in enumerate(starts):
            low, high = middles[first + settings.width], middles[first]
            wrong = exact.shifted(right, [size], low, high)
            end = exact.propagate(tableau, wrong, begin).end
            left[i, j] = (end.mean[0] - target) / (size * levels.alpha[-1])
    highs, lows = ratio[starts], ratio[starts + settings.width]
    bound = {"lows": lows, "highs": highs, "end": ratio[-1], "size": size}
    return {"left": left, **{key: np.asarray(value) for key, value in bound.items()}}
