"""The orthogonal split of a vector field in L^2(p): s = grad phi + r with E_p[grad phi . r] = 0.

phi minimises E_p|grad phi - s|^2, hence solves the weighted Poisson equation

    div(p grad phi) = div(p s),    or    Lap phi + grad log p . grad phi = div s + grad log p . s,

and r obeys the gauge condition div(p r) = 0. Then E|s|^2 = E|grad phi|^2 + E|r|^2; applied to a
learned score, the part of its error that changes the law is in grad phi alone. This is not the
split into symmetric and antisymmetric Jacobian, which is orthogonal for Gaussians of covariance
proportional to I only. Here: the linear case in closed form; `poisson.py`: on a grid;
`projection.py`: from samples.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dfx.errors import PersonError
from dfx.targets.arithmetic import einsum


class Parts(NamedTuple):
    """Squared norms in L^2(p) of a field and its two parts.

    Attributes:
      total: E|s|^2.
      gradient: E|grad phi|^2.
      remainder: E|r|^2.
      inner: E[grad phi . r], zero for the exact split; total = gradient + remainder + 2 inner.
      inner_error: its standard error where the mean is one over samples, otherwise 0.
    """

    total: Any
    gradient: Any
    remainder: Any
    inner: Any
    inner_error: Any = 0.0


class LinearSplit(NamedTuple):
    """The split of the field B (x - m): phi = (x - m) . S (x - m) / 2.

    Attributes:
      gradient: S, symmetric: grad phi = S (x - m), shape (d, d).
      remainder: B - S: r = (B - S) (x - m), shape (d, d), of trace zero.
      parts: the squared norms.
    """

    gradient: Any
    remainder: Any
    parts: Parts


def split_linear(matrix, covariance) -> LinearSplit:
    """Return the exact split of x -> B (x - m) in L^2(N(m, C)).

    S solves the Lyapunov equation C^-1 S + S C^-1 = C^-1 B + B^T C^-1. In the basis of the
    eigenvectors of C, with eigenvalues c_i,

        S_ij = (c_j B_ij + c_i B_ji) / (c_i + c_j).

    Exact to rounding, under `jax.jit` and `jax.vmap` too.

    Args:
      matrix: B, shape (d, d).
      covariance: C, symmetric and positive definite, shape (d, d).

    Raises:
      PersonError: shapes that differ, or a covariance that is not symmetric and positive.

    Source: the projection of Horvat & Pfister 2024 for a linear field.
    """
    matrix, covariance = jnp.asarray(matrix), jnp.asarray(covariance)
    _check(matrix, covariance)
    c, v = jnp.linalg.eigh(covariance)
    b = einsum("ai,ab,bj->ij", v, matrix, v)
    s = (b * c + b.T * c[:, None]) / (c + c[:, None])
    gradient = einsum("ai,ij,bj->ab", v, s, v)
    remainder = matrix - gradient
    inner = lambda a, b: einsum("ki,kj,ji->", a, b, covariance)  # noqa: E731
    pairs = (matrix, matrix), (gradient, gradient), (remainder, remainder), (gradient, remainder)
    return LinearSplit(gradient, remainder, Parts(*(inner(*pair) for pair in pairs)))


def _check(matrix, covariance):
    d = matrix.shape[0] if matrix.ndim else 0
    if matrix.shape != (d, d) or covariance.shape != (d, d):
        raise PersonError(f"shapes {matrix.shape}, {covariance.shape}: need two matrices (d, d)")
    if isinstance(covariance, jax.core.Tracer):
        return
    c = np.asarray(covariance)
    if not np.allclose(c, c.T) or np.linalg.eigvalsh(c).min() <= 0:
        raise PersonError("the covariance must be symmetric with positive eigenvalues")
