"""Toy laws of one and two dimensions. All are Gaussian mixtures, so every oracle is exact for all
of them.

The curves and the checkerboard are mixtures of many narrow components; what is sampled is that
mixture itself, not a limit of it, so samples and oracles belong to one law.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dfx.errors import PersonError, call
from dfx.targets.mixture import Mixture


def modes_1d(means=(1.0, 2.0, 3.0), std: float = 0.05) -> Mixture:
    """Return the equal mixture of N(m, std^2) in one dimension; Aithal et al. 2024 use {1,2,3} and
    {1,2,4,5}."""
    return Mixture.isotropic(np.asarray(means, np.float64)[:, None], std)


def grid_2d(
    side: int = 5, spacing: float = 2.0, std: float = 0.05, standardise: bool = True
) -> Mixture:
    """Return the equal mixture of side^2 modes on a square grid around 0.

    Args:
      side: modes along an axis.
      spacing: between neighbours.
      std: of each mode.
      standardise: divide all by sqrt(std^2 + spacing^2 (side^2 - 1) / 12), the standard deviation
        of a coordinate; 2.829 for 5 x 5 with spacing 2, as in Aithal et al. 2024.
    """
    scale = _grid_std(side, spacing, std) if standardise else 1.0
    return Mixture.isotropic(_square(side, spacing) / scale, std / scale)


def rotated_grid_2d(
    side: int = 5, spacing: float = 2.0, std: float = 0.05, standardise: bool = True
) -> Mixture:
    """Return the grid turned by 45 degrees and shrunk by sqrt(2): (x, y) goes to ((x + y) / 2, (y -
    x) / 2).

    Neighbours are spacing / sqrt(2) apart; it is divided by the same number as `grid_2d`.
    Source: Aithal et al. 2024, modes 2 {(-2, 0), (-1.5, 0.5), .., (2, 0)}.
    """
    scale = _grid_std(side, spacing, std) if standardise else 1.0
    turn = np.array([[0.5, -0.5], [0.5, 0.5]])  # acts from the right on rows (x, y)
    return Mixture.isotropic(_square(side, spacing) @ turn / scale, std / scale)


def rings(radii=(1.0, 2.0), std: float = 0.08, modes_per_unit: float = 8.0) -> Mixture:
    """Return modes at equal angles on concentric circles, with weights in proportion to the radius.

    Neighbours on a circle are about 1 / modes_per_unit apart; with std of that size the rings are
    smooth.

    Args:
      radii: of the circles, positive, one or more.
      std: of each mode.
      modes_per_unit: of length along a circle, but 3 modes on each at least.

    Raises:
      PersonError: no radius, or one that is not positive, or a negative std.
    """
    if not len(radii) or not min(radii) > 0:
        raise PersonError(f"radii = {radii}: one or more positive numbers are needed")
    counts = [max(3, round(2 * np.pi * r * modes_per_unit)) for r in radii]
    means = [r * _circle(2 * np.pi * np.arange(k) / k) for r, k in zip(radii, counts)]
    weights = [np.full(k, r / k) for r, k in zip(radii, counts)]
    return Mixture.isotropic(np.concatenate(means), std, np.concatenate(weights))


def checkerboard(side: int = 4, cell: float = 1.0, fill: int = 8) -> Mixture:
    """Return the dark cells of a board around 0, each filled by fill^2 modes with std = cell /
    fill.

    Within a cell the density is flat to 1e-2 away from its border, which is blurred over cell /
    fill.

    Args:
      side: cells along an axis, at least 1; the one in the corner is dark.
      cell: length of a side of a cell.
      fill: modes along an axis of a cell, at least 1.

    Raises:
      PersonError: a number outside these.
    """
    if side < 1 or fill < 1 or not cell > 0:
        given = f"side = {side}, fill = {fill}, cell = {cell}"
        raise PersonError(f"{given}: the first two must be at least 1, the last above 0")
    corner = np.stack(np.meshgrid(np.arange(side), np.arange(side), indexing="ij"), -1).reshape(
        -1, 2
    )
    dark = corner[corner.sum(-1) % 2 == 0] - side / 2
    inside = _square(fill, 1.0 / fill) + 0.5
    means = cell * (dark[:, None] + inside).reshape(-1, 2)
    return Mixture.isotropic(means, cell / fill)


def two_moons(std: float = 0.1, modes: int = 40) -> Mixture:
    """Return two half circles of radius 1 that reach into each other.

    Args:
      std: of each mode.
      modes: components a half circle, at equal angles, at least 1.

    Raises:
      PersonError: no modes, or a negative std.
    """
    angles = np.pi * (np.arange(modes) + 0.5) / modes
    upper = _circle(angles)
    lower = np.array([1.0, 0.5]) - upper
    return Mixture.isotropic(np.concatenate([upper, lower]) - [0.5, 0.25], std)


def swiss_roll(turns: float = 1.5, std: float = 0.05, modes: int = 120) -> Mixture:
    """Return an Archimedean spiral, its modes equally spaced in length.

    Args:
      turns: over which the radius grows from 1/3 to 1.
      std: of each mode.
      modes: components, at least 1.

    Raises:
      PersonError: no modes, or a negative std.
    """
    s = np.linspace(0.0, 1.0, 4001)
    curve = (1 + 2 * s[:, None]) / 3 * _circle(2 * np.pi * turns * s)
    length = np.concatenate([[0.0], np.linalg.norm(np.diff(curve, axis=0), axis=1).cumsum()])
    at = np.interp((np.arange(modes) + 0.5) / modes * length[-1], length, s)
    return Mixture.isotropic((1 + 2 * at[:, None]) / 3 * _circle(2 * np.pi * turns * at), std)


REGISTRY: dict[str, Callable[..., Mixture]] = {
    "modes_1d": modes_1d,
    "grid_2d": grid_2d,
    "rotated_grid_2d": rotated_grid_2d,
    "rings": rings,
    "checkerboard": checkerboard,
    "two_moons": two_moons,
    "swiss_roll": swiss_roll,
}


def make(name: str, **options) -> Mixture:
    """Return the toy law of that name; options are those of its function.

    Raises:
      PersonError: no such name, with the nearest one.

    >>> make("grid_2d").num_components
    25
    """
    return call("target", name, REGISTRY, **options)


def _square(side: int, spacing: float) -> np.ndarray:
    """The points of a square grid around 0, the last coordinate running fastest, (side^2, 2)."""
    if side < 1 or not spacing > 0:
        raise PersonError(f"grid: side {side} and spacing {spacing}, allowed: at least 1, above 0")
    axis = (np.arange(side) - (side - 1) / 2) * spacing
    return np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)


def _grid_std(side: int, spacing: float, std: float) -> float:
    return float(np.sqrt(std**2 + spacing**2 * (side**2 - 1) / 12))


def _circle(angles: np.ndarray) -> np.ndarray:
    return np.stack([np.cos(angles), np.sin(angles)], -1)
