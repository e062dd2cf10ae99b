"""Losses that are known without a net: what a recipe's training must get below, and the best that
Gaussian data allow.

Averages over the law of the training times are taken at `NUM_LEVELS` of its quantiles, the
midpoints of equal strata: for the smooth losses of this module that is exact to about 1e-4 of them.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from dfx.fields import pair
from dfx.losses import weighting as weightings
from dfx.recipes.recipe import Recipe
from dfx.schedules import Level, on_host

NUM_LEVELS = 4000


def constant_loss(recipe: Recipe, x0) -> float:
    """Return the loss of the best predictor that looks at nothing: one number a coordinate.

    With p = c x0 + s eps and weight w it is k = E[w p] / E[w], and its loss

        E[w (c^2 x0^2 + s^2)] - E[w] k^2,

    the mean over coordinates.

    Args:
      recipe: any whose prediction is made of x0 and eps, without a mean term.
      x0: data, (n, *sample), as they are trained on.
    """
    level, weight = _levels(recipe)
    c, s = (np.asarray(entry) for entry in pair(recipe.prediction, level))
    flat = np.asarray(x0, np.float64).reshape(len(x0), -1)
    mean, square = flat.mean(0), (flat**2).mean(0)
    total = weight.mean()
    k = (weight * c).mean() * mean / total
    squares = (weight * c**2).mean() * square + (weight * s**2).mean()
    return float((squares - total * k**2).mean())


def gaussian_loss(recipe: Recipe, variances) -> float:
    """Return the loss of the exact denoiser on Gaussian data with these principal variances:

        E[w (dp/dx0)^2 mean_j v_j sigma^2 / (alpha^2 v_j + sigma^2)],

    the weighted posterior variance; no predictor does better on data of this law.

    Args:
      recipe: as in `constant_loss`.
      variances: (d,), eigenvalues of the covariance.
    """
    level, weight = _levels(recipe)
    v = np.asarray(variances, np.float64)[:, None]
    posterior = (v * level.sigma**2 / (level.alpha**2 * v + level.sigma**2)).mean(0)
    c, s = (np.asarray(entry) for entry in pair(recipe.prediction, level))
    slope = c - s * level.alpha / level.sigma  # dp/dx0 at fixed x: of eps 0 where alpha = 0
    return float((weight * posterior * slope**2).mean())


def _levels(recipe: Recipe) -> tuple[Level, np.ndarray]:
    """The levels at the quantiles of the training times, and the weights there, in float64."""
    with on_host():
        u = (jnp.arange(NUM_LEVELS, dtype=jnp.float64) + 0.5) / NUM_LEVELS
        t = np.asarray(recipe.time_sampler.quantile(u), np.float64)
        level = recipe.schedule.at(t)
        weight = np.asarray(weightings.make(recipe.weighting)(level, recipe.prediction))
    return level, np.broadcast_to(weight, t.shape)
