"""Jacobian and divergence: exact against closed forms, estimated within its stated variance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dfx.errors import PersonError
from dfx.fields import divergence, jacobian
from dfx.fields.derivatives import slopes
from dfx.fields.probes import draw_probes

MATRIX = np.random.default_rng(0).normal(size=(4, 4))


def linear(x):
    return x @ MATRIX.T


def curved(x):
    """f_a = sin(x_a) x_{a+1}: d f_a / d x_a = cos(x_a) x_{a+1}."""
    return jnp.sin(x) * jnp.roll(x, -1, axis=-1)


def points(n=6, d=4):
    return jnp.asarray(np.random.default_rng(1).normal(size=(n, d)))


@pytest.mark.usefixtures("x64")
def test_the_jacobian_of_a_linear_map_is_its_matrix():
    expected = np.broadcast_to(MATRIX, (6, 4, 4))
    np.testing.assert_allclose(jacobian(linear, points()), expected, rtol=1e-14)


@pytest.mark.usefixtures("x64")
def test_the_jacobian_is_that_of_autodiff_sample_by_sample():
    expected = jax.vmap(jax.jacrev(lambda x: curved(x[None])[0]))(points())
    np.testing.assert_allclose(jacobian(curved, points()), expected, rtol=1e-13)


@pytest.mark.usefixtures("x64")
def test_the_exact_divergence_is_the_sum_of_own_slopes():
    x = points()
    expected = np.sum(np.cos(x) * np.roll(x, -1, axis=-1), axis=-1)
    np.testing.assert_allclose(divergence(curved, x), expected, rtol=1e-13)
    np.testing.assert_allclose(jax.jit(lambda x: divergence(curved, x))(x), expected, rtol=1e-13)


@pytest.mark.usefixtures("x64")
def test_samples_of_any_shape_are_read_as_vectors():
    x = points(3, 8).reshape(3, 2, 4)
    flat = lambda f: lambda x: f(x.reshape(x.shape[0], -1)).reshape(x.shape)  # noqa: E731
    np.testing.assert_allclose(divergence(flat(curved), x), divergence(curved, x.reshape(3, 8)))
    np.testing.assert_allclose(jacobian(flat(curved), x), jacobian(curved, x.reshape(3, 8)))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("probe", ["rademacher", "normal"])
def test_hutchinson_is_unbiased_with_the_variance_stated(probe):
    """20,000 points, one probe each: mean and variance within 4.5 standard errors."""
    n = 20_000
    symmetric = 0.5 * (MATRIX + MATRIX.T)
    x = jnp.zeros((n, 4))
    values = np.asarray(divergence(lambda x: x @ symmetric, x, jax.random.key(0), probe=probe))
    square = np.sum(symmetric**2)
    if probe == "rademacher":
        square -= np.sum(np.diag(symmetric) ** 2)
    variance = 2 * square
    assert abs(values.mean() - np.trace(symmetric)) < 4.5 * np.sqrt(variance / n)
    spread = np.std((values - values.mean()) ** 2) / np.sqrt(n)
    assert abs(values.var() - variance) < 4.5 * spread


@pytest.mark.usefixtures("x64")
def test_the_variance_of_the_estimate_falls_with_the_number_of_probes():
    x = jnp.zeros((4000, 4))
    one, many = (np.var(divergence(linear, x, jax.random.key(3), num_probes=k)) for k in (1, 16))
    # Each variance has a relative standard error of about sqrt(2/4000) = 2 %.
    assert 16 * 0.85 < one / many < 16 * 1.15


@pytest.mark.usefixtures("x64")
def test_a_diagonal_jacobian_is_found_by_one_sign_probe():
    x = points()
    got = divergence(jnp.sin, x, jax.random.key(0))
    np.testing.assert_allclose(got, np.cos(x).sum(-1), rtol=1e-13)


@pytest.mark.usefixtures("x64")
def test_slopes_are_those_of_the_jacobian_however_many_at_once():
    """J z for three directions at six points; points and directions are told apart."""
    x, vectors = points(), jnp.asarray(np.random.default_rng(3).normal(size=(3, 1, 4)))
    expected = np.einsum("nij,mj->nmi", jax.vmap(jax.jacfwd(curved))(x), vectors[:, 0])
    for chunk in (2, 3):
        np.testing.assert_allclose(slopes(curved, x, vectors, chunk), expected, rtol=1e-12)


@pytest.mark.slow
def test_a_sample_has_the_same_probes_in_every_batch():
    x = jnp.ones((50, 4), jnp.float32)
    estimate = lambda x: divergence(linear, x, jax.random.key(1), num_probes=3)  # noqa: E731
    np.testing.assert_allclose(estimate(x[:7]), estimate(x)[:7])


@pytest.mark.parametrize("probe", ["rademacher", "normal"])
def test_the_probes_of_a_sample_do_not_depend_on_the_others(probe):
    x, key = jnp.ones((5, 4), jnp.float32), jax.random.key(1)
    few, many = (draw_probes(key, points, 3, probe) for points in (x[:2], x))
    assert many.shape == (3, 5, 4)
    np.testing.assert_array_equal(few, many[:, :2])


def test_bad_probes_are_refused():
    with pytest.raises(PersonError, match="did you mean 'rademacher'"):
        divergence(linear, points(), jax.random.key(0), probe="rademacer")
    with pytest.raises(PersonError, match="num_probes = 0"):
        divergence(linear, points(), jax.random.key(0), num_probes=0)


def test_no_points_have_no_derivatives():
    none = jnp.zeros((0, 4))
    assert divergence(curved, none).shape == (0,) and jacobian(curved, none).shape == (0, 4, 4)
