"""The laws that a field generates, as densities on a grid, without samples."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from dfx.evolution.fokker_planck import evolve
from dfx.evolution.grid import Grid, on_grid
from dfx.evolution.motion import reverse
from dfx.evolution.transport import carried_log_density


def ode_law(
    schedule,
    field: Callable,
    grid: Grid,
    times,
    start: Callable | None = None,
    method: str = "rk4",
    dtype=None,
):
    """Return the law of the probability-flow ODE at the last of the times, shape `grid.shape`.

    The density at each centre by the path that ends there (`carried_log_density`): order 4 in the
    steps, no error in space, positive everywhere. It is not normalised: what its mass lacks of 1
    is what lies outside the box or between the centres, and tells whether the grid resolves it.

    Args:
      schedule: the forward process, without a mean term.
      field: (x, level) -> x0_hat.
      grid: where the density is wanted.
      times: falling, shape (steps + 1,); sigma must not be 0 at the last.
      start: points (n, d) -> log-density at the first time; None is N(0, sigma^2 I).
      method: of `transport.METHODS`.
      dtype: of the computation; None is JAX's default float.

    Raises:
      PersonError: as `reverse` and `move`.
    """
    motion = reverse(schedule, field, 0.0)
    prior = start or normal_prior(schedule, times)
    log_density = carried_log_density(motion, grid.centres(dtype), times, prior, method)
    return jnp.exp(log_density).reshape(grid.shape)


def sde_law(
    schedule,
    field: Callable,
    grid: Grid,
    times,
    noise_level: float = 1.0,
    start: Callable | None = None,
    method: str = "crank_nicolson",
    dtype=None,
):
    """Return the law of the reverse SDE at the last of the times, shape `grid.shape`, mass 1.

    Finite volumes (`evolve`): order 2 in spacing and steps. The box must hold the law at all times.

    Args:
      schedule, field, grid, start, dtype: as for `ode_law`.
      times: falling; the last may be that of clean data, the first must have alpha > 0.
      noise_level: lam of `reverse`, not much below the drift times the spacing (see `evolve`).
      method: as for `evolve`.

    Raises:
      PersonError: as `reverse` and `evolve`.
    """
    density = on_grid(start or normal_prior(schedule, times), grid, dtype)
    return evolve(reverse(schedule, field, noise_level), grid, density, times, method)


def normal_prior(schedule, times) -> Callable:
    """Return the log-density of N(0, sigma^2 I) at the first of the times: points (n, d) -> (n,).

    It is p_t there only up to what is left of x0.
    """
    sigma = float(schedule.at(float(np.asarray(times)[0])).sigma)

    def log_density(x):
        constant = math.log(sigma) + 0.5 * math.log(2 * math.pi)
        return -0.5 * jnp.sum((x / sigma) ** 2, axis=-1) - x.shape[-1] * constant

    return log_density
