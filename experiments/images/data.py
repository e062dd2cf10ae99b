"""Pictures for image training: where they come from, and what becomes of a batch on the device.

A set is a pair of `dfx.data.Records`, one a split: in memory, or on disk. Training draws batches as
a function of (seed, step); evaluation takes fixed, random rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dfx import data
from dfx.errors import PersonError
from dfx.runs.checks import require

MEMORY = "memory"


class Pictures(NamedTuple):
    """A set of pictures or latents.

    train, test: the records of both splits, (images, labels) or (images,). shape: of what is
    trained on. num_classes: of the net, 0 for one without. labelled: whether there are labels.
    """

    train: data.Records
    test: data.Records
    shape: tuple[int, int, int]
    num_classes: int
    labelled: bool


def open_pictures(config, limit: int | None = None) -> Pictures:
    """Return the set that the config names; at most `limit` pictures of one that lies in memory.

    Raises:
      DataError: it is missing or torn; one line says which file.
    """
    train, test = (open_split(config, split, limit) for split in ("train", config.data.test_split))
    height, width, channels = train.take(np.zeros(1, np.int64))[0].shape[1:]
    shape = height, width, channels // 2 if config.data.latents else channels
    labelled = len(train.take(np.zeros(1, np.int64))) > 1
    if config.labels.use and not labelled:
        raise PersonError(f"labels.use is true, and {config.data.name!r} has no labels")
    if labelled and (config.labels.use or "judge" in config.evaluation.parts):
        most = max(map(_classes, (train, test)))
        allowed = f"the {most} classes of {config.data.name!r}, or more"
        require(most <= config.data.num_classes, "config.data.num_classes",
                config.data.num_classes, allowed)  # fmt: skip
    num_classes = config.data.num_classes if config.labels.use else 0
    return Pictures(train, test, shape, num_classes, labelled)


def open_split(config, split: str, limit: int | None = None) -> data.Records:
    """Return the records of one split; at most `limit` of a set in memory."""
    settings = config.data
    if settings.kind == MEMORY:
        found = data.load(settings.name, settings.path or None, split, limit)
        arrays = (found.images,) if found.labels is None else (found.images, found.labels)
        return data.HostArrays(arrays)
    options = {}
    if settings.kind == "folder":
        options = {"size": settings.size, "channels": settings.channels}
    return data.open_records(settings.kind, settings.path or None, split, **options)


def _classes(records: data.Records) -> int:
    """Return one more than the largest label; 0 where labels are read with their pictures."""
    labels = getattr(records, "labels", None)
    if isinstance(records, data.HostArrays):
        labels = records.arrays[1]
    return 0 if labels is None else int(labels.max()) + 1


def make_prepare(config) -> Callable[[Any, jax.Array], tuple]:
    """Return what a batch goes through on the device: numbers, mirrored pictures, dropped labels.

    The result is `prepare(batch, key) -> (x0,)`, or `(x0, labels)` where labels are used.
    """

    def prepare(batch, key):
        numbers, mirror, drop = jax.random.split(key, 3)
        x0 = to_numbers(config, batch[0], numbers)
        if config.data.flip:
            x0 = data.random_flip(mirror, x0)
        if not config.labels.use:
            return (x0,)
        labels = batch[1]
        dropped = jax.random.uniform(drop, labels.shape) < config.labels.dropout
        return x0, jnp.where(dropped, config.data.num_classes, labels)

    return prepare


def to_numbers(config, images, key):
    """Return pixels or moments of latents as what is trained on, float32 (n, h, w, c)."""
    if config.data.latents:
        return data.draw_latents(key, images, config.data.latent_scale)
    return data.dequantise(key, images) if config.data.dequantise else data.to_unit(images)


def to_pixels(config, x: np.ndarray) -> np.ndarray:
    """Return samples as pixels uint8, the inverse of `to_numbers`; latents scaled to be looked at.

    Latents have no pixels without their decoder: their first three channels, [-4, 4], are shown.
    """
    if config.data.latents:
        x = x[..., :3] / 4
    elif config.data.dequantise:
        return np.clip(np.floor((x + 1) * 128), 0, 255).astype(np.uint8)
    return data.from_unit(x)


def some(records: data.Records, count: int, seed: int) -> tuple[np.ndarray, ...]:
    """Return `count` random examples (all, if there are fewer), the same for the same seed."""
    chosen = np.random.default_rng(seed).permutation(len(records))[:count]
    return records.take(chosen)
