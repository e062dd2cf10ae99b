"""Laws of the stochastic samplers: exact on normal laws, sampled on mixtures, ODE against SDE.

    dfx run solver_laws           every part, 4 seeds, under 5 minutes on two cores
    dfx run solver_laws:smoke     every part at toy size, about half a minute cold
    dfx run solver_laws:paper     10 seeds and ten times the samples, on an accelerator
    dfx run solver_laws:pod       30 seeds

Fields are exact, so every error is the solver's. On normal laws the mean and the covariance of any
tableau are propagated exactly and no sample is drawn; what is sampled is compared with a second
exact sample of its size. The early error is a wrong prior: its mean is off by `early_shift`
standard deviations in every coordinate.
"""

import itertools
from typing import Any

from ml_collections import config_dict

from dfx.runs import checks

SIZES = ("smoke", "default", "paper", "pod")
KNOBS = ("eta", "tau", "churn")


def get_config(size: str = "default") -> config_dict.ConfigDict:
    """Return the config of one size."""
    config = _default()
    config.update(_CHANGES[size])
    return config


def _default() -> config_dict.ConfigDict:
    return config_dict.create(
        seed=0,
        num_seeds=4,
        # Equal steps of half log-SNR from `start` to `end`, begun in the exact law; the last `fit`
        # numbers of steps are those that the orders are fitted to.
        orders=dict(start=-4.0, end=3.0, steps=(20, 40, 80, 160, 320, 640), fit=4),
        # Noise levels sigma / alpha as in EDM, then clean data.
        grid=dict(sigma_min=0.01, sigma_max=50.0, rho=7.0),
        nfe=(4, 6, 10, 20, 50, 100, 200),
        path_nfe=20,
        sweeps=dict(
            nfe=(10, 20, 50, 100),
            eta=(0.0, 0.25, 0.5, 0.75, 1.0),
            tau=(0.0, 0.25, 0.5, 0.75, 1.0),
            churn=(0.0, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0),
        ),
        early_shift=0.3,
        # Pulses of `width` grid steps of wrong denoiser, one at each of `count` levels.
        pulse=dict(steps=1200, width=20, count=13, tau=(0.0, 1.0, 1.5)),
        gaussian=dict(num_samples=10_000),
        mixtures=dict(nfe=(4, 10, 20, 50, 100, 200), num_samples=8000, num_directions=32),
        # Few solvers and samples: 64 dimensions cost a hundred times as much.
        low_rank=dict(
            nfe=(4, 10, 20, 50),
            num_samples=400,
            solvers=(
                "ddpm",
                "euler_maruyama",
                "heun_churn",
                "sde_dpm_solver_pp_2m",
                "sa_solver",
                "ddim",
                "dpm_solver_pp_2m",
            ),
        ),
    )


_CHANGES: dict[str, dict[str, Any]] = {
    "default": {},
    "smoke": dict(
        num_seeds=2,
        orders=dict(steps=(20, 40, 80, 160), fit=3),
        nfe=(4, 10, 20),
        path_nfe=10,
        sweeps=dict(nfe=(10, 20), eta=(0.0, 1.0), tau=(0.0, 1.0), churn=(0.0, 10.0)),
        pulse=dict(steps=120, width=4, count=5),
        gaussian=dict(num_samples=1000),
        mixtures=dict(nfe=(10, 20), num_samples=500, num_directions=8),
        low_rank=dict(nfe=(10,), num_samples=100),
    ),
    "paper": dict(
        num_seeds=10,
        orders=dict(steps=(20, 40, 80, 160, 320, 640, 1280)),
        gaussian=dict(num_samples=100_000),
        mixtures=dict(num_samples=80_000, num_directions=128),
        low_rank=dict(nfe=(4, 10, 20, 50, 100, 200), num_samples=20_000),
    ),
}
_CHANGES["pod"] = {**_CHANGES["paper"], "num_seeds": 30}

