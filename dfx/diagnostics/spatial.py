"""Which part of a Fokker-Planck residual matters: the one that varies in x.

A potential phi and phi + c(t) have the same score and the same laws; their residuals differ by
c'(t), which does not depend on x.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp

from dfx.errors import PersonError


class Spatial(NamedTuple):
    """A residual over its points x, the last axis; see `spatial`.

    Attributes:
      mean_square: mean of R^2.
      constant: mean of R, the part that a free c(t) of a potential makes.
      variance: of R over x: what is left of it. In units of R^2, per unit time squared.
    """

    mean_square: Any
    constant: Any
    variance: Any


def spatial(residual, other=None) -> Spatial:
    """Return mean square, constant part and variance over x (the last axis) of a residual.

    A residual estimated by probes has their noise in its squares. Given a second estimate at the
    same points from another key, R^2 is replaced by the product of the two: mean square and
    variance are then unbiased, and may fall below zero.

    Args:
      residual: shape (.., n), at one t for each leading index; n at least 2.
      other: None, or a second estimate, same shape.

    Raises:
      PersonError: fewer than two points, or shapes that differ.
    """
    residual = jnp.asarray(residual)
    other = residual if other is None else jnp.asarray(other)
    if residual.shape != other.shape or residual.ndim == 0 or residual.shape[-1] < 2:
        raise PersonError(
            f"residuals of shapes {residual.shape}, {other.shape}: need one shape (.., n), n >= 2"
        )
    n = residual.shape[-1]
    means = residual.mean(-1, keepdims=True), other.mean(-1, keepdims=True)
    covariance = jnp.sum((residual - means[0]) * (other - means[1]), -1) / (n - 1)
    constant = 0.5 * (means[0] + means[1])[..., 0]
    return Spatial(jnp.mean(residual * other, -1), constant, covariance)
