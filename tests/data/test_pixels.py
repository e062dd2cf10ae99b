"""Pixels as numbers and back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dfx import data

PIXELS = np.arange(256, dtype=np.uint8)


def test_unit_of_pixels_is_linear_from_minus_one_to_one():
    unit = data.to_unit(PIXELS)
    assert unit.dtype == np.float32
    # Two roundings of float32 at numbers up to 2.
    np.testing.assert_allclose(unit, np.linspace(-1, 1, 256), rtol=0, atol=2.4e-7)
    assert (unit[0], unit[-1]) == (-1, 1)


@pytest.mark.parametrize("place", [np.asarray, jnp.asarray])
def test_pixels_to_unit_and_back_are_the_same_pixels(place):
    back = data.from_unit(data.to_unit(place(PIXELS)))
    assert back.dtype == np.uint8
    np.testing.assert_array_equal(back, PIXELS)


def test_unit_to_pixels_and_back_are_the_same_numbers():
    unit = data.to_unit(PIXELS)
    np.testing.assert_array_equal(data.to_unit(data.from_unit(unit)), unit)


def test_host_and_compiled_pixels_agree():
    there = jax.jit(data.to_unit)(PIXELS)
    assert isinstance(there, jax.Array)
    # A compiler may divide by multiplying: one more rounding.
    np.testing.assert_allclose(there, data.to_unit(PIXELS), rtol=0, atol=1.2e-7)
    round_trip = jax.jit(lambda pixels: data.from_unit(data.to_unit(pixels)))
    np.testing.assert_array_equal(round_trip(PIXELS), PIXELS)


def test_numbers_outside_the_range_are_clipped_and_others_rounded():
    x = np.array([-np.inf, -3, -1 - 1e-3, 1 + 1e-3, 3, np.inf, -1 + 1.4 / 127.5, -1 + 1.6 / 127.5])
    np.testing.assert_array_equal(data.from_unit(x), [0, 0, 0, 255, 255, 255, 1, 2])
