"""Singular directions of denoisers: linear fields, exact mixtures, ranks against noise."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dfx import diagnostics, fields, nets, schedules
from dfx.errors import PersonError
from dfx.pytree import pytree

pytestmark = pytest.mark.usefixtures("x64")

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
EDM = schedules.EDM()
TURNS = np.linalg.qr(RNG.normal(size=(2, 12, 12)))[0]
VALUES = 2.0 ** -np.arange(12)
MATRIX = TURNS[0] * VALUES @ TURNS[1].T  # not symmetric


@pytree
@dataclasses.dataclass(frozen=True)
class Linear:
    """x0_hat = alpha^2 A x + |x|^2 b / 2, of which the slope at x is alpha^2 A + b x^T."""

    matrix: jax.Array
    bend: jax.Array

    def __call__(self, x, level):
        flat = x.reshape(len(x), -1)
        out = level.alpha**2 * flat @ self.matrix.T
        return (out + 0.5 * (flat**2).sum(1, keepdims=True) * self.bend).reshape(x.shape), 0


LEVEL = schedules.VPLinear().at(0.2)
FIELD = Linear(MATRIX / LEVEL.alpha**2, np.zeros(12))
PICTURES = RNG.normal(size=(3, 2, 2, 3))


def test_exact_values_and_both_sets_of_directions_are_those_of_dense_algebra():
    bend = RNG.normal(size=12)
    field = dataclasses.replace(FIELD, bend=bend)
    found = diagnostics.jacobian_svd(field, PICTURES, LEVEL, 4)
    assert found.left.shape == found.right.shape == (3, 4, 2, 2, 3)
    for i, x in enumerate(PICTURES.reshape(3, 12)):
        dense = MATRIX + np.outer(bend, x)
        u, s, v = np.linalg.svd(dense)
        np.testing.assert_allclose(found.values[i], s[:4], rtol=1e-10)
        left, right = (a[i].reshape(4, 12) for a in (found.left, found.right))
        # u_i and v_i share one sign, which is free.
        np.testing.assert_allclose(left.T * found.values[i], dense @ right.T, atol=1e-10)
        np.testing.assert_allclose(np.abs(np.diag(right @ v[:4].T)), 1, rtol=1e-10)
        np.testing.assert_allclose(np.abs(np.diag(left @ u[:, :4])), 1, rtol=1e-10)


look = functools.partial(
    diagnostics.jacobian_svd, FIELD, level=LEVEL, rank=2, key=KEY, oversampling=3, iterations=2
)


def test_random_directions_find_the_leading_values_of_a_field_that_is_not_symmetric():
    """Rank 2 of values 1, 1/2, .. with m = 5 directions and q = 2 turns: values err by
    (s_6 / s_2)^(2 (2 q + 1)) = 16^-10, directions by its root, times factors of d; never above."""
    found = look(PICTURES)
    assert (found.values <= VALUES[:2] * (1 + 1e-12)).all()
    np.testing.assert_allclose(found.values, np.tile(VALUES[:2], (3, 1)), rtol=1e-9)
    for directions, turn in ((found.left, TURNS[0]), (found.right, TURNS[1])):
        overlaps = np.abs(np.reshape(directions, (3, 2, 12)) @ turn[:, :2])
        np.testing.assert_allclose(overlaps, np.tile(np.eye(2), (3, 1, 1)), atol=1e-4)


@pytest.mark.slow
def test_random_directions_of_a_sample_are_the_same_in_every_batch():
    alone = look(PICTURES[:1], at_once=1)
    np.testing.assert_allclose(alone.right, look(PICTURES).right[:1], atol=1e-9)


def test_a_mask_looks_at_a_part_of_the_output():
    mask = np.zeros((2, 2, 1))
    mask[0, 1] = 1
    found = diagnostics.jacobian_svd(FIELD, PICTURES, LEVEL, 3, mask=mask)
    rows = MATRIX[3:6]
    np.testing.assert_allclose(found.values[0], np.linalg.svd(rows)[1], rtol=1e-10)
    assert np.abs(found.left * (1 - mask)).max() < 1e-12


@jax.jit
def slopes(x, bases, level):
    """Singular values of the exact denoiser of two subspaces, through the field."""
    field = fields.from_net(nets.low_rank(48, (7, 7)), {"bases": bases}, "x0", nets.alpha_sigma)
    return jnp.linalg.svd(fields.jacobian(lambda x: field(x, level), x), compute_uv=False)


@pytest.mark.slow
def test_the_rank_of_the_exact_denoiser_falls_from_all_dimensions_to_those_of_one_subspace():
    """Two subspaces of 7 dimensions in 48: the table of sigma, rank (norm rule), largest weight.

    Each is a mean over points, here 60: four standard errors (of about 0.35 in the rank at sigma =
    1, where it varies most), and what is left out of the digits of the table and its own draw.
    """
    bases = np.linalg.qr(RNG.normal(size=(48, 14)))[0].reshape(48, 2, 7).swapaxes(0, 1)
    x0 = np.einsum("kir,nr->nki", bases, RNG.normal(size=(30, 7))).reshape(60, 48)
    noise = RNG.normal(size=x0.shape)
    table = [(5, 14.0, 0.52), (2, 13.6, 0.61), (1, 9.7, 0.80), (0.5, 7.3, 0.96), (0.2, 7.0, 1.0)]
    for sigma, rank, weight in table:
        x = x0 + sigma * noise
        values = np.asarray(slopes(x, bases, EDM.at(sigma)))
        found = np.asarray(diagnostics.effective_rank(values))
        assert abs(found.mean() - rank) < 4 * found.std() / np.sqrt(60) + 0.2
        energies = ((x @ bases) ** 2).sum(2) / (2 * sigma**2 * (1 + sigma**2))
        assert abs((1 / (1 + np.exp(-np.abs(np.diff(energies, axis=0))))).mean() - weight) < 0.05
        assert (values[:, 14:] < 1e-12).all()  # never above the sum of the dimensions


def test_ranks_of_falling_values_are_those_of_their_formulas():
    rank, fall = diagnostics.effective_rank, np.array([1.0, 0.5, 0.25])
    squares = 1 + 1 / 4 + 1 / 16
    np.testing.assert_allclose(rank(fall, rule="stable"), squares)
    np.testing.assert_allclose(
        rank(fall, rule="participation"), squares**2 / (1 + 1 / 16 + 1 / 256)
    )
    p = fall / fall.sum()
    np.testing.assert_allclose(rank(fall, rule="entropy"), np.exp(-(p * np.log(p)).sum()))
    # sqrt(1.25 / 1.3125) = 0.976 and 1.25 / 1.3125 = 0.952 lie on two sides of 0.97.
    assert rank(fall, 0.97) == 2 and rank(fall, 0.97, "energy") == 3
    # sqrt(1 / 1.3125) = 0.873
    assert rank(fall, 0.87) == 1 and rank(fall, 0.88) == 2


@pytest.mark.slow
def test_ranks_of_equal_values_are_their_number():
    rank, fall = diagnostics.effective_rank, np.array([1.0, 0.5, 0.25])
    equal = np.array([2.0, 2.0, 2.0, 0.0, 0.0])
    for rule in ("norm", "energy", "stable", "participation", "entropy"):
        np.testing.assert_allclose(rank(equal, rule=rule), 3, rtol=1e-6)
    many = np.stack([equal[:3], fall])
    np.testing.assert_array_equal(rank(many), [3, 3])
    # Rounding: in float32 three times one is no more than 1 - 1e-9 of it.
    assert rank(np.ones(3, np.float32), 1 - 1e-9) == 3
    np.testing.assert_array_equal(rank(many[:, :2], 0.97, total=(many**2).sum(1)), [3, 2])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: diagnostics.jacobian_svd(FIELD, PICTURES, LEVEL, 13), "rank = 13"),
        (lambda: diagnostics.jacobian_svd(FIELD, PICTURES, LEVEL, 2, KEY, -1), "oversampling"),
        (lambda: diagnostics.effective_rank(VALUES, rule="norms"), "did you mean 'norm'"),
        (lambda: diagnostics.effective_rank(VALUES, 1.0), "share"),
        (lambda: diagnostics.effective_rank(VALUES, rule="entropy", total=1.0), "needs all values"),
    ],
)
def test_bad_input_is_said_in_one_line(call, message):
    with pytest.raises(PersonError, match=message):
        call()
