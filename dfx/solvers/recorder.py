"""The recorder: write a solver as the paper writes it, get its tableau.

    r, levels = record(schedule, grid)
    x = r.start
    for s, t in pairs(levels):
        e = r.at(x, s)                                  # one evaluation, one row
        x = t.alpha * e.x0 + t.sigma * e.eps            # DDIM
    return r.tableau(x)

`x`, `e.x0`, `e.eps` are linear forms: they add, and multiply by numbers, and remember what they are
made of. Coefficients may be NumPy numbers (float64, on the host), arrays that broadcast to one
sample, or tracers: zeros are structural, so a builder that never looks at the *value* of a
coefficient can be differentiated.
"""

from __future__ import annotations

from typing import Any

from dfx.fields.convert import pair
from dfx.schedules.schedule import Level
from dfx.solvers.lanes import FRESH, INPUT, OUTPUT, VALUE, VIEW, Atom, compile_rows
from dfx.solvers.tableau import Tableau

#: More lanes than any published few-lane method needs; beyond it a running state was probably not
#: named.
MAX_LANES = 8


class Lin:
    """A linear form: {atom: coefficient} with +, -, * and / by numbers."""

    __slots__ = ("terms",)
    __array_ufunc__ = None  # NumPy numbers on the left leave the arithmetic to this class

    def __init__(self, terms: dict[Atom, Any]):
        self.terms = terms

    def __add__(self, other):
        if not isinstance(other, Lin):
            return self if isinstance(other, int) and other == 0 else NotImplemented  # for sum()
        terms = dict(self.terms)
        for atom, weight in other.terms.items():
            terms[atom] = terms[atom] + weight if atom in terms else weight
        return Lin(terms)

    __radd__ = __add__

    def __mul__(self, number):
        if isinstance(number, Lin):
            raise TypeError("a solver is linear: two recorded values cannot be multiplied")
        return Lin({atom: number * weight for atom, weight in self.terms.items()})

    __rmul__ = __mul__

    def __truediv__(self, number):
        if isinstance(number, Lin):
            raise TypeError("a solver is linear: one recorded value cannot be divided by another")
        return Lin({atom: weight / number for atom, weight in self.terms.items()})

    def __neg__(self):
        return -1.0 * self

    def __sub__(self, other):
        return self + -other


class Evaluation:
    """What the field returned at a point, in every prediction type.

    A type other than x0 is a value made in this row: if later rows use eps, the lane holds eps and
    the point is not carried along.
    """

    def __init__(self, x: Lin, level: Level, row: int):
        self._x, self._level, self._row = x, level, row
        self._views: dict[str, Lin] = {}

    def out(self, k: int) -> Lin:
        """The k-th output of the field."""
        name = f"output {k}"
        if name not in self._views:
            self._views[name] = Lin({Atom(OUTPUT, self._row, k): 1.0})
        return self._views[name]

    def view(self, prediction: str) -> Lin:
        """The prediction type `prediction`, from the denoiser; `dfx.fields.convert` defines it."""
        if prediction not in self._views:
            level = self._level
            c, s = pair(prediction, level)
            # eps = (x - alpha x0) / sigma in c x0 + s eps
            ratio = s / level.sigma
            form = ratio * self._x + (c - ratio * level.alpha) * self.x0
            self._views[prediction] = Lin({Atom(VIEW, self._row, terms=form.terms): 1.0})
        return self._views[prediction]

    @property
    def x0(self) -> Lin:
        """The denoiser."""
        return self.out(0)

    @property
    def eps(self) -> Lin:
        """The noise, (x - alpha x0) / sigma."""
        return self.view("eps")

    @property
    def velocity(self) -> Lin:
        """d x_t / dt = alpha_dot x0 + sigma_dot eps."""
        return self.view("velocity")


class Recorder:
    """Records the rows of a solver; `tableau` allocates the lanes.

    Args:
      mean: None, or for a schedule with a mean term the levels at which the solver starts and ends.
        The author then writes the solver in the centred x' = x - beta y and the recorder adds beta
        y to each point that is evaluated and to the answer; y is input 1.
    """

    def __init__(self, mean: tuple[Level, Level] | None = None):
        self._points: list[Atom] = []
        self._levels: list = []
        self._inputs: dict[int, Lin] = {}
        self._noise_rows: set[int] = set()
        self._mean = mean

    @property
    def row(self) -> int:
        """The row recorded last; -1 before the first."""
        return len(self._points) - 1

    @property
    def start(self) -> Lin:
        """The x that `sample` is given."""
        return self.input(0) if self._mean is None else self.input(0) - self._offset(self._mean[0])

    def input(self, number: int) -> Lin:
        """x for 0, otherwise the number-th of the further inputs of `sample`."""
        if number not in self._inputs:
            self._inputs[number] = Lin({Atom(INPUT, -1, number): 1.0})
        return Lin(dict(self._inputs[number].terms))

    def noise(self) -> Lin:
        """Fresh standard normal noise of this row; before the first evaluation, of the start.

        Raises:
          ValueError: a second noise in one row; two on one state are one, with the variances added.
        """
        if self.row in self._noise_rows:
            raise ValueError(f"row {self.row} has its noise already: add the variances of the two")
        self._noise_rows.add(self.row)
        return Lin({Atom(FRESH, self.row): 1.0})

    def let(self, form: Lin) -> Lin:
        """Name a running state that is not itself evaluated; it is kept in place of its parts."""
        return Lin({Atom(VALUE, self.row, terms=dict(form.terms)): 1.0})

    def at(self, x: Lin, level: Level, given: Any = None) -> Evaluation:
        """Evaluate the field at x: one row. x itself becomes the stored point.

        Args:
          x: the point, at noise level `level`; the variable is changed in place to name this point.
          level: the level of x, used to convert between prediction types.
          given: what the field is handed as its level; None hands it `level`.
        """
        point = self._name(x if self._mean is None else x + self._offset(level))
        self._points.append(point)
        self._levels.append(level if given is None else given)
        named = Lin({point: 1.0})
        x.terms = (named if self._mean is None else named - self._offset(level)).terms
        return Evaluation(Lin(dict(x.terms)), level, self.row)

    def tableau(self, x: Lin, keep: tuple[Lin, ...] = (), max_lanes: int = MAX_LANES) -> Tableau:
        """Return the tableau whose answer is x (and, in the lanes after it, `keep`).

        Raises:
          ValueError: nothing was evaluated, or more than `max_lanes` lanes are needed.
        """
        if not self._points:
            raise ValueError("a solver needs at least one evaluation")
        if self._mean is not None:
            x = x + self._offset(self._mean[1])
        answers = [Atom(VALUE, self.row, terms=dict(form.terms)) for form in (x, *keep)]
        tableau = compile_rows(self._points, self._levels, answers)
        if tableau.lanes > max_lanes:
            raise ValueError(
                f"{tableau.lanes} lanes are needed, more than {max_lanes}: name running states by "
                "`let`, or raise max_lanes if the method really combines all of its past"
            )
        return tableau

    def _offset(self, level: Level) -> Lin:
        return level.beta * self.input(1)

    def _name(self, form: Lin) -> Atom:
        """The atom that the form is, or a new one made of it."""
        if len(form.terms) == 1:
            ((atom, weight),) = form.terms.items()
            if isinstance(weight, float) and weight == 1.0 and atom.kind in (INPUT, VALUE):
                return atom
        return Atom(VALUE, self.row, terms=dict(form.terms))
