"""Mode statistics against brute force, closed forms and the symmetries of the plane."""

import itertools

import numpy as np
import pytest
from scipy import stats

from dfx import metrics
from dfx.errors import PersonError

LINE = np.array([[1.0], [2.0], [4.0], [5.0]])
GRID = np.array(list(itertools.product(range(3), range(3))), float)
STD = 0.02


def draw(means, std, n, seed=0):
    """Exact samples of the equal mixture, cycling through the modes."""
    noise = np.random.default_rng(seed).standard_normal((n, means.shape[1]))
    return means[np.arange(n) % len(means)] + std * noise


def test_the_nearest_mode_is_the_closest_of_all():
    rng = np.random.default_rng(0)
    x, means = rng.normal(size=(500, 3)), rng.normal(size=(40, 3))
    for std in (rng.uniform(1, 2, 40), np.repeat([0.1, 2.0], 20), np.full(40, 0.3)):
        all_distances = np.sqrt(((x[:, None] - means) ** 2).sum(-1)) / std
        index, distance = metrics.nearest_mode(x, means, std)
        np.testing.assert_array_equal(index, all_distances.argmin(1))
        np.testing.assert_allclose(distance, all_distances.min(1), rtol=1e-12)


@pytest.mark.parametrize(("means", "cut"), [(LINE, 1.0), (LINE, 2.5), (GRID, 1.0), (GRID, 2.5)])
def test_true_samples_lie_beyond_the_cut_as_often_as_chi_does(means, cut):
    x = draw(means, STD, 20_000)
    p = stats.chi.sf(cut, means.shape[1])
    # Binomial: 4 standard errors.
    assert abs(metrics.hallucinated_fraction(x, means, STD, cut) - p) < 4 * np.sqrt(p / len(x))


def test_true_samples_never_lie_beyond_six_sd():
    assert metrics.hallucinated_fraction(draw(GRID, STD, 100_000), GRID, STD) == 0


def test_hallucinated_samples_are_those_between_the_modes():
    x = np.array([[1.0], [1.11], [1.13], [1.5], [3.0], [5.0], [6.0]])
    np.testing.assert_array_equal(
        metrics.hallucinated(x, LINE, STD), [False, False, True, True, True, False, True]
    )
    assert metrics.hallucinated_fraction(x, LINE, STD) == 4 / 7
    # At 0.13 / 0.02 = 6.5 sd the cut decides.
    assert not metrics.hallucinated(x[2:3], LINE, STD, cut=7.0)[0]


def test_a_wide_mode_holds_what_lies_nearer_to_the_mean_of_a_narrow_one():
    """4.5 and 3.5 are 2.75 and 3.25 standard deviations of 2 from 10, and 35 of 0.1 from 0."""
    means, std, x = np.array([[0.0], [10.0]]), np.array([0.1, 2.0]), np.array([[4.5], [3.5], [1.0]])
    np.testing.assert_array_equal(metrics.hallucinated(x, means, std, 4.0), [False, False, True])
    within = metrics.within_mode_std(x, means, std, 4.0)
    np.testing.assert_allclose(within, [np.nan, np.sqrt(0.5)], rtol=1e-12)


def test_mode_shares_are_the_fractions_of_each_mode():
    x = np.repeat(LINE, [1, 2, 3, 4], axis=0)
    np.testing.assert_allclose(metrics.mode_shares(x, LINE), [0.1, 0.2, 0.3, 0.4])
    np.testing.assert_array_equal(metrics.mode_shares(LINE[:1], LINE), [1, 0, 0, 0])


def test_the_std_within_modes_is_the_mixtures_own():
    n = 90_000
    x = draw(GRID, STD, n)
    each, pooled = (metrics.within_mode_std(x, GRID, STD, pooled=p) for p in (False, True))
    # The relative standard error of a standard deviation of m values is 1 / sqrt(2 m).
    np.testing.assert_allclose(each, STD, rtol=4 / np.sqrt(2 * 2 * n / 9))
    np.testing.assert_allclose(pooled, STD, rtol=4 / np.sqrt(2 * 2 * n))


def test_the_std_within_modes_is_about_their_own_means_and_without_outliers():
    x = draw(LINE, STD, 4000)
    plain = metrics.within_mode_std(x, LINE, STD)
    shifted = metrics.within_mode_std(x + 0.3 * STD, LINE, STD, cut=8.0)
    np.testing.assert_allclose(shifted, plain, rtol=1e-10)
    between = np.concatenate([x, np.full((500, 1), 1.5)])
    np.testing.assert_allclose(metrics.within_mode_std(between, LINE, STD), plain, rtol=1e-12)


def test_two_values_have_their_textbook_std_and_one_has_none():
    x = np.array([[1.0], [1.02], [2.0]])
    std = metrics.within_mode_std(x, LINE, STD)
    np.testing.assert_allclose(std[0], 0.02 / np.sqrt(2), rtol=1e-12)
    assert np.isnan(std[1:]).all()
    np.testing.assert_allclose(
        metrics.within_mode_std(x, LINE, STD, pooled=True), 0.02 / np.sqrt(2), rtol=1e-12
    )


