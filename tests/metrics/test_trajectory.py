"""The geometry of paths: curves whose dimensions and turns are known, and flows of Gaussians."""

import numpy as np
import pytest

from dfx import schedules
from dfx.errors import PersonError
from dfx.metrics import end_plane, principal_shares, rotation, rotation_r2
from dfx.schedules import grids

ANGLE = np.linspace(0, np.pi / 2, 31)
VP, EDM = schedules.VPLinear(), schedules.EDM(80.0)
FRAME = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 6)))[0].T


def gaussian_paths(schedule, times, dim, exponent, n=8):
    """Paths from noise of N(0, diag(c k^-exponent)), trace dim / 4, by psi written out."""
    variance = np.arange(1.0, dim + 1) ** -exponent
    variance *= 0.25 * dim / variance.sum()
    level = schedule.at(times)
    std = np.sqrt(np.outer(level.alpha**2, variance) + level.sigma[:, None] ** 2)
    x = level.sigma[0] * np.random.default_rng(1).normal(size=(n, 1, dim))
    return x * (std / std[0]), level


def test_a_line_has_one_component_and_a_quarter_circle_two():
    line = (ANGLE[:, None] * FRAME[0] + FRAME[1])[None]
    np.testing.assert_allclose(principal_shares(line, 2), 1, rtol=1e-12)
    circle = (np.sin(ANGLE)[:, None] * FRAME[0] + np.cos(ANGLE)[:, None] * FRAME[1])[None]
    shares = principal_shares(circle, 3)[0]
    # By symmetry the components are the chord and its normal.
    chord, normal = np.var([np.sin(ANGLE) - np.cos(ANGLE), np.sin(ANGLE) + np.cos(ANGLE)], axis=1)
    larger = chord / (chord + normal)
    np.testing.assert_allclose(shares, [larger, 1, 1], rtol=1e-12)
    assert 0.8 < larger < 0.999


def test_paths_are_judged_each_by_itself_and_in_any_shape():
    paths = np.random.default_rng(2).normal(size=(3, 8, 2, 3))
    both = principal_shares(paths)
    assert both.shape == (3, 7)
    np.testing.assert_allclose(both[1:2], principal_shares(paths[1:2] + 5.0), rtol=1e-12)
    np.testing.assert_allclose(both[:, -1], 1, rtol=1e-12)
    values = np.linalg.svd(paths[2].reshape(8, 6) - paths[2].reshape(8, 6).mean(0))[1] ** 2
    np.testing.assert_allclose(both[2, :6], np.cumsum(values) / values.sum(), rtol=1e-12)


def test_a_path_of_fixed_ends_is_its_own_rotation():
    """x_t = alpha x0 + sigma eps for every schedule, alpha = 0 at the start or not."""
    x0, eps = np.random.default_rng(3).normal(size=(2, 4, 1, 5))
    for schedule in (VP, EDM, schedules.Trigonometric()):
        level = schedule.at(schedule.end_time * np.linspace(1, 0, 9))
        paths = level.alpha[:, None] * x0 + level.sigma[:, None] * eps
        np.testing.assert_allclose(rotation(paths, level.alpha, level.sigma), paths, rtol=1e-9)
        # A defect of one frame counts by its square.
        bent = paths.copy()
        bent[:, 4] += 0.1
        for centred in (False, True):
            off = bent - centred * bent.mean(1, keepdims=True)
            expected = 1 - 5 * 0.01 / np.sum(off**2, axis=(1, 2))
            found = rotation_r2(bent, level.alpha, level.sigma, centred)
            np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_the_plane_of_the_ends_holds_a_turn_and_measures_its_angle():
    turn = 3 * (np.cos(ANGLE)[:, None] * FRAME[0] + np.sin(ANGLE)[:, None] * FRAME[1])
    plane = end_plane(np.stack([turn, turn + 4 * np.sin(2 * ANGLE)[:, None] * FRAME[2]]))
    np.testing.assert_allclose(plane.angle, [ANGLE, ANGLE], atol=1e-12)
    np.testing.assert_allclose(plane.basis, [FRAME[:2], FRAME[:2]], atol=1e-12)
    outside = 16 * np.sin(2 * ANGLE) ** 2
    np.testing.assert_allclose(plane.inside[0], 1, rtol=1e-12)
    np.testing.assert_allclose(plane.inside[1], 9 / (9 + outside), rtol=1e-12)


#: Published: shares of 1 and 2 components, R^2 of the rotation; k^-1, k^-1.5.
@pytest.mark.parametrize(("exponent", "first", "second", "r2"), [
    (1.0, 0.992, 0.9999, 0.980), (1.5, 0.984, 0.9998, 0.991),
])  # fmt: skip
def test_gaussian_paths_are_nearly_plane_and_turn(exponent, first, second, r2):
    """Means over 8 paths; a single path, as published, lies within the spread of one."""
    paths, level = gaussian_paths(VP, np.linspace(1, 0, 101), 1024, exponent)
    shares = principal_shares(paths, 3)
    assert np.abs(shares[:, 0].mean() - first) < 3 * shares[:, 0].std()
    assert np.abs(shares[:, 1].mean() - second) < 1e-4 and (shares[:, 2] > 0.99990).all()
    found = rotation_r2(paths, level.alpha, level.sigma)
    # 0.0005 for the third digit, and what a path differs from the next one.
    assert np.abs(found.mean() - r2) < 0.0005 + 3 * found.std()
    assert found.std() < 0.002
    # Against the mean of the frames instead of 0, much more is left over.
    assert (1 - rotation_r2(paths, level.alpha, level.sigma, centred=True) > 5 * (1 - found)).all()


def test_the_turn_is_closer_in_more_dimensions():
    """Published: 0.994 in 3072, k^-1.5."""
    paths, level = gaussian_paths(VP, np.linspace(1, 0, 101), 3072, 1.5, n=3)
    found = rotation_r2(paths, level.alpha, level.sigma)
    assert np.abs(found.mean() - 0.994) < 0.0005 + 3 * found.std()


def test_edm_paths_need_one_component():
    """Published for 18 times from 80 to 0.002: 0.99998."""
    paths, _ = gaussian_paths(EDM, grids.karras(EDM, 18)[:-1], 1024, 1.0)
    assert np.abs(principal_shares(paths, 1).mean() - 0.99998) < 2e-5


def test_mistakes_are_named():
    with pytest.raises(PersonError, match="two frames"):
        principal_shares(np.ones((3, 1, 2)))
    with pytest.raises(PersonError, match="does not move"):
        principal_shares(np.full((3, 3, 2), 0.1))  # whose mean over three frames is rounded
    with pytest.raises(PersonError, match="none but data at the last"):
        rotation(np.ones((3, 2, 2)), np.ones(2), np.ones(2))
    with pytest.raises(PersonError, match="none but data at the last"):
        rotation(np.ones((3, 2, 2)), np.zeros(2), np.array([1.0, 0.0]))
    with pytest.raises(PersonError, match="no plane"):
        end_plane(np.ones((3, 4, 2)))
    with pytest.raises(PersonError, match="no plane"):
        end_plane(np.arange(12.0).reshape(3, 4, 1))
