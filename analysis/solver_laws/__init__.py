"""Figures and claims of the study `solver_laws`, from its run folder alone."""

from analysis.solver_laws.claims import analyse

__all__ = ["analyse"]
