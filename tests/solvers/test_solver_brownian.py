"""Noise from one Brownian path: what grids share, its law, and strong orders measured with it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from solver_by_hand import run

from dfx import schedules, solvers
from dfx.errors import PersonError
from dfx.solvers import brownian

pytestmark = pytest.mark.usefixtures("x64")

KEY = jax.random.key(3)
SHAPE = (6, 2)
FINEST = np.linspace(1.0, 0.2, 17) ** 2


@jax.jit
def compiled(noise):
    return jax.lax.map(noise, jnp.arange(len(noise.weights) + 2))


def rows_of(noise):
    """The noise of the rows, as many as there are cells and two, by one program for all grids."""
    missing = len(noise.weights) + 1 - len(noise.first)
    first = np.pad(noise.first, (0, missing), mode="edge")  # steps of no cells
    return np.asarray(compiled(dataclasses.replace(noise, first=jnp.asarray(first))))


def steps_of(noise, times):
    return rows_of(noise)[: len(times) - 1]


def increments(noise, times):
    """sqrt(length) z, the increments of the path over the steps."""
    return np.sqrt(np.abs(np.diff(times)))[:, None, None] * steps_of(noise, times)


def path_noise(times, shape=SHAPE, finest=FINEST):
    return brownian(KEY, finest, times, shape, jnp.float64)


def test_grids_share_the_increments_over_intervals_that_both_have():
    """Uneven subsets of an uneven finest grid; sums of increments agree to rounding."""
    coarse, fine = FINEST[[0, 5, 8, 15]], FINEST[[0, 2, 5, 6, 7, 8, 11, 15, 16]]
    whole, parts = (increments(path_noise(times), times) for times in (coarse, fine))
    for step, (first, last) in enumerate([(0, 2), (2, 5), (5, 7)]):
        np.testing.assert_allclose(whole[step], parts[first:last].sum(0), rtol=0, atol=1e-14)


def test_the_clock_may_rise_and_the_grid_may_begin_later():
    rising = np.arange(17.0)
    finest, late = (increments(brownian(KEY, rising, times, SHAPE, jnp.float64), times)
                    for times in (rising, rising[[3, 5, 8]]))  # fmt: skip
    np.testing.assert_allclose(late[0], finest[3:5].sum(0), atol=1e-14)
    np.testing.assert_allclose(late[1], finest[5:8].sum(0), atol=1e-14)


def test_noise_is_standard_normal_and_independent_between_steps():
    """30,000 samples, steps of different lengths; all within 4.5 standard errors."""
    n, times = 30_000, FINEST[[0, 1, 6, 16]]
    z = np.concatenate(steps_of(path_noise(times, (n, 2)), times), axis=1)
    moments = z.T @ z / n - np.eye(6)
    assert np.all(np.abs(z.mean(0)) < 4.5 / np.sqrt(n))
    assert np.all(np.abs(moments) < 4.5 * np.sqrt((1 + np.eye(6)) / n))
    fourth = np.mean(z**4, axis=0) - 3  # of variance 96
    assert np.all(np.abs(fourth) < 4.5 * np.sqrt(96 / n))


def test_a_sample_has_the_same_path_in_every_batch_and_another_under_another_key():
    times = FINEST[[0, 3, 16]]
    few, many = (steps_of(path_noise(times, (n, 2)), times) for n in (6, 1200))
    np.testing.assert_array_equal(few, many[:, :6])
    other = brownian(jax.random.key(4), FINEST, times, SHAPE, jnp.float64)
    assert np.min(np.abs(steps_of(other, times) - few)) > 1e-6


def test_rows_before_and_after_the_grid_have_noise_of_their_own_and_none():
    noise = path_noise(FINEST)
    z = compiled(noise)
    assert np.all(z[16:] == 0)
    assert np.min(np.abs(noise(-1) - z[:16])) > 1e-6


def test_all_rows_of_a_step_have_its_noise():
    noise = brownian(KEY, FINEST, FINEST[::4], SHAPE, jnp.float64, evaluations=2)
    single = steps_of(path_noise(FINEST[::4]), FINEST[::4])
    np.testing.assert_array_equal(rows_of(noise)[:8], np.repeat(single, 2, axis=0))


def test_float32_paths_have_their_dtype():
    noise = brownian(KEY, FINEST, FINEST, SHAPE)
    assert jax.eval_shape(noise, 0).dtype == noise(-1).dtype == jnp.float32


def constant(x, level):
    return 0.4 + 0 * x


def test_ddpm_on_the_clock_of_the_snr_is_exact_on_refinements_for_data_at_a_point():
    """alpha x / sigma^2 is then a Brownian motion with drift x0 in alpha^2 / sigma^2."""
    schedule, finest = schedules.VPLinear(), np.linspace(0.9, 0.1, 9)
    clock = schedule.at(finest).snr
    x, ends = jnp.full(SHAPE, 0.3), []
    for stride in (1, 4):
        noise = brownian(KEY, clock, clock[::stride], SHAPE, jnp.float64)
        tableau = solvers.ddpm(schedule, finest[::stride])
        ends.append(solvers.sample(tableau, constant, x, noise=noise))
    for end in ends[1:]:
        np.testing.assert_allclose(end, ends[0], rtol=1e-12)


STRONG = {
    "euler_maruyama": lambda level: level.t,
    "ddpm": lambda level: level.snr,
    "euler_ancestral": lambda level: level.snr,
}


@pytest.mark.parametrize("name", STRONG)
def test_strong_order_one_of_additive_noise(name, gaussian, slope):
    """Mean distance from the run on the finest grid, path by path; without the path no order."""
    schedule, steps = schedules.VPLinear(), [16, 32, 64]
    finest = np.linspace(0.9, 0.2, 513)
    clock = STRONG[name](schedule.at(finest))
    x = 0.1 * np.arange(64.0).reshape(32, 2) - 3

    def end(n, key=KEY):
        stride = 512 // n
        noise = brownian(key, clock, clock[::stride], x.shape, jnp.float64)
        tableau = solvers.make(name, schedule, finest[::stride])
        return run(tableau, gaussian, x, steps_of(noise, clock[::stride]))

    exact = end(512)
    found = [np.mean(np.linalg.norm(end(n) - exact, axis=-1)) for n in steps]
    assert abs(slope(steps, found) - 1) < 0.2
    assert np.mean(np.linalg.norm(end(64, jax.random.key(8)) - exact, axis=-1)) > 10 * found[-1]


BAD = [
    (dict(grid=[1.0, 0.3]), "the time 0.3 of the grid is not in the finest grid"),
    (dict(grid=[0.5, 1.0]), "not in the finest grid, in its order"),
    (dict(grid=[1.0]), "grid needs at least 2 finite times"),
    (dict(finest=[1.0, 0.5, 0.7]), "finest must rise or fall throughout"),
    (dict(finest=[np.inf, 0.5]), "finest needs at least 2 finite times"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_bad_input_is_refused_with_one_line(options, message):
    given = dict(key=KEY, finest=[1.0, 0.5, 0.0], grid=[1.0, 0.5], shape=SHAPE)
    with pytest.raises(PersonError, match=message) as error:
        brownian(**(given | options))
    assert "\n" not in str(error.value)
