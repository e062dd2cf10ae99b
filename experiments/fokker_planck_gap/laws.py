"""The laws that a net generates by its ODE and by its SDE, on a grid, and how far apart they are.

Both are computed without samples: the density of the ODE along its paths, that of the SDE by finite
volumes. The box reaches a margin beyond the window in which laws are compared, so that what leaves
the window is counted.

Distances are squares of W_2. "smooth" is the debiased entropic distance with a blur of one cell,
which stands for W_2^2 itself; "binned" is the exact earth mover's distance between histograms, as
the paper measures it, which is too large by the order of (W_2) x (cell) when W_2 is below a cell.
"""

from __future__ import annotations

import importlib.util
from typing import NamedTuple

import jax
import numpy as np

from dfx import evolution, fields

#: Entropy of the transport over the square of a cell: the kernel's deviation is one cell.
ENTROPY = 2.0

#: Sinkhorn's iteration: how far each step goes beyond its aim, iterations between checks, their
#: largest number, and the change of the distance between checks at which it stops.
OVERSHOOT, EVERY, MOST, TOLERANCE = 1.85, 50, 3000, 1e-7


class Window(NamedTuple):
    """A grid with a margin of cells on each side around the window."""

    grid: evolution.Grid
    margin: int

    @property
    def inner(self) -> evolution.Grid:
        """The grid of the window."""
        cut = self.margin * self.grid.spacing
        shape = tuple(n - 2 * self.margin for n in self.grid.shape)
        return evolution.Grid(self.grid.low + cut, self.grid.high - cut, shape)

    def crop(self, masses: np.ndarray) -> np.ndarray:
        """Return what lies in the window; the last two axes are those of the grid."""
        m = self.margin
        return masses[..., m : masses.shape[-2] - m, m : masses.shape[-1] - m]


def window(settings) -> Window:
    """Return the window [-half_width, half_width]^2 with `cells` per axis, and its margin."""
    reach = settings.half_width * (1 + 2 * settings.margin / settings.cells)
    cells = settings.cells + 2 * settings.margin
    return Window(evolution.make_grid([-reach] * 2, [reach] * 2, [cells] * 2), settings.margin)


def times(end_time: float, settings, num_steps: int) -> np.ndarray:
    """Return falling times whose distances shrink with the time, shape (num_steps + 1,).

    end + (T - end) u^power with u falling from 1 to 0; num_steps is even.
    """
    u = np.linspace(1.0, 0.0, num_steps + 1)
    return settings.end + (end_time - settings.end) * u**settings.power


def generated(schedule, field, space: Window, grid_of_times) -> dict[str, np.ndarray]:
    """Return the masses of both laws of a field in the cells of the grid: "ode" and "sde".

    The masses of the SDE sum to 1, since the box is closed; what those of the ODE lack of it has
    left the box, or lies between the centres.
    """
    laws = {
        # Of order 4 in the steps, and four evaluations each: every second time is enough.
        "ode": evolution.ode_law(schedule, field, space.grid, grid_of_times[::2]),
        "sde": evolution.sde_law(schedule, field, space.grid, grid_of_times),
    }
    return {name: np.asarray(law, np.float64) * space.grid.volume for name, law in laws.items()}


def net_laws(net, params, schedule, space: Window, grid_of_times) -> dict[str, np.ndarray]:
    """Return `generated` for the field of a net."""
    field = fields.from_net(net, params, net.prediction)
    return generated(schedule, field, space, grid_of_times)


def binned(space: Window, first, second, key, num_samples: int, cells: int) -> np.ndarray:
    """Return the square of W_2 between histograms of two laws of the window, and its floor.

    The floor is that between two samples of the first law. Both are nan where POT is not installed.
    """
    if importlib.util.find_spec("ot") is None:
        return np.full(2, np.nan)
    found = evolution.wasserstein_2d(space.inner, first, second, key, num_samples, cells)
    return np.square([found.distance, found.floor])


