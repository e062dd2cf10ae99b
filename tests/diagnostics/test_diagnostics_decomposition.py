"""Orthogonal splits against constructed cases: a known gradient plus a known gauge field."""

import diagnostics_laws as law
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dfx import diagnostics, schedules
from dfx.errors import PersonError

pytestmark = pytest.mark.usefixtures("x64")

VP = schedules.VPLinear(0.5, 4.0)
LEVEL = VP.at(0.4)
COVARIANCE = np.array([[2.0, 0.7], [0.7, 0.5]])
B = np.array([[0.3, 1.1], [-0.6, 0.8]])
GAUGE = diagnostics.rotated(law.field, np.array([[0.0, 0.8], [-0.8, 0.0]]))


def random_case(d=5, seed=0):
    rng = np.random.default_rng(seed)
    root, b = rng.normal(size=(2, d, d))
    return b, root @ root.T + 0.1 * np.eye(d)


def test_the_linear_split_solves_the_lyapunov_equation_and_pythagoras_holds():
    b, c = random_case()
    found = diagnostics.split_linear(b, c)
    inverse, s, r = np.linalg.inv(c), np.asarray(found.gradient), np.asarray(found.remainder)
    right = inverse @ b + b.T @ inverse
    np.testing.assert_allclose(inverse @ s + s @ inverse, right, rtol=1e-10, atol=1e-11)
    np.testing.assert_allclose(s, s.T, atol=1e-13)
    np.testing.assert_allclose([np.trace(r), *(inverse @ r + r.T @ inverse).ravel()], 0, atol=1e-11)
    parts = found.parts
    assert abs(parts.total - parts.gradient - parts.remainder) < 1e-14 * parts.total * 10
    assert abs(parts.inner) < 1e-14 * parts.total * 10
    np.testing.assert_allclose(parts.total, np.trace(b.T @ b @ c), rtol=1e-13)


def test_a_known_gradient_and_a_known_gauge_are_found_again():
    """S symmetric, and A C^-1 with A antisymmetric, the rotation along the ellipses."""
    b, c = random_case(seed=1)
    s, a = b + b.T, b - b.T
    found = diagnostics.split_linear(s + a @ np.linalg.inv(c), c)
    np.testing.assert_allclose(found.gradient, s, rtol=1e-10, atol=1e-11)


def test_symmetric_and_antisymmetric_parts_are_orthogonal_for_round_laws_only():
    """E<sym x, antisym x> = tr(sym antisym C): not zero under C = [[2, .7], [.7, .5]]."""
    sym, anti = 0.5 * (B + B.T), 0.5 * (B - B.T)
    assert np.trace(sym @ anti) == pytest.approx(0, abs=1e-15)
    off = np.trace(sym.T @ anti @ COVARIANCE)
    # w = B_12 antisymmetric, sym = [[p, q], [q, r]]: w (c11 - c22) q ... by hand
    p, q, r, w = sym[0, 0], sym[0, 1], sym[1, 1], anti[0, 1]
    by_hand = w * (p * 0.7 - q * 2.0 + q * 0.5 - r * 0.7)
    assert off == pytest.approx(by_hand) and abs(off) > 0.3
    plain = diagnostics.split_linear(B, np.eye(2))
    np.testing.assert_allclose(plain.gradient, sym, atol=1e-15)
    skewed = diagnostics.split_linear(B, COVARIANCE)
    assert np.abs(skewed.gradient - sym).max() > 0.1
    assert abs(skewed.parts.inner) < 1e-15 * 10


def test_the_linear_split_runs_under_vmap_and_jit():
    cases = [random_case(3, seed) for seed in range(4)]
    stacked = [jnp.stack(a) for a in zip(*cases)]
    together = jax.jit(jax.vmap(diagnostics.split_linear))(*stacked)
    alone = diagnostics.split_linear(*cases[2])
    np.testing.assert_allclose(together.gradient[2], alone.gradient, rtol=1e-11)


