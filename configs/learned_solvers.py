"""Samplers that are fitted: how far below the best published ones, and on what they still work.

    dfx run learned_solvers           three fields, 3 to 20 evaluations; ten minutes on two cores
    dfx run learned_solvers:smoke     every part at toy size, under a minute
    dfx run learned_solvers:paper     more starts and updates
    dfx run learned_solvers:pod       the same, more starts to judge on

Fields: "public", five Gaussians on which public packages were measured; "grid", 25 modes; "digits",
a net trained on the 8x8 digits that come with scikit-learn, or on MNIST with
--config.data.path=FOLDER or the environment variable DFX_DATA. Samplers fitted on some starts are
judged on others, those of "public" also on other mixtures.

Sources: Shaul et al. (2023), bespoke solvers; Duan et al. (2023), least squares; those of the
published solvers (`dfx solvers`).
"""

import os
from typing import Any

from ml_collections import config_dict

from dfx.runs import checks

SIZES = ("smoke", "default", "paper", "pod")
PROBLEMS = ("public", "grid", "digits")
WAYS = ("descend", "coefficients", "least_squares")


def get_config(size: str = "default") -> config_dict.ConfigDict:
    """Return the config of one size."""
    config = _default()
    config.update(_CHANGES[size])
    return config


def _default() -> config_dict.ConfigDict:
    return config_dict.create(
        seed=0,
        problems=PROBLEMS,
        budgets=(3, 5, 7, 10, 20),
        noise=80.0,  # sigma / alpha of the start; the public problem has its own
        tolerance=1e-9,  # of the exact ends
        fit=dict(
            ways=WAYS,
            num_starts=256,
            num_updates=500,
            learning_rate=1e-2,
            depth=3,  # evaluations back that a step may use
            exponent=1.5,  # of the grid where the fit begins
        ),
        # Errors are averaged over each set of other starts; the sets give the interval.
        judge=dict(num_sets=4, num_starts=64, num_mixtures=12),
        net=dict(width=128, depth=3, num_steps=6000, batch_size=128, learning_rate=1e-3, chunk=100),
        data=dict(path=os.environ.get("DFX_DATA", "")),
    )


_CHANGES: dict[str, dict[str, Any]] = {
    "default": {},
    "smoke": dict(
        problems=("public", "digits"),
        budgets=(3, 5),
        tolerance=1e-6,
        fit=dict(num_starts=32, num_updates=20),
        judge=dict(num_starts=8, num_mixtures=2),
        net=dict(width=32, depth=1, num_steps=100, chunk=50),
    ),
    "paper": dict(
        fit=dict(num_starts=1024, num_updates=5000),
        judge=dict(num_sets=8, num_starts=256, num_mixtures=50),
        net=dict(num_steps=50_000),
    ),
}
_CHANGES["pod"] = {
    **_CHANGES["paper"],
    "judge": dict(num_sets=64, num_starts=256, num_mixtures=200),
}


_RANGES = {
    "budgets": (2, 1000),  # a fit needs two steps
    "noise": (1.0, 150.0),
    "tolerance": (1e-12, 1e-4),
    "fit.depth": (1, 1000),
    "fit.exponent": (0.1, 20.0),  # steps of a larger power of the time vanish beside the first
    "fit.learning_rate": (1e-9, 10.0),
}


def validate(config: config_dict.ConfigDict) -> None:
    """Check ranges and choices, and that the data are there and whole.

    Raises:
      ConfigError: a setting out of its range, in one line.
      DataError: no MNIST where the path points, or a torn file.
    """
    checks.choices(config, {"problems": PROBLEMS, "fit.ways": WAYS})
    checks.signs(config)
    checks.seeds(config, "judge.num_sets", "judge.num_mixtures")
    checks.ranges(config, _RANGES)
    checks.rising(config, "budgets")
    few = config.budgets[0] <= 10  # samplers are compared at these
    checks.require(few, "config.budgets", config.budgets, "rising numbers, with one up to 10 among")
    ways = config.fit.ways
    allowed = "any ways, with descend among, which figures show"
    checks.require("descend" in ways, "config.fit.ways", ways, allowed)
    if "digits" in config.problems and config.data.path:
        from dfx import data  # here: it imports JAX, which the other checks can do without

        for split in ("train", "test"):
            data.load("mnist", config.data.path, split, limit=1)


def fingerprint(config: config_dict.ConfigDict) -> str:
    """Return what the run reads from disk, "" for nothing."""
    from dfx.runs.fingerprint import of_sets

    names = ("mnist",) if "digits" in config.problems and config.data.path else ()
    return of_sets(names, config.data.path)
