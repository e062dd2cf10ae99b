"""Explicit Runge-Kutta methods for the probability-flow equation, from any Butcher tableau."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from dfx.errors import PersonError, choose
from dfx.schedules.derived import t_of_log_snr
from dfx.solvers.steps import (
    check_noisy,
    check_start,
    ends_clean,
    euler_step,
    namespace,
    noise_of,
    pairs,
    record,
)
from dfx.solvers.tableau import Tableau


class Butcher(NamedTuple):
    """An explicit Runge-Kutta method for X' = d(X, S).

        d_i = d(X_s + (S_t - S_s) sum_j a_ij d_j, S_s + c_i (S_t - S_s)),    c_i = sum_j a_ij,
        X_t = X_s + (S_t - S_s) sum_i b_i d_i.

    Attributes:
      a: the rows of weights; row i has i entries, so the first is empty.
      b: the weights of the stages in the step; they sum to 1.
    """

    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]

    @property
    def c(self) -> tuple[float, ...]:
        """The places of the stages within the step, from 0 to 1."""
        return tuple(map(math.fsum, self.a))


#: Name -> method; the number in a name is its order, but "kutta38" is Kutta's 3/8 rule, of order 4.
METHODS = {
    "euler": Butcher(((),), (1,)),
    "midpoint": Butcher(((), (1 / 2,)), (0, 1)),
    "heun2": Butcher(((), (1,)), (1 / 2, 1 / 2)),
    "kutta3": Butcher(((), (1 / 2,), (-1, 2)), (1 / 6, 4 / 6, 1 / 6)),
    "heun3": Butcher(((), (1 / 3,), (0, 2 / 3)), (1 / 4, 0, 3 / 4)),
    "ralston3": Butcher(((), (1 / 2,), (0, 3 / 4)), (2 / 9, 3 / 9, 4 / 9)),
    "van_der_houwen3": Butcher(((), (8 / 15,), (1 / 4, 5 / 12)), (1 / 4, 0, 3 / 4)),
    "ssprk3": Butcher(((), (1,), (1 / 4, 1 / 4)), (1 / 6, 1 / 6, 4 / 6)),
    "rk4": Butcher(((), (1 / 2,), (0, 1 / 2), (0, 0, 1)), (1 / 6, 2 / 6, 2 / 6, 1 / 6)),
    "kutta38": Butcher(((), (1 / 3,), (-1 / 3, 1), (1, -1, 1)), (1 / 8, 3 / 8, 3 / 8, 1 / 8)),
}


class Variable(NamedTuple):
    """A form dX/dS = slope of the probability-flow equation: X = x / scale, and S = place."""

    scale: Callable
    place: Callable
    slope: Callable


VARIABLES = {
    "sigma": Variable(lambda at: at.alpha, noise_of, lambda e: e.eps),
    "time": Variable(lambda at: 1.0, lambda at: at.t, lambda e: e.velocity),
}


def runge_kutta(schedule, grid, method: str | Butcher = "rk4", variable: str = "sigma") -> Tableau:
    """Return an explicit Runge-Kutta method for the probability-flow equation, as

        sigma:  d(x/alpha) / d(sigma/alpha) = eps_hat,    or
        time:   dx / dt = velocity.

    "sigma" with three-stage methods is the rho-RK of DEIS, with "heun2" the sampler `heun`; "time"
    is how flow matching is integrated, and may start where alpha = 0. The order is that of the
    method, the evaluations a step are its stages; two lanes for two stages, three for three and
    for classic RK4, four for the 3/8 rule. A stage at sigma = 0 has no eps_hat, so a last step to
    clean data is Euler's in sigma: it returns x0_hat, at one evaluation. Its one error of second
    order caps the order at 2; end the grid at a small sigma to see more, or see `half_denoise`.

    Args:
      schedule, grid: as in `record`; tokens may have their own times, and end together. In "sigma",
        sigma / alpha must stay below 1e6; in "time", the velocity must be finite but at the end.
      method: one of `METHODS`, or a `Butcher` tableau of one's own.
      variable: "sigma" or "time".

    Raises:
      PersonError: unknown method or variable, a tableau that is not explicit and consistent or has
        later stages outside (0, 1], too much noise at the start, or a bad grid.

    Source: Butcher 2016, chapter 3; Zhang & Chen 2023 (DEIS; rho-RK); Lipman et al. 2023 (time).
    """
    butcher = choose("Runge-Kutta method", method, METHODS) if isinstance(method, str) else method
    _check_method(butcher)
    if variable not in VARIABLES:
        raise PersonError(f"variable = {variable!r}: allowed are {', '.join(VARIABLES)}")
    r, levels = record(schedule, grid)
    check_noisy(levels, "runge_kutta")
    if variable == "sigma":
        check_start(levels, "runge_kutta")
    clean = ends_clean(levels)
    stages = _stage_levels(schedule, levels[:-1] if clean else levels, butcher.c, variable)
    x = r.start
    for i, (s, t) in enumerate(pairs(levels)):
        if clean and t is levels[-1]:
            x = euler_step(r.at(x, s), t)
        else:
            x, _ = step(r, x, s, t, [s, *(level[i] for level in stages)], butcher, variable)
    return r.tableau(x)


def step(r, x, s, t, stages: list, method: Butcher, variable: str = "sigma"):
    """Record one Runge-Kutta step from s to t; return its end and the first evaluation.

    Args:
      r, x: the recorder and the point at level s.
      stages: the level at which each stage evaluates; the first is s. The stage's point is the one
        that belongs to this level, also if it is not at c_i.
      method, variable: as in `runge_kutta`.
    """
    scale, place, slope = VARIABLES[variable]
    first = r.at(x, s)
    slopes, base = [slope(first)], x / scale(s)
    for weights, c, level in zip(method.a[1:], method.c[1:], stages[1:]):
        mean = _combine([weight / c for weight in weights], slopes)
        point = scale(level) * (base + (place(level) - place(s)) * mean)
        slopes.append(slope(r.at(point, level)))
    return scale(t) * (base + (place(t) - place(s)) * _combine(method.b, slopes)), first


def level_between(schedule, s, t, fraction, variable: str = "sigma"):
    """Return the levels at this fraction of the way from s to t, in S = sigma / alpha or in time.

    Args:
      schedule: the forward process.
      s, t: levels; entries of any shape.
      fraction: from 0 to 1.
      variable: "sigma" or "time".
    """
    if fraction == 1:
        return t
    place = VARIABLES[variable].place
    between = place(s) + fraction * (place(t) - place(s))
    if variable == "time":
        return schedule.at(between)
    return schedule.at(t_of_log_snr(schedule, -2 * namespace([s]).log(between)))


def stacked(levels: list):
    """Return the levels as one, with a leading axis."""
    xp = namespace(levels)
    return type(levels[0])(*(xp.stack(entries) for entries in zip(*levels)))


def unstacked(level) -> list:
    """Return the levels along the leading axis of one."""
    return [type(level)(*(entry[i] for entry in level)) for i in range(len(level.t))]


def _stage_levels(schedule, levels, places, variable) -> list[list]:
    """For each stage after the first its level in every step; all are computed at once."""
    if len(levels) < 2:
        return []
    s, t = stacked(levels[:-1]), stacked(levels[1:])
    found = {c: unstacked(level_between(schedule, s, t, c, variable)) for c in set(places[1:])}
    return [found[c] for c in places[1:]]


def _combine(weights, slopes):
    """The sum of the slopes with weights that are not zero."""
    return sum(weight * slope for weight, slope in zip(weights, slopes) if weight != 0)


def _check_method(method: Butcher) -> None:
    explicit = [len(row) for row in method.a] == list(range(len(method.b)))
    if not explicit or abs(math.fsum(method.b) - 1) > 1e-9:
        raise PersonError(
            f"a = {method.a}, b = {method.b}: a must have i entries in row i = 0, 1, .., and b as "
            "many entries as there are rows, with sum 1"
        )
    if not all(0 < c <= 1 for c in method.c[1:]):
        raise PersonError(f"stages at c = {method.c}: all but the first must lie in (0, 1]")
