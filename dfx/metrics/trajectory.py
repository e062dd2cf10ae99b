"""The geometry of sampling paths: how many dimensions they need, and how near they are to turns.

Paths have shape (n, frames, *sample), from the noise to the data, as the observer
`solvers.trajectory` keeps them. Which times the frames have changes every number here: state them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dfx.errors import PersonError


class Plane(NamedTuple):
    """The plane of the two ends of each path; see `end_plane`.

    Attributes:
      basis: orthonormal, the first along the noisy end, shape (n, 2, *sample).
      coordinates: of the frames, shape (n, frames, 2).
      inside: the share of each frame's squared norm that lies in the plane, shape (n, frames).
    """

    basis: np.ndarray
    coordinates: np.ndarray
    inside: np.ndarray

    @property
    def angle(self) -> np.ndarray:
        """The angle from the noisy end in radians, shape (n, frames)."""
        return np.arctan2(self.coordinates[..., 1], self.coordinates[..., 0])


def principal_shares(paths, count: int | None = None) -> np.ndarray:
    """Return the cumulative shares of a path's variance in its first principal components.

    Each path is centred at the mean of its frames. Shape (n, count), count at most frames - 1, the
    default: so many components hold everything.

    Raises:
      PersonError: fewer than two frames, or a path that does not move.

    Source: Wang & Vastola 2023 (images like painters).
    """
    flat = _flat(paths)
    offsets = flat - flat.mean(1, keepdims=True)
    squares = np.linalg.eigvalsh(offsets @ offsets.swapaxes(1, 2))[:, ::-1]
    total = _moving(np.sum(offsets**2, axis=(1, 2)), flat)
    # Rounding leaves the zero eigenvalues at 1e-16 of the largest, of either sign.
    shares = np.cumsum(np.maximum(squares, 0), axis=1) / total[:, None]
    return shares[:, : flat.shape[1] - 1 if count is None else count]


def rotation(paths, alpha, sigma) -> np.ndarray:
    """Return the paths on which nothing but the ends matters, shape of the paths:

        x_t = alpha_t x_0 + sigma_t e,    e = (x_T - alpha_T x_0) / sigma_T,

    with x_0 the last frame and x_T the first. Where alpha^2 + sigma^2 = 1 and alpha_T = 0 it is a
    quarter of an ellipse, a rotation if the ends are orthogonal and of one length. Exact for modes
    without variance.

    Args:
      alpha, sigma: of the frames, shape (frames,), from clean data (sigma = 0) at the last.

    Raises:
      PersonError: coefficients that do not fit the frames, or a last frame that is not clean.
    """
    flat = _flat(paths)
    alpha, sigma = (np.asarray(a, np.float64) for a in (alpha, sigma))
    fit = alpha.shape == sigma.shape == flat.shape[1:2]
    if not (fit and sigma[0] > 0 and alpha[-1] > 0 and sigma[-1] == 0):
        raise PersonError(
            f"alpha {alpha.shape}, sigma {sigma.shape} for {flat.shape[1]} frames: need one per "
            "frame, with noise at the first, and none but data at the last"
        )
    last = flat[:, -1:] / alpha[-1]
    eps = (flat[:, :1] - alpha[0] * last) / sigma[0]
    return (alpha[:, None] * last + sigma[:, None] * eps).reshape(np.shape(paths))


def rotation_r2(paths, alpha, sigma, centred: bool = False) -> np.ndarray:
    """Return 1 - sum |x_t - `rotation`|^2 / sum |x_t|^2 of each path over its frames, shape (n,).

    1 is a path in the plane of its ends, run through as the schedule says. In `centred` the sum
    below is of |x_t - mean over t|^2, as in an R^2 of regression: much less of a path of nearly
    constant norm then counts as explained.

    Raises:
      PersonError: as `rotation`, or a path without anything to explain.
    """
    flat, turned = _flat(paths), _flat(rotation(paths, alpha, sigma))
    total = np.sum((flat - centred * flat.mean(1, keepdims=True)) ** 2, axis=(1, 2))
    return 1 - np.sum((flat - turned) ** 2, axis=(1, 2)) / _moving(total, flat)


def end_plane(paths) -> Plane:
    """Return the plane through 0 that the two ends of each path span.

    Raises:
      PersonError: ends that span no plane.
    """
    flat, shape = _flat(paths), np.shape(paths)
    ends = flat[:, [0, -1]].swapaxes(1, 2)
    directions, factors = np.linalg.qr(ends)
    heights = np.abs(np.diagonal(factors, axis1=1, axis2=2))
    if heights.shape[1] < 2 or not (heights > 1e-12 * np.linalg.norm(ends, axis=1)).all():
        raise PersonError("the ends of a path are 0 or along one line: they span no plane")
    directions = directions * np.sign(np.diagonal(factors, axis1=1, axis2=2))[:, None]
    coordinates = flat @ directions
    inside = np.sum(coordinates**2, axis=2) / np.sum(flat**2, axis=2)
    basis = directions.swapaxes(1, 2).reshape(shape[0], 2, *shape[2:])
    return Plane(basis, coordinates, inside)


def _flat(paths) -> np.ndarray:
    paths = np.asarray(paths, np.float64)
    if paths.ndim < 3 or paths.shape[1] < 2:
        raise PersonError(f"paths need shape (n, frames, *sample), two frames, got {paths.shape}")
    return paths.reshape(*paths.shape[:2], -1)


def _moving(total, flat) -> np.ndarray:
    # The mean of equal frames is off by its rounding.
    rounding = (flat.shape[1] * np.finfo(np.float64).eps) ** 2 * np.sum(flat**2, axis=(1, 2))
    if not (total > rounding).all():
        raise PersonError("a path does not move: its variance has no shares")
    return total
