"""Moments of points read in pieces: the same in any pieces, and accurate far from zero."""

import numpy as np
import pytest

from dfx import moments
from dfx.errors import PersonError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(101, 6)) @ np.diag(np.arange(1.0, 7)) + 3
#: Float64 rounding of a hundred sums.
ROUNDING = dict(rtol=1e-12, atol=1e-12)


def check(found, x, **tolerance):
    assert found.size == len(x)
    np.testing.assert_allclose(found.mean, x.mean(0), **tolerance)
    np.testing.assert_allclose(found.covariance(), np.cov(x.T, bias=True), **tolerance)
    np.testing.assert_allclose(found.covariance(ddof=1), np.cov(x.T), **tolerance)


@pytest.mark.parametrize("chunk", [1, 10, 1000])
def test_pieces_of_any_size_give_the_moments_of_the_whole(chunk):
    check(moments.moments(X.reshape(101, 2, 3), chunk), X, **ROUNDING)
    check(moments.moments(iter([X[:7], X[7:7], X[7:]]), chunk), X, **ROUNDING)


def test_taking_away_undoes_merging():
    parts = moments.moments(X[:30]), moments.moments(X[30:])
    whole = moments.merge(*parts)
    check(whole, X, **ROUNDING)
    check(moments.remove(whole, parts[0]), X[30:], **ROUNDING)


def test_a_large_mean_costs_no_digits():
    """Sums of squares about 0 would lose sixteen digits at a mean of 1e8."""
    # The data themselves are rounded to 1e-8 there.
    covariance = moments.moments(X + 1e8, 10).covariance()
    np.testing.assert_allclose(covariance, np.cov(X.T, bias=True), atol=1e-6)


def test_bytes_are_prepared_piece_by_piece():
    """[0, 255] to [-1, 1]: the covariance by (1 / 127.5)^2, the mean moved."""
    pixels = RNG.integers(0, 256, (50, 2, 2, 1), np.uint8)
    found = moments.moments(pixels, 7, lambda a: a / 127.5 - 1)
    raw = moments.moments(pixels)
    np.testing.assert_allclose(found.mean, raw.mean / 127.5 - 1, **ROUNDING)
    np.testing.assert_allclose(found.covariance(), raw.covariance() / 127.5**2, **ROUNDING)


def test_given_statistics_come_back():
    whole = moments.given(X.mean(0), np.cov(X.T), len(X))
    check(whole, X, **ROUNDING)
    check(moments.remove(whole, moments.moments(X[:30])), X[30:], **ROUNDING)


def test_groups_are_equal_and_interleaved():
    groups = moments.split(X, 4)
    assert [group.size for group in groups] == [25] * 4
    check(groups[1], X[1:100:4], **ROUNDING)


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda: moments.moments(X[:0]), "no points"),
        (lambda: moments.moments(iter([X, X[:, :2]])), "of one size"),
        (lambda: moments.moments([np.array([[1.0, np.nan]])]), "not finite"),
        (lambda: moments.moments(X, 0), "chunk = 0"),
        (lambda: moments.moments(X[:1]).covariance(ddof=1), "of 1 points, allowed: 2 or more"),
        (lambda: moments.remove(moments.moments(X), moments.moments(X)), "101 of 101 points"),
        (lambda: moments.given(np.zeros(2), np.eye(3), 5), r"mean \(2,\), covariance \(3, 3\)"),
        (lambda: moments.split(X, 51), "101 points in 51 groups"),
        (lambda: moments.split(X, 1), "101 points in 1 groups"),
    ],
)
def test_what_has_no_moments_is_an_error(call, expected):
    with pytest.raises(PersonError, match=expected):
        call()
