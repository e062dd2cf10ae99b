"""Gaussian mixtures: the targets that stay closed under every schedule.

x0 is drawn from sum_k pi_k N(m_k, S_k), S_k = variance_k I + B_k diag(spectrum_k) B_k^T. Then
x_t = alpha x0 + sigma eps has the law sum_k pi_k N(alpha m_k, alpha^2 S_k + sigma^2 I), and its
density, score, denoiser and posterior covariance are finite sums over components, exact at every
level. One component is the Gaussian.

Methods compute in the dtype of x, from parameters kept in float64; `components.py` says how float32
stays accurate. A level is one for all points, or one per point (entries of shape (n, 1)); without a
basis also one per coordinate, (d,). Its sigma may be 0 if no covariance is singular. A mean term is
not part of a mixture: pass x - beta y.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dfx.errors import PersonError
from dfx.pytree import pytree
from dfx.targets import components as seen_from
from dfx.targets.arithmetic import einsum, product
from dfx.targets.blocks import block_size, in_blocks


# An array field has no truth value, so records compare by identity.
@pytree
@dataclasses.dataclass(frozen=True, eq=False)
class Mixture:
    """A mixture of k Gaussians in d dimensions; use the constructors below.

    Attributes:
      log_weights: log pi, shape (k,).
      means: shape (k, d).
      variance: the isotropic part of the covariances, shape (k,), or (1,) if all components share
        one covariance; then basis and spectrum have a leading 1 as well.
      basis: None, or orthonormal columns, shape (k, d, r).
      spectrum: None (isotropic), or variances added along the columns, shape (k, r); without a
        basis, along the coordinates, shape (k, d).
    """

    log_weights: Any
    means: Any
    variance: Any
    basis: Any = None
    spectrum: Any = None

    @classmethod
    def gaussian(cls, mean, covariance) -> Mixture:
        """Return N(mean, covariance); covariance: a number, a diagonal (d,) or a matrix (d, d)."""
        mean, covariance = np.atleast_1d(np.asarray(mean, np.float64)), np.asarray(covariance)
        if covariance.ndim == 0:
            return cls.isotropic(mean[None], np.sqrt(covariance))
        make = cls.diagonal if covariance.ndim == 1 else cls.full
        return make(mean[None], covariance[None])

    @classmethod
    def isotropic(cls, means, std, weights=None) -> Mixture:
        """Return the mixture of N(m_k, std_k^2 I).

        Args:
          means: shape (k, d).
          std: one number for all components, or shape (k,).
          weights: positive, shape (k,), normalised here; None means equal.
        """
        std = np.atleast_1d(np.asarray(std, np.float64))
        means, log_weights = _check(means, weights, std, "std", 1)
        return cls(log_weights, means, std**2)

    @classmethod
    def diagonal(cls, means, variances, weights=None) -> Mixture:
        """Return the mixture of N(m_k, diag(variances_k)); variances: (k, d), or (1, d) for all."""
        variances = np.asarray(variances, np.float64)
        means, log_weights = _check(means, weights, variances, "variances", 2)
        return cls(log_weights, means, np.zeros(len(variances)), None, variances)

    @classmethod
    def full(cls, means, covariances, weights=None) -> Mixture:
        """Return the mixture of N(m_k, S_k); covariances: (k, d, d), or (1, d, d) for all.

        In float32 a rotation leaves 1e-7 |x - alpha m_k| of rounding in every direction: the score
        along the shortest axis of a component loses digits as the ratio of its axes grows.
        """
        covariances = np.asarray(covariances, np.float64)
        if covariances.ndim != 3 or not _equal(covariances, np.swapaxes(covariances, 1, 2)):
            raise PersonError(
                f"covariances must be symmetric, shape (k, d, d), got {covariances.shape}"
            )
        spectrum, basis = np.linalg.eigh(covariances)
        means, log_weights = _check(means, weights, spectrum, "covariances", 2)
        # Zero may come out a rounding error below.
        spectrum = np.maximum(spectrum, 0)
        return cls(log_weights, means, np.zeros(len(spectrum)), basis, spectrum)

    @classmethod
    def low_rank(cls, means, factors, variance, weights=None) -> Mixture:
        """Return the mixture of N(m_k, F_k F_k^T + variance_k I), never forming a (d, d) matrix.

        Args:
          means: shape (k, d).
          factors: F, shape (k, d, r) with r <= d, or (1, d, r) for all.
          variance: one number, or shape (k,).
          weights: as for `isotropic`.
        """
        factors = np.asarray(factors, np.float64)
        if factors.ndim != 3 or factors.shape[1:2] != np.shape(means)[-1:]:
            raise PersonError(f"factors {factors.shape} must have shape (k, d, r), with d of means")
        basis, roots, _ = np.linalg.svd(factors, full_matrices=False)
        means, log_weights = _check(means, weights, roots, "factors", 2)
        size = max(len(factors), np.size(variance))
        variance = np.broadcast_to(np.asarray(variance, np.float64), (size,))
        if (variance < 0).any():
            raise PersonError(f"variance must not be negative, got {variance.min()}")
        basis, spectrum = (np.broadcast_to(a, (size, *a.shape[1:])) for a in (basis, roots**2))
        return cls(log_weights, means, variance, basis, spectrum)

    @property
    def dim(self) -> int:
        """The dimension d."""
        return self.means.shape[1]

    @property
    def num_components(self) -> int:
        """The number of components k."""
        return self.means.shape[0]

    def at(self, level) -> Mixture:
        """Return the law of x_t, a mixture again; the level's entries must be scalars."""
        a2, s2 = level.alpha**2, level.sigma**2
        means, variance = level.alpha * self.means, a2 * self.variance + s2
        spectrum = None if self.spectrum is None else a2 * self.spectrum
        return Mixture(self.log_weights, means, variance, self.basis, spectrum)

    def mean(self):
        """Return E[x0], shape (d,); float64 NumPy unless the parameters are JAX arrays."""
        return product(_namespace(self).exp(self.log_weights), self.means)

    def covariance(self):
        """Return Cov[x0], shape (d, d), in the precision of the parameters."""
        xp = _namespace(self)
        weights, offsets = xp.exp(self.log_weights), self.means - self.mean()
        shares = weights if len(self.variance) > 1 else weights.sum(keepdims=True)
        contract = einsum if xp is jnp else np.einsum
        out = contract("k,ki,kj->ij", weights, offsets, offsets)
        out = out + product(shares, self.variance) * xp.eye(self.dim)
        if self.spectrum is None:
            return out
        if self.basis is None:
            return out + xp.diag(product(shares, self.spectrum))
        return out + contract("k,kir,kr,kjr->ij", shares, self.basis, self.spectrum, self.basis)

    def sample(self, key, n: int, dtype=jnp.float32, balanced: bool = False):
        """Draw x0, shape (n, d). Sample i is the same for every n.

        With `balanced`, sample i comes from component i mod k, whatever the weights: equal shares
        without sampling error.
        """
        key_label, key_floor, key_basis = jax.random.split(key, 3)
        k, d = self.means.shape
        log_weights = jnp.asarray(self.log_weights, dtype)
        drawn = jax.random.categorical(key_label, log_weights, shape=(n,))
        labels = jnp.arange(n) % k if balanced else drawn
        pick = lambda a: jnp.asarray(a, dtype)[labels % len(a)]  # noqa: E731
        noise = jax.random.normal(key_floor, (n, d), dtype)
        if self.basis is None:
            variance = pick(self.variance)[:, None]
            variance = variance if self.spectrum is None else variance + pick(self.spectrum)
            return pick(self.means) + jnp.sqrt(variance) * noise
        x = pick(self.means) + jnp.sqrt(pick(self.variance))[:, None] * noise
        inside = jnp.sqrt(pick(self.spectrum))
        inside = inside * jax.random.normal(key_basis, inside.shape, dtype)
        own = jax.nn.one_hot(labels % len(self.basis), len(self.basis), dtype=dtype)
        basis = jnp.asarray(self.basis, dtype)
        return x + einsum("nk,nr,kdr->nd", own, inside, basis)

    def log_prob(self, x, level):
        """Return log p_t(x) in nats, shape (n,)."""
        return self._seen(_log_prob, x, level)

    def responsibilities(self, x, level):
        """Return the probability of each component given x_t = x, shape (n, k)."""
        return self._seen(_responsibilities, x, level)

    def denoise(self, x, level):
        """Return E[x0 | x_t = x], shape (n, d): the components' posterior means, weighted."""
        per_coordinate = any(np.ndim(entry) == 1 for entry in (level.alpha, level.sigma))
        if self.spectrum is None and not per_coordinate:
            return _denoise_isotropic(seen_from.rounded(self, level, x.dtype), x)
        return self._seen(_denoise, x, level)

    def score(self, x, level):
        """Return grad_x log p_t(x), shape (n, d)."""
        return self._seen(_score, x, level)

    def velocity(self, x, level):
        """Return E[alpha_dot x0 + sigma_dot eps | x_t = x], shape (n, d); for finite sigma_dot, so
        not at sigma = 0 of a VP schedule."""
        rate = level.sigma_dot * level.sigma
        parts = (level.alpha_dot, self.denoise(x, level)), (-rate, self.score(x, level))
        return sum(jnp.asarray(a, x.dtype) * value for a, value in parts)

    def posterior_covariance(self, x, level):
        """Return Cov[x0 | x_t = x], shape (n, d, d): between the components plus within them."""
        return _evaluate(_posterior_covariance, seen_from.rounded(self, level, x.dtype), x)

    def hessian(self, x, level):
        """Return the Hessian of log p_t at x, shape (n, d, d)."""
        return _evaluate(_hessian, seen_from.rounded(self, level, x.dtype), x)

    def _seen(self, f, x, level):
        """f(components seen from x), block by block with a basis: then all (d, k, n) numbers exist.

        Without one they are summed row by row, which stays in cache by itself.
        """
        whole = lambda x, level: _evaluate(f, seen_from.rounded(self, level, x.dtype), x)  # noqa: E731
        if self.basis is None or x.ndim != 2:
            return whole(x, level)
        return in_blocks(whole, x, level, block_size(self.means.size))


