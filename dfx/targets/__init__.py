"""Laws of data whose score, denoiser and everything else are known exactly at every noise level."""

from dfx.targets import shapes
from dfx.targets.empirical import Empirical
from dfx.targets.mixture import Mixture
from dfx.targets.toys import (
    REGISTRY,
    checkerboard,
    grid_2d,
    make,
    modes_1d,
    rings,
    rotated_grid_2d,
    swiss_roll,
    two_moons,
)

__all__ = [
    "REGISTRY",
    "Empirical",
    "Mixture",
    "checkerboard",
    "grid_2d",
    "make",
    "modes_1d",
    "rings",
    "rotated_grid_2d",
    "shapes",
    "swiss_roll",
    "two_moons",
]
