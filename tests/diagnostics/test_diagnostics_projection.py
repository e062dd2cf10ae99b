"""The split from samples and the weak gauge test, against a known gradient and a known gauge."""

import diagnostics_laws as law
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dfx import diagnostics, schedules
from dfx.errors import PersonError

pytestmark = pytest.mark.usefixtures("x64")

LEVEL = schedules.VPLinear(0.5, 4.0).at(0.4)
GAUGE = diagnostics.rotated(law.field, np.array([[0.0, 0.8], [-0.8, 0.0]]))
FEATURES = diagnostics.joined(
    diagnostics.quadratic,
    diagnostics.radial(np.stack(np.meshgrid(*[np.linspace(-2, 2, 5)] * 2), -1).reshape(-1, 2), 1.0),
)


@jax.jit
def u(x):
    return jnp.sin(x[:, 0]) * x[:, 1] - 0.3 * x[:, 0] ** 2


@jax.jit
def of_samples(x):
    return jax.grad(lambda x: jnp.sum(u(x)))(x), GAUGE(x, LEVEL)


def samples(n, seed):
    x = law.samples(LEVEL, n, seed)
    return x, *of_samples(x)


@pytest.mark.slow
def test_a_gradient_of_the_features_is_found_exactly():
    """Without ridge, from any points; the value differs by a constant."""
    c = np.random.default_rng(0).normal(size=5)
    x = law.points(200)
    exact = lambda x: jnp.sum(diagnostics.quadratic(x) @ c)  # noqa: E731
    phi = diagnostics.project(diagnostics.quadratic, x, jax.grad(exact)(x), ridge=0.0)
    np.testing.assert_allclose(phi.coefficients, c, rtol=1e-9)
    np.testing.assert_allclose(phi(x), jax.grad(exact)(x), rtol=1e-9, atol=1e-10)


@pytest.mark.slow
def test_on_whitened_points_the_linear_split_comes_out():
    """Points whose covariance is exactly C: the Lyapunov solution to rounding."""
    rng = np.random.default_rng(1)
    b, root = rng.normal(size=(2, 3, 3))
    q = np.linalg.qr(rng.normal(size=(400, 4)) + np.array([1.0, 0, 0, 0]))[0]
    q = np.linalg.qr(np.concatenate([np.ones((400, 1)), q[:, 1:]], 1))[0][:, 1:]
    x = jnp.asarray(np.sqrt(400) * q @ root.T)
    exact = diagnostics.split_linear(b, root @ root.T)
    phi = diagnostics.project(diagnostics.quadratic, x, x @ b.T, ridge=0.0)
    np.testing.assert_allclose(phi(x), x @ exact.gradient.T, rtol=1e-8, atol=1e-8)
    parts = diagnostics.parts(phi, x, x @ b.T)
    np.testing.assert_allclose(parts.remainder, exact.parts.remainder, rtol=1e-9)


@pytest.mark.slow
def test_a_known_gradient_and_a_known_gauge_are_told_apart_on_fresh_samples():
    """Fit on 4,000, judged on 4,000. The features miss 0.04 of E|grad u|^2 = 1.27; the noise of the
    fit is about 30 features over 4,000 samples of E|r|^2 = 1.62.
    """
    x, gradient, gauge = samples(4000, 0)
    phi = diagnostics.project(FEATURES, x, gradient + gauge)
    x, gradient, gauge = samples(4000, 1)
    off = phi(x) - gradient
    size = np.sum(gauge**2, 1).mean()
    assert np.sum(off**2, 1).mean() < 0.06
    found = diagnostics.parts(phi, x, gradient + gauge)
    assert abs(found.inner) < 3.5 * found.inner_error + 0.02 * size
    np.testing.assert_allclose(found.remainder, size, rtol=0.05)
    whole = found.gradient + found.remainder + 2 * found.inner
    np.testing.assert_allclose(found.total, whole, rtol=1e-12)


