"""The part of a net's score error that is a gradient, as a field that can be sampled.

A score error e = s_theta - s is split in L^2(p_t), e = grad u + r with div(p_t r) = 0, on a grid of
cells at each of several noise levels, where the split is exact up to the size of the cells. Between
cells and levels grad u is interpolated. All of it as eps: eps = -sigma grad u is of order one at
every level. Laws in the plane, given as a `perturbed.Bed`.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dfx import diagnostics
from dfx.pytree import pytree

#: The box of the grid reaches so many standard deviations of a mode beyond the farthest mode.
REACH = 3.5


@pytree
@dataclasses.dataclass(frozen=True)
class OnGrid:
    """A vector field, (n, 2) -> (n, 2), bilinear between the centres of the cells of a box round 0
    and constant beyond.

    Attributes:
      side: half the side of the box.
      values: at the centres, shape (2, cells, cells).
    """

    side: Any
    values: Any

    def __call__(self, x):
        values = jnp.asarray(self.values, x.dtype)
        unit = x / jnp.asarray(self.side, x.dtype)
        place = 0.5 * (unit.T + 1) * values.shape[-1] - 0.5  # in cells, from the first centre
        pick = lambda a: jax.scipy.ndimage.map_coordinates(a, list(place), 1, mode="nearest")  # noqa: E731
        return jnp.stack([pick(a) for a in values], axis=1)


@pytree
@dataclasses.dataclass(frozen=True)
class GradientPart:
    """The error grad u of a score from its values on grids, eps = -sigma grad u.

    Bilinear in x / (half the side of the level's box), constant beyond the box, linear in log t.

    Attributes:
      log_times: of the levels, rising, shape (k,).
      sides: half sides of the boxes, shape (k,).
      values: eps at the centres of the cells, shape (k, 2, cells, cells).
    """

    log_times: Any
    sides: Any
    values: Any
    pointwise = True

    def __call__(self, x, level):
        log_t = jnp.log(jnp.reshape(jnp.asarray(level.t, x.dtype), ()))
        log_times = jnp.asarray(self.log_times, x.dtype)
        last = len(self.log_times) - 1
        place = jnp.interp(log_t, log_times, jnp.arange(last + 1, dtype=x.dtype))
        below = jnp.clip(jnp.floor(place).astype(int), 0, last - 1)
        share = place - below
        eps = (1 - share) * self._at(x, below) + share * self._at(x, below + 1)
        return -eps / jnp.asarray(level.sigma, x.dtype)

    def _at(self, x, index):
        side, values = (jnp.asarray(a, x.dtype)[index] for a in (self.sides, self.values))
        return OnGrid(side, values)(x)


def split_at(bed, field, t: float, x, cells: int) -> dict[str, Any]:
    """Return the split of one field's error at time t.

    Args:
      bed: the law and its process.
      field: the erroneous field.
      t: the time.
      x: draws of p_t, shape (n, 2), over which the parts are averaged.
      cells: of the grid, along an axis.

    Returns:
      `values` (2, cells, cells) and `side`, as `GradientPart` holds them, and the mean squares
      `total`, `gradient`, `remainder` and the mean product `inner` of the parts of the eps error.
    """
    level = bed.schedule.at(t)
    side = half_side(bed, level)
    values = grid_gradient(bed, field, t, side, cells).astype(np.float32)
    parts = diagnostics.parts(OnGrid(side, values), x, eps_error(bed, field, x, level))
    means = {name: float(value) for name, value in parts._asdict().items()}
    return {"values": values, "side": side, **means}


@jax.jit
def eps_error(bed, field, x, level):
    """Return -sigma (s_theta - s) at x, shape of x."""
    of, minus = (diagnostics.prediction_at(f, level, "eps") for f in (field, bed.exact))
    return of(x) - minus(x)


def half_side(bed, level) -> float:
    """Return half the side of the box round the modes at a level; modes are isotropic."""
    law = bed.target.at(level)
    farthest = np.linalg.norm(np.asarray(law.means), axis=1).max()
    return float(farthest + REACH * np.sqrt(np.max(np.asarray(law.variance))))


def grid_gradient(bed, field, t: float, side: float, cells: int) -> np.ndarray:
    """Return the gradient part of the eps error at the centres of the cells, shape (2, cells,
    cells), from its exact split on the grid."""
    level = bed.schedule.at(t)
    edges = [np.linspace(-side, side, cells + 1)] * 2
    with jax.enable_x64(True):
        error = functools.partial(eps_error, bed, field, level=level)
        log_p = functools.partial(log_prob, bed.target, level=level)
        on_host = lambda f: lambda x: np.asarray(f(jnp.asarray(x)), np.float64)  # noqa: E731
        found = diagnostics.split_on_grid(on_host(error), on_host(log_p), edges)
    return np.stack([at_centres(g, axis) for axis, g in enumerate(found.gradient)])


def at_centres(on_faces, axis: int) -> np.ndarray:
    """Return the means of neighbouring inner faces, at the centres; the outermost cells take that
    of their one face."""
    first, last = (np.take(on_faces, [i], axis) for i in (0, -1))
    padded = np.concatenate([first, on_faces, last], axis)
    n = padded.shape[axis]
    below, above = (np.take(padded, range(i, n - 1 + i), axis) for i in (0, 1))
    return 0.5 * (below + above)


#: log p_t at x, compiled once for all parts.
log_prob = jax.jit(lambda target, x, level: target.log_prob(x, level))
