"""The Frechet distance: closed forms, its bias and its error."""

import functools

import numpy as np
import pytest

from dfx import metrics, moments
from dfx.errors import PersonError

D = 6
RNG = np.random.default_rng(0)
ROTATION = np.linalg.qr(RNG.normal(size=(D, D)))[0]
VALUES = np.array([0.01, 0.1, 0.5, 1.0, 2.0, 7.0])
#: So many that the covariance of the record is that of the law.
MANY = 10**12


def rotated(values):
    return ROTATION * values @ ROTATION.T


def law(mean, covariance):
    """A Gaussian as moments."""
    return moments.Moments(MANY, np.asarray(mean), np.asarray(covariance) * (MANY - 1))


@pytest.mark.parametrize("step", [1.0, 1e-3, 1e-6, 1e-9])
def test_commuting_covariances_give_the_distance_of_their_roots(step):
    roots = np.sqrt(VALUES), np.sqrt(VALUES) + step * np.arange(D)
    exact = step**2 * np.sum(np.arange(D) ** 2)
    found = metrics.bures(*(rotated(root**2) for root in roots))
    # Covariances are rounded to 1e-16 of their largest eigenvalue 7; a root moves by that over
    # twice the smallest root 0.1, so the distance by about 1e-14 and its square by twice that.
    assert abs(np.sqrt(found) - np.sqrt(exact)) < 1e-14


def test_covariances_that_do_not_commute_agree_with_the_square_root_of_the_product():
    factors = [np.random.default_rng(seed).normal(size=(D, 9)) for seed in (1, 2)]
    a, b = (factor @ factor.T for factor in factors)
    # tr (A^1/2 B A^1/2)^1/2 is the sum of the roots of the eigenvalues of A B.
    cross = np.sqrt(np.linalg.eigvals(a @ b).real).sum()
    exact = np.trace(a) + np.trace(b) - 2 * cross
    assert metrics.bures(a, b) == pytest.approx(exact, rel=1e-12)
    assert metrics.bures(b, a) == pytest.approx(exact, rel=1e-12)


def test_singular_covariances_are_allowed():
    flat = rotated(np.array([0, 0, 0, 1.0, 2, 7]))
    assert metrics.bures(flat, flat) < 1e-26
    assert metrics.bures(flat, 0 * flat) == pytest.approx(10, rel=1e-13)
    other = rotated(np.array([4.0, 0, 0, 0, 0, 0]))  # no common direction
    assert metrics.bures(flat, other) == pytest.approx(14, rel=1e-13)


def test_distance_adds_the_squared_shift_of_the_means():
    a, b = law(np.zeros(D), rotated(VALUES)), law(np.arange(D) / 10, rotated(4 * VALUES))
    exact = 0.55 + VALUES.sum()
    assert metrics.frechet_distance(a, b) == pytest.approx(exact, rel=1e-11)
    shift, turn = np.full(D, 1.0), ROTATION
    moved = [law(turn @ m.mean + shift, turn @ m.covariance(ddof=1) @ turn.T) for m in (a, b)]
    assert metrics.frechet_distance(*moved) == pytest.approx(exact, rel=1e-11)


def repeats(count, n, shift, num_groups=10):
    """Estimates for normal samples against the normal law moved by `shift`."""
    reference = law(np.full(D, shift), np.eye(D))
    rng = np.random.default_rng(7)
    for _ in range(count):
        groups = moments.split(rng.normal(size=(n, D)).astype(np.float32), num_groups)
        yield metrics.frechet_estimate(groups, reference)


def test_bias_at_n_is_the_stated_one_and_the_limit_has_none():
    n, count = 200, 60
    estimates = list(repeats(count, n, 0.0))
    for name, bias in (("distance", D * (1 + (D + 1) / 4) / n), ("limit", 0.0)):
        values = np.array([getattr(estimate, name).value for estimate in estimates])
        # Four standard errors of the mean; the next order, bias * D / n, is a tenth of them.
        assert abs(values.mean() - bias) < 4 * values.std() / np.sqrt(count), name
    assert estimates[0].num_samples == n


