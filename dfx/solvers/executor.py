"""The executor: the rows of a tableau on a set of samples, as one `lax.scan`."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from dfx.errors import PersonError
from dfx.solvers.noise import START_ROW
from dfx.solvers.observers import Observer, Row
from dfx.solvers.tableau import NOISE, Rows, Tableau, output


def run_rows(
    tableau: Tableau,
    field: Callable,
    arrays: tuple,
    draw: Callable,
    observe: Observer | None = None,
    unroll: int = 1,
    rows_a_draw: int = 1,
    batch_last: bool = False,
):
    """Return the end of the solver's path: lane 0, or a tuple of lanes; with `observe`, (end,
    observed).

    Args:
      tableau: its floating leaves in the dtype of the lanes.
      field: (x, level) -> denoiser or tuple, for x of shape (n, *sample).
      arrays: x and the further inputs, each of shape (n, *sample).
      draw: row -> noise in the layout of the lanes.
      observe: sees arrays of shape (n, *sample).
      unroll: blocks of P rows that a turn of the loop holds.
      rows_a_draw: blocks of P rows whose noise is drawn at once; must divide their number.
      batch_last: store lanes as (*sample, n), in which fields that work in this layout need no
        transposes.

    Raises:
      PersonError: the field returns fewer outputs than are used, or one of another shape, or the
        observer something without the batch axis.
    """
    inward = (lambda a: jnp.moveaxis(a, 0, -1)) if batch_last else lambda a: a
    outward = (lambda a: jnp.moveaxis(a, -1, 0)) if batch_last else lambda a: a
    arrays = tuple(map(inward, arrays))
    num_rows = tableau.num_rows
    if batch_last:
        tableau = _with_trailing_axis(tableau)
    start = _combine(tableau.start, lambda s: draw(START_ROW) if s == NOISE else arrays[s])
    lanes = tuple(start.get(lane, jnp.zeros_like(arrays[0])) for lane in range(tableau.lanes))
    seen = observe.init(outward(lanes[0]), num_rows) if observe else None

    def row(carry, index, rows, z=None):
        lanes, seen = carry
        x = outward(lanes[0])
        outs = _outputs(field(x, rows.level), rows, x)
        sources = dict(enumerate(lanes)) | {output(k): inward(o) for k, o in outs.items()}
        if _is_noisy(rows):
            sources[NOISE] = draw(index) if z is None else z
        new = _combine(rows.coef, sources.__getitem__)
        if observe:
            seen = observe.update(seen, Row(index, x, outs[0], rows.level))
        return tuple(new.get(lane, old) for lane, old in enumerate(lanes)), seen

    def block(carry, xs):
        index, phases, noise = xs
        for p, (rows, z) in enumerate(zip(phases, noise)):
            carry = row(carry, index + p, rows, z)
        return carry, None

    def chunk(carry, xs):
        index, phases = xs
        noise = [jax.vmap(draw)(index + p) if _is_noisy(r) else None for p, r in enumerate(phases)]
        return jax.lax.scan(block, carry, (index, phases, noise), unroll=unroll)

    whole, period = num_rows - len(tableau.tail), len(tableau.phases)
    xs = jnp.arange(0, whole, period), tableau.phases
    if rows_a_draw == 1:
        carry, _ = jax.lax.scan(block, (lanes, seen), (*xs, [None] * period), unroll=unroll)
    else:
        xs = jax.tree.map(lambda a: a.reshape(-1, rows_a_draw, *a.shape[1:]), xs)
        carry, _ = jax.lax.scan(chunk, (lanes, seen), xs)
    for p, rows in enumerate(tableau.tail):
        carry = row(carry, jnp.asarray(whole + p), rows)
    lanes, seen = carry
    end = tuple(map(outward, lanes[: tableau.keep + 1])) if tableau.keep else outward(lanes[0])
    return (end, _observed(observe, seen, outward(lanes[0]))) if observe else end


def _outputs(outs, rows: Rows, x) -> dict:
    """{k: k-th output of the field} for the denoiser and those that the rows use, of the shape and
    dtype of x."""
    outs = outs if isinstance(outs, tuple) else (outs,)
    # `output` is its own inverse.
    used = {0} | {output(source) for _, source in rows.coef if source < NOISE}
    if max(used) >= len(outs):
        raise PersonError(
            f"this solver needs {max(used) + 1} outputs of the field, got {len(outs)}"
        )
    for k in used:
        if np.shape(outs[k]) != x.shape:
            raise PersonError(
                f"output {k} of the field has shape {np.shape(outs[k])} for x of shape {x.shape}"
            )
    return {k: jnp.asarray(outs[k], x.dtype) for k in used}


def _observed(observe: Observer, seen, x):
    """What the observer finishes with; blocks of samples are put together along the first axis."""
    observed = observe.finish(seen)
    for leaf in jax.tree.leaves(observed):
        if np.shape(leaf)[:1] != x.shape[:1]:
            raise PersonError(
                f"the observer finishes with shape {np.shape(leaf)}, allowed: ({len(x)}, ...), an "
                "entry for each sample"
            )
    return observed


def _combine(coef: dict, source: Callable) -> dict:
    """{lane: sum over its keys of coefficient * source}."""
    result: dict = {}
    for (lane, name), weight in coef.items():
        term = weight * source(name)
        result[lane] = result[lane] + term if lane in result else term
    return result


def _is_noisy(rows: Rows) -> bool:
    return any(source == NOISE for _, source in rows.coef)


def _with_trailing_axis(tableau: Tableau) -> Tableau:
    """Coefficients that are arrays over a sample get a last axis for the batch."""

    def widen(coef, lead):
        return {key: c[..., None] if c.ndim > lead else c for key, c in coef.items()}

    phases = tuple(rows._replace(coef=widen(rows.coef, 1)) for rows in tableau.phases)
    tail = tuple(rows._replace(coef=widen(rows.coef, 0)) for rows in tableau.tail)
    return Tableau(widen(tableau.start, 0), phases, tail, tableau.keep)
