"""A field at one level as a plain function of x: what Jacobians, loops and errors are taken of."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from dfx.fields.blocks import is_pointwise, is_shared
from dfx.fields.convert import pair
from dfx.fields.field import STATIC, as_pytree, predict
from dfx.pytree import pytree
from dfx.schedules.schedule import Level


@pytree
@dataclasses.dataclass(frozen=True)
class View:
    """A prediction of a field at one level as a function of x; made by `prediction_at`."""

    field: Callable
    level: Level
    prediction: str = dataclasses.field(metadata=STATIC)
    y: Any = None

    @property
    def pointwise(self):
        return is_pointwise(self.field) and is_shared((self.level, self.y))

    def __call__(self, x):
        return predict(self.field, x, self.level, self.prediction, self.y)


@pytree
@dataclasses.dataclass(frozen=True)
class Difference:
    """One function of x minus another; made by `score_error`."""

    of: Callable
    minus: Callable

    @property
    def pointwise(self):
        return is_pointwise(self.of) and is_pointwise(self.minus)

    def __call__(self, x):
        return self.of(x) - self.minus(x)


def prediction_at(field: Callable, level: Level, prediction: str = "score", y=None) -> View:
    """Return x -> the quantity `prediction` of a field at a level, to be differentiated in x.

    Args:
      field: (x, level) -> x0_hat.
      level: from `schedule.at(t, x.ndim)`; for a loop its entries are scalars.
      prediction: one of `fields.PREDICTIONS`. Which one matters: eps and score differ by a factor,
        velocity and v also by a multiple of x, which is symmetric.
      y: endpoints of the mean term.

    Raises:
      PersonError: unknown prediction.
    """
    pair(prediction, level)
    return View(as_pytree(field), level, prediction, y)


def score_error(field: Callable, exact: Callable, level: Level, y=None) -> Difference:
    """Return x -> score of `field` minus score of `exact` at a level: the r of `gauge.py`."""
    return Difference(*(prediction_at(f, level, "score", y) for f in (field, exact)))
