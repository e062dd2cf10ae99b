"""Grids and distances of densities on them: exact cases, orders, Gaussians, floors."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from evolution_by_hand import normal, slope

from dfx import evolution
from dfx.errors import PersonError
from dfx.metrics import frechet_gaussian, wasserstein_1d

pytestmark = pytest.mark.usefixtures("x64")

LINE = evolution.make_grid(-6, 6, 240)


def test_centres_and_faces_tile_the_box():
    grid = evolution.make_grid([0, -1], [3, 1], [3, 4])
    np.testing.assert_allclose(grid.spacing, [1.0, 0.5])
    assert float(grid.volume) == 0.5
    centres = grid.centres().reshape(3, 4, 2)
    np.testing.assert_allclose(centres[1, 2], [1.5, 0.25])
    across = grid.faces(0).reshape(2, 4, 2), grid.faces(1).reshape(3, 3, 2)
    np.testing.assert_allclose(across[0], 0.5 * (centres[1:] + centres[:-1]))
    np.testing.assert_allclose(across[1], 0.5 * (centres[:, 1:] + centres[:, :-1]))


def test_one_number_of_cells_is_that_of_every_axis():
    one, both = (evolution.make_grid([-3, -2], [3, 2], cells) for cells in (8, [8, 8]))
    assert one.shape == both.shape == (8, 8)
    np.testing.assert_array_equal(one.centres(), both.centres())


def test_moments_of_a_gaussian_on_a_grid_are_its_own():
    """Sums of a smooth density converge faster than any power of the spacing."""
    grid = evolution.make_grid([-7, -6], [6, 7], [50, 60])
    covariance = np.array([[0.8, 0.3], [0.3, 0.6]])
    p = evolution.on_grid(normal([0.2, -0.1], covariance), grid)
    mean, got = evolution.moments(grid, p)
    assert float(evolution.mass(grid, p)) == pytest.approx(1, abs=1e-13)
    np.testing.assert_allclose(mean, [0.2, -0.1], atol=1e-10)
    np.testing.assert_allclose(got, covariance, atol=1e-10)


def test_the_score_of_a_grid_is_that_of_the_law():
    """Differences of a quadratic are exact, also one-sided at the border."""
    grid = evolution.make_grid([-2, -2], [2, 2], [20, 24])
    covariance = np.array([[0.8, 0.3], [0.3, 0.6]])
    p = evolution.on_grid(normal([0.2, -0.1], covariance), grid)
    got = evolution.score_on_grid(grid, p).reshape(20, 24, 2)
    offset = (grid.centres() - np.array([0.2, -0.1])).reshape(20, 24, 2)
    expected = -offset @ np.linalg.inv(covariance)
    np.testing.assert_allclose(got, expected, atol=1e-10)


def test_the_score_of_a_grid_is_of_order_two_up_to_the_border():
    errors = []
    for n in (50, 100):
        grid = evolution.make_grid(-2, 2, n)
        p = evolution.on_grid(lambda x: -0.25 * x[:, 0] ** 4, grid)
        errors.append(np.abs(evolution.score_on_grid(grid, p)[:, 0] + grid.axis(0) ** 3).max())
    assert slope(errors) > 1.9


def test_coarser_cells_hold_the_mass_of_the_finer():
    grid = evolution.make_grid([0, 0], [1, 1], [4, 6])
    p = np.arange(24.0).reshape(4, 6)
    coarse, means = evolution.coarsen(grid, p, (2, 3))
    np.testing.assert_allclose(means[1, 2], p[2:, 4:].mean())
    assert evolution.mass(coarse, means) == pytest.approx(evolution.mass(grid, p))


def test_distances_of_piecewise_constant_densities_are_exact():
    """[0, 1] to [0, 2] by u -> 2 u: int |u|^p = 1 / (p + 1); a shift by 3 over a gap."""
    grid = evolution.make_grid(0, 4, 4)
    one, two = np.array([1.0, 0, 0, 0]), np.array([0.5, 0.5, 0, 0])
    for p in (1.0, 2.0, 3.5):
        got = evolution.wasserstein_grid_1d(grid, one, two, p)
        assert got == pytest.approx((1 / (p + 1)) ** (1 / p), rel=1e-12)
        assert evolution.wasserstein_grid_1d(grid, one, one[::-1], p) == pytest.approx(3)
        below = two - np.array([0, 0, 0.2, 0.1])  # negative cells count as empty
        assert evolution.wasserstein_grid_1d(grid, one, below, p) == got
    ends, middle = np.array([0.5, 0, 0, 0.5]), np.array([0, 0.5, 0.5, 0])
    assert evolution.wasserstein_grid_1d(grid, ends, middle) == pytest.approx(1)
    crossing = evolution.wasserstein_grid_1d(grid, np.array([0, 1.0, 1.0, 0]), np.ones(4), 1.0)
    assert crossing == pytest.approx(0.5)  # |2 u - 1| over (0, 1)


def test_distances_of_gaussians_are_found_to_order_two():
    expected = np.hypot(0.5, 0.4)

    def error(cells):
        grid = evolution.make_grid(-7, 7, cells)
        p, q = (evolution.on_grid(normal([m], v), grid) for m, v in ((0.2, 0.25), (-0.3, 0.81)))
        return abs(evolution.wasserstein_grid_1d(grid, p, q) - expected)

    errors = [error(n) for n in (100, 200)]
    assert slope(errors) == pytest.approx(2, abs=0.2)


def test_grid_distances_agree_with_those_of_sampled_points():
    """Points at the quantiles of the two densities, 20,000 of them: 1 / n and the cells apart."""
    p = evolution.on_grid(normal([0.2], 0.25), LINE)
    q = evolution.on_grid(normal([-0.6], 0.8), LINE)
    nodes = evolution.normal_nodes(2001)
    x, y = (evolution.grid_quantiles(LINE, law, nodes) for law in (p, q))
    for order in (1.0, 2.0):
        got = evolution.wasserstein_grid_1d(LINE, p, q, order)
        assert got == pytest.approx(evolution.wasserstein(x, y, nodes, order), abs=1e-3)
    u = (np.arange(20_000) + 0.5) / 20_000
    edges = LINE.edges(0)
    points = [np.interp(u, np.append(0, np.cumsum(a) * LINE.volume), edges) for a in (p, q)]
    expected = wasserstein_1d(*points)
    assert evolution.wasserstein_grid_1d(LINE, p, q) == pytest.approx(expected, rel=1e-3)


@pytest.mark.slow
def test_the_distance_in_the_plane_is_that_of_gaussians_and_its_floor_falls():
    """The square of the distance has cell^2 / 6 in excess; two-sample floors fall with n."""
    pytest.importorskip("ot")
    grid = evolution.make_grid([-6, -6], [6, 6], [48, 48])
    first, second = np.diag([1.0, 0.5]), np.array([[0.6, 0.2], [0.2, 0.9]])
    p = evolution.on_grid(normal([0, 0], first), grid)
    q = evolution.on_grid(normal([1.0, -0.5], second), grid)
    cell = 0.5 * 2**0.5  # its diagonal
    got = evolution.wasserstein_2d(grid, p, q, 24)
    expected = frechet_gaussian(np.zeros(2), first, np.array([1.0, -0.5]), second) ** 0.5
    assert got**2 == pytest.approx(expected**2 + cell**2 / 6, rel=0.01)
    assert evolution.wasserstein_2d(grid, p, p, 24) < 1e-7
    few, many = (
        evolution.sampling_floor_2d(grid, p, jax.random.key(0), n, 24) for n in (2000, 50_000)
    )
    assert 0 < many < 0.6 * few < 0.6 * got


def test_histograms_of_close_laws_are_too_far_apart():
    """A shift by half a cell moves half of the mass by a whole cell: side^2 / 2, not side^2 / 4."""
    pytest.importorskip("ot")
    p = evolution.on_grid(normal([0.0], 0.5), LINE)
    got = evolution.wasserstein_2d(LINE, p, jnp.roll(p, 1), 120)
    assert got**2 == pytest.approx(0.1**2 / 2, rel=1e-3)


def test_the_floor_of_two_cells_is_the_difference_of_two_binomials():
    """W_2^2 = |K - K'| / n at distance 1, K and K' binomial: W_2^4 has the mean 1 / (2 n). 150
    pairs of samples, 3 standard errors of a squared normal number."""
    pytest.importorskip("ot")
    grid, law, n = evolution.make_grid(0, 3, 3), np.array([1.0, 1.0, 0.0]), 50
    keys = jax.random.split(jax.random.key(0), 150)
    floors = np.array([evolution.sampling_floor_2d(grid, law, key, n, 3) for key in keys])
    assert np.mean(floors**4) == pytest.approx(1 / (2 * n), rel=3 * np.sqrt(2 / 150))


def test_a_missing_package_is_one_clear_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "ot", None)
    grid = evolution.make_grid([0, 0], [1, 1], [4, 4])
    with pytest.raises(PersonError, match=r"dfx\[ot\]"):
        evolution.wasserstein_2d(grid, np.ones((4, 4)), np.ones((4, 4)), 2)


def test_bad_input_is_one_clear_line():
    with pytest.raises(PersonError, match="one or two axes"):
        evolution.make_grid([0, 0, 0], [1, 1, 1], [4, 4, 4])
    for cells in ([4], [4, 4, 4], [[4, 4]]):
        with pytest.raises(PersonError, match="one per axis"):
            evolution.make_grid([0, 0], [1, 1], cells)
    with pytest.raises(PersonError, match=r"cells = \[4.5, 4.5\]: whole numbers"):
        evolution.make_grid([0, 0], [1, 1], 4.5)
    with pytest.raises(PersonError, match="below high"):
        evolution.make_grid(1, 0, 4)
    with pytest.raises(PersonError, match="at least 3"):
        evolution.make_grid(0, 1, 2)
    with pytest.raises(PersonError, match="divide"):
        evolution.coarsen(LINE, jnp.ones(240), 7)
    with pytest.raises(PersonError, match=r"p = 0\.5"):
        evolution.wasserstein_grid_1d(LINE, jnp.ones(240), jnp.ones(240), 0.5)
    with pytest.raises(PersonError, match="num_samples"):
        evolution.sampling_floor_2d(LINE, jnp.ones(240), jax.random.key(0), 0)
    with pytest.raises(PersonError, match="mass 0: must be positive"):
        evolution.wasserstein_grid_1d(LINE, jnp.ones(240), jnp.zeros(240))
    with pytest.raises(PersonError, match="in one cell"):
        evolution.grid_quantiles(LINE, np.eye(240)[7], evolution.normal_nodes(5))
