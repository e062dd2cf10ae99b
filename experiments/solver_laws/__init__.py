"""The laws of stochastic samplers on exact fields."""

from experiments.solver_laws.study import run

__all__ = ["run"]
