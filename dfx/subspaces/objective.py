"""What the diffusion loss of the low-rank denoiser asks of subspaces: the K-subspaces objective.

With one subspace, or with the subspace z(x) chosen by the clean point x, the denoiser is
c U_z U_z^T x_t, c = alpha / (alpha^2 + sigma^2), and its expected squared error over the noise is

    E_eps |c U_z U_z^T (alpha x + sigma eps) - x|^2 = |x|^2 - rho |U_z^T x|^2 + c^2 sigma^2 d_z,
    rho = alpha^2 (alpha^2 + 2 sigma^2) / (alpha^2 + sigma^2)^2 > 0.

Summed over levels with any positive weights it is

    loss = total |x|^2 - gain |U_z^T x|^2 + floor d_z,

so that with equal d_z, for every schedule and weighting, the loss is least where the energy kept,
sum_i |U_z(i)^T x_i|^2, is largest: PCA for one subspace, K-subspaces for more.

Source: Wang et al. 2024 (arXiv 2409.02426), theorems 1 and 3; the constants are written out here.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from dfx.errors import PersonError


class Coefficients(NamedTuple):
    """The loss is total |x|^2 - gain |U^T x|^2 + floor d; numbers, or arrays of one shape."""

    total: float
    gain: float
    floor: float


def coefficients_at(level) -> Coefficients:
    """Return the coefficients of |x0_hat - x0|^2 at a level: (1, rho, c^2 sigma^2)."""
    a2, s2 = level.alpha**2, level.sigma**2
    power = a2 + s2
    return Coefficients(power / power, a2 * (a2 + 2 * s2) / power**2, a2 * s2 / power**2)


def coefficients(schedule, times, weights=None) -> Coefficients:
    """Return the coefficients of the loss sum_j weights_j |x0_hat - x0|^2 at times t_j.

    Args:
      schedule: the forward process.
      times: t_j, shape (m,).
      weights: weighting times quadrature weight, not negative, shape (m,); None means 1 / m.

    Raises:
      PersonError: a negative weight, or none for each time.
    """
    times = np.asarray(times, np.float64)
    weights = np.full(times.shape, 1 / times.size) if weights is None else np.asarray(weights)
    if times.ndim != 1 or weights.shape != times.shape or not (weights >= 0).all():
        raise PersonError(
            f"weights {weights} must not be negative, one for each of {times.size} times"
        )
    each = coefficients_at(schedule.at(times))
    return Coefficients(*(float(weights @ a) for a in each))


def energies(bases, x):
    """Return |U_k^T x_i|^2, shape (n, k); bases: (k, d, r), orthonormal or zero; x: (n, d)."""
    inside = jnp.einsum("kdr,nd->nkr", bases, x, precision="highest")
    return (inside**2).sum(-1)


def assign(bases, x):
    """Return the subspace that keeps most of each point, argmax_k |U_k^T x_i|, shape (n,)."""
    return energies(bases, x).argmax(1)


def kept(bases, x, labels=None, mask=None):
    """Return the K-subspaces objective sum_i |U_z(i)^T x_i|^2, a number.

    Args:
      bases: shape (k, d, r), columns orthonormal or zero.
      x: points, shape (n, d).
      labels: z, shape (n,); None takes the best for each, z = `assign`.
      mask: shape (n,), points that count; None means all.
    """
    each = energies(bases, x)
    best = each.max(1) if labels is None else jnp.take_along_axis(each, labels[:, None], 1)[:, 0]
    return best.sum() if mask is None else jnp.where(mask, best, 0).sum()


def expected_loss(coefficients: Coefficients, bases, x, labels=None):
    """Return the loss of each point, summed over coordinates and in the mean over the noise.

    Args:
      coefficients: of one level or of a sum over levels.
      bases, x, labels: as in `kept`.

    Returns:
      Shape (n,). With labels None it is the loss of the theorem, labels chosen by the clean x.
    """
    labels = assign(bases, x) if labels is None else labels
    mine = jnp.take_along_axis(energies(bases, x), labels[:, None], 1)[:, 0]
    dims = (bases**2).sum((1, 2))[labels]
    total, gain, floor = coefficients
    return total * (x**2).sum(1) - gain * mine + floor * dims
