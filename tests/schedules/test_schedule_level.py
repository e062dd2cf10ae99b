"""Levels: kinds, precisions and shapes of `Schedule.at`, and schedules as pytrees."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dfx import schedules
from dfx.schedules import CLEAN, Level, VPLinear, expand

ROUNDING = 1e-12


def assert_levels_close(a, b, rtol=ROUNDING):
    for name in Level._fields:
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol, 1e-13, err_msg=name)


@pytest.mark.parametrize("t", [0.5, 1, np.float32(0.5), np.array(0.5)])
def test_numbers_give_float64_numpy_scalars(schedule, t):
    assert all(type(entry) is np.float64 for entry in schedule.at(t))


def test_arrays_give_float64_numpy_arrays_of_their_shape():
    for shape in [(0,), (1,), (63,), (64,), (65,), (3, 5)]:
        level = VPLinear().at(np.full(shape, 0.5))
        for entry in level:
            assert type(entry) is np.ndarray and entry.dtype == np.float64 and entry.shape == shape


def test_a_level_of_an_array_is_the_levels_of_its_entries(schedule):
    t = schedule.end_time * np.linspace(0.0105, 0.9905, 60).reshape(6, 10)
    level = schedule.at(t)
    for place in [(0, 0), (3, 4), (5, 9)]:
        assert_levels_close(Level(*(entry[place] for entry in level)), schedule.at(t[place]))


def test_host_levels_stay_numpy_float64_inside_jit_grad_vmap_and_scan():
    inside, outside = [], VPLinear().at(np.linspace(0, 1, 5))

    def f(x):
        inside.append(VPLinear().at(np.linspace(0, 1, 5)))
        return x * inside[-1].alpha.sum()

    jax.jit(f)(1.0)
    jax.grad(f)(1.0)
    jax.vmap(f)(jnp.ones(3))
    jax.lax.scan(lambda c, x: (c, f(x)), 0.0, jnp.ones(3))
    assert len(inside) >= 4
    for level in inside:
        for entry, expected in zip(level, outside):
            assert type(entry) is np.ndarray and entry.dtype == np.float64
            np.testing.assert_array_equal(entry, expected)


def test_arrays_may_be_used_in_float32_and_on_the_host_of_one_trace(diagonal):
    table = schedules.discrete_linear()
    inner = jax.jit(lambda table, t: table.at(t).alpha)
    exact = table.at(0.3).alpha
    slow, times = diagonal(np.array([0.1, 0.3])), np.array([0.3, 0.7])
    slow_exact = slow.at(times).alpha

    @jax.jit
    def f(t):
        singles = [table.at(t).alpha, table.at(jnp.float32(0.3)).alpha, inner(table, t)]
        host = table.at(0.3).alpha
        assert type(host) is np.float64 and host == exact
        singles.append(slow.at(t).alpha.sum() + jnp.asarray(times).sum())
        np.testing.assert_array_equal(slow.at(times).alpha, slow_exact)
        return singles[:3]

    np.testing.assert_allclose(f(jnp.float32(0.3)), [exact] * 3, 1e-6)


@pytest.mark.parametrize(
    ("given", "expected"), [("float32", "float32"), ("bfloat16", "float32"), ("int32", "float32")]
)
def test_jax_times_give_jax_levels_of_float32_or_better(schedule, given, expected):
    for entry in schedule.at(jnp.ones(3, given)):
        assert isinstance(entry, jax.Array) and entry.dtype == expected and entry.shape == (3,)


@pytest.mark.usefixtures("x64")
def test_jax_and_host_levels_agree_in_float64(schedule):
    t = schedule.end_time * np.linspace(0.0115, 0.9915, 9)
    level = jax.jit(schedule.at)(jnp.asarray(t))
    assert level.alpha.dtype == jnp.float64
    assert_levels_close(level, schedule.at(t))


@pytest.mark.parametrize("schedule", [VPLinear(), schedules.discrete_linear()])
def test_levels_broadcast_per_sample_and_per_token(schedule):
    per_sample = np.array([0.2, 0.5, 0.9])
    per_token = np.array([[0.2, 0.4], [0.5, 0.6], [0.9, 0.8]])
    for convert in (np.asarray, jnp.asarray):
        level = schedule.at(convert(per_sample), ndim=4)
        assert all(entry.shape == (3, 1, 1, 1) for entry in level)
        level = schedule.at(convert(per_token), ndim=3)
        assert all(entry.shape == (3, 2, 1) for entry in level)
        assert level.sigma[1, 1, 0] == schedule.at(convert(per_token)).sigma[1, 1]
        assert all(np.shape(entry) == () for entry in schedule.at(convert(0.5), ndim=3))
        assert all(entry.shape == (3,) for entry in schedule.at(convert(per_sample), ndim=1))


def test_expand_adds_trailing_axes_only():
    assert expand(np.zeros((2, 3)), 4).shape == (2, 3, 1, 1)
    assert expand(np.zeros((2, 3)), 2).shape == (2, 3)
    assert expand(np.zeros((2, 3)), 1).shape == (2, 3)
    assert expand(np.zeros(()), 4).shape == ()


def test_coefficients_may_be_arrays_diagonal_in_a_basis(diagonal):
    rates, t = np.array([0.5, 1.0, 2.0]), np.array([0.1, 0.7])
    for convert in (np.asarray, jnp.asarray):
        level = diagonal(rates).at(convert(t), ndim=2)
        assert level.alpha.shape == level.sigma_dot.shape == (2, 3)
        # The JAX form runs in float32.
        rtol = 1e-6 if convert is jnp.asarray else ROUNDING
        np.testing.assert_allclose(level.alpha, np.exp(-rates * t[:, None]), rtol)
        np.testing.assert_allclose(level.alpha_dot, -rates * np.exp(-rates * t[:, None]), rtol)
        g_squared = schedules.diffusion(diagonal(rates), expand(convert(t), 2))
        np.testing.assert_allclose(g_squared, np.broadcast_to(2 * rates, (2, 3)), rtol)


def test_schedules_are_pytrees_of_numbers(schedule):
    leaves, structure = jax.tree.flatten(schedule)
    rebuilt = jax.tree.unflatten(structure, leaves)
    np.testing.assert_array_equal(rebuilt.at(0.3), schedule.at(0.3))
    passed = jax.jit(lambda schedule: schedule.at(0.3).sigma)(schedule)
    # Numbers of the schedule enter as float32; the largest exponent among the members is 17.
    np.testing.assert_allclose(passed, schedule.at(0.3).sigma, 20 * np.finfo(np.float32).eps)


@pytest.mark.usefixtures("x64")
def test_levels_are_differentiable_in_the_numbers_of_a_schedule():
    def log_alpha(beta_max):
        return jnp.log(VPLinear(0.1, beta_max).at(0.3).alpha)

    # log alpha = -B/2 and dB/d beta_max = t^2/2.
    ends = jnp.array([10.0, 20.0])
    np.testing.assert_allclose(jax.vmap(jax.grad(log_alpha))(ends), [-0.0225] * 2, ROUNDING)


def test_log_snr_and_snr_of_a_level_are_those_of_its_coefficients():
    level = Level(0.0, 0.6, 0.0, 0.3, 0.0, 0.0, 0.0)
    np.testing.assert_allclose(level.snr, 4, ROUNDING)
    np.testing.assert_allclose(level.half_log_snr, np.log(2), ROUNDING)
    np.testing.assert_allclose(level.log_snr, np.log(4), ROUNDING)


def test_the_clean_level_leaves_the_data_alone():
    assert CLEAN.log_snr == np.inf and CLEAN.t == 0
    x0 = jnp.arange(6, dtype=jnp.float32).reshape(3, 2)
    noisy = schedules.marginal_sample(x0, 7 * jnp.ones_like(x0), CLEAN, y=5.0)
    np.testing.assert_array_equal(noisy, x0)


@pytest.mark.usefixtures("x64")
def test_float32_data_stay_float32_under_a_float64_level():
    x0 = jnp.ones((3, 2), jnp.float32)
    level = VPLinear().at(0.3)
    assert level.astype(jnp.float32).alpha.dtype == jnp.float32
    assert schedules.marginal_sample(x0, x0, level, y=1.0).dtype == jnp.float32
    assert schedules.marginal_velocity(x0, x0, level, y=1.0).dtype == jnp.float32


def test_a_schedule_without_its_methods_says_which_is_missing():
    class Nothing(schedules.Schedule):
        pass

    with pytest.raises(NotImplementedError, match="Nothing does not define alpha"):
        Nothing().alpha(jnp.float32(0.5))
    for method in ("sigma", "variance"):
        with pytest.raises(NotImplementedError, match="Nothing defines neither sigma nor variance"):
            getattr(Nothing(), method)(jnp.float32(0.5))
