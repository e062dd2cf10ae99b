"""The empirical distribution of a finite set of points: what a perfect denoiser of the training set
knows.

x0 is one of m points with equal probability, so x_t = alpha x0 + sigma eps is a mixture of m
Gaussians of variance sigma^2, and E[x0 | x_t = x] is a softmax average of the points,

    weight_k ~ exp(-|x - alpha p_k|^2 / (2 sigma^2)).

The points are read in blocks with a running maximum, so neither the (n, m) matrix of weights nor a
copy of the points is ever held. Distances come from matrix products of centred points and queries,
which rounds a log weight by about 1e-7 alpha |p_k - c| |x - alpha c| / sigma^2, c a mean of points.
Up to `LOW_DIM` dimensions, where points may be dense on the scale of sigma, they come from
differences, as in `components.py`. Density, score and covariance, which are differences from the
nearest point at small sigma, find that point in a first pass and sum over the others in a second.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dfx.errors import PersonError
from dfx.pytree import pytree
from dfx.targets.arithmetic import closeness, einsum, product, residual, split, sum_rows

#: The largest dimension in which distances are computed by differences rather than products.
LOW_DIM = 8


class _Queries(NamedTuple):
    """Flat queries x (n, d) with their level; alpha, alpha_low and sigma have shape (1 or n, 1).

    Points are taken relative to `centre` (d,). The reference c of `components.py` is that centre
    (`reference` is None), or one for each query (n, d) with centre 0. `shift` is x - alpha c.
    """

    x: Any
    alpha: Any
    alpha_low: Any
    sigma: Any
    centre: Any
    reference: Any
    shift: Any


class _Rest(NamedTuple):
    """All points but the likeliest p, weighted relative to it.

    gap: x - alpha p, (n, d). total: sum of weights, (n,). first: sum of weight (p_k - p), (n, d).
    second: sum of weight (p_k - p)(p_k - p)^T, or its trace, or nothing.
    """

    gap: Any
    total: Any
    first: Any
    second: Any

    @property
    def offset(self):
        """E[x0 | x] - p, (n, d)."""
        return self.first / (1 + self.total)[:, None]


# An array field has no truth value, so records compare by identity.
@pytree
@dataclasses.dataclass(frozen=True, eq=False)
class Empirical:
    """The uniform distribution on a set of points.

    x has shape (n, *sample); a level has one entry for all, or one per query, (n, 1, .., 1), and a
    positive sigma. Methods compute in the dtype of x.

    Attributes:
      points: shape (m, *sample). NumPy points are copied to the device at each call: put large sets
        there once (`jax.device_put`) and pass the target to compiled functions as an argument.
      block: points read at a time.
    """

    points: Any
    block: int = dataclasses.field(default=1000, metadata={"static": True})

    @property
    def dim(self) -> int:
        """The number of entries of one point."""
        return math.prod(self.points.shape[1:])

    @property
    def num_components(self) -> int:
        """The number of points m."""
        return self.points.shape[0]

    def mean(self):
        """Return E[x0], shape (*sample,)."""
        return self.points.mean(0)

    def covariance(self):
        """Return Cov[x0] of the flattened points, shape (d, d)."""
        offsets = (self.points - self.mean()).reshape(self.num_components, -1)
        return product(offsets.T, offsets) / self.num_components

    def sample(self, key, n: int, dtype=jnp.float32):
        """Draw points with replacement, shape (n, *sample). Sample i is the same for every n."""
        index = jax.random.randint(key, (n,), 0, self.num_components, jnp.int32)
        return jnp.asarray(self.points)[index].astype(dtype)

    def denoise(self, x, level):
        """Return E[x0 | x_t = x], the shape of x; 4 n m d operations, in two products a block."""
        return _mean(self._see(x, level), self._flat(), self.block).reshape(x.shape)

    def responsibilities(self, x, level):
        """Return the probability of each point given x_t = x, shape (n, m), all held at once."""
        queries = self._see(x, level)
        points = self._flat().astype(x.dtype) - queries.centre
        return jax.nn.softmax(_log_weights(queries, points), axis=1)

    def log_prob(self, x, level):
        """Return log p_t(x) in nats, shape (n,)."""
        queries = self._see(x, level)
        rest = _around_nearest(queries, self._flat(), self.block)
        variance = queries.sigma[:, 0] ** 2
        out = jnp.log1p(rest.total) - (rest.gap**2).sum(1) / (2 * variance)
        out = out - 0.5 * self.dim * jnp.log(2 * jnp.pi * variance)
        return out - math.log(self.num_components)

    def score(self, x, level):
        """Return grad_x log p_t(x), the shape of x."""
        queries = self._see(x, level)
        rest = _around_nearest(queries, self._flat(), self.block)
        return ((queries.alpha * rest.offset - rest.gap) / queries.sigma**2).reshape(x.shape)

    def velocity(self, x, level):
        """Return E[alpha_dot x0 + sigma_dot eps | x_t = x], the shape of x."""
        rate = jnp.asarray(level.sigma_dot * level.sigma, x.dtype)
        alpha_dot = jnp.asarray(level.alpha_dot, x.dtype)
        return alpha_dot * self.denoise(x, level) - rate * self.score(x, level)

    def posterior_variance(self, x, level):
        """Return the trace of Cov[x0 | x_t = x], shape (n,)."""
        rest = _around_nearest(self._see(x, level), self._flat(), self.block, _trace)
        return rest.second / (1 + rest.total) - (rest.offset**2).sum(1)

    def posterior_covariance(self, x, level):
        """Return Cov[x0 | x_t = x] of the flattened points, shape (n, d, d); for small d."""
        rest = _around_nearest(self._see(x, level), self._flat(), self.block, _matrix)
        outer = rest.offset[:, :, None] * rest.offset[:, None, :]
        return rest.second / (1 + rest.total)[:, None, None] - outer

    def hessian(self, x, level):
        """Return the Hessian of log p_t, shape (n, d, d), from the posterior covariance:

        (alpha^2 / sigma^2 Cov[x0 | x_t = x] - I) / sigma^2.
        """
        queries = self._see(x, level)
        alpha, sigma = queries.alpha[:, :, None], queries.sigma[:, :, None]
        covariance = self.posterior_covariance(x, level)
        return ((alpha / sigma) ** 2 * covariance - jnp.eye(self.dim, dtype=x.dtype)) / sigma**2

    def _flat(self):
        return jnp.asarray(self.points).reshape(self.num_components, -1)

    def _see(self, x, level) -> _Queries:
        if x.shape[1:] != self.points.shape[1:]:
            raise PersonError(f"points have shape {self.points.shape[1:]}, got x of {x.shape}")
        entries = *split(level.alpha, x.dtype), jnp.asarray(level.sigma, x.dtype)
        alpha, low, sigma = jax.tree.map(lambda a: a.reshape(-1, 1), entries)
        x = x.reshape(x.shape[0], self.dim)
        if self.dim > LOW_DIM:
            points = self._flat()[: self.block].astype(x.dtype)
            centre = jax.lax.stop_gradient(points.mean(0))
            return _Queries(x, alpha, low, sigma, centre, None, residual(x, alpha, low, centre))
        points = self._flat().astype(x.dtype)
        nearest = x / jnp.maximum(alpha, float(jnp.finfo(x.dtype).tiny) ** 0.5)
        reference = jax.lax.stop_gradient(jnp.clip(nearest, points.min(0), points.max(0)))
        shift = residual(x, alpha, low, reference)
        return _Queries(x, alpha, low, sigma, jnp.zeros_like(points[0]), reference, shift)


@functools.partial(jax.jit, static_argnames="block")
def _mean(queries, points, block):
    """E[x0 | x], shape (n, d), in one pass."""

    def update(state, points, start):
        top, total, sums = state
        log_weights = _log_weights(queries, points)
        # The result does not depend on the maximum, so no derivative need pass through it.
        new = jnp.maximum(top, jax.lax.stop_gradient(log_weights).max(1))
        weights, faded = jnp.exp(log_weights - new[:, None]), jnp.exp(top - new)
        sums = sums * faded[:, None] + product(weights, points)
        return new, total * faded + weights.sum(1), sums

    none = jnp.zeros_like(queries.x[:, 0])
    start = none - jnp.inf, none, jnp.zeros_like(queries.x)
    _, total, sums = _fold(update, start, queries.centre, points, block)
    return queries.centre + sums / total[:, None]


@functools.partial(jax.jit, static_argnames=("block", "second"))
def _around_nearest(queries, points, block, second=lambda *_: jnp.zeros(())) -> _Rest:
    """Return the sums over all points but the likeliest, in a second pass.

    `second`: weights (n, b), centred points (b, d), the nearest (n, d) -> what else is summed.
    """
    index = _nearest(queries, points, block)
    nearest = points[index].astype(queries.x.dtype)
    near = nearest - queries.centre
    top = _log_weight(queries, near)

    def sums(points, start):
        numbers = start + jnp.arange(len(points), dtype=jnp.int32)
        weights = jnp.exp(_log_weights(queries, points) - top[:, None])
        weights = jnp.where(numbers == index[:, None], 0, weights)
        return weights.sum(1), _first(weights, points, near), second(weights, points, near)

    def update(state, points, start):
        return jax.tree.map(jnp.add, state, sums(points, start))

    shapes = jax.eval_shape(sums, near[:1], jnp.int32(0))
    zeros = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)
    gap = residual(queries.x, queries.alpha, queries.alpha_low, nearest)
    return _Rest(gap, *_fold(update, zeros, queries.centre, points, block))


def _nearest(queries, points, block):
    """Return the number of the likeliest point, shape (n,)."""
    queries = jax.lax.stop_gradient(queries)

    def update(state, points, start):
        top, index = state
        log_weights = _log_weights(queries, points)
        new, found = log_weights.max(1), start + log_weights.argmax(1).astype(jnp.int32)
        return jnp.maximum(top, new), jnp.where(new > top, found, index)

    none = jnp.zeros_like(queries.x[:, 0])
    start = none - jnp.inf, none.astype(jnp.int32)
    return _fold(update, start, queries.centre, points, block)[1]


def _fold(update, state, centre, points, block):
    """Apply state -> update(state, centred points, number of the first) to every block."""
    whole = len(points) // block

    def step(state, start):
        some = jax.lax.dynamic_slice_in_dim(points, start, block)
        return update(state, some.astype(centre.dtype) - centre, start), None

    if whole:
        state, _ = jax.lax.scan(step, state, block * jnp.arange(whole, dtype=jnp.int32))
    last = points[whole * block :].astype(centre.dtype)
    return update(state, last - centre, jnp.int32(whole * block)) if len(last) else state


def _slopes(queries):
    variance = queries.sigma**2
    return queries.alpha * queries.shift / variance, queries.alpha**2 / (2 * variance)


def _log_weights(queries, points):
    """Log weights of points (b, d) relative to the centre, up to a constant a query, (n, b)."""
    slope, curvature = _slopes(queries)
    if queries.reference is None:
        return product(slope, points.T) - curvature * (points**2).sum(1)
    rows = queries.reference.T[:, :, None], slope.T[:, :, None]
    return sum_rows(closeness, points.T[:, None], None, *rows, curvature[None])


def _log_weight(queries, near):
    """The same for one point for each query, (n, d) -> (n,)."""
    slope, curvature = _slopes(queries)
    reference = 0.0 if queries.reference is None else queries.reference
    return closeness(near, None, reference, slope, curvature).sum(1)


def _first(weights, points, near):
    if points.shape[1] > LOW_DIM:
        return product(weights, points) - weights.sum(1, keepdims=True) * near
    return einsum("nb,nbd->nd", weights, points - near[:, None])


def _trace(weights, points, near):
    if points.shape[1] > LOW_DIM:
        cross = (2 * near * product(weights, points)).sum(1)
        return product(weights, (points**2).sum(1)) - cross + weights.sum(1) * (near**2).sum(1)
    return einsum("nb,nbd->n", weights, (points - near[:, None]) ** 2)


def _matrix(weights, points, near):
    offsets = points - near[:, None]
    return einsum("nb,nbi,nbj->nij", weights, offsets, offsets)
