"""Exact fields with a planted error: what harms the samples, and what does not.

What studies of errors share: a law with a closed-form score under a schedule (`Bed`), errors of two
kinds and of one size,

    gauge:     r = c A s,                    div(p_t r) = 0 at every t: no law changes,
    gradient:  r = c w(t) grad u,            E_p|r|^2 that of the gauge error at every t,

with A = [[0, 1], [-1, 0]] in two dimensions, samples of the erroneous field from p_T exact, and the
distance W_2 of two sets of samples, to be read beside that of two exact draws.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dfx import diagnostics, fields, metrics, solvers, targets
from dfx.pytree import pytree
from dfx.schedules import grids, marginal_sample

#: The rotation by a quarter turn, |A s| = |s|.
TURN = np.array([[0.0, 1.0], [-1.0, 0.0]])

#: What is folded into a key for the starts, the noise and the exact draws: one key serves all.
_START, _NOISE, _TRUTH = range(3)


class Bed(NamedTuple):
    """A law and its forward process.

    Attributes:
      target: with closed-form score, `dim` 2 for the gauge error of `TURN`.
      schedule: the forward process, without a mean term.
    """

    target: targets.Mixture
    schedule: Any

    @property
    def exact(self) -> fields.OracleField:
        """The exact field."""
        return fields.oracle(self.target)

    def draw(self, key, n: int, t: float, dtype=jnp.float32) -> jax.Array:
        """Return n exact draws of p_t, shape (n, d)."""
        return _draw(self.target, key, self.schedule.at(t), n, dtype)


@functools.partial(jax.jit, static_argnames=("n", "dtype"))
def _draw(target, key, level, n, dtype):
    key_x, key_eps = jax.random.split(key)
    x0 = target.sample(key_x, n, dtype)
    return marginal_sample(x0, jax.random.normal(key_eps, x0.shape, dtype), level)


def three_modes() -> targets.Mixture:
    """Return three Gaussians in two dimensions, unequal in weight, size and shape, of about unit
    size."""
    means = [[1.2, 0.0], [-0.7, 0.9], [-0.4, -1.0]]
    covariances = [
        [[0.06, 0.02], [0.02, 0.10]],
        [[0.12, -0.05], [-0.05, 0.06]],
        [[0.05, 0.0], [0.0, 0.05]],
    ]
    return targets.Mixture.full(means, covariances, (0.5, 0.3, 0.2))


def gauge_error(bed: Bed, size=1.0, matrix=TURN) -> Callable:
    """Return r = size A s of the law; E_p|r|^2 = size^2 E_p|s|^2 for A = `TURN`."""
    return diagnostics.rotated(bed.exact, size * np.asarray(matrix))


@pytree
@dataclasses.dataclass(frozen=True)
class Ripple:
    """The potential u = (sin(2 x_1 + 0.5) + cos(2 x_2 - 0.3)) / 2, shape (n,): |grad u|^2 is of
    order 1 on a law of unit size. A record, so that it can say `pointwise`."""

    pointwise = True

    def __call__(self, x, level):
        return 0.5 * (jnp.sin(2 * x[:, 0] + 0.5) + jnp.cos(2 * x[:, 1] - 0.3))


ripple = Ripple()


def equal_weight(
    bed: Bed, error: Callable, reference: Callable, key, times, n: int = 20_000
) -> diagnostics.TimeTable:
    """Return the weight w(t) that gives `error` the E_p|.|^2 of `reference` at every time.

    Args:
      bed: the law.
      error, reference: (x, level) -> r, such as `diagnostics.gradient_of(ripple)` and
        `gauge_error(bed)`.
      key: of the draws of p_t behind the means.
      times: rising, shape (m,); linear between them.
      n: draws at each time; the weight is off by about 1 / sqrt(n) of itself.
    """
    times = np.asarray(times, np.float64)
    draws = [bed.draw(jax.random.fold_in(key, i), n, t) for i, t in enumerate(times)]
    return diagnostics.equal_norm(error, reference, bed.schedule, times, draws)


def scaled(weight: diagnostics.TimeTable, size) -> diagnostics.TimeTable:
    """Return the weight times a number."""
    return diagnostics.TimeTable(weight.times, size * np.asarray(weight.values))


def sizes(bed: Bed, errors: dict[str, tuple[Callable, Any]], key, times, n: int = 20_000) -> dict:
    """Return E_p|w r|^2 and E_p|s|^2 at each time, arrays (m,), from draws that no weight saw.

    Args:
      errors: name -> (r, w), w a number or a function of the level.

    Returns:
      name -> E_p|w r|^2, and "score" -> E_p|s|^2.
    """
    score = diagnostics.rotated(bed.exact, TURN)  # |A s| = |s|
    rows: dict[str, tuple[Callable, Any]] = {**errors, "score": (score, 1.0)}
    found: dict[str, list] = {name: [] for name in rows}
    for i, t in enumerate(np.asarray(times, np.float64)):
        x, level = bed.draw(jax.random.fold_in(key, i), n, t), bed.schedule.at(t)
        for name, (error, weight) in rows.items():
            factor = weight(level) if callable(weight) else weight
            mean = diagnostics.mean_square(error, x, level)
            found[name].append(float(factor) ** 2 * float(mean))
    return {name: np.asarray(row) for name, row in found.items()}


def sample(
    bed: Bed,
    field: Callable,
    keys,
    n: int,
    solver: str,
    num_steps: int,
    stops: Sequence[float],
    dtype=jnp.float32,
    **options,
) -> np.ndarray:
    """Return samples of a field at several times, shape (stops, m, n, d).

    Every member starts from exact draws of p_T and goes on from stop to stop by `num_steps` equal
    steps of t. The members run as one batch.

    Args:
      field: (x, level) -> x0_hat, such as `diagnostics.with_error(bed.exact, error, weight)`.
      keys: (m,), one a member. Equal keys give equal starts, whatever field and solver.
      n: samples of a member.
      solver: one of `solvers.REGISTRY`: "flow_euler", "flow_heun", "flow_rk4" are the plain methods
        for dx/dt = velocity, 1, 2 and 4 evaluations a step; "sa_solver" the reverse SDE, order 2.
      num_steps: from one stop to the next, so that all stretches are one compiled program.
      stops: falling times, the last above 0.
      options: of the solver.
    """
    times = (float(bed.schedule.end_time), *map(float, stops))
    stretches = [
        solvers.make(solver, bed.schedule, grids.uniform(bed.schedule, num_steps, s, t), **options)
        for s, t in itertools.pairwise(times)
    ]
    return follow(bed, field, keys, n, stretches, dtype)


def follow(bed: Bed, field: Callable, keys, n: int, stretches, dtype=jnp.float32) -> np.ndarray:
    """Return the ends of solvers run one after the other from exact draws of p_T, shape
    (stretches, m, n, d).

    Args:
      stretches: tableaus, the first from the end time on; `solvers.pad` makes one compiled program
        of several.
      bed, field, keys, n: as in `sample`.
    """
    x = _draw_all(bed, keys, n, bed.schedule.end_time, _START, 0, dtype)
    shape, x = x.shape, x.reshape(-1, x.shape[-1])
    noise, found = jax.random.fold_in(keys[0], _NOISE), []
    for i, tableau in enumerate(stretches):
        # One copy of the field: these are compiled longer than a second one would save.
        key = jax.random.fold_in(noise, i)
        x = solvers.sample(tableau, field, x, key, merged=True, unroll=1)
        found.append(np.asarray(x).reshape(shape))
    return np.stack(found)


def truth(bed: Bed, keys, n: int, stops: Sequence[float], copy: int = 0) -> np.ndarray:
    """Return exact draws of p_t at the times `stops`, shape (stops, m, n, d).

    Independent of what `sample` makes of the same keys, and of other copies.
    """
    found = [_draw_all(bed, keys, n, t, _TRUTH + copy, i) for i, t in enumerate(stops)]
    return np.stack([np.asarray(x) for x in found])


def distances(x, y) -> np.ndarray:
    """Return the exact W_2 of each pair of sets: (*batch, n, d) twice -> (*batch,).

    0.1 s a pair at n = 1000, 0.6 s at n = 2000. Of two draws of one law it is not 0; infinite where
    a sample is not finite, as at too few steps of an unstable solver.
    """
    x, y = np.asarray(x), np.asarray(y)
    found = np.full(x.shape[:-2], np.inf)
    for i in np.ndindex(found.shape):
        if np.isfinite(x[i]).all() and np.isfinite(y[i]).all():
            found[i] = metrics.wasserstein_exact(x[i], y[i])
    return found


def _draw_all(bed, keys, n, t, kind, index, dtype=jnp.float32):
    """Draws of p_t for each key, shape (m, n, d)."""
    fold = lambda key: jax.random.fold_in(jax.random.fold_in(key, kind), index)  # noqa: E731
    draw = lambda key: _draw(bed.target, fold(key), bed.schedule.at(t), n, dtype)  # noqa: E731
    return jax.vmap(draw)(keys)
