"""Figures and claims of the study `mode_interpolation`, from its run folder alone."""

from analysis.mode_interpolation.claims import analyse

__all__ = ["analyse"]
