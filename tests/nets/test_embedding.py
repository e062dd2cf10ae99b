"""Time features against their formulas."""

import jax.numpy as jnp
import numpy as np
import pytest

from dfx.errors import PersonError
from dfx.nets.embedding import fourier, sinusoidal, sinusoidal_grid

T = np.array([0.0, 1.0, 7.5, 999.0])


@pytest.mark.usefixtures("x64")
def test_sinusoidal_features_are_sines_then_cosines_from_frequency_1_to_1e_4():
    features = sinusoidal(jnp.asarray(T), 8)
    frequencies = np.array([1, 10 ** (-4 / 3), 10 ** (-8 / 3), 1e-4])
    expected = [[f(w * t) for f in (np.sin, np.cos) for w in frequencies] for t in T]
    np.testing.assert_allclose(features, expected, atol=1e-12)  # rounding of angles up to 1000


def test_steps_of_a_thousand_stay_apart_also_when_given_as_integers():
    features = np.asarray(sinusoidal(jnp.arange(1000), 16))
    assert features.dtype == np.float32
    gaps = np.linalg.norm(features[1:] - features[:-1], axis=1)
    # |sin, cos| of the fastest frequency alone move by 2 sin(1/2) a step.
    assert gaps.min() > 2 * np.sin(0.5) - 1e-3


@pytest.mark.parametrize("width", [2, 3, 5])
def test_frequencies_from_1_to_1e_4_need_two_of_them_and_whole_pairs(width):
    with pytest.raises(PersonError, match=f"width {width}: allowed are even numbers from 4 up"):
        sinusoidal(1.0, width)


@pytest.mark.parametrize("width", [0, 1, 5])
def test_fourier_features_come_in_whole_pairs_of_a_sine_and_a_cosine(width):
    with pytest.raises(PersonError, match=f"width {width}: allowed are even numbers from 2 up"):
        fourier(jnp.zeros(3), width)
    assert fourier(jnp.zeros(3), 2).shape == (3, 2)


def test_time_features_keep_the_axes_of_t():
    t = jnp.asarray(np.outer([1.0, 2.0], [0.5, 1.0, 1.5]), jnp.float32)
    for embed in (sinusoidal, fourier):
        features = embed(t, 8)
        assert features.shape == (2, 3, 8)
        np.testing.assert_array_equal(features[1, 0], embed(t[1, 0], 8))


def test_fourier_frequencies_spread_as_a_half_normal():
    width, scale, small = 2000, 3.0, 1e-5
    slopes = np.asarray(fourier(jnp.float32(small), width, scale))[: width // 2] / small
    frequencies = slopes / (2 * np.pi)  # sin(2 pi w t) = 2 pi w t to (2 pi w t)^2 / 6 < 1e-6
    assert frequencies.min() > 0
    # Mean and mean square of |N(0, scale^2)|; midpoint quantiles miss a little of the tail.
    assert frequencies.mean() == pytest.approx(scale * np.sqrt(2 / np.pi), rel=2e-3)
    assert (frequencies**2).mean() == pytest.approx(scale**2, rel=1e-2)
    usual = fourier(jnp.float32(small), width)  # 16, as in the source
    np.testing.assert_array_equal(usual, fourier(jnp.float32(small), width, 16.0))


def test_fourier_features_lie_on_unit_circles():
    features = fourier(jnp.linspace(-1, 1, 5), 6)
    np.testing.assert_allclose(features[:, :3] ** 2 + features[:, 3:] ** 2, 1, rtol=1e-5)


def test_places_of_a_grid_are_waves_of_the_row_and_then_of_the_column():
    """Eight features: sines, then cosines, at the frequencies 1 and 10000^(-1/2), twice."""
    w, found = np.array([1, 1e-2]), sinusoidal_grid(2, 3, 8)
    rows = [(i, j) for i in range(2) for j in range(3)]
    expected = [[f(w * k) for k in place for f in (np.sin, np.cos)] for place in rows]
    np.testing.assert_allclose(found, np.reshape(expected, (6, 8)), atol=1e-7)  # float32
