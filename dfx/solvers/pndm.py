"""Pseudo-numerical methods: Adams-Bashforth with a Runge-Kutta start.

X = x/alpha, S = sigma/alpha and d = eps_hat as in `adams.py`. All step from s to t by "transfer",

    X_t = X_s + (S_t - S_s) d',    d' a mean of the last evaluations,

and differ in how they start and in how many evaluations d' holds. The sources weigh these as if the
steps in S were equal (`adams.FIXED`), which on other grids leaves order 2 whatever the number: that
is variant "reference". Variant "exact", the default, weighs them by the grid as it is, which
restores the order and on a grid uniform in S is the same. The fixed weights are often the better
ones below some 30 steps on grids that are dense near the data, where the asymptotic order says
little yet; so "reference" is the default where it loses no order (`s_pndm`).
"""

from __future__ import annotations

from collections.abc import Callable

from dfx.errors import PersonError
from dfx.solvers.adams import check_order, fixed_weights, sigma_weights, weighted
from dfx.solvers.runge_kutta import METHODS, level_between, step
from dfx.solvers.steps import (
    check_single,
    check_start,
    ends_clean,
    euler_step,
    noise_of,
    pairs,
    record,
)
from dfx.solvers.tableau import Tableau

#: How past evaluations are weighed: by the grid, or as if all steps were equal.
VARIANTS = {"exact": sigma_weights, "reference": fixed_weights}


def ipndm(schedule, grid, order: int = 4, variant: str = "exact") -> Tableau:
    """Return iPNDM: orders 1, 2, .. `order` as evaluations come in; no Runge-Kutta start.

    "exact" has order `order` on any grid, started at high noise, and is `lms`; "reference" is that
    of the source, order 2 on uneven grids. One evaluation a step, `order` lanes. A last step to
    sigma = 0 returns x0_hat; in "reference" it is a step like any other.

    Args:
      schedule, grid: as in `record`, with one time for all tokens; sigma / alpha must stay below
        1e6.
      order: from 1 (DDIM) to 5; the source has 4.
      variant: "exact" or "reference".

    Raises:
      PersonError: order outside 1 to 5, unknown variant, times per token, too much noise at the
        start, or a bad grid.

    Source: Zhang & Chen 2023 (DEIS; iPNDM).
    """
    return _pseudo(schedule, grid, "ipndm", order, variant, 0, None)


def plms(schedule, grid, order: int = 4, variant: str = "exact") -> Tableau:
    """Return PLMS: an improved Euler step (`heun`), then orders 2, 3, .. `order`.

    "exact" has order `order` on any grid, started at high noise; elsewhere the order of the second
    step caps it at 3. "reference" is that of public code, order 2 on uneven grids. One evaluation a
    step and one more in the first; `order` lanes. A last step to sigma = 0 returns x0_hat; in
    "reference" it is a step like any other.

    Args:
      schedule, grid, order, variant: as in `ipndm`.

    Raises:
      PersonError: as `ipndm`.

    Source: Liu et al. 2022 (PNDM); the start is that of Rombach et al. 2022 (latent diffusion).
    """
    return _pseudo(schedule, grid, "plms", order, variant, 1, _improved_euler)


def s_pndm(schedule, grid, variant: str = "reference") -> Tableau:
    """Return S-PNDM: an improved Euler step (`heun`), then order 2, which is `plms` of order 2.

    Both variants have order 2 on any smooth grid; "reference", the default, is that of the source.
    One evaluation a step and one more in the first; three lanes for the first step. A last step to
    sigma = 0 returns x0_hat; in "reference" it is a step like any other, but if it is the first.

    Args:
      schedule, grid, variant: as in `ipndm`.

    Raises:
      PersonError: as `ipndm`.

    Source: Liu et al. 2022 (PNDM; S-PNDM).
    """
    return _pseudo(schedule, grid, "s_pndm", 2, variant, 1, _improved_euler)


def pndm(schedule, grid, variant: str = "exact") -> Tableau:
    """Return F-PNDM: three steps of classic Runge-Kutta, then order 4.

    "exact" has order 4 on any grid and from any start, its Runge-Kutta middle being that of the
    step in S; "reference" is that of the source, with the middle in time and fixed weights: order 2
    on uneven grids. One evaluation a step and three more in each of the first three; six lanes. A
    last step to sigma = 0 returns x0_hat; in "reference" it is a step like any other.

    Args:
      schedule, grid, variant: as in `ipndm`.

    Raises:
      PersonError: as `ipndm`.

    Source: Liu et al. 2022 (PNDM), algorithm 2 (F-PNDM).
    """
    return _pseudo(schedule, grid, "pndm", 4, variant, 3, _kutta)


def _pseudo(schedule, grid, name, order, variant, start_steps: int, start: Callable | None):
    """Some steps by `start`, then Adams-Bashforth through at most `order` evaluations."""
    check_order(order)
    if variant not in VARIANTS:
        raise PersonError(f"variant = {variant!r}: allowed are {', '.join(VARIANTS)}")
    r, levels = record(schedule, grid)
    check_single(levels, name)
    check_start(levels, name)
    x, clean = r.start, ends_clean(levels)
    old: list = []
    places: list = []
    for i, (s, t) in enumerate(pairs(levels)):
        last = clean and t is levels[-1]
        if last and (variant == "exact" or i < max(1, start_steps)):
            return r.tableau(euler_step(r.at(x, s), t))
        places = [noise_of(s), *places][:order]
        if start is not None and i < start_steps:
            x, e = start(r, x, s, t, schedule, variant)
            old = [e.eps, *old][:order]
            continue
        old = [r.at(x, s).eps, *old][:order]
        x = t.alpha * (x / s.alpha + weighted(VARIANTS[variant](places, noise_of(t)), old))
    return r.tableau(x)


def _improved_euler(r, x, s, t, schedule, variant):
    return step(r, x, s, t, [s, t], METHODS["heun2"])


def _kutta(r, x, s, t, schedule, variant):
    middle = level_between(schedule, s, t, 1 / 2, "sigma" if variant == "exact" else "time")
    return step(r, x, s, t, [s, middle, middle, t], METHODS["rk4"])
