"""The probability flow of a Gaussian in closed form, for every schedule without a mean term.

Data N(m, S), S = U diag(lambda) U^T, have x_t ~ N(alpha m, alpha^2 S + sigma^2). In coordinate k of
the eigenbasis let v_k = alpha^2 lambda_k + sigma^2 and w_k = sqrt(v_k(t) v_k(start)). From
z = U^T (x_start - alpha_start m) the flow leads to

    U^T (x_t - alpha_t m) = psi_k z_k,        psi_k = sqrt(v_k(t) / v_k(start)),
    U^T (x0_hat(x_t) - m) = (alpha_t lambda_k / w_k) z_k,
    U^T (dx_t/dt - alpha_dot m) = ((sigma sigma_dot + lambda_k alpha alpha_dot) / w_k) z_k,

since along the flow every standardised coordinate stays what it is. With s = sigma / alpha mode k
of x0_hat has reached the share 1 / sqrt(1 + s^2 / lambda_k) of its final value: large variances
come first, outlines before details, each half-way at s = sqrt(3 lambda_k). A kick of x along u_k at
a time becomes psi_k from then to the data times the kick.

All sums are of positive numbers: nothing cancels, and lambda_k = 0 and sigma = 0 at the end are
ordinary cases. Source: Wang & Vastola 2023 (images like painters); 2024 (Gaussian score
approximation). With an erroneous score see `gaussian.py`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dfx.errors import PersonError
from dfx.pytree import pytree
from dfx.schedules.derived import t_of_log_snr
from dfx.schedules.schedule import Level
from dfx.targets.arithmetic import einsum


@pytree
@dataclasses.dataclass(frozen=True)
class GaussianFlow:
    """The flow of N(mean, S); made by `gaussian_flow`.

    Methods take points x of shape (n, d), or pictures (n, *sample) with d numbers each, at the
    level `start`, and return what belongs to the level `end`, in the dtype of x. NumPy levels give
    coefficients in float64, cast once. Levels have one entry for all, or one per sample (n, 1);
    those of `end` also one per time, `schedule.at(times, 3)`, which gives a leading axis of times.
    Either may be the noisier one, and alpha may be 0 at both. At `start` no v_k may be 0.

    Attributes:
      mean: shape (d,).
      spectrum: None (isotropic), or all of the variance: along the columns of the basis, shape
        (r,), or without a basis along the coordinates, shape (d,).
      variance: in all other directions, a number.
      basis: None, or orthonormal columns, shape (d, r).
    """

    mean: Any
    spectrum: Any
    variance: Any
    basis: Any = None

    def move(self, x, start: Level, end: Level):
        """Return the point at `end` of the path through x at `start`."""
        return self._map(mode_gain, end.alpha, x, start, end)

    def outline(self, x, start: Level, end: Level):
        """Return x0_hat at the point that `move` returns, without going there."""
        return self._map(mode_outline, 1.0, x, start, end)

    def velocity(self, x, start: Level, end: Level):
        """Return dx/dt at the point that `move` returns; sigma must not be 0 at `end`."""
        return self._map(_mode_velocity, end.alpha_dot, x, start, end)

    def _map(self, of_mode, of_mean, x, start, end):
        """of_mean m + U of_mode(lambda) U^T (x - alpha_start m)."""
        x = jnp.asarray(x)
        flat = x.reshape(x.shape[0], -1)
        if flat.shape[1] != len(self.mean):
            raise PersonError(f"x of shape {x.shape}: this flow has {len(self.mean)} dimensions")
        like = lambda a: jnp.asarray(a, x.dtype)  # noqa: E731
        z = flat - like(start.alpha * self.mean)
        inside = None if self.spectrum is None else like(of_mode(self.spectrum, start, end))
        outside = lambda: like(of_mode(self.variance, start, end))  # noqa: E731
        if self.basis is None:
            z = z * (outside() if inside is None else inside)
        else:
            basis = like(self.basis)
            along = einsum("dr,nd->nr", basis, z)
            rest = z - einsum("dr,nr->nd", basis, along)
            z = einsum("dr,...r->...d", basis, inside * along)
            if basis.shape[0] > basis.shape[1]:
                z = z + outside() * rest
        out = like(of_mean * self.mean) + z
        return out.reshape(*out.shape[:-1], *x.shape[1:])


def gaussian_flow(gaussian) -> GaussianFlow:
    """Return the flow of a Gaussian target, in the storage it has (low-rank ones stay so).

    Args:
      gaussian: a `targets.Mixture` with one component; it may be singular.

    Raises:
      PersonError: more components.
    """
    if gaussian.num_components != 1:
        raise PersonError(
            f"{gaussian.num_components} components: only a single Gaussian flows in closed form"
        )
    variance = gaussian.variance[0]
    xp = _namespace(variance, gaussian.means, gaussian.basis, gaussian.spectrum)
    # A covariance that was decomposed may have eigenvalues that rounding left below zero.
    whole = lambda extra: xp.maximum(variance + extra, 0)  # noqa: E731
    spectrum = None if gaussian.spectrum is None else whole(gaussian.spectrum[0])
    basis = None if gaussian.basis is None else gaussian.basis[0]
    return GaussianFlow(gaussian.means[0], spectrum, whole(0.0), basis)


def mode_gain(variance, start: Level, end: Level):
    """Return psi = sqrt(v(end) / v(start)), by which the flow multiplies a mode, and a kick of it.

    Towards `CLEAN` it is the response of the sample to a perturbation at `start`: sqrt(lambda /
    (lambda + sigma^2)) where alpha = 1. Arguments broadcast: lambda against the entries of levels.

    Raises:
      PersonError: v(start) = 0, clean data without variance.
    """
    return (_noisy(variance, end) / _checked(variance, start)) ** 0.5


def mode_outline(variance, start: Level, end: Level):
    """Return alpha lambda / sqrt(v(end) v(start)), x0_hat at `end` for a mode of 1 at `start`.

    0 for a mode without variance. Arguments and errors as for `mode_gain`.
    """
    after, before = _noisy(variance, end), _checked(variance, start)
    xp = _namespace(after, before)
    return end.alpha * variance / xp.sqrt(xp.where(after == 0, 1.0, after) * before)


def growth(variance, level: Level):
    """Return what share of its final value a mode of x0_hat has at a level, from 0 to 1.

    alpha sqrt(lambda / v) = 1 / sqrt(1 + s^2 / lambda), the same wherever the path started; v must
    be positive.
    """
    return level.alpha * (variance / _noisy(variance, level)) ** 0.5


def emergence_time(schedule, variance, share: float = 0.5):
    """Return the time at which a mode of x0_hat has this share of its final value.

    There sigma / alpha = sqrt(lambda (1 / share^2 - 1)), for 1/2 sqrt(3 lambda): a log-log slope of
    1/2 against lambda on every schedule. Times beyond the schedule give its end; lambda = 0 gives
    t = 0.

    Args:
      variance: lambda, not negative, any shape.
      share: in (0, 1).

    Raises:
      PersonError: a share outside (0, 1).
    """
    if not 0 < share < 1:
        raise PersonError(f"share = {share}: must lie between 0 and 1")
    with np.errstate(divide="ignore"):
        xp = _namespace(variance)
        return t_of_log_snr(schedule, -xp.log(variance * (1 / share**2 - 1)))


def _mode_velocity(variance, start, end):
    rate = end.sigma * end.sigma_dot + variance * end.alpha * end.alpha_dot
    return rate / (_noisy(variance, end) * _checked(variance, start)) ** 0.5


def _noisy(variance, level):
    return level.alpha**2 * variance + level.sigma**2


def _checked(variance, level):
    noisy = _noisy(variance, level)
    if not isinstance(noisy, jax.core.Tracer) and not np.all(np.asarray(noisy) > 0):
        raise PersonError("the start is clean and a mode has no variance: nothing to multiply")
    return noisy


def _namespace(*arrays):
    return jnp if any(isinstance(a, jax.Array) for a in arrays) else np
