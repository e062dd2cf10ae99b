"""Figures and claims of the study `gaussian_painters`, from its run folder alone."""

from analysis.gaussian_painters.claims import analyse

__all__ = ["analyse"]
