"""Samples between modes that the data never had: when, why, and how to tell.

    dfx run mode_interpolation           parts (a)-(c), 3 seeds, about 15 minutes on two cores
    dfx run mode_interpolation:smoke     every part at toy size, under a minute
    dfx run mode_interpolation:images    part (d): shapes and digits, under 30 minutes on two cores
    dfx run mode_interpolation:paper     the paper's own numbers, on an accelerator
    dfx run mode_interpolation:pod       20 seeds, spread over the devices of a pod

Parts: "gaussians" (a) and (b), "recursion" (c), "pictures" (d). With --config.data.path=FOLDER, or
the environment variable DFX_DATA, the digits of part (d) are MNIST, read from its standard files;
without, they are the 8x8 digits that come with scikit-learn.

Left out: the recursion on shapes and on MNIST with its FID (a net a generation, and features not
known to us), hands (pictures and counts of fingers not at hand), and of the appendix the
continuous-time VDM, the imbalanced mixture and the map of a U-Net's bottleneck, which show the same
effect without a number.

Source: Aithal, Maini, Lipton, Kolter (2024), arXiv 2406.09358.
"""

import os
from typing import Any

from ml_collections import config_dict

from dfx.runs import checks

SIZES = ("smoke", "default", "images", "paper", "pod")
PARTS = ("gaussians", "recursion", "pictures")


def get_config(size: str = "default") -> config_dict.ConfigDict:
    """Return the config of one size."""
    config = _default()
    config.update(_CHANGES[size])
    return config


def _default() -> config_dict.ConfigDict:
    return config_dict.create(
        seed=0,
        num_seeds=3,
        parts=("gaussians", "recursion"),
        # The forward process of the paper's code: ten times the usual beta.
        schedule=dict(num_steps=1000, beta_start=1e-3, beta_end=0.2),
        net=dict(width=128, depth=3),
        # The paper keeps its rate, at batches of 10,000. With far fewer samples a rate
        # that falls to zero leaves a half to a tenth of the hallucinations.
        train=dict(
            num_steps=30_000, batch_size=64, learning_rate=1e-3, schedule="cosine", chunk=100
        ),
        # start_index: the sampler starts at this step of the table; abar = 8e-5 at 300.
        sample=dict(start_index=300, ddim_steps=100),
        detection=dict(cut=6.0, keep=0.96, windows=(5, 10, 20, 30, 50, 100), num_samples=12_000),
        one_d=dict(
            std=0.05,
            data_size=50_000,
            data_sizes=(1000, 5000),
            spacings=(0.5, 2.0),
            num_samples=4000,
            snapshots=(4000, 8000, 16_000),
        ),
        two_d=dict(
            side=3, std=0.05, data_size=100_000, num_steps=30_000, batch_size=64, num_samples=8000
        ),
        recursion=dict(
            side=3,
            std=0.05,
            data_size=5000,
            drop=0.0244,
            window=10,
            generations=2,
            num_steps=16_000,
            batch_size=64,
        ),
        control=dict(num_samples=50_000),
        pictures=dict(
            sets=("digits", "shapes"),
            shapes_size=28,
            shapes_count=5000,
            num_steps=2000,
            batch_size=64,
            learning_rate=1e-3,
            ema=0.995,
            chunk=20,
            save_every=200,
            net=dict(kind="unet", width=32, depth=2, patch=2),
            sample_steps=100,
            num_samples=1024,  # half of them judge the detector: see the claims on pictures
            windows=(5, 10, 15, 20, 30, 50),
            classifier_steps=2000,
        ),
        data=dict(path=os.environ.get("DFX_DATA", "")),
    )


