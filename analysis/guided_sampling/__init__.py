"""Figures and claims of the study `guided_sampling`, from its run folder alone."""

from analysis.guided_sampling.claims import analyse

__all__ = ["analyse"]
