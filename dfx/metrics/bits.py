"""Bits per dimension: from the log-density of dequantised data to the length of a code."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import logsumexp

from dfx.errors import PersonError
from dfx.metrics.estimate import Estimate, mean


def bits_per_dimension(log_likelihood, dim: int, spacing: float = 2 / 255):
    """Return bits per dimension of data on a lattice, from the log-density of the dequantised data:

        -log p / (d ln 2) - log2(spacing),

    since a cell of volume spacing^d holds the probability p spacing^d. For 256 levels the second
    term is +7 where they are scaled to a width of 256 cells on [-1, 1] (spacing 2 / 256, the "+7"
    of the score-SDE code), +6.994 for `data.pixels.to_unit` (spacing 2 / 255), and +8 on [0, 1].
    With uniform noise of one cell added to the data, the mean is an upper bound of the bits that a
    code for the levels needs; without it, p at the lattice points may be anything.

    Args:
      log_likelihood: log p in nats, any shape.
      dim: the size d of one sample.
      spacing: the distance of neighbouring levels in the units of x; 1 for data without levels.

    Raises:
      PersonError: `dim` or `spacing` is not positive.

    Source: Theis, van den Oord & Bethge 2016, section 3.1.

    >>> float(bits_per_dimension(0.0, 3072, 2 / 256))
    7.0
    """
    if not (dim > 0 and spacing > 0):
        raise PersonError(f"dim = {dim}, spacing = {spacing}: both must be positive")
    return -log_likelihood / (dim * math.log(2)) - math.log2(spacing)


def mean_bits(log_density, dim: int, spacing: float) -> Estimate:
    """Return the mean bits per dimension of dequantised data, an upper bound of a code's length.

    Args:
      log_density: nats, (n,), or (n, r) for r dequantisations of each sample: their densities are
        averaged within the sample, log (1/r) sum p, which tightens the bound with r.
      dim: numbers in one sample.
      spacing: the width of a cell in the units in which the density is: 2 / 256 for
        `data.dequantise`, 2 / 255 around `data.to_unit`, 1 / 256 on [0, 1], 1 for pixels 0..255;
        it stands for -log2(spacing) = 7, 6.994, 8 and 0 bits.

    Returns:
      The mean over samples and its standard error; for one draw it holds the spread of the noise
      too.

    Raises:
      PersonError: log_density has another shape, or dim or spacing is not positive.

    Source: Theis, van den Oord and Bethge 2016; Burda, Grosse and Salakhutdinov 2016 for r > 1.
    """
    nats = np.asarray(log_density, np.float64)
    if nats.ndim not in (1, 2) or not nats.size:
        raise PersonError(f"log_density is of shape {nats.shape}, allowed: (n,) or (n, r)")
    if nats.ndim == 2:
        nats = logsumexp(nats, axis=1) - np.log(nats.shape[1])
    return mean(bits_per_dimension(nats, dim, spacing))
