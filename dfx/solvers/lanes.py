"""From recorded values to lanes: which values must be stored between rows, in which lane, and how
each is made.

Every value comes to be in the update after some row (-1: the start). `Atom` is such a value;
`terms` says how it is made from others. Three passes over a finished recording:

    accumulate   values whose only remaining use is one later sum are added up early, into one lane,
    allocate     backwards: a value gets a lane at each row boundary after which it is still needed,
    combine      the update of a lane as a combination of the lanes and fresh sources of that row.
"""

from __future__ import annotations

import itertools

from dfx.solvers.tableau import NOISE, Rows, Tableau, assemble, output

INPUT, OUTPUT, FRESH, VIEW, VALUE = "input", "output", "noise", "view", "value"

#: How many rows ahead `accumulate` looks for the sum that uses a value; keeps its cost linear in
#: the rows.
LOOK_AHEAD = 12

_serial = itertools.count()


class Atom:
    """A value that comes to be in the update after row `row`.

    Attributes:
      kind: INPUT, OUTPUT and FRESH are sources; VALUE and VIEW (a prediction type other than x0)
        are made from others by `terms` = {atom: coefficient}.
      number: which input or output.
    """

    __slots__ = ("kind", "number", "row", "serial", "terms")

    def __init__(self, kind, row, number=0, terms=None):
        self.kind, self.row, self.number, self.terms = kind, row, number, terms
        self.serial = next(_serial)

    @property
    def source(self) -> int | None:
        """The key of a source in the row where it comes to be; None if it is made of others."""
        return {FRESH: NOISE, INPUT: self.number, OUTPUT: output(self.number)}.get(self.kind)


def compile_rows(points: list[Atom], levels: list, answers: list[Atom]) -> Tableau:
    """Return the tableau that evaluates at `points` and ends with `answers` in its first lanes."""
    accumulate(points, answers)
    boundaries = allocate(points, answers)
    start = combine(-1, boundaries[0], [])
    kept = _kept_inputs(boundaries)
    rows = []
    for row, level in enumerate(levels):
        coef = combine(row, boundaries[row + 1], boundaries[row])
        rows.append(Rows(level, {key: c for key, c in coef.items() if key[0] not in kept}))
    return assemble(start, rows, keep=len(answers) - 1)


def accumulate(points: list[Atom], answers: list[Atom]) -> None:
    """Rewrite sums so that values with no other use left are added into one (low storage)."""
    made = _needed(points, answers)
    uses: dict[Atom, list[Atom]] = {}
    waiting: list[list[Atom]] = [[] for _ in range(len(points) + 1)]
    for atom in made:
        waiting[atom.row + 1].append(atom)
        for term in atom.terms:
            uses.setdefault(term, []).append(atom)
    for row in range(len(points) - 1):
        for later in itertools.chain(*waiting[row + 2 : row + 2 + LOOK_AHEAD]):
            _add_early(later, row, points[row + 1], uses)


def _add_early(later: Atom, row: int, point: Atom, uses: dict) -> None:
    group = [
        atom
        for atom in later.terms
        if atom.row <= row
        and atom is not point
        and not (atom.kind == INPUT and atom.number > 0)
        and [use for use in uses[atom] if use.row > row] == [later]
    ]
    if len(group) < 2 or not _worth_adding(group, later, row):
        return
    total = Atom(VALUE, row, terms={atom: later.terms.pop(atom) for atom in group})
    later.terms[total] = 1.0
    uses[total] = [later]
    for atom in group:
        uses[atom] = [use for use in uses[atom] if use is not later] + [total]


def _worth_adding(group, later, row) -> bool:
    """Histories of evaluations are left alone: sums in the last rows only widen the pattern."""
    kinds = {atom.kind for atom in group}
    return kinds != {OUTPUT} and (bool(kinds & {VALUE, INPUT}) or later.row > row + 1)


def allocate(points: list[Atom], answers: list[Atom]) -> list[list[Atom]]:
    """Return for each boundary 0..n the atoms in its lanes: the point, inputs, values, outputs."""
    boundaries = [answers]
    for row in range(len(points) - 1, -1, -1):
        needed = {atom for lane in boundaries[-1] for atom in _expand(lane, row) if atom.row < row}
        needed.discard(points[row])
        boundaries.append([points[row], *sorted(needed, key=_lane_order)])
    return boundaries[::-1]


def combine(row: int, lanes: list[Atom], before: list[Atom]) -> dict:
    """Return {(lane, source): coefficient} of the update after `row`, from `before` to `lanes`."""
    place = {atom: lane for lane, atom in enumerate(before)}
    return {
        (lane, place.get(source, source.source)): coefficient
        for lane, atom in enumerate(lanes)
        for source, coefficient in _expand(atom, row).items()
    }


def _kept_inputs(boundaries) -> set[int]:
    """The lanes that hold one input from the start as long as they are used: without keys, they
    stay."""
    columns = itertools.zip_longest(*boundaries)
    held = [{atom for atom in column if atom is not None} for column in columns]
    return {
        lane
        for lane, atoms in enumerate(held)
        if 0 < lane < len(boundaries[0]) and len(atoms) == 1 and next(iter(atoms)).kind == INPUT
    }


def _expand(atom: Atom, row: int) -> dict[Atom, object]:
    """The atom in terms of what the update after `row` has: older atoms and sources of the row."""
    if atom.row < row or atom.terms is None:
        return {atom: 1.0}
    result: dict[Atom, object] = {}
    for term, weight in atom.terms.items():
        for source, coefficient in _expand(term, row).items():
            product = weight * coefficient
            result[source] = result[source] + product if source in result else product
    return result


def _needed(points, answers) -> list[Atom]:
    """The made atoms on which a point or an answer depends, in order of making."""
    found: set[Atom] = set()
    todo = [*points, *answers]
    while todo:
        atom = todo.pop()
        if atom.terms is not None and atom not in found:
            found.add(atom)
            todo.extend(atom.terms)
    return sorted(found, key=lambda atom: atom.serial)


def _lane_order(atom: Atom):
    rank = {INPUT: 0, OUTPUT: 2}.get(atom.kind, 1)
    return (rank, -atom.row, -atom.serial, atom.number)
