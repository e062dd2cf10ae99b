"""Bits per dimension and their error."""

import numpy as np
import pytest

from dfx import metrics
from dfx.errors import PersonError


def test_bits_per_dimension_of_uniform_data_are_their_eight_bits():
    """256 levels of 1/128 on [-1, 1]: density 2^-d; on [0, 1]: density 1."""
    assert metrics.bits_per_dimension(-3 * np.log(2), 3, 2 / 256) == pytest.approx(8)
    assert metrics.bits_per_dimension(0.0, 3, 1 / 256) == pytest.approx(8)
    # at spacing 2 / 255 the cells of the first and last level reach over the ends by half of one
    log_density = -3 * np.log(2 * 256 / 255)
    assert metrics.bits_per_dimension(log_density, 3) == pytest.approx(8)
    assert metrics.bits_per_dimension(np.log(2.0) * 6, 3, 1.0) == pytest.approx(-2)


def test_a_code_that_knows_each_pixel_costs_its_entropy():
    # Pixels 0..255 with P(0) = 1/2 and the rest equal, density = probability in cells of width 1.
    p = np.append(0.5, np.full(255, 0.5 / 255))
    rng = np.random.default_rng(0)
    pixels = rng.choice(256, (400, 30), p=p)
    bits = metrics.mean_bits(np.log(p)[pixels].sum(1), 30, 1.0)
    entropy = -np.sum(p * np.log2(p))
    assert abs(bits.value - entropy) < 4 * bits.standard_error
    # Of independent pixels the error is the standard deviation of one over the root of all.
    deviation = np.sqrt(np.sum(p * np.log2(p) ** 2) - entropy**2)
    assert bits.standard_error == pytest.approx(deviation / np.sqrt(12_000), rel=0.15)


def test_averaging_densities_of_several_draws_tightens_the_bound():
    nats = np.random.default_rng(0).normal(size=(50, 8)) * 10
    one, eight = (metrics.mean_bits(n, 12, 1 / 256).value for n in (nats[:, 0], nats))
    assert eight < metrics.mean_bits(nats.ravel(), 12, 1 / 256).value and eight < one
    # Equal draws change nothing.
    same = metrics.mean_bits(np.repeat(nats[:, :1], 3, 1), 12, 1 / 256)
    assert same.value == pytest.approx(one, rel=1e-12)


def test_the_conventions_of_scale_agree():
    # The same law in units in which a cell is w wide has the density p / w^d.
    nats, dim = np.array([-10.0, -20.0, -15.0]), 6
    for width in (2 / 256, 2 / 255, 1 / 256):
        moved = metrics.mean_bits(nats - dim * np.log(width), dim, width)
        np.testing.assert_allclose(moved, metrics.mean_bits(nats, dim, 1.0), rtol=1e-13)


def test_another_shape_is_an_error():
    with pytest.raises(PersonError, match=r"allowed: \(n,\) or \(n, r\)"):
        metrics.mean_bits(np.zeros((2, 2, 2)), 3, 1.0)


def test_a_size_that_is_not_positive_is_refused():
    with pytest.raises(PersonError, match="must be positive"):
        metrics.bits_per_dimension(0.0, 3, 0.0)
