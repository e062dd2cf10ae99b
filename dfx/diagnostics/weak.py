"""The gauge condition in its weak form, a test that needs samples of p alone.

With E_p[grad psi . grad log p] = -E_p[Lap psi], an s that is the exact score plus any gauge field
has

    E_p[grad psi_k . s + Lap psi_k] = 0    for every psi_k,

and any other s fails for some psi.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dfx.diagnostics.projection import BATCH, check_pair, feature_gradients
from dfx.errors import PersonError
from dfx.fields.field import as_pytree
from dfx.targets.arithmetic import einsum


class WeakTest(NamedTuple):
    """The weak gauge test; see `weak_gauge_test`.

    Attributes:
      mean: of grad psi_k . s + Lap psi_k, shape (m,).
      standard_error: of each mean, shape (m,).
      statistic: Hotelling's T^2 over all features.
      rank: how many independent features it has.
      p_value: the chance of a larger statistic if all means are zero.
    """

    mean: Any
    standard_error: Any
    statistic: Any
    rank: Any
    p_value: Any


def weak_gauge_test(
    features: Callable, x, values, batch: int = BATCH, tolerance: float = 1e-6
) -> WeakTest:
    """Return a test of E_p[grad psi_k . s + Lap psi_k] = 0 for all features, from samples of p.

    True if s is the exact score plus any gauge field; needs no score. T^2 = n mean . C^-1 mean with
    C the covariance of the n terms; (n - m) / (m (n - 1)) T^2 is compared with the law
    F(m, n - m), exact for normal terms. A term that does not vary, to rounding, has no law: where
    its mean is not 0 the test fails for certain, with an infinite statistic and p = 0.

    Args:
      features: as in `project`; psi and grad psi must not grow faster than p falls.
      x: samples of p, shape (n, d), n above m and better well above.
      values: the field to be tested there, shape (n, d).
      batch: as in `project`.
      tolerance: combinations of features with less than this share of the largest eigenvalue of
        their correlation matrix are left out.

    Raises:
      PersonError: shapes that differ, or not more samples than features.

    Source: Stein's identity; Hotelling 1931.
    """
    check_pair(x, values)
    num_features = jax.eval_shape(features, x[:1]).shape[-1]
    if len(x) <= num_features:
        raise PersonError(f"{len(x)} samples for {num_features} features: need more samples")
    return _test(as_pytree(features), x, values, tolerance, batch)


@functools.partial(jax.jit, static_argnames="batch")
def _test(features, x, values, tolerance, batch) -> WeakTest:
    def terms(args):
        x, s = (a[None] for a in args)
        slopes, bend = feature_gradients(features, x), _laplacians(features, x)
        size = einsum("nak,na->nk", jnp.abs(slopes), jnp.abs(s)) + jnp.abs(bend)
        return (einsum("nak,na->nk", slopes, s) + bend)[0], size[0]

    values_of, sizes = jax.lax.map(terms, (x, values), batch_size=min(batch, len(x)))
    n, mean = len(x), jnp.mean(values_of, axis=0)
    deviation = jnp.std(values_of, axis=0, ddof=1)
    rounding = 8 * jnp.finfo(x.dtype).eps * jnp.mean(sizes, axis=0)
    still = deviation <= rounding
    certain = jnp.any(still & (jnp.abs(mean) > rounding))
    scale = jnp.where(still, jnp.inf, deviation)
    scaled = (values_of - mean) / scale
    eigenvalues, basis = jnp.linalg.eigh(einsum("nk,nl->kl", scaled, scaled) / (n - 1))
    kept = eigenvalues > tolerance * eigenvalues[-1]
    along = einsum("kl,k->l", basis, mean / scale)
    statistic = n * jnp.sum(jnp.where(kept, along**2 / jnp.where(kept, eigenvalues, 1), 0))
    rank = jnp.sum(kept)
    # The F law's upper tail as an incomplete beta function.
    share = 1 / (1 + statistic / (n - 1))
    p_value = jax.scipy.special.betainc(0.5 * (n - rank), 0.5 * rank, share)
    statistic, p_value = jnp.where(certain, jnp.inf, statistic), jnp.where(certain, 0, p_value)
    return WeakTest(mean, deviation / n**0.5, statistic, rank, p_value)


def _laplacians(features, x):
    """Lap psi_k, shape (n, m): a derivative of a derivative along each axis."""

    def along(e):
        e = jnp.broadcast_to(e, x.shape)
        slope = lambda x: jax.jvp(features, (x,), (e,))[1]  # noqa: E731
        return jax.jvp(slope, (x,), (e,))[1]

    return jnp.sum(jax.vmap(along)(jnp.eye(x.shape[1], dtype=x.dtype)), axis=0)
