"""Part (c) of mode interpolation: nets trained on the samples of nets, with and without a filter
between.

Generation 0 learns from the data. Each later one learns from scratch from what is left of the
samples of the one
before, when the given share has been dropped: those of largest late variance of x0_hat
  ("variance"), or any ("random").

Source: Aithal et al. (2024), arXiv 2406.09358, and the filter script of its code.
"""

from __future__ import annotations

import jax
import numpy as np

from dfx import metrics, targets
from experiments.shared import toy_ddpm

FILTERS = ("variance", "random")


def recursion(config, run) -> None:
    """Train and sample every generation; members are filter x seed, generation 0 is common to the
    filters."""
    settings = config.recursion
    target = targets.grid_2d(settings.side, std=settings.std)
    toy = toy_ddpm.make_toy(config, 2, settings.num_steps)
    roots = jax.random.split(jax.random.key(config.seed + 2), config.num_seeds)
    law = {f"grid.{key}": value for key, value in toy_ddpm.law(target).items()}
    run.arrays("recursion_laws", lambda: law)
    points = [target.sample(key, settings.data_size, balanced=True) for key in roots]
    seen = generation(config, run, toy, 0, points, roots)
    for number in range(1, settings.generations + 1):
        per_filter = np.resize(np.arange(len(seen["x"])), len(FILTERS) * config.num_seeds)
        kept = [
            keep(
                FILTERS[i // config.num_seeds],
                seen["x"][j],
                seen["variance"][j, :, 0],
                settings.data_size,
            )
            for i, j in enumerate(per_filter)
        ]
        seen = generation(config, run, toy, number, kept, [*roots, *roots])


def generation(config, run, toy, number: int, points, roots) -> dict[str, np.ndarray]:
    """Return samples and late variances of the nets trained on each of the point sets."""
    settings = config.recursion
    keys = [jax.random.fold_in(key, number) for key in roots]
    members = toy_ddpm.gather(points, keys)
    name = f"recursion_{number}"
    (params,) = toy_ddpm.fit_members(
        run, name, toy, members, settings.batch_size, (settings.num_steps,)
    )
    sampler = toy_ddpm.ancestral(toy.schedule, config.sample.start_index)
    count = num_generated(settings.data_size, settings.drop)
    noise = [jax.random.fold_in(key, _SAMPLING) for key in keys]
    windows = (settings.window,)
    return toy_ddpm.sample_members(
        run, f"{name}_samples", toy, params, noise, sampler, (count, 2), windows
    )


_SAMPLING = 3  # beside the uses that `toy_ddpm` makes of a member's key


def num_generated(kept: int, drop: float) -> int:
    """Return how many samples to draw so that `kept` are left when the share `drop` has been
    dropped."""
    return int(np.ceil(kept / (1 - drop)))


def keep(rule: str, x: np.ndarray, variance: np.ndarray, count: int) -> np.ndarray:
    """Return `count` of the samples: those of smallest late variance, or the first ones, which are
    any.

    Args:
      rule: one of FILTERS.
      x: samples, shape (n, d).
      variance: late variance of x0_hat of each, shape (n,).
      count: how many to keep, at most n.
    """
    return x[metrics.keep_lowest(variance, count)] if rule == "variance" else x[:count]
