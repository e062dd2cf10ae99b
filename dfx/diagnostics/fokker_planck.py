"""Do the laws of a model at different times belong together? Residuals of the evolution equations.

The law p_t of the forward equation dx = F dt + g dw, F = f(t) x + h(t) y (`schedules.derived`),
obeys the Fokker-Planck equation (`fields.equation`). For phi = log p, s = grad phi and the velocity
v of the deterministic flow it reads, as a residual that vanishes,

    potential:   R   = d_t phi + div F + F . grad phi - (g^2 / 2) (Lap phi + |grad phi|^2),
    score:       eps = d_t s - grad[(g^2 / 2) (div s + |s|^2) - F . s - div F],
    continuity:  C   = d_t log p + div v + v . grad log p.

R of a phi with gradient s has the gradient eps. A potential is known up to a function c(t), which
adds c'(t) to R and changes no law: judge R by its variance over x (`spatial`). Derivatives in t go
through the schedule by `jax.jvp`; second derivatives in x are exact, or estimates, as
`directions` says. A coefficient may differ between coordinates.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from dfx.blocks import by_blocks
from dfx.diagnostics.directions import check_probes, directions
from dfx.fields import equation
from dfx.fields.blocks import Marked, is_pointwise, is_shared, rows_at_once
from dfx.fields.derivatives import divergence_along, gradient_of_divergence
from dfx.fields.equation import Equation, check_finite, check_noise, rate_of, sum_entries
from dfx.fields.field import as_pytree, predict


class Plan(NamedTuple):
    """How directions are taken: the static part of a compiled program."""

    num_probes: int
    probe: str
    chunk: int | None


def potential_residual(
    schedule,
    potential: Callable,
    x,
    t,
    *,
    y=None,
    key=None,
    num_probes: int = 1,
    probe: str = "rademacher",
    chunk: int | None = None,
):
    """Return the Fokker-Planck residual R of a potential at x, shape (n,), per unit time:

        R = d_t phi + div F + F . grad phi - (g^2 / 2) (Lap phi + |grad phi|^2).

    It is zero for all x and t if and only if exp(phi) solves the Fokker-Planck equation. With a key
    it is an unbiased estimate: only the Laplacian is estimated, and R is linear in it.

    Args:
      schedule: the forward process.
      potential: (x, level) -> phi of each sample, shape (n,); a log-density up to a constant.
      x: points, shape (n, *sample), floating.
      t: times at which alpha > 0, one for all or shape (n,).
      y: endpoints of the mean term, broadcasting against x; needed where beta is not zero.
      key, num_probes, probe: as in `directions`; None is exact, at d derivatives of grad phi.
      chunk: how many directions are taken at once, at all points; by default as many directions and
        points as stay in cache.

    Raises:
      PersonError: times at which f or g is infinite, a missing y, probes that are not allowed, a
        potential whose result does not have the shape (n,).

    Source: Lai et al. 2023 (FP-Diffusion), for the log-density; Deveney et al. 2023.
    """
    check_probes(num_probes, probe)
    eq = equation.at(schedule, x, t, y)
    check_finite(eq)
    equation.check_potential(potential, x, eq.level)
    return _of_potential(as_pytree(potential), eq, x, key, Plan(num_probes, probe, chunk))


def score_residual(
    schedule,
    field: Callable,
    x,
    t,
    *,
    y=None,
    key=None,
    num_probes: int = 1,
    probe: str = "rademacher",
    chunk: int | None = None,
):
    """Return the residual eps of the score equation for the score s of a field, shape of x:

        eps = d_t s - grad[(g^2 / 2) (div s + |s|^2) - F . s - div F].

    It needs no potential, and s need not be a gradient: then d_t (J - J^T) is the antisymmetric
    part, twice, of the Jacobian of eps. Exact at 2 d derivatives of one vjp of the field, or with a
    key an unbiased estimate.

    Args:
      schedule, x, t, y, key, num_probes, probe, chunk: as in `potential_residual`; sigma must be
        positive at t.
      field: (x, level) -> x0_hat.

    Raises:
      PersonError: as in `potential_residual`.

    Source: Lai et al. 2023 (FP-Diffusion), the score Fokker-Planck equation.
    """
    check_probes(num_probes, probe)
    eq = equation.at(schedule, x, t, y)
    check_finite(eq)
    check_noise(eq)
    return _of_score(as_pytree(field), eq, x, y, key, Plan(num_probes, probe, chunk))


def continuity_residual(
    schedule,
    field: Callable,
    log_density: Callable,
    x,
    t,
    *,
    y=None,
    key=None,
    num_probes: int = 1,
    probe: str = "rademacher",
    chunk: int | None = None,
):
    """Return the residual of the continuity equation for the velocity v of a field, shape (n,):

        C = d_t log p + div v + v . grad log p,    per unit time.

    It vanishes if and only if v carries p_t, whatever else v does: an error r of the velocity adds
    div r + r . grad log p to it (`gauge_residual`).

    Args:
      schedule, x, t, y, key, num_probes, probe, chunk: as in `potential_residual`; sigma must be
        positive at t, alpha may be zero.
      field: (x, level) -> x0_hat.
      log_density: (x, level) -> log p of each sample, shape (n,), normalised at every t.

    Raises:
      PersonError: as in `potential_residual`, f aside.

    Source: Song et al. 2021 (score SDE), appendix D.1.
    """
    check_probes(num_probes, probe)
    eq = equation.at(schedule, x, t, y)
    check_noise(eq)
    equation.check_potential(log_density, x, eq.level)
    functions = as_pytree(field), as_pytree(log_density)
    return _of_velocity(functions, eq, x, y, key, Plan(num_probes, probe, chunk))


# Levels and coefficients are arguments of the programs: one serves all schedules and times.
@functools.partial(jax.jit, static_argnames="plan")
def _of_potential(potential, eq: Equation, x, key, plan: Plan):
    marked = is_pointwise(potential) and is_shared((eq.level, eq.half_noise))

    def trace(flow):
        flow = Marked(flow, marked)
        along = directions(flow, x, key, plan.num_probes, plan.probe)
        return divergence_along(flow, x, along, plan.chunk)

    return equation.potential_residual(potential, eq, x, trace)


@functools.partial(jax.jit, static_argnames="plan")
def _of_score(field, eq: Equation, x, y, key, plan: Plan):
    score = lambda x, level: predict(field, x, level, "score", y)  # noqa: E731
    marked = is_pointwise(field) and is_shared((eq.level, eq.rate, eq.f, eq.half_noise, y))

    def residual(block):
        x, drift = block

        def trace_gradient(flow):
            flow = Marked(flow, marked)
            along = directions(flow, x, key, plan.num_probes, plan.probe)
            return gradient_of_divergence(flow, x, along, plan.chunk)

        return equation.score_residual(score, eq._replace(drift=drift), x, trace_gradient)

    size = x.shape[0]
    if marked and key is None and plan.chunk is None:
        size = rows_at_once(lambda x: score(x, eq.level), x) // math.prod(x.shape[1:])
    return by_blocks(residual, (x, eq.drift), size)


@functools.partial(jax.jit, static_argnames="plan")
def _of_velocity(functions, eq: Equation, x, y, key, plan: Plan):
    (field, log_density), level = functions, eq.level
    marked = is_pointwise(field) and is_shared((level, y))
    velocity = Marked(lambda x: predict(field, x, level, "velocity", y), marked)
    along = directions(velocity, x, key, plan.num_probes, plan.probe)
    score = jax.grad(lambda x: jnp.sum(log_density(x, level)))(x)
    change = rate_of(lambda level: log_density(x, level), eq)
    carried = divergence_along(velocity, x, along, plan.chunk) + sum_entries(velocity(x) * score, x)
    return change + carried
