"""Predictor-corrector sampling: a solver's steps with Langevin steps at each level in between.

The size of a Langevin step depends on the sample, so this is no tableau; the predictor is one.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from dfx.errors import PersonError
from dfx.fields.field import as_pytree, denoiser
from dfx.solvers.checks import as_points, check_levels
from dfx.solvers.noise import draw
from dfx.solvers.sample import cast_rows
from dfx.solvers.tableau import NOISE, Tableau, merge, output

NORMS = ("sample", "batch", "level")

#: Folded into the key for the noise of the corrector, so that the predictor's is that of `sample`.
#: No row has this number.
CORRECTOR = 2**31 - 1


def sample_with_corrector(
    predictor: Tableau,
    field: Callable,
    x,
    key,
    *,
    num_corrections: int = 1,
    snr: float = 0.16,
    norm: str = "sample",
):
    """Return the end of a predictor-corrector path from x, shape (n, *sample).

    At each level of the predictor's grid but the last: `num_corrections` Langevin steps (see
    `langevin_step`), then the predictor's row. Evaluations of the field: rows times
    (1 + num_corrections). Weak order 1; the corrector draws the law at each level towards p_t, up
    to its own step. Without corrections it is `sample`, with the same noise. As long as the norm is
    not that of the batch, sample i has the same path in every batch.

    Args:
      predictor: the tableau of any solver of one lane, such as `reverse_diffusion`, `ddpm`
        (ancestral sampling) or `euler_maruyama`.
      field: (x, level) -> x0_hat.
      x: the start, shape (n, *sample), floating.
      key: a typed key.
      num_corrections: Langevin steps a level, 0 or more.
      snr, norm: as for `langevin_step`. The source takes 0.16 for pictures, and multiplies the step
        by 1 - beta_i on VP, which is within 2 % of 1 there.

    Raises:
      PersonError: x not floating, a predictor with several lanes or inputs, an option out of range,
        a net that says nothing of x0 at a level.

    Source: Song et al. 2021 (score SDE), algorithms 2 to 5; the corrector comes before the
    predictor as in its code.
    """
    _check(predictor, num_corrections, snr, norm)
    x, predictor = as_points(x), merge(predictor)
    check_levels([rows.level for rows in predictor.phases], field)
    return _run(
        predictor, as_pytree(field), x, key, snr, num_corrections=num_corrections, norm=norm
    )


def langevin_step(field: Callable, x, level, z, snr, norm: str = "sample"):
    """Return x + step score + sqrt(2 step) z, which nearly leaves the law at the level as it is.

        sample:  step = 2 (snr |z| / |score|)^2, each sample by its own norms,
        batch:   the same with the means of both norms over the batch, as the authors have it: a
                 sample then depends on which others are in the batch,
        level:   step = 2 (snr sigma)^2, annealed Langevin dynamics.

    On N(m, v I) a step eps makes the variance v + eps^2 / v: a relative error of 4 snr^4 a step
    where eps = 2 snr^2 v. With "sample" the step grows as v / |x - m|^2, and along z as (d + 2) / d
    for d entries a sample: what it leaves in the long run, however small snr, is the law of density
    |x - m|^2 N(m, v (d + 2) / d I), with the variance v (1 + 2 / d)^2. That is 0.4 % too much for
    pictures of 32 x 32, and far too much in few dimensions: take "level" there.

    Args:
      field: (x, level) -> x0_hat.
      x: points, shape (n, *sample).
      level: their noise level; entries that are tokens without noise stay where they are.
      z: standard normal, shape of x.
      snr: signal-to-noise ratio r of the step, positive.
      norm: "sample", "batch" or "level".

    Raises:
      PersonError: unknown norm.

    Source: Song et al. 2021 (score SDE), algorithms 4 and 5; Song & Ermon 2019 (level).
    """
    if norm not in NORMS:
        raise PersonError(f"norm = {norm!r}: allowed are {', '.join(NORMS)}")
    alpha, sigma = (jnp.asarray(a, x.dtype) for a in (level.alpha, level.sigma))
    noisy = sigma > 0
    variance = jnp.where(noisy, sigma, 1) ** 2
    score = jnp.where(noisy, (alpha * _denoised(field, x, level) - x) / variance, 0)
    z = jnp.where(noisy, z, 0)
    if norm == "level":
        step = 2 * (snr * sigma) ** 2
    else:
        size = _norm(score, norm)  # 0 at a mode: no step is the right one there
        step = jnp.where(
            size > 0, 2 * (snr * _norm(z, norm) / jnp.where(size > 0, size, 1)) ** 2, 0
        )
    return x + step * score + jnp.sqrt(2 * step) * z


@functools.partial(jax.jit, static_argnames=("num_corrections", "norm"))
def _run(predictor, field, x, key, snr, num_corrections, norm):
    (rows,) = predictor.phases
    snr = jnp.asarray(snr, x.dtype)
    rows = cast_rows(rows, x.dtype)
    corrector_key = jax.random.fold_in(key, CORRECTOR)

    def row(x, xs):
        index, (level, coef) = xs
        for number in range(num_corrections):
            z = draw(jax.random.fold_in(corrector_key, number), index, x.shape, x.dtype)
            x = langevin_step(field, x, level, z, snr, norm)
        sources = {0: x, output(0): _denoised(field, x, level)}
        if (0, NOISE) in coef:
            sources[NOISE] = draw(key, index, x.shape, x.dtype)
        return sum(weight * sources[source] for (_, source), weight in coef.items()), None

    start = jnp.asarray(predictor.start[0, 0], x.dtype) * x
    return jax.lax.scan(row, start, (jnp.arange(predictor.num_rows), rows))[0]


def _denoised(field, x, level):
    return jnp.asarray(denoiser(field(x, level)), x.dtype)


def _norm(a, norm):
    """The Euclidean norm of each sample, or the mean of these, with axes to broadcast."""
    norms = jnp.sqrt(jnp.sum(a.reshape(a.shape[0], -1) ** 2, axis=1))
    norms = jnp.mean(norms, keepdims=True) if norm == "batch" else norms
    return norms.reshape(-1, *(1,) * (a.ndim - 1))


def _check(predictor, num_corrections, snr, norm):
    if predictor.lanes > 1 or set(predictor.start) != {(0, 0)}:
        raise PersonError(
            f"a predictor has one lane and starts from x alone, this one has {predictor.lanes} "
            "lanes: allowed are one-step solvers such as ddpm, ddim, reverse_diffusion"
        )
    if num_corrections < 0 or not snr > 0:
        raise PersonError(
            f"num_corrections = {num_corrections}, snr = {snr}: no negative number of corrections, "
            "and a positive snr"
        )
    if norm not in NORMS:
        raise PersonError(f"norm = {norm!r}: allowed are {', '.join(NORMS)}")
