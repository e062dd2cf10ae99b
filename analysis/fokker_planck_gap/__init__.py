"""Figures, table and claims of the study `fokker_planck_gap`, from its run folder alone."""

from analysis.fokker_planck_gap.claims import analyse

__all__ = ["analyse"]
