"""Mode interpolation on Gaussian mixtures, on pictures, and by the recursion."""

from experiments.mode_interpolation.study import run

__all__ = ["run"]
