"""Outline first, details later: how far one Gaussian explains learned scores, paths and samples.

    dfx run gaussian_painters           8x8 digits, 3 nets, under 10 minutes on two cores
    dfx run gaussian_painters:smoke     every part at toy size, under a minute
    dfx run gaussian_painters:paper     wider nets, more noise levels and samples, on an accelerator
    dfx run gaussian_painters:pod       20 nets

Parts: "exact" (closed forms, Gaussians with a power-law spectrum, clouds of points) and "nets"
(explained variance, paths, kicks, end samples and teleportation of trained nets). Pictures are the
8x8 digits that come with scikit-learn. For MNIST as in the paper, padded to 32x32, one net, add

    --config.pictures.name=mnist --config.pictures.pad=2 --config.net.width=512 --config.num_seeds=1
    --config.models.num_modes="(2, 10)" --config.kicks.num_points=8

and --config.data.path=FOLDER, or the environment variable DFX_DATA, where the standard files are
(a mode holds a full covariance, 4 MB here: many are slow); for CIFAR-10 the name cifar10 (with
--config.net.kind=dit, on an accelerator).

Left out: FID (1.93 with skipped steps) and LPIPS (end samples), which need pretrained nets of
features (distances in principal components and in pixels stand in); Stable Diffusion, FFHQ and
AFHQ, which need pretrained nets of theirs; skips with DPM-Solver-v3, fitted to such nets; the
denoising loss of 100 modes (108.4), which has no closed form.

Sources: Wang & Vastola (2023), arXiv 2303.02490; (2024), arXiv 2412.09726.
"""

import os
from typing import Any

from ml_collections import config_dict

from dfx.runs import checks

SIZES = ("smoke", "default", "paper", "pod")
PARTS = ("exact", "nets")
PICTURES = ("digits", "mnist", "fashion_mnist", "cifar10")
MULTISTEP = ("dpm_solver_pp_2m", "dpm_solver_pp_3m", "unipc_2")


def get_config(size: str = "default") -> config_dict.ConfigDict:
    """Return the config of one size."""
    config = _default()
    config.update(_CHANGES[size])
    return config


def _default() -> config_dict.ConfigDict:
    return config_dict.create(
        seed=0,
        num_seeds=3,
        parts=PARTS,
        # Power-law spectra in `dim` dimensions with a mean variance of 1/4; paths have 101 points
        # of equal steps of t on linear VP, or 18 of the EDM grid.
        exact=dict(dim=1024, exponents=(1.0, 1.5), num_paths=32, num_points=20_000),
        # pad: pixels of background added on each side.
        pictures=dict(name="digits", limit=10_000, pad=0),
        # patch and heads are those of a transformer, kind "dit".
        net=dict(kind="mlp", width=192, depth=3, patch=4, heads=4),
        # log sigma of the training ~ N(mean, std^2): wider than EDM's N(-1.2, 1.2^2), by which a
        # short training hardly sees sigma > 10.
        train=dict(
            num_steps=6000,
            batch_size=128,
            learning_rate=1e-3,
            chunk=100,
            mean=-0.5,
            std=1.8,
            snapshots=(0, 30, 100, 300, 1000, 3000),
        ),
        # Mixtures by k-means with the paper's floor under their variances.
        models=dict(num_modes=(5, 20, 100), floor=1e-5),
        explained=dict(
            levels=(0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 80.0),
            training_levels=(0.1, 0.2, 0.5, 1.0, 2.0),
            num_points=256,
        ),
        paths=dict(num_paths=32, num_steps=100, num_modes=24, num_shown=4),
        samples=dict(num_samples=256, num_steps=40),
        # Kicks of size * sigma, both ways, along principal components (from 1) at noise levels.
        kicks=dict(
            modes=(1, 2, 4, 8, 16, 24), levels=(0.1, 0.3, 1.0, 3.0, 10.0, 40.0), size=0.2,
            num_points=32,
        ),
        # ratio: sigma_max over the largest standard deviation of the data on the second grid, as
        # 80 is on CIFAR-10. memory: closed-form steps that give a multistep method its past.
        teleport=dict(
            num_steps=18, skips=(0, 1, 2, 3, 4, 5, 6, 8, 10, 12), solvers=MULTISTEP, memory=3,
            ratio=5.3, num_samples=359, reference_steps=80, tolerance=0.05,
        ),
        ranks=dict(count=24),
        data=dict(path=os.environ.get("DFX_DATA", "")),
    )  # fmt: skip


