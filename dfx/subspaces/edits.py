"""Edits: a noisy point moved along a direction of the denoiser, and decoded to data.

    x_t' = x_t + lambda v,        decoded = the solver's path from x_t' to the data.

With v = v_i of `diagnostics.jacobian_svd`, x0_hat moves by lambda s_i u_i to first order; a random
direction moves it by about |J|_F / (s_1 sqrt(d)) of the largest such change. x_t comes from noising
a picture or from the path of a sample; times from 0.5 to 0.7 of the end are usual.

Source: Chen et al. 2024 (LOCO Edit; arXiv 2409.02374).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from dfx.errors import PersonError
from dfx.solvers import sample


def moved(x, direction, strengths):
    """Return x + lambda v for every lambda, shape (m, n, *sample).

    Args:
      x: points x_t, shape (n, *sample).
      direction: v, shape of x, or (*sample) for all; its length is used as it is.
      strengths: lambda, shape (m,).
    """
    direction = jnp.broadcast_to(jnp.asarray(direction, x.dtype), x.shape)
    scale = jnp.asarray(strengths, x.dtype)
    return x + scale.reshape(-1, *[1] * x.ndim) * direction


def edited(tableau, field, x, direction, strengths, key=None):
    """Return the decoded edits, shape (m, n, *sample), all strengths in one run of the solver.

    Args:
      tableau: a deterministic solver on a grid from the level of x to the data, such as
        `solvers.ddim(schedule, grid)`.
      field: (x, level) -> x0_hat, each sample by itself.
      x, direction, strengths: as in `moved`; strength 0 decodes x itself.
      key: for stochastic solvers.
    """
    points = moved(x, direction, strengths)
    ends = sample(tableau, field, points.reshape(-1, *x.shape[1:]), key)
    return ends.reshape(points.shape)


def project_out(direction, others):
    """Return the direction without its part along others, of length one: local edits.

    v_p = (I - W W^T) v / |..|. With W the right directions of the Jacobian outside a region
    (`jacobian_svd(.., mask=1 - region)`), moving along v_p leaves x0_hat outside as it is, to first
    order and as far as these directions reach. A direction that lies in their span has nothing
    left: the result is then rounding of length one.

    Args:
      direction: v, shape (n, *sample).
      others: the columns of W, orthonormal, shape (n, r, *sample).

    Raises:
      PersonError: shapes that do not fit.

    Source: Chen et al. 2024 (LOCO Edit), who take r = 5.
    """
    if others.ndim != direction.ndim + 1 or others[:, 0].shape != direction.shape:
        raise PersonError(f"directions {others.shape} do not fit {direction.shape}: (n, r, *shape)")
    return jax.vmap(_project_out)(direction, others)


def _project_out(direction, others):
    v, rows = direction.reshape(-1), others.reshape(len(others), -1)
    for _ in range(2):  # the second time takes off the rounding of the first
        v = v - jnp.matmul(jnp.matmul(rows, v, precision="highest"), rows, precision="highest")
    return (v / jnp.linalg.norm(v)).reshape(direction.shape)
