"""Is the learned field a score: how far from a gradient, and which part of its error does harm.

    dfx run score_or_flow           every part, 3 seeds, under 12 minutes on two cores
    dfx run score_or_flow:smoke     every part at toy size, under a minute, nearly all compiling
    dfx run score_or_flow:paper     wider nets, 5 seeds, finer grids, on an accelerator
    dfx run score_or_flow:pod       20 seeds

Parts: "identities" (gradient flows and rates of relative entropy by quadrature, losses that are one
loss), "errors" (exact scores with planted errors), "toy" (trained nets in two dimensions) and
"pictures". Pictures are the 8x8 digits that come with scikit-learn, or with
--config.pictures.name=mnist (cifar10) and --config.data.path=FOLDER, or the environment variable
DFX_DATA, those of the standard files.

Source: Vuong, McCann, Santos, Lin (2025), arXiv 2509.00336.
"""

import os
from typing import Any

from ml_collections import config_dict

from dfx.runs import checks

SIZES = ("smoke", "default", "paper", "pod")
PARTS = ("identities", "errors", "toy", "pictures")
KINDS = ("free", "conservative", "regularised")
PICTURES = ("digits", "mnist", "fashion_mnist", "cifar10")


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
        # Noise levels sigma / alpha, equally spaced in their logarithm; the last is where samples
        # are compared. The schedule is linear VP with beta from 0.1 to 20.
        levels=dict(low=0.02, high=100.0, count=20),
        # Laws by quadrature: cells an axis, Runge-Kutta steps of equal log-SNR, and the relative
        # step of the difference quotient in t; sizes of the planted errors c A s and c grad u.
        rates=dict(
            cells=32,
            steps=100,
            step=0.04,
            levels=(0.05, 0.15, 0.4, 1.0, 3.0),
            gauge=1.0,
            gradient=0.1,
        ),
        # One eps-net trained by three losses.
        losses=dict(num_steps=300, batch_size=256),
        # Planted errors of size c |s|; twin: the size at which a harmful error has the asymmetry
        # of the harmless one as well. num_sets independent sets of samples, in place of seeds:
        # nothing is trained here, and W_2 varies by a third from set to set.
        errors=dict(
            sizes=(0.0, 0.5, 1.0, 4.0),
            twin=0.5,
            num_steps=250,
            nfe=(10, 20, 50, 100),
            num_sets=20,
            num_samples=500,
            num_points=4000,
        ),
        toy=dict(
            kinds=KINDS,
            width=64,
            depth=3,
            num_steps=4000,
            batch_size=256,
            learning_rate=2e-3,
            chunk=100,
            snapshots=(0, 100, 300, 1000, 2500),
            regulariser=dict(weight=0.1, num_points=64),
            num_points=1000,
            num_loops=40,
            radii=(0.01, 0.1, 0.5),
            num_samples=1500,
            num_cells=160,  # along an axis, of the grid on which errors are split
        ),
        pictures=dict(
            name="digits",
            limit=10_000,
            num_steps=1500,
            batch_size=64,
            learning_rate=2e-3,
            chunk=20,
            net=dict(patch=2, width=48, depth=2, heads=4),
            levels=(0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0),
            num_points=32,
            num_probes=16,
            num_planes=8,
            sample_steps=50,
        ),
        data=dict(path=os.environ.get("DFX_DATA", "")),
    )