@functools.partial(jax.jit, static_argnums=0, inline=True)
def _evaluate(f, law, x):
    """f(components seen from x), one program where it is called outside of any other."""
    return f(seen_from.focus(law, x))


def _weights(seen):
    return jax.nn.softmax(seen_from.log_joint(seen), axis=0)


def _log_prob(seen):
    return jax.nn.logsumexp(seen_from.log_joint(seen), axis=0) + seen_from.log_common(seen)


def _responsibilities(seen):
    return _weights(seen).T


def _denoise(seen):
    weights = _weights(seen)
    pull = seen_from.average(seen, weights, seen.precision, "displacement")
    kept = lambda part: part.variance * seen.precision(part)  # noqa: E731
    keep = seen_from.average(seen, weights, kept, "shift")
    alpha, sigma = seen.alpha[:, 0], seen.sigma[:, 0]
    return (seen.centre[:, 0] + sigma**2 * pull + alpha * keep).T


def _score(seen):
    weights = _weights(seen)
    pull = seen_from.average(seen, weights, seen.precision, "displacement")
    push = seen_from.average(seen, weights, seen.precision, "shift")
    return (seen.alpha[:, 0] * pull - push).T


def _posterior_covariance(seen):
    weights = _weights(seen)
    within = lambda part: seen.sigma**2 * part.variance * seen.precision(part)  # noqa: E731
    inner = seen_from.average_matrix(seen, weights, within)
    return seen_from.spread(seen, weights, seen.sigma**2) + inner


