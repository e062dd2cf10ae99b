"""The solvers of the study `solver_laws`, their grids, and three knobs that turn their noise."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dfx import schedules, solvers

#: The forward process of all parts; deterministic solvers and `ddim` do not depend on it.
SCHEDULE = schedules.VPLinear()


class Member(NamedTuple):
    """A solver of the registry with the options that are not its default."""

    solver: str
    options: dict

    @property
    def order(self) -> int:
        """The order that the registry states."""
        return solvers.REGISTRY[self.solver].order

    def on(self, grid) -> solvers.Tableau:
        """Return its tableau on a grid of times."""
        return solvers.make(self.solver, SCHEDULE, grid, **self.options)

    def with_evaluations(self, nfe: int, settings) -> solvers.Tableau:
        """Return its tableau on a grid that ends in clean data, for at most `nfe` evaluations.

        A method of two evaluations a step needs one in the step to clean data: 2 N - 1 for N steps.
        """
        evaluations = solvers.REGISTRY[self.solver].evaluations
        return self.on(practical_grid(-(-nfe // evaluations), settings))


#: Stochastic solvers. The first three are one method on every schedule.
STOCHASTIC = {
    "ddpm": Member("ddpm", {}),
    "euler_ancestral": Member("euler_ancestral", {}),
    "sde_dpm_solver_pp_1": Member("sde_dpm_solver_pp_1", {}),
    "ddpm_large": Member("ddpm", {"variance": "large"}),
    "ddim_half": Member("ddim", {"eta": 0.5}),
    "euler_maruyama": Member("euler_maruyama", {}),
    "reverse_diffusion": Member("reverse_diffusion", {}),
    "heun_churn": Member("heun", {"churn": 10.0}),
    "sde_dpm_solver_pp_2m": Member("sde_dpm_solver_pp_2m", {}),
    "sde_dpm_solver_pp_3m": Member("sde_dpm_solver_pp_3m", {}),
    "sa_solver": Member("sa_solver", {}),
}

#: Their deterministic counterparts, for comparison.
DETERMINISTIC = {
    "ddim": Member("ddim", {}),
    "heun": Member("heun", {}),
    "dpm_solver_pp_2m": Member("dpm_solver_pp_2m", {}),
}

MEMBERS = STOCHASTIC | DETERMINISTIC

#: Members whose tableau is that of `ddpm`: they are not sampled again.
SAME_AS_DDPM = ("euler_ancestral", "sde_dpm_solver_pp_1")

SAMPLED = tuple(name for name in MEMBERS if name not in SAME_AS_DDPM)

#: Knob -> the solver that it turns; the option has the name of the knob.
KNOBS = {"eta": "ddim", "tau": "sa_solver", "churn": "heun"}


def turned(knob: str, value: float) -> Member:
    """Return the knob's solver with that much noise; 0 is deterministic."""
    return Member(KNOBS[knob], {knob: float(value)})


def even_grid(n: int, start: float, end: float) -> np.ndarray:
    """Return the times of n equal steps in half log-SNR."""
    return schedules.t_of_log_snr(SCHEDULE, 2 * np.linspace(start, end, n + 1))


def practical_grid(n: int, settings) -> np.ndarray:
    """Return the times of n noise levels as in EDM, then clean data."""
    return schedules.grids.karras(SCHEDULE, n, settings.sigma_min, settings.sigma_max, settings.rho)
