"""The problem on which the samplers of public packages were measured: five Gaussians in a plane.

Starts at sigma / alpha = 157.4, the noise of the linear DDPM table of 1,000 steps; the error is the
mean distance of x / alpha from the end of the exact path to clean data.
"""

from __future__ import annotations

import numpy as np

from dfx import targets

NOISE = 157.40726936571173

#: The errors of the packages are means over so many of the starts, the first ones.
NUM_STARTS = 256

#: Budget -> mean error and sampler: the best of some ninety rows for diffusers 0.42.1, k-diffusion
#: 0.1.1 and flow-matching 1.0.10 in torch 2.13, with the exact noise predictor.
BEST_PUBLIC = {
    5: (0.13472, "diffusers UniPC-1, bh2, uniform t"),
    10: (0.012735, "flow_matching midpoint, uniform t"),
    20: (0.0010701, "flow_matching rk4, uniform t"),
}

WEIGHTS = (0.3, 0.25, 0.2, 0.15, 0.1)
MEANS = ((1.0, 0.2), (-0.6, 0.9), (-0.9, -0.5), (0.3, -1.1), (0.1, 0.1))
#: Standard deviations along the two axes and the angle of the first.
AXES = ((0.25, 0.15, 0.5), (0.2, 0.3, -0.3), (0.3, 0.2, 1.0), (0.15, 0.25, 0.0), (0.35, 0.35, 0.0))


def target() -> targets.Mixture:
    """Return the mixture."""
    return targets.Mixture.full(MEANS, [covariance(*axes) for axes in AXES], WEIGHTS)


def starts(count: int) -> np.ndarray:
    """Return the first `count` starts, shape (count, 2), as x / alpha at the start.

    The packages were given x_T of unit variance, scaled to sqrt(1 + NOISE^2).
    """
    return np.random.RandomState(0).randn(count, 2) * np.sqrt(1 + NOISE**2)


def covariance(first: float, second: float, angle: float) -> np.ndarray:
    """Return the covariance (2, 2) with two standard deviations, the first along `angle`."""
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return turn @ np.diag([first**2, second**2]) @ turn.T
