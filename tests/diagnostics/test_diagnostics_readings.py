"""Readings of the dimension where the field is known in closed form: a datum, a linear map."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dfx import schedules
from dfx.diagnostics import dimension
from dfx.diagnostics.flow_jacobian import random_directions

pytestmark = pytest.mark.usefixtures("x64")

VP = schedules.VPLinear()
MEAN_REVERTING = schedules.MeanReverting(VP, 0.7)


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def test_at_a_single_datum_scores_are_the_noise_at_every_time_and_under_every_mean_term():
    """x0_hat = x0 says sigma score = -eps: the values are those of the draws over sqrt(K)."""
    x0, y, key = normal(3, 5), normal(3, 5, seed=1), jax.random.key(0)
    datum = lambda x, level: x0  # noqa: E731
    draws = jax.vmap(lambda key: jax.random.normal(key, x0.shape, x0.dtype))
    eps = np.moveaxis(np.asarray(draws(jax.random.split(key, 20))), 0, 1)
    expected = np.linalg.svd(eps / np.sqrt(20), compute_uv=False)
    times = np.array([0.05, 0.3, 0.8])
    found = dimension.score_singular_values(MEAN_REVERTING, datum, x0, times, key, y=y)  # K = 4 d
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_along_a_few_directions_slopes_are_those_of_the_matrix_on_them():
    matrix = np.random.default_rng(0).normal(size=(5, 5))
    few = random_directions(jax.random.key(2), (5,), 3, jnp.float64)
    field = lambda x, level: x @ matrix.T  # noqa: E731
    found = dimension.denoiser_singular_values(VP, field, normal(2, 5), 0.3, few)
    expected = VP.at(0.3).alpha * np.linalg.svd(matrix @ few.T, compute_uv=False)
    np.testing.assert_allclose(found, [expected] * 2, rtol=1e-12)
    np.testing.assert_allclose(few @ few.T, np.eye(3), atol=1e-14)
