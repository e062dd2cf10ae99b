"""What an image training is made of, put together from a config: net, averages, optimizer, step and
state. `benchmarks` and the checks of pod programs use it too."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from dfx import nets, recipes, train
from dfx.errors import PersonError
from dfx.nets.net import Net
from dfx.recipes import Recipe
from experiments.images import data
from experiments.images.data import Pictures


class Parts(NamedTuple):
    """A training, before it is begun.

    recipe, net: what is trained and how. step: as `train.fit` takes it. make_state: key -> the
    state before the first step, pure and jit-able. batch: the shapes of a batch from the host.
    shape, num_classes: of the pictures.
    """

    recipe: Recipe
    net: Net
    step: Callable
    make_state: Callable[[jax.Array], train.State]
    batch: tuple[jax.ShapeDtypeStruct, ...]
    shape: tuple[int, int, int]
    num_classes: int


def make_parts(config, pictures: Pictures) -> Parts:
    """Return the training that a config describes, for pictures of that shape."""
    recipe = recipes.make(config.recipe)
    net = make_net(config, pictures.shape, pictures.num_classes)
    optimizer, average = make_optimizer(config), train.ema.several(make_averages(config))

    def make_state(key):
        first, noise = jax.random.split(key)
        return train.init_state(net.init(first), optimizer, noise, average)

    shapes = batch_shapes(pictures, config.train.batch_size)
    step = make_step(config, recipe, net)
    return Parts(recipe, net, step, make_state, shapes, pictures.shape, pictures.num_classes)


def make_mesh(config):
    """Return the mesh of the config, over all devices.

    On a CPU, whose devices are its cores, over as many as share the batches evenly, if the config
    leaves it open: a laptop of six cores is no mistake.
    """
    settings, devices = config.mesh, jax.devices()
    open_mesh = (settings.data, settings.fsdp) == (-1, 1) and jax.process_count() == 1
    if open_mesh and jax.default_backend() == "cpu":
        part = config.train.batch_size // config.train.slices
        devices = devices[: math.gcd(part, config.evaluation.batch, len(devices))]
    return train.make_mesh(settings.data, settings.fsdp, devices)


def make_step(config, recipe: Recipe, net: Net) -> Callable:
    """Return the training step of a net, as `train.fit` takes it."""
    settings = config.train
    return train.make_step(
        recipe.loss(net), make_optimizer(config), train.ema.several(make_averages(config)),
        settings.slices, data.make_prepare(config), settings.nonfinite,
    )  # fmt: skip


def make_net(config, shape: tuple[int, ...], num_classes: int, **changes: Any) -> Net:
    """Return the net for pictures of a shape; `changes` replace options of the config."""
    options = dict(config.net) | changes
    if num_classes:
        options["num_classes"] = num_classes
    net = nets.make(options.pop("name"), shape, **options)
    if not isinstance(net, Net):
        raise PersonError(f"net {config.net.name!r}: allowed are nets that predict pictures")
    return net


def make_optimizer(config):
    """Return Adam as the config sets it."""
    settings = config.train
    return train.optimizer(
        settings.learning_rate, warmup=settings.warmup, schedule=settings.schedule,
        total=settings.num_steps, clip=settings.clip or None,
    )  # fmt: skip


def make_averages(config) -> dict[str, train.ema.Ema]:
    """Return the averages by name: half_IMAGES, and widths such as 0.1, as `Snapshots` has them."""
    batch = config.train.batch_size
    half = {f"half_{n:.0f}": train.ema.half_life(n / batch) for n in config.ema.half_lives}
    power = {f"{w:g}": train.ema.power(sigma_rel=w) for w in config.ema.sigma_rels}
    return half | power


def batch_shapes(pictures: Pictures, batch_size: int) -> tuple[jax.ShapeDtypeStruct, ...]:
    """Return the shapes of a batch on all devices, as the host hands it over."""
    row = pictures.train.take(np.zeros(1, np.int64))
    return tuple(jax.ShapeDtypeStruct((batch_size, *a.shape[1:]), a.dtype) for a in row)


def model_flop(config, parts: Parts) -> float:
    """Return the FLOP of a step's products on all devices, without those that remat adds."""
    plain = {"remat": "none", "attention": "xla"}
    changes = {name: value for name, value in plain.items() if name in config.net}
    net = make_net(config, parts.shape, parts.num_classes, **changes)
    step = make_step(config, parts.recipe, net)
    state = jax.eval_shape(parts.make_state, jax.random.key(0))
    return train.product_flop(step, state, parts.batch)
