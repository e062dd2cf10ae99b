"""The denoiser of a union of subspaces as a net: its parameters are the subspaces.

With s^2 = alpha^2 + sigma^2, c = alpha / s^2 and phi = alpha^2 / (2 sigma^2 s^2),

    log w_k = log pi_k - (d_k / 2) log(s^2 / sigma^2) + phi |U_k^T x|^2,      w = softmax(log w),
    net(x)  = c sum_k w_k U_k U_k^T x,                                         a prediction of x0.

At the true subspaces it is the exact posterior mean E[x0 | x_t = x] of
`targets.union_of_subspaces(bases)`, of any angles, dimensions and weights.

The formula needs alpha and sigma, so these two numbers are what the net gets as its time:

    loss = losses.denoising(net, schedule, "x0", time=nets.alpha_sigma)
    field = fields.from_net(net, params, "x0", time=nets.alpha_sigma)

The parameters are any matrices (k, n, d); their orthonormal bases are taken in every evaluation
(`gram_schmidt`). So the net is one of subspaces under every optimizer and after every average of
parameters, and the gradient has no part along a subspace, since only the span enters. A step thus
never shrinks a column: columns grow slowly, which lowers the rate at which the spans turn;
`orthonormal` puts the parameters back without a change of the net.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dfx.errors import PersonError, choose
from dfx.nets.gram_schmidt import gram_schmidt
from dfx.nets.net import Net

#: How a point is given to the subspaces.
ASSIGNMENTS = ("soft", "hard")


def alpha_sigma(level):
    """Return the level's alpha and sigma as the `time` of this net, shape (2,) or (n, 2, 1, ..)."""
    alpha, sigma = jnp.broadcast_arrays(*map(jnp.asarray, (level.alpha, level.sigma)))
    return jnp.stack([alpha, sigma]) if alpha.ndim == 0 else jnp.concatenate([alpha, sigma], 1)


def low_rank(
    dim: int,
    dims: tuple[int, ...] | int,
    assignment: str = "soft",
    weights: tuple[float, ...] | None = None,
    determinant: bool = True,
) -> Net:
    """Return the low-rank denoiser of Wang et al.; params are {"bases": (k, n, max d_k)}.

    `apply(params, x, t, cond=None)` predicts x0 and takes t = (alpha, sigma), shape (n, 2), sigma
    above 0. x has any sample shape of n numbers. cond, integers of shape (n,), are given labels: w
    is then one-hot there, as in the theorem, whose labels come from the clean x0
    (`subspaces.assign`). Cost O(n sum_k d_k) a point and O(n d^2) an evaluation; no (n, n) matrix.

    Args:
      dim: n, the number of coordinates of a sample.
      dims: the dimensions d_k of the subspaces, one number for each; a number alone is one
        subspace.
      assignment: "soft" weights as above, or "hard", the largest of them alone.
      weights: pi_k, positive, normalised here; None means equal.
      determinant: keep the term with d_k, which matters where the d_k differ. The paper drops it.

    Raises:
      PersonError: an unknown assignment, or dimensions or weights that do not fit.

    Source: Wang et al. 2024 (arXiv 2409.02426), eq. 9 (soft) and 16-17 (hard).
    """
    dims = (dims,) if isinstance(dims, int) else tuple(dims)
    weights = (1.0,) * len(dims) if weights is None else tuple(weights)
    choose("assignment", assignment, dict.fromkeys(ASSIGNMENTS))
    if not dims or min(dims) < 1 or max(dims) > dim:
        raise PersonError(f"dims {dims}: one or more numbers from 1 to dim = {dim} are needed")
    if len(weights) != len(dims) or min(weights) <= 0:
        raise PersonError(f"weights {weights}: {len(dims)} positive numbers are needed")
    return _make(dim, dims, assignment, weights, determinant)


# Equal arguments give the same pair, so that what is compiled for one serves the other.
@functools.cache
def _make(dim, dims, assignment, weights, determinant) -> Net:
    prior = np.log(np.asarray(weights) / np.sum(weights))
    halves = np.asarray(dims) * (0.5 if determinant else 0.0)

    def init(key):
        shape = (len(dims), dim, max(dims))
        return {"bases": jax.random.normal(key, shape, jnp.float32) / np.sqrt(dim)}

    def apply(params, x, t, cond=None):
        bases = orthonormal({"bases": params["bases"].astype(x.dtype)}, dims)["bases"]
        log_pi, half = jnp.asarray(prior, x.dtype), jnp.asarray(halves, x.dtype)

        def weigh(closeness, ratio):
            logits = log_pi - half * jnp.log(ratio) + closeness
            if cond is None and assignment == "soft":
                return jax.nn.softmax(logits, axis=1)
            return _one_hot(cond if cond is not None else logits.argmax(1), logits)

        out = mix_projections(bases, x.reshape(len(x), -1), t.reshape(len(x), 2), weigh)
        return out.reshape(x.shape).astype(x.dtype)

    return Net(init, apply)


def mix_projections(bases, x, t, weigh: Callable) -> jax.Array:
    """Return c sum_k w_k U_k U_k^T x, shape (n, dim), the text's formula for orthonormal bases.

    Args:
      bases: U, shape (k, dim, d); columns of zeros do not count.
      x: shape (n, dim).
      t: alpha and sigma, shape (n, 2).
      weigh: phi |U_k^T x|^2 (n, k) and s^2 / sigma^2 (n, 1) -> w, shape (n, k).
    """
    alpha, sigma = t.T[:, :, None]
    inside = jnp.einsum("kir,ni->nkr", bases, x, precision="highest")
    power = alpha**2 + sigma**2
    phi = alpha**2 / (2 * sigma**2 * power)
    w = weigh(phi * (inside**2).sum(-1), power / sigma**2)
    out = jnp.einsum("kir,nkr->ni", bases, w[:, :, None] * inside, precision="highest")
    return alpha / power * out


def orthonormal(params: Any, dims: tuple[int, ...] | None = None):
    """Return the parameters of the same net whose bases are orthonormal.

    Args:
      params: {"bases": (k, n, d)}.
      dims: the d_k; the columns of a smaller subspace beyond its own become zero. None keeps all.
    """
    bases = params["bases"]
    if dims is None or set(dims) == {bases.shape[2]}:
        return {**params, "bases": gram_schmidt(bases)}
    # One by one, so that columns of zeros are never divided by.
    own = [gram_schmidt(u[:, :d]) for u, d in zip(bases, dims, strict=True)]
    fill = [jnp.pad(u, ((0, 0), (0, bases.shape[2] - u.shape[1]))) for u in own]
    return {**params, "bases": jnp.stack(fill)}


def _one_hot(labels, like):
    return jax.nn.one_hot(labels, like.shape[1], dtype=like.dtype)
