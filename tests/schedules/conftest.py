"""The schedules that every conformance test runs through: a new one joins by being added."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from dfx import schedules
from dfx.pytree import pytree


@pytree
@dataclasses.dataclass(frozen=True)
class Power(schedules.Schedule):
    """A schedule of a user, in a few lines: alpha = 1 - t^p, sigma = t^p."""

    power: float = 2.0

    def alpha(self, t):
        return 1 - t**self.power

    def sigma(self, t):
        return t**self.power


@pytree
@dataclasses.dataclass(frozen=True, eq=False)
class Diagonal(schedules.Schedule):
    """Ornstein-Uhlenbeck with a rate of its own in each coordinate; alpha has shape (.., d)."""

    rates: jax.typing.ArrayLike

    def alpha(self, t):
        return jnp.exp(-self.rates * t)

    def variance(self, t):
        return -jnp.expm1(-2 * self.rates * t)


MEMBERS = {name: schedules.make(name) for name in schedules.REGISTRY}
MEMBERS["paper_table"] = schedules.discrete_linear(1000, 0.001, 0.2)
MEMBERS["mean_reverting"] = schedules.MeanReverting(schedules.VPLinear(), noise_scale=0.2)
MEMBERS["user_defined"] = Power()


@pytest.fixture(params=MEMBERS)
def schedule(request):
    """Each member in turn."""
    return MEMBERS[request.param]


@pytest.fixture
def diagonal():
    """The class `Diagonal`."""
    return Diagonal
