"""Neighbours and balls: as by hand, in any blocks, and exact for near copies."""

import jax
import numpy as np
import pytest

from dfx import metrics
from dfx.errors import PersonError

RNG = np.random.default_rng(0)
POINTS, QUERIES = RNG.normal(size=(61, 5)), RNG.normal(size=(40, 5))


def by_hand(queries, points):
    """The matrix of distances in float64."""
    return np.linalg.norm(queries[:, None].astype(float) - points[None].astype(float), axis=-1)


@pytest.mark.parametrize("chunk", [7, 64])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_neighbours_are_those_by_hand(chunk, dtype):
    queries, points = QUERIES.astype(dtype), POINTS.astype(dtype)
    matrix = by_hand(queries, points)
    with jax.enable_x64(dtype == np.float64):
        found = metrics.nearest(queries, points, 3, chunk=chunk)
    np.testing.assert_array_equal(found.row, np.argsort(matrix, 1)[:, :3])
    # Rounding of the differences, in the type of the sets.
    rtol = 8 * np.finfo(dtype).eps
    np.testing.assert_allclose(found.distance, np.sort(matrix, 1)[:, :3], rtol=rtol)


@pytest.mark.parametrize("chunk", [7, 64])
def test_a_point_is_no_neighbour_of_itself_but_its_double_is(chunk):
    points = POINTS.astype(np.float32)
    points[50] = points[3]
    matrix = by_hand(points, points)
    np.fill_diagonal(matrix, np.inf)
    found = metrics.nearest(points, points, 2, same=True, chunk=chunk)
    np.testing.assert_array_equal(found.row, np.argsort(matrix, 1, kind="stable")[:, :2])
    assert (found.row[3, 0], found.distance[3, 0], found.row[50, 0]) == (50, 0, 3)


def test_near_copies_keep_all_digits_far_from_zero():
    points = (POINTS + 1000).astype(np.float32)
    queries = points.copy()
    queries[:, 2] += np.float32(2**-13)  # two units in the last place of 1000
    found = metrics.nearest(queries, points, chunk=32)
    np.testing.assert_array_equal(found.row[:, 0], np.arange(61))
    np.testing.assert_array_equal(found.distance[:, 0], np.float32(2**-13))


def test_bytes_and_pictures_are_compared_as_numbers():
    images = RNG.integers(0, 256, (30, 4, 3, 1), np.uint8)
    found = metrics.nearest(images, images, 2, same=True, chunk=11)
    matrix = by_hand(images.reshape(30, -1), images.reshape(30, -1))
    np.fill_diagonal(matrix, np.inf)
    np.testing.assert_allclose(found.distance, np.sort(matrix, 1)[:, :2], rtol=1e-6)


@pytest.mark.parametrize("chunk", [7, 64])
def test_balls_hold_what_they_hold_by_hand(chunk):
    radii = RNG.uniform(0.5, 2, 61)
    inside = by_hand(QUERIES, POINTS) <= radii
    balls = metrics.in_balls(QUERIES, POINTS, radii, chunk=chunk)
    np.testing.assert_array_equal(balls.of_query, inside.sum(1))
    np.testing.assert_array_equal(balls.of_ball, inside.sum(0))


def test_a_point_on_the_sphere_is_inside():
    radii = metrics.nearest(POINTS, POINTS, 4, same=True).distance[:, -1]
    balls = metrics.in_balls(POINTS, POINTS, radii)
    # Itself and four neighbours, the last at the radius.
    np.testing.assert_array_equal(balls.of_ball, 5)


def test_tight_modes_far_apart_are_resolved():
    """In float32: 2e-3 within, 1 and more between the modes, so that r^2 is 8 eps |x|^2."""
    corners = RNG.integers(0, 3, (300, 2)) + 4.0
    points = (corners + 2e-3 * RNG.normal(size=(300, 2))).astype(np.float32)
    matrix = np.sort(by_hand(points, points), 1)
    found = metrics.nearest(points, points, 5, same=True).distance
    np.testing.assert_allclose(found, matrix[:, 1:6], rtol=1e-6)
    np.testing.assert_array_equal(metrics.in_balls(points, points, found[:, -1]).of_ball, 6)


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda: metrics.nearest(QUERIES, POINTS, 62), "62 neighbours among 61 points"),
        (lambda: metrics.nearest(POINTS, POINTS, 61, same=True), "61 neighbours among 60"),
        (lambda: metrics.nearest(QUERIES, POINTS, same=True), "two equal sets"),
        (lambda: metrics.nearest(QUERIES, POINTS[:, :4]), r"sets are \(40, 5\) and \(61, 4\)"),
        (lambda: metrics.nearest(QUERIES[:0], POINTS), "not empty"),
        (lambda: metrics.nearest(QUERIES, POINTS * np.nan), "not finite"),
        (lambda: metrics.in_balls(QUERIES + np.inf, POINTS, np.ones(61)), "not finite"),
        (lambda: metrics.in_balls(QUERIES, POINTS, np.ones(60)), r"radii are \(60,\)"),
    ],
)
def test_sets_that_do_not_fit_are_an_error(call, expected):
    with pytest.raises(PersonError, match=expected):
        call()
