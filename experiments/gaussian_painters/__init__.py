"""Do nets paint like a Gaussian: the parts of the study and their order."""

from experiments.gaussian_painters.study import run

__all__ = ["run"]
