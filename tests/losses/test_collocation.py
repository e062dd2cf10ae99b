"""Where a penalty looks: the laws of its times and of its points."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from dfx import losses, schedules
from dfx.losses import collocation

pytestmark = pytest.mark.usefixtures("x64")

OU = schedules.VPLinear(2.0, 2.0)  # dx = -x dt + sqrt(2) dw


def test_times_have_the_quantiles_of_beta_laws():
    u = jnp.linspace(0.01, 0.99, 9)
    quantile = collocation.beta(schedules.EDM(), 1e-5, 10.0).quantile
    np.testing.assert_allclose(quantile(u), 1e-5 + (10 - 1e-5) * stats.beta(1, 2).ppf(u), rtol=1e-7)
    quantile = collocation.beta(OU, power=3.0).quantile
    np.testing.assert_allclose(quantile(u), stats.beta(1, 3).ppf(u), rtol=1e-7)


def test_points_have_the_laws_asked_for():
    key, level, x0 = jax.random.key(0), OU.at(np.full(4000, 0.4), 2), jnp.full((4000, 2), 3.0)
    x = np.asarray(collocation.noised(key, x0, level))
    # Four standard errors of 8000 numbers.
    assert abs(x.mean() - 3 * np.exp(-0.4)) < 4 * level.sigma[0, 0] / np.sqrt(8000)
    assert abs(x.var() / level.sigma[0, 0] ** 2 - 1) < 4 * np.sqrt(2 / 8000)
    x = collocation.box([-1.0, 2.0], [1.0, 5.0])(key, x0, level)
    for column, (low, high) in zip(x.T, ((-1, 1), (2, 5))):
        assert stats.kstest(column, stats.uniform(low, high - low).cdf).pvalue > 1e-3
    array = np.arange(12.0).reshape(6, 2)
    x = collocation.given(array)(key, x0[:6], level)
    np.testing.assert_array_equal(np.sort(np.asarray(x), 0), array)
    assert not np.array_equal(x, array)


def test_times_and_points_are_drawn_apart():
    """Correlation of the noise with its time within four standard errors."""
    x, t, _, _ = losses.Collocation(num_points=4000).bind(OU)(
        jax.random.key(1), jnp.zeros((1, 1)), None, None
    )
    noise = x[:, 0] / OU.at(t).sigma
    assert abs(np.corrcoef(noise, t)[0, 1]) < 4 / np.sqrt(4000)


def test_collocation_points_are_as_many_as_asked_and_follow_their_samples():
    look = losses.Collocation("beta", lambda key, x0, level, y: x0 + y, 5).bind(OU)
    x0, y = jnp.asarray([[0.0], [1.0]]), jnp.asarray([[10.0], [20.0]])
    x, t, cond, y = look(jax.random.key(0), x0, jnp.array([7, 8]), y)
    np.testing.assert_array_equal(x[:, 0], [10, 21, 10, 21, 10])
    np.testing.assert_array_equal(cond, [7, 8, 7, 8, 7])
    assert t.shape == (5,) and len(np.unique(t)) == 5
