"""Noise added to pixels and drawn from latents, on the device."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dfx import data, metrics
from dfx.errors import PersonError

KEY = jax.random.key(0)
PIXELS = np.arange(256, dtype=np.uint8).reshape(16, 4, 4, 1)


def cells(x):
    """Where in its cell each number lies, and the pixel of the cell."""
    place = (np.asarray(x, np.float64) + 1) * 128
    return place - np.floor(place), np.floor(place)


def test_each_pixel_stays_in_its_cell_even_when_the_noise_rounds_up():
    noisy = jax.jit(data.dequantise)(KEY, np.full((64, 1000), 255, np.uint8))
    assert noisy.dtype == np.float32 and float(noisy.max()) < 1
    np.testing.assert_array_equal(cells(data.dequantise(KEY, PIXELS))[1], PIXELS)


def test_the_noise_is_uniform_in_the_cell():
    u, _ = cells(data.dequantise(KEY, np.full((50, 1000), 100, np.uint8)))
    n = u.size
    # Standard errors of mean and variance of a uniform law, four of them.
    assert abs(u.mean() - 1 / 2) < 4 * np.sqrt(1 / 12 / n)
    assert abs(u.var() - 1 / 12) < 4 * np.sqrt(1 / 180 / n)


def test_the_noise_of_a_picture_does_not_depend_on_the_batch():
    whole = data.dequantise(KEY, PIXELS)
    np.testing.assert_array_equal(data.dequantise(KEY, PIXELS[:3]), whole[:3])
    assert (cells(whole)[0][0] != cells(whole)[0][1]).any()


def test_uniform_pixels_cost_eight_bits_whatever_the_convention():
    # The density of uniform noise on an interval of width w is w^-d.
    for width, spacing in ((2, data.CELL), (1, 1 / 256), (256, 1)):
        bits = metrics.mean_bits(np.full(5, -48 * np.log(width)), 48, spacing)
        assert bits.value == pytest.approx(8, abs=1e-13) and bits.standard_error < 1e-13


def test_latents_have_the_mean_and_deviation_of_the_encoder():
    mean, std = 3.0, 0.5
    moments = jnp.concatenate([jnp.full((40, 8, 8, 4), mean), jnp.full((40, 8, 8, 4), std)], -1)
    drawn = np.asarray(data.draw_latents(KEY, moments.astype(jnp.float16), 2.0), np.float64)
    assert drawn.shape == (40, 8, 8, 4)
    n = drawn.size
    assert abs(drawn.mean() - 2 * mean) < 4 * 2 * std / np.sqrt(n)
    assert abs(drawn.std() - 2 * std) < 4 * 2 * std / np.sqrt(2 * n)
    with pytest.raises(PersonError, match="3 channels, allowed: an even number"):
        data.draw_latents(KEY, moments[..., :3])
