"""The published names of solvers that are one builder with some of its options fixed."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from dfx.solvers.dpm_multistep import dpm_multistep
from dfx.solvers.dpm_sde import sde_dpm_multistep
from dfx.solvers.dpm_singlestep import dpm_singlestep
from dfx.solvers.runge_kutta import runge_kutta
from dfx.solvers.tableau import Tableau
from dfx.solvers.unipc import unipc


def preset(name: str, builder: Callable[..., Tableau], **fixed) -> Callable[..., Tableau]:
    """Return the builder with the options `fixed`, which then are no options any more.

    >>> def euler(schedule, grid, order=1, clip=False): ...
    >>> str(inspect.signature(preset("first", euler, order=1)))
    '(schedule, grid, clip=False)'
    """

    def build(schedule, grid, *args, **options):
        given = outside.bind(schedule, grid, *args, **options)
        return builder(**given.arguments, **fixed)

    build.__name__ = build.__qualname__ = name
    build.__doc__ = builder.__doc__
    inside = inspect.signature(builder)
    left = [p for p in inside.parameters.values() if p.name not in fixed]
    outside = inside.replace(parameters=left)
    setattr(build, "__signature__", outside)  # noqa: B010
    return build


dpm_solver_1 = preset(
    "dpm_solver_1", dpm_singlestep, order=1, data=False, solver_type="dpmsolver", orders=None
)
dpm_solver_2s = preset("dpm_solver_2s", dpm_singlestep, order=2, data=False, orders=None)
dpm_solver_3s = preset("dpm_solver_3s", dpm_singlestep, order=3, data=False, orders=None)
dpm_solver_2m = preset("dpm_solver_2m", dpm_multistep, order=2, data=False, variant="exact")
dpm_solver_3m = preset("dpm_solver_3m", dpm_multistep, order=3, data=False)

dpm_solver_pp_1 = preset(
    "dpm_solver_pp_1", dpm_singlestep, order=1, data=True, solver_type="dpmsolver", orders=None
)
dpm_solver_pp_2s = preset("dpm_solver_pp_2s", dpm_singlestep, order=2, data=True, orders=None)
dpm_solver_pp_3s = preset("dpm_solver_pp_3s", dpm_singlestep, order=3, data=True, orders=None)
dpm_solver_pp_2m = preset("dpm_solver_pp_2m", dpm_multistep, order=2, data=True, variant="exact")
dpm_solver_pp_3m = preset("dpm_solver_pp_3m", dpm_multistep, order=3, data=True)

_FIRST = dict(solver_type="midpoint", variant="exact", lower_order_final=False)
sde_dpm_solver_pp_1 = preset("sde_dpm_solver_pp_1", sde_dpm_multistep, order=1, **_FIRST)
sde_dpm_solver_pp_2m = preset("sde_dpm_solver_pp_2m", sde_dpm_multistep, order=2, variant="exact")
sde_dpm_solver_pp_3m = preset("sde_dpm_solver_pp_3m", sde_dpm_multistep, order=3)

unipc_1 = preset("unipc_1", unipc, order=1)
unipc_2 = preset("unipc_2", unipc, order=2)
unipc_3 = preset("unipc_3", unipc, order=3)

rho_heun = preset("rho_heun", runge_kutta, method="heun2", variable="sigma")
rho_kutta3 = preset("rho_kutta3", runge_kutta, method="kutta3", variable="sigma")
rho_heun3 = preset("rho_heun3", runge_kutta, method="heun3", variable="sigma")
rho_ralston3 = preset("rho_ralston3", runge_kutta, method="ralston3", variable="sigma")
rho_vdh3 = preset("rho_vdh3", runge_kutta, method="van_der_houwen3", variable="sigma")
rho_ssprk3 = preset("rho_ssprk3", runge_kutta, method="ssprk3", variable="sigma")
rho_rk4 = preset("rho_rk4", runge_kutta, method="rk4", variable="sigma")
flow_euler = preset("flow_euler", runge_kutta, method="euler", variable="time")
flow_midpoint = preset("flow_midpoint", runge_kutta, method="midpoint", variable="time")
flow_heun = preset("flow_heun", runge_kutta, method="heun2", variable="time")
flow_rk4 = preset("flow_rk4", runge_kutta, method="rk4", variable="time")
flow_kutta38 = preset("flow_kutta38", runge_kutta, method="kutta38", variable="time")
