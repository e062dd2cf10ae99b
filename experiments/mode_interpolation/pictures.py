"""Part (d) of mode interpolation: pictures. Impossible shapes are counted, doubtful digits are
judged by a classifier.

For each set one net is trained and sampled. Kept: `pictures_SET` with the samples, the late
variances of x0_hat and real pictures beside them; for shapes what the detector sees in each, for
digits the judge's class probabilities.

Source: Aithal et al. (2024), arXiv 2406.09358; the net and its training are ours, the paper does
  not publish its own.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import numpy as np

from dfx import data, fields, losses, nets, schedules, solvers, train
from dfx.runs import say
from dfx.targets import shapes as simple_shapes
from experiments.shared import judge
from experiments.shared.toy_ddpm import step_number

NUM_STEPS = 1000  # of the table; the schedule is the one of Ho et al. (2020)
PREDICTION = "v"  # a small error in eps is a large one in x0_hat where the chain starts


def pictures(config, run) -> None:
    """Train, sample and judge each set of pictures."""
    for name in config.pictures.sets:
        {"shapes": shapes, "digits": digits}[name](config, run)


def shapes(config, run) -> None:
    """Train on the simple shapes and let the detector look at the samples."""
    settings = config.pictures
    key = jax.random.key(config.seed + 10)
    images, _ = simple_shapes.draw(key, settings.shapes_count, settings.shapes_size)
    samples = train_and_sample(config, run, "shapes", images)

    def compute():
        seen = simple_shapes.detect(samples["x"])
        return {**seen._asdict(), "impossible": seen.impossible, "real": images[:64]}

    run.arrays("judged_shapes", compute)


def digits(config, run) -> None:
    """Train on MNIST, or on the 8x8 digits when no folder is given, and let a classifier judge the
    samples."""
    sets = {split: load_digits(config.data.path, split) for split in ("train", "test")}
    samples = train_and_sample(config, run, "digits", sets["train"].images)

    def compute():
        steps, seed = config.pictures.classifier_steps, config.seed + 20
        judged = judge.train_judge(run, sets["train"], sets["test"], steps, seed)
        real = data.to_unit(sets["test"].images)
        return {
            "probabilities": judged.classify(samples["x"]),
            "real_probabilities": judged.classify(real[: len(samples["x"])]),
            "right": judged.right,
            "real": sets["test"].images[:64],
        }

    run.arrays("judged_digits", compute)


def load_digits(path: str, split: str) -> data.Dataset:
    """Return MNIST from a folder, or the digits that come with scikit-learn if there is none."""
    return data.load("mnist", path, split) if path else data.load("digits", split=split)


def train_and_sample(config, run, name: str, images: np.ndarray) -> dict[str, np.ndarray]:
    """Return samples x (n, h, w, c) in [-1, 1] and their late variances (n, windows), from the run
    folder if there."""
    settings = config.pictures
    shape = images.shape[1:]
    schedule = schedules.discrete_linear(NUM_STEPS)
    net = make_net(settings.net, shape)

    def compute():
        params = fit(config, run, name, net, schedule, images)
        field = fields.from_net(net, params, PREDICTION, time=step_number(NUM_STEPS))
        return sample(config, run, name, schedule, field, shape)

    return run.arrays(f"pictures_{name}", compute)


def make_net(settings, shape: tuple[int, int, int]) -> nets.Net:
    """Return a small U-Net, down to a side of at most 7, or a transformer; pictures under 16 pixels
    get half the patch."""
    patch = settings.patch if shape[0] >= 16 else max(1, settings.patch // 2)
    if settings.kind == "dit":
        return nets.dit(shape, patch, settings.width, settings.depth, heads=4)
    side, levels = shape[0] // patch, 1
    while side > 7 and side % 2 == 0:
        side, levels = side // 2, levels + 1
    multipliers = (1, *[2] * (levels - 1))
    return nets.unet(shape, settings.width, multipliers, settings.depth, patch=patch)


def fit(config, run, name, net, schedule, images):
    """Return the averaged parameters of a net trained on the pictures, going on from a checkpoint
    if there is one."""
    settings = config.pictures
    loss = losses.denoising(
        net,
        schedule,
        PREDICTION,
        time_sampler=losses.discrete(schedule),
        time=step_number(NUM_STEPS),
    )
    steps = settings.num_steps
    optimizer = train.optimizer(
        settings.learning_rate, warmup=steps // 20, schedule="cosine", total=steps, clip=1.0
    )
    average = train.ema.constant(settings.ema)
    params_key, key, order = jax.random.split(jax.random.key(config.seed + 11), 3)
    state = train.init_state(net.init(params_key), optimizer, key, average)
    checkpoints = train.Checkpoints(run.checkpoint_folder(name), run.config_hash, warn=say)
    state = checkpoints.restore(state) or state
    with run.progress(steps, f"train {name}", initial=int(state.step)) as bar:

        def on_chunk(state, metrics, done):
            run.log(name, done, loss=metrics["loss"].mean())
            bar.update(len(metrics["loss"]), loss=metrics["loss"].mean())

        state = train.fit(
            train.make_step(loss, optimizer, average), state, _batches(settings.batch_size), steps,
            settings.chunk, on_chunk, data=(images, order), checkpoints=checkpoints,
            save_every=settings.save_every,
        )  # fmt: skip
    return train.averaged(state)


@functools.cache
def _batches(batch_size: int) -> Callable:
    def batch(source, step):
        images, order = source
        return data.to_unit(images[data.indices(order, step, batch_size, len(images))])

    return batch


SAMPLE_BATCH = 64


def sample(config, run, name, schedule, field, shape) -> dict[str, np.ndarray]:
    """Return ancestral samples and their late variances, drawn in batches to show progress."""
    settings = config.pictures
    times = schedules.grids.trailing(schedule, settings.sample_steps)
    tableau = solvers.ddpm(schedule, times, "small")  # the large one speckles chains of few steps
    observe = solvers.window_variance(tuple(settings.windows))
    parts = []
    with run.progress(settings.num_samples, f"sample {name}", unit="picture") as bar:
        for i in range(0, settings.num_samples, SAMPLE_BATCH):
            count = min(SAMPLE_BATCH, settings.num_samples - i)
            start, noise = jax.random.split(jax.random.fold_in(jax.random.key(config.seed + 12), i))
            x = solvers.prior(start, schedule, (count, *shape), t=times[0])
            parts.append(solvers.sample(tableau, field, x, noise, observe=observe))
            bar.update(count)
    x, variance = (np.concatenate([np.asarray(part) for part in column]) for column in zip(*parts))
    return {"x": x, "variance": variance}