def test_a_sample_on_the_line_lies_between_its_neighbours():
    x = np.array([[1.25], [3.0], [4.6], [0.5], [6.0], [2.0]])
    between = metrics.between_modes(x, LINE, STD)
    np.testing.assert_array_equal(
        between.pair, [[0, 1], [1, 2], [2, 3], [-1, -1], [-1, -1], [-1, -1]]
    )
    np.testing.assert_allclose(between.position, [0.25, 0.5, 0.6, np.nan, np.nan, np.nan])
    np.testing.assert_allclose(between.length, [1, 2, 1, np.nan, np.nan, np.nan])


def test_pair_counts_are_symmetric_and_count_each_sample_once():
    x = np.array([[1.25], [1.3], [3.0], [0.5], [2.0]])
    counts = metrics.pair_counts(metrics.between_modes(x, LINE, STD), 4)
    truth = np.zeros((4, 4))
    truth[0, 1] = truth[1, 0] = 2
    truth[1, 2] = truth[2, 1] = 1
    np.testing.assert_array_equal(counts, truth)


def test_on_the_grid_edges_come_before_diagonals_and_long_lines():
    # Mode 3 i + j stands at (i, j).
    points = {
        (0.5, 0.0): (0, 3),  # an edge, and part of the long side 0-6
        (1.0, 1.5): (4, 5),
        (0.5, 0.5): (0, 4),  # the centre of a cell: both diagonals pass, see below
        (1.3, 1.7): (5, 7),
        (1.0, 0.5): (3, 4),
        (0.5, 1.0 - 5 * STD): (1, 4),  # within 6 sd of the edge
        (0.5, 0.25): (0, 7),  # on the line of slope 1/2 alone
        (0.65, 0.15): (-1, -1),  # 0.14 from the nearest line, 7 sd
        (-0.5, 0.0): (-1, -1),
    }
    between = metrics.between_modes(list(points), GRID, STD)
    expected = np.array(list(points.values()))
    centre = list(points).index((0.5, 0.5))
    assert tuple(between.pair[centre]) in [(0, 4), (1, 3)]
    rows = np.arange(len(points)) != centre
    np.testing.assert_array_equal(between.pair[rows], expected[rows])
    assert between.length[centre] == pytest.approx(np.sqrt(2))
    limited = metrics.between_modes(list(points), GRID, STD, max_length=1.1)
    np.testing.assert_array_equal(limited.pair[:2], expected[:2])
    assert (limited.pair[[2, 3, 6]] == -1).all()


def test_of_equal_segments_the_nearest_counts():
    # Two unit segments at an angle of 0.3: at 0.25 from their corner they are 3.7 sd apart.
    means = np.array([[0.0, 0.0], [1.0, 0.0], [np.cos(0.3), np.sin(0.3)]])
    between = metrics.between_modes(0.25 * means[1:], means, STD)
    np.testing.assert_array_equal(between.pair, [[0, 1], [0, 2]])
    np.testing.assert_allclose(between.position, 0.25)


def test_segments_agree_with_a_dense_search():
    rng = np.random.default_rng(1)
    means, x, cut = rng.uniform(0, 1, (8, 2)), rng.uniform(0, 1, (300, 2)), 2.0
    between = metrics.between_modes(x, means, STD, cut)
    steps = np.linspace(0, 1, 4001)[:, None]
    pairs = sorted(
        itertools.combinations(range(8), 2),
        key=lambda p: np.linalg.norm(means[p[0]] - means[p[1]]),
    )
    for point, pair in zip(x, between.pair):
        if np.linalg.norm(point - means, axis=1).min() <= cut * STD:
            assert tuple(pair) == (-1, -1)
            continue
        distances = [
            np.linalg.norm(point - means[i] - steps * (means[j] - means[i]), axis=1).min()
            for i, j in pairs
        ]
        # The dense search errs by at most half a step; no point is that close to a border.
        assert min(abs(d - cut * STD) for d in distances) > 1e-6
        first = next((p for p, d in zip(pairs, distances) if d <= cut * STD), (-1, -1))
        assert tuple(pair) == first


def test_pairs_do_not_depend_on_the_frame():
    rng = np.random.default_rng(2)
    x = rng.uniform(0, 2, (2000, 2))
    # Away from the cell centres, where two diagonals are equally near.
    x = x[np.abs(x % 1 - 0.5).max(1) > 0.1]
    turn = np.array([[np.cos(0.7), -np.sin(0.7)], [np.sin(0.7), np.cos(0.7)]])
    plain = metrics.between_modes(x, GRID, STD)
    turned = metrics.between_modes(3 * x @ turn.T + 5, 3 * GRID @ turn.T + 5, 3 * STD)
    np.testing.assert_array_equal(turned.pair, plain.pair)
    np.testing.assert_allclose(turned.position, plain.position, atol=1e-9)
    np.testing.assert_allclose(turned.length, 3 * plain.length)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (([1.0, 2.0], LINE, STD), "allowed: .n, d. and .k, d."),
        (([[1.0, 2.0]], LINE, STD), "allowed: .n, d. and .k, d."),
        (([[1.0]], LINE, 0.0), "std is 0.0, allowed: positive"),
        (([[np.nan]], LINE, STD), "finite"),
    ],
)
def test_wrong_arguments_are_named(arguments, said):
    with pytest.raises(PersonError, match=said):
        metrics.nearest_mode(*arguments)
