"""Sampling: one function for every tableau on every field."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dfx.fields.field import NetField, as_pytree
from dfx.solvers.checks import as_points, check_arguments, check_block, check_levels
from dfx.solvers.executor import run_rows
from dfx.solvers.noise import BLOCK, draw, draw_size, is_tiny
from dfx.solvers.observers import Observer
from dfx.solvers.tableau import Rows, Tableau, merge

#: Samples of at most this size, from a field that treats each by itself, run in blocks that stay in
#: cache.
SMALL = 64

#: Rows in a turn of the loop where several lanes are copied at its end.
UNROLL = 4

#: About how many random numbers are drawn at once, for several rows if one needs fewer.
NUMBERS_A_DRAW = 40_000


class Plan(NamedTuple):
    """How a tableau is run: the static part of the compiled program."""

    observe: Observer | None
    block: int
    merged: bool
    unroll: int
    batch_last: bool


def sample(
    tableau: Tableau,
    field: Callable,
    x,
    key=None,
    *,
    inputs: tuple = (),
    observe: Observer | None = None,
    noise: Callable | None = None,
    block: int | None = None,
    merged: bool | None = None,
    unroll: int | None = None,
):
    """Return the end of the solver's path from x.

    One `lax.scan` over the rows; tableau, field and arrays are arguments of one compiled program,
    which solvers of one pattern and fields of one shape share. Sample i has the same noise in every
    batch, and the same numbers, up to rounding, however the run is organised.

    Args:
      tableau: the solver on its grid, from a builder such as `ddim(schedule, grid)`.
      field: (x, level) -> x0_hat, or a tuple that begins with it. A pytree is an argument of the
        program; a plain function is part of it, so keep one function object.
      x: the start, shape (n, *sample), floating; `prior` draws it. Its dtype is that of the lanes.
      key: a typed key; needed if the tableau is stochastic and no `noise` is given.
      inputs: further starts, shape of x and taken in its dtype; the first is y for a schedule with
        a mean term.
      observe: folded over the rows; then (x_end, observed) is returned.
      noise: row -> z of the shape of x, instead of `key` (row is -1 for noise before the first
        row), for example to let two grids share a Brownian path.
      block: run this many samples at a time, a multiple of 1000, or 0 for all at once. By default
        1000 for small samples of a pointwise field on a CPU, where they then stay in cache.
      merged: True compiles the field once, with one pattern for all rows (the default for nets and
        in blocks); with False each stage of a multi-stage method has its own pattern.
      unroll: rows that a turn of the loop holds; does not change the result.

    Returns:
      x_end of the shape and dtype of x (a tuple if the tableau keeps more lanes); with `observe`
      also what was observed.

    Raises:
      PersonError: x not floating or without batch axis, inputs that do not match, a missing key, a
        net or function that does not determine x0_hat at a level of the tableau (eps and score do
        not where alpha = 0), outputs that are missing or not of the shape of x, an observation
        without the batch axis, a block that is not a multiple of 1000 or cuts through what a net
        holds for each sample.
    """
    x = as_points(x)
    inputs = tuple(jnp.asarray(array, x.dtype) for array in inputs)
    check_arguments(tableau, x, key, inputs, noise)
    check_levels([rows.level for rows in (*tableau.phases, *tableau.tail)], field)
    check_block(block, field, x, noise)
    block = _block(field, x, noise) if block is None else block
    # A second copy of the field costs compile time, and in blocks its place in the cache.
    once = isinstance(field, NetField) or block > 0
    merged = once if merged is None else merged
    unroll = (1 if once or tableau.lanes == 1 else UNROLL) if unroll is None else unroll
    unroll = max(1, unroll if merged else unroll // len(tableau.phases))
    batch_last = noise is None and is_tiny(x.shape[1:])
    plan = Plan(observe, block, merged, unroll, batch_last)
    source = key if noise is None else as_pytree(noise)
    return _run(tableau, as_pytree(field), x, inputs, source, plan)


@functools.partial(jax.jit, static_argnames="plan")
def _run(tableau, field, x, inputs, source, plan):
    """Run all samples together, or block by block."""
    tableau = _cast(merge(tableau) if plan.merged else tableau, x.dtype)
    if not plan.block or len(x) <= plan.block:
        return _run_together(tableau, field, (x, *inputs), source, plan)
    count = -(-len(x) // plan.block)
    missing = count * plan.block - len(x)

    def split(a):  # the last block is filled up with samples from the front, and cut off again
        a = jnp.concatenate([a, a[:missing]]) if missing else a
        return a.reshape(count, plan.block, *a.shape[1:])

    def run(args):
        number, arrays = args
        return _run_together(tableau, field, arrays, source, plan, number * (plan.block // BLOCK))

    ends = jax.lax.map(run, (jnp.arange(count), tuple(map(split, (x, *inputs)))))
    return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:])[: len(x)], ends)


def _run_together(tableau, field, arrays, source, plan, first_block=0):
    x, observe, unroll, last = arrays[0], plan.observe, plan.unroll, plan.batch_last

    def draw_row(row):
        if callable(source):
            return jnp.asarray(source(row), x.dtype)
        return draw(source, row, x.shape, x.dtype, first_block, last)

    rows_a_draw = 1
    if tableau.stochastic and not callable(source):
        blocks = tableau.num_rows // len(tableau.phases)
        rows_a_draw = _divisor(blocks, NUMBERS_A_DRAW // max(1, draw_size(x.shape)))
    return run_rows(tableau, field, arrays, draw_row, observe, unroll, rows_a_draw, last)


def _cast(tableau: Tableau, dtype) -> Tableau:
    """Coefficients in the dtype of the lanes: here, and only here, they are rounded."""
    start = _floats(tableau.start, dtype)
    phases, tail = (
        tuple(cast_rows(rows, dtype) for rows in part) for part in (tableau.phases, tableau.tail)
    )
    return Tableau(start, phases, tail, tableau.keep)


def cast_rows(rows: Rows, dtype) -> Rows:
    """The same of rows; levels stay float32 at least, or a net could not tell times apart."""
    level = _floats(rows.level, jnp.promote_types(dtype, jnp.float32))
    return rows._replace(level=level, coef=_floats(rows.coef, dtype))


def _floats(tree: Any, dtype):
    def one(a):
        return jnp.asarray(a, dtype) if jnp.issubdtype(jnp.result_type(a), jnp.floating) else a

    return jax.tree.map(one, tree)


def _divisor(number: int, most: int) -> int:
    """The largest divisor of `number` that is at most `most`; 1 at least."""
    return next((k for k in range(min(number, most), 1, -1) if number % k == 0), 1)


def _block(field, x, noise) -> int:
    small = getattr(field, "pointwise", False) and math.prod(x.shape[1:]) <= SMALL
    pays = noise is None and len(x) >= 4 * BLOCK and jax.default_backend() == "cpu"
    return BLOCK if small and pays else 0
