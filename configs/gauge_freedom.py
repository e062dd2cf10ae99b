"""Score errors that change no law: gauge fields, conservative nets and the intrinsic dimension.

    dfx run gauge_freedom           all parts, 7 minutes on two cores
    dfx run gauge_freedom:smoke     every part at toy size, under a minute, nearly all compiling
    dfx run gauge_freedom:paper     larger nets, longer trained, on an accelerator
    dfx run gauge_freedom:pod       20 seeds, spread over the devices of a pod

Parts: "exact", closed-form scores with planted errors on a 2-D mixture, and the orthogonal split of
fields; "nets", the gauge part of trained nets' errors; "dimension", the intrinsic dimension read
off conservative, free and projected nets.

Source: Horvat, Pfister (2024), arXiv 2402.03845. Set-ups the paper leaves open are chosen here.
"""

import itertools
from typing import Any

from ml_collections import config_dict

from dfx.runs import checks

SIZES = ("smoke", "default", "paper", "pod")
PARTS = ("exact", "nets", "dimension")
MANIFOLDS = ("plane5", "circle3", "sphere3", "roll3", "sphere5", "roll5")


def get_config(size: str = "default") -> config_dict.ConfigDict:
    """Return the config of one size."""
    config = _default()
    config.update(_CHANGES[size])
    return config


def _default() -> config_dict.ConfigDict:
    return config_dict.create(
        seed=0,
        parts=PARTS,
        schedule=dict(beta_min=0.1, beta_max=20.0),
        exact=dict(
            num_seeds=8,
            num_samples=800,  # of a set; two such draws of the law are about 0.17 apart in W2
            # c: gauge and gradient errors have E|r|^2 = c^2 E|s|^2.
            sizes=(0.02, 0.1, 0.5, 2.0, 5.0),
            stops=(0.5, 0.1, 0.001),  # times at which the marginals are compared
            ode_steps=50,  # RK4, from stop to stop
            sde_steps=100,  # SA-Solver, from stop to stop
        ),
        density=dict(num_points=256, steps=(25, 50, 100, 200, 400)),
        # Radii under a rotation of angular speed `speed` over unit time.
        rotation=dict(speed=5.0, steps=(10, 20, 50, 100, 1000)),
        evaluations=dict(size=2.0, budgets=(16, 32, 64, 128, 256, 512)),
        # A fit takes up (features / samples) of the remainder: many samples for the fit.
        split=dict(
            dims=(2, 5),
            num_seeds=8,
            num_fit=100_000,
            num_judge=20_000,
            num_features=200,
            times=(0.5, 0.2, 0.05, 0.01),
            gauge=0.5,
            gradient=0.3,
        ),
        nets=dict(
            num_seeds=3,
            width=64,
            depth=3,
            num_steps=5000,
            batch_size=512,
            learning_rate=2e-3,
            chunk=100,
            num_levels=24,
            num_features=300,
            num_fit=20_000,
            num_judge=20_000,
            num_cells=160,  # along an axis, of the grid on which the split is exact
            num_steps_ode=60,
            num_points=512,
        ),
        dimension=dict(
            manifolds=MANIFOLDS,
            num_seeds=3,
            width=64,
            depth=3,
            num_steps=3000,
            batch_size=256,
            learning_rate=2e-3,
            chunk=50,
            penalty=1.0,
            penalty_points=64,
            gauge=1.0,
            num_points=100,
            last_time=0.001,
            num_times=12,
        ),
    )


_CHANGES: dict[str, dict[str, Any]] = {
    "default": {},
    "smoke": dict(
        exact=dict(num_seeds=2, num_samples=100, sizes=(0.5, 2.0), stops=(0.3, 0.01), ode_steps=10,
                   sde_steps=10),
        density=dict(num_points=16, steps=(10, 20, 40)),
        rotation=dict(steps=(10, 20)),
        evaluations=dict(budgets=(16, 32)),
        split=dict(num_seeds=2, num_fit=200, num_judge=200, num_features=20, times=(0.2,)),
        nets=dict(num_seeds=2, width=16, num_steps=20, batch_size=32, chunk=10, num_levels=3,
                  num_features=20, num_fit=200, num_judge=200, num_cells=20, num_steps_ode=4,
                  num_points=8),
        dimension=dict(manifolds=("plane3",), num_seeds=2, width=16, num_steps=20,
                       batch_size=16, chunk=10, penalty_points=8, num_points=4, last_time=0.01,
                       num_times=2),
    ),
    "paper": dict(
        exact=dict(num_seeds=20, num_samples=2000),
        split=dict(num_seeds=20, num_fit=400_000),
        nets=dict(num_seeds=5, width=256, num_steps=50_000, batch_size=2048, learning_rate=1e-3,
                  num_fit=100_000, num_points=2048, num_cells=240),
        dimension=dict(num_seeds=5, width=256, num_steps=50_000, batch_size=1024,
                       learning_rate=1e-3, num_times=24),
    ),
}  # fmt: skip
_SEEDED = ("exact", "split", "nets", "dimension")
_CHANGES["pod"] = {part: {**_CHANGES["paper"][part], "num_seeds": 20} for part in _SEEDED}

_RISING = ("exact.sizes", "rotation.steps", "evaluations.budgets")
_RANGES = {
    "exact.stops": (1e-4, 0.99),
    "split.times": (1e-4, 0.99),
    "split.dims": (2, 100),
    "nets.num_levels": (2, 1000),
    "dimension.last_time": (1e-4, 0.5),
    # At t = 1 nearly all is noise, and float32 still tells the levels of its end apart.
    "schedule.beta_min": (1e-3, 10.0),
    "schedule.beta_max": (5.0, 100.0),
    "exact.sizes": (1e-4, 1000.0),
    "evaluations.size": (1e-4, 1000.0),
    "rotation.speed": (1e-2, 100.0),
    "exact.num_samples": (2, 1_000_000),
    # A mean has no error without a second draw.
    "split.num_judge": (2, 100_000_000),
    "nets.num_judge": (2, 100_000_000),
    "nets.num_cells": (2, 10_000),
}


def validate(config: config_dict.ConfigDict) -> None:
    """Check ranges, choices and orders.

    Raises:
      ConfigError: a setting out of its range, in one line.
    """
    checks.signs(config)
    checks.choices(config, {"parts": PARTS, "dimension.manifolds": _manifolds()})
    checks.seeds(config, *(f"{part}.num_seeds" for part in _SEEDED))
    checks.ranges(config, _RANGES)
    _check_order(config)
    fours = all(budget % 4 == 0 for budget in config.evaluations.budgets)
    checks.require(fours, "config.evaluations.budgets", config.evaluations.budgets,
                   "multiples of 4, the evaluations of a step of RK4")  # fmt: skip
    steps = config.density.steps
    whole = all(number % steps[0] == 0 for number in steps)
    checks.require(whole, "config.density.steps", steps, "multiples of the first")


def _manifolds():
    from experiments.gauge_freedom.manifolds import ALL  # here: it imports JAX

    return ALL


def _check_order(config) -> None:
    for name in ("exact.stops", "split.times"):
        times = checks.value_of(config, name)
        falling = len(times) > 0 and all(a > b for a, b in itertools.pairwise(times))
        checks.require(falling, f"config.{name}", times, "falling times")
    checks.rising(config, *_RISING, least=2, allowed="two rising numbers or more")
    # Of two points the line has no interval.
    checks.rising(config, "density.steps", least=3, allowed="three rising numbers or more")