def known(x):
    """A gradient, grad u, and a gauge field of the two modes."""
    return jax.grad(lambda x: jnp.sum(u(x)))(x), GAUGE(x, LEVEL)


def u(x):
    return jnp.sin(x[:, 0]) * x[:, 1] - 0.3 * x[:, 0] ** 2


@jax.jit
def whole(x):
    return sum(known(x))


def density(x):
    return law.log_density(x, LEVEL)


def grid(n):
    return [np.linspace(-5.5, 5.5, n + 1), np.linspace(-5, 5.5, n + 1)]


@pytest.fixture(scope="module")
def splits():
    with jax.enable_x64(True):
        return [diagnostics.split_on_grid(whole, density, grid(n)) for n in (40, 80)]


def test_the_grid_split_is_orthogonal_to_rounding_on_every_grid(splits):
    for split in splits:
        parts = split.parts
        assert abs(parts.inner) < 1e-12 * parts.total
        assert parts.total == pytest.approx(parts.gradient + parts.remainder, rel=1e-12)


def test_the_grid_split_finds_the_potential_with_order_two(splits):
    """Weighted by p, against u with its mean taken off; errors fall by 4 at half the cell."""
    errors = []
    for split in splits:
        mesh = np.meshgrid(*split.centres, indexing="ij")
        exact = np.asarray(u(np.stack([m.ravel() for m in mesh], 1))).reshape(mesh[0].shape)
        off = split.potential - exact
        off -= np.sum(off * split.density)
        errors.append(np.sqrt(np.sum(off**2 * split.density)))
    assert errors[1] < 0.01
    assert np.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.2)


def test_the_norms_on_the_grid_are_those_of_the_parts(splits):
    """Against means over 40,000 draws of p, in 3.5 standard errors, and 0.5 % of the grid."""
    x = law.samples(LEVEL, 40_000)
    for part, name in zip(known(x), ("gradient", "remainder")):
        squares = np.sum(np.asarray(part) ** 2, 1)
        allowed = 3.5 * squares.std() / 200 + 0.005 * squares.mean()
        assert abs(getattr(splits[1].parts, name) - squares.mean()) < allowed


def test_in_one_dimension_every_field_is_a_gradient():
    """r = 0, and phi is the integral: of cos it is sin, to the square of the cell."""
    edges = [np.linspace(-4, 4, 161)]
    split = diagnostics.split_on_grid(np.cos, lambda x: -0.5 * x[:, 0] ** 2, edges)
    np.testing.assert_allclose(split.remainder[0], 0, atol=1e-10)
    exact = np.sin(split.centres[0])
    exact -= np.sum(exact * split.density)
    np.testing.assert_allclose(split.potential, exact, atol=0.05**2)


def test_uneven_cells_and_a_linear_field():
    """A normal law and B x on cells that grow outwards: the Lyapunov solution, 1 % at this grid."""
    half = np.sinh(np.linspace(0, 1.6, 36)) * 6 / np.sinh(1.6)
    edges = np.concatenate([-half[:0:-1], half])
    inverse = np.linalg.inv(COVARIANCE / 2)
    split = diagnostics.split_on_grid(
        lambda x: x @ B.T, lambda x: -0.5 * np.einsum("na,ab,nb->n", x, inverse, x), [edges, edges]
    )
    exact = diagnostics.split_linear(B, COVARIANCE / 2).parts
    for name in ("total", "gradient", "remainder"):
        assert getattr(split.parts, name) == pytest.approx(float(getattr(exact, name)), rel=0.01)


def test_mistakes_are_refused():
    with pytest.raises(PersonError, match="two matrices"):
        diagnostics.split_linear(B, np.eye(3))
    with pytest.raises(PersonError, match="positive eigenvalues"):
        diagnostics.split_linear(B, -np.eye(2))
    with pytest.raises(PersonError, match="knows 1 and 2"):
        diagnostics.split_on_grid(whole, density, [np.arange(4)] * 3)
    with pytest.raises(PersonError, match="must rise"):
        diagnostics.split_on_grid(whole, density, [np.arange(4), np.arange(4)[::-1]])
