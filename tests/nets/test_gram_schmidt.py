"""Orthonormal bases in products alone: those of QR, to rounding, with finite gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dfx.nets.gram_schmidt import gram_schmidt

RNG = np.random.default_rng(0)
MATRICES = RNG.normal(size=(5, 2, 12, 4))
orthonormal = jax.jit(gram_schmidt)


def conditioned(number, n=12, r=4):
    """A matrix of that condition number, its singular values equally far apart in logarithms."""
    left, right = (np.linalg.qr(RNG.normal(size=(k, r)))[0] for k in (n, r))
    return (left * np.geomspace(1, 1 / number, r)) @ right.T


def off(q):
    """How far columns are from orthonormal."""
    q = np.asarray(q, np.float64)
    return np.abs(q.swapaxes(-1, -2) @ q - np.eye(q.shape[-1])).max()


def test_it_is_the_q_of_a_qr_factorisation_with_a_positive_diagonal():
    q, r = np.linalg.qr(MATRICES)
    signs = np.sign(np.diagonal(r, axis1=-2, axis2=-1))[..., None, :]
    found = orthonormal(MATRICES.astype(np.float32))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, q * signs, atol=1e-5)  # condition numbers of about ten
    with jax.enable_x64(True):
        np.testing.assert_allclose(orthonormal(MATRICES), q * signs, atol=1e-13)


@pytest.mark.parametrize("number", [1.0, 1e2, 1e4, 1e5])
def test_columns_are_orthonormal_to_rounding_at_every_condition_number_below_a_million(number):
    matrix = conditioned(number)
    # A few roundings of 6e-8; once would leave eps times the condition number.
    assert off(orthonormal(matrix.astype(np.float32))) < 1e-6
    with jax.enable_x64(True):
        # The span is that of the matrix, up to eps times the condition number.
        found, expected = np.asarray(orthonormal(matrix)), np.linalg.qr(matrix)[0]
        np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=1e-14 * number)


def test_beyond_that_directions_mean_nothing():
    """At 1e9 in float32 the last column is a rounding error: another, of an equal matrix."""
    matrix = conditioned(1e9).astype(np.float32)
    found, other = orthonormal(matrix), orthonormal(matrix * np.float32(1 + 1e-6))
    assert np.abs(found - other)[:, -1].max() > 0.01
    twin = np.repeat(np.eye(12, 1, dtype=np.float32), 2, axis=1)
    assert np.isnan(orthonormal(twin)[:, 1]).all()


def test_the_first_columns_are_those_of_the_first_columns():
    whole, part = orthonormal(MATRICES[0]), orthonormal(MATRICES[0, :, :, :2])
    np.testing.assert_array_equal(whole[:, :, :2], part)


def test_its_gradient_is_that_of_the_closed_form():
    """With dA R^-1 = Q W + N, N free of Q: dQ = Q (L - L^T) + N, L the lower part of W."""
    with jax.enable_x64(True):
        tangent = RNG.normal(size=MATRICES.shape)
        q, found = jax.jvp(orthonormal, (MATRICES,), (tangent,))
        q = np.asarray(q)
        r = q.swapaxes(-1, -2) @ MATRICES
        moved = tangent @ np.linalg.inv(r)
        w = q.swapaxes(-1, -2) @ moved
        lower = np.tril(w, -1)
        expected = q @ (lower - lower.swapaxes(-1, -2)) + moved - q @ w
        np.testing.assert_allclose(found, expected, atol=1e-10)
        back = jax.grad(lambda a: (orthonormal(a) * tangent).sum())(MATRICES)
        assert np.isfinite(back).all()
        # Q does not change with the lengths of columns, so neither does anything made of it.
        np.testing.assert_allclose((back * MATRICES).sum(-2), 0, atol=1e-10)


def test_one_at_a_time_or_vmapped_is_the_same():
    x = jnp.asarray(MATRICES[:, 0], jnp.float32)
    each = jnp.stack([orthonormal(one) for one in x])
    np.testing.assert_allclose(jax.jit(jax.vmap(gram_schmidt))(x), each, atol=1e-6)
