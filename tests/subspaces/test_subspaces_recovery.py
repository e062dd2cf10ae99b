"""Angles, distances and matching of subspaces against constructions with known answers."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dfx import subspaces, targets
from dfx.errors import PersonError

pytestmark = pytest.mark.usefixtures("x64")

KEY = jax.random.key(0)
FRAME = np.linalg.qr(np.random.default_rng(0).normal(size=(30, 8)))[0]


def turned(angles):
    """Two subspaces with these principal angles, in other bases than the principal vectors."""
    angles, p = np.asarray(angles), len(angles)
    u, w = FRAME[:, :p], FRAME[:, 4 : 4 + p]
    mix = np.linalg.qr(np.random.default_rng(1).normal(size=(2, p, p)))[0]
    return u @ mix[0], (u * np.cos(angles) + w * np.sin(angles)) @ mix[1]


def test_principal_angles_are_accurate_at_both_ends():
    """1e-9 would be lost in 1 - cos^2 (5e-19), and pi/2 - 1e-9 in the sine."""
    angles = np.array([math.pi / 2 - 1e-9, 1.0, 1e-3, 1e-9])
    found = np.asarray(subspaces.principal_angles(*turned(angles)))
    np.testing.assert_allclose(found[1:], angles[1:], rtol=1e-6)
    np.testing.assert_allclose(math.pi / 2 - found[0], 1e-9, rtol=1e-5)


def test_the_projection_distance_is_that_of_projections_and_of_sines():
    for angles in ([1.2, 0.3], [1e-9, 2e-9, 0.0]):
        u, v = turned(angles)
        exact = math.sqrt(2) * np.linalg.norm(np.sin(angles))
        np.testing.assert_allclose(subspaces.projection_distance(u, v), exact, rtol=1e-6)
    dense = np.linalg.norm(u @ u.T - v[:, :1] @ v[:, :1].T)  # of unequal dimensions
    padded = np.pad(v[:, :1], ((0, 0), (0, 2)))
    for other in (v[:, :1], padded):
        np.testing.assert_allclose(subspaces.projection_distance(u, other), dense, rtol=1e-12)
        np.testing.assert_allclose(subspaces.projection_distance(other, u), dense, rtol=1e-12)
    # Of a line and a larger subspace, in either order: the angle of its sine.
    sine = np.linalg.norm(v[:, :1] - u @ u.T @ v[:, :1])
    for pair in ((u, v[:, :1]), (v[:, :1], u)):
        np.testing.assert_allclose(subspaces.principal_angles(*pair), [np.arcsin(sine)], rtol=1e-6)


@pytest.mark.slow
def test_both_ways_of_matching_find_every_order():
    truth = np.asarray(targets.random_bases(KEY, 12, (2, 2, 2), 0.8, jnp.float64))
    nearly = np.linalg.qr(truth + 0.05 * np.random.default_rng(2).normal(size=truth.shape))[0]
    matched = jax.jit(subspaces.match_by_permutations)
    for order in itertools.permutations(range(3)):
        shuffled = nearly[np.array(order)]
        expected = np.argsort(order)  # shuffled[expected] = nearly
        np.testing.assert_array_equal(subspaces.match(shuffled, truth), expected)
        np.testing.assert_array_equal(matched(shuffled, truth), expected)
    found = subspaces.recovery(shuffled, truth)
    one_by_one = [subspaces.projection_distance(u, v) for u, v in zip(nearly, truth)]
    np.testing.assert_allclose(found.errors, one_by_one, rtol=1e-12)
    assert found.recovered and not subspaces.recovery(shuffled, truth, 0.1 * min(one_by_one))[2]


def test_the_match_has_the_least_sum_of_squared_distances():
    """Lines at 0 and 29 degrees and upright; found upright, at 29 and at 58: sines 0.85 + 0 against
    twice 0.48, in an order that is not its own inverse."""
    line = lambda a: [[math.cos(math.radians(a))], [math.sin(math.radians(a))], [0]]  # noqa: E731
    up = [[0], [0], [1]]
    truth, found = jnp.array([line(0), line(29), up]), jnp.array([up, line(29), line(58)])
    for match in (subspaces.match, jax.jit(subspaces.match_by_permutations)):
        np.testing.assert_array_equal(match(found, truth), [1, 2, 0])
    off, judge = math.sqrt(2) * math.sin(math.radians(29)), jax.jit(subspaces.recovery)
    for tolerance, recovered in ((0.99 * off, False), (1.01 * off, True)):
        judged = judge(found, truth, tolerance)
        np.testing.assert_allclose(judged.errors, [off, off, 0], atol=1e-12)
        assert judged.recovered == recovered


@pytest.mark.slow
def test_matching_takes_the_least_sum_not_the_nearest_one_by_one():
    """Both found lines are nearest to the first true one; the sum decides who gets it."""
    line = lambda angle: np.array([[math.cos(angle)], [math.sin(angle)], [0.0]])  # noqa: E731
    truth = np.stack([line(0.0), line(1.0)])
    found = np.stack([line(-0.1), line(0.3)])
    for match in (subspaces.match, subspaces.match_by_permutations):
        np.testing.assert_array_equal(match(found[::-1], truth), [1, 0])


def test_labels_are_compared_up_to_their_names():
    truth = np.array([0, 0, 0, 1, 1, 2])
    assert subspaces.misassigned((truth + 1) % 3, truth, 3) == 0
    np.testing.assert_allclose(subspaces.misassigned([2, 2, 1, 1, 1, 0], truth, 3), 1 / 6)


def test_numbers_that_do_not_match_are_said():
    u = np.eye(8)[:, :, None]
    for match in (subspaces.match, subspaces.match_by_permutations):
        with pytest.raises(PersonError, match="cannot be matched"):
            match(u[:2], u[:3])
    with pytest.raises(PersonError, match="at most 6"):
        subspaces.match_by_permutations(u[:7], u[:7])
