"""A field of vectors on pictures is the field of the flattened pictures."""

import jax
import numpy as np
import pytest

from dfx import fields, schedules, solvers
from dfx.errors import PersonError
from dfx.targets import Mixture

pytestmark = pytest.mark.usefixtures("x64")

LAW = Mixture.isotropic(np.random.default_rng(0).normal(size=(2, 12)), 0.5)
FIELD = fields.oracle(LAW)
X = np.random.default_rng(1).normal(size=(3, 2, 2, 3))
VP = schedules.VPLinear()


@pytest.mark.parametrize(
    "times", [pytest.param(0.4, marks=pytest.mark.slow), np.array([0.2, 0.4, 0.6])], ids=np.ndim
)
def test_pictures_are_flattened_and_levels_with_them(times):
    on_pictures = fields.flattened(FIELD)
    assert on_pictures.pointwise
    found = jax.jit(lambda f, x, level: f(x, level))(on_pictures, X, VP.at(times, 4))
    expected = FIELD(X.reshape(3, 12), VP.at(times, 2)).reshape(X.shape)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_solvers_take_it():
    tableau = solvers.ddim(VP, np.linspace(0.9, 0.0, 4))
    found = solvers.sample(tableau, fields.flattened(FIELD), X)
    expected = solvers.sample(tableau, FIELD, X.reshape(3, 12))
    np.testing.assert_allclose(found, expected.reshape(X.shape), rtol=1e-12)


def test_a_time_per_token_is_refused():
    with pytest.raises(PersonError, match="single entry per sample"):
        fields.flattened(FIELD)(X, VP.at(np.full((3, 2, 1, 1), 0.5)))
