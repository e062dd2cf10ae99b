"""Residuals of the evolution equations: zero on exact laws, of the computed size on planted errors.

Tolerances without a word are rounding in float64: the terms are of size 1 to 100.
"""

import dataclasses

import diagnostics_laws as law
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dfx import diagnostics, schedules
from dfx.errors import PersonError
from dfx.fields import jacobian
from dfx.pytree import pytree

pytestmark = pytest.mark.usefixtures("x64")

SCHEDULES = {name: schedules.make(name) for name in schedules.REGISTRY}
SCHEDULES["mean_reverting"] = schedules.MeanReverting(schedules.VPLinear(), noise_scale=0.7)
VP = schedules.VPLinear(0.5, 4.0)


def time_of(schedule):
    """Where signal and noise are about equal."""
    return schedules.t_of_log_snr(schedule, 0.3)


def residuals(schedule, x, t, potential=law.log_density, field=law.field, **options):
    return (
        diagnostics.potential_residual(schedule, potential, x, t, **options),
        diagnostics.score_residual(schedule, field, x, t, **options),
        diagnostics.continuity_residual(schedule, field, potential, x, t, **options),
    )


FAST = ("vp_linear", "rectified_linear")
EACH = [
    pytest.param(name, marks=[] if name in FAST else pytest.mark.slow)
    for name in SCHEDULES
    if name != "mean_reverting"
]


@pytest.mark.parametrize("name", EACH)
def test_all_residuals_vanish_on_the_exact_law_of_every_schedule(name):
    schedule = SCHEDULES[name]
    for value in residuals(schedule, law.points(), time_of(schedule)):
        np.testing.assert_allclose(value, 0, atol=1e-10)


def test_a_mean_term_is_part_of_the_drift():
    """Also where y differs from sample to sample; without y the residual asks for it."""
    schedule, x, y = SCHEDULES["mean_reverting"], law.points(), law.points(seed=1)
    potential = lambda x, level: law.log_density(x, level, y)  # noqa: E731
    field = lambda x, level: law.field(x - level.beta * y, level)  # noqa: E731
    t = time_of(schedule)
    for value in residuals(schedule, x, t, potential, field, y=y):
        np.testing.assert_allclose(value, 0, atol=1e-10)
    off = diagnostics.potential_residual(schedule, potential, x, t, y=0 * y)
    assert np.abs(off).min() > 1e-2
    with pytest.raises(PersonError, match="give y"):
        diagnostics.potential_residual(schedule, potential, x, t)


@pytree
@dataclasses.dataclass(frozen=True, eq=False)
class Diagonal(schedules.Schedule):
    """A rate for each coordinate: alpha has shape (.., d)."""

    rates: jax.typing.ArrayLike

    def alpha(self, t):
        return jnp.exp(-self.rates * t)

    def variance(self, t):
        return -jnp.expm1(-2 * self.rates * t)


@pytest.mark.slow
def test_a_coefficient_may_differ_between_coordinates():
    """A normal law with the variances 0.4 at the data stays normal, by coordinate."""

    def potential(x, level):
        variance = 0.4 * level.alpha**2 + level.sigma**2
        return jnp.sum(-(x**2) / (2 * variance) - 0.5 * jnp.log(variance), axis=1)

    field = law.denoiser_of(law.normal_score(1.0))
    schedule = Diagonal(np.array([1.0, 3.0]))
    for value in residuals(schedule, law.points(), 0.3, potential, field):
        np.testing.assert_allclose(value, 0, atol=1e-11)