_CHANGES: dict[str, dict[str, Any]] = {
    "default": {},
    "smoke": dict(
        num_seeds=2,
        parts=PARTS,
        train=dict(num_steps=60, chunk=20),
        sample=dict(start_index=60, ddim_steps=10),
        detection=dict(num_samples=400, windows=(5, 10, 50)),
        one_d=dict(
            data_size=1000, data_sizes=(500,), spacings=(2.0,), num_samples=200, snapshots=(20,)
        ),
        # As many points as in the recursion: one compiled training serves both.
        two_d=dict(data_size=200, num_steps=40, num_samples=205),
        recursion=dict(data_size=200, generations=1, num_steps=40),
        control=dict(num_samples=1000),
        pictures=dict(
            shapes_count=200,
            num_steps=12,
            batch_size=16,
            chunk=4,
            net=dict(kind="dit", width=32, depth=1, patch=4),
            sample_steps=10,
            num_samples=16,
            windows=(5, 10),
            classifier_steps=50,
        ),
    ),
    "images": dict(parts=("pictures",)),
    "paper": dict(
        parts=PARTS,
        train=dict(num_steps=50_000, batch_size=10_000, schedule="constant"),
        sample=dict(start_index=1000),
        detection=dict(num_samples=100_000),
        one_d=dict(
            data_sizes=(1000, 5000, 20_000),
            num_samples=100_000,
            snapshots=(1000, 2000, 4000, 8000, 20_000),
        ),
        two_d=dict(side=5, num_steps=100_000, batch_size=10_000, num_samples=100_000),
        recursion=dict(
            side=5, data_size=100_000, generations=5, num_steps=100_000, batch_size=10_000
        ),
        pictures=dict(
            shapes_size=64,
            num_steps=100_000,
            batch_size=128,
            net=dict(kind="unet", width=64, depth=2, patch=1),
            sample_steps=1000,
            num_samples=10_000,
            windows=(10, 30, 50, 100, 200),
        ),
    ),
}
_CHANGES["pod"] = {**_CHANGES["paper"], "num_seeds": 20}


_CHOICES = {
    "parts": PARTS,
    "train.schedule": ("constant", "cosine"),
    "pictures.sets": ("shapes", "digits"),
    "pictures.net.kind": ("unet", "dit"),
}
_SHARES = ("detection.keep", "recursion.drop", "pictures.ema")
_COUNTS = ("detection", "one_d", "two_d", "control", "pictures")
_RANGES = {
    **dict.fromkeys(_SHARES, (0.0, 0.9999)),
    "schedule.num_steps": (100, 100_000),  # the score is looked at up to step 80
    "schedule.beta_start": (0.0, 0.9999),
    "schedule.beta_end": (0.0, 0.9999),
    "detection.cut": (0.1, 1000.0),
    # Modes are 1 and 2 apart.
    **dict.fromkeys(("one_d.std", "two_d.std", "recursion.std"), (1e-3, 1.0)),
    "one_d.spacings": (0.1, 100.0),
    "two_d.side": (2, 100),
    "recursion.side": (2, 100),
    **dict.fromkeys((f"{part}.num_samples" for part in _COUNTS), (1, 100_000_000)),
    "detection.num_samples": (100, 100_000_000),  # some of them lie near a mode
    "pictures.shapes_size": (28, 256),
    "pictures.sample_steps": (1, 1000),  # the table's length
}


def validate(config: config_dict.ConfigDict) -> None:
    """Check ranges and choices, and that the data are there and whole.

    Raises:
      ConfigError: a setting out of its range, in one line.
      DataError: no MNIST where the path points, or a torn file.
    """
    checks.choices(config, _CHOICES)
    checks.signs(config, may_be_empty=("one_d.snapshots",))
    checks.seeds(config, "num_seeds")
    checks.ranges(config, _RANGES)
    length = config.schedule.num_steps
    checks.ranges(config, {"sample.start_index": (10, length), "sample.ddim_steps": (1, length)})
    start, end = config.schedule.beta_start, config.schedule.beta_end
    allowed = f"a number up to schedule.beta_end = {end:g}"
    checks.require(start <= end, "config.schedule.beta_start", start, allowed)
    checks.rising(config, "one_d.snapshots", least=0, allowed="rising numbers of steps")
    # The paper's window, on which its claims are judged.
    windows = config.detection.windows
    checks.require(10 in windows, "config.detection.windows", windows, "any numbers, with 10 among")
    if "pictures" in config.parts:
        _check_pictures(config)


def _check_pictures(config) -> None:
    from dfx import data  # here: they import JAX, which the other checks can do without
    from experiments.mode_interpolation.pictures import make_net

    if config.data.path:
        for split in ("train", "test"):
            data.load("mnist", config.data.path, split, limit=1)
    sides = {"shapes": config.pictures.shapes_size, "digits": 28 if config.data.path else 8}
    for name in config.pictures.sets:
        with checks.named("config.pictures.net"):
            make_net(config.pictures.net, (sides[name], sides[name], 1))


def fingerprint(config: config_dict.ConfigDict) -> str:
    """Return what the run reads from disk, "" for nothing."""
    from dfx.runs.fingerprint import of_sets

    names = ("mnist",) if "pictures" in config.parts and config.data.path else ()
    return of_sets(names, config.data.path)
