"""Asymmetry of Jacobians and circulation: known shares, Stokes' theorem, exact laws at zero."""

import functools
import sys

import diagnostics_laws as law
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dfx import diagnostics, schedules
from dfx.diagnostics import asymmetry, circle, circulation, prediction_at
from dfx.errors import PersonError

pytestmark = pytest.mark.usefixtures("x64")

VP = schedules.VPLinear(0.5, 4.0)
MATRIX = np.random.default_rng(0).normal(size=(6, 6))
TURN = np.array([[0.0, 1.0], [-1.0, 0.0]])


def linear(x):
    return x @ MATRIX.T


def curved(x):
    return jnp.sin(x) * jnp.roll(x, -1, axis=-1)


@pytest.mark.parametrize(("size", "share"), [(1.0, 0.5), (2.0, 0.8), (4.0, 16 / 17)])
def test_a_gauge_field_of_known_size_has_its_share(size, share):
    """(I + c A) s of a round normal law: c^2 / (1 + c^2), that is 0.5, 0.8 and 0.941."""
    field = law.denoiser_of(law.normal_score(1.0))
    turned = diagnostics.with_error(field, diagnostics.rotated(field, TURN), size)
    found = asymmetry(prediction_at(turned, VP.at(0.4)), law.points())
    np.testing.assert_allclose(found.normalised, share, rtol=1e-12)
    assert share == pytest.approx({1: 0.5, 2: 0.8, 4: 0.941}[size], abs=5e-4)


def test_a_linear_map_has_the_numbers_of_its_matrix():
    found = asymmetry(linear, law.points(3, 6))
    np.testing.assert_allclose(found.difference, np.sum((MATRIX - MATRIX.T) ** 2), rtol=1e-13)
    np.testing.assert_allclose(found.size, np.sum(MATRIX**2), rtol=1e-13)
    np.testing.assert_allclose(found.absolute, np.linalg.norm(MATRIX - MATRIX.T), rtol=1e-13)
    # |J - J^T|^2 = 2 (|J|^2 - tr J^2)
    other = 2 * (np.sum(MATRIX**2) - np.trace(MATRIX @ MATRIX))
    np.testing.assert_allclose(found.difference, other, rtol=1e-12)


@pytest.mark.parametrize("prediction", ["score", "x0", "velocity"])
def test_the_exact_law_is_symmetric_in_every_prediction(prediction):
    """The floor of float64: 1e-16 squared, times conditioning; at t = 0.05 and 0.3."""
    for t in (0.05, 0.3):
        found = asymmetry(prediction_at(law.field, VP.at(t), prediction), law.points())
        assert np.max(found.normalised) < 1e-24


@pytest.mark.parametrize("probe", ["rademacher", pytest.param("normal", marks=pytest.mark.slow)])
def test_probes_are_unbiased_and_know_their_error(probe):
    """2,000 copies of a point, 8 probes each: mean in 3.5 standard errors, and these in 10 %."""
    point = law.points(1, 6)
    exact = asymmetry(curved, point)
    x = jnp.broadcast_to(point, (2000, 6))
    found = asymmetry(curved, x, jax.random.key(0), 8, probe)
    for name in ("difference", "size"):
        value, error = getattr(found, name), getattr(found, f"{name}_error")
        spread = np.std(value)
        assert abs(value.mean() - getattr(exact, name)[0]) < 3.5 * spread / np.sqrt(2000)
        assert float(np.sqrt(np.mean(error**2)) / spread) == pytest.approx(1, rel=0.1)


@pytest.mark.slow
def test_the_error_of_the_pooled_share_falls_as_the_root_of_the_probes():
    x = jnp.broadcast_to(law.points(1, 6), (3000, 6))
    exact = asymmetry(curved, x[:1]).normalised[0]
    pools = [diagnostics.pooled(asymmetry(curved, x, jax.random.key(1), k)) for k in (2, 8)]
    for pool in pools:
        assert abs(pool.ratio - exact) < 3.5 * pool.standard_error
    assert pools[0].standard_error / pools[1].standard_error == pytest.approx(2, rel=0.15)


