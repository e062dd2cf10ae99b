"""Samples, dimension and subspaces: when a denoiser finds the subspaces that data lie on."""

from experiments.subspace_clustering.study import run

__all__ = ["run"]
