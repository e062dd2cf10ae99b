"""Laws with closed-form answers that the studies of solvers share: unit size, sharp details."""

from __future__ import annotations

import numpy as np

from dfx import targets


def gaussian() -> targets.Mixture:
    """Return N((0.5, -0.3), S) in two dimensions, standard deviations 1.2 and 0.3, turned by 30
    degrees."""
    turn = np.array(
        [[np.cos(np.pi / 6), -np.sin(np.pi / 6)], [np.sin(np.pi / 6), np.cos(np.pi / 6)]]
    )
    return targets.Mixture.gaussian([0.5, -0.3], turn @ np.diag([1.2, 0.3]) ** 2 @ turn.T)


def grid() -> targets.Mixture:
    """Return 25 equal modes on a square grid, a tenth of their spacing wide, unit variance."""
    return targets.grid_2d(side=5, spacing=1.0, std=0.1)


def low_rank() -> targets.Mixture:
    """Return eight Gaussians in 64 dimensions, of unequal weight: each spreads by 0.5 along four
    directions of its own and by 0.05 along the others."""
    rng = np.random.default_rng(0)
    means = rng.normal(size=(8, 64)) / 8.0  # of length about 1
    factors = 0.5 * np.linalg.qr(rng.normal(size=(8, 64, 4)))[0]
    weights = np.arange(1.0, 9.0)
    return targets.Mixture.low_rank(means, factors, 0.05**2, weights / weights.sum())


#: Name -> law.
LAWS = {law.__name__: law for law in (gaussian, grid, low_rank)}
