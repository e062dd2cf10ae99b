"""Whether what a config of `images` names is there and fits together, before anything runs."""

from __future__ import annotations

from dfx import recipes, train
from dfx.errors import PersonError, choose
from dfx.runs.checks import named, require
from experiments.images import data
from experiments.images.inception import open_inception
from experiments.images.sampling import sampler
from experiments.images.scores import GROUPS
from experiments.images.training import make_averages, make_mesh, make_net, make_optimizer


def check(config) -> None:
    """Look at devices, recipe, sampler, averages, optimizer, data, Inception and net.

    Raises:
      PersonError: the first thing that cannot be, in one line.
    """
    mesh = make_mesh(config)
    train.check_batch(config.train.batch_size, mesh, config.train.slices)
    recipe = recipes.make(config.recipe)
    sampler(config, recipe).tableau(recipe.schedule)
    with named("config.ema"):
        averages = make_averages(config)
    choose("average config.evaluation.ema:", config.evaluation.ema, averages)
    made_of = config.ema.snapshot_every > 0 and bool(config.ema.sigma_rels)
    allowed = "none, unless ema.snapshot_every and ema.sigma_rels say what they are made of"
    require(made_of or not config.ema.posthoc, "config.ema.posthoc", config.ema.posthoc, allowed)
    make_optimizer(config)
    pictures = data.open_pictures(config, limit=config.evaluation.batch)
    _check_evaluation(config, pictures, mesh.size)
    _check_inception(config, pictures)
    with named("config.net"):
        make_net(config, pictures.shape, pictures.num_classes)


def _check_evaluation(config, pictures: data.Pictures, devices: int) -> None:
    """What is judged comes in whole batches, and the judge needs pixels with labels."""
    settings, batch = config.evaluation, config.evaluation.batch
    require(batch % devices == 0, "config.evaluation.batch", batch, f"multiples of {devices}")
    for name in ("samples", "held_out"):
        given, allowed = settings[name], f"multiples of evaluation.batch = {batch}"
        require(given % batch == 0, f"config.evaluation.{name}", given, allowed)
    if "judge" in settings.parts or config.inception.weights:
        allowed = f"{2 * GROUPS} or more, two a group of the jackknife"
        require(
            settings.samples >= 2 * GROUPS, "config.evaluation.samples", settings.samples, allowed
        )
    if "loss" in settings.parts or config.ema.posthoc:
        least = min(len(pictures.train), len(pictures.test))
        allowed = f"at most the {least} pictures of a split"
        require(batch <= least, "config.evaluation.batch", batch, allowed)
    for part in ("judge", "neighbours", "bits"):
        if part in settings.parts and config.data.latents:
            raise PersonError(
                f"setting config.evaluation.parts: {part!r} needs pixels, and the data are latents"
            )
    if "judge" in settings.parts and not pictures.labelled:
        raise PersonError(
            f"setting config.evaluation.parts: 'judge' needs labels, and {config.data.name!r} has "
            "none"
        )


def _check_inception(config, pictures: data.Pictures) -> None:
    """Its files are whole, and it can see the pictures."""
    if open_inception(config) is not None and pictures.shape[-1] not in (1, 3):
        raise PersonError(
            f"setting config.inception.weights: pictures have {pictures.shape[-1]} channels, "
            "allowed: 1 or 3"
        )
