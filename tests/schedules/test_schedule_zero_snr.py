"""The table that is stretched until its end holds nothing of the data."""

import jax.numpy as jnp
import numpy as np
import pytest

from dfx import schedules
from dfx.errors import PersonError

BETAS = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
SIGNAL = np.sqrt(np.cumprod(1 - BETAS))
EXPECTED = (SIGNAL - SIGNAL[-1]) * SIGNAL[0] / (SIGNAL[0] - SIGNAL[-1])
RESCALED = schedules.make("zero_snr")


def test_entries_are_those_of_algorithm_1():
    level = RESCALED.at(RESCALED.time_of_index(np.arange(1000)))
    np.testing.assert_allclose(level.alpha, EXPECTED, atol=1e-14)
    np.testing.assert_allclose(level.sigma, np.sqrt(1 - EXPECTED**2), rtol=1e-12)
    given = schedules.zero_terminal_snr(schedules.ddpm_table(BETAS))
    np.testing.assert_array_equal(given.signal, RESCALED.signal)


def test_it_ends_without_any_signal_and_starts_without_any_noise():
    for end in (RESCALED.at(1.0), RESCALED.at(jnp.ones((), jnp.float32))):
        assert (end.alpha, end.sigma) == (0.0, 1.0)  # exactly, in both precisions
    start = RESCALED.at(0.0)
    assert (start.alpha, start.sigma) == (1.0, 0.0)


def test_digits_near_the_data_are_kept_in_float32():
    t = np.array([1e-5, 1e-3, 2e-3, 0.1])
    exact, single = RESCALED.at(t).sigma, RESCALED.at(jnp.asarray(t, jnp.float32)).sigma
    # A few roundings, and the time's own, of which sigma is the root.
    np.testing.assert_allclose(single, exact, rtol=1e-5)


def test_alpha_is_linear_between_neighbours_and_its_slope_that_of_the_step_that_ends_there():
    t = RESCALED.time_of_index(np.arange(1, 1000))
    before, there = EXPECTED[:-1], EXPECTED[1:]
    between = RESCALED.at(t - 0.25 / 1000).alpha
    np.testing.assert_allclose(between, 0.25 * before + 0.75 * there, atol=1e-14)
    slope = 1000 * (there - before)
    np.testing.assert_allclose(RESCALED.at(t).alpha_dot, slope, rtol=1e-9)
    # In float32 too: a step is rounded once, not the difference of two rounded entries.
    single = RESCALED.at(jnp.asarray(t, jnp.float32)).alpha_dot
    np.testing.assert_allclose(single, slope, rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"num_steps": 1}, "num_steps must be a whole number of at least 2, got 1"),
        ({"beta_start": -0.1}, "betas must lie in (0, 1)"),
        ({"beta_end": 1.0}, "betas must lie in (0, 1), got betas[999] = 1"),
    ],
)
def test_numbers_that_make_no_table_are_named_in_one_line(options, line):
    with pytest.raises(PersonError) as error:
        schedules.make("zero_snr", **options)
    assert line in str(error.value) and "\n" not in str(error.value)


def test_it_is_named_by_its_length():
    assert repr(schedules.make("zero_snr", num_steps=10)) == "RescaledTable(num_steps=10)"


def test_what_cannot_be_stretched_is_refused():
    for given in (schedules.ddpm_table([0.1]), schedules.VPLinear()):
        with pytest.raises(PersonError, match="a discrete table of at least 2 levels"):
            schedules.zero_terminal_snr(given)
