"""Learning subspaces: how many samples a low-rank denoiser needs, and what its Jacobian shows.

    dfx run subspace_clustering           every part, 24 minutes of CPU on two cores
    dfx run subspace_clustering:smoke     every part at toy size, under a minute
    dfx run subspace_clustering:paper     full grids, longer trainings, on an accelerator
    dfx run subspace_clustering:pod       100 seeds a cell, spread over the devices of a pod

Parts: "maps" (recovery over samples and dimension, by PCA, K-subspaces and trained low-rank nets),
"laws" (identities, the cost of hard labels, PCA with noise, the angle between subspaces), "nets"
(perceptrons on the same data: when they generalise, the rank of their Jacobian, edits) and
"pictures" (rank and edits of nets on pictures). Pictures are the 8x8 digits that come with
scikit-learn; where the environment variable DFX_DATA names a folder with the standard files, MNIST
and CIFAR-10 too, which take some six minutes more. To choose: --config.data.path=FOLDER
--config.pictures.names="('mnist',)".

Left out: the generalisation of U-Nets on CIFAR-10, CelebA, FFHQ and AFHQ over N (SSCD features and
long trainings of many nets), the transition on the union of subspaces with a U-Net (perceptrons
stand in), edits of faces from DDIM inversion and inside a mask (pretrained nets; the papers print
no score of them), and theorem 2's bound from below, which is on some minimiser of the loss.

Source: Wang, Zhang, Zhang, Chen, Ma, Qu (2024), arXiv 2409.02426.
"""

import math
import os
from typing import Any

from ml_collections import config_dict

from dfx.runs import checks

SIZES = ("smoke", "default", "paper", "pod")
PARTS = ("maps", "laws", "nets", "pictures")
PICTURES = ("digits", "mnist", "cifar10", "fashion_mnist")
_PATH = os.environ.get("DFX_DATA", "")


def get_config(size: str = "default") -> config_dict.ConfigDict:
    """Return the config of one size."""
    config = _default()
    config.update(_CHANGES[size])
    return config


