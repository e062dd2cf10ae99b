"""Adams-Bashforth methods for the probability-flow equation: the integral of a polynomial through
the last evaluations.

With X = x/alpha and S = sigma/alpha the equation is dX = eps_hat dS. A step from s to t replaces
eps_hat by its polynomial in some variable u (S itself, or time) through the last k evaluations,

    X_t = X_s + sum_j w_j eps_hat_j,    w_j = integral from s to t of l_j(u) dS(u).

The weights are those of the grid as it is, so that the order does not suffer from uneven steps.
"""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from dfx.errors import PersonError
from dfx.solvers.runge_kutta import stacked
from dfx.solvers.steps import (
    check_noisy,
    check_start,
    ends_clean,
    euler_step,
    noise_of,
    pairs,
    record,
)
from dfx.solvers.tableau import Tableau

#: Highest number of evaluations in a step; beyond it the weights grow faster than the error falls.
MAX_ORDER = 5

#: Nodes of the Gauss-Legendre rule for polynomials in time: on smooth schedules exact to rounding.
QUADRATURE = 40

#: Adams-Bashforth weights of equal steps in units of the step, newest evaluation first.
FIXED = {
    1: (1.0,),
    2: (3 / 2, -1 / 2),
    3: (23 / 12, -16 / 12, 5 / 12),
    4: (55 / 24, -59 / 24, 37 / 24, -9 / 24),
    5: (1901 / 720, -2774 / 720, 2616 / 720, -1274 / 720, 251 / 720),
}


def lms(schedule, grid, order: int = 4) -> Tableau:
    """Return the linear multistep sampler: the polynomial is one in S = sigma/alpha.

    It is LMS of k-diffusion and rho-AB of DEIS, whose rhoAB3 has order = 4 here. The first steps
    have orders 1, 2, .. `order` as evaluations come in. Order `order` on any grid, if the first
    steps are taken at high noise, where their error is small; started elsewhere their error of
    second order caps it at 2. One evaluation a step, `order` lanes. A last step to sigma = 0
    returns x0_hat.

    Args:
      schedule, grid: as in `record`; tokens may have their own times, and end together. sigma /
        alpha must stay below 1e6. A token that stands still starts anew with order 1.
      order: from 1 (Euler in sigma, which is DDIM) to 5.

    Raises:
      PersonError: order outside 1 to 5, too much noise at the start, or a bad grid.

    Source: Zhang & Chen 2023 (DEIS; rho-AB); Crowson 2022 (k-diffusion; LMS).
    """
    check_order(order)
    r, levels = record(schedule, grid)
    check_noisy(levels, "lms")
    check_start(levels, "lms")
    x, clean = r.start, ends_clean(levels)
    old: list = []
    places: list = []
    for s, t in pairs(levels):
        if clean and t is levels[-1]:
            return r.tableau(euler_step(r.at(x, s), t))
        old = [r.at(x, s).eps, *old][:order]
        places = [noise_of(s), *places][:order]
        x = t.alpha * (x / s.alpha + weighted(sigma_weights(places, noise_of(t)), old))
    return r.tableau(x)


def deis_tab(schedule, grid, order: int = 4) -> Tableau:
    """Return DEIS with polynomials in time, tAB: tAB3 of the source has order = 4 here.

    The weights are integrals of l_j(t) dS(t), by Gauss-Legendre quadrature of their form without
    derivatives of the schedule. Orders, warm-up, evaluations and lanes are those of `lms`. At few
    steps it is the more exact of the two where eps_hat along the path bends less in time than in
    sigma, as it does for variance-preserving schedules on grids that are dense near the data. It
    may start where alpha = 0. A last step to sigma = 0 returns x0_hat.

    Args:
      schedule, grid: as in `record`; tokens may have their own times, and end together. A token
        that stands still starts anew with order 1.
      order: from 1 (DDIM) to 5.

    Raises:
      PersonError: order outside 1 to 5, or a bad grid.

    Source: Zhang & Chen 2023 (DEIS; tAB).
    """
    check_order(order)
    r, levels = record(schedule, grid)
    check_noisy(levels, "deis_tab")
    check_start(levels[1:], "deis_tab")
    rules = _time_rules(schedule, levels)
    x, clean = r.start, ends_clean(levels)
    for i, (s, t) in enumerate(pairs(levels)):
        if i == 0 or (clean and t is levels[-1]):
            e = r.at(x, s)
            old, places = [e.eps], [s.t]
            x = t.alpha * e.x0 + t.sigma * e.eps
            continue
        old, places = [r.at(x, s).eps, *old][:order], [s.t, *places][:order]
        weights = _weights(places, noise_of(t) - noise_of(s), *rules[i])
        x = t.alpha * (x / s.alpha + weighted(weights, old))
    return r.tableau(x)


