"""Fields with a planted error of the score: harmless by construction, or harmful of equal size.

An error is a function (x, level) -> r, shape of x, in units of a score; `with_error` adds it to a
field, so that every solver can sample the result. `rotated` and `matrix_gauge` satisfy the gauge
condition at every level (`gauge.py`); `gradient_of` violates it unless it vanishes. The size of an
error is E_p|r|^2, the mean over points of the level's own law. An error is `pointwise`, and is
sampled in blocks, if all that it is made of says so; a plain function does not.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dfx.diagnostics.gauge import gauge_field
from dfx.errors import PersonError
from dfx.fields.blocks import is_pointwise
from dfx.fields.field import as_pytree, denoiser, predict
from dfx.pytree import pytree
from dfx.schedules.schedule import Level
from dfx.targets.arithmetic import einsum


@pytree
@dataclasses.dataclass(frozen=True)
class Rotated:
    """r = A s with a constant antisymmetric A; made by `rotated`."""

    exact: Callable
    matrix: Any

    @property
    def pointwise(self):
        return is_pointwise(self.exact)

    def __call__(self, x, level: Level):
        score = predict(self.exact, x, level, "score").reshape(x.shape[0], -1)
        return einsum("nb,ab->na", score, jnp.asarray(self.matrix, x.dtype)).reshape(x.shape)


@pytree
@dataclasses.dataclass(frozen=True)
class MatrixGauge:
    """r = div(p A) / p with a matrix field A; made by `matrix_gauge`."""

    exact: Callable
    matrix: Callable

    @property
    def pointwise(self):
        return is_pointwise(self.exact) and is_pointwise(self.matrix)

    def __call__(self, x, level: Level):
        score = lambda x: predict(self.exact, x, level, "score")  # noqa: E731
        return gauge_field(lambda x: self.matrix(x, level), score, x)


@pytree
@dataclasses.dataclass(frozen=True)
class Gradient:
    """r = grad u; made by `gradient_of`."""

    potential: Callable

    @property
    def pointwise(self):
        return is_pointwise(self.potential)

    def __call__(self, x, level: Level):
        return jax.grad(lambda x: jnp.sum(self.potential(x, level)))(x)


@pytree
@dataclasses.dataclass(frozen=True)
class TimeTable:
    """A number that depends on the time of a level, linear between `times`, constant outside."""

    times: Any
    values: Any

    def __call__(self, level: Level):
        dtype = jnp.result_type(float)
        args = (jnp.asarray(a, dtype) for a in (level.t, self.times, self.values))
        return jnp.interp(*args)


@pytree
@dataclasses.dataclass(frozen=True)
class Erroneous:
    """A field whose score is off by weight times error; made by `with_error`."""

    field: Callable
    error: Callable
    weight: Any

    @property
    def pointwise(self):
        return is_pointwise(self.field) and is_pointwise(self.error)

    def __call__(self, x, level: Level):
        weight = self.weight(level) if callable(self.weight) else self.weight
        alpha, sigma = jnp.asarray(level.alpha, x.dtype), jnp.asarray(level.sigma, x.dtype)
        scale = jnp.where(alpha == 0, 0, sigma**2 / jnp.where(alpha == 0, 1, alpha))
        shift = jnp.asarray(weight, x.dtype) * scale * self.error(x, level)
        return denoiser(self.field(x, level)) + shift


def with_error(field: Callable, error: Callable, weight=1.0) -> Erroneous:
    """Return the field with score + weight r, that is x0_hat + weight (sigma^2 / alpha) r.

    Where alpha = 0 the score does not depend on x0_hat and the error is left out.

    Args:
      field: (x, level) -> x0_hat; of a tuple the denoiser is taken.
      error: (x, level) -> r, in units of a score.
      weight: a number, or a function of the level such as `TimeTable`. Large weights near the data,
        where scores are large, make the flow stiff.
    """
    weight = as_pytree(weight) if callable(weight) else weight
    return Erroneous(as_pytree(field), as_pytree(error), weight)


def rotated(exact: Callable, matrix) -> Rotated:
    """Return the gauge error r = A s of any law: div r = tr(A H) = 0 and r . s = s . A s = 0.

    Its Jacobian is A H with H the Hessian of log p: not symmetric wherever A H + H A is not zero.
    In two dimensions, A = a [[0, 1], [-1, 0]], |r| = |a| |s| everywhere.

    Args:
      exact: the exact field (x, level) -> x0_hat, whose score is s.
      matrix: A, antisymmetric, shape (d, d), d the size of one sample.

    Raises:
      PersonError: a matrix that is not antisymmetric.
    """
    if not isinstance(matrix, jax.core.Tracer):
        a = np.asarray(matrix)
        square = a.ndim == 2 and a.shape[0] == a.shape[1]
        if not square or np.abs(a + a.T).max() > 1e-6 * np.abs(a).max():
            raise PersonError(f"matrix of shape {a.shape}: must be square and antisymmetric")
    return Rotated(as_pytree(exact), matrix)


def matrix_gauge(exact: Callable, matrix: Callable) -> MatrixGauge:
    """Return the gauge error r = div(p A) / p; see `gauge_field`.

    Args:
      exact: the exact field (x, level) -> x0_hat, whose score is s.
      matrix: (x, level) -> W of shape (n, d, d), of which A is the antisymmetric part. For a finite
        E_p|r|^2 it must not grow too fast.
    """
    return MatrixGauge(as_pytree(exact), as_pytree(matrix))


def gradient_of(potential: Callable) -> Gradient:
    """Return the error r = grad u, which moves the law: E_p[grad u . r] = E_p|r|^2 > 0.

    Args:
      potential: u, (x, level) -> shape (n,).
    """
    return Gradient(as_pytree(potential))


def mean_square(error: Callable, x, level: Level):
    """Return the mean of |r|^2 over the points x, an estimate of E_p|r|^2 if they are draws of
    p."""
    return _mean_square(as_pytree(error), x, level)


@jax.jit
def _mean_square(error, x, level):
    r = error(x, level)
    return jnp.mean(jnp.sum((r * r).reshape(r.shape[0], -1), axis=1))


def equal_norm(error: Callable, reference: Callable, schedule, times, samples) -> TimeTable:
    """Return the weight, by time, that gives `error` the E_p|r|^2 of `reference`.

    Args:
      error, reference: (x, level) -> r.
      schedule: the forward process.
      times: rising, shape (m,); between them the weight is interpolated.
      samples: draws of the law at each time, shape (m, n, *sample). The weight has the relative
        standard error of the ratio of two means over n, halved by the root.

    Raises:
      PersonError: times that do not rise, or not one set of samples per time.
    """
    times = np.asarray(times, np.float64)
    if times.ndim != 1 or len(times) != len(samples) or (np.diff(times) <= 0).any():
        raise PersonError(f"{times.shape} times, {len(samples)} sets: need as many, times rising")
    sizes = [
        [mean_square(r, x, schedule.at(t)) for r in (reference, error)]
        for t, x in zip(times, samples)
    ]
    wanted, own = np.asarray(sizes, np.float64).T
    return TimeTable(times, np.sqrt(wanted / own))
