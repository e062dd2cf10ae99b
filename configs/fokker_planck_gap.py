"""One net, two laws: does a smaller Fokker-Planck residual close the gap between ODE and SDE?

    dfx run fokker_planck_gap           three data laws, four weights, three seeds; about ten
                                        minutes on two cores
    dfx run fokker_planck_gap:smoke     every part at toy size, half a minute
    dfx run fokker_planck_gap:paper     the paper's net, batches and 100,000 steps; an accelerator
    dfx run fokker_planck_gap:pod       the same with ten seeds, spread over the devices of a pod

The distances of the histograms (as the paper takes them) need POT (pip install 'dfx[ot]'); without
it they are left out.

Source: Deveney et al. (2023), arXiv 2311.15996, and its code.
"""

from typing import Any

from ml_collections import config_dict

from dfx.runs import checks

SIZES = ("smoke", "default", "paper", "pod")


def get_config(size: str = "default") -> config_dict.ConfigDict:
    """Return the config of one size."""
    config = _default()
    config.update(_CHANGES[size])
    return config


def _default() -> config_dict.ConfigDict:
    return config_dict.create(
        seed=0,
        num_seeds=3,
        weights=(0.0, 0.1, 1.0, 10.0),  # of the residual in the loss
        # The paper's is 1e-5. The noise of the loss grows like 1 / t; with small batches a start at
        # 0.01 leaves a third of the error of the score, and the nets are smooth below it.
        start_time=0.01,
        end_time=10.0,
        # sharpness is that of softplus, log(1 + exp(sharpness h)) / sharpness.
        net=dict(width=64, depth=3, activation="tanh", sharpness=100.0),
        train=dict(
            phase_steps=(2000, 1500, 500),
            phase_rates=(4e-3, 1e-3, 1e-4),
            batch_size=1024,
            slices=1,
            chunk=50,
        ),
        # Where the residual is asked to vanish: "box" or "noised" (points of p_t).
        collocation=dict(points="box", times="uniform", half_width=3.5, num_points=256),
        laws=dict(half_width=3.5, cells=64, margin=8, num_steps=100, power=3.0, end=1e-3),
        distances=dict(cells=32, num_samples=100_000),
        measures=dict(
            num_box=10_000, num_times=50, num_each=400, num_dsm=20_000, num_score_times=12
        ),
        bound=dict(errors=(0.025, 0.1, 0.4), cells=800, num_steps=400),
    )


_CHANGES: dict[str, dict[str, Any]] = {
    "default": {},
    "smoke": dict(
        num_seeds=2,
        net=dict(width=16, depth=2),
        train=dict(phase_steps=(20, 20), phase_rates=(4e-3, 1e-3), batch_size=64, chunk=20),
        collocation=dict(num_points=32),
        laws=dict(cells=16, margin=2, num_steps=20),
        distances=dict(cells=16, num_samples=1000),
        measures=dict(num_box=200, num_times=4, num_each=50, num_dsm=200, num_score_times=4),
        bound=dict(errors=(0.1, 0.4), cells=200, num_steps=100),
    ),
    "paper": dict(
        start_time=1e-5,
        net=dict(width=80, activation="softplus"),
        train=dict(
            phase_steps=(25_000, 65_000, 10_000),
            phase_rates=(1e-3, 1e-4, 1e-5),
            batch_size=200_000,
            slices=10,
        ),
        collocation=dict(num_points=50_000),
        laws=dict(cells=128, margin=16, num_steps=400),
        distances=dict(cells=64, num_samples=3_000_000),
        measures=dict(num_box=40_000, num_each=1500, num_dsm=40_000),
        bound=dict(cells=2400, num_steps=2000),
    ),
}
_CHANGES["pod"] = {**_CHANGES["paper"], "num_seeds": 10}

_CHOICES = {
    "net.activation": ("tanh", "softplus"),
    "collocation.points": ("box", "noised"),
    "collocation.times": ("uniform", "beta"),
}
_RANGES = {
    "laws.cells": (4, 512),
    "laws.num_steps": (8, 100_000),
    "end_time": (3.0, 80.0),  # 3 is the last time looked at
    "start_time": (1e-7, 0.01),
    "laws.end": (1e-7, 0.01),
    "laws.power": (1.0, 10.0),
    "laws.half_width": (1.0, 100.0),
    "collocation.half_width": (0.1, 100.0),
    "net.sharpness": (0.01, 10_000.0),
    "measures.num_each": (2, 10_000_000),  # of one there is no variance over x
    "bound.errors": (1e-6, 10.0),
}


def validate(config: config_dict.ConfigDict) -> None:
    """Check ranges and choices.

    Raises:
      ConfigError: a setting out of its range, in one line.
    """
    checks.choices(config, _CHOICES)
    checks.signs(config, zero=("weights",))
    checks.seeds(config, "num_seeds")
    checks.ranges(config, _RANGES)
    even = config.laws.num_steps % 4 == 0  # half of them are a run of its own, and ODEs take half
    checks.require(even, "config.laws.num_steps", config.laws.num_steps, "a multiple of 4")
    _check_sets(config)


def _check_sets(config) -> None:
    """What must fit together; the claims speak of weights 0, 0.1, 1 and 10."""
    weights = config.weights
    claimed = weights == (0.0, 0.1, 1.0, 10.0)
    checks.require(claimed, "config.weights", weights, "(0.0, 0.1, 1.0, 10.0)")
    phases, rates = config.train.phase_steps, config.train.phase_rates
    fits = len(phases) == len(rates)
    checks.require(fits, "config.train.phase_rates", rates, f"{len(phases)} rates, one a phase")
    cells = config.distances.cells
    fits = config.laws.cells % cells == 0
    checks.require(fits, "config.distances.cells", cells, f"a divisor of {config.laws.cells}")
    slices = config.train.slices
    for name in ("train.batch_size", "collocation.num_points"):
        size = checks.value_of(config, name)
        checks.require(size % slices == 0, f"config.{name}", size, f"a multiple of {slices}")
    checks.not_empty("config.bound.errors", config.bound.errors)
