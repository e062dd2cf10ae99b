"""The solvers by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from dfx.errors import call
from dfx.solvers.ddim import ddim
from dfx.solvers.ddpm import ddpm
from dfx.solvers.euler import euler, euler_maruyama
from dfx.solvers.heun import heun
from dfx.solvers.tableau import Tableau


class Solver(NamedTuple):
    """What the registry knows of a solver.

    Attributes:
      build: (schedule, grid, **options) -> Tableau.
      order: of the error at the end against the largest step; in law if `stochastic`.
      evaluations: of the field, per step.
      stochastic: whether it draws noise with its default options.
      source: where it is from.
    """

    build: Callable[..., Tableau]
    order: int
    evaluations: int
    stochastic: bool
    source: str


#: Name -> solver.
REGISTRY: dict[str, Solver] = {
    "ddim": Solver(ddim, 1, 1, False, "Song, Meng & Ermon 2021"),
    "ddpm": Solver(ddpm, 1, 1, True, "Ho, Jain & Abbeel 2020"),
    "euler": Solver(euler, 1, 1, False, "Karras et al. 2022; Lipman et al. 2023"),
    "euler_maruyama": Solver(euler_maruyama, 1, 1, True, "Song et al. 2021 (score SDE)"),
    "heun": Solver(heun, 2, 2, False, "Karras et al. 2022"),
}


def make(name: str, schedule, grid, **options) -> Tableau:
    """Return the tableau of a solver by name.

    Args:
      name: one of `REGISTRY`.
      schedule, grid: the forward process, and times from the noise to the data.
      **options: those of the builder, for example `eta` of `ddim`.

    Raises:
      PersonError: an unknown name or option (with the nearest valid one), or what the builder
        refuses.
    """
    builders = {key: solver.build for key, solver in REGISTRY.items()}
    return call("solver", name, builders, schedule, grid, **options)