#: Settings that may be zero or negative.
_SIGNED = ("orders.start", "orders.end", "early_shift")
_SWEEPS = tuple(f"sweeps.{knob}" for knob in KNOBS)
_NFE = ("nfe", "sweeps.nfe", "mixtures.nfe", "low_rank.nfe")
_SAMPLES = ("mixtures.num_samples", "low_rank.num_samples")
_RANGES = {
    # The schedule ends at sigma / alpha = 152, a half log-SNR of -5.02, and churn raises the first
    # level by up to sqrt(2).
    "orders.start": (-4.6, 5.0),
    "orders.end": (-3.6, 6.0),
    "orders.steps": (1, 100_000),
    "grid.sigma_max": (1.0, 100.0),
    "grid.sigma_min": (1e-4, 0.5),
    "grid.rho": (1.0, 100.0),  # below 1 the power of sigma_min is lost beside that of sigma_max
    **dict.fromkeys(_NFE, (1, 10_000)),
    "path_nfe": (2, 10_000),  # the start is not drawn
    "sweeps.eta": (0.0, 1.0),
    "sweeps.tau": (0.0, 4.0),  # the variance of the noise grows as exp(tau^2)
    "sweeps.churn": (0.0, 1000.0),
    "early_shift": (-100.0, 100.0),
    "pulse.steps": (2, 100_000),
    "pulse.tau": (0.0, 4.0),
    "gaussian.num_samples": (2, 10_000_000),
    # Their fourth moment has to lie above the square of the second.
    **dict.fromkeys(_SAMPLES, (16, 10_000_000)),
    "mixtures.num_directions": (1, 100_000),
}


def validate(config: config_dict.ConfigDict) -> None:
    """Check ranges and choices.

    Raises:
      ConfigError: a setting out of its range, in one line.
    """
    checks.signs(config, ("pulse.tau", *_SWEEPS), free=_SIGNED)
    checks.seeds(config, "num_seeds")
    checks.ranges(config, _RANGES)
    checks.rising(config, "nfe", "mixtures.nfe", "sweeps.nfe", *_SWEEPS)
    _check_lists(config)
    from experiments.solver_laws.members import SAMPLED  # here: it imports JAX

    checks.choices(config, {"low_rank.solvers": SAMPLED})


def _check_lists(config) -> None:
    """Orders compare doubled numbers of steps; sweeps begin with the deterministic sampler."""
    shift = config.early_shift  # what is left of it is divided by it
    checks.require(
        abs(shift) >= 1e-3, "config.early_shift", shift, "0.001 or more, or its negative"
    )
    orders, steps = config.orders, config.orders.steps
    least = orders.start + 1
    allowed = f"a number from {least:g}, which is 1 above orders.start, to 6"
    checks.require(orders.end >= least - 1e-9, "config.orders.end", orders.end, allowed)
    doubled = len(steps) >= 4 and all(b == 2 * a for a, b in itertools.pairwise(steps))
    allowed = "four numbers or more, of which each is twice the last"
    checks.require(doubled, "config.orders.steps", steps, allowed)
    # Strong distances are one fewer than numbers of steps, and a line wants three points.
    checks.ranges(config, {"orders.fit": (3, len(steps) - 1)})
    given = config.sweeps.nfe
    known = len(given) > 1 and set(given) <= set(config.mixtures.nfe)
    checks.require(known, "config.sweeps.nfe", given, f"two or more of {config.mixtures.nfe}")
    for name in _SWEEPS:
        given = checks.value_of(config, name)
        begins = len(given) > 1 and given[0] == 0
        checks.require(begins, f"config.{name}", given, "0, the deterministic, then others")
    for value in (0.0, 1.0):
        given = config.pulse.tau
        checks.require(value in given, "config.pulse.tau", given, "any numbers, with 0 and 1 among")
    pulse = config.pulse
    fits = pulse.count * pulse.width <= pulse.steps
    checks.require(fits, "config.pulse.count", pulse.count, "pulses that fit in pulse.steps")
