"""A solver as data: the tableau of a method that is linear in its states, its evaluations and its
noise.

The state is a tuple of L lanes, arrays of the shape of x. Each row evaluates the field once, at
lane 0, and then replaces the lanes by linear combinations,

    outputs = field(lane_0, level),
    lane_l <- sum over sources of coef[l, source] * source,   source = a lane, an output, or fresh
    noise.

A lane that no row has a key for stays as it is; a lane that only other rows have keys for is not
needed after this row.

Lane 0 holds the point that is evaluated next and, at the end, the answer; the number of rows is the
number of field evaluations. A key (lane, source) that is absent is a zero by structure: it costs
nothing, and all tableaus with the same keys and shapes share one compiled program. `Recorder`
writes tableaus; nobody fills in coefficients by hand. This is a general linear method (Butcher)
unrolled over the grid.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dfx.errors import PersonError
from dfx.pytree import pytree

#: The source of fresh standard normal noise.
NOISE = -1


def output(k: int) -> int:
    """Return the source of the k-th output of the field; 0 is the denoiser."""
    return -2 - k


class Rows(NamedTuple):
    """Rows of one pattern: what the field is given, and coefficients {(lane, source): number}."""

    level: Any
    coef: dict


@pytree
@dataclasses.dataclass(frozen=True)
class Tableau:
    """A fixed-step solver on a grid.

    Attributes:
      start: {(lane, input): number}, the initial lanes; input 0 is x, k the k-th of `inputs`, or
        NOISE.
      phases: P `Rows` with leading axis B, the rows that repeat with period P: row b P + p is entry
        b of phase p. A two-stage method has P = 2, so that each stage is compiled with its own
        keys.
      tail: the remaining rows (fewer than P), without leading axis.
      keep: how many lanes after lane 0 belong to the answer.
    """

    start: dict
    phases: tuple[Rows, ...]
    tail: tuple[Rows, ...]
    keep: int = dataclasses.field(default=0, metadata={"static": True})

    @property
    def num_rows(self) -> int:
        """The number of field evaluations."""
        blocks = len(jax.tree.leaves(self.phases[0].coef)[0])
        return blocks * len(self.phases) + len(self.tail)

    @property
    def lanes(self) -> int:
        """The number of lanes L."""
        keys = [key for rows in (*self.phases, *self.tail) for key in rows.coef]
        return 1 + max(lane for lane, _ in [*keys, *self.start])

    @property
    def num_inputs(self) -> int:
        """How many arrays besides x the start uses."""
        return max(0, *(source for _, source in self.start))

    @property
    def stochastic(self) -> bool:
        """Whether noise is drawn."""
        coefs = (self.start, *(rows.coef for rows in (*self.phases, *self.tail)))
        return any(source == NOISE for coef in coefs for _, source in coef)


def assemble(start: dict, rows: Sequence[Rows], keep: int = 0) -> Tableau:
    """Return the tableau of single rows, grouped by the period that leaves the fewest keys."""
    start = {key: _number(value) for key, value in start.items()}
    rows = [Rows(row.level, {key: _number(c) for key, c in row.coef.items()}) for row in rows]
    period = _period([frozenset(row.coef) for row in rows])
    whole = len(rows) - len(rows) % period
    phases = tuple(stack_rows(rows[p:whole:period]) for p in range(period))
    return Tableau(start, phases, tuple(rows[whole:]), keep)


def stack_rows(rows: Sequence[Rows]) -> Rows:
    """Return the rows with a new leading axis; the keys become the union, filled with zeros."""
    keys = sorted(set().union(*(row.coef for row in rows)))
    level = jax.tree.map(lambda *entries: _stack(entries), *(row.level for row in rows))
    return Rows(level, {key: _stack([row.coef.get(key, 0.0) for row in rows]) for key in keys})


def merge(tableau: Tableau) -> Tableau:
    """Return the same solver with P = 1: every row has all keys, and the field is compiled once."""
    if len(tableau.phases) == 1:
        return tableau
    parts = [*tableau.phases, *tableau.tail]
    keys = sorted(set().union(*(rows.coef for rows in parts)))
    period = len(tableau.phases)
    blocks = (tableau.num_rows - len(tableau.tail)) // period

    def in_order(*entries):
        return _in_order(blocks, entries[:period], entries[period:])

    level = jax.tree.map(in_order, *(rows.level for rows in parts))
    coef = {key: in_order(*(rows.coef.get(key, 0.0) for rows in parts)) for key in keys}
    return Tableau(tableau.start, (Rows(level, coef),), (), tableau.keep)


def unstack(tableau: Tableau) -> list[Rows]:
    """Return the single rows in order."""
    blocks = (tableau.num_rows - len(tableau.tail)) // len(tableau.phases)
    body = [_row(rows, b) for b in range(blocks) for rows in tableau.phases]
    return [*body, *tableau.tail]


def _explicit(tableau: Tableau) -> list[Rows]:
    """The single rows, with a key for the lanes that no row changes (they hold inputs)."""
    rows = unstack(tableau)
    changed = {lane for row in rows for lane, _ in row.coef}
    stay = {(lane, lane): 1.0 for lane, _ in tableau.start if lane not in changed}
    return [Rows(row.level, row.coef | stay) for row in rows]


def pad(tableaus: Sequence[Tableau]) -> list[Tableau]:
    """Return the tableaus with one pattern and one length: P = 1, the union of all keys, idle rows
    at the end.

    An idle row leaves the lanes alone; it still evaluates the field, at the last level. The result
    can be put on top of each other by `stack` and run by `jax.vmap`.

    Raises:
      PersonError: the answers have different numbers of lanes.
    """
    if len({t.keep for t in tableaus}) > 1:
        raise PersonError("tableaus whose answers have different numbers of lanes do not match")
    lists = [_explicit(t) for t in tableaus]
    keys = set().union(*(row.coef for rows in lists for row in rows))
    starts = set().union(*(t.start for t in tableaus))
    keys |= {(lane, lane) for lane, _ in keys | starts}
    length = max(len(rows) for rows in lists)
    return [_padded(t, rows, keys, starts, length) for t, rows in zip(tableaus, lists)]


def stack(tableaus: Sequence[Tableau]) -> Tableau:
    """Return tableaus of one pattern as one, with a new leading axis for `jax.vmap`.

    Raises:
      PersonError: no tableau, or tableaus with other rows, keys or lanes in the answer: see `pad`.
    """
    patterns = {(t.num_rows, jax.tree.structure(t)) for t in tableaus}
    if len(patterns) != 1:
        rows = ", ".join(str(t.num_rows) for t in tableaus)
        raise PersonError(
            f"tableaus of one pattern stack, not these of {rows} rows: pad them first"
        )
    start = jax.tree.map(lambda *leaves: _stack(leaves), *(t.start for t in tableaus))
    phases = jax.tree.map(lambda *leaves: _stack(_same_ndim(leaves)), *(t.phases for t in tableaus))
    tail = jax.tree.map(lambda *leaves: _stack(leaves), *(t.tail for t in tableaus))
    return Tableau(start, phases, tail, tableaus[0].keep)


def _padded(tableau, rows, keys, starts, length):
    lanes = {lane for lane, _ in keys}
    idle = Rows(rows[-1].level, {(lane, lane): 1.0 for lane in lanes})
    rows = [*rows, *[idle] * (length - len(rows))]
    full = [Rows(row.level, {key: row.coef.get(key, 0.0) for key in keys}) for row in rows]
    start = {key: tableau.start.get(key, _number(0.0)) for key in starts}
    return Tableau(start, (stack_rows(full),), (), tableau.keep)


def _in_order(blocks: int, phases, tail):
    """The entries of all rows with one leading axis, from those of each phase, (blocks, *c) or a
    number for all, and of the rows of the tail."""
    xp = jnp if any(isinstance(a, jax.Array) for a in (*phases, *tail)) else np
    phases, tail = list(map(xp.asarray, phases)), list(map(xp.asarray, tail))
    sample = np.broadcast_shapes(*(a.shape[1:] for a in phases), *(a.shape for a in tail))

    def widen(a):
        a = a.reshape(*a.shape[:1], *[1] * (1 + len(sample) - a.ndim), *a.shape[1:])
        return xp.broadcast_to(a, (blocks, *sample))

    body = xp.stack(list(map(widen, phases)), 1).reshape(-1, *sample)
    return xp.concatenate([body, *(xp.broadcast_to(a, sample)[None] for a in tail)])


def _row(rows: Rows, b: int) -> Rows:
    return jax.tree.map(lambda a: a[b], rows)


def _period(patterns: list[frozenset], longest: int = 4) -> int:
    """The period up to `longest` with the fewest keys in all; a longer one must save a tenth."""
    best, fewest = 1, np.inf
    for period in range(1, min(longest, len(patterns) // 2) + 1):
        whole = len(patterns) - len(patterns) % period
        unions = [frozenset().union(*patterns[p:whole:period]) for p in range(period)]
        keys = sum(map(len, unions)) * (whole // period) + sum(map(len, patterns[whole:]))
        if keys < 0.9 * fewest:
            best, fewest = period, keys
    return best


def _same_ndim(rows):
    """Arrays (n, *c) of one ndim: where c has fewer axes, the missing ones come after the rows."""
    most = max(map(np.ndim, rows))
    return [a.reshape(a.shape[0], *[1] * (most - a.ndim), *a.shape[1:]) for a in rows]


def _number(value):
    """A float64 NumPy number or array, unless it is JAX's: equal types share a compiled program."""
    return value if isinstance(value, jax.Array) else np.asarray(value, np.float64)[()]


def _stack(values):
    if any(isinstance(value, jax.Array) for value in values):
        return jnp.stack(jnp.broadcast_arrays(*values))
    return np.stack(np.broadcast_arrays(*values))
