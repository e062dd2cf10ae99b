"""Guided sampling on labelled mixtures with exact conditional scores: no net is trained."""

from experiments.guided_sampling.study import run

__all__ = ["run"]