def weighted(weights, evaluations):
    """Return sum_j w_j eps_hat_j."""
    return sum(w * e for w, e in zip(weights, evaluations))


def sigma_weights(places: list, end) -> list:
    """Return the weights of the evaluations at S = places, newest first, in the integral to `end`.

    Exact: the integrand is a polynomial, and the rule has enough nodes.
    """
    start = places[0]
    z, rule = _gauss_legendre((len(places) + 1) // 2, np.ndim(start))
    points = start + (end - start) * z
    return _weights(places, end - start, points, end - points, (end - start) * rule)


def fixed_weights(places: list, end) -> list:
    """Return the weights as if all steps were equal to this one; places as in `sigma_weights`."""
    return [(end - places[0]) * w for w in FIXED[len(places)]]


def check_order(order: int, most: int = MAX_ORDER) -> None:
    """Refuse an order that is not a whole number from 1 to `most`."""
    whole = isinstance(order, int | np.integer) and not isinstance(order, bool)
    if not whole or not 1 <= order <= most:
        raise PersonError(f"order = {order!r}: must be a whole number from 1 to {most}")


def _weights(places, total, points, remaining, lengths) -> list:
    """The weights of the evaluations at u = places, newest first, in the integral of their
    polynomial p over dS.

    In Newton's form p is the sum over k of N_k times a divided difference, N_k = prod_{i<k} (u -
    u_i). By parts, as N_k = 0 at the start of the step for k > 0, the integral of N_k dS is that of
    N_k'(u) (S_t - S(u)) du, and S_t - S_s for k = 0.

    Args:
      places: u of the evaluations.
      total: S_t - S_s.
      points, remaining, lengths: of the quadrature over the step: u, S_t - S(u), and the weights in
        u; the leading axis is that of the nodes.
    """
    weights = [total]
    value, slope, distinct = 1.0, 0.0, 1.0  # value and slope of N_k at the points
    for k in range(1, len(places)):
        offset = points - places[k - 1]
        value, slope = value * offset, slope * offset + value
        integral = (lengths * slope * remaining).sum(0)
        if np.ndim(integral):  # a token that stood still starts anew: no differences across it
            distinct = distinct * (places[k] != places[k - 1])
        weights.append(0.0)
        for j in range(k + 1):
            gaps = [places[j] - places[i] for i in range(k + 1) if i != j]
            weights[j] = weights[j] + distinct * integral / _product(gaps)
    return weights


def _product(gaps):
    """The product of gaps between nodes; those of a token that stood still count as 1."""
    xp = jnp if isinstance(gaps[0], jax.Array) else np
    return math.prod(xp.where(gap == 0, 1.0, gap) if np.ndim(gap) else gap for gap in gaps)


def _time_rules(schedule, levels) -> list:
    """For each step the quadrature of `_weights` in time; all its levels are computed at once."""
    s, t = stacked(levels[:-1]), stacked(levels[1:])
    z, rule = _gauss_legendre(QUADRATURE, np.ndim(t.t))
    step = t.t - s.t
    points = s.t + step * z
    remaining = noise_of(t) - noise_of(schedule.at(points))
    return [(points[:, i], remaining[:, i], (step * rule)[:, i]) for i in range(len(step))]


@functools.cache
def _gauss_legendre(count: int, ndim: int):
    """Nodes and weights for [0, 1], with as many trailing axes as a node's value has."""
    nodes, weights = np.polynomial.legendre.leggauss(count)
    shape = (count,) + (1,) * ndim
    return (1 + nodes.reshape(shape)) / 2, weights.reshape(shape) / 2