_CHANGES: dict[str, dict[str, Any]] = {
    "default": {},
    "smoke": dict(
        num_seeds=2,
        exact=dict(dim=64, num_paths=4, num_points=500),
        pictures=dict(limit=300),
        net=dict(width=16, depth=1),
        train=dict(num_steps=20, batch_size=16, chunk=10, snapshots=(0, 10)),
        models=dict(num_modes=(3,)),
        explained=dict(levels=(0.1, 0.5, 2.0), training_levels=(0.1, 0.5), num_points=16),
        paths=dict(num_paths=4, num_steps=12, num_modes=6, num_shown=2),
        samples=dict(num_samples=16, num_steps=6),
        kicks=dict(modes=(1, 3), levels=(0.3, 3.0), num_points=4),
        teleport=dict(
            num_steps=6, skips=(0, 1, 2, 4), solvers=("dpm_solver_pp_2m",), num_samples=32,
            reference_steps=12,
        ),
        ranks=dict(count=4),
    ),
    "paper": dict(
        net=dict(kind="dit", width=384, depth=8, patch=2, heads=6),
        train=dict(
            num_steps=200_000,
            batch_size=512,
            learning_rate=3e-4,
            mean=-1.2,
            std=1.2,
            snapshots=(0, 100, 300, 1000, 3000, 10_000, 30_000, 100_000),
        ),
        pictures=dict(limit=60_000),
        models=dict(num_modes=(2, 5, 10, 20, 50, 100, 200)),
        explained=dict(
            levels=(
                0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 0.75, 1.0, 1.5, 2.0, 5.0, 10.0, 20.0, 30.0, 40.0,
                80.0,
            ),
            num_points=1024,
        ),
        samples=dict(num_samples=512),
        paths=dict(num_paths=64, num_modes=60),  # digits vary in 61
        kicks=dict(num_points=64, modes=(1, 2, 4, 8, 16, 32, 60)),
        teleport=dict(
            num_samples=5000, skips=(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14)
        ),
    ),
}  # fmt: skip
_CHANGES["pod"] = {**_CHANGES["paper"], "num_seeds": 20}

_CHOICES = {
    "parts": PARTS,
    "pictures.name": PICTURES,
    "net.kind": ("mlp", "dit"),
    "teleport.solvers": MULTISTEP,
}
_MAYBE_ZERO = ("pictures.pad", "train.snapshots", "teleport.skips")
_LEVELS = (0.002, 80.0)  # that the nets are told; no path starts above the end
_RANGES = {
    "explained.levels": _LEVELS,
    "explained.training_levels": _LEVELS,
    "kicks.levels": _LEVELS,
    "exact.dim": (4, 100_000),  # three principal components are looked at
    "exact.exponents": (0.0, 10.0),
    "exact.num_points": (16, 10_000_000),
    "paths.num_paths": (2, 100_000),
    "paths.num_modes": (2, 100_000),
    "ranks.count": (2, 10_000),
    "pictures.limit": (16, 1_000_000_000),
    "pictures.pad": (0, 256),
    # Their covariance needs a second one.
    "samples.num_samples": (2, 1_000_000),
    "teleport.num_samples": (2, 1_000_000),
    "train.mean": (-10.0, 10.0),
    "train.std": (0.01, 10.0),
}
_RISING = (
    "train.snapshots",
    "models.num_modes",
    "explained.levels",
    "explained.training_levels",
    "kicks.modes",
    "kicks.levels",
    "teleport.skips",
)


def validate(config: config_dict.ConfigDict) -> None:
    """Check ranges and choices, and that the pictures are there.

    Raises:
      ConfigError: a setting out of its range, in one line.
      DataError: no such data set where the path points, or a torn file.
    """
    checks.choices(config, _CHOICES)
    checks.signs(config, _MAYBE_ZERO, free=("train.mean",))
    checks.ranges(config, _RANGES)
    checks.rising(config, *_RISING)
    _check_lists(config)
    if "nets" in config.parts:
        from dfx import data  # here: they import JAX, which the other checks can do without
        from experiments.gaussian_painters.nets import make_net

        path, limit = config.data.path or None, config.pictures.limit
        images = data.load(config.pictures.name, path, "train", limit).images
        data.load(config.pictures.name, path, "test", limit=1)
        _check_modes(config, images)
        height, width, channels = images.shape[1:]
        frame = 2 * config.pictures.pad
        shape = height + frame, width + frame, channels
        with checks.named("config.net"):
            make_net(config, shape)


def fingerprint(config: config_dict.ConfigDict) -> str:
    """Return what the run reads from disk, "" for nothing."""
    from dfx.runs.fingerprint import of_sets

    names = (config.pictures.name,) if "nets" in config.parts else ()
    return of_sets(names, config.data.path)


def _check_lists(config) -> None:
    """What the analysis rests on is in the lists."""
    last, steps = config.train.snapshots[-1], config.train.num_steps
    allowed = f"numbers below train.num_steps = {steps}"
    checks.require(last < steps, "config.train.snapshots", config.train.snapshots, allowed)
    for name in ("explained.levels", "explained.training_levels"):
        given = checks.value_of(config, name)
        checks.require(0.5 in given, f"config.{name}", given, "any levels, with 0.5 among")
    skips, steps = config.teleport.skips, config.teleport.num_steps
    allowed = f"rising numbers from 0 to at most teleport.num_steps - 2 = {steps - 2}"
    fits = skips[0] == 0 and skips[-1] <= steps - 2
    checks.require(fits, "config.teleport.skips", skips, allowed)
    modes, count = config.kicks.modes, config.paths.num_modes
    checks.require(modes[-1] <= count, "config.kicks.modes", modes, f"numbers from 1 to {count}")


def _check_modes(config, images) -> None:
    """There are as many points and directions as are asked for."""
    given, most = config.models.num_modes, len(images)
    allowed = f"numbers up to {most}, that of the pictures"
    checks.require(given[-1] <= most, "config.models.num_modes", given, allowed)
    # Some pixels are the same in all pictures: modes along them have no variance.
    given, most = config.paths.num_modes, min(most - 1, (images != images[0]).any(0).sum())
    allowed = f"at most {most}, the directions in which the pictures vary"
    checks.require(given <= most, "config.paths.num_modes", given, allowed)
