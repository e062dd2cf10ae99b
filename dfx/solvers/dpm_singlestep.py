"""DPM-Solver and DPM-Solver++, singlestep: stages inside each step, no history."""

from __future__ import annotations

import jax
import numpy as np

from dfx.errors import PersonError
from dfx.schedules.derived import t_of_log_snr
from dfx.schedules.schedule import Level, is_known
from dfx.solvers.phi import correction, ddim_step, gap, moments, noise_step
from dfx.solvers.steps import check_noisy, ends_clean, namespace, pairs, record
from dfx.solvers.tableau import Tableau

SOLVER_TYPES = ("dpmsolver", "taylor")

#: Where the stages of a step of each order lie, as parts of h: r, and r_1, r_2 of the source.
STAGES: dict[int, tuple[float, ...]] = {1: (), 2: (1 / 2,), 3: (1 / 3, 2 / 3)}


def dpm_singlestep(
    schedule,
    grid,
    order: int = 2,
    data: bool = True,
    solver_type: str = "dpmsolver",
    orders=None,
) -> Tableau:
    """Return DPM-Solver-k (data = False) or DPM-Solver++(kS), k = 1, 2, 3: with E(z) = exp(z) - 1,

        1   x_t = alpha_t / alpha_s x - sigma_t E(h) eps_s = sigma_t / sigma_s x - alpha_t E(-h) m_s
        2   u_1 by 1 to lambda_s + h/2,   x_t = (1) - sigma_t E(h) (eps_1 - eps_s)
        3   u_1 by 1 to lambda_s + h/3,
            u_2 at lambda_s + 2h/3 and x_t by 1 and the line of eps through s and u_1, s and u_2

    and likewise for m = x0_hat with (sigma, alpha, -h) in place of (alpha, sigma, h). The last line
    of 2 uses E(h) h / 2 for the integral of (lambda - lambda_s); "taylor" integrates exactly and,
    in 3, the parabola through all three values. Order k, k evaluations a step, lanes 1, 2, 3. Order
    1 is DDIM in both forms. At sigma_t = 0 the last step is order 1, one evaluation, and returns
    x0_hat.

    Args:
      schedule, grid: as in `record`; alpha must be positive at the start if the first order is not
        1. Tokens may have their own times, at sigma = 0 too if `data`.
      order: 1, 2 or 3.
      data: integrate x0_hat, exact for a constant denoiser; otherwise eps_hat, exact for constant
        noise.
      solver_type: "dpmsolver" or "taylor"; they differ by a higher order in h.
      orders: an order for each step, in place of `order`; `fast_orders` gives one list.

    Raises:
      PersonError: an option outside these, alpha = 0 at the start, or a bad grid.

    Source: Lu et al. 2022a (DPM-Solver), eq. 3.7, algorithms 1, 2 and appendix B; Lu et al. 2022b
    (DPM-Solver++), algorithm 1 (2S).
    """
    if solver_type not in SOLVER_TYPES:
        raise PersonError(f"solver_type = {solver_type!r}: allowed are {', '.join(SOLVER_TYPES)}")
    r, levels = record(schedule, grid)
    steps, clean = pairs(levels), ends_clean(levels)
    orders = _checked([order] * len(steps) if orders is None else list(orders), len(steps))
    if clean:
        orders[-1] = 1
    _check_start(levels[0], orders[0])
    parts = {part for order in set(orders) for part in STAGES[order]}
    if parts and not data:
        check_noisy(levels, "dpm_singlestep of eps_hat", end=False)
    stages = {part: _stage_levels(schedule, steps, part) for part in parts}
    x = r.start
    for i, ((s, t), order) in enumerate(zip(steps, orders)):
        own = [stages[part][i] for part in STAGES[order]]
        x = _step(r, x, s, t, order, own, data, solver_type)
    return r.tableau(x)