def test_a_fit_is_the_solution_of_its_equations_in_blocks_that_do_not_divide():
    """G c + ridge (mean of the diagonal of G) c = b; 20 samples in three blocks of eight."""
    x, width = law.points(20), 1.5
    waves = diagnostics.fourier(jax.random.key(0), 2, 6, width, jnp.float64)
    w, phases = np.asarray(waves.frequencies), np.asarray(waves.phases)
    s = np.random.default_rng(1).normal(size=(20, 2))
    # Gradients of cos(w . x + b) / |w|, those of all samples and coordinates one below the other.
    slopes = -np.sin(x @ w.T + phases)[:, None] * (w / np.linalg.norm(w, axis=1)[:, None]).T
    rows = slopes.reshape(40, 6)
    for ridge in (0.0, 0.1):
        g = rows.T @ rows
        g += ridge * np.mean(np.diag(g)) * np.eye(6)
        phi = diagnostics.project(waves, x, s, ridge, batch=8)
        np.testing.assert_allclose(phi.coefficients, np.linalg.solve(g, rows.T @ s.ravel()), 1e-9)
    many = diagnostics.fourier(jax.random.key(1), 2, 1000, width, jnp.float64)
    # A standard deviation of 2,000 numbers is known to 1.6 %, the ends of 1,000 phases to 0.7 %.
    assert np.std(many.frequencies) == pytest.approx(1 / width, rel=0.05)
    np.testing.assert_allclose([many.phases.min(), many.phases.max()], [0, 2 * np.pi], atol=0.05)


def test_parts_are_means_of_products_with_the_error_of_the_last():
    x, s = np.random.default_rng(2).normal(size=(2, 7, 2))
    found = diagnostics.parts(lambda x: 0.5 * x, x, s)
    r, inner = s - 0.5 * x, np.sum(0.5 * x * (s - 0.5 * x), 1)
    squares = [np.mean(np.sum(a**2, 1)) for a in (s, 0.5 * x, r)]
    expected = *squares, inner.mean(), inner.std(ddof=1) / np.sqrt(7)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.slow
def test_waves_and_blocks_that_do_not_divide():
    """The last block is filled up with samples of weight zero."""
    x, gradient, _ = samples(500, 2)
    waves = diagnostics.fourier(jax.random.key(0), 2, 40, 1.5, jnp.float64)
    fits = [diagnostics.project(waves, x, gradient, 1e-6, batch) for batch in (500, 64)]
    # The ridge bounds the condition number by 1e6 m: ten digits are left of sixteen.
    np.testing.assert_allclose(fits[0](x), fits[1](x), rtol=1e-6, atol=1e-7)
    slopes = jax.vmap(jax.jacfwd(lambda x: waves(x[None])[0]))(x)
    sizes = np.sqrt(np.mean(np.sum(slopes**2, -1), 0))
    assert sizes.min() > 0.2 and sizes.max() <= 1


@pytest.mark.slow
def test_the_weak_test_holds_its_level_under_a_gauge_error():
    """200 sets of 500 samples, exact score plus gauge: p-values uniform.

    The share below 0.1 has the standard error 0.021; Stein terms are not quite normal.
    """
    features = diagnostics.radial(np.array([[0.5, 0.2], [-0.6, 0.5], [0.0, 1.5]]), 1.0)

    def p_value(x):
        return diagnostics.weak_gauge_test(
            features, x, law.score(x, LEVEL) + GAUGE(x, LEVEL)
        ).p_value

    x = law.samples(LEVEL, 200 * 500).reshape(200, 500, 2)
    p = np.asarray(jax.jit(jax.vmap(p_value))(x))
    assert abs(np.mean(p < 0.1) - 0.1) < 3.5 * 0.021
    assert abs(p.mean() - 0.5) < 3.5 * np.sqrt(1 / 12 / 200)


@pytest.mark.slow
def test_the_weak_test_finds_a_gradient_and_its_mean_is_the_inner_product():
    """mean_k = E[grad psi_k . grad u]; 8,000 samples."""
    features = diagnostics.radial(np.array([[0.5, 0.2], [-0.6, 0.5]]), 1.0)
    x, gradient, gauge = samples(8000, 3)
    exact = law.score(x, LEVEL)
    clean = diagnostics.weak_gauge_test(features, x, exact + 3 * gauge)
    assert clean.p_value > 1e-3 and clean.rank == 2
    found = diagnostics.weak_gauge_test(features, x, exact + 0.5 * gradient)
    assert found.p_value < 1e-6
    slopes = jax.vmap(jax.jacfwd(lambda x: features(x[None])[0]))(x)
    expected = 0.5 * np.einsum("nka,na->k", slopes, gradient) / 8000
    assert np.all(np.abs(found.mean - expected) < 3.5 * found.standard_error)


