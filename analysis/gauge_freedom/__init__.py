"""Figures and claims of the study `gauge_freedom`, from its run folder alone."""

from analysis.gauge_freedom.claims import analyse

__all__ = ["analyse"]
