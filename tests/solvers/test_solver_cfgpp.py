"""CFG++: its formulas by hand, what it is without guidance, and which guidance it is."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from solver_by_hand import levels

from dfx import fields, schedules, solvers
from dfx.errors import PersonError

#: Float64 rounding over some tens of rows.
ROUNDING = 1e-12

pytestmark = pytest.mark.usefixtures("x64")

SCHEDULES = {
    "vp_linear": schedules.VPLinear(),
    "edm": schedules.EDM(80.0),
    "rectified_linear": schedules.RectifiedLinear(),
}


def grid_of(schedule, n=9, to_data=True, start=0.95):
    return np.linspace(start, 0.0 if to_data else 0.2, n + 1) ** 2 * schedule.end_time


def starts(n=4, d=3, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


def of(xp):
    """A conditional and an unconditional field, in NumPy or JAX."""

    def conditional(x, level):
        return xp.sin(1.3 * x) * level.alpha + 0.2 * x * level.sigma + 0.1

    def unconditional(x, level):
        return xp.cos(x) * level.alpha - 0.1 * x * level.sigma

    return conditional, unconditional


CONDITIONAL, UNCONDITIONAL = of(jnp)


def run(tableau, field, x):
    return np.asarray(solvers.sample(tableau, field, jnp.asarray(x)))


def check(got, expected):
    np.testing.assert_allclose(got, expected, rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize("to_data", [True, False])
@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("name", SCHEDULES)
def test_the_sampler_is_its_formula_in_x_over_alpha(name, order, to_data):
    """x' = D + e^-h (x - D_u) and, for 2M with r = h_old / h,
    x' = D - e^-h D_u - (e^-h - 1) (D - old) / (2 r) + e^-h x; a step to sigma = 0 and the first are
    of the first kind."""
    schedule, lam = SCHEDULES[name], 0.6
    conditional, unconditional = of(np)
    at = levels(schedule, grid_of(schedule, to_data=to_data))
    big, old, h_old = starts() / at[0].alpha, None, None
    for s, t in itertools.pairwise(at):
        x, noise, after = s.alpha * big, s.sigma / s.alpha, t.sigma / t.alpha
        plain = unconditional(x, s)
        guided = plain + lam * (conditional(x, s) - plain)
        big_next = guided + after / noise * (big - plain)
        if order == 2 and old is not None and after > 0:
            h = np.log(noise) - np.log(after)
            big_next = guided - np.exp(-h) * plain + np.exp(-h) * big
            big_next = big_next - (np.exp(-h) - 1) * (guided - old) / (2 * h_old / h)
        h_old = np.log(noise) - np.log(after) if after > 0 else None
        big, old = big_next, plain
    tableau = solvers.cfgpp(schedule, grid_of(schedule, to_data=to_data), order)
    field = fields.cfg_plus_plus(CONDITIONAL, UNCONDITIONAL, lam)
    check(run(tableau, field, starts()), at[-1].alpha * big)
    assert tableau.lanes == order and tableau.num_rows == 9


@pytest.mark.parametrize("name", SCHEDULES)
def test_without_guidance_it_is_ddim(name):
    """With weight 0, and with two equal fields at any weight."""
    grid = grid_of(SCHEDULES[name])
    tableau = solvers.cfgpp(SCHEDULES[name], grid)
    ddim = solvers.ddim(SCHEDULES[name], grid)
    zero = fields.cfg_plus_plus(CONDITIONAL, UNCONDITIONAL, 0.0)
    check(run(tableau, zero, starts()), run(ddim, UNCONDITIONAL, starts()))
    same = fields.cfg_plus_plus(CONDITIONAL, CONDITIONAL, 0.6)
    check(run(tableau, same, starts()), run(ddim, CONDITIONAL, starts()))


def test_order_two_has_the_order_two_without_guidance(gaussian, half_log_snr_grid, slope):
    """On a Gaussian in 40 to 160 steps of half log-SNR, and order one for the first kind."""
    schedule, steps = SCHEDULES["vp_linear"], [40, 80, 160]
    field = fields.cfg_plus_plus(gaussian, gaussian, 0.6)
    for order in (1, 2):
        found = []
        for n in steps:
            grid = half_log_snr_grid(schedule, n)
            s, t = schedule.at(grid[0]), schedule.at(grid[-1])
            x = s.alpha * gaussian.mean + np.sqrt(gaussian.marginal_variance(s)) * starts(8, 2)
            end = run(solvers.cfgpp(schedule, grid, order), field, x)
            found.append(np.abs(end - gaussian.flow(x, s, t)).mean())
        assert abs(slope(steps, found) - order) < 0.15


def test_it_is_classifier_free_guidance_whose_weight_grows_as_steps_shrink():
    """On a geometric grid of ratio q it is DDIM with the constant weight w / (1 - q)."""
    edm, lam, x = SCHEDULES["edm"], 0.3, starts()
    for n in (8, 16):
        grid = np.geomspace(5.0, 0.05, n + 1)
        weight = lam / (1 - grid[1] / grid[0])
        free = fields.classifier_free(CONDITIONAL, UNCONDITIONAL, weight)
        expected = run(solvers.ddim(edm, grid), free, x)
        plus = fields.cfg_plus_plus(CONDITIONAL, UNCONDITIONAL, lam)
        check(run(solvers.cfgpp(edm, grid), plus, x), expected)


@pytest.mark.parametrize("order", [1, 2])
def test_tokens_with_times_of_their_own_go_their_own_way(order):
    """The second token waits three rows, then takes the steps of the first; both end clean."""
    schedule = SCHEDULES["rectified_linear"]
    times = np.linspace(1.0, 0.0, 6)
    first = np.concatenate([times, np.zeros(3)])
    second = np.concatenate([np.ones(3), times])
    grid = np.stack([first, second], axis=1)[:, :, None]
    x = starts(4, 2).reshape(4, 2, 1)
    both = fields.cfg_plus_plus(CONDITIONAL, UNCONDITIONAL, 0.4)
    tableau = solvers.cfgpp(schedule, grid, order)
    for number in (0, 1):
        alone = run(solvers.cfgpp(schedule, times, order), both, x[:, number])
        check(run(tableau, both, x)[:, number], alone)


@pytest.mark.slow
def test_the_coefficients_are_differentiable_in_the_grid():
    schedule, x = SCHEDULES["rectified_linear"], jnp.asarray(starts())
    both = fields.cfg_plus_plus(CONDITIONAL, UNCONDITIONAL, 0.4)

    def end(grid):
        return jnp.sum(solvers.sample(solvers.cfgpp(schedule, grid, 2), both, x) ** 2)

    grid = jnp.linspace(0.9, 0.0, 5)  # a traced grid counts as one that ends in clean data
    slope, step = jax.grad(end)(grid), 1e-5
    bump = jnp.zeros(5).at[2].set(step)
    central = (end(grid + bump) - end(grid - bump)) / (2 * step)
    np.testing.assert_allclose(slope[2], central, rtol=1e-6)  # step^2 and rounding / step
    assert np.isfinite(slope).all()


def test_another_order_is_refused():
    with pytest.raises(PersonError, match="order = 3: allowed are 1, 2"):
        solvers.cfgpp(SCHEDULES["edm"], [1.0, 0.5], 3)
