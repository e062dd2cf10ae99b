"""Guidance with exact scores: which law it samples, and which solvers bear a large weight.

    dfx run guided_sampling           all parts, 5 seeds, 3 to 5 minutes on two cores
    dfx run guided_sampling:smoke     every part at toy size, under half a minute
    dfx run guided_sampling:paper     more samples, weights and steps, hours on two cores
    dfx run guided_sampling:pod       the same with 20 seeds

Parts: (a) solvers on the guided field at large weights, (b) the law of guidance by ODE and SDE
against the tilted law, and Langevin corrections, (c) CFG++ and the weights it amounts to, (d)
guidance in an interval, and autoguidance.

Left out: adaptive guidance and its linear replacement of a field (fewer evaluations, not another
law), minority guidance (a classifier of rarity by learned features), energies plugged into the step
(Steered Diffusion, FlowChef: inverse problems); of CFG++ the diversity of its samples, and all
FIDs, which need trained nets.

Sources: Lu et al. 2022b (DPM-Solver++); Bradley & Nakkiran 2024; Chung et al. 2024 (CFG++);
Kynkäänniemi et al. 2024 (interval); Karras et al. 2024 (autoguidance).
"""

from __future__ import annotations

import math
from typing import Any

from ml_collections import config_dict

from dfx.runs import checks

SIZES = ("smoke", "default", "paper", "pod")
LAWS = ("grid", "low_rank")
SPACINGS = ("uniform", "uniform_log_snr")  # of the times; the first is that of Lu et al.


def get_config(size: str = "default") -> config_dict.ConfigDict:
    """Return the config of one size."""
    config = _default()
    config.update(_CHANGES[size])
    return config


def _default() -> config_dict.ConfigDict:
    return config_dict.create(
        seed=0,
        num_seeds=5,
        # Claims are judged at `weight` and `budget`, the scale and the number of evaluations of
        # figure 1 of Lu et al. 2022b. num_samples: of each class and seed, by law.
        stability=dict(
            laws=LAWS,
            spacings=SPACINGS,
            weights=(1.0, 2.0, 4.0, 8.0, 12.0),
            evaluations=(10, 15, 20, 30, 50),
            weight=8.0,
            budget=15,
            num_samples=dict(grid=16, low_rank=3),
            end=1e-3,
            tolerance=1e-9,
        ),
        # start_noise: sigma / alpha from which the flow starts where it does not from infinity.
        tilt=dict(
            weights=(1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0),
            noise_points=401,
            start_noise=40.0,
            num_samples=10_000,
            sde_steps=300,
        ),
        pair=dict(mean=1.0, variance=1.0, wide=4.0, weights=(1.5, 2.0, 4.0)),
        corrector=dict(weight=4.0, levels=100, corrections=(0, 1, 2, 4, 8, 16), doublings=11),
        cfgpp=dict(
            scale=0.6,
            steps=(10, 20, 50, 100, 200, 500, 1000),
            scales=(0.2, 0.4, 0.6, 0.8, 1.0),
            weights=(1.0, 2.0, 4.0, 7.5, 12.5),
            round_trip_steps=(20, 50, 100),
            num_samples=200,
        ),
        interval=dict(weight=4.0, edges=(0.3, 2.0), smallest=0.04, width=1.7),
        # blurs: of the good and the bad field, in units of the variance of a component.
        autoguidance=dict(blurs=(0.1, 0.3), largest_weight=3.0, num_weights=21),
    )


_CHANGES: dict[str, dict[str, Any]] = {
    "default": {},
    "smoke": dict(
        num_seeds=2,
        # The other law would compile for a third of the whole time.
        stability=dict(
            laws=("grid",),
            weights=(1.0, 8.0),
            evaluations=(10, 15),
            num_samples=dict(grid=1),
            tolerance=1e-6,
        ),
        tilt=dict(weights=(1.0, 2.0, 4.0), noise_points=101, num_samples=500, sde_steps=60),
        pair=dict(weights=(2.0,)),
        corrector=dict(levels=30, corrections=(0, 2), doublings=6),
        cfgpp=dict(
            steps=(10, 50),
            scales=(0.2, 0.6),
            weights=(1.0, 7.5),
            round_trip_steps=(50,),
            num_samples=20,
        ),
        interval=dict(width=4.0),
        autoguidance=dict(num_weights=5),
    ),
    "paper": dict(
        num_seeds=10,
        stability=dict(
            weights=(1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0, 12.0, 16.0),
            evaluations=(10, 12, 15, 20, 25, 30, 40, 50),
            num_samples=dict(grid=100, low_rank=20),
            tolerance=1e-10,
        ),
        tilt=dict(noise_points=801, num_samples=20_000, sde_steps=1000),
        pair=dict(weights=(1.25, 1.5, 2.0, 3.0, 4.0)),
        corrector=dict(levels=400, corrections=(0, 1, 2, 4, 8, 16, 32)),
        cfgpp=dict(num_samples=1000),
        interval=dict(width=1.25),
        autoguidance=dict(num_weights=81),
    ),
}
_CHANGES["pod"] = {**_CHANGES["paper"], "num_seeds": 20}

