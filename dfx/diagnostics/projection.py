"""The split s = grad phi + r of `decomposition.py` from samples.

With features psi_k (`features.py`), phi = sum_k c_k psi_k minimises E|grad phi - s|^2 where

    G c = b,    G_kl = E[grad psi_k . grad psi_l],    b_k = E[grad psi_k . s],

means over samples of p: neither its density nor its score is needed.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from dfx.diagnostics.decomposition import Parts
from dfx.errors import PersonError
from dfx.fields.field import as_pytree
from dfx.pytree import pytree
from dfx.targets.arithmetic import einsum

#: Added to G in units of its mean diagonal, by default: directions that the samples do not fix.
RIDGE = 1e-6

#: How many samples have the gradients of all features in memory at once, by default.
BATCH = 1024


@pytree
@dataclasses.dataclass(frozen=True)
class Potential:
    """phi = sum_k c_k psi_k; made by `project`. Called, it gives grad phi, (n, d) -> (n, d)."""

    features: Callable
    coefficients: Any

    def value(self, x):
        """Return phi, shape (n,), up to a constant."""
        return einsum("nk,k->n", self.features(x), self.coefficients)

    def __call__(self, x):
        return jax.grad(lambda x: jnp.sum(self.value(x)))(x)


def project(features: Callable, x, values, ridge: float = RIDGE, batch: int = BATCH) -> Potential:
    """Return the phi of the features whose gradient is nearest to a field, on samples of p.

    Fit on one half of the samples and judge (`parts`) on the other: on its own samples the fit
    takes up some of r, about m / (n d) of it.

    Args:
      features: (n, d) -> (n, m), each sample by itself; a pytree is an argument of a program.
      x: samples of p, shape (n, d).
      values: the field there, shape (n, d).
      ridge: added to the diagonal of G, in units of its mean.
      batch: how many samples are taken at once; memory is batch m d.

    Raises:
      PersonError: shapes that differ, a negative ridge.
    """
    check_pair(x, values)
    if not ridge >= 0:
        raise PersonError(f"ridge = {ridge}: must not be negative")

    features = as_pytree(features)
    return Potential(features, _coefficients(features, x, values, ridge, batch))


@functools.partial(jax.jit, static_argnames="batch")
def _coefficients(features, x, values, ridge, batch):
    def moments(x, s, weight):
        slopes = weight[:, None, None] * feature_gradients(features, x)
        flat = slopes.reshape(-1, slopes.shape[-1])
        return einsum("rk,rl->kl", flat, flat), einsum("rk,r->k", flat, s.reshape(-1))

    g, b = _sum_over(moments, x, values, batch)
    # By eigenvalues: in float32 a Cholesky factor may not exist at so small a ridge.
    eigenvalues, basis = jnp.linalg.eigh(g)
    damped = jnp.maximum(eigenvalues, 0) + ridge * jnp.mean(jnp.diagonal(g))
    return einsum("kl,l->k", basis, einsum("kl,k->l", basis, b) / damped)


def parts(potential: Callable, x, values) -> Parts:
    """Return the squared norms of a field, of grad phi and of r = s - grad phi, over samples.

    On samples that `project` has not seen, `inner` is an unbiased estimate with the standard error
    given; it is zero up to the ridge and to what the features miss.

    Args:
      potential: grad phi as a function of x, such as what `project` returns.
      x: samples of p, shape (n, d).
      values: the field there, shape (n, d).

    Raises:
      PersonError: shapes that differ.
    """
    check_pair(x, values)
    return _parts(as_pytree(potential), x, values)


@jax.jit
def _parts(potential, x, values) -> Parts:
    gradient = potential(x)
    remainder = values - gradient
    pairs = (values, values), (gradient, gradient), (remainder, remainder), (gradient, remainder)
    products = [jnp.sum(a * b, axis=1) for a, b in pairs]
    error = jnp.std(products[-1], ddof=1) / len(x) ** 0.5
    total, of_gradient, of_remainder, inner = map(jnp.mean, products)
    return Parts(total, of_gradient, of_remainder, inner, error)


def feature_gradients(features, x):
    """Return d psi_k / d x_a, shape (n, d, m)."""
    slope = lambda e: jax.jvp(features, (x,), (jnp.broadcast_to(e, x.shape),))[1]  # noqa: E731
    return jax.vmap(slope, out_axes=1)(jnp.eye(x.shape[1], dtype=x.dtype))


def _sum_over(moments, x, values, batch):
    """Sum moments(x, values, weight) / n over blocks of samples; filled-up ones have weight 0."""
    n = len(x)
    batch = min(batch, n)
    missing = -n % batch
    weight = jnp.pad(jnp.ones(n, x.dtype), (0, missing))
    filled = (jnp.pad(a, ((0, missing), (0, 0))) for a in (x, values))
    blocks = tuple(a.reshape(-1, batch, *a.shape[1:]) for a in (*filled, weight))
    first = jax.tree.map(lambda a: a[0], blocks)
    zero = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), jax.eval_shape(moments, *first))

    def add(sums, block):
        return jax.tree.map(jnp.add, sums, moments(*block)), None

    return jax.tree.map(lambda a: a / n, jax.lax.scan(add, zero, blocks)[0])


def check_pair(x, values) -> None:
    """Raise PersonError unless x and values are points and vectors, both (n, d)."""
    if jnp.ndim(x) != 2 or jnp.shape(x) != jnp.shape(values):
        raise PersonError(f"shapes {jnp.shape(x)}, {jnp.shape(values)}: need twice the same (n, d)")
