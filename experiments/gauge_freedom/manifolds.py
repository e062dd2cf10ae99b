"""Laws on manifolds: how to draw from them and, where there is a closed form, their exact fields.

    plane    N(0, diag(1, 0.36)) on a plane                    dimension 2
    circle   uniform on the unit circle                        1
    sphere   uniform on the unit sphere S^2                    2
    roll     a sheet rolled up to a spiral (the Swiss roll)    2

each put into R^d by a fixed frame in general position, so that no axis is special. A set of data is
not needed: every batch is drawn afresh, and no nearest neighbour ends the fall of a singular value.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dfx.errors import choose
from dfx.pytree import pytree

#: The variances of `plane` along its two axes.
PLANE = (1.0, 0.36)

#: Below this alpha |x| / sigma^2 a Bessel ratio is replaced by its limit, kappa / dimension.
SMALL = 1e-3


class Manifold(NamedTuple):
    """A law on a manifold.

    Attributes:
      name: as the configs name it, such as "sphere3".
      dim: of the space.
      intrinsic: of the manifold.
      draw: (key, n) -> points (n, dim).
      exact: the exact field, or None.
    """

    name: str
    dim: int
    intrinsic: int
    draw: Callable
    exact: Callable | None


@pytree
@dataclasses.dataclass(frozen=True)
class Flat:
    """The exact field of N(0, F diag(l) F^T): x0_hat = F diag(alpha l / (alpha^2 l + sigma^2)) F^T
    x."""

    frame: Any
    variances: Any
    pointwise = True

    def __call__(self, x, level):
        frame = jnp.asarray(self.frame, x.dtype)
        gain = level.alpha * self.variances / (level.alpha**2 * self.variances + level.sigma**2)
        return (x @ frame) * jnp.asarray(gain, x.dtype) @ frame.T


@pytree
@dataclasses.dataclass(frozen=True)
class Round:
    """The exact field of the uniform law on the unit sphere S^(k-1) in the span of a frame (d, k):

        x0_hat = F u A(kappa),    u = F^T x / |F^T x|,    kappa = alpha |F^T x| / sigma^2,

    A = I_1 / I_0 for the circle (k = 2) and coth(kappa) - 1 / kappa for the sphere (k = 3), the
    mean direction of the von Mises-Fisher law.
    """

    frame: Any
    pointwise = True

    def __call__(self, x, level):
        frame = jnp.asarray(self.frame, x.dtype)
        inside, k = x @ frame, frame.shape[1]
        radius = jnp.sqrt(jnp.sum(inside**2, axis=1, keepdims=True) + jnp.finfo(x.dtype).tiny)
        kappa = jnp.asarray(level.alpha / level.sigma**2, x.dtype) * radius
        return inside / radius * mean_length(kappa, k) @ frame.T


def mean_length(kappa, k: int):
    """Return |E u| of the von Mises-Fisher law on S^(k-1), k = 2 or 3, between 0 and 1."""
    safe = jnp.maximum(kappa, SMALL)
    if k == 2:
        ratio = jax.scipy.special.i1e(safe) / jax.scipy.special.i0e(safe)
    else:
        ratio = 1 / jnp.tanh(safe) - 1 / safe
    return jnp.where(kappa < SMALL, kappa / k, ratio)


def frame(dim: int, k: int) -> np.ndarray:
    """Return orthonormal columns in general position, shape (dim, k), the same at every call."""
    return np.linalg.qr(np.random.default_rng(dim).normal(size=(dim, dim)))[0][:, :k]


def plane(dim: int) -> Manifold:
    """Return the Gaussian of rank 2."""
    basis, variances = frame(dim, 2), np.asarray(PLANE)

    def draw(key, n):
        return jax.random.normal(key, (n, 2)) * variances**0.5 @ basis.T.astype(np.float32)

    return Manifold(f"plane{dim}", dim, 2, draw, Flat(basis, variances))


def circle(dim: int) -> Manifold:
    """Return the uniform law on the unit circle."""
    return _round("circle", dim, 2)


def sphere(dim: int) -> Manifold:
    """Return the uniform law on the unit sphere S^2."""
    return _round("sphere", dim, 3)


def roll(dim: int) -> Manifold:
    """Return the Swiss roll (a cos a, h, a sin a), a in [1.5 pi, 4.5 pi], h in [0, 21], uniform;
    moved to its centre and scaled by 1 / 8. Its turns are 0.8 apart. No closed form."""
    basis = frame(dim, 3)

    def draw(key, n):
        along, across = jax.random.uniform(key, (2, n))
        angle = 1.5 * jnp.pi * (1 + 2 * along)
        flat = jnp.stack([angle * jnp.cos(angle), 21 * across - 10.5, angle * jnp.sin(angle)], 1)
        return flat / 8 @ basis.T.astype(np.float32)

    return Manifold(f"roll{dim}", dim, 2, draw, None)


def make(name: str) -> Manifold:
    """Return the law of a name such as "plane5" or "circle3": the shape and the dimension of space.

    Raises:
      PersonError: an unknown name.
    """
    return choose("manifold", name, ALL)(int(name[-1]))


def _round(name, dim, k) -> Manifold:
    basis = frame(dim, k)

    def draw(key, n):
        z = jax.random.normal(key, (n, k))
        return z / jnp.linalg.norm(z, axis=1, keepdims=True) @ basis.T.astype(np.float32)

    return Manifold(f"{name}{dim}", dim, k - 1, draw, Round(basis))


#: Name -> (dimension of space -> law).
ALL = {
    f"{shape.__name__}{dim}": shape for shape in (plane, circle, sphere, roll) for dim in (3, 4, 5)
}
