"""Figures, scores and claims of the study `images`, from its run folder alone."""

from analysis.images.claims import analyse

__all__ = ["analyse"]
