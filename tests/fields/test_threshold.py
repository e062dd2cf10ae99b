"""Thresholds on the denoiser, against quantiles by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from dfx import fields, schedules
from dfx.errors import PersonError

pytestmark = pytest.mark.usefixtures("x64")

LEVEL = schedules.VPLinear().at(0.3)


def itself(x, level):
    return x


def apply(field, x):
    return np.asarray(field(jnp.asarray(x), LEVEL))


def test_clipping_is_entry_by_entry():
    x = np.array([[-3.0, -1.0, 0.2], [0.999, 1.001, 7.0]])
    np.testing.assert_array_equal(apply(fields.clip(itself), x), np.clip(x, -1, 1))
    np.testing.assert_array_equal(apply(fields.clip(itself, 0.0, 2.0), x), np.clip(x, 0, 2))


def test_the_dynamic_threshold_is_the_quantile_of_the_sizes_of_each_sample():
    """Sizes 0, 1, .., 4: the quantile 0.8 is 3.2, the quantile 0.5 is 2."""
    x = np.array([[0.0, -1.0, 2.0, -3.0, 4.0], [0.0, -0.1, 0.2, -0.3, 0.4]])
    found = apply(fields.dynamic_threshold(itself, 0.8), x)
    np.testing.assert_allclose(found[0], [0, -1 / 3.2, 2 / 3.2, -3 / 3.2, 1], rtol=1e-15)
    np.testing.assert_array_equal(found[1], x[1])  # 0.32 lies in the box
    found = apply(fields.dynamic_threshold(itself, 0.5), x)
    np.testing.assert_allclose(found[0], [0, -0.5, 1, -1, 1], rtol=1e-15)


def test_a_sample_with_few_large_entries_is_clipped_like_a_static_one():
    x = np.full((1, 10), 0.4)
    x[0, 3] = 5.0
    found = apply(fields.dynamic_threshold(itself, 0.5), x)
    np.testing.assert_array_equal(found, np.clip(x, -1, 1))


def test_the_box_and_the_ceiling_scale():
    """Bound 2, ceiling 2.5: s = 3.2 is cut to 2.5, and 2.5 becomes 2."""
    x = np.array([[0.0, -1.0, 2.0, -3.0, 4.0]])
    found = apply(fields.dynamic_threshold(itself, 0.8, bound=2.0, ceiling=2.5), x)
    np.testing.assert_allclose(found[0], [0, -0.8, 1.6, -2, 2], rtol=1e-15)
    static = fields.dynamic_threshold(itself, 0.8, bound=2.0, ceiling=2.0)
    np.testing.assert_allclose(apply(static, x), np.clip(x, -2, 2), rtol=1e-15)


def test_pictures_are_thresholded_one_by_one():
    x = (
        np.random.default_rng(0).normal(size=(3, 4, 4, 2))
        * np.array([0.2, 2, 9])[:, None, None, None]
    )
    field = fields.dynamic_threshold(itself, 0.9)
    together = apply(field, x)
    for i in range(3):
        s = max(np.quantile(np.abs(x[i]), 0.9), 1.0)
        np.testing.assert_allclose(together[i], np.clip(x[i], -s, s) / s, rtol=1e-14)
        np.testing.assert_array_equal(apply(field, x[i : i + 1])[0], together[i])


def test_further_outputs_and_blocks_pass_through():
    both = lambda x, level: (3 * x, 5 * x)  # noqa: E731
    x = jnp.ones((2, 3))
    for field in (fields.clip(both), fields.dynamic_threshold(both)):
        guided, plain = field(x, LEVEL)
        np.testing.assert_array_equal(guided, 1.0)
        np.testing.assert_array_equal(plain, 5.0)
    oracle = fields.oracle(None)
    assert fields.clip(oracle).pointwise and fields.dynamic_threshold(oracle).pointwise
    assert not fields.clip(both).pointwise


def test_float32_stays_float32():
    x = jnp.ones((2, 3), jnp.float32)
    for field in (
        fields.clip(itself, np.float64(-1), np.float64(1)),
        fields.dynamic_threshold(itself, np.float64(0.9), np.float64(1)),
    ):
        assert field(x, LEVEL).dtype == jnp.float32


def test_impossible_thresholds_are_refused():
    with pytest.raises(PersonError, match="low must be below high"):
        fields.clip(itself, 1.0, -1.0)
    for quantile in (-0.1, 1.1):
        with pytest.raises(PersonError, match="must lie in"):
            fields.dynamic_threshold(itself, quantile)
    for bound, ceiling in ((0.0, 1.0), (1.0, 0.5)):
        with pytest.raises(PersonError, match="is needed"):
            fields.dynamic_threshold(itself, 0.9, bound, ceiling)