_RISING = (
    "stability.weights",
    "stability.evaluations",
    "tilt.weights",
    "cfgpp.steps",
    "cfgpp.round_trip_steps",
    "cfgpp.scales",
    "cfgpp.weights",
    "interval.edges",
    "autoguidance.blurs",
)
_RANGES = {
    # Beyond, the adaptive solve to compare with runs out of steps.
    "stability.weights": (0.1, 100.0),
    "stability.evaluations": (6, 1000),
    "stability.num_samples.grid": (1, 1_000_000),
    "stability.num_samples.low_rank": (1, 1_000_000),
    "stability.end": (1e-6, 0.1),
    "stability.tolerance": (1e-13, 1e-3),
    "tilt.weights": (1.0, 12.0),  # the density's grid
    "tilt.noise_points": (51, 100_001),
    "tilt.start_noise": (1.0, 100.0),  # where the schedule of the corrector ends
    "tilt.num_samples": (2, 10_000_000),  # of one there is no variance
    "tilt.sde_steps": (2, 100_000),
    # Solved to 1e-8 absolutely: a smaller law would be error alone.
    "pair.mean": (0.01, 100.0),
    "pair.variance": (0.01, 100.0),
    "pair.wide": (0.01, 1000.0),
    "pair.weights": (1.0, 12.0),
    "corrector.weight": (1.0, 12.0),
    "corrector.levels": (2, 100_000),
    "corrector.corrections": (0, 10_000),
    "corrector.doublings": (1, 20),
    "cfgpp.steps": (2, 1000),  # the table's length
    "cfgpp.round_trip_steps": (2, 1000),
    "cfgpp.scales": (0.01, 2.0),
    "cfgpp.weights": (0.1, 100.0),
    "cfgpp.num_samples": (1, 1_000_000),
    "interval.weight": (1.1, 12.0),  # of 1 there is no shift to compare with
    "interval.smallest": (1e-3, 1.0),
    "interval.width": (1.05, 100.0),
    "autoguidance.blurs": (1e-3, 10.0),
    "autoguidance.largest_weight": (2, 10),
    "autoguidance.num_weights": (5, 10_000),
}
#: Of autoguidance, beyond which the two blurs are nearly one.
_LARGEST_BEST = 20.0


def validate(config: config_dict.ConfigDict) -> None:
    """Check ranges, and that the numbers on which claims are judged are among those computed.

    Raises:
      ConfigError: a setting out of its range, in one line.
    """
    checks.signs(config, zero=("corrector.corrections",))
    checks.choices(config, {"stability.laws": LAWS, "stability.spacings": SPACINGS})
    checks.seeds(config, "num_seeds")
    checks.rising(config, *_RISING)
    allowed = "two rising numbers or more, with 0 among them"
    checks.rising(config, "corrector.corrections", least=2, allowed=allowed)
    checks.ranges(config, _RANGES)
    _check_sizes(config)
    _check_judged(config)


def _check_sizes(config) -> None:
    pair, edges, blurs = config.pair, config.interval.edges, config.autoguidance.blurs
    wider = pair.wide > pair.variance  # otherwise the tilted law has no variance
    checks.require(wider, "config.pair.wide", pair.wide, f"a variance above {pair.variance:g}")
    checks.require(len(edges) == 2, "config.interval.edges", edges, "two noise levels")
    interval, start = config.interval, config.tilt.start_noise
    within = interval.smallest <= edges[0] and edges[1] < start
    allowed = f"two noise levels from interval.smallest = {interval.smallest:g} to below {start:g}"
    checks.require(within, "config.interval.edges", edges, f"{allowed}, tilt.start_noise")
    most = start / interval.smallest  # at least one interval lies in the noise levels
    allowed = f"at most tilt.start_noise / interval.smallest = {most:g}"
    checks.require(interval.width <= most, "config.interval.width", interval.width, allowed)
    checks.require(len(blurs) == 2, "config.autoguidance.blurs", blurs, "two variances")
    best = 1 + math.log1p(blurs[0]) / (math.log1p(blurs[1]) - math.log1p(blurs[0]))
    allowed = f"blurs so far apart that the best weight, here {best:.3g}, is below {_LARGEST_BEST}"
    checks.require(best < _LARGEST_BEST, "config.autoguidance.blurs", blurs, allowed)


def _check_judged(config) -> None:
    """The claims are judged at these; anything may be beside them."""
    stability, corrector, cfgpp = config.stability, config.corrector, config.cfgpp
    for name, needed, asked in (
        ("stability.weights", (1.0, stability.weight), "stability.weight"),
        ("stability.evaluations", (stability.budget,), "stability.budget"),
        ("tilt.weights", (1.0, 2.0, corrector.weight), "corrector.weight"),
        ("corrector.corrections", (0,), ""),
        ("cfgpp.steps", (50,), ""),
        ("cfgpp.round_trip_steps", (50,), ""),
        ("cfgpp.scales", (cfgpp.scale,), "cfgpp.scale"),
        ("cfgpp.weights", (7.5,), ""),
        ("pair.weights", (2.0,), ""),
    ):
        given = checks.value_of(config, name)
        present = all(number in given for number in needed)
        text = " and ".join(f"{number:g}" for number in needed)
        last = f", the last by {asked}" if asked else ""
        allowed = f"any numbers, with {text} among them{last}"
        checks.require(present, f"config.{name}", given, allowed)