@pytest.mark.parametrize("schedule", [VP, schedules.EDM(80.0)])
def test_a_score_that_is_too_large_by_a_factor_has_the_residuals_of_the_closed_form(schedule):
    """phi = -(1 + e) |x|^2 / (2 V), the score of N(0, V) times 1 + e; h = g^2 / 2:

    R = f d + h d (1 + e) / V - e (1 + e) h |x|^2 / V^2,    eps = grad R,
    C = -h e (div s + |s|^2) with s = -x / V.
    """
    e, d, x, t = 0.3, 2, law.points(), time_of(schedule)
    level = schedule.at(t)
    f, h = schedules.drift_coefficient(schedule, t), 0.5 * schedules.diffusion(schedule, t)
    v = 0.4 * level.alpha**2 + level.sigma**2
    squares = np.sum(np.asarray(x) ** 2, axis=1)

    def width(level):
        return 0.4 * level.alpha**2 + level.sigma**2

    def potential(x, level):
        return -(1 + e) * jnp.sum(x**2, 1) / (2 * width(level))

    def exact(x, level):
        return -jnp.sum(x**2, 1) / (2 * width(level)) - jnp.log(width(level))

    field = law.denoiser_of(law.normal_score(1 + e))
    found, of_score, _ = residuals(schedule, x, t, potential, field)
    expected = f * d + h * d * (1 + e) / v - e * (1 + e) * h * squares / v**2
    np.testing.assert_allclose(found, expected, rtol=1e-11)
    np.testing.assert_allclose(of_score, -2 * e * (1 + e) * h * x / v**2, rtol=1e-11)
    carried = diagnostics.continuity_residual(schedule, field, exact, x, t)
    np.testing.assert_allclose(carried, -h * e * (squares / v**2 - d / v), rtol=1e-10, atol=1e-12)


@jax.jit
def wrong_potential(x, level):
    """The log-density with a smooth error that moves in time."""
    return (
        law.log_density(x, level) + 0.3 * jnp.sin(x[:, 0] + 2 * jnp.ravel(level.t)) * x[:, 1] ** 2
    )


@jax.jit
def wrong_score(x, level):
    return jax.grad(lambda x: jnp.sum(wrong_potential(x, level)))(x)


@pytest.mark.slow
def test_the_residual_of_the_score_is_the_gradient_of_that_of_the_potential():
    x = law.points()
    of_potential = lambda x: diagnostics.potential_residual(VP, wrong_potential, x, 0.4)  # noqa: E731
    expected = jax.grad(lambda x: jnp.sum(of_potential(x)))(x)
    found = diagnostics.score_residual(VP, law.denoiser_of(wrong_score), x, 0.4)
    assert np.abs(expected).min() > 1e-3
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-10)


def test_a_free_function_of_time_is_the_constant_part_and_nothing_else():
    """phi + t^3 adds 3 t^2 to R: mean and mean square see it, the variance over x does not."""
    x, t = law.points(9), 0.4
    free = lambda x, level: wrong_potential(x, level) + level.t**3  # noqa: E731
    plain, moved = (
        diagnostics.spatial(diagnostics.potential_residual(VP, phi, x, t))
        for phi in (wrong_potential, free)
    )
    np.testing.assert_allclose(moved.constant - plain.constant, 3 * t**2, rtol=1e-10)
    np.testing.assert_allclose(moved.variance, plain.variance, rtol=1e-10)
    share = moved.constant**2 + moved.variance * (1 - 1 / len(x))
    np.testing.assert_allclose(moved.mean_square, share, rtol=1e-12)


def test_the_turn_of_the_score_changes_by_the_curl_of_its_residual():
    """s = exact + t^2 A x, A antisymmetric: d_t (J - J^T) = 4 t A is the curl of eps."""
    a, x, t = np.array([[0.0, 1.3], [-1.3, 0.0]]), law.points(3), 0.4
    extra = law.denoiser_of(lambda x, level: law.score(x, level) + level.t**2 * (x @ a.T))
    run = lambda x: diagnostics.score_residual(VP, extra, x, t)  # noqa: E731
    j = jax.jit(lambda x: jacobian(run, x))(x)
    expected = np.broadcast_to(4 * t * a, (3, 2, 2))
    np.testing.assert_allclose(j - jnp.swapaxes(j, 1, 2), expected, atol=1e-10)
    assert np.abs(j + jnp.swapaxes(j, 1, 2)).max() > 0.1  # there is more to it


