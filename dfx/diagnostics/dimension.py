"""Intrinsic dimension of data, read off a field next to the data.

Data on a manifold of dimension k in R^d, with noise sigma that is small against their spread and
curvature: along the k tangent directions x_t moves with the data, along the d - k normal ones it is
noise. Four readings of that, each for every schedule and any field, exact or learned:

    `flow_jacobian.py`         Y = d x_t / d x_start along the deterministic path: k singular values
                               stay, d - k fall as sigma.
    score_singular_values      scores at noisy copies of a point fill the normal space: d - k stay.
    denoiser_singular_values   alpha d x0_hat / d x: k near 1, d - k near 0.
    flipd                      the sum of these, and a number for each point.

`count_by_gap` turns values into a count. For the exact field of finitely many data the dimension
at sigma -> 0 is 0: look at a sigma above the distance of neighbours. d is the size of one sample.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from dfx.errors import PersonError, choose
from dfx.fields import denoiser, divergence
from dfx.fields.field import as_pytree
from dfx.schedules.schedule import check_mean, is_known

#: Rule -> (values, the next ones, smallest positive number) -> the sizes of the gaps.
GAPS: dict[str, Callable] = {
    "ratio": lambda a, b, tiny: jnp.log(jnp.maximum(a, tiny)) - jnp.log(jnp.maximum(b, tiny)),
    "difference": lambda a, b, tiny: a - b,
}


def score_singular_values(schedule, field, x0, time, key, num_draws=None, y=None):
    """Return the singular values of scores at noisy copies of each point, shape (n, min(d, K)).

    The matrix has the K columns sigma score(x_t) / sqrt(K), x_t = alpha x0 + beta y + sigma eps.
    Along normal directions its singular values are about 1, along a tangent one of variance l about
    sigma / (alpha sqrt(l)); the dimension is d - `count_by_gap(values, "difference")`.

    Args:
      schedule, field: as in `flow_jacobian`. The field sees the n points K times, one after
        another.
      x0: clean points, shape (n, *sample).
      time: where sigma is small but not 0; a number, or shape (n,).
      key: key of the noise.
      num_draws: K; None is 4 d, as the source takes it. At least d for a full spectrum.
      y: endpoints of the mean term, shape of x0; needed where the schedule has one.

    Raises:
      PersonError: sigma = 0, a missing y, or no draws.

    Source: Stanczuk et al. 2024 (normal bundle; arXiv 2022), algorithm 1.
    """
    num_draws = 4 * x0[0].size if num_draws is None else num_draws
    if num_draws < 1:
        raise PersonError(f"num_draws = {num_draws}: must be 1 or more, or None")
    return _scores(as_pytree(field), x0, _level(schedule, time, x0, y), key, num_draws, y)


def denoiser_singular_values(schedule, field, x0, time, directions=None, y=None):
    """Return the singular values of alpha d x0_hat / d x = I + sigma^2 d score / d x, shape (n, m).

    At x = alpha x0 + beta y. For exact fields they are the eigenvalues of
    (alpha / sigma)^2 Cov[x0 | x]: along a direction in which data have variance l,
    alpha^2 l / (alpha^2 l + sigma^2).

    Args:
      schedule, field, x0, time, y: as in `score_singular_values`.
      directions: shape (m, *sample), orthonormal; None is all d axes, exact.

    Raises:
      PersonError: sigma = 0, or a missing y.
    """
    if directions is None:
        directions = jnp.eye(x0[0].size, dtype=x0.dtype).reshape(-1, *x0.shape[1:])
    directions = jnp.asarray(directions, x0.dtype)
    return _slopes(as_pytree(field), x0, _level(schedule, time, x0, y), directions, y)


def flipd(schedule, field, x0, time, key=None, num_probes=1, probe="rademacher", y=None):
    """Return the Fokker-Planck estimate of the dimension at clean points, shape (n,), any number.

    With q_s the law of x0 + s eps, s = sigma / alpha, and all at x = alpha x0 + beta y,

        d + d log q_s(x0) / d log s = d + sigma^2 (div score + |score|^2)
                                    = alpha div x0_hat + |x - beta y - alpha x0_hat|^2 / sigma^2;

    the last form, which is computed, has no cancellation of d. On data of dimension k it tends to k
    as sigma -> 0; off them it grows as (distance / s)^2.

    Args:
      schedule, field, x0, time, y: as in `score_singular_values`.
      key: None for the exact divergence at d derivatives; otherwise unbiased with `num_probes`
        probes, as in `fields.divergence`.

    Raises:
      PersonError: sigma = 0, a missing y, an unknown probe, or none.

    Source: Kamkari et al. 2024 (FLIPD), theorem 3.1 and equation 7; Tempczyk et al. 2022 (LIDL).
    """
    level = _level(schedule, time, x0, y)
    return _flipd(as_pytree(field), x0, level, key, num_probes, probe, y)


def count_by_gap(values, rule: str = "ratio", least: float | None = None):
    """Return how many of the falling values lie before their largest gap, shape values.shape[:-1].

    Args:
      values: not negative, falling along the last axis, as singular values are.
      rule: "ratio" of neighbours (values below rounding of the largest count as equal), or
        "difference" (Stanczuk et al. 2024).
      least: the smallest gap, a ratio or a difference, that counts as one; without such a gap the
        answer is the number of values. None: any gap. The answer is never 0.

    Raises:
      PersonError: an unknown rule.

    >>> count_by_gap(np.array([1.0, 0.6, 0.01, 0.009]))
    Array(2, dtype=int32)
    """
    values = jnp.asarray(values)
    tiny = jnp.maximum(jnp.finfo(values.dtype).eps * values[..., :1], jnp.finfo(values.dtype).tiny)
    gaps = choose("rule", rule, GAPS)(values[..., :-1], values[..., 1:], tiny)
    if values.shape[-1] == 1:
        return jnp.ones(values.shape[:-1], int)
    count = jnp.argmax(gaps, axis=-1) + 1
    if least is None:
        return count
    least = math.log(least) if rule == "ratio" else least
    return jnp.where(gaps.max(-1) >= least, count, values.shape[-1])


@functools.partial(jax.jit, static_argnames="num_draws")
def _scores(field, x0, level, key, num_draws, y):
    centre = _place(x0, level, y)

    def draw(key):
        noise = level.sigma * jax.random.normal(key, x0.shape, x0.dtype)
        moved = level.alpha * (x0 - denoiser(field(centre + noise, level))) + noise
        return moved.reshape(len(x0), -1)

    rows = jax.lax.map(draw, jax.random.split(key, num_draws))
    sigma = jnp.broadcast_to(level.sigma, x0.shape)[(..., *[0] * (x0.ndim - 1))]
    matrix = jnp.swapaxes(rows, 0, 1) / (math.sqrt(num_draws) * sigma[:, None, None])
    return jnp.linalg.svd(matrix, compute_uv=False)


@jax.jit
def _slopes(field, x0, level, directions, y):
    f = lambda x: level.alpha * denoiser(field(x, level))  # noqa: E731
    along = lambda z: jax.jvp(f, (_place(x0, level, y),), (jnp.broadcast_to(z, x0.shape),))[1]  # noqa: E731
    columns = jax.lax.map(along, directions)
    matrix = jnp.swapaxes(columns.reshape(len(directions), len(x0), -1), 0, 1)
    return jnp.linalg.svd(matrix, compute_uv=False)


@functools.partial(jax.jit, static_argnames=("num_probes", "probe"))
def _flipd(field, x0, level, key, num_probes, probe, y):
    f = lambda x: level.alpha * denoiser(field(x, level))  # noqa: E731
    x = _place(x0, level, y)
    eps = (level.alpha * x0 - f(x)) / level.sigma
    squares = jnp.sum(eps.reshape(len(x0), -1) ** 2, axis=1)
    return divergence(f, x, key, num_probes, probe) + squares


def _place(x0, level, y):
    return level.alpha * x0 if y is None else level.alpha * x0 + level.beta * y


def _level(schedule, time, x0, y):
    level = schedule.at(time, x0.ndim)
    check_mean(level.beta, y, "the estimate")
    values = level.alpha, level.sigma
    if is_known(values) and np.min(values) <= 0:
        raise PersonError(f"time = {time}: needs data and noise, alpha and sigma above 0")
    return level.astype(x0.dtype)