_CHANGES: dict[str, dict[str, Any]] = {
    "default": {},
    "smoke": dict(
        num_seeds=2,
        levels=dict(count=4),
        rates=dict(cells=16, steps=10, levels=(0.4, 3.0)),
        losses=dict(num_steps=5, batch_size=16),
        errors=dict(num_steps=40, nfe=(10,), num_sets=2, num_samples=100, num_points=100),
        toy=dict(
            kinds=("free", "conservative"),
            width=16,
            depth=1,
            num_steps=20,
            chunk=10,
            batch_size=32,
            snapshots=(0,),
            num_points=100,
            num_loops=4,
            num_samples=100,
            num_cells=20,
        ),
        pictures=dict(
            limit=200,
            num_steps=4,
            chunk=2,
            batch_size=8,
            net=dict(width=16, depth=1, heads=2),
            levels=(0.2, 1.0),
            num_points=8,
            num_probes=2,
            num_planes=2,
            sample_steps=4,
        ),
    ),
    "paper": dict(
        num_seeds=5,
        rates=dict(cells=96, steps=160, levels=(0.03, 0.05, 0.1, 0.15, 0.25, 0.4, 1.0, 2.0, 5.0)),
        losses=dict(num_steps=1000),
        errors=dict(
            sizes=(0.0, 0.25, 0.5, 1.0, 2.0, 4.0),
            num_steps=1000,
            nfe=(10, 20, 50, 100, 200),
            num_samples=5000,
            num_points=20_000,
        ),
        toy=dict(
            width=128,
            num_steps=20_000,
            batch_size=1024,
            learning_rate=1e-3,
            snapshots=(0, 100, 300, 1000, 3000, 10_000),
            num_points=4000,
            num_loops=200,
            num_samples=5000,
            num_cells=240,
        ),
        pictures=dict(
            limit=50_000,
            num_steps=100_000,
            batch_size=256,
            learning_rate=3e-4,
            net=dict(width=192, depth=8, heads=6),
            num_points=512,
            num_planes=32,
        ),
    ),
}
_CHANGES["pod"] = {**_CHANGES["paper"], "num_seeds": 20}

_CHOICES = {"parts": PARTS, "toy.kinds": KINDS, "pictures.name": PICTURES}
_RISING = ("rates.levels", "pictures.levels", "toy.snapshots", "errors.sizes")
_RANGES = {
    "levels.count": (3, 1000),
    # The nets see log-SNR of levels down to t = 0.001, sigma / alpha = 0.0105; t = 1 is 152.
    "levels.low": (0.0105, 1.0),
    "levels.high": (2.0, 150.0),
    "rates.levels": (0.0105, 100.0),
    "rates.step": (1e-3, 0.1),
    "rates.cells": (8, 400),
    # At size 1 the only other error of equal size and asymmetry is minus the score.
    "errors.twin": (0.01, 0.9),
    "pictures.levels": (1e-3, 100.0),
    "pictures.num_probes": (2, 10_000),
    # Of one there is no mean with an error.
    "errors.num_points": (2, 100_000_000),
    "toy.num_points": (2, 100_000_000),
    "toy.num_cells": (2, 10_000),
    "toy.radii": (1e-4, 10.0),
    "errors.sizes": (0.0, 1000.0),
    "rates.gauge": (1e-6, 100.0),
    "rates.gradient": (1e-6, 1.0),
}


def validate(config: config_dict.ConfigDict) -> None:
    """Check ranges and choices, and that the pictures are there.

    Raises:
      ConfigError: a setting out of its range, in one line.
      DataError: no such data set where the path points, or a torn file.
    """
    checks.choices(config, _CHOICES)
    checks.signs(config, zero=("errors.sizes", "toy.snapshots"))
    checks.seeds(config, "num_seeds", "errors.num_sets")
    checks.ranges(config, _RANGES)
    checks.rising(config, *_RISING)
    checks.rising(config, "toy.radii", least=2, allowed="two rising numbers or more")
    _check_lists(config)
    if "pictures" in config.parts:
        from dfx import data  # here: they import JAX, which the other checks can do without
        from experiments.shared.picture_nets import make_net

        one = data.load(config.pictures.name, config.data.path or None, "train", limit=1)
        with checks.named("config.pictures.net"):
            make_net(config.pictures.net, one.images.shape[1:])


def fingerprint(config: config_dict.ConfigDict) -> str:
    """Return what the run reads from disk, "" for nothing."""
    from dfx.runs.fingerprint import of_sets

    names = (config.pictures.name,) if "pictures" in config.parts else ()
    return of_sets(names, config.data.path)


def _check_lists(config) -> None:
    """What the analysis rests on is in the lists."""
    sizes, kinds = config.errors.sizes, config.toy.kinds
    needed = 0.0 in sizes and config.errors.twin in sizes
    checks.require(needed, "config.errors.sizes", sizes, "numbers with 0 and the twin's among")
    both = "free" in kinds and "conservative" in kinds
    checks.require(both, "config.toy.kinds", kinds, "free and conservative, perhaps regularised")
    last, steps = config.toy.snapshots[-1], config.toy.num_steps
    checks.require(last < steps, "config.toy.snapshots", config.toy.snapshots, f"below {steps}")