def dpm_solver_fast(
    schedule, grid, order: int = 3, data: bool = False, solver_type: str = "dpmsolver"
) -> Tableau:
    """Return singlestep DPM-Solver that spends one evaluation per interval of the grid.

    A step of order k goes over k intervals at once, in the orders of `fast_orders`; its stages lie
    where that order puts them, not on the grid. A grid that ends in clean data goes over its last
    interval by a step of order 1. Order 3 (or `order`) where that is the order of the last steps; a
    last step of order 1 leaves order 2. Lanes 3.

    Args:
      schedule, grid: as in `dpm_singlestep`; n intervals are n evaluations.
      order: the largest order used, 1, 2 or 3.
      data, solver_type: as in `dpm_singlestep`.

    Raises:
      PersonError: as `dpm_singlestep`.

    Source: Lu et al. 2022a (DPM-Solver), section 3.4.
    """
    _, levels = record(schedule, grid)
    clean, n = ends_clean(levels), len(levels) - 1
    orders = fast_orders(n - clean, order) + [1] * clean
    grid = grid if isinstance(grid, jax.Array) else np.asarray(grid, np.float64)
    outer = grid[np.cumsum([0, *orders])]
    return dpm_singlestep(schedule, outer, data=data, solver_type=solver_type, orders=orders)


def fast_orders(budget: int, order: int = 3) -> list[int]:
    """Return orders of singlestep steps that add up to `budget` evaluations.

    As many steps of order 3 as leave 1, 2 or 3 evaluations, then those by 1, by 2 or by 2, 1 (with
    `order` 2: steps of order 2, and one of 1 if the budget is odd).

    >>> fast_orders(7), fast_orders(8), fast_orders(9)
    ([3, 3, 1], [3, 3, 2], [3, 3, 2, 1])

    Raises:
      PersonError: a negative budget, or an order that is not 1, 2 or 3.

    Source: Lu et al. 2022a (DPM-Solver), section 3.4.
    """
    _checked([order], 1)
    if budget < 0:
        raise PersonError(f"budget = {budget}: must not be negative")
    if order < 3:
        return [order] * (budget // order) + [1] * (budget % order)
    last = {0: [2, 1], 1: [1], 2: [2]}[budget % 3] if budget else []
    return [3] * ((budget - sum(last)) // 3) + last


def _step(r, x, s, t, order, stages, data, solver_type):
    """One step: stages at the levels given, then x_t."""
    e = r.at(x, s)
    if order == 1:
        return ddim_step(x, e.x0, s, t)
    first = e.x0 if data else e.eps
    base, h = ddim_step if data else noise_step, gap(s, t)
    nodes, values = [0.0], [first]
    for part, u in zip(STAGES[order], stages):
        y = base(x, first, s, u)
        y = y + correction(_integrals(len(nodes), part * h, u, data), nodes, values)
        stage = r.at(y, u)
        nodes, values = [*nodes, part * h], [*values, stage.x0 if data else stage.eps]
    integrals, line = _integrals(order, h, t, data), None
    if solver_type == "dpmsolver" and order == 2:
        line = h * integrals[0] / 2
    if solver_type == "dpmsolver" and order == 3:
        nodes, values = nodes[::2], values[::2]  # u_1 only serves to find u_2
    return base(x, first, s, t) + correction(integrals, nodes, values, line)


def _stage_levels(schedule, steps, part) -> list[Level]:
    """The level at this part of each step, in half log-SNR."""
    wanted = [s.half_log_snr + part * gap(s, t) for s, t in steps]
    times = t_of_log_snr(schedule, 2 * namespace(steps[0]).stack(wanted))
    stacked = schedule.at(times)
    return [Level(*(entry[i] for entry in stacked)) for i in range(len(steps))]


def _integrals(count, h, t, data):
    return moments(count, h, -1, t.alpha) if data else moments(count, h, 1, -t.sigma)


def _checked(orders: list[int], steps: int) -> list[int]:
    bad = [order for order in orders if order not in STAGES]
    if bad:
        raise PersonError(f"order = {bad[0]!r}: allowed are 1, 2, 3")
    if len(orders) != steps:
        raise PersonError(f"{len(orders)} orders for a grid of {steps} steps: one for each step")
    return orders


def _check_start(level, order):
    if is_known(level.alpha) and order > 1 and not np.all(level.alpha > 0):
        raise PersonError(
            f"stages need alpha > 0, but the grid starts at t = {np.max(level.t):g} "
            "where alpha = 0: start later, or begin with order 1"
        )