def _default() -> config_dict.ConfigDict:
    return config_dict.create(
        seed=0,
        parts=PARTS,
        dim=48,
        # Projection distance below which all subspaces count as found; the paper's is not known.
        tolerance=0.5,
        laws=dict(
            num_seeds=20,
            # Hard against soft weights: draws a seed.
            levels=(0.1, 0.3, 1.0, 3.0),
            num_draws=4096,
            # PCA with noise of this size a coordinate at n = `dim`, and of the same total energy at
            # the larger n.
            noise=0.02,
            noise_dims=(2, 4, 6, 8),
            noise_counts=(2, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16),
            noise_seeds=200,
            large_dim=480,
            # Two subspaces of dimension 3 at these principal angles, in degrees.
            angles=(5.0, 10.0, 20.0, 30.0, 45.0, 60.0, 75.0, 90.0),
            angle_counts=(4, 6, 15),
            angle_seeds=40,
        ),
        # A map: recovery by dimension d and samples N of each subspace; num_seeds problems a cell.
        maps=dict(
            dims=(2, 3, 4, 5, 6, 7, 8),
            counts=(2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
            num_seeds=20,
            pca_seeds=200,
            # K-subspaces solver: best of so many uniform starts (two subspaces), and of so many
            # through random points (two and three subspaces, on fewer cells).
            restarts=(40, 20),
            points=dict(dims=(2, 4, 6, 8), counts=(2, 3, 4, 5, 6, 7, 8, 9, 10, 12)),
            # Low-rank nets; the first by one subspace, the second by two.
            one=dict(num_steps=1000, batch_size=32, learning_rate=0.05),
            two=dict(
                dims=(2, 3, 4),
                counts=(2, 3, 4, 6, 8, 10, 15, 20, 30),
                num_steps=1000,
                batch_size=32,
                learning_rate=0.05,
                restarts=2,
            ),
            chunk=50,
        ),
        nets=dict(
            num_seeds=20,
            dims=(2, 4, 6),
            ratios=(5, 15, 60, 120),
            width=128,
            depth=2,
            num_steps=5000,
            batch_size=64,
            learning_rate=4e-3,
            chunk=50,
            num_samples=128,
            sample_steps=18,
            # A sample is new beyond this share of the median distance of fresh data to the
            # training set, and in place within this relative distance of the nearest subspace.
            new=0.5,
            near=0.25,
            # The Jacobian's rank: dimension of the two subspaces, samples of each, noise levels.
            rank=dict(dim=7, count=420, num_points=8, levels=(0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 20.0)),
        ),
        # Settings of each set by its name; all Jacobians are exact.
        pictures=dict(
            names=PICTURES[:1] if not _PATH else PICTURES[:3],
            limit=10_000,
            num_seeds=3,
            learning_rate=2e-3,
            chunk=20,
            # Both ends, and between them t from 0.2 to 0.7 of linear VP, where ranks are small.
            levels=(0.05, 0.7, 2.0, 10.0, 100.0),
            edit_level=1.0,
            strengths=(-6.0, -3.0, 0.0, 3.0, 6.0),
            sample_steps=20,
            digits=dict(
                patch=2, width=48, depth=2, heads=4, num_steps=1200, batch_size=64, num_points=16
            ),
            mnist=dict(
                patch=4, width=64, depth=2, heads=4, num_steps=1000, batch_size=32, num_points=2
            ),
            cifar10=dict(
                patch=4, width=64, depth=2, heads=4, num_steps=700, batch_size=32, num_points=1
            ),
            fashion_mnist=dict(
                patch=4, width=64, depth=2, heads=4, num_steps=1000, batch_size=32, num_points=2
            ),
        ),
        data=dict(path=_PATH),
    )


_CHANGES: dict[str, dict[str, Any]] = {
    "default": {},
    # Few shapes: what is drawn, solved and trained is one program for several parts.
    "smoke": dict(
        laws=dict(
            num_seeds=4,
            num_draws=64,
            noise_dims=(2, 3),
            noise_counts=(2, 3, 4),
            noise_seeds=8,
            large_dim=48,
            angles=(30.0, 90.0),
            angle_counts=(2, 3, 4),
            angle_seeds=4,
        ),
        maps=dict(
            dims=(2, 3),
            counts=(2, 3, 4),
            num_seeds=4,
            pca_seeds=4,
            restarts=(3, 3),
            points=dict(dims=(3,), counts=(2, 3, 4)),
            one=dict(num_steps=20, batch_size=8),
            two=dict(dims=(2, 3), counts=(2, 3, 4), num_steps=20, batch_size=8, restarts=1),
            chunk=10,
        ),
        nets=dict(
            num_seeds=2,
            dims=(2, 4),
            ratios=(5, 15),
            width=16,
            depth=1,
            num_steps=20,
            batch_size=16,
            chunk=10,
            num_samples=16,
            sample_steps=4,
            rank=dict(dim=3, count=30, num_points=4, levels=(0.2, 5.0)),
        ),
        pictures=dict(
            names=("digits",),
            limit=200,
            num_seeds=2,
            chunk=2,
            levels=(0.2, 5.0, 100.0),
            sample_steps=4,
            digits=dict(width=16, depth=1, heads=2, num_steps=4, batch_size=8, num_points=4),
        ),
    ),
    "paper": dict(
        laws=dict(num_draws=65_536, noise_seeds=1000),
        maps=dict(
            num_seeds=50,
            pca_seeds=1000,
            restarts=(100, 100),
            points=dict(dims=(2, 3, 4, 5, 6, 7, 8), counts=tuple(range(2, 16))),
            one=dict(num_steps=10_000, batch_size=64),
            two=dict(
                dims=(2, 3, 4, 5, 6, 7, 8),
                counts=(*range(2, 16), 20, 30, 45, 60),
                num_steps=10_000,
                batch_size=64,
                restarts=5,
            ),
        ),
        nets=dict(
            dims=(2, 3, 4, 5, 6),
            ratios=(2, 5, 10, 15, 30, 60, 120, 240),
            width=512,
            depth=3,
            num_steps=50_000,
            batch_size=512,
            learning_rate=1e-3,
            num_samples=2048,
            rank=dict(num_points=64),
        ),
        pictures=dict(
            limit=50_000,
            learning_rate=3e-4,
            **{
                name: dict(
                    width=192, depth=8, heads=6, num_steps=100_000, batch_size=256, num_points=16
                )
                for name in PICTURES
            },
        ),
    ),
}
_PAPER_MAPS = _CHANGES["paper"]["maps"]
_CHANGES["pod"] = {**_CHANGES["paper"], "maps": {**_PAPER_MAPS, "num_seeds": 100}}

_CHOICES = {"parts": PARTS, "pictures.names": PICTURES}
_LEVELS = (1e-3, 150.0)  # the linear VP schedule ends at sigma / alpha = 152
_RANGES = {
    "laws.angles": (1.0, 90.0),
    "pictures.levels": _LEVELS,
    "pictures.edit_level": _LEVELS,
    "laws.levels": _LEVELS,
}
_RISING = (
    "laws.noise_dims",
    "laws.noise_counts",
    "laws.angles",
    "laws.angle_counts",
    "maps.dims",
    "maps.counts",
    "maps.points.dims",
    "maps.points.counts",
    "maps.two.dims",
    "maps.two.counts",
    "nets.rank.levels",
    "pictures.levels",
    "pictures.strengths",
)


def validate(config: config_dict.ConfigDict) -> None:
    """Check ranges and choices, and that the pictures are there.

    Raises:
      ConfigError: a setting out of its range, in one line.
      DataError: no such data set where the path points, or a torn file.
    """
    checks.choices(config, _CHOICES)
    checks.signs(config, free=("pictures.strengths",))
    checks.seeds(config, *(f"{part}.num_seeds" for part in PARTS))
    checks.ranges(config, _RANGES)
    checks.rising(config, *_RISING)
    allowed = "two rising numbers or more"  # curves of several are compared
    checks.rising(config, "nets.dims", "nets.ratios", least=2, allowed=allowed)
    given = config.maps.restarts
    checks.require(len(given) == 2, "config.maps.restarts", given, "two: uniform, through points")
    _check_room(config)
    if "pictures" in config.parts:
        from dfx import data  # here: they import JAX, which the other checks can do without
        from experiments.shared.picture_nets import make_net

        for name in config.pictures.names:
            one = data.load(name, config.data.path or None, "train", limit=1)
            with checks.named(f"config.pictures.{name}"):
                make_net(config.pictures[name], one.images.shape[1:])


def fingerprint(config: config_dict.ConfigDict) -> str:
    """Return what the run reads from disk, "" for nothing."""
    from dfx.runs.fingerprint import of_sets

    names = config.pictures.names if "pictures" in config.parts else ()
    return of_sets(names, config.data.path)


def _check_room(config) -> None:
    """The subspaces fit into the space, and both sides of a fitted line have cells."""
    factors = {
        "maps.dims": 2,
        "maps.points.dims": 3,
        "maps.two.dims": 2,
        "nets.dims": 2,
        "nets.rank.dim": 2,
        "laws.noise_dims": 1,
    }
    checks.ranges(config, {name: (1, config.dim // of) for name, of in factors.items()})
    # Claims are on success at N = d, at d + 1 and below d.
    for name in ("maps", "maps.points"):
        dims, counts = (checks.value_of(config, f"{name}.{of}") for of in ("dims", "counts"))
        edge = any(d in counts for d in dims) and any(d + 1 in counts for d in dims)
        allowed = f"rising numbers, with d and d + 1 for a d of {name}.dims and one below its last"
        holds = edge and counts[0] < dims[-1]
        checks.require(holds, f"config.{name}.counts", counts, allowed)
    # Of each d, errors are fitted over the numbers from d on.
    counts, last = config.laws.noise_counts, config.laws.noise_dims[-1]
    fits = len(counts) > 1 and counts[-2] >= last
    allowed = f"rising numbers, two of them at least laws.noise_dims' last, {last}"
    checks.require(fits, "config.laws.noise_counts", counts, allowed)
    # Three subspaces at an angle need a common part of dimension 3, two labelled laws 14.
    checks.in_range("config.dim", config.dim, 16, 10_000)
    checks.in_range("config.laws.large_dim", config.laws.large_dim, config.dim, 10_000)
    # Perceptrons see x0 and the noise sqrt(n / d) times as large.
    most = 150.0 / math.sqrt(config.dim / config.nets.rank.dim)
    checks.in_range("config.nets.rank.levels", config.nets.rank.levels, 1e-3, most)
