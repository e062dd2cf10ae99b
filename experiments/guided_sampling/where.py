"""Part (d) of `guided_sampling`: guidance in an interval of noise levels, and autoguidance with
exact blurred fields. All laws are on the line, and all ends are exact maps of the noise.

Source: Kynkäänniemi et al. 2024 (interval); Karras et al. 2024 (autoguidance).
"""

from __future__ import annotations

import math

import numpy as np

from dfx import targets
from experiments.guided_sampling import laws

#: How far the class of the unrelated bad field is moved, in standard deviations of a mode.
SHIFT = 1.0

DEVIATION = 0.5  # of the modes of `laws.two_modes`


def run_where(config, run) -> None:
    """Solve the intervals and the autoguided laws."""
    run.arrays("intervals", lambda: intervals(config))
    run.arrays("autoguidance", lambda: autoguidance(config, run))


def named_intervals(config) -> list[tuple[str, float, float]]:
    """Return (name, low, high): below, between and above the edges of the config, and all."""
    low, high = config.interval.edges
    return [
        ("none", 0.0, 0.0),
        ("low", 0.0, low),
        ("middle", low, high),
        ("high", high, math.inf),
        ("all", 0.0, math.inf),
    ]


def positions(config) -> np.ndarray:
    """Return the lower ends of intervals of one width (a factor), shape (m,), that tile the levels
    from the smallest of the config to the start of the noise."""
    settings, start = config.interval, config.tilt.start_noise
    count = round(math.log(start / settings.smallest) / math.log(settings.width))
    return settings.smallest * settings.width ** np.arange(count)


def intervals(config) -> dict[str, np.ndarray]:
    """Return the ends of the two modes with guidance in an interval: `named` (5, m) for those of
    `named_intervals`, `tiles` (positions, m) for those of `positions`."""
    law, z, settings = laws.two_modes(), laws.noise_grid(config.tilt.noise_points), config.interval

    def solve(low, high):
        return flow_within(law, z, settings.weight, (low, high), config.tilt.start_noise)

    named = [solve(low, high) for _, low, high in named_intervals(config)]
    lows = positions(config)
    tiles = [solve(low, low * settings.width) for low in lows]
    return {
        "z": z,
        "names": np.asarray([name for name, _, _ in named_intervals(config)]),
        "named": np.stack(named),
        "lows": lows,
        "tiles": np.stack(tiles),
    }


def flow_within(law, z, weight: float, interval, start_noise: float) -> np.ndarray:
    """Return the flow of the noise z from `start_noise` for a law (toward, away) with guidance in
    an interval of sigma / alpha (low, high), shape of z.

    Piece by piece, each with one weight: adaptive steps may leap over a narrow interval.
    """
    toward, away = law
    low, high = (min(float(end), start_noise) for end in interval)
    x = np.sin(math.atan(start_noise)) * z
    for above, below, w in ((start_noise, high, 1.0), (high, low, weight), (low, 0.0, 1.0)):
        if above > below:
            x = laws.flow_between(laws.guided_field(toward, away, w), x, above, below)
    return x


def blurred(law: targets.Mixture, variance: float, shift: float = 0.0) -> targets.Mixture:
    """Return the law moved by `shift` and convolved with N(0, variance)."""
    return targets.Mixture.isotropic(law.means + shift, np.sqrt(law.variance + variance))


def problems(config) -> dict[str, tuple[targets.Mixture, targets.Mixture, targets.Mixture]]:
    """Return by name (truth, good, bad): a Gaussian and two modes whose bad field has more of the
    good one's blur, and two modes whose bad field errs in another way, by a shift.

    The blurs are in units of the variance of a component, so all have one w*.
    """
    good_blur, bad_blur = config.autoguidance.blurs
    gaussian, modes = targets.modes_1d((0.0, 0.0), 1.0), laws.two_modes()[1]
    inner = DEVIATION**2
    good = blurred(modes, good_blur * inner)
    return {
        "gaussian": (gaussian, blurred(gaussian, good_blur), blurred(gaussian, bad_blur)),
        "modes": (modes, good, blurred(modes, bad_blur * inner)),
        "unrelated": (modes, good, blurred(modes, good_blur * inner, SHIFT * DEVIATION)),
    }


def autoguidance(config, run) -> dict[str, np.ndarray]:
    """Return the autoguided flow of each problem, an array (weights, m) by its name, the quantiles
    of the truth at the same noise, `truth.NAME` (m,), and the closed form `best`."""
    settings, z = config.autoguidance, laws.noise_grid(config.tilt.noise_points)
    blurs = settings.blurs
    weights = np.linspace(1.0, settings.largest_weight, settings.num_weights)
    best = laws.autoguidance_weight(1.0, *blurs)
    found = {"z": z, "weights": weights, "best": np.asarray(best)}
    cases = problems(config)
    with run.progress(len(cases), "autoguidance", unit="law") as bar:
        for name, (truth, good, bad) in cases.items():
            ends = [laws.flow(laws.guided_field(good, bad, w), z) for w in (*weights, best)]
            found[name], found[f"{name}.best"] = np.stack(ends[:-1]), ends[-1]
            found[f"truth.{name}"] = laws.flow(laws.guided_field(truth, truth, 1.0), z)
            bar.update(1)
    return found
