"""Halving and doubling pictures, by both filters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dfx.nets.resample import FILTERS, downsample, upsample

pytestmark = pytest.mark.usefixtures("x64")
TAPS = {"box": [1, 1], "fir": [1, 3, 3, 1]}


def picture(height, width, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal((2, height, width, 3)))


@pytest.mark.parametrize("name", FILTERS)
def test_halving_is_the_filter_at_every_second_pixel_with_zeros_around(name):
    x, taps = picture(6, 8), np.array(TAPS[name]) / sum(TAPS[name])
    kernel = np.einsum("i,j->ij", taps, taps)[:, :, None, None].repeat(3, axis=3)
    edge = len(taps) // 2 - 1
    expected = jax.lax.conv_general_dilated(
        x,
        jnp.asarray(kernel),
        (2, 2),
        2 * [(edge, edge)],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=3,
    )
    np.testing.assert_allclose(downsample(x, name), expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", FILTERS)
def test_doubling_is_four_times_the_transpose_of_halving(name):
    x, y = picture(3, 4), picture(6, 8, seed=1)
    doubled = upsample(x, name)
    assert doubled.shape == y.shape
    np.testing.assert_allclose(jnp.sum(doubled * y), 4 * jnp.sum(x * downsample(y, name)))


@pytest.mark.parametrize("name", FILTERS)
def test_away_from_the_edge_a_constant_stays_and_a_mean_is_kept(name):
    ones = jnp.ones((1, 8, 8, 1))
    np.testing.assert_allclose(downsample(ones, name)[:, 1:-1, 1:-1], 1)
    np.testing.assert_allclose(upsample(ones, name)[:, 1:-1, 1:-1], 1)
