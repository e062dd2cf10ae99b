"""Explained variance: planted defects, and the far field of a point cloud."""

import numpy as np
import pytest

from dfx import fields, schedules
from dfx.diagnostics import unexplained
from dfx.errors import PersonError
from dfx.targets import Empirical, Mixture, fit

pytestmark = pytest.mark.usefixtures("x64")

EDM = schedules.EDM(80.0)
RNG = np.random.default_rng(0)


def shrink(x, level):
    return 0.5 * x + 1.0


def shifted(x, level):
    return 0.5 * x + 1.3


def test_the_shares_of_a_constant_defect_are_as_computed():
    """D_model - D = 0.3 in every entry; s = (alpha D - x) / sigma^2. A chunk does not matter."""
    x, level = RNG.normal(size=(5, 2, 3)), schedules.VPLinear().at(0.4)
    for chunk in (2, 256):
        found = unexplained(shrink, shifted, x, level, chunk=chunk)
        gap, d = 6 * 0.3**2, 0.5 * x + 1
        score = (level.alpha * d - x) / level.sigma**2
        expected = gap * (level.alpha / level.sigma**2) ** 2 / np.sum(score**2, axis=(1, 2))
        np.testing.assert_allclose(found.score, expected, rtol=1e-12)
        np.testing.assert_allclose(found.denoiser, gap / np.sum(d**2, axis=(1, 2)), rtol=1e-12)
    centred = unexplained(shrink, shifted, x, level, centre=np.full((2, 3), 0.7)).denoiser
    np.testing.assert_allclose(centred, gap / np.sum((d - 0.7) ** 2, axis=(1, 2)), rtol=1e-12)


def test_a_field_explains_itself_and_levels_may_differ_by_sample():
    x, schedule = RNG.normal(size=(3, 2)), schedules.RectifiedLinear()
    assert (unexplained(shrink, shrink, x, schedule.at(0.5)).score == 0).all()
    times = np.array([0.2, 0.5, 0.7])
    every = unexplained(shrink, shifted, x, schedule.at(times, 2), chunk=2)
    for i, t in enumerate(times):
        one = unexplained(shrink, shifted, x[i : i + 1], schedule.at(t))
        np.testing.assert_allclose(every.score[i], one.score[0], rtol=1e-12)
    # Without signal the score is that of the noise, whatever the denoiser.
    assert (unexplained(shrink, shifted, x, schedule.at(1.0)).score == 0).all()


def far(cloud, model, sigma):
    """The mean share of the score at x = mean + sigma xi, and of the denoiser."""
    xi = np.random.default_rng(1).normal(size=(64, 3))
    x, centre = cloud.mean() + sigma * xi, cloud.mean()
    found = unexplained(fields.oracle(cloud), fields.oracle(model), x, EDM.at(sigma), centre)
    return np.array([np.mean(share) for share in found])


@pytest.mark.parametrize(("kind", "power"), [("skewed", 6), ("symmetric", 8), ("mean only", 4)])
def test_a_cloud_is_seen_from_afar_as_its_gaussian(kind, power):
    """1 - EV falls like sigma^-6 (third cumulants), sigma^-8 (fourth), sigma^-4 (variance); the
    denoiser, 1 / sigma from its mean where the score is sigma from it, four powers less. From 20 to
    40, the next order is (1 / 20)^2 with a factor of the cumulants: 0.15 of the power.
    """
    points = np.random.default_rng(2).exponential(size=(20, 3))
    if kind == "symmetric":
        points = np.concatenate([points[:10], -points[:10]])
    model = fit.gaussian(points) if kind != "mean only" else fit.isotropic(points, spread=False)
    shares = np.array([far(Empirical(points), model, s) for s in (20.0, 40.0)])
    slopes = np.log2(shares[0] / shares[1])
    np.testing.assert_allclose(slopes, [power, power - 4], atol=0.15)


@pytest.mark.slow
def test_float32_shares_keep_their_digits():
    x = np.float32(RNG.normal(size=(4, 3)) * 50)
    law, model = (fields.oracle(Mixture.isotropic(np.zeros((1, 3)), std)) for std in (1.0, 1.01))
    level = EDM.at(50.0)
    found = unexplained(law, model, x, level).score
    exact = unexplained(law, model, np.float64(x), level).score
    assert found.dtype == np.float32
    # D is 1/50 in size and D - D_model a fiftieth of that: 6e-8 of 50, squared, against them.
    np.testing.assert_allclose(found, exact, rtol=1e-3)


def test_mistakes_are_named():
    with pytest.raises(PersonError, match="one per sample"):
        unexplained(shrink, shifted, RNG.normal(size=(3, 2)), EDM.at(np.ones(2), 2))
    with pytest.raises(PersonError, match="chunk = 0"):
        unexplained(shrink, shifted, RNG.normal(size=(3, 2)), EDM.at(1.0), chunk=0)
    level = schedules.MeanReverting(schedules.VPLinear()).at(0.5)
    with pytest.raises(PersonError, match="mean term"):
        unexplained(shrink, shifted, RNG.normal(size=(3, 2)), level)
