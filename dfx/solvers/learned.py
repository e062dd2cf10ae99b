"""Samplers that are fitted: the coefficients and the grid of a multistep method for one field.

Both ways take the same starts and the same points of the exact path, and return a tableau.
`descend` follows the gradient of the error at the end through `sample`, in the weights and in the
grid; `least_squares` solves for the weights of one step after the other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dfx.errors import PersonError
from dfx.fields.field import as_pytree, denoiser
from dfx.solvers.phi import ddim_step
from dfx.solvers.recorder import Lin
from dfx.solvers.sample import sample
from dfx.solvers.steps import ends_clean, pairs, record
from dfx.solvers.tableau import Tableau


def multistep(schedule, grid, corrections) -> Tableau:
    """Return the data-prediction multistep method with given corrections e to DDIM,

        x_t = (sigma_t / sigma_s) x_s + (alpha_t - alpha_s sigma_t / sigma_s) d,
        d = x0_hat_i + sum over j < i of e_ij (x0_hat_j - x0_hat_i).

    A constant denoiser stays exact whatever e is. DPM-Solver++(2M) is e_{i,i-1} = -h_i / (2
    h_{i-1}). One evaluation a step, as many lanes as the corrections reach back, and one.

    Args:
      schedule, grid: as in `record`, n steps.
      corrections: for each step the numbers for the evaluations before it, newest first; what is
        not given is no part of the tableau. Step i may have at most i.

    Raises:
      PersonError: another number of rows than steps, a row that is too long, or a bad grid.
    """
    r, levels = record(schedule, grid)
    steps = pairs(levels)
    _check(corrections, len(steps))
    x, past = r.start, list[Lin]()
    for (s, t), row in zip(steps, corrections):
        newest = r.at(x, s).x0
        d = newest
        for e, older in zip(row, past):
            d = d + e * (older - newest)
        x = ddim_step(x, d, s, t)
        past = [newest, *past]
    return r.tableau(x, max_lanes=len(steps) + 1)


def second_order(schedule, grid, clean: bool) -> list[list]:
    """Return the corrections of DPM-Solver++(2M, midpoint), that of a last step to clean data 0."""
    _, levels = record(schedule, grid)
    lam = [level.half_log_snr for level in levels[: len(levels) - clean]]
    rows = [(lam[i + 1] - lam[i]) / (2 * (lam[i - 1] - lam[i])) for i in range(1, len(lam) - 1)]
    return [[], *[[e] for e in rows], *[[0.0]] * clean]


class Fit(NamedTuple):
    """A fitted sampler: its tableau, its times, and the errors that the fit saw.

    Attributes:
      tableau: what `sample` runs.
      grid: times, shape (n + 1,), float64.
      corrections: those of `multistep`, a list of n arrays.
      errors: root mean square distance to the exact ends: of every update (`descend`), or of every
        step (`least_squares`).
    """

    tableau: Tableau
    grid: np.ndarray
    corrections: list[np.ndarray]
    errors: np.ndarray


def descend(
    schedule,
    grid,
    field: Callable,
    x,
    path,
    *,
    depth: int | None = None,
    move_grid: bool = True,
    num_updates: int = 2000,
    learning_rate: float = 1e-2,
) -> Fit:
    """Return the multistep method whose end is nearest to the exact one, by Adam through `sample`.

    It starts as DPM-Solver++(2M). Learned are numbers added to its corrections, and the steps of
    the grid in time, which stay positive.

    Args:
      schedule, grid: where to begin; the first and the last time stay.
      field: (x, level) -> x0_hat.
      x: starts at grid[0], shape (N, *sample).
      path: points of the exact path at the times of the grid, shape (n + 1, N, *sample); only the
        last is used.
      depth: how many evaluations back a step may reach; None for all.
      move_grid: whether the inner times are learned too.
      num_updates: of Adam, its rate falling as a cosine.
      learning_rate: the first rate.

    Raises:
      PersonError: a path that does not match, a depth below 1, fewer than 2 steps, or a bad grid.
    """
    x, end = jnp.asarray(x), jnp.asarray(path[-1])
    grid = np.asarray(grid, np.float64)
    count = _check_fit(grid, x, path, depth)
    rows = [np.zeros(min(i, depth or count)) for i in range(count)]
    steps = _log_steps(schedule, grid)
    clean = ends_clean(record(schedule, grid)[1])
    numbers = (jax.tree.map(jnp.asarray, rows), jnp.asarray(steps))

    def build(numbers):
        extra, steps = numbers
        times = _times(grid, steps) if move_grid else jnp.asarray(grid)
        base = second_order(schedule, times, clean)
        return times, [_added(b, e) for b, e in zip(base, extra)]

    def loss(numbers):
        found = sample(multistep(schedule, *build(numbers)), field, x)
        return jnp.mean(jnp.sum((found - end).reshape(len(x), -1) ** 2, axis=1))

    rate = optax.cosine_decay_schedule(learning_rate, max(1, num_updates))
    numbers, losses = _adam(loss, numbers, optax.adam(rate), num_updates)
    times, corrections = jax.tree.map(np.asarray, build(numbers))
    # The ends are those given, which float32 may have moved; so is all of a grid that is kept.
    times = np.array([grid[0], *times[1:-1], grid[-1]], np.float64) if move_grid else grid
    return Fit(multistep(schedule, times, corrections), times, corrections, np.sqrt(losses))


def least_squares(schedule, grid, field: Callable, x, path, *, depth: int | None = None) -> Fit:
    """Return the multistep method whose every step comes nearest to the exact path, step by step.

    The corrections of a step are the least squares solution, over all starts and coordinates, for
    the distance of its end from the path, given the evaluations at the points that the steps
    before it really reach: so it also corrects their errors.

    Args:
      schedule, grid: as in `record`; the grid stays.
      field: (x, level) -> x0_hat.
      x: starts at grid[0], shape (N, *sample).
      path: points of the exact path at the times of the grid, shape (n + 1, N, *sample).
      depth: how many evaluations back a step may reach; None for all.

    Raises:
      PersonError: a path that does not match, a depth below 1, fewer than 2 steps, or a bad grid.

    Source: after Duan et al. 2023 (OLSS), whose weights are free; here a constant denoiser stays
      exact.
    """
    x = np.asarray(x)
    grid = np.asarray(grid, np.float64)
    count = _check_fit(grid, x, path, depth)
    _, levels = record(schedule, grid)
    field = as_pytree(field)
    past: list[np.ndarray] = []
    corrections, errors = [], []
    for i, (s, t) in enumerate(pairs(levels)):
        newest = np.asarray(_evaluate(field, x, s.astype(x.dtype)), np.float64)
        plain = ddim_step(x, newest, s, t)
        older = past[: depth or count]
        columns = [ddim_step(0.0, m - newest, s, t).reshape(-1) for m in older]
        row = np.zeros(0)
        if columns:
            row = np.linalg.lstsq(
                np.stack(columns, 1), (np.asarray(path[i + 1]) - plain).reshape(-1), rcond=1e-10
            )[0]
        end = plain + sum(e * c.reshape(x.shape) for e, c in zip(row, columns))
        errors.append(np.sqrt(np.mean(np.sum((end - path[i + 1]).reshape(len(x), -1) ** 2, 1))))
        corrections.append(row)
        x, past = end.astype(x.dtype), [newest, *past]
    return Fit(multistep(schedule, grid, corrections), grid, corrections, np.asarray(errors))


@jax.jit
def _evaluate(field, x, level):
    return denoiser(field(x, level))


def _adam(loss: Callable, numbers, optimizer, num_updates: int):
    """Return the numbers after the updates, and the loss before each."""

    @jax.jit
    def run(numbers):
        def update(carry, _):
            numbers, state = carry
            value, slopes = jax.value_and_grad(loss)(numbers)
            change, state = optimizer.update(slopes, state, numbers)
            return (optax.apply_updates(numbers, change), state), value

        start = numbers, optimizer.init(numbers)
        return jax.lax.scan(update, start, length=num_updates)

    (numbers, _), losses = run(numbers)
    return numbers, np.asarray(losses)


def _log_steps(schedule, grid) -> np.ndarray:
    """The logarithms of the steps in time."""
    _, levels = record(schedule, grid)
    if not np.isfinite(levels[0].half_log_snr):
        raise PersonError("the grid must start where alpha > 0, so that its log-SNR is finite")
    return np.log(-np.diff(grid))


def _times(grid, steps):
    """The times with these logarithms of steps, scaled so that both ends stay."""
    inner = jnp.cumsum(jax.nn.softmax(steps))[:-1]
    return jnp.concatenate([grid[:1], grid[0] + (grid[-1] - grid[0]) * inner, grid[-1:]])


def _added(base: list, extra) -> list:
    """The corrections `base`, none where it has none, plus the learned ones."""
    return [(base[j] if j < len(base) else 0.0) + extra[j] for j in range(len(extra))]


def _check(corrections, count: int) -> None:
    lengths = [len(row) for row in corrections]
    if len(lengths) != count or any(length > i for i, length in enumerate(lengths)):
        raise PersonError(
            f"corrections of lengths {lengths} for {count} steps: step i, from 0, takes at most i"
        )


def _check_fit(grid, x, path, depth) -> int:
    """Return the number of steps, after a look at everything that a fit is given."""
    count = len(grid) - 1
    if count < 2:
        raise PersonError(f"{count} steps: a fit needs at least 2")
    if depth is not None and depth < 1:
        raise PersonError(f"depth = {depth}: must be at least 1, or None for all")
    if np.shape(path) != (count + 1, *np.shape(x)):
        wanted = (count + 1, *np.shape(x))
        raise PersonError(f"the path has shape {np.shape(path)}: {wanted} is needed")
    return count
