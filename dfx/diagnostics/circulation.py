"""Integrals of a field along closed curves: zero for every curve if and only if it is a gradient.

A loop is a quadrature rule: nodes and line elements, so that the circulation is a sum of f . dl.
On smooth closed curves equal steps of the parameter converge faster than any power (the trapezoid
rule of a periodic function); each edge of a polygon has Gauss-Legendre nodes of its own. By Stokes'
theorem a flat loop around an area S gives the integral of e2 . (J - J^T) e1 over S, for a small
circle pi r^2 e2 . (J - J^T) e1 up to r^4, with (e1, e2) its plane in the order of turning.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dfx.errors import PersonError
from dfx.fields.field import as_pytree


class Loop(NamedTuple):
    """A closed curve as a rule: points and line elements, both (m, *sample)."""

    points: Any
    elements: Any


class Circulation(NamedTuple):
    """The integral of f . dl round a loop, and that of |f| |dl|, which bounds it."""

    value: Any
    size: Any

    @property
    def normalised(self):
        """value / size, in [-1, 1]: free of the scale of the field and of the loop."""
        return self.value / self.size


def circulation(f: Callable, loop: Loop) -> Circulation:
    """Return the integral of f along a loop.

    Args:
      f: (m, *sample) -> (m, *sample), for example `prediction_at(field, level)`.
      loop: from `circle`, `polygon` or `parametrised`; under `jax.vmap` many of them.

    Returns:
      Circulation; its error is that of the rule, and in float32 about 1e-7 of `size`.
    """
    return _circulation(as_pytree(f), loop)


@jax.jit
def _circulation(f, loop: Loop) -> Circulation:
    values = f(loop.points).reshape(len(loop.points), -1)
    elements = loop.elements.reshape(len(loop.points), -1)
    lengths = jnp.linalg.norm(values, axis=1) * jnp.linalg.norm(elements, axis=1)
    return Circulation(jnp.sum(values * elements), jnp.sum(lengths))


def circle(centre, radius, first, second, num_nodes: int = 256) -> Loop:
    """Return the circle centre + radius (cos(a) first + sin(a) second), turning first to second.

    Args:
      centre: shape of one sample.
      radius: a length; compare it with the noise level sigma.
      first, second: orthonormal, shape of one sample; `random_plane` draws them.
      num_nodes: equal steps of the angle.

    Raises:
      PersonError: fewer than 3 nodes.
    """
    turn = 2 * math.pi

    def curve(u):
        return centre + radius * (jnp.cos(turn * u) * first + jnp.sin(turn * u) * second)

    return parametrised(curve, num_nodes, jnp.result_type(centre, first, second))


def parametrised(curve: Callable, num_nodes: int = 256, dtype=None) -> Loop:
    """Return the loop of a closed curve u -> point, u in [0, 1); its tangent is taken by jvp.

    Args:
      curve: differentiable, with curve(1) = curve(0) in all derivatives: then the error falls
        faster than any power of `num_nodes`, otherwise as its square.
      num_nodes: at least 3.
      dtype: of the parameter; None is JAX's default.

    Raises:
      PersonError: fewer than 3 nodes.
    """
    if num_nodes < 3:
        raise PersonError(f"num_nodes = {num_nodes}: a loop needs at least 3")
    u = jnp.arange(num_nodes, dtype=dtype or float) / num_nodes
    points, tangents = jax.vmap(lambda u: jax.jvp(curve, (u,), (jnp.ones_like(u),)))(u)
    return Loop(points, tangents / num_nodes)


def polygon(vertices, num_nodes: int = 32) -> Loop:
    """Return the closed polygon through the vertices in their order.

    Args:
      vertices: shape (k, *sample), k at least 3; the last is joined to the first.
      num_nodes: Gauss-Legendre nodes on each edge: exact for polynomials of degree 2 num_nodes - 1.

    Raises:
      PersonError: fewer than 3 vertices, or no nodes.
    """
    vertices = jnp.asarray(vertices)
    vertices = vertices.astype(jnp.result_type(vertices, float))
    if len(vertices) < 3 or num_nodes < 1:
        raise PersonError(f"{len(vertices)} vertices, {num_nodes} nodes: need 3 and 1 at least")
    nodes, weights = np.polynomial.legendre.leggauss(num_nodes)
    place = (1, num_nodes) + (1,) * (vertices.ndim - 1)
    share, weight = (jnp.asarray(a / 2, vertices.dtype).reshape(place) for a in (nodes, weights))
    edges = (jnp.roll(vertices, -1, axis=0) - vertices)[:, None]
    points = vertices[:, None] + (0.5 + share) * edges
    flat = (-1, *vertices.shape[1:])
    return Loop(points.reshape(flat), (weight * edges).reshape(flat))


def random_plane(key, shape: tuple[int, ...], dtype=jnp.float32):
    """Return two orthonormal vectors of that shape, the span uniform over all planes.

    The mean over planes of (e2 . (J - J^T) e1)^2 is |J - J^T|_F^2 / (d (d - 1)).

    Raises:
      PersonError: samples of fewer than two coordinates.
    """
    d = math.prod(shape)
    if d < 2:
        raise PersonError(f"shape {shape}: a plane needs two coordinates")
    columns = jnp.linalg.qr(jax.random.normal(key, (d, 2), dtype))[0]
    return columns[:, 0].reshape(shape), columns[:, 1].reshape(shape)
