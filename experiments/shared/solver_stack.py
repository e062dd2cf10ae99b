"""Many solvers at once: tableaus of one length on top of each other, one row after the other.

`solvers.sample` compiles a program for every pattern and length, which pays where a solver runs
often. A study runs thousands of solvers once: here the field alone is compiled, once for a batch of
points whatever the solvers are, and the lanes are combined in float64 NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import jax
import numpy as np

from dfx import solvers
from dfx.fields.field import as_pytree

#: Points that a compiled field takes at a time, if their number allows it.
BLOCK = 64


def run_stack(tableaus: Sequence[solvers.Tableau], field: Callable, x, inputs=()) -> np.ndarray:
    """Return the ends of every solver from its starts, as `solvers.sample` would one by one.

    Args:
      tableaus: m deterministic solvers on schedules of one class of level; the short ones wait for
        the long ones, and evaluate the field in vain.
      field: (x, level) -> x0_hat for a batch (b, d) with one level a sample, (b, 1); compiled by
        the caller.
      x: starts, shape (m, n, d).
      inputs: further starts, shapes (m, n, d).

    Returns:
      Ends, shape (m, n, d), float64.
    """
    stack = solvers.stack(solvers.pad(list(tableaus)))
    (rows,) = stack.phases
    levels, coef = (jax.tree.map(np.asarray, part) for part in (rows.level, rows.coef))
    given = (np.asarray(x, np.float64), *(np.asarray(a, np.float64) for a in inputs))
    lanes = {lane: np.zeros_like(given[0]) for lane in range(stack.lanes)}
    lanes |= _combine(stack.start, lambda source: given[source])
    for i in range(levels.t.shape[1]):
        level, row = _row(levels, i), _row(coef, i)
        sources = {**lanes, solvers.output(0): _evaluate(field, lanes[0], level)}
        lanes |= _combine(row, sources.__getitem__)
    return lanes[0]


def jitted(field: Callable) -> Callable:
    """Return the field as a compiled function from NumPy to NumPy, levels one a sample.

    It takes BLOCK points at a time, which stay in cache: a fifth of the time for mixtures in 64
    dimensions. Fields of one shape share the program.
    """
    field = as_pytree(field)
    return lambda x, level: np.asarray(_in_blocks(field, x, level))


@jax.jit
def _in_blocks(field, x, level):
    size = math.gcd(len(x), BLOCK)
    blocks = jax.tree.map(lambda a: a.reshape(-1, size, *a.shape[1:]), (x, level))
    return jax.lax.map(lambda block: field(*block), blocks).reshape(x.shape)


def _row(stacked, i: int):
    """Row i of levels or coefficients, stack first."""
    return jax.tree.map(lambda entry: entry[:, i], stacked)


def _evaluate(field, x, level) -> np.ndarray:
    """The denoiser at points (m, n, d) with a level for each of m."""
    m, n, d = x.shape
    each = jax.tree.map(lambda entry: np.repeat(entry, n)[:, None], level)
    return field(x.reshape(m * n, d), each).reshape(m, n, d)


def _combine(coef: dict, source: Callable) -> dict:
    result: dict = {}
    for (lane, name), weight in coef.items():
        weight = np.asarray(weight)
        weight = weight.reshape(len(weight), 1, -1)  # (m,) or one number a coordinate, (m, d)
        result[lane] = result.get(lane, 0.0) + weight * source(name)
    return result
