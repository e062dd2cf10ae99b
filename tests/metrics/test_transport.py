"""Entropic and exact transport: marginals, limits in eps, closed forms, and no overflow."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

from dfx import metrics
from dfx.errors import PersonError
from dfx.metrics import transport

pytestmark = pytest.mark.usefixtures("x64")

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(12, 2)), RNG.normal(size=(12, 2)) + 0.5
COST = np.sum((X[:, None] - Y) ** 2, -1)
MASSES = [m / m.sum() for m in RNG.uniform(0.5, 1.5, (2, 12))]


def by_hand(cost, eps, a, b, count):
    """The iteration on logarithms, in NumPy, from the same start: f, g after `count` turns."""
    g = (cost - cost.min(1, keepdims=True)).min(0)
    for _ in range(count):
        f = eps * (np.log(a) - logsumexp((g - cost) / eps, axis=1))
        g = eps * (np.log(b) - logsumexp((f[:, None] - cost) / eps, axis=0))
    return f, g


@pytest.mark.parametrize(("eps", "count"), [(0.5, 30), (0.05, 25), (1e-3, 20)])
def test_scalings_and_logarithms_are_one_iteration(eps, count):
    """The last eps leaves the range of scalings even in float64: costs reach 20,000 eps."""
    found = metrics.sinkhorn(COST, eps, *MASSES, num_iterations=count)
    f, g = by_hand(COST, eps, *MASSES, count)
    np.testing.assert_allclose(found.first, f, atol=1e-10)
    np.testing.assert_allclose(found.second, g, atol=1e-10)
    plan = np.exp((f[:, None] + g - COST) / eps)
    np.testing.assert_allclose(found.value, np.sum(plan * COST), rtol=1e-8)
    np.testing.assert_allclose(found.plan(COST, eps), plan, rtol=1e-5, atol=1e-12)
    assert found.iterations == count
    assert found.error == pytest.approx(np.abs(plan.sum(1) - MASSES[0]).sum(), abs=1e-9)


def test_the_plan_has_its_masses_and_the_tolerance_is_kept():
    found = metrics.sinkhorn(COST, 0.2, *MASSES, tolerance=1e-10, num_iterations=10_000)
    plan = np.asarray(found.plan(COST, 0.2))
    np.testing.assert_allclose(plan.sum(0), MASSES[1], rtol=1e-12)
    assert np.abs(plan.sum(1) - MASSES[0]).sum() == pytest.approx(float(found.error), abs=1e-13)
    assert found.error <= 1e-10 and found.iterations < 10_000
    short = metrics.sinkhorn(COST, 0.2, *MASSES, tolerance=1e-10, num_iterations=10)
    assert short.error > 1e-10 and short.iterations == 10


def test_much_entropy_couples_independently_and_little_is_the_exact_distance():
    """The plan is a b^T up to C / eps; at eps the value is within eps log n of the exact one."""
    far = metrics.sinkhorn(COST, 1e7, *MASSES)
    assert far.value == pytest.approx(MASSES[0] @ COST @ MASSES[1], rel=1e-5)
    exact = metrics.wasserstein_exact(X, Y) ** 2
    values = [
        float(metrics.sinkhorn(COST, eps, tolerance=1e-6, num_iterations=100_000).value) - exact
        for eps in (0.3, 0.1, 0.03)
    ]
    for eps, value in zip((0.3, 0.1, 0.03), values):
        # The marginals are off by 1e-6, which moves the value by that much of the largest cost.
        assert -1e-6 * COST.max() < value <= eps * np.log(12)
    assert values[0] > values[1] > values[2]


def test_two_normals_have_the_value_of_their_closed_form():
    """The plan is normal; exp(2 x y / eps) says cov / (A B - cov^2) = 2 / eps, so that

    cov = -eps / 4 + (eps^2 / 16 + A B)^(1/2) (Janati et al. 2020, in one dimension). The sums over
    a grid of step 0.15 are exact to exp(-2 (pi s / step)^2) with s = 0.5, and the tails to 1e-9.
    """
    eps, (m1, s1), (m2, s2) = 0.8, (0.0, 0.7), (0.4, 1.1)
    x, y = np.arange(-4.5, 4.5, 0.15), np.arange(-6.8, 7.6, 0.15)
    a, b = (np.exp(-((z - m) ** 2) / (2 * s**2)) for z, m, s in ((x, m1, s1), (y, m2, s2)))
    cost = (x[:, None] - y) ** 2
    found = metrics.sinkhorn(cost, eps, a / a.sum(), b / b.sum(), tolerance=1e-12)
    covariance = -eps / 4 + np.sqrt(eps**2 / 16 + (s1 * s2) ** 2)
    assert found.value == pytest.approx((m1 - m2) ** 2 + s1**2 + s2**2 - 2 * covariance, rel=1e-7)


def test_turning_the_cost_over_turns_the_plan():
    one = metrics.sinkhorn(COST, 0.3, *MASSES, tolerance=1e-12, num_iterations=5000)
    other = metrics.sinkhorn(COST.T, 0.3, *MASSES[::-1], tolerance=1e-12, num_iterations=5000)
    assert one.value == pytest.approx(float(other.value), rel=1e-10)
    np.testing.assert_allclose(one.plan(COST, 0.3), other.plan(COST.T, 0.3).T, atol=1e-11)


@pytest.mark.parametrize("eps", [10.0, 1e-2, 1e-5])
def test_no_eps_overflows_in_float32(eps):
    cost = jnp.asarray(COST, jnp.float32)
    found = metrics.sinkhorn(cost, eps)
    wide = metrics.sinkhorn(COST, eps)
    assert found.value.dtype == jnp.float32
    assert all(np.isfinite(np.asarray(part)).all() for part in found)
    # Rounding of the cost, 1e-7 of 20, counts in units of eps in the exponent.
    assert found.value == pytest.approx(float(wide.value), rel=max(1e-5, 1e-5 / eps))


def test_blocks_of_rows_do_not_change_the_scalings(monkeypatch):
    """Two rows at a time of eleven: the last block is filled up."""
    a = MASSES[0][1:] / MASSES[0][1:].sum()
    whole = metrics.sinkhorn(COST[1:], 0.2, a, MASSES[1], num_iterations=7)
    monkeypatch.setattr(transport, "ROWS", 2 * 12 * 8)
    call = lambda *a: transport._sinkhorn.__wrapped__(*a, 7, None)  # noqa: E731
    blocks = jax.jit(call)(*(jnp.asarray(v) for v in (COST[1:], 0.2, a, MASSES[1])))
    for one, other in zip(whole, blocks):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0])
def test_the_exact_distance_is_the_cheapest_permutation(p):
    x, y = X[:5], Y[:5]
    costs = np.linalg.norm(x[:, None] - y, axis=-1) ** p
    best = min(costs[np.arange(5), list(s)].mean() for s in itertools.permutations(range(5)))
    assert metrics.wasserstein_exact(x, y, p) == pytest.approx(best ** (1 / p), rel=1e-12)


def test_squared_distances_far_from_the_origin():
    """Float32 at a distance of 1,000: 1e-7 of squares of the size of the clouds, not of 1e6."""
    near = np.asarray(metrics.squared_distances(*(np.float32(z + 1000) for z in (X, Y))))
    exact = np.sum((np.float32(X + 1000)[:, None] - np.float32(Y + 1000)).astype(float) ** 2, -1)
    np.testing.assert_allclose(near, exact, atol=1e-4)


def test_products_keep_the_digits_of_float32_on_every_device():
    """Accelerators round the factors of a product to 10 or 8 bits unless it asks for all."""
    x, y = np.float32(X), np.float32(Y)
    plan = lambda x, y: metrics.sinkhorn(metrics.squared_distances(x, y), 1.0).value  # noqa: E731
    program = str(jax.make_jaxpr(plan)(x, y))
    assert program.count("dot_general[") == program.count("precision=(Precision.HIGHEST") > 2


def test_impossible_transports_are_named():
    with pytest.raises(PersonError, match="eps = 0: must be positive"):
        metrics.sinkhorn(COST, 0)
    with pytest.raises(PersonError, match=r"b: shape \(3,\): the cost needs \(12,\)"):
        metrics.sinkhorn(COST, 1.0, b=np.ones(3))
    for masses in (np.ones(12), np.eye(12)[0], np.full(12, np.nan)):
        with pytest.raises(PersonError, match="b: the masses must be positive, with the sum 1"):
            metrics.sinkhorn(COST, 1.0, b=masses)
    with pytest.raises(PersonError, match=r"need floating \(n, m\)"):
        metrics.sinkhorn(COST[0], 1.0)
    with pytest.raises(PersonError, match="num_iterations = 0"):
        metrics.sinkhorn(COST, 1.0, num_iterations=0)
    with pytest.raises(PersonError, match="need one shape"):
        metrics.wasserstein_exact(X, Y[:3])
