"""Solvers at equal numbers of evaluations: what the studies of deterministic solvers share."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from dfx import schedules, solvers
from dfx.errors import PersonError
from dfx.schedules import grids

PATH = schedules.RectifiedLinear()
EDM = schedules.make("edm", sigma_max=250.0)  # more noise than any study starts at


class Way(NamedTuple):
    """How a solver is used on the linear path: equal steps in t^(1 / exponent), and whether the
    last one goes half-way to the denoiser."""

    exponent: float
    half: bool

    def __str__(self) -> str:
        return f"t^(1/{self.exponent:g}), {'half-way' if self.half else 'to x0_hat'}"


WAYS = [Way(p, half) for half in (False, True) for p in (1.0, 1.25, 1.5, 1.75, 2.0, 3.0)]


def time_of(schedule, noise: float) -> float:
    """Return the time at which sigma / alpha is `noise`."""
    return float(schedules.t_of_log_snr(schedule, -2 * np.log(noise)))


def make_tableau(name: str, schedule, times, half: bool, **options) -> solvers.Tableau:
    """Return a solver on times that end at clean data, its last step half-way if `half`."""
    if not half:
        return solvers.make(name, schedule, times, **options)
    tableau = solvers.make(name, schedule, times[:-1], **options)
    return solvers.half_denoise(tableau, schedule, times[-2])


def within_budget(
    make: Callable[[int], solvers.Tableau], budget: int, per_step: int
) -> solvers.Tableau | None:
    """Return the solver with the most steps n, by make(n), of at most `budget` evaluations.

    None if there is none: fewer evaluations than one step costs, or a grid that is refused.
    """
    for n in range(budget // per_step + 1, 0, -1):
        try:
            tableau = make(n)
        except PersonError:  # a grid that has enough steps for neither n nor fewer
            return None
        if tableau.num_rows <= budget:
            return tableau
    return None


def on_path(name: str, way: Way, budget: int, noise: float, **options) -> solvers.Tableau | None:
    """Return a solver on the linear path, from this noise to clean data, within a budget."""
    start = time_of(PATH, noise)

    def make(n: int) -> solvers.Tableau:
        return make_tableau(
            name, PATH, grids.power(PATH, n, way.exponent, start), way.half, **options
        )

    return within_budget(make, budget, solvers.REGISTRY[name].evaluations)


def exact_end(schedule, field: Callable, x, times: tuple[float, float], tolerance: float):
    """Return the end of the exact path through x, from the first time to the second.

    The schedule is that of the field: a net asks for the time itself, an oracle for alpha and sigma
    alone.
    """
    path = solvers.sample_adaptive(
        schedule, field, x, *times,
        rtol=tolerance, atol=tolerance, method="dopri8", last_noise=1e-6,
    )  # fmt: skip
    return np.asarray(path.state)