def _hessian(seen):
    weights = _weights(seen)
    inner = seen_from.average_matrix(seen, weights, seen.precision)
    return seen_from.spread(seen, weights, seen.alpha) - inner


@functools.partial(jax.jit, inline=True)
def _denoise_isotropic(law, x):
    """The denoiser of isotropic components, all sums over them taken from one matrix product:

    with h_k = responsibility / v_k, it is (sigma^2 sum h m + alpha x sum h s) / (alpha^2 sum h s +
    sigma^2 sum h).
    """
    seen = seen_from.see(law, x)
    (part,) = seen.parts
    joint = seen_from.log_joint(seen, power=1.0)
    h = jnp.exp(joint - jax.lax.stop_gradient(joint).max(0))  # the ratio does not depend on it
    means, variance = part.mean[:, :, 0], part.variance[:, :, 0]
    variance = jnp.broadcast_to(variance, (1, means.shape[1]))
    rows = jnp.concatenate([means, variance, jnp.ones_like(variance)])
    sums = product(rows, h)
    hm, hs, h = sums[:-2], sums[-2], sums[-1]
    alpha, sigma = seen.alpha[0, 0], seen.sigma[0, 0]
    return ((sigma**2 * hm + alpha * x.T * hs) / (alpha**2 * hs + sigma**2 * h)).T


def _namespace(mixture: Mixture):
    return jnp if any(isinstance(a, jax.Array) for a in jax.tree.leaves(mixture)) else np


def _equal(a, b) -> bool:
    return a.shape == b.shape and np.allclose(a, b)


def _check(means, weights, scales, name: str, ndim: int):
    """Return float64 means and normalised log weights, or say what does not fit."""
    means = np.asarray(means, np.float64)
    if means.ndim != 2 or not means.size or not np.isfinite(means).all():
        raise PersonError(f"means must have shape (k, d), all finite, got {means} of {means.shape}")
    if scales.ndim != ndim or len(scales) not in (1, len(means)):
        raise PersonError(f"{name} must have one entry, or one per mean ({len(means)})")
    if ndim == 2 and name != "factors" and scales.shape[1] != means.shape[1]:
        raise PersonError(f"{name} have dimension {scales.shape[1]}, means {means.shape[1]}")
    if not (scales >= -1e-12 * np.abs(scales).max()).all():
        raise PersonError(f"{name} must not be negative, got {scales.min()}")
    weights = np.ones(len(means)) if weights is None else np.asarray(weights, np.float64)
    if weights.shape != (len(means),) or not (weights > 0).all():
        raise PersonError(f"weights must be positive, one per mean, got {weights}")
    return means, np.log(weights / weights.sum())
