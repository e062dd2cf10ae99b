"""Solvers with momentum: the direction of a step remembers those of the steps before.

X = x/alpha, S = sigma/alpha, delta = S_t - S_s and eps_i = eps_hat at the i-th point as in
`adams.py`; beta in (0, 1] is the share of the new direction, and beta = 1 is Adams-Bashforth. Less
momentum memory (beta near 1) is more exact, more of it keeps large steps stable.
"""

from __future__ import annotations

import numpy as np

from dfx.errors import PersonError
from dfx.solvers.adams import check_order, weighted
from dfx.solvers.pndm import VARIANTS
from dfx.solvers.steps import (
    check_single,
    check_start,
    ends_clean,
    euler_step,
    namespace,
    noise_of,
    pairs,
    record,
)
from dfx.solvers.tableau import Tableau


def heavy_ball(
    schedule, grid, beta: float = 0.8, order: int = 2, variant: str = "exact"
) -> Tableau:
    """Return Adams-Bashforth with Polyak's heavy ball, HB: with p_i its direction of order `order`,

        v_i = (1 - beta) v_{i-1} + beta p_i,    v_0 = p_0,
        X_t = X_s + delta v_i.

    Order 1 for beta < 1, whatever the order of p; `order` for beta = 1, where it is `ipndm`. One
    evaluation a step, `order` lanes and 2 at least. A last step to sigma = 0 returns x0_hat.

    Args:
      schedule, grid: as in `record`, with one time for all tokens; sigma / alpha must stay below
        1e6.
      beta: above 0 (nothing new is learned) to 1 (no memory).
      order: of the direction p, from 1 to 5.
      variant: weights of p by the grid as it is, "exact", or those of equal steps, "reference".

    Raises:
      PersonError: beta outside (0, 1], order outside 1 to 5, unknown variant, times per token, too
        much noise at the start, or a bad grid.

    Source: Wizadwongsa et al. 2024 (Diffusion sampling with momentum; HB).
    """
    r, levels = _record(schedule, grid, "heavy_ball", beta, order, variant)
    x, v, clean = r.start, None, ends_clean(levels)
    old: list = []
    places: list = []
    for s, t in pairs(levels):
        if clean and t is levels[-1]:
            return r.tableau(euler_step(r.at(x, s), t))
        old = [r.at(x, s).eps, *old][:order]
        places = [noise_of(s), *places][:order]
        delta = noise_of(t) - noise_of(s)
        p = weighted(VARIANTS[variant](places, noise_of(t)), old) / delta
        v = p if v is None or beta == 1 else r.let((1 - beta) * v + beta * p)
        x = t.alpha * (x / s.alpha + delta * v)
    return r.tableau(x)


def ghvb(schedule, grid, beta: float = 0.8, order: int = 4, variant: str = "exact") -> Tableau:
    """Return the generalised heavy ball, GHVB: momentum first, then a formula of order `order`,

        v_i = (1 - beta) v_{i-1} + beta eps_i,    v_0 = eps_0,
        X_t = X_s + delta sum_{j < order} c_j v_{i-j}.

    The source gives c_j for equal steps in S, with which polynomials of degree below `order` are
    integrated exactly once v_0 is forgotten: variant "reference". On other grids it has order 2 at
    most. Variant "exact", the default, solves for the c_j that do so on the grid as it is and with
    v_0 as it is; on equal steps they tend to those of the source. Its order is `order`, started at
    high noise. It needs steps that do not shrink S too fast, (S_s / S_t)^(order-1) (1 - beta) < 1.
    The source counts the order as order - 1 + beta, so 3.8 by default. Below some 30 steps the
    fixed coefficients are often the better ones. One evaluation a step, `order` lanes and 2 at
    least. A last step to sigma = 0 returns x0_hat.

    Args:
      schedule, grid: as in `record`, with one time for all tokens; sigma / alpha must stay below
        1e6.
      beta: above 0 (nothing new is learned) to 1 (Adams-Bashforth, `ipndm`).
      order: from 1 to 5.
      variant: "exact" or "reference".

    Raises:
      PersonError: beta outside (0, 1], order outside 1 to 5, unknown variant, times per token, too
        much noise at the start, or a bad grid.

    Source: Wizadwongsa et al. 2024 (Diffusion sampling with momentum; GHVB).
    """
    r, levels = _record(schedule, grid, "ghvb", beta, order, variant)
    xp, clean = namespace(levels), ends_clean(levels)
    places = xp.stack([noise_of(level) for level in levels])
    x = r.start
    old: list = []
    for i, (s, t) in enumerate(pairs(levels)):
        if clean and t is levels[-1]:
            return r.tableau(euler_step(r.at(x, s), t))
        eps = r.at(x, s).eps
        v = eps if not old or beta == 1 else r.let((1 - beta) * old[0] + beta * eps)
        old = [v, *old][:order]
        if variant == "exact":
            c = _exact_weights(places[: i + 1], places[i + 1], beta, len(old), xp)
        else:
            c = REFERENCE[len(old)](beta)
        x = t.alpha * (x / s.alpha + (places[i + 1] - places[i]) * weighted(c, old))
    return r.tableau(x)


#: beta -> the coefficients c_j of equal steps, newest first.
REFERENCE = {
    1: lambda b: _shares(b, [b], 1),
    2: lambda b: _shares(b, [2 + b, -(2 - b)], 2),
    3: lambda b: _shares(b, [18 + 5 * b, -(24 - 8 * b), 6 - b], 12),
    4: lambda b: _shares(b, [46 + 9 * b, -(78 - 19 * b), 42 - 5 * b, -(10 - b)], 24),
    5: lambda b: _shares(
        b,
        [1650 + 251 * b, -(3420 - 646 * b), 2880 - 264 * b, -(1380 - 106 * b), 270 - 19 * b],
        720,
    ),
}


def _shares(beta, numbers, denominator):
    return [number / (denominator * beta) for number in numbers]


def _exact_weights(places, end, beta, order, xp):
    """The c_j that integrate 1, S, .., S^(order-1) over the step, given what v makes of them.

    In z = (S - S_s) / delta the integrals are 1 / (m + 1), and v_i holds of z^m the mean over the
    points with weights beta (1 - beta)^age, the first with the rest.
    """
    z = (places - places[-1]) / (end - places[-1])
    powers = z ** np.arange(order)[:, None]
    rows = len(places) - np.arange(order)  # points that v_{i-j} has seen
    ages = rows[:, None] - 1 - np.arange(len(places))
    shares = np.where(ages >= 0, (1 - beta) ** np.maximum(ages, 0.0), 0.0)
    shares[:, 1:] *= beta
    held = powers @ shares.T
    return list(xp.linalg.solve(held, 1 / (1 + np.arange(order))))


def _record(schedule, grid, name, beta, order, variant):
    if not 0 < beta <= 1:
        raise PersonError(f"beta = {beta}: must lie in (0, 1]")
    check_order(order)
    if variant not in VARIANTS:
        raise PersonError(f"variant = {variant!r}: allowed are {', '.join(VARIANTS)}")
    r, levels = record(schedule, grid)
    check_single(levels, name)
    check_start(levels, name)
    return r, levels
