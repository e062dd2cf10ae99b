"""Transport along flows: order, the continuity equation, quantiles of laws and their distances."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from evolution_by_hand import (
    MIXTURE,
    OU,
    eta,
    log_prob,
    normal,
    potential,
    residual,
    slope,
    wrong_field,
)
from scipy.stats import norm

from dfx import evolution, fields, schedules
from dfx.blocks import by_blocks
from dfx.errors import PersonError
from dfx.targets import Mixture

pytestmark = pytest.mark.usefixtures("x64")

NODES = evolution.normal_nodes(401)

SCHEDULES = [schedules.VPLinear(0.1, 8.0), schedules.EDM(2.0), schedules.VPCosine()]


def times(schedule, steps, start=0.9, end=0.02):
    return schedule.end_time * np.linspace(start**0.5, end**0.5, steps + 1) ** 2


@pytest.mark.parametrize(("method", "order"), [("midpoint", 2), ("rk4", 4)])
def test_the_flow_of_a_linear_score_has_the_stated_order(method, order):
    """x_end / x_start = (V_end / V_start)^1/2 of the closed form, lam = 0, e = 0.2."""
    schedule = OU()
    law = evolution.linear_law(schedule, 0.3, 0.2, 0.0, 2.0, 0.1)
    flow = evolution.reverse(schedule, evolution.linear_field(0.3, 0.2), 0.0)

    def error(n):
        end = evolution.move(flow, np.ones((1, 1), int), np.linspace(2.0, 0.1, n + 1), method)
        return abs(float(end[0, 0]) - law.gain)

    assert abs(slope([error(n) for n in (20, 40)]) - order) < 0.35


@pytest.mark.slow
@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
def test_the_flow_takes_quantiles_to_quantiles_and_its_density_to_the_density(schedule):
    """Exact score: p_t is carried to p_s. 200 steps of order 4 leave 1e-6."""
    grid = times(schedule, 200)
    top, low = schedule.at(grid[0]), schedule.at(grid[-1])
    flow = evolution.reverse(schedule, fields.oracle(MIXTURE), 0.0)
    x = jnp.asarray(evolution.mixture_quantiles(MIXTURE, top, NODES))[:, None]
    end, change = evolution.move_with_density(flow, x, grid)
    np.testing.assert_allclose(
        end[:, 0], evolution.mixture_quantiles(MIXTURE, low, NODES), atol=3e-6
    )
    log_density = log_prob(MIXTURE, x, top) + change
    np.testing.assert_allclose(log_density, log_prob(MIXTURE, end, low), atol=1e-4)
    back = evolution.carried_log_density(flow, end, grid, lambda x: log_prob(MIXTURE, x, top))
    np.testing.assert_allclose(back, log_density, atol=1e-4)


@pytest.mark.slow
def test_the_log_density_of_the_ode_is_the_potential_and_the_residual_along_the_path():
    """log p_ODE(x, t) = phi(x, t) + w_T(x_T) + int_t^T R(x_s, s) ds, w = log p_ODE - phi."""
    schedule, error = OU(), 0.3
    grid = np.linspace(2.0, 0.05, 201)
    top, low = schedule.at(2.0), schedule.at(0.05)
    flow = evolution.reverse(schedule, wrong_field(error), 0.0)
    start = normal([0.0], 0.5)
    x = jnp.linspace(-2, 2, 21)[:, None]
    got = evolution.carried_log_density(flow, x, grid, start)

    def with_residual(state, t):
        x = state[:, :1]
        return jnp.hstack([flow.drift(x, t), residual(x, schedule.at(t), error)[:, None]])

    state = jnp.hstack([x, jnp.zeros_like(x)])
    end = evolution.move(evolution.given(with_residual), state, grid[::-1])
    x_end = end[:, :1]
    expected = potential(x, low, error) + start(x_end) - potential(x_end, top, error) + end[:, 1]
    np.testing.assert_allclose(got, expected, atol=1e-6)  # both are of order 4, 200 steps


def test_the_bump_has_the_derivatives_it_claims():
    x = jnp.linspace(-2, 2, 9)
    first = jax.vmap(jax.grad(lambda x: eta(x)[0]))(x)
    second = jax.vmap(jax.grad(lambda x: eta(x)[1]))(x)
    np.testing.assert_allclose((first, second), eta(x)[1:], atol=1e-13)


def turned(x, level):
    """The exact score and a rotation of it: e = c A s has div(p e) = 0 for the exact law."""
    score = PLANE.score(x, level)
    return score + 1.5 * jnp.stack([-score[:, 1], score[:, 0]], -1)


PLANE = Mixture.isotropic([[-0.8, 0.2], [0.7, 0.5]], [0.5, 0.35])
TURNED = fields.from_function(turned, "score")


def turned_run(steps):
    """Times, the law at the first and the law at the last."""
    schedule = schedules.VPLinear(0.1, 8.0)
    grid = times(schedule, steps, 0.6, 0.01)
    laws = [lambda x, t=t: log_prob(PLANE, x, schedule.at(t)) for t in (grid[0], grid[-1])]
    return schedule, grid, *laws


@pytest.mark.slow
def test_an_error_that_only_circulates_leaves_the_law_of_the_ode():
    """div(p e) = 0 at all t. 60 steps of order 4 leave 1e-5."""
    schedule, grid, start, end = turned_run(60)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(40, 2)))
    flow = evolution.reverse(schedule, TURNED, 0.0)
    got = evolution.carried_log_density(flow, x, grid, start)
    np.testing.assert_allclose(got, end(x), atol=1e-4)


@pytest.mark.slow
def test_an_error_that_only_circulates_leaves_the_law_of_the_sde():
    """On a grid of order 2: a law that is off by 1 % with the error as without it."""
    schedule, grid, start, end = turned_run(60)
    box = evolution.make_grid([-4.5, -4.5], [4.5, 4.5], [90, 90])
    law = evolution.sde_law(schedule, TURNED, box, grid, start=start)
    distance = jnp.sum(jnp.abs(law - evolution.on_grid(end, box))) * box.volume
    assert float(distance) < 0.02


@pytest.mark.parametrize("make", [Mixture.isotropic, Mixture.diagonal])
def test_quantiles_of_a_mixture_invert_its_distribution_function_in_both_tails(make):
    level, means, std, weights = OU().at(0.2), [-1.0, 0.7], np.array([0.3, 0.5]), [0.2, 0.8]
    widths = std if make == Mixture.isotropic else std[:, None] ** 2
    x = evolution.mixture_quantiles(make(np.c_[means], widths, weights), level, NODES)
    mean, std = level.alpha * np.array(means), np.sqrt(level.alpha**2 * std**2 + level.sigma**2)
    lower, upper = (tail(x[:, None], mean, std) @ weights for tail in (norm.cdf, norm.sf))
    np.testing.assert_allclose(
        np.where(NODES.z < 0, lower, upper), norm.sf(np.abs(NODES.z)), rtol=1e-10
    )


def test_quantiles_of_a_grid_are_exact_at_cell_borders():
    grid = evolution.make_grid(-9, 9, 120)
    edges = grid.edges(0)
    p = np.diff(norm.cdf(edges, 0.0, 1.0))
    np.testing.assert_allclose(
        evolution.grid_quantiles(grid, p, NODES)[np.abs(NODES.z) < 6],
        NODES.z[np.abs(NODES.z) < 6], atol=1e-6,
    )  # fmt: skip


def test_wasserstein_of_two_gaussians_is_that_of_mean_and_spread():
    x, y = 0.3 + 0.5 * NODES.z, -0.2 + 1.3 * NODES.z
    expected = np.hypot(0.5, 0.8)
    np.testing.assert_allclose(evolution.wasserstein(x, y, NODES), expected, rtol=1e-12)
    assert evolution.wasserstein(x, x + 0.7, NODES, 1.0) == pytest.approx(0.7, rel=1e-12)


def test_blocks_of_points_give_the_same_as_all_at_once():
    x = jnp.linspace(-1, 1, 7)[:, None]
    got = by_blocks(lambda x: (x**2, x[:, 0]), x, 3)
    np.testing.assert_allclose(got[0], x**2)
    np.testing.assert_allclose(got[1], x[:, 0])


def test_bad_input_is_one_clear_line():
    flow = evolution.reverse(OU(), fields.oracle(MIXTURE), 0.0)
    noisy = evolution.reverse(OU(), fields.oracle(MIXTURE), 1.0)
    x = jnp.ones((2, 1))
    with pytest.raises(PersonError, match="only a flow"):
        evolution.move(noisy, x, [1.0, 0.5])
    with pytest.raises(PersonError, match="rk4"):
        evolution.move(flow, x, [1.0, 0.5], "rk5")
    with pytest.raises(PersonError, match="one dimension"):
        evolution.mixture_quantiles(PLANE, OU().at(0.1), NODES)
    with pytest.raises(PersonError, match="401 nodes"):
        evolution.wasserstein(np.ones(3), np.ones(3), NODES)
    with pytest.raises(PersonError, match="nodes"):
        evolution.normal_nodes(2)
