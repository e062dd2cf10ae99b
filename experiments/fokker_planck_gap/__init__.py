"""One net, two laws: the Fokker-Planck residual and the gap between the laws of ODE and SDE."""

from experiments.fokker_planck_gap.study import run

__all__ = ["run"]