def test_the_statistic_is_hotellings_and_its_upper_tail_that_of_the_f_law():
    """Bumps psi = w exp(-|x - c|^2 / (2 w^2)): grad psi . s + Lap psi by hand."""
    from scipy import stats

    centres, width = np.array([[0.5, 0.2], [-0.6, 0.5]]), 0.8
    features = diagnostics.radial(centres, width)
    x, gradient, _ = samples(60, 4)
    s = law.score(x, LEVEL) + 0.2 * gradient
    found = diagnostics.weak_gauge_test(features, x, s)
    n, m = 60, 2
    off = np.asarray(x)[:, None] - centres
    squares = np.sum(off**2, -1) / width**2
    psi = width * np.exp(-squares / 2)
    terms = psi / width**2 * (squares - 2 - np.einsum("nka,na->nk", off, s))
    mean, covariance = terms.mean(0), np.cov(terms, rowvar=False)
    np.testing.assert_allclose(found.mean, mean, rtol=1e-10)
    np.testing.assert_allclose(found.standard_error, np.sqrt(np.diag(covariance) / n), rtol=1e-10)
    np.testing.assert_allclose(
        found.statistic, n * mean @ np.linalg.solve(covariance, mean), rtol=1e-9
    )
    expected = stats.f.sf((n - m) / (m * (n - 1)) * found.statistic, m, n - m)
    np.testing.assert_allclose(found.p_value, expected, rtol=1e-9)


def test_a_term_without_spread_fails_for_certain_or_says_nothing():
    """grad x_k . s = s_k: the constant 0.1 is no score plus gauge, the constant 0 may be one."""
    x = law.samples(LEVEL, 30, 5)
    identity = lambda x: x  # noqa: E731
    wrong = diagnostics.weak_gauge_test(identity, x, jnp.full_like(x, 0.1))
    assert (wrong.p_value, wrong.statistic, wrong.rank) == (0, np.inf, 0)
    half = diagnostics.weak_gauge_test(identity, x, x * jnp.array([1.0, 0.0]))
    assert half.rank == 1 and half.p_value > 1e-3


@pytest.mark.slow
def test_features_that_repeat_count_once():
    features = diagnostics.radial(np.array([[0.5, 0.2], [-0.6, 0.5]]), 1.0)
    x, gradient, _ = samples(60, 4)
    values = law.score(x, LEVEL) + 0.2 * gradient
    once, twice = (
        diagnostics.weak_gauge_test(family, x, values)
        for family in (features, diagnostics.joined(features, features))
    )
    assert twice.rank == 2
    np.testing.assert_allclose(twice.p_value, once.p_value, rtol=1e-6)


@pytest.mark.slow
def test_float32_projects_too():
    x, gradient, gauge = (a.astype(jnp.float32) for a in samples(4000, 0))
    phi = diagnostics.project(FEATURES, x, gradient + gauge, ridge=1e-5)
    assert phi(x).dtype == jnp.float32
    exact = diagnostics.project(
        FEATURES, *(a.astype(jnp.float64) for a in (x, gradient + gauge)), ridge=1e-5
    )
    # A condition number of 1e5 m in float32 costs the coefficients their digits, not the field.
    gap = phi(x) - exact(x.astype(jnp.float64))
    assert np.mean(np.square(gap)) < 1e-3 * np.mean(np.square(exact(x.astype(jnp.float64))))


def test_mistakes_are_refused():
    with pytest.raises(PersonError, match="twice the same"):
        diagnostics.project(diagnostics.quadratic, law.points(), law.points(5))
    with pytest.raises(PersonError, match="4 samples for 5 features"):
        diagnostics.weak_gauge_test(diagnostics.quadratic, law.points(4), law.points(4))
    with pytest.raises(PersonError, match="must not be negative"):
        diagnostics.project(diagnostics.quadratic, law.points(), law.points(), ridge=-1.0)
    with pytest.raises(PersonError, match="at least 1"):
        diagnostics.fourier(jax.random.key(0), 2, 0)
