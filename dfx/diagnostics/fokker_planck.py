"""Do the laws of a model at different times belong together? Residuals of the evolution equations.

The law p_t of the forward equation dx = F dt + g dw, F = f(t) x + h(t) y (`schedules.derived`),
obeys the Fokker-Planck equation. For phi = log p, s = grad phi and the velocity v of the
deterministic flow it reads, as a residual that vanishes,

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
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from dfx.diagnostics.directions import (
    CHUNK,
    check_probes,
    directions,
    divergence,
    gradient_of_divergence,
)
from dfx.diagnostics.equation import (
    Equation,
    check_finite,
    check_noise,
    check_potential,
    equation,
    rate_of,
    sum_entries,
)
from dfx.diagnostics.views import predict
from dfx.fields.field import as_pytree


class Plan(NamedTuple):
    """How directions are taken: the static part of a compiled program."""

    num_probes: int
    probe: str
    chunk: int


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
    chunk: int = CHUNK,
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
      chunk: how many directions are taken at once.

    Raises:
      PersonError: times at which f or g is infinite, a missing y, probes that are not allowed, a
        potential whose result does not have the shape (n,).

    Source: Lai et al. 2023 (FP-Diffusion), for the log-density; Deveney et al. 2023.
    """
    check_probes(num_probes, probe)
    eq = equation(schedule, x, t, y)
    check_finite(eq)
    check_potential(potential, x, eq.level)
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
    chunk: int = CHUNK,
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
    eq = equation(schedule, x, t, y)
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
    chunk: int = CHUNK,
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
    eq = equation(schedule, x, t, y)
    check_noise(eq)
    check_potential(log_density, x, eq.level)
    functions = as_pytree(field), as_pytree(log_density)
    return _of_velocity(functions, eq, x, y, key, Plan(num_probes, probe, chunk))


# Levels and coefficients are arguments of the programs: one serves all schedules and times.
@functools.partial(jax.jit, static_argnames="plan")
def _of_potential(potential, eq: Equation, x, key, plan: Plan):
    gradient = lambda x: jax.grad(lambda x: jnp.sum(potential(x, eq.level)))(x)  # noqa: E731
    flow = lambda x: eq.half_noise * gradient(x)  # noqa: E731
    along = directions(flow, x, key, plan.num_probes, plan.probe)
    s = gradient(x)
    rate = rate_of(lambda level: potential(x, level), eq)
    spread = divergence(flow, x, along, plan.chunk) + sum_entries(eq.half_noise * s**2, x)
    return rate + sum_entries(eq.f, x) + sum_entries(eq.drift * s, x) - spread


@functools.partial(jax.jit, static_argnames="plan")
def _of_score(field, eq: Equation, x, y, key, plan: Plan):
    score = lambda x, level=eq.level: predict(field, x, level, "score", y)  # noqa: E731
    flow = lambda x: eq.half_noise * score(x)  # noqa: E731
    along = directions(flow, x, key, plan.num_probes, plan.probe)
    s, pull = jax.vjp(score, x)
    # grad |s|^2 = 2 J^T s and grad (F . s) = f s + J^T F.
    slope = pull(2 * eq.half_noise * s - eq.drift)[0] - eq.f * s
    rate = rate_of(lambda level: score(x, level), eq)
    return rate - slope - gradient_of_divergence(flow, x, along, plan.chunk)


@functools.partial(jax.jit, static_argnames="plan")
def _of_velocity(functions, eq: Equation, x, y, key, plan: Plan):
    (field, log_density), level = functions, eq.level
    velocity = lambda x: predict(field, x, level, "velocity", y)  # noqa: E731
    along = directions(velocity, x, key, plan.num_probes, plan.probe)
    score = jax.grad(lambda x: jnp.sum(log_density(x, level)))(x)
    change = rate_of(lambda level: log_density(x, level), eq)
    carried = divergence(velocity, x, along, plan.chunk) + sum_entries(velocity(x) * score, x)
    return change + carried