def smooth(space: Window, first, second) -> float:
    """Return the debiased entropic square of W_2 between two laws of the window, float64.

        S(p, q) = OT(p, q) - OT(p, p) / 2 - OT(q, q) / 2,
        OT(p, q) = min E|x - y|^2 + e KL(plan | p q),    e = 2 cell^2.

    It is zero for equal laws, |m|^2 for laws moved by m, also if |m| is far below a cell, and that
    of two normal laws of variance v differs from W_2^2 by the order of (e / 4 v)^2 of it.

    Source: Feydy et al. 2019 (Sinkhorn divergences).
    """
    p, q = (_normalised(masses) for masses in (first, second))
    cost = space.inner.spacing[0] ** 2 * ENTROPY
    kernels = [_kernel(space.inner.axis(i), cost) for i in range(2)]
    ends = [_transport(a, b, kernels, cost) for a, b in ((p, q), (p, p), (q, q))]
    return ends[0] - 0.5 * (ends[1] + ends[2])


def _normalised(masses):
    """Masses that sum to 1. What is below 1e-12 is dropped: its potentials have no digits."""
    masses = np.asarray(masses, np.float64) / np.sum(masses)
    masses = np.where(masses > 1e-12, masses, 0)
    return masses / masses.sum()


def _kernel(axis, entropy):
    return np.exp(-((axis[:, None] - axis) ** 2) / entropy)


def _transport(p, q, kernels, entropy):
    """OT(p, q) by Sinkhorn's iteration with overshoot; the plan is u K v, of marginals p and q.

    Source: Thibault et al. 2021 (overrelaxed Sinkhorn).
    """
    blur = lambda a: np.maximum(kernels[0] @ a @ kernels[1], 1e-300)  # noqa: E731
    u, v, last = np.sqrt(p), np.sqrt(q), np.inf
    for i in range(1, MOST + 1):
        if p is q:  # the two scalings are one, and the mean of the exponents converges at once
            u = v = np.sqrt(u * p / blur(u))
        else:
            v = _towards(v, q / blur(u))
            u = _towards(u, p / blur(v))
        if i % EVERY == 0:
            value = entropy * (_mean_log(p, u) + _mean_log(q, v))
            if abs(value - last) < TOLERANCE:
                break
            last = value
    return value


def _towards(old, aim):
    return old * (aim / np.where(old > 0, old, 1)) ** OVERSHOOT


def _mean_log(masses, scaling):
    held = masses > 0
    return float(masses[held] @ np.log(scaling[held] / masses[held]))


def distances(config, space: Window, truth, laws, key: jax.Array) -> dict[str, np.ndarray]:
    """Return the squares of W_2 between ODE and SDE, ODE and truth, SDE and truth of one net.

    Args:
      truth: masses in the whole grid.
      laws: "ode" and "sde", as `generated` makes them.

    Returns:
      smooth (3,), binned (3,), floor (): that of the truth's samples; outside (3,): the mass of
      ODE, SDE and truth beyond the window; lost (): the mass of the ODE beyond the whole box.
    """
    settings, keys = config.distances, jax.random.split(key, 3)
    inside = {name: space.crop(masses) for name, masses in (*laws.items(), ("truth", truth))}
    pairs = (("ode", "sde"), ("truth", "ode"), ("truth", "sde"))
    found = np.stack([
        binned(space, inside[a], inside[b], k, settings.num_samples, settings.cells)
        for (a, b), k in zip(pairs, keys)
    ])  # fmt: skip
    return {
        "smooth": np.array([smooth(space, inside[a], inside[b]) for a, b in pairs]),
        "binned": found[:, 0],
        "floor": found[1, 1],
        "outside": 1 - np.array([inside[name].sum() for name in ("ode", "sde", "truth")]),
        "lost": 1 - laws["ode"].sum(),
    }