def test_pooling_weighs_by_size_and_the_median_does_not():
    big, small = [np.array([4.0]), np.array([0.0])], [np.array([100.0]), np.array([1.0])]
    found = diagnostics.Asymmetry(
        np.concatenate([big[0], big[1], big[1]]), np.concatenate([small[1]] + 2 * [small[0]]), 0, 0
    )
    pool = diagnostics.pooled(found)
    assert pool.ratio == pytest.approx(4 / (4 * 201))
    assert pool.median == 0


def test_the_error_of_the_pooled_share_of_two_points_is_the_gap_of_their_ratios():
    """Of t1, t2 over b1, b2 the linearisation leaves 2 |t1 b2 - t2 b1| / (b1 + b2)^2."""
    found = diagnostics.Asymmetry(np.array([3.0, 1.0]), np.array([1.0, 2.0]), 0, 0)
    assert diagnostics.pooled(found).standard_error == pytest.approx(2 * 20 / 12**2)


def test_chosen_coordinates_give_the_block():
    chosen = [1, 4, 5]
    block = MATRIX[np.ix_(chosen, chosen)]
    found = asymmetry(linear, law.points(2, 6), coordinates=chosen)
    np.testing.assert_allclose(found.difference, np.sum((block - block.T) ** 2), rtol=1e-13)
    np.testing.assert_allclose(found.size, np.sum(block**2), rtol=1e-13)
    x = jnp.zeros((4000, 6))
    probed = asymmetry(linear, x, jax.random.key(2), coordinates=chosen)
    for value, exact in zip(probed[:2], (np.sum((block - block.T) ** 2), np.sum(block**2))):
        assert abs(value.mean() - exact) < 3.5 * np.std(value) / np.sqrt(4000)
    assert np.isnan(probed.difference_error).all()  # one probe has no spread


@pytest.mark.parametrize("chosen", [range(6), [1, 4, 5]])
def test_a_jacobian_that_is_too_large_to_hold_has_the_same_numbers(monkeypatch, chosen):
    monkeypatch.setattr(sys.modules["dfx.diagnostics.asymmetry"], "LARGEST", 0)
    block = MATRIX[np.ix_(chosen, chosen)]
    found = asymmetry(lambda x: x @ MATRIX.T, law.points(3, 6), coordinates=list(chosen))
    expected = np.sum((block - block.T) ** 2), np.sum(block**2), 0, 0
    np.testing.assert_allclose(found, np.tile(np.array(expected)[:, None], 3), rtol=1e-13)


@pytest.mark.slow
def test_pictures_and_chunks():
    x = law.points(3, 6)
    square = lambda x: curved(x.reshape(3, -1)).reshape(x.shape)  # noqa: E731
    found = asymmetry(square, x.reshape(3, 2, 3), chunk=4)
    for a, b in zip(found, asymmetry(curved, x)):
        np.testing.assert_allclose(a, b, rtol=1e-13)


def test_a_linear_field_turns_by_the_area_of_the_circle():
    """pi r^2 e2 . (B - B^T) e1, in a random plane of six dimensions about a random centre."""
    first, second = diagnostics.random_plane(jax.random.key(0), (6,), jnp.float64)
    np.testing.assert_allclose([first @ second, first @ first - 1], 0, atol=1e-14)
    loop = circle(law.points(1, 6)[0], 0.7, first, second, 16)
    expected = np.pi * 0.49 * second @ (MATRIX - MATRIX.T) @ first
    found = circulation(linear, loop)
    np.testing.assert_allclose(found.value, expected, rtol=1e-12)
    # Its bound is the integral of |B x| over the length, of which 16 steps leave some digits.
    angle = 2 * np.pi * np.arange(4096) / 4096
    points = law.points(1, 6) + 0.7 * (
        np.outer(np.cos(angle), first) + np.outer(np.sin(angle), second)
    )
    size = 2 * np.pi * 0.7 * np.linalg.norm(points @ MATRIX.T, axis=1).mean()
    np.testing.assert_allclose(found.size, size, rtol=1e-3)
    np.testing.assert_allclose(found.normalised, expected / size, rtol=1e-3)


