"""Initial weights: their laws and their order."""

import jax
import numpy as np
import pytest

from dfx.nets.initial import lecun_normal, xavier_uniform

KERNEL = (3, 3, 20, 50)


@pytest.mark.parametrize(
    ("ours", "usual"),
    [
        (lecun_normal, jax.nn.initializers.lecun_normal()),
        (xavier_uniform, jax.nn.initializers.xavier_uniform()),
    ],
)
def test_flat_draws_are_the_usual_ones(ours, usual):
    key = jax.random.key(3)
    np.testing.assert_allclose(ours(key, KERNEL), usual(key, KERNEL), rtol=1e-5, atol=1e-7)


def test_variances_are_one_over_fan_in_and_two_over_the_sum_of_fans():
    count = np.prod(KERNEL)
    relative = 4 * np.sqrt(2 / count)  # four standard errors, at most, of a variance
    key = jax.random.key(0)
    assert np.var(lecun_normal(key, KERNEL)) == pytest.approx(1 / (9 * 20), rel=relative)
    assert np.var(xavier_uniform(key, KERNEL)) == pytest.approx(2 / (9 * 70), rel=relative)
