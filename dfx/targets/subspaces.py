"""Unions of subspaces: mixtures of Gaussians, each on a subspace of its own through the origin.

    x0 = U_k (scale_k * a) + noise e,    k ~ pi,  a ~ N(0, I),  e ~ N(0, I),

with U_k of shape (n, d_k) and orthonormal columns. Subspaces travel together as `bases`, one array
(k, n, d) with d the largest d_k: what a smaller one lacks are columns of zeros. Nothing of shape
(n, n) is ever made. With unit scales and no noise this is the MoLRG (mixture of low-rank Gaussians)
of Wang et al. 2024.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from dfx.errors import PersonError
from dfx.targets.mixture import Mixture

#: How far from orthonormal bases may be: a hundred times the rounding of float32.
ROUNDING = 1e-5


def random_bases(key, n: int, dims, angle: float | None = math.pi / 2, dtype=jnp.float32):
    """Return random subspaces of R^n as bases, shape (k, n, max(dims)), zero columns last.

    With an angle, all principal angles of every two of them are equal to it, min(d_k, d_l) angles:
    U_k = cos(f) V_0 + sin(f) V_k with V_0, V_1, .. mutually orthogonal and cos(f)^2 = cos(angle).
    The frame of all V is uniform. Cost O(n r^2) with r the number of columns of the frame.

    Args:
      key: a typed key.
      n: the dimension of the space.
      dims: the d_k, one per subspace, static.
      angle: in radians, in [0, pi/2]; pi/2 makes them orthogonal and needs sum(dims) <= n, any
        other needs max(dims) dimensions more. None draws each by itself, uniform.

    Raises:
      PersonError: dimensions that do not fit, or an angle out of range.
    """
    dims = _check_dims(n, dims)
    width = max(dims)
    if angle is None:
        frames = jax.random.normal(key, (len(dims), n, width), dtype)
        return jnp.linalg.qr(frames)[0] * column_mask(dims, dtype)[:, None]
    if not 0 <= angle <= math.pi / 2:
        raise PersonError(f"angle = {angle}: allowed are radians from 0 to pi/2")
    orthogonal = angle == math.pi / 2
    common = 0 if orthogonal else width
    if common + sum(dims) > n:
        raise PersonError(f"dims {dims} need {common + sum(dims)} dimensions, n = {n}")
    frame = jnp.linalg.qr(jax.random.normal(key, (n, common + sum(dims)), dtype))[0]
    shared, rest = frame[:, :common], frame[:, common:]
    own = jnp.split(rest, np.cumsum(dims)[:-1].tolist(), axis=1)
    cos, sin = math.sqrt(math.cos(angle)), math.sqrt(1 - math.cos(angle))
    bases = own if orthogonal else [cos * shared[:, : u.shape[1]] + sin * u for u in own]
    return jnp.stack([jnp.pad(u, ((0, 0), (0, width - u.shape[1]))) for u in bases])


def column_mask(dims, dtype=jnp.float32):
    """Return which columns of bases exist, 1 or 0, shape (k, max(dims))."""
    return jnp.asarray(np.arange(max(dims)) < np.asarray(dims)[:, None], dtype)


def union_of_subspaces(bases, noise=0.0, weights=None, scales=1.0) -> Mixture:
    """Return the law of data on subspaces: sum_k pi_k N(0, U_k diag(scale_k)^2 U_k^T + noise^2 I).

    Under `jit` and `vmap` the arguments may be traced; they are then not checked. Without noise
    the density exists where sigma > 0. Balanced samples, `sample(.., balanced=True)`, lie on
    subspace i mod k.

    Args:
      bases: shape (k, n, d), columns orthonormal or zero, as `random_bases` makes them.
      noise: the standard deviation of every coordinate off the subspaces, 0 or more.
      weights: positive, shape (k,), normalised here; None means equal.
      scales: standard deviations along the columns, a number or shape (d,) or (k, d).

    Raises:
      PersonError: columns that are not orthonormal, or weights or scales that do not fit.

    Source: Wang et al. 2024 (arXiv 2409.02426), the MoLRG distribution.
    """
    xp = jnp if any(isinstance(a, jax.Array) for a in (bases, noise, weights, scales)) else np
    bases = xp.asarray(bases)
    if bases.ndim != 3:
        raise PersonError(f"bases must have shape (k, n, d), got {bases.shape}")
    k, n, d = bases.shape
    weights = xp.ones(k) if weights is None else xp.asarray(weights)
    if weights.shape != (k,) or np.shape(scales) not in ((), (d,), (k, d)):
        given = f"weights {weights.shape}, scales {np.shape(scales)}"
        raise PersonError(f"{given} do not fit {k} subspaces of dimension {d}")
    _check_values(bases, noise, weights, scales)
    present = (bases**2).sum(1) > 0.5
    spectrum = xp.broadcast_to(xp.asarray(scales) ** 2, (k, d)) * present
    variance = xp.broadcast_to(xp.asarray(noise, spectrum.dtype) ** 2, (k,))
    log_weights = xp.log(weights / weights.sum())
    return Mixture(log_weights, xp.zeros((k, n)), variance, bases, spectrum)


def _check_dims(n, dims):
    dims = tuple(int(d) for d in dims)
    if not dims or min(dims) < 1 or max(dims) > n:
        raise PersonError(f"dims {dims}: one or more numbers from 1 to n = {n} are needed")
    return dims


def _check_values(bases, noise, weights, scales):
    if any(isinstance(a, jax.core.Tracer) for a in (bases, noise, weights, scales)):
        return
    bases = np.asarray(bases, np.float64)
    gram = np.swapaxes(bases, 1, 2) @ bases
    lengths = np.diagonal(gram, axis1=1, axis2=2)[:, :, None]
    if not np.abs(gram - np.eye(bases.shape[2]) * (lengths > 0.5)).max() < ROUNDING:
        raise PersonError("bases must have columns that are orthonormal or zero")
    for name, value in {"noise": noise, "scales": scales}.items():
        if not np.all(np.asarray(value) >= 0):
            raise PersonError(f"{name} must not be negative, got {value}")
    if not np.all(np.asarray(weights) > 0):
        raise PersonError(f"weights must be positive, got {weights}")
