"""What the study `fokker_planck_gap` starts from: its forward process and its three data laws.

The process is that of Ornstein and Uhlenbeck, dx = -x dt + dw, so x_t has mean x0 e^-t and the
variance (1 - e^-2t) / 2 along each axis; the noise is N(0, I / 2).

Every law is a pure sampler (key, n) -> (n, 2), whose points are independent of one another, and the
masses of the cells of a grid, by which computed laws are judged.

Source: Deveney et al. (2023), arXiv 2311.15996, and its code. There the squares of a batch share
their offsets and the rings their angles; here they do not.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import ndtr

from dfx import evolution, targets
from dfx.pytree import pytree
from dfx.schedules import Schedule

SETS = ("mixture", "rings", "checkerboard")

MODES = 0.65 * np.array(
    [(2, 2), (2, -2), (-2, 2), (-2, -2), (0, 0), (4, 0), (-4, 0), (0, 4), (0, -4)]
)
#: The paper scales the points after they are drawn, the means and the spread alike.
MODE_STD = 0.65 * np.sqrt(0.2)

RADII, RING_STD = (2 * 0.65, 2 * 1.4), 2 * 0.1

SIDE = 1.5
#: The lower corners of the squares.
CORNERS = -3 + 6 * np.array(
    [(0, 0), (0.5, 0), (0.25, 0.25), (0.75, 0.25), (0, 0.5), (0.5, 0.5), (0.25, 0.75), (0.75, 0.75)]
)

#: Points along each axis of a cell over which the density of the rings is averaged: the error of
#: the mass is below 1e-3 of it for cells as wide as a ring.
SUBDIVISIONS = 8


@pytree
@dataclasses.dataclass(frozen=True)
class OrnsteinUhlenbeck(Schedule):
    """dx = -x dt + dw: alpha = e^-t, sigma^2 = (1 - e^-2t) / 2, for t in [0, length]."""

    length: float = 10.0

    @property
    def end_time(self):
        return self.length

    def alpha(self, t):
        return jnp.exp(-t)

    def variance(self, t):
        return -0.5 * jnp.expm1(-2 * t)


def mixture() -> targets.Mixture:
    """Return the mixture of nine equal Gaussians, the law whose score is known."""
    return targets.Mixture.isotropic(MODES, MODE_STD)


def draw_mixture(key, n: int):
    """Return points of nine equal Gaussians of covariance 0.0845 I, shape (n, 2)."""
    which, noise = jax.random.split(key)
    means = jnp.asarray(MODES, jnp.float32)[jax.random.randint(which, (n,), 0, len(MODES))]
    return means + MODE_STD * jax.random.normal(noise, (n, 2))


def draw_rings(key, n: int):
    """Return points of two noisy rings with half the points each, shape (n, 2)."""
    which, noise, turn = jax.random.split(key, 3)
    radius = jnp.asarray(RADII)[jax.random.randint(which, (n,), 0, 2)]
    radius = radius + RING_STD * jax.random.normal(noise, (n,))
    angle = 2 * jnp.pi * jax.random.uniform(turn, (n,))
    return radius[:, None] * jnp.stack([jnp.cos(angle), jnp.sin(angle)], -1)


def draw_checkerboard(key, n: int):
    """Return points of eight equal squares of a board of side 6, shape (n, 2)."""
    which, offset = jax.random.split(key)
    corner = jnp.asarray(CORNERS, jnp.float32)[jax.random.randint(which, (n,), 0, len(CORNERS))]
    return corner + SIDE * jax.random.uniform(offset, (n, 2))


SAMPLERS = {
    "mixture": draw_mixture,
    "rings": draw_rings,
    "checkerboard": draw_checkerboard,
}


def draw(index, key, n: int):
    """Return points of the law of that number in `SETS`; the number may be traced."""
    return jax.lax.switch(index, [lambda key, f=SAMPLERS[s]: f(key, n) for s in SETS], key)


def masses(name: str, grid: evolution.Grid) -> np.ndarray:
    """Return the mass of a law in every cell of a grid, shape `grid.shape`.

    Exact for the mixture and the board; of the rings the density is averaged over points in the
    cell. What lies outside the box is in no cell.
    """
    return _MASSES[name](grid)


def _mixture_masses(grid):
    axes = [ndtr((grid.edges(i) - MODES[:, i : i + 1]) / MODE_STD) for i in range(2)]
    return _products(axes) / len(MODES)


def _board_masses(grid):
    axes = [np.clip((grid.edges(i) - CORNERS[:, i : i + 1]) / SIDE, 0, 1) for i in range(2)]
    return _products(axes) / len(CORNERS)


def _products(distributions):
    """The sum over components of the masses of rectangles, from (components, edges) per axis."""
    first, second = (np.diff(axis, axis=1) for axis in distributions)
    return first.T @ second


def _ring_masses(grid):
    fine = evolution.make_grid(grid.low, grid.high, [SUBDIVISIONS * n for n in grid.shape])
    x, y = fine.axis(0)[:, None], fine.axis(1)
    density = ring_density(np.hypot(x, y))
    return evolution.coarsen(fine, density, grid.shape)[1] * grid.volume


def ring_density(radius):
    """Return the density of the two rings at a distance above 0 from the centre.

    A normal radius may be negative, with a probability of 4e-11; it is left out.
    """
    scores = (radius[..., None] - np.asarray(RADII)) / RING_STD
    line = np.exp(-0.5 * scores**2).sum(-1) / (2 * RING_STD * np.sqrt(2 * np.pi))
    return line / (2 * np.pi * radius)


_MASSES = {
    "mixture": _mixture_masses,
    "rings": _ring_masses,
    "checkerboard": _board_masses,
}
