"""The DDPM table as a schedule in continuous time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dfx import schedules
from dfx.errors import PersonError

BETAS = np.linspace(1e-4, 2e-2, 1000)
TABLE = schedules.discrete_linear()
INDICES = np.arange(1000)
# A thousand factors and a sum of a thousand logarithms, each rounded once.
ROUNDING = 1e-12


def test_table_levels_are_the_cumulative_products():
    level = TABLE.at(TABLE.time_of_index(INDICES))
    np.testing.assert_allclose(level.alpha**2, np.cumprod(1 - BETAS), ROUNDING)
    np.testing.assert_allclose(level.sigma**2, 1 - np.cumprod(1 - BETAS), ROUNDING)


def test_table_of_the_mode_interpolation_paper_has_its_values():
    table = schedules.discrete_linear(1000, 0.001, 0.2)
    indices, values = [0, 10, 50, 100, 200], [0.999, 0.9783, 0.7363, 0.3280, 0.01407]
    squared = table.at(table.time_of_index(np.array(indices))).alpha ** 2
    # The values are given to four digits.
    np.testing.assert_allclose(squared, values, rtol=4e-4, atol=0)


def test_time_and_index_are_inverse_and_minus_one_is_clean():
    assert TABLE.time_of_index(-1) == 0 and TABLE.index(0.0) == -1
    assert TABLE.time_of_index(999) == 1
    np.testing.assert_allclose(TABLE.index(TABLE.time_of_index(INDICES)), INDICES, ROUNDING, 1e-12)


def test_log_alpha_is_linear_between_neighbours():
    left, right = TABLE.time_of_index(INDICES - 1), TABLE.time_of_index(INDICES)
    middle = 0.75 * np.log(TABLE.at(left).alpha) + 0.25 * np.log(TABLE.at(right).alpha)
    np.testing.assert_allclose(
        np.log(TABLE.at(0.75 * left + 0.25 * right).alpha), middle, 1e-9, atol=1e-15
    )


def test_derivatives_at_an_index_are_those_of_the_step_that_ends_there():
    t = TABLE.time_of_index(INDICES)
    drift = 500 * np.log(1 - BETAS)
    np.testing.assert_allclose(schedules.drift_coefficient(TABLE, t), drift, 1e-9)
    np.testing.assert_allclose(schedules.diffusion(TABLE, t), -2 * drift, 1e-9)
    # In float32 too, where (i + 1) / T is rounded to either side; the step itself is rounded once.
    single = schedules.drift_coefficient(TABLE, jnp.asarray(t, jnp.float32))
    np.testing.assert_allclose(single, drift, 1e-6)


@pytest.mark.parametrize("length", [1, 2, 7, 1000, 4096])
def test_tables_of_any_length_hit_their_entries(length):
    betas = np.linspace(0.01, 0.3, length)
    table = schedules.ddpm_table(betas)
    assert table.num_steps == length
    level = table.at(table.time_of_index(np.arange(length)))
    # Compared as logarithms, since the products of long tables underflow to 1e-300.
    np.testing.assert_allclose(
        2 * np.log(level.alpha[:500]), np.cumsum(np.log1p(-betas))[:500], 1e-11
    )


def test_a_fine_table_tends_to_the_continuous_schedule():
    # Betas are rate/T, so log alpha errs by sums of beta^2: of order 1/T, and so is the error.
    t = np.linspace(0.05, 1, 20)
    errors = []
    for length in (1000, 2000, 4000):
        table = schedules.discrete_linear(length, 0.1 / length, 20 / length)
        difference = schedules.log_snr(table, t) - schedules.log_snr(schedules.VPLinear(), t)
        errors.append(np.abs(difference).max())
    slopes = np.diff(np.log(errors)) / np.log(2)
    np.testing.assert_allclose(slopes, -1, atol=0.05)


@pytest.mark.usefixtures("x64")
def test_a_table_of_traced_betas_is_differentiable():
    def alpha_squared(betas):
        table = schedules.ddpm_table(betas)
        return table.at(table.time_of_index(2)).alpha ** 2

    betas = jnp.array([0.1, 0.2, 0.3, 0.4])
    product = 0.9 * 0.8 * 0.7
    expected = [-product / 0.9, -product / 0.8, -product / 0.7, 0]
    np.testing.assert_allclose(jax.jit(jax.grad(alpha_squared))(betas), expected, ROUNDING)


@pytest.mark.parametrize(
    ("betas", "message"),
    [
        ([0.1, 1.0], r"betas\[1\] = 1"),
        ([0.0, 0.5], r"betas\[0\] = 0"),
        ([0.1, np.nan], r"betas\[1\] = nan"),
        ([], "shape"),
        ([[0.1]], "shape"),
        (jnp.array([0.1, 2.0, 0.3]), r"betas\[1\] = 2"),
        (jnp.array([]), "shape"),
    ],
)
def test_betas_outside_their_range_are_refused(betas, message):
    with pytest.raises(PersonError, match=message):
        schedules.ddpm_table(betas)


@pytest.mark.parametrize("length", [0, -3, 10.5, True, "10"])
def test_a_table_has_a_positive_whole_number_of_steps(length):
    with pytest.raises(PersonError, match=f"whole number of at least 1, got {length!r}"):
        schedules.discrete_linear(length)
