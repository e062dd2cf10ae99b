"""Targets with closed forms and hand-written loops that the solver tests share."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dfx import schedules


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Gaussian:
    """The denoiser of N(mean, diag(variance)), and what the flow and the schedule make of it."""

    mean: jax.typing.ArrayLike
    variance: jax.typing.ArrayLike
    pointwise = True

    def __call__(self, x, level):
        gain = level.alpha * self.variance / (level.alpha**2 * self.variance + level.sigma**2)
        return self.mean + gain * (x - level.alpha * self.mean)

    def marginal_variance(self, level):
        return level.alpha**2 * self.variance + level.sigma**2

    def flow(self, x, s, t):
        """The exact end at level t of the probability-flow path through x at level s."""
        growth = np.sqrt(self.marginal_variance(t) / self.marginal_variance(s))
        return t.alpha * self.mean + growth * (x - s.alpha * self.mean)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Modes:
    """A nonlinear denoiser, like the posterior mean of the points -1 and 1 in each coordinate."""

    pointwise = True

    def __call__(self, x, level):
        return jnp.tanh(level.alpha * x / (level.sigma**2 + 0.1))


@pytest.fixture
def gaussian():
    """Two coordinates, one narrow and one wide."""
    return Gaussian(np.array([0.7, -1.2]), np.array([0.25, 1.7]))


@pytest.fixture
def modes():
    return Modes()


@pytest.fixture(scope="session")
def bent():
    """A field that no formula of a solver is special for, in NumPy and in JAX."""

    def of(xp):
        return lambda x, level: xp.sin(1.3 * x) * level.alpha + 0.2 * x * level.sigma + 0.1

    return SimpleNamespace(jax=of(jnp), numpy=of(np))


@pytest.fixture
def slope():
    """Return a function: the fitted exponent of errors against numbers of steps, sign turned."""
    return lambda steps, errors: -np.polyfit(np.log(steps), np.log(errors), 1)[0]


@pytest.fixture
def half_log_snr_grid():
    """Return a function: n steps uniform in log-SNR, between half log-SNRs that are given."""

    def grid(schedule, n, start=-4.0, end=3.0):
        return schedules.t_of_log_snr(schedule, 2 * np.linspace(start, end, n + 1))

    return grid
