"""The laws that a net generates by its ODE and by its SDE, on a grid, and how far apart they are.

Both are computed without samples: the density of the ODE along its paths, that of the SDE by finite
volumes. The box reaches a margin beyond the window in which laws are compared, so that what leaves
the window is counted. Nets with a large weight of the residual drive a part of their law out of any
box; there it stays at the wall, and a box twice as wide moves the distances in the window by less
than one part in a hundred.

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

#: The pairs of laws whose distances are taken, in this order.
PAIRS = (("ode", "sde"), ("truth", "ode"), ("truth", "sde"))

#: Without it there are no histograms.
HAS_POT = importlib.util.find_spec("ot") is not None


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


def binned(space: Window, first, second, cells: int) -> float:
    """Return the square of W_2 between histograms of two laws of the window; nan without POT."""
    return evolution.wasserstein_2d(space.inner, first, second, cells) ** 2 if HAS_POT else np.nan


def floor(space: Window, law, key: jax.Array, settings) -> float:
    """Return the square of W_2 between histograms of two samples of a law; nan without POT."""
    if not HAS_POT:
        return np.nan
    size = settings.num_samples, settings.cells
    return evolution.sampling_floor_2d(space.inner, law, key, *size) ** 2


def distances(config, space: Window, truth, laws, key: jax.Array) -> dict[str, np.ndarray]:
    """Return the squares of W_2 between ODE and SDE, ODE and truth, SDE and truth of one net.

    Args:
      truth: masses in the whole grid.
      laws: "ode" and "sde", as `generated` makes them.

    Returns:
      smooth (3,), binned (3,), floor (): that of the truth's samples; outside (3,): the mass of
      ODE, SDE and truth beyond the window; lost (): the mass of the ODE beyond the whole box.
    """
    settings = config.distances
    inside = {name: space.crop(masses) for name, masses in (*laws.items(), ("truth", truth))}
    pairs = [(inside[a], inside[b]) for a, b in PAIRS]
    smooth = [evolution.sinkhorn_divergence(space.inner, *pair) for pair in pairs]
    return {
        "smooth": np.array(smooth),
        "binned": np.array([binned(space, *pair, settings.cells) for pair in pairs]),
        "floor": np.asarray(floor(space, inside["truth"], key, settings)),
        "outside": 1 - np.array([inside[name].sum() for name in ("ode", "sde", "truth")]),
        "lost": 1 - laws["ode"].sum(),
    }