def test_an_error_of_the_velocity_enters_the_continuity_equation_by_its_weighted_divergence():
    """A gauge error leaves it at zero; r = grad u gives -h (Lap u + grad u . s)."""
    x, t = law.points(), 0.4
    h = 0.5 * schedules.diffusion(VP, t)
    rotate = lambda x, level: 3 * law.score(x, level)[:, ::-1] * jnp.array([1.0, -1.0])  # noqa: E731
    bend = lambda x, level: jnp.cos(x)  # noqa: E731
    rotated, bent = (
        diagnostics.continuity_residual(
            VP, diagnostics.with_error(law.field, error), law.log_density, x, t
        )
        for error in (rotate, bend)
    )
    np.testing.assert_allclose(rotated, 0, atol=1e-11)
    s = law.score(x, VP.at(t))
    expected = -h * np.sum(-np.sin(x) + np.cos(x) * s, 1)
    np.testing.assert_allclose(bent, expected, rtol=1e-10)


def test_the_relative_entropy_falls_at_the_rate_of_the_fisher_information():
    """A normal law of variance 0.3 under VP with b = 2 at t = 0.37: -0.167476 on both sides.

    d/dt KL(p | N(0, I)) = -(b / 2) E|grad log(p / N)|^2. The left side takes the derivative of
    log p from the continuity residual of a field that does not move; quadrature of 40 nodes.
    """
    schedule, t = schedules.VPLinear(2.0, 2.0), 0.37
    level = schedule.at(t)
    v = 0.3 * level.alpha**2 + level.sigma**2
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    x, weights = jnp.asarray(np.sqrt(v) * nodes)[:, None], weights / weights.sum()

    def log_density(x, level):
        width = 0.3 * level.alpha**2 + level.sigma**2
        return -(x[:, 0] ** 2) / (2 * width) - 0.5 * jnp.log(2 * jnp.pi * width)

    def still(x, level):
        """x0_hat of velocity zero."""
        det = level.alpha_dot * level.sigma - level.sigma_dot * level.alpha
        return -level.sigma_dot * x / det

    change = diagnostics.continuity_residual(schedule, still, log_density, x, t)
    relative = np.asarray(log_density(x, level)) + np.asarray(x)[:, 0] ** 2 / 2
    entropy = np.sum(weights * change * relative)
    fisher = np.sum(weights * (x[:, 0] - x[:, 0] / v) ** 2)
    np.testing.assert_allclose([entropy, -fisher], -0.167476, atol=5e-7)  # six digits are given


@pytest.mark.slow
def test_one_time_for_all_one_per_sample_jit_and_vmap_agree():
    x, t = law.points(4), np.array([0.2, 0.4, 0.6, 0.9])
    run = lambda x, t: diagnostics.potential_residual(VP, wrong_potential, x, t)  # noqa: E731
    each = np.stack([run(x[i : i + 1], t[i])[0] for i in range(4)])
    np.testing.assert_allclose(run(x, t), each, rtol=1e-10)
    np.testing.assert_allclose(jax.jit(run)(x, jnp.asarray(t)), each, rtol=1e-10)
    together = jax.vmap(run, (None, 0))(x, jnp.asarray(t))
    np.testing.assert_allclose(np.diagonal(together), each, rtol=1e-10)


def test_float32_finds_the_exact_law_within_its_rounding():
    """Terms of size 10 in float32: 1e-6 of each, and of second derivatives somewhat more."""
    x = law.points().astype(jnp.float32)
    for value in residuals(VP, x, 0.4):
        assert value.dtype == jnp.float32
        np.testing.assert_allclose(value, 0, atol=2e-4)


def test_mistakes_are_refused():
    x = law.points()
    run = lambda x, t, **options: residuals(VP, x, t, **options)  # noqa: E731
    with pytest.raises(PersonError, match="one time, or one per point"):
        run(x, np.ones(3))
    with pytest.raises(PersonError, match="floating points"):
        run(jnp.ones(3), 0.5)
    with pytest.raises(PersonError, match="one number per sample"):
        run(x, 0.5, potential=lambda x, level: x)
    with pytest.raises(PersonError, match="infinite there"):
        diagnostics.potential_residual(schedules.RectifiedLinear(), law.log_density, x, 1.0)
    with pytest.raises(PersonError, match="did you mean 'rademacher'"):
        run(x, 0.5, probe="rademacer")
    with pytest.raises(PersonError, match="need one shape"):
        diagnostics.spatial(np.ones(1))
