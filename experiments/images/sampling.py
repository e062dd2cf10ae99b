"""Samples of an image training: the field of its averages, and pictures drawn over all devices."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from dfx import fields, recipes, solvers, train
from dfx.train.mesh import put_whole
from experiments.images.training import Parts


def sampler(config, recipe: recipes.Recipe) -> recipes.Sampler:
    """Return the sampler that evaluations use: the recipe's own, with what the config changes."""
    settings, found = config.evaluation, recipe.sampler
    if settings.solver or settings.grid:
        found = recipes.Sampler(
            settings.solver or found.solver, settings.grid or found.grid, found.num_steps
        )
    return found._replace(num_steps=settings.num_steps or found.num_steps)


def net_field(config, parts: Parts, params: Any, labels=None) -> Callable:
    """Return the field of a net, guided if it has classes and the config says so.

    Args:
      config: of the run.
      parts: recipe and net.
      params: of the net.
      labels: classes (n,), or None.
    """
    recipe, weight = parts.recipe, config.evaluation.guidance
    toward = recipe.field(parts.net, params, labels)
    if labels is None or weight == 1:
        return toward
    return fields.classifier_free(toward, recipe.field(parts.net, params), weight)


def draw(config, parts: Parts, field_of: Callable, mesh: Mesh, bar: Any = None) -> np.ndarray:
    """Return samples (n, *shape), drawn in batches that are split over the devices.

    Sample i has the same noise whenever it is drawn, so that the pictures of one run can be
    compared across its steps.

    Args:
      config: of the run; `evaluation` says how many samples, by which solver.
      parts: recipe, shape and classes.
      field_of: classes (n,) or None -> the field.
      mesh: the devices.
      bar: counts the samples.
    """
    settings, schedule = config.evaluation, parts.recipe.schedule
    how = sampler(config, parts.recipe)
    tableau, start = how.tableau(schedule), how.times(schedule)[0]
    prior = _prior(parts.recipe, (settings.batch, *parts.shape), float(start), mesh)
    found = []
    for i in range(0, settings.samples, settings.batch):
        keys = jax.random.split(jax.random.fold_in(jax.random.key(config.seed + 1), i))
        first, noise = put_whole((keys[0], keys[1]), mesh)
        labels = None
        if parts.num_classes:
            labels = np.arange(i, i + settings.batch) % parts.num_classes
            labels = jax.device_put(labels.astype(np.int32), train.batch_sharding(mesh))
        x = solvers.sample(tableau, field_of(labels), prior(first), noise)
        found.append(np.asarray(whole(x, mesh)))
        if bar is not None:
            bar.update(settings.batch)
    return np.concatenate(found)[: settings.samples]


def whole(tree: Any, mesh: Mesh) -> Any:
    """Return arrays that are split over a mesh with all of them on every device."""
    return _gather(mesh)(tree)


@functools.cache  # one program a mesh
def _gather(mesh: Mesh) -> Callable:
    return jax.jit(lambda tree: tree, out_shardings=NamedSharding(mesh, PartitionSpec()))


@functools.cache
def _prior(recipe: recipes.Recipe, shape: tuple[int, ...], start: float, mesh: Mesh) -> Callable:
    """Return key -> the noise that samples start from, split over the devices."""
    return jax.jit(
        lambda key: solvers.prior(key, recipe.schedule, shape, t=start),
        out_shardings=train.batch_sharding(mesh),
    )
