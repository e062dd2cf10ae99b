"""The solvers by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from dfx.errors import call
from dfx.solvers import presets
from dfx.solvers.adams import deis_tab, lms
from dfx.solvers.ancestral import euler_ancestral, reverse_diffusion
from dfx.solvers.ddim import ddim
from dfx.solvers.ddpm import ddpm
from dfx.solvers.dpm_singlestep import dpm_solver_fast
from dfx.solvers.dpm_v3 import dpm_solver_v3
from dfx.solvers.euler import euler, euler_maruyama
from dfx.solvers.heun import heun
from dfx.solvers.kdpm2 import kdpm2
from dfx.solvers.momentum import ghvb, heavy_ball
from dfx.solvers.pndm import ipndm, plms, pndm, s_pndm
from dfx.solvers.sa import sa_solver
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
    "kdpm2": Solver(kdpm2, 2, 2, False, "Karras et al. 2022; Crowson 2022 (k-diffusion)"),
    "lms": Solver(lms, 4, 1, False, "Crowson 2022 (k-diffusion)"),
    "deis_rhoab": Solver(lms, 4, 1, False, "Zhang & Chen 2023 (DEIS)"),
    "deis_tab": Solver(deis_tab, 4, 1, False, "Zhang & Chen 2023 (DEIS)"),
    "rho_heun": Solver(presets.rho_heun, 2, 2, False, "Zhang & Chen 2023 (DEIS)"),
    "rho_kutta3": Solver(presets.rho_kutta3, 3, 3, False, "Zhang & Chen 2023 (DEIS)"),
    "rho_heun3": Solver(presets.rho_heun3, 3, 3, False, "Zhang & Chen 2023 (DEIS)"),
    "rho_ralston3": Solver(presets.rho_ralston3, 3, 3, False, "Zhang & Chen 2023 (DEIS)"),
    "rho_vdh3": Solver(presets.rho_vdh3, 3, 3, False, "Zhang & Chen 2023 (DEIS)"),
    "rho_ssprk3": Solver(presets.rho_ssprk3, 3, 3, False, "Zhang & Chen 2023 (DEIS)"),
    "rho_rk4": Solver(presets.rho_rk4, 4, 4, False, "Zhang & Chen 2023 (DEIS)"),
    "flow_euler": Solver(presets.flow_euler, 1, 1, False, "Lipman et al. 2023"),
    "flow_midpoint": Solver(presets.flow_midpoint, 2, 2, False, "Lipman et al. 2023"),
    "flow_heun": Solver(presets.flow_heun, 2, 2, False, "Lipman et al. 2023"),
    "flow_rk4": Solver(presets.flow_rk4, 4, 4, False, "Lipman et al. 2023"),
    "flow_kutta38": Solver(
        presets.flow_kutta38, 4, 4, False, "Kutta 1901; Chen 2018 (torchdiffeq)"
    ),
    "ipndm": Solver(ipndm, 4, 1, False, "Zhang & Chen 2023 (DEIS)"),
    "plms": Solver(plms, 4, 1, False, "Liu et al. 2022 (PNDM)"),
    "s_pndm": Solver(s_pndm, 2, 1, False, "Liu et al. 2022 (PNDM)"),
    "pndm": Solver(pndm, 4, 1, False, "Liu et al. 2022 (PNDM)"),
    "heavy_ball": Solver(heavy_ball, 1, 1, False, "Wizadwongsa et al. 2024"),
    "ghvb": Solver(ghvb, 4, 1, False, "Wizadwongsa et al. 2024"),
    "euler_ancestral": Solver(euler_ancestral, 1, 1, True, "Crowson 2022 (k-diffusion)"),
    "reverse_diffusion": Solver(reverse_diffusion, 1, 1, True, "Song et al. 2021 (score SDE)"),
    "dpm_solver_1": Solver(presets.dpm_solver_1, 1, 1, False, "Lu et al. 2022a"),
    "dpm_solver_2s": Solver(presets.dpm_solver_2s, 2, 2, False, "Lu et al. 2022a"),
    "dpm_solver_3s": Solver(presets.dpm_solver_3s, 3, 3, False, "Lu et al. 2022a"),
    "dpm_solver_2m": Solver(presets.dpm_solver_2m, 2, 1, False, "Lu et al. 2022a"),
    "dpm_solver_3m": Solver(presets.dpm_solver_3m, 3, 1, False, "Lu et al. 2022a"),
    "dpm_solver_pp_1": Solver(presets.dpm_solver_pp_1, 1, 1, False, "Lu et al. 2022b"),
    "dpm_solver_pp_2s": Solver(presets.dpm_solver_pp_2s, 2, 2, False, "Lu et al. 2022b"),
    "dpm_solver_pp_3s": Solver(presets.dpm_solver_pp_3s, 3, 3, False, "Lu et al. 2022b"),
    "dpm_solver_pp_2m": Solver(presets.dpm_solver_pp_2m, 2, 1, False, "Lu et al. 2022b"),
    "dpm_solver_pp_3m": Solver(presets.dpm_solver_pp_3m, 3, 1, False, "Lu et al. 2022b"),
    "dpm_solver_fast": Solver(dpm_solver_fast, 2, 1, False, "Lu et al. 2022a"),
    "sde_dpm_solver_pp_1": Solver(presets.sde_dpm_solver_pp_1, 1, 1, True, "Lu et al. 2022b"),
    "sde_dpm_solver_pp_2m": Solver(presets.sde_dpm_solver_pp_2m, 2, 1, True, "Lu et al. 2022b"),
    "sde_dpm_solver_pp_3m": Solver(presets.sde_dpm_solver_pp_3m, 2, 1, True, "Lu et al. 2022b"),
    "unipc_1": Solver(presets.unipc_1, 2, 1, False, "Zhao et al. 2023 (UniPC)"),
    "unipc_2": Solver(presets.unipc_2, 3, 1, False, "Zhao et al. 2023 (UniPC)"),
    "unipc_3": Solver(presets.unipc_3, 4, 1, False, "Zhao et al. 2023 (UniPC)"),
    "sa_solver": Solver(sa_solver, 2, 1, True, "Xue et al. 2023 (SA-Solver)"),
    "dpm_solver_v3": Solver(dpm_solver_v3, 3, 1, False, "Zheng et al. 2023 (DPM-Solver-v3)"),
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
