"""Sums over directions: estimates against the exact traces, in their mean and in their variance."""

import functools

import diagnostics_laws as law
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dfx import diagnostics, schedules
from dfx.diagnostics import directions as along
from dfx.errors import PersonError
from dfx.fields import derivatives

pytestmark = pytest.mark.usefixtures("x64")

VP = schedules.VPLinear(0.5, 4.0)
MATRIX = np.random.default_rng(0).normal(size=(6, 6))
N = 4000


def linear(x):
    return x @ MATRIX.T


def curved(x):
    """Not a gradient; div = sum cos(x_a) x_{a+1}."""
    return jnp.sin(x) * jnp.roll(x, -1, axis=-1)


@functools.partial(jax.jit, static_argnames=("f", "num_probes", "probe", "chunk"))
def trace(f, x, key=None, num_probes=1, probe="rademacher", chunk=None):
    d = along.directions(f, x, key, num_probes, probe)
    return (
        derivatives.divergence_along(f, x, d, chunk),
        derivatives.gradient_of_divergence(f, x, d, chunk),
    )


def test_unit_vectors_give_the_trace_and_its_gradient():
    """grad of sum cos(x_a) x_{a+1}: -sin(x_a) x_{a+1} + cos(x_{a-1})."""
    x = law.points(3, 6)
    divergence, gradient = trace(curved, x)
    ahead, behind = np.roll(x, -1, 1), np.roll(x, 1, 1)
    np.testing.assert_allclose(divergence, np.sum(np.cos(x) * ahead, 1), rtol=1e-13)
    np.testing.assert_allclose(gradient, -np.sin(x) * ahead + np.cos(behind), rtol=1e-13)


@pytest.mark.parametrize("probe", ["rademacher", "normal", "hutch++"])
def test_estimates_are_unbiased(probe):
    """4,000 copies of one point with probes of their own: means within 3.5 standard errors."""
    point = law.points(1, 6)
    exact = trace(curved, point)
    x = jnp.broadcast_to(point, (N, 6))
    for one, many in zip(exact, trace(curved, x, jax.random.key(1), 3, probe)):
        error = np.asarray(many).std(0) / np.sqrt(N)
        assert np.all(error > 0)
        assert np.all(np.abs(many.mean(0) - one[0]) < 3.5 * error)


def test_the_variance_falls_as_one_over_the_number_of_probes():
    """Each variance is known to sqrt(2 / 4000) = 2 %."""
    x = jnp.zeros((N, 6))
    one, nine = (np.var(trace(linear, x, jax.random.key(2), k)[0]) for k in (1, 9))
    assert float(nine) * 9 == pytest.approx(float(one), rel=0.1)


def test_hutch_plus_plus_is_exact_once_its_sketch_holds_the_range():
    """A map of rank 2 in six dimensions with k = 2, and any map with k = 6."""
    x, key = law.points(5, 6), jax.random.key(3)
    low = MATRIX[:, :2] @ MATRIX[:2]
    found = trace(lambda x: x @ low.T, x, key, 6, "hutch++")[0]
    np.testing.assert_allclose(found, np.trace(low), rtol=1e-11)
    found = trace(curved, x, key, 18, "hutch++")[0]
    np.testing.assert_allclose(found, trace(curved, x)[0], rtol=1e-11)


def test_hutch_plus_plus_beats_signs_where_a_few_directions_carry_the_trace():
    """Eigenvalues 100, 1, 1, ..: with 6 probes most of the spread is gone."""
    basis = np.linalg.qr(MATRIX)[0]
    few = basis @ np.diag([100.0, 1, 1, 1, 1, 1]) @ basis.T
    x = jnp.zeros((500, 6))
    f = lambda x: x @ few  # noqa: E731
    signs, sketch = (
        np.var(trace(f, x, jax.random.key(4), 6, probe)[0]) for probe in ("rademacher", "hutch++")
    )
    assert sketch < 0.02 * signs


def test_chunks_do_not_change_the_sum():
    """Six directions one, four and all at a time: blocks that do not divide are filled up."""
    x = law.points(3, 6)
    whole = trace(curved, x)
    for chunk in (1, 4):
        for a, b in zip(trace(curved, x, chunk=chunk), whole):
            np.testing.assert_allclose(a, b, rtol=1e-13)


@pytest.mark.slow
def test_a_sample_has_the_same_probes_in_every_batch():
    x = law.points(40, 6)
    for probe in along.PROBES:
        many, few = (trace(curved, a, jax.random.key(5), 3, probe)[0] for a in (x, x[:5]))
        np.testing.assert_allclose(many[:5], few, rtol=1e-11)


@jax.jit
def wrong(x, level):
    return law.score(x, level) + jnp.sin(2 * x[:, ::-1]) * jnp.array([1.0, 0.3])


WRONG = law.denoiser_of(wrong)


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    ["score", *(pytest.param(k, marks=pytest.mark.slow) for k in ("potential", "continuity"))],
)
def test_estimated_residuals_have_the_exact_mean(kind):
    """One point 4,000 times, one normal probe each: within 3.5 standard errors."""
    x = jnp.broadcast_to(law.points(1), (N, 2))
    run = {
        "potential": lambda x, **o: diagnostics.potential_residual(
            VP, lambda x, level: 1.2 * law.log_density(x, level), x, 0.4, **o
        ),
        "score": lambda x, **o: diagnostics.score_residual(VP, WRONG, x, 0.4, **o),
        "continuity": lambda x, **o: diagnostics.continuity_residual(
            VP, WRONG, law.log_density, x, 0.4, **o
        ),
    }[kind]
    exact = run(x[:1])[0]
    found = np.asarray(run(x, key=jax.random.key(6), probe="normal"))
    error = found.std(0) / np.sqrt(N)
    assert np.all(error > 0)
    assert np.all(np.abs(found.mean(0) - exact) < 3.5 * error)


def test_two_estimates_take_the_noise_of_the_probes_out_of_the_variance():
    """R = x with unit noise: squares of one give 1 too much, the product of two does not.

    20,000 points: the covariance of two has the standard error sqrt(5 / 20,000) = 1.6 %.
    """
    rng = np.random.default_rng(7)
    residual = 2 + rng.normal(size=20_000)
    one, two = (residual + rng.normal(size=20_000) for _ in range(2))
    noisy, clean = diagnostics.spatial(one), diagnostics.spatial(one, two)
    assert noisy.variance == pytest.approx(2, rel=0.05)
    assert clean.variance == pytest.approx(1, abs=0.05)
    assert clean.mean_square == pytest.approx(5, abs=0.15)
    assert clean.constant == pytest.approx(2, abs=0.04)


def test_mistakes_are_refused():
    x = law.points()
    with pytest.raises(PersonError, match="at least 1 probe"):
        along.directions(curved, x, jax.random.key(0), 0)
    with pytest.raises(PersonError, match="a multiple of 3"):
        along.directions(curved, x, jax.random.key(0), 4, "hutch++")
    with pytest.raises(PersonError, match="chunk = 0"):
        derivatives.divergence_along(curved, x, along.directions(curved, x), 0)
