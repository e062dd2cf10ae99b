"""Laws of data whose score, denoiser and everything else are known exactly at every noise level."""

from dfx.targets import fit, shapes
from dfx.targets.empirical import Empirical
from dfx.targets.mixture import Mixture
from dfx.targets.modes import Modes, leading_modes
from dfx.targets.spectrum import cosine_basis, from_modes, power_spectrum
from dfx.targets.subspaces import random_bases, union_of_subspaces
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
    "Modes",
    "checkerboard",
    "cosine_basis",
    "fit",
    "from_modes",
    "grid_2d",
    "leading_modes",
    "make",
    "modes_1d",
    "power_spectrum",
    "random_bases",
    "rings",
    "rotated_grid_2d",
    "shapes",
    "swiss_roll",
    "two_moons",
    "union_of_subspaces",
]