def test_stated_error_is_the_spread_over_repeated_samples():
    estimates = list(repeats(60, 200, 0.4))
    for name in ("distance", "limit"):
        values, errors = np.array([getattr(estimate, name) for estimate in estimates]).T
        # A spread of 60 values is known to a tenth, and so is the mean of the errors.
        assert 0.7 < np.sqrt(np.mean(errors**2)) / values.std() < 1.4, name
        if name == "limit":
            assert abs(values.mean() - 0.16 * D) < 4 * values.std() / np.sqrt(60)


def test_a_sampled_reference_adds_its_own_bias_and_error():
    rng = np.random.default_rng(8)
    limits, values, n = [], [], 200
    for _ in range(40):
        a, b = (moments.split(rng.normal(size=(n, D)).astype(np.float32)) for _ in range(2))
        both = metrics.frechet_estimate(a, b)
        one = metrics.frechet_estimate(a, functools.reduce(moments.merge, b))
        assert both.distance.value == pytest.approx(one.distance.value, rel=1e-9)
        assert both.distance.standard_error > one.distance.standard_error
        limits.append(both.limit.value)
        values.append(both.distance.value)
    # Twice the bias of one sample, and none.
    bias = 2 * D * (1 + (D + 1) / 4) / n
    assert abs(np.mean(values) - bias) < 4 * np.std(values) / np.sqrt(40)
    assert abs(np.mean(limits)) < 4 * np.std(limits) / np.sqrt(40)


def test_limit_and_error_are_those_of_the_distances_without_one_group():
    """P_g = G F - (G - 1) F_g: their mean, and sd / sqrt(G); a sampled reference adds its own."""
    x, y = RNG.normal(size=(2, 40, 3)) * [[[1]], [[2]]]
    whole, count = metrics.frechet(x, y), 4
    rows = [np.arange(40) % count != g for g in range(count)]
    of_x = count * whole - (count - 1) * np.array([metrics.frechet(x[r], y) for r in rows])
    of_y = count * whole - (count - 1) * np.array([metrics.frechet(x, y[r]) for r in rows])
    groups, others = moments.split(x, count), moments.split(y, count)
    one = metrics.frechet_estimate(groups, moments.moments(y))
    np.testing.assert_allclose(one.distance, (whole, of_x.std(ddof=1) / 2), rtol=1e-9)
    np.testing.assert_allclose(one.limit, (of_x.mean(), of_x.std(ddof=1) / 2), rtol=1e-9)
    both = metrics.frechet_estimate(groups, others).limit
    error = np.hypot(of_x.std(ddof=1), of_y.std(ddof=1)) / 2
    np.testing.assert_allclose(both, (of_x.mean() + of_y.mean() - whole, error), rtol=1e-9)


def test_what_cannot_be_compared_is_an_error():
    groups = moments.split(RNG.normal(size=(20, D)), 2)
    other = moments.moments(np.zeros((3, D + 1)))
    with pytest.raises(PersonError, match="features of 6 and 7 numbers"):
        metrics.frechet_distance(groups[0], other)
    with pytest.raises(PersonError, match="a covariance of 1 points, allowed: 2 or more"):
        metrics.frechet_distance(groups[0], moments.moments(np.zeros((1, D))))
    with pytest.raises(PersonError, match=r"covariances are \(2, 2\) and \(3, 3\)"):
        metrics.bures(np.eye(2), np.eye(3))
    with pytest.raises(PersonError, match="1 groups of 10 features"):
        metrics.frechet_estimate(groups[:1], groups[0])
    with pytest.raises(PersonError, match="2 groups of 3 and 10 features"):
        metrics.frechet_estimate([groups[0], moments.moments(np.zeros((3, D)))], groups[0])
