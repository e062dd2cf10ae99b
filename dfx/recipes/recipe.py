"""What a recipe is: a forward process, what the net predicts, at which noise levels it is taught,
how errors count there, what it is shown and told, and how its samples are drawn.

A recipe is data. Its methods put library parts together and know nothing of nets, data or loops;
`dfx.losses.denoising` is the loss of all, `dfx.solvers.sample` the sampler of all. A net becomes a
`Model`, which takes (params, x, t, cond) with t a time of the schedule; a loss, a field and a
likelihood see models only.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from dfx import fields, losses, solvers
from dfx.errors import unknown
from dfx.nets.net import Net
from dfx.nets.preconditioned import preconditioned
from dfx.schedules import Level, Schedule, grids


class Sampler(NamedTuple):
    """A solver on a grid, both by name: data until a schedule makes them a tableau.

    solver: a name in `solvers.REGISTRY`. grid: one in `grids.REGISTRY`. num_steps: of the grid.
    solver_options, grid_options: pairs (name, value).
    """

    solver: str
    grid: str
    num_steps: int
    solver_options: tuple[tuple[str, Any], ...] = ()
    grid_options: tuple[tuple[str, Any], ...] = ()

    def times(self, schedule: Schedule) -> np.ndarray:
        """Return the grid's times, from the noise to the data, float64 (num_steps + 1,) or so."""
        return grids.make(self.grid, schedule, self.num_steps, **dict(self.grid_options))

    def tableau(self, schedule: Schedule) -> solvers.Tableau:
        """Return the solver on its grid.

        Raises:
          PersonError: an unknown name or option, or a grid that this schedule does not have.
        """
        times = self.times(schedule)
        return solvers.make(self.solver, schedule, times, **dict(self.solver_options))


class Training(NamedTuple):
    """How the paper trained, counted in images, so that other batch sizes can follow it.

    learning_rate: of Adam, after the warm-up. batch_size: images a step. warmup: images over which
    the rate rises. half_life: images in which a weight of the averaged parameters halves. images:
    seen in all. clip: largest norm of the gradient, None for no clipping.
    """

    learning_rate: float
    batch_size: int
    warmup: int
    half_life: float
    images: float
    clip: float | None = None


class Reached(NamedTuple):
    """A number that the paper prints: the data, the metric, its value, and how it was come by."""

    data: str
    metric: str
    value: float
    how: str


class Model(NamedTuple):
    """A net as a recipe shows it pictures: `init(key)`, `apply(params, x, t, cond=None)`.

    x is the noisy picture and t (n,) the time of the recipe's schedule; the output is the recipe's
    prediction. dropout: as in `nets.Net`.
    """

    init: Callable[..., Any]
    apply: Callable[..., jax.Array]
    dropout: float = 0.0


@dataclasses.dataclass(frozen=True, eq=False)
class Recipe:
    """A way to train and to sample; made by `recipes.make`, one object a name and options.

    Attributes:
      name: in `recipes.REGISTRY`.
      schedule: the forward process, for pictures in [-1, 1].
      prediction: what the net is regressed on, one of `fields.PREDICTIONS`.
      time_sampler: the law of the training times, (key, n, dtype) -> t.
      weighting: of the squared errors, a name in `losses.weighting.REGISTRY`.
      told: Level -> the number that the net gets as its time, from about 0 to about 1000.
      scale: Level -> the factor of the net's input; None shows it x_t.
      sampler: the paper's own.
      training: the paper's own.
      source: of all this.
      reached: what the paper reached with it.
      needs: what that took, and what is left out here.

    Raises:
      PersonError: an unknown prediction.
    """

    name: str
    schedule: Schedule
    prediction: str
    time_sampler: losses.TimeSampler
    weighting: str
    told: Callable[[Level], Any]
    scale: Callable[[Level], Any] | None
    sampler: Sampler
    training: Training
    source: str
    reached: tuple[Reached, ...]
    needs: str

    def __post_init__(self):
        if self.prediction not in fields.PREDICTIONS:
            raise unknown("prediction", self.prediction, fields.PREDICTIONS)

    def loss(self, net: Net | Model) -> Callable:
        """Return the training loss of a net, `loss(params, key, x0, cond=None) -> (value, aux)`.

        See `losses.denoising`. x0 in [-1, 1], shape (n, *sample). A net with dropout leaves parts
        of itself out here, and nowhere else.
        """
        model = self.model(net)
        how = self.schedule, self.prediction, self.weighting, self.time_sampler
        plain = losses.denoising(model, *how)
        if not model.dropout:
            return plain

        def loss(params, key, x0, cond=None):
            key, left_out = jax.random.split(key)
            apply = functools.partial(model.apply, key=left_out)
            return losses.denoising(model._replace(apply=apply), *how)(params, key, x0, cond)

        return loss

    def errors(self, net: Net | Model) -> Callable:
        """Return the loss of each sample, `errors(params, x0, eps, t, cond=None)` of shape (n,).

        See `losses.per_sample`.
        """
        return losses.per_sample(self.model(net), self.schedule, self.prediction, self.weighting)

    def field(self, net: Net | Model, params: Any, cond: Any = None) -> fields.NetField:
        """Return the denoiser that the net with these parameters is, for `solvers.sample`."""
        return fields.from_net(self.model(net), params, self.prediction, cond=cond)

    def solver(self, num_steps: int | None = None) -> solvers.Tableau:
        """Return the paper's sampler, on as many steps as the paper or on a number of one's own."""
        sampler = self.sampler if num_steps is None else self.sampler._replace(num_steps=num_steps)
        return sampler.tableau(self.schedule)

    def model(self, net: Net | Model) -> Model:
        """Return a net as this recipe shows it pictures; a model is returned as it is."""
        if isinstance(net, Model):
            return net
        inner = preconditioned(net, self._scale_of_time, self._told_of_time)
        return Model(inner.init, inner.apply, inner.dropout)

    @functools.cached_property
    def exact(self) -> Model:
        """The model whose parameters are a field (a pytree) and whose output is the field's own
        prediction: `recipe.loss(recipe.exact)(field, key, x0)` is the loss of that field."""

        def apply(field, x, t, cond=None):
            level = self.schedule.at(t, x.ndim)
            return fields.as_prediction(field, self.prediction)(x, level)

        return Model(lambda key: None, apply)

    # Kept as attributes: one function object each, which `preconditioned` and `jit` go by.
    @functools.cached_property
    def _scale_of_time(self) -> Callable | None:
        scale = self.scale
        return None if scale is None else lambda t: scale(self.schedule.at(t))

    @functools.cached_property
    def _told_of_time(self) -> Callable:
        return lambda t: self.told(self.schedule.at(t))
