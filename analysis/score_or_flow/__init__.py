"""Figures and claims of the study `score_or_flow`, from its run folder alone."""

from analysis.score_or_flow.claims import analyse

__all__ = ["analyse"]
