"""How well a field denoises pictures that it was and was not trained on: the recipe's own loss, the
error of x0_hat at each noise level, and bits per dimension.

All fields are measured on the same pictures, noise and times: nets, and the laws that are known.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from dfx import data, metrics, recipes, schedules, solvers, train
from dfx.metrics.estimate import mean
from dfx.train.mesh import put_whole
from experiments.images import data as images_data
from experiments.images.data import Pictures
from experiments.images.sampling import whole

#: sigma / alpha of the first and the last noise level looked at: below and above these a denoiser
#: of pictures in [-1, 1] has nothing to do, and all it can do, respectively.
LOWEST, HIGHEST = 0.02, 50.0
SPLITS = ("train", "test")


def noise_levels(config) -> np.ndarray:
    """Return the noise levels sigma / alpha at which denoisers are compared."""
    return np.geomspace(LOWEST, HIGHEST, config.evaluation.levels)


def measure(
    config, recipe: recipes.Recipe, model, params: Any, field_of: Callable, pictures: Pictures,
    mesh: Mesh,
) -> dict[str, np.ndarray]:  # fmt: skip
    """Return the errors of a denoiser on random pictures of both splits.

    loss_SPLIT: the recipe's loss and its standard error over pictures, (2,); times at quantiles of
    their law. errors_SPLIT: the mean square of x0_hat - x0 a number, at each of `noise_levels`,
    and its standard error, (2, levels).

    Args:
      config: of the run.
      recipe: of the loss.
      model, params: what the recipe's loss takes.
      field_of: classes (n,) or None -> the same as a field.
      pictures: both splits.
      mesh: the devices.
    """
    found = {}
    times = schedules.t_of_log_snr(recipe.schedule, -2 * np.log(noise_levels(config)))
    losses, errors = _programs(recipe, model)
    for split in SPLITS:
        rows = []
        for x0, labels, key in batches(config, pictures, split, mesh):
            loss = losses(params, x0, labels, key)
            error = errors(field_of(labels), x0, times.astype(x0.dtype), key)
            rows.append([np.asarray(whole(part, mesh)) for part in (loss, error)])
        loss, error = (np.concatenate(column, axis=-1) for column in zip(*rows))
        found[f"loss_{split}"] = np.array(mean(loss))
        found[f"errors_{split}"] = np.array([mean(row) for row in error]).T
    return found


def batches(config, pictures: Pictures, split: str, mesh: Mesh):
    """Yield (x0, labels, key) of random pictures of a split, over the devices; the same always."""
    records, size = getattr(pictures, split), config.evaluation.batch
    columns = images_data.some(records, config.evaluation.held_out, config.seed)
    rows = train.local_rows(size, mesh)
    for i in range(0, len(columns[0]) // size * size, size):
        key = jax.random.fold_in(jax.random.key(config.seed + 2), i)
        part = train.put_batch(tuple(column[i : i + size][rows] for column in columns), mesh)
        numbers, noise = put_whole(tuple(jax.random.split(key)), mesh)
        x0 = _numbers(part[0], numbers, config=config)
        yield x0, part[1] if pictures.num_classes else None, noise


def bits(config, recipe: recipes.Recipe, field, pictures: Pictures) -> dict[str, np.ndarray]:
    """Return bits per dimension of dequantised test pictures, with their standard error, (2,).

    By the probability-flow equation with one probe of the divergence a picture.
    """
    settings = config.evaluation
    images = images_data.some(pictures.test, settings.bits, config.seed)[0]
    key, probes = jax.random.split(jax.random.key(config.seed + 3))
    x = data.dequantise(key, jnp.asarray(images))
    tolerance = settings.bits_tolerance
    found = solvers.log_likelihood(
        recipe.schedule, field, x, key=probes, rtol=tolerance, atol=tolerance
    )
    dim = int(np.prod(x.shape[1:]))
    return {
        "bits": np.array(metrics.mean_bits(found.value, dim, data.CELL)),
        "bits_evaluations": np.asarray(found.evaluations),
    }


@functools.cache  # a program for each model, found again at the next stop
def _programs(recipe: recipes.Recipe, model) -> tuple[Callable, Callable]:
    per_picture = recipe.errors(model)

    def losses(params, x0, labels, key):
        # Times that stand for their law: its quantiles, in the order of the pictures, a random one.
        u = (jnp.arange(len(x0), dtype=x0.dtype) + 0.5) / len(x0)
        eps = jax.random.normal(key, x0.shape, x0.dtype)
        return per_picture(params, x0, eps, recipe.time_sampler.quantile(u), labels)

    def errors(field, x0, times, key):
        eps = jax.random.normal(key, x0.shape, x0.dtype)

        def at(t):
            level = recipe.schedule.at(t)
            found = field(schedules.marginal_sample(x0, eps, level), level)
            return jnp.mean((found - x0) ** 2, axis=tuple(range(1, x0.ndim)))

        return jax.lax.map(at, times)

    return jax.jit(losses), jax.jit(errors)


@functools.partial(jax.jit, static_argnames="config")
def _numbers(images, key, *, config):
    return images_data.to_numbers(config, images, key)