def test_random_planes_have_the_mean_asymmetry():
    """Mean of (e2 . (J - J^T) e1)^2 = |J - J^T|^2 / (d (d - 1)); 2,000 planes, 3.5 errors."""
    draw = functools.partial(diagnostics.random_plane, shape=(6,), dtype=jnp.float64)
    first, second = jax.vmap(draw)(jax.random.split(jax.random.key(1), 2000))
    squares = np.einsum("na,ab,nb->n", second, MATRIX - MATRIX.T, first) ** 2
    expected = np.sum((MATRIX - MATRIX.T) ** 2) / 30
    assert abs(squares.mean() - expected) < 3.5 * squares.std() / np.sqrt(2000)


def swirl(x):
    return jnp.stack([jnp.sin(x[:, 0] * x[:, 1]), jnp.exp(0.3 * x[:, 0]) * jnp.cos(x[:, 1])], 1)


def test_stokes_theorem_round_a_circle_and_a_square():
    """The integral of d_1 f_2 - d_2 f_1 over the inside, by Gauss rules of 40 by 40 nodes."""

    def curl(x):
        a, b = x[:, 0], x[:, 1]
        return 0.3 * np.exp(0.3 * a) * np.cos(b) - a * np.cos(a * b)

    u, w = np.polynomial.legendre.leggauss(40)
    grid = np.stack(np.meshgrid(u, u, indexing="ij"), -1).reshape(-1, 2)
    weights = np.outer(w, w).ravel()
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    for shift in (0.2, 0):  # also with corners that are whole numbers
        square = circulation(swirl, diagnostics.polygon(corners + shift)).value
        np.testing.assert_allclose(square, weights @ curl(grid + shift), rtol=1e-12)
    radius, angle = 0.5 + 0.5 * grid[:, 0], np.pi * grid[:, 1]
    inside = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)
    expected = np.pi / 2 * weights @ (radius * curl(inside))
    e = np.eye(2)
    disc = circulation(swirl, circle(jnp.zeros(2), 1.0, e[0], e[1])).value
    np.testing.assert_allclose(disc, expected, rtol=1e-10)


def test_equal_steps_on_a_smooth_loop_converge_faster_than_any_power():
    """An ellipse: each doubling of the nodes squares the error, from 1e-3 to rounding."""
    ellipse = lambda u: jnp.stack([jnp.cos(2 * jnp.pi * u), 0.5 * jnp.sin(2 * jnp.pi * u)])  # noqa: E731
    values = [
        float(circulation(swirl, diagnostics.parametrised(ellipse, m)).value)
        for m in (4, 8, 16, 64)
    ]
    errors = np.abs(np.array(values[:3]) - values[3])
    assert errors[1] < 0.1 * errors[0] and errors[2] < 1e-3 * errors[1]


def test_turning_back_changes_the_sign_and_the_exact_score_has_none():
    level, e = VP.at(0.4), np.eye(2)
    score = prediction_at(law.field, level)
    found = circulation(score, circle(jnp.array([0.3, 0.2]), 0.5, e[0], e[1]))
    assert abs(found.normalised) < 1e-13
    turned = lambda x: score(x) @ (np.eye(2) + TURN).T  # noqa: E731
    there, back = (
        circulation(turned, circle(jnp.array([0.3, 0.2]), 0.5, *pair)) for pair in (e, e[::-1])
    )
    assert abs(there.normalised) > 0.1
    np.testing.assert_allclose(there.value, -back.value, rtol=1e-12)
    np.testing.assert_allclose(there.size, back.size, rtol=1e-12)


def test_mistakes_are_refused():
    x = law.points()
    with pytest.raises(PersonError, match="hutch"):
        asymmetry(linear, x, jax.random.key(0), 3, "hutch++")
    with pytest.raises(PersonError, match="indices from 0 to 1"):
        asymmetry(linear, x, coordinates=[2])
    for mask in (np.array([True, False]), [0.0, 1.5]):
        with pytest.raises(PersonError, match="need indices"):
            asymmetry(linear, x, coordinates=mask)
    with pytest.raises(PersonError, match="at least 3"):
        diagnostics.parametrised(jnp.sin, 2)
    with pytest.raises(PersonError, match="3 and 1 at least"):
        diagnostics.polygon(np.eye(2))
    with pytest.raises(PersonError, match="two coordinates"):
        diagnostics.random_plane(jax.random.key(0), (1,))
    with pytest.raises(PersonError, match="did you mean 'score'"):
        prediction_at(law.field, VP.at(0.4), "scores")
