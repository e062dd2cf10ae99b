"""Figures and claims of the study `solver_orders`, from its run folder alone."""

from analysis.solver_orders.claims import analyse

__all__ = ["analyse"]
