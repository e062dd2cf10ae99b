"""Gaussians by their spectra: covariances that fall by a power of the mode's number, in any basis.

    S = U diag(lambda) U^T,    lambda_k ~ k^-p,    k = 1, 2, ..

Pictures have such a spectrum in waves of rising frequency, the columns of `cosine_basis`.
"""

from __future__ import annotations

import math

import numpy as np

from dfx.errors import PersonError
from dfx.targets.mixture import Mixture

#: How far the columns of a basis may be from orthonormal: float32 rounding of a large one.
ORTHONORMAL = 1e-5


def power_spectrum(
    dim: int, exponent: float = 1.0, mean_variance: float = 1.0, basis=None, mean=None
) -> Mixture:
    """Return N(mean, U diag(lambda) U^T) with lambda_k = c k^-exponent, as one component.

    c is such that the trace is dim mean_variance, whatever the number of modes.

    Args:
      dim: d.
      exponent: p, 0 or more; 0 is white.
      mean_variance: tr S / d, positive.
      basis: U, orthonormal columns, the largest variance first, shape (d, r): with r < d all other
        directions have variance 0. None: the coordinate axes.
      mean: shape (d,); None is zero.

    Raises:
      PersonError: a negative exponent, a variance that is not positive, or a basis that is not
        orthonormal.

    >>> power_spectrum(4, 1.0, 0.25).spectrum.round(2)
    array([[0.48, 0.24, 0.16, 0.12]])
    """
    if not exponent >= 0 or not mean_variance > 0:
        raise PersonError(
            f"exponent = {exponent}, mean_variance = {mean_variance}: "
            "must not be negative, must be positive"
        )
    spectrum = np.arange(1.0, (dim if basis is None else np.shape(basis)[-1]) + 1) ** -exponent
    spectrum *= dim * mean_variance / spectrum.sum()
    mean = np.zeros(dim) if mean is None else np.asarray(mean, np.float64)
    if basis is None:
        return Mixture.diagonal(mean[None], spectrum[None])
    return from_modes(mean[None], np.asarray(basis)[None], spectrum[None])


def from_modes(means, bases, spectra, variance=0.0, weights=None) -> Mixture:
    """Return the mixture of N(m_k, U_k diag(lambda_k) U_k^T + variance_k (1 - U_k U_k^T)).

    Like `Mixture.full` and `Mixture.low_rank`, without decomposing anything again.

    Args:
      means: shape (k, d).
      bases: U, orthonormal columns, shape (k, d, r).
      spectra: lambda, the whole variance along the columns, at least variance_k, shape (k, r).
      variance: that of all other directions, one number or shape (k,).
      weights: as for `Mixture.isotropic`.

    Raises:
      PersonError: shapes that do not fit, columns that are not orthonormal, a spectrum below the
        variance of the rest.
    """
    means, bases, spectra = (np.asarray(a, np.float64) for a in (means, bases, spectra))
    variance = np.broadcast_to(np.asarray(variance, np.float64), (len(means),))
    if bases.shape != (*means.shape, spectra.shape[-1]) or len(spectra) != len(means):
        raise PersonError(
            f"means {means.shape}, bases {bases.shape}, spectra {spectra.shape}: "
            "need (k, d), (k, d, r), (k, r)"
        )
    for basis in bases:
        error = np.abs(basis.T @ basis - np.eye(basis.shape[1])).max(initial=0)
        if not error < ORTHONORMAL:
            raise PersonError(f"the columns of a basis are not orthonormal: off by {error:.1e}")
    if not (variance >= 0).all() or not (spectra >= variance[:, None] * (1 - 1e-9)).all():
        raise PersonError("variances must not be negative, nor a spectrum below the other ones")
    # The constructor checks means and weights; what it makes of the variances is replaced.
    plain = Mixture.isotropic(means, np.sqrt(variance), weights)
    extra = np.maximum(spectra - variance[:, None], 0)
    return Mixture(plain.log_weights, plain.means, variance.copy(), bases, extra)


def cosine_basis(shape: tuple[int, ...]) -> np.ndarray:
    """Return the orthonormal cosine waves of pictures, the slow ones first, shape (d, d).

    Products of the columns of DCT-II along each axis, for pictures flattened in C order, sorted by
    the sum over axes of squared cycles per pixel; waves along a channel axis count like any. Memory
    is that of a (d, d) matrix.

    Args:
      shape: of one picture, for example (h, w, c) or (n,).

    Raises:
      PersonError: an axis without pixels.

    Source: Ahmed, Natarajan & Rao 1974.

    >>> cosine_basis((2,)).round(2)
    array([[ 0.71,  0.71],
           [ 0.71, -0.71]])
    """
    if not shape or min(shape) < 1:
        raise PersonError(f"shape = {shape}: every axis needs at least one pixel")
    basis, square = np.ones((1, 1)), np.zeros(1)
    for size in shape:
        basis = np.kron(basis, _cosines(size))
        square = np.add.outer(square, (np.arange(size) / (2 * size)) ** 2).ravel()
    return basis[:, np.argsort(square, kind="stable")]


def _cosines(size: int) -> np.ndarray:
    """Pixels down, waves across."""
    pixel, wave = np.arange(size)[:, None], np.arange(size)
    columns = np.cos(math.pi * (pixel + 0.5) * wave / size) * math.sqrt(2 / size)
    columns[:, 0] /= math.sqrt(2)
    return columns
