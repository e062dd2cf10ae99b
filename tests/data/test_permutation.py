"""The order on the host is that on the device, number for number."""

import jax
import numpy as np
import pytest

from dfx import data
from dfx.errors import PersonError

KEY = jax.random.key(3)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 17, 101, 60_000, 1_281_167, 2**31 - 1])
def test_the_host_and_the_device_draw_the_same_examples(size):
    order = data.order(KEY, size)
    for step in (0, 1, 7, 10**6, 2**31 - 1):
        on_host = order.at(step * 64 + np.arange(64))
        np.testing.assert_array_equal(on_host, data.indices(KEY, step, 64, size))


def test_positions_may_come_in_any_order():
    order = data.order(KEY, 1000)
    positions = np.random.default_rng(0).integers(0, 10**7, 300)
    one_by_one = [order.at([position])[0] for position in positions]
    np.testing.assert_array_equal(order.at(positions), one_by_one)


def test_an_epoch_holds_each_example_exactly_once():
    entries = data.order(KEY, 777).at(np.arange(3 * 777)).reshape(3, 777)
    np.testing.assert_array_equal(np.sort(entries), np.tile(np.arange(777), (3, 1)))


@pytest.mark.parametrize("size", [0, 2**31])
def test_a_size_out_of_range_is_an_error(size):
    with pytest.raises(PersonError, match="allowed: 1 to 2147483647"):
        data.order(KEY, size)
