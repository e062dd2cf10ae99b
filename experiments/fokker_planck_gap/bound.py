"""The bound of the gap between ODE and SDE, where both its sides are known without training.

    W_2(SDE, ODE) <= int_0^T exp(int_0^t l) (g^2 / 2) (E |grad w|^2)^{1/2} dt

(`dfx.evolution.gap_bound`), w = log p_SDE - phi, l the largest rate at which the reversed ODE
drives points apart. For a linear score it is an equality. On the line, for phi = log p_t + e eta
with a bump eta, the largest rate over all x is that between the modes, where hardly any mass is.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dfx import evolution, fields, targets
from dfx.pytree import pytree
from experiments.fokker_planck_gap.data import OrnsteinUhlenbeck

#: Two modes on the line.
LINE = targets.Mixture.isotropic([[-1.0], [1.0]], 0.3)
BOX, END_TIME = 6.0, 2.0

#: The linear case: data variance, relative error of the score, end time.
VARIANCE, ERROR, LENGTH = 0.3, 0.2, 1.0


@pytree
@dataclasses.dataclass(frozen=True)
class WrongScore:
    """grad (log p_t + e eta), eta = exp(-x^2 / 2) sin 2x; consistent with no law for e > 0."""

    error: Any

    def __call__(self, x, level):
        return LINE.score(x, level) + self.error * bump_slope(x)


def bump_slope(x):
    """Return the derivative of exp(-x^2 / 2) sin 2x."""
    return jnp.exp(-0.5 * x**2) * (2 * jnp.cos(2 * x) - x * jnp.sin(2 * x))


def linear(num_steps: int) -> dict[str, float]:
    """Return gap and bound for N(0, 0.3) and a score that is 1.2 times the exact one.

    Both laws start from e^phi at t = 1.
    """
    schedule, t = OrnsteinUhlenbeck(LENGTH), np.linspace(0, LENGTH, num_steps + 1)
    level = schedule.at(t)
    total = VARIANCE * level.alpha**2 + level.sigma**2
    start = total[-1] / (1 + ERROR)

    def variances(noise_level):
        law = evolution.linear_law(
            schedule, VARIANCE, ERROR, noise_level, LENGTH, t[:-1], start_variance=start
        )
        return np.append(law.variance, start)

    sde, ode = variances(1.0), variances(0.0)
    fisher = sde * ((1 + ERROR) / total - 1 / sde) ** 2
    rate = 1 - 0.5 * (1 + ERROR) / total
    bound = evolution.gap_bound(t, jnp.asarray(rate), 0.5, jnp.asarray(fisher))
    return {"gap": abs(np.sqrt(sde[0]) - np.sqrt(ode[0])), "bound": float(bound)}


def on_the_line(error: float, cells: int, num_steps: int) -> dict[str, float]:
    """Return gap, bound and the growth exp(int_0^T l) for the bump of size `error`, in float64.

    Both laws start from p_T at T = 2. Quantiles for the ODE, finite volumes for the SDE.
    """
    schedule, grid = OrnsteinUhlenbeck(END_TIME), evolution.make_grid(-BOX, BOX, cells)
    field = fields.from_function(WrongScore(error), "score")
    falling = np.linspace(END_TIME, 0.0, num_steps + 1)
    top = schedule.at(END_TIME)
    start = evolution.on_grid(lambda x: LINE.log_prob(x, top), grid)
    motion, keep = evolution.reverse(schedule, field), tuple(range(num_steps + 1))[::-1]
    laws = evolution.evolve(motion, grid, start, falling, keep=keep)  # rising times
    t = falling[::-1]
    rate, fisher = _rates(schedule, grid, laws, jnp.asarray(t), error)
    nodes = evolution.normal_nodes(4001)
    x = jnp.asarray(evolution.mixture_quantiles(LINE, top, nodes))[:, None]
    flow = evolution.reverse(schedule, field, 0.0)
    ode = evolution.move(flow, x, np.append(falling[:-1], 1e-5), "midpoint")
    sde = evolution.grid_quantiles(grid, np.asarray(laws[0]), nodes)
    return {
        "gap": evolution.wasserstein(ode, sde, nodes),
        "bound": float(evolution.gap_bound(t, rate, 0.5, fisher)),
        "growth": float(np.exp(np.trapezoid(np.asarray(rate), t))),
    }


@jax.jit
def _rates(schedule, grid, laws, t, error):
    """l = max_x (1 + s' / 2) and E |grad w|^2 at each of the times."""
    x = grid.centres(t.dtype)

    def at_time(now):
        p, time = now
        score = WrongScore(error)(x, schedule.at(time))
        slope = jnp.asarray(jnp.gradient(score[:, 0], grid.spacing[0]))
        # Where no mass is left its logarithm has no slope: the mean of p |..|^2 does not see it.
        slopes = evolution.score_on_grid(grid, jnp.maximum(p, 1e-20))
        gap = jnp.where(p[:, None] > 1e-12, slopes - score, 0)
        return jnp.max(1 + 0.5 * slope), jnp.sum(p * gap[:, 0] ** 2) * grid.volume

    return jax.lax.map(at_time, (laws, t))


def bounds(settings) -> dict[str, np.ndarray]:
    """Return the linear case and the bumps: "linear" (gap, bound), "line" (errors, 3)."""
    with jax.enable_x64(True):
        line = [on_the_line(e, settings.cells, settings.num_steps) for e in settings.errors]
        flat = linear(settings.num_steps)
    return {
        "linear": np.array(list(flat.values())),
        "line": np.array([list(case.values()) for case in line]),
    }
