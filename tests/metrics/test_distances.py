"""Distances against closed forms, assignment by brute force, and the laws of a metric."""

import jax
import numpy as np
import pytest
from scipy import stats
from scipy.optimize import linear_sum_assignment

from dfx import metrics
from dfx.errors import PersonError

RNG = np.random.default_rng(0)
KEY = jax.random.key(0)
ORDERS = (1.0, 2.0, 3.0)


@pytest.mark.parametrize("p", ORDERS)
def test_a_shift_has_its_own_length(p):
    x = RNG.normal(size=31)
    # Rounding of a sum of 31 powers.
    assert metrics.wasserstein_1d(x, RNG.permutation(x) + 0.7, p) == pytest.approx(0.7, rel=1e-12)


@pytest.mark.parametrize("p", ORDERS)
@pytest.mark.parametrize(("n", "m"), [(6, 4), (5, 5), (1, 7), (9, 2)])
def test_the_distance_is_the_cheapest_assignment(n, m, p):
    x, y = RNG.normal(size=n), RNG.normal(size=m)
    whole = np.lcm(n, m)
    # Equal masses become equal numbers of points.
    many_x, many_y = np.repeat(x, whole // n), np.repeat(y, whole // m)
    cost = np.abs(many_x[:, None] - many_y[None]) ** p
    best = cost[linear_sum_assignment(cost)].mean() ** (1 / p)
    assert metrics.wasserstein_1d(x, y, p) == pytest.approx(best, rel=1e-10)


def test_order_one_is_the_area_between_the_distribution_functions():
    x, y = RNG.normal(size=300), RNG.exponential(size=170)
    area = stats.wasserstein_distance(x, y)
    assert metrics.wasserstein_1d(x, y, 1) == pytest.approx(area, rel=1e-12)


def test_two_normals_have_the_distance_of_their_moments():
    # Samples at midpoint quantiles: W2^2 = (0.5 - 2)^2 + (1 - 3)^2 times their variance.
    q = stats.norm.ppf((np.arange(1000) + 0.5) / 1000)
    distance = metrics.wasserstein_1d(0.5 + q, 2 + 3 * q, 2)
    assert distance == pytest.approx(np.sqrt(1.5**2 + 2**2 * q.var()), rel=1e-12)
    # The outermost quantiles are cut off: the variance of 1000 of them is 0.4 % short.
    assert distance == pytest.approx(2.5, rel=4e-3)


@pytest.mark.parametrize("p", ORDERS)
def test_the_distance_is_a_metric(p):
    def distance(a, b):
        return metrics.wasserstein_1d(a, b, p)

    x, y, z = (RNG.normal(size=n) for n in (12, 20, 15))
    assert distance(x, x) == 0
    assert distance(x, y) == pytest.approx(distance(y, x), rel=1e-12)
    assert distance(x, z) <= distance(x, y) + distance(y, z)
    assert distance(3 * x, 3 * y) == pytest.approx(3 * distance(x, y), rel=1e-12)
    assert distance(np.repeat(x, 3), y) == pytest.approx(distance(x, y), rel=1e-10)


@pytest.mark.parametrize("d", [2, 5])
def test_a_shifted_cloud_has_the_sliced_distance_of_its_shift(d):
    directions = 2000
    x, shift = RNG.normal(size=(50, d)), np.arange(1.0, d + 1)
    squared = metrics.sliced_wasserstein(KEY, x, x + shift, directions) ** 2
    exact = shift @ shift / d
    # (theta . v)^2 has relative variance (2 d - 2) / (d + 2) on the sphere; 4 standard errors.
    error = np.sqrt((2 * d - 2) / (d + 2) / directions)
    assert abs(squared / exact - 1) < 4 * error


def test_round_clouds_differ_by_their_radii():
    # Every projection of N(0, s^2 I) is N(0, s^2): the sliced W2 is the difference of the s.
    x, y = RNG.normal(size=(20_000, 2)), 3 * RNG.normal(size=(30_000, 2))
    # The standard errors of both s, 1 / sqrt(2 n) relative, and a bias below them; 5 in all.
    error = 3 / np.sqrt(40_000)
    assert metrics.sliced_wasserstein(KEY, x, y, 50) == pytest.approx(2, abs=5 * error)


def test_in_one_dimension_the_sliced_distance_is_the_distance():
    x, y = RNG.normal(size=40), RNG.normal(size=25)
    for p in ORDERS:
        sliced = metrics.sliced_wasserstein(KEY, x[:, None], y[:, None], 3, p)
        assert sliced == pytest.approx(metrics.wasserstein_1d(x, y, p), rel=1e-12)


def test_the_first_directions_do_not_depend_on_their_number():
    x, y = RNG.normal(size=(2, 30, 3))
    one = metrics.sliced_wasserstein(KEY, x, y, 1) ** 2
    two = metrics.sliced_wasserstein(KEY, x, y, 2) ** 2
    theta = np.asarray(jax.random.normal(KEY, (2, 3), np.float32), float)[1]
    theta /= np.linalg.norm(theta)
    second = metrics.wasserstein_1d(x @ theta, y @ theta) ** 2
    assert (one + second) / 2 == pytest.approx(two, rel=1e-12)


def covariance(d, rank=None):
    factor = RNG.normal(size=(d, rank or d))
    return factor @ factor.T


def test_the_frechet_distance_of_one_dimension_is_in_mean_and_std():
    squared = metrics.frechet_gaussian([1.0], [[4.0]], [3.0], [[25.0]])
    assert squared == pytest.approx((1 - 3) ** 2 + (2 - 5) ** 2, rel=1e-12)


@pytest.mark.parametrize("rank", [None, 2])
def test_the_frechet_distance_of_a_linear_map_is_what_it_moves(rank):
    # A symmetric positive map is optimal (Brenier), so W2^2 = E|T x - x|^2; singular laws included.
    d = 5
    mean, cov = RNG.normal(size=d), covariance(d, rank)
    matrix, shift = covariance(d) / d, RNG.normal(size=d)
    moved = matrix - np.eye(d)
    exact = np.sum((moved @ mean + shift) ** 2) + np.trace(moved @ cov @ moved)
    squared = metrics.frechet_gaussian(mean, cov, matrix @ mean + shift, matrix @ cov @ matrix)
    assert squared == pytest.approx(exact, rel=1e-6)


def test_the_frechet_distance_of_equal_gaussians_is_zero_and_symmetric():
    a, b = covariance(6), covariance(6)
    zero = np.zeros(6)
    # Rounding of the roots, squared: nothing of the size of the traces cancels.
    assert 0 <= metrics.frechet_gaussian(zero, a, zero, a) < 1e-26 * np.trace(a)
    there, back = (metrics.frechet_gaussian(zero, *pair) for pair in ((a, zero, b), (b, zero, a)))
    assert there == pytest.approx(back, rel=1e-10)


def test_the_frechet_distance_of_samples_fits_their_gaussians():
    x = RNG.normal(size=(500, 4)) @ RNG.normal(size=(4, 4))
    matrix, shift = covariance(4) / 4, RNG.normal(size=4)
    moved = x @ (matrix - np.eye(4)) + shift
    # The fits of x and of its image are images of each other; covariances divide by n - 1.
    exact = np.sum(moved.mean(0) ** 2) + np.sum(moved.var(0, ddof=1))
    assert metrics.frechet(x, x @ matrix + shift) == pytest.approx(exact, rel=1e-9)


def test_the_frechet_distance_of_equal_laws_is_its_bias():
    n, m, d = 400, 300, 6
    pairs = [(RNG.normal(size=(n, d)), RNG.normal(size=(m, d))) for _ in range(40)]
    values = [metrics.frechet(x, y) for x, y in pairs]
    # E|mean_x - mean_y|^2 = d (1/n + 1/m). To first order W2^2 of I + E is |E|^2 / 4, and
    # E|E|^2 = d (d + 1) (1/n + 1/m) for the difference of the two covariances.
    bias = d * (1 + (d + 1) / 4) * (1 / n + 1 / m)
    error = np.std(values) / np.sqrt(len(values))
    assert abs(np.mean(values) - bias) < 4 * error


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: metrics.wasserstein_1d([], [1.0]), "not empty"),
        (lambda: metrics.wasserstein_1d([[1.0]], [1.0]), "allowed: .n,. and .m,."),
        (lambda: metrics.wasserstein_1d([1.0], [1.0], 0.5), "p is 0.5, allowed: 1 or more"),
        (lambda: metrics.sliced_wasserstein(KEY, [[1.0]], [[1.0, 2.0]]), "allowed: .n, d. and"),
        (lambda: metrics.sliced_wasserstein(KEY, [[1.0]], [[2.0]], 0), "num_directions is 0"),
        (lambda: metrics.frechet([[1.0]], [[1.0], [2.0]]), "n, m > 1"),
    ],
)
def test_impossible_distances_are_named(call, said):
    with pytest.raises(PersonError, match=said):
        call()
