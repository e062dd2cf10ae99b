"""Toy laws: where their modes are, and that each is the law that its name says."""

import jax
import numpy as np
import pytest

from dfx import schedules, targets
from dfx.errors import PersonError


def test_grid_is_the_papers_five_by_five_of_unit_variance():
    grid = targets.grid_2d()
    modes = np.stack(np.meshgrid(np.arange(-2, 3), np.arange(-2, 3)), -1).reshape(-1, 2) * 2
    expected = modes / np.sqrt(0.05**2 + 8)
    assert {tuple(m) for m in np.round(grid.means, 9)} == {tuple(m) for m in np.round(expected, 9)}
    np.testing.assert_allclose(grid.variance, 0.05**2 / (0.05**2 + 8))
    for law in (grid, targets.grid_2d(side=2, spacing=3.0, std=0.4)):
        np.testing.assert_allclose(law.covariance(), np.eye(2), atol=1e-12)


def test_rotated_grid_has_the_papers_modes():
    # 2 {(-2, 0), (-1.5, 0.5), .., (2, 0)}: the corners and the row through (-1.5, 0.5).
    rotated = targets.rotated_grid_2d(standardise=False)
    have = {tuple(m) for m in np.round(rotated.means, 9)}
    assert {(-4.0, 0.0), (-3.0, 1.0), (4.0, 0.0), (0.0, 4.0), (0.0, -4.0), (0.0, 0.0)} <= have
    distances = np.linalg.norm(rotated.means[:, None] - rotated.means, axis=-1)
    assert np.isclose(np.sort(distances, 1)[:, 1], np.sqrt(2)).all() and len(have) == 25


def test_rotated_grid_takes_the_modes_of_the_grid_in_their_order():
    x, y = targets.grid_2d(standardise=False).means.T
    rotated = targets.rotated_grid_2d(standardise=False)
    np.testing.assert_allclose(rotated.means, np.stack([(x + y) / 2, (y - x) / 2], 1), atol=1e-12)


def test_rotated_grid_is_divided_by_the_grids_number():
    ratio = np.sqrt(targets.rotated_grid_2d().variance / targets.grid_2d().variance)
    np.testing.assert_allclose(ratio, 1.0)


def test_rings_have_equal_mass_for_equal_length():
    rings = targets.rings(radii=(1.0, 3.0))
    radius, weights = np.linalg.norm(rings.means, axis=1), np.exp(rings.log_weights)
    np.testing.assert_allclose(weights[radius > 2].sum() / weights[radius < 2].sum(), 3.0)
    assert set(np.round(radius, 9)) == {1.0, 3.0}
    for r in (1.0, 3.0):  # neighbours 1 / 8 apart, up to half a mode in 50
        steps = np.diff(np.sort(np.arctan2(*rings.means[np.isclose(radius, r)].T)))
        np.testing.assert_allclose(r * steps, 1 / 8, rtol=0.01)


@pytest.mark.parametrize("name", ["modes_1d", "rings", "two_moons", "swiss_roll"])
def test_the_modes_of_a_law_have_the_deviation_given(name):
    np.testing.assert_allclose(targets.make(name, std=0.3).variance, 0.09, rtol=1e-12)


def test_checkerboard_is_flat_in_dark_cells_and_empty_in_light_ones():
    board = targets.checkerboard()
    inside = np.random.default_rng(0).uniform(0.3, 0.7, (50, 2))
    dark = np.exp(board.log_prob(np.float32(inside - np.array([2.0, 2.0])), schedules.CLEAN))
    light = np.exp(board.log_prob(np.float32(inside - np.array([1.0, 2.0])), schedules.CLEAN))
    # 8 dark cells of area 1; 1% as the docstring says.
    np.testing.assert_allclose(dark, 1 / 8, rtol=0.02)
    assert light.max() < 0.01
    # Cells of another length are the same board on another scale.
    wide = targets.checkerboard(cell=3.0)
    np.testing.assert_allclose(wide.means, 3 * board.means, rtol=1e-12)
    np.testing.assert_allclose(wide.variance, 9 * board.variance, rtol=1e-12)


def test_moons_are_one_another_turned_by_half_a_turn():
    modes = np.round(targets.two_moons().means, 9)
    assert {tuple(m) for m in modes} == {tuple(m) for m in -modes}
    # The first is a half circle of radius 1 about (-1/2, -1/4), at the midpoints of equal arcs.
    x, y = (modes[:40] - np.array([-0.5, -0.25])).T
    np.testing.assert_allclose(np.hypot(x, y), 1, atol=1e-8)
    np.testing.assert_allclose(np.arctan2(y, x), np.pi * (np.arange(40) + 0.5) / 40, atol=1e-8)


def test_swiss_roll_has_equally_spaced_modes_between_its_radii():
    means = targets.swiss_roll().means
    radius, steps = np.linalg.norm(means, axis=1), np.linalg.norm(np.diff(means, axis=0), axis=1)
    assert (np.diff(radius) > 0).all() and radius[0] > 1 / 3 and radius[-1] < 1
    np.testing.assert_allclose(steps, steps.mean(), rtol=1e-2)  # chords of a curve
    turned = 1.5 * (3 * radius - 1) / 2  # a turn and a half from radius 1/3 to 1
    spiral = radius * np.exp(2j * np.pi * turned)
    np.testing.assert_allclose(means, np.stack([spiral.real, spiral.imag], 1), atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("name", targets.REGISTRY)
def test_samples_have_the_mean_and_covariance_of_the_law(name):
    target, n = targets.make(name), 20_000
    x = np.asarray(target.sample(jax.random.key(0), n), np.float64)
    error = (x.mean(0) - target.mean()) / (x.std(0) / np.sqrt(n))
    assert np.abs(error).max() < 4.5  # standard errors, for all seven laws at once
    centred = x - target.mean()
    products = np.einsum("ni,nj->nij", centred, centred)
    error = (products.mean(0) - target.covariance()) / (products.std(0) / np.sqrt(n))
    assert np.abs(error).max() < 4.5


def test_balanced_samples_take_the_modes_in_turn():
    target = targets.modes_1d()
    x = np.asarray(target.sample(jax.random.key(0), 300, balanced=True))[:, 0]
    np.testing.assert_array_equal(np.round(x), np.resize([1, 2, 3], 300))


def test_unknown_name_gives_the_nearest():
    with pytest.raises(PersonError, match="did you mean 'two_moons'"):
        targets.make("two_moon")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("checkerboard", {"side": 0}),
        ("checkerboard", {"fill": 0}),
        ("checkerboard", {"cell": 0.0}),
        ("two_moons", {"modes": 0}),
        ("swiss_roll", {"modes": 0}),
        ("rings", {"radii": ()}),
        ("rings", {"radii": (1.0, 0.0)}),
    ],
)
def test_laws_without_a_mode_are_refused(name, options):
    with pytest.raises(PersonError):
        targets.make(name, **options)
