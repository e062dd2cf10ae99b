"""Figures and claims of the study `subspace_clustering`, from its run folder alone."""

from analysis.subspace_clustering.claims import analyse

__all__ = ["analyse"]
