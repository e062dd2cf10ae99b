"""The debiased entropic W_2 between densities on grids; on the host, in float64.

Between histograms the exact distance of laws that are closer than a cell is too large, since mass
can move by whole cells alone. Entropic transport blurs instead, and subtracting what it finds
between each law and itself takes the blur away again:

    S(p, q) = OT(p, q) - OT(p, p) / 2 - OT(q, q) / 2,
    OT(p, q) = min E|x - y|^2 + e KL(plan | p q).

The kernel exp(-|x - y|^2 / e) of the iteration is a product over the axes, so an iteration costs
O(n) times the cells of an axis for n cells, and no matrix of all pairs is made.
"""

from __future__ import annotations

import functools

import numpy as np

from dfx.evolution.grid import Grid, check_density

#: Sinkhorn's iteration: how far each step goes beyond its aim, iterations between checks, their
#: largest number, and the change of the distance between checks at which it stops.
OVERSHOOT, EVERY, MOST, TOLERANCE = 1.85, 50, 3000, 1e-7

#: Share of the mass below which a cell counts as empty: the potentials have no digits there.
EMPTY = 1e-12


def sinkhorn_divergence(grid: Grid, first, second, blur: float | None = None) -> float:
    """Return the debiased entropic square of W_2 between two densities, S of the module's text.

    It is zero for equal laws, |m|^2 for laws moved by m, also if |m| is far below a cell, and that
    of two normal laws of variance v differs from W_2^2 by the order of (e / 4 v)^2 of it. Stopped
    where it changes by less than `TOLERANCE` in 50 iterations, or after 3000.

    Args:
      grid: of one or two dimensions.
      first, second: densities on it, or the masses of its cells: each is divided by its sum.
        Negative cells count as empty.
      blur: the standard deviation of the kernel, sqrt(e / 2), in the unit of x; None is the longest
        side of a cell. Far smaller ones need more iterations than there are.

    Raises:
      PersonError: a density of another shape.

    Source: Feydy et al. 2019 (Sinkhorn divergences).
    """
    p, q = (_masses(grid, density) for density in (first, second))
    entropy = 2 * (grid.spacing.max() if blur is None else blur) ** 2
    kernels = [_kernel(grid.axis(i), entropy) for i in range(grid.dim)]
    between, own, other = (_transport(*pair, kernels, entropy) for pair in ((p, q), (p, p), (q, q)))
    return between - 0.5 * (own + other)


def _masses(grid, density):
    check_density(grid, density)
    masses = np.maximum(np.asarray(density, np.float64), 0)
    masses = masses / masses.sum()
    masses = np.where(masses > EMPTY, masses, 0)
    return masses / masses.sum()


def _kernel(axis, entropy):
    return np.exp(-((axis[:, None] - axis) ** 2) / entropy)


def _transport(p, q, kernels, entropy):
    """OT(p, q) by Sinkhorn's iteration with overshoot; the plan is u K v, of marginals p and q.

    Source: Thibault et al. 2021 (overrelaxed Sinkhorn).
    """
    blurred = functools.partial(_blurred, kernels)
    u, v, last = np.sqrt(p), np.sqrt(q), np.inf
    for i in range(1, MOST + 1):
        if p is q:  # the two scalings are one, and the mean of the exponents converges at once
            u = v = np.sqrt(u * p / blurred(u))
        else:
            v = _towards(v, q / blurred(u))
            u = _towards(u, p / blurred(v))
        if i % EVERY == 0:
            value = entropy * (_mean_log(p, u) + _mean_log(q, v))
            if abs(value - last) < TOLERANCE:
                break
            last = value
    return value


def _blurred(kernels, scaling):
    """K times a scaling; underflow far from all mass is kept off 0, by which it is divided."""
    if len(kernels) == 1:
        return np.maximum(kernels[0] @ scaling, 1e-300)
    return np.maximum(kernels[0] @ scaling @ kernels[1], 1e-300)


def _towards(old, aim):
    return old * (aim / np.where(old > 0, old, 1)) ** OVERSHOOT


def _mean_log(masses, scaling):
    held = masses > 0
    return float(masses[held] @ np.log(scaling[held] / masses[held]))
