"""The gradient part of an error on grids: planted parts are found, and interpolated as said."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dfx import diagnostics, schedules, targets
from experiments.shared import gradient_parts as parts
from experiments.shared import perturbed

VP = schedules.VPLinear()
BED = perturbed.Bed(targets.Mixture.isotropic([[0.8, 0.0], [-0.5, 0.6]], 0.3, (0.6, 0.4)), VP)


@pytest.mark.parametrize("t", [0.05, 0.4])
def test_planted_gauge_and_gradient_errors_are_told_apart(t):
    gauge = perturbed.gauge_error(BED, 0.4)
    ripple = diagnostics.gradient_of(perturbed.ripple)
    field = diagnostics.with_error(diagnostics.with_error(BED.exact, ripple, 0.5), gauge, 1.0)
    level, x = VP.at(t), BED.draw(jax.random.key(0), 2000, t)
    found = parts.split_at(BED, field, t, x, 48)
    square = lambda e: float(jnp.mean(jnp.sum((level.sigma * e(x, level)) ** 2, axis=1)))  # noqa: E731
    expected = {"remainder": square(gauge), "gradient": 0.25 * square(ripple)}
    for name, value in expected.items():
        # Cells of a quarter of a mode: an error of their square, and twice that of a product.
        assert found[name] == pytest.approx(value, rel=0.05)
    part = parts.OnGrid(found["side"], found["values"])(x)
    wanted = -level.sigma * 0.5 * ripple(x, level)
    assert float(jnp.mean((part - wanted) ** 2)) < 0.01 * float(jnp.mean(wanted**2))


def test_box_holds_every_mode():
    level = VP.at(0.3)
    farthest = level.alpha * 0.8 + parts.REACH * np.hypot(0.3 * level.alpha, level.sigma)
    assert parts.half_side(BED, level) == pytest.approx(farthest)


def test_gradient_part_has_the_gridded_eps_error_and_is_linear_in_log_t():
    """eps = (x_1, 0) at the first level and (0, 2 x_2) at the last, in boxes of other sides."""
    centres = (np.arange(8) + 0.5) / 4 - 1
    first, second = np.meshgrid(centres, centres, indexing="ij")
    values = np.stack([[2 * first, 0 * first], [0 * first, 2 * 3 * second]])
    part = parts.GradientPart(np.log([0.01, 1.0]), np.array([2.0, 3.0]), values)
    x = jnp.asarray([[0.3, -0.4], [1.0, 0.5]], jnp.float32)
    ends = [np.stack([x[:, 0], 0 * x[:, 0]], 1), np.stack([0 * x[:, 0], 2 * x[:, 1]], 1)]
    for t, share in ((0.01, 0.0), (1.0, 1.0), (0.1, 0.5)):
        level = VP.at(t)
        expected = -((1 - share) * ends[0] + share * ends[1]) / level.sigma
        np.testing.assert_allclose(part(x, level), expected, rtol=1e-4, atol=1e-4)


def test_means_of_faces_are_exact_at_inner_centres_for_linear_values():
    faces = np.arange(1.0, 5.0)[:, None] * np.ones((4, 3))
    found = parts.at_centres(faces, 0)
    np.testing.assert_allclose(found[:, 0], [1, 1.5, 2.5, 3.5, 4])
    np.testing.assert_allclose(parts.at_centres(faces.T, 1), found.T)
