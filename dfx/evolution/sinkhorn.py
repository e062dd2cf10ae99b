"""The debiased entropic W_2 between densities on grids; on the host, in float64.

Between histograms the exact distance of laws that are closer than a cell is too large, since mass
can move by whole cells alone. Entropic transport blurs instead, and subtracting what it finds
between each law and itself takes the blur away again:

    S(p, q) = OT(p, q) - OT(p, p) / 2 - OT(q, q) / 2,
    OT(p, q) = min E|x - y|^2 + e KL(plan | p q),      plan = p q exp(f + g - |x - y|^2 / e).

The kernel exp(-|x - y|^2 / e) of the iteration is a product over the axes, so an iteration costs
O(n) times the cells of an axis for n cells, and no matrix of all pairs is made. Both laws are moved
to mean 0, which takes |difference of the means|^2, exactly, from OT.
"""

from __future__ import annotations

import numpy as np
from scipy.special import logsumexp

from dfx.errors import PersonError
from dfx.evolution.grid import Grid, shares

#: Sinkhorn's iteration: how far each step goes beyond its aim, iterations between checks, their
#: largest number, and the change of the distance between checks at which it stops.
OVERSHOOT, EVERY, MOST, TOLERANCE = 1.85, 50, 3000, 1e-7

#: Share of the mass below which a cell counts as empty: the potentials have no digits there.
EMPTY = 1e-12

#: Sums of the kernel below this may have lost terms to underflow: they are taken on logarithms.
SMALLEST = 1e-280


def sinkhorn_divergence(grid: Grid, first, second, blur: float | None = None) -> float:
    """Return the debiased entropic square of W_2 between two densities, S of the module's text.

    It is zero for equal laws, |m|^2 for laws moved by m, also if |m| is far below a cell, and that
    of two normal laws of variance v differs from W_2^2 by the order of (e / 4 v)^2 of it. Stopped
    where it changes by less than `TOLERANCE` in 50 iterations, or after 3000. Mass that must go
    much further than 30 blurs takes logarithms of all sums, some hundred times the time.

    Args:
      grid: of one or two dimensions.
      first, second: densities on it, or the masses of its cells: each is divided by its sum.
        Negative cells count as empty.
      blur: the standard deviation of the kernel, sqrt(e / 2), in the unit of x, positive; None is
        the longest side of a cell. Far smaller ones need more iterations than there are.

    Raises:
      PersonError: a density of another shape or without mass, or a blur that is not positive.

    Source: Feydy et al. 2019 (Sinkhorn divergences).
    """
    blur = grid.spacing.max() if blur is None else blur
    if not 0 < blur < np.inf:
        raise PersonError(f"blur = {blur}: must be positive and finite")
    entropy = 2 * blur**2
    p, q = (_masses(grid, density) for density in (first, second))
    moved = _mean(grid, p) - _mean(grid, q)
    between = _transport(p, q, _costs(grid, moved, entropy), entropy)
    own = [_transport(law, law, _costs(grid, 0 * moved, entropy), entropy) for law in (p, q)]
    return float(moved @ moved) + between - 0.5 * sum(own)


def _masses(grid, density):
    masses = shares(grid, density)
    masses = np.where(masses > EMPTY, masses, 0)
    return masses / masses.sum()


def _mean(grid, masses):
    sums = (np.moveaxis(masses, i, 0).reshape(n, -1).sum(1) for i, n in enumerate(grid.shape))
    return np.array([grid.axis(i) @ along for i, along in enumerate(sums)])


def _costs(grid, moved, entropy):
    """|x - y|^2 / e of the moved cells, a matrix for each axis."""
    axes = (grid.axis(i) for i in range(grid.dim))
    return [(x[:, None] - x - shift) ** 2 / entropy for x, shift in zip(axes, moved)]


def _transport(p, q, costs, entropy):
    """OT(p, q) by Sinkhorn's iteration on f and g, with overshoot."""
    there, back = _blur(costs, p > 0), _blur([cost.T for cost in costs], q > 0)
    with np.errstate(divide="ignore"):
        log_p, log_q = np.log(p), np.log(q)
    f, g, last = np.zeros_like(p), np.zeros_like(q), np.inf
    for i in range(1, MOST + 1):
        if p is q:  # the two potentials are one, and the mean of old and new converges at once
            f = g = 0.5 * (f - there(log_q + g))
        else:
            g = _towards(q, g, -back(log_p + f))
            f = _towards(p, f, -there(log_q + g))
        if i % EVERY == 0:
            value = entropy * float(np.sum(p * f) + np.sum(q * g))
            if abs(value - last) < TOLERANCE:
                break
            last = value
    return value


def _blur(costs, held):
    """The function h -> log sum_y exp(h(y) - cost), on the cells with mass; others are finite."""
    kernels = [np.exp(-cost) for cost in costs]

    def blurred(h):
        top = h.max()
        sums = np.exp(h - top)
        for kernel in kernels:
            sums = (kernel @ sums).T
        if sums[held].min() > SMALLEST:
            return top + np.log(np.maximum(sums, SMALLEST))
        for cost in costs:
            h = logsumexp(h - cost.reshape(*cost.shape, *[1] * (h.ndim - 1)), axis=1).T
        return h

    return blurred


def _towards(masses, old, aim):
    """Beyond the aim where the dual sum p f + sum q g - sum plan rises by it, else to the aim.

    Source: Thibault et al. 2021 (overrelaxed Sinkhorn, with its safeguard).
    """
    step = aim - old
    with np.errstate(over="ignore", invalid="ignore"):
        rise = OVERSHOOT * step - np.expm1((OVERSHOOT - 1) * step) + np.expm1(-step)
    far = np.sum(np.where(masses > 0, masses * rise, 0)) > 0
    return old + (OVERSHOOT if far else 1) * step
