"""Fokker-Planck on grids: laws against closed forms by order, mass, positivity, equilibrium."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from evolution_by_hand import MIXTURE, OU, log_prob, normal, slope
from scipy.linalg import expm

from dfx import evolution, schedules
from dfx.errors import PersonError
from dfx.evolution.finite_volume import METHODS, jump_rates
from dfx.fields import oracle

pytestmark = pytest.mark.usefixtures("x64")

#: Sums over some hundred cells and steps in float64.
ROUNDING = 1e-12

FORWARD = evolution.forward(OU())


def distance(grid, p, q):
    """L1, the error of the probability of any event times two."""
    return float(jnp.sum(jnp.abs(p - q)) * grid.volume)


def ou_error(cells, steps, method, dtype=None):
    """N(0.6, 0.2) noised for a time 0.8: N(m e^-t, S e^-2t + (1 - e^-2t) / 2)."""
    grid, t = evolution.make_grid(-5, 5, cells), 0.8
    p = evolution.on_grid(normal([0.6], 0.2), grid, dtype)
    p = evolution.evolve(FORWARD, grid, p, np.linspace(0, t, steps + 1), method)
    decay = np.exp(-2 * t)
    exact = normal([0.6 * np.exp(-t)], 0.2 * decay + 0.5 * (1 - decay))
    return distance(grid, p, evolution.on_grid(exact, grid))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["crank_nicolson", "patankar"])
def test_the_law_of_ou_is_found_to_order_two(method):
    assert 1.85 < slope([ou_error(n, n, method) for n in (80, 160)]) < 2.3


def test_implicit_euler_has_order_one_in_time():
    """At 320 cells the error in space is a hundredth of that in time."""
    assert 0.9 < slope([ou_error(320, n, "implicit_euler") for n in (20, 40)]) < 1.1


def test_float32_agrees_within_its_rounding():
    """160 steps of about 1e-7 each, times the rates dt D / h^2 = 6 of a step."""
    error = ou_error(160, 160, "crank_nicolson")
    assert abs(ou_error(160, 160, "crank_nicolson", jnp.float32) - error) < 3e-4


SCHEDULES = [
    schedules.RectifiedLinear(),
    pytest.param(schedules.VE(0.01, 2.0), marks=pytest.mark.slow),
    pytest.param(schedules.Trigonometric(), marks=pytest.mark.slow),
    pytest.param(schedules.EDM(2.0), marks=pytest.mark.slow),
]


def reverse_errors(schedule, cells, steps, lams=(1.0, 0.7)):
    """From the exact law at 0.85 of the time with the exact score down to sigma = 0."""
    t = 0.85 * schedule.end_time
    grid, levels = evolution.make_grid(-6, 6, cells), (schedule.at(t), schedule.at(0.0))
    start, exact = (
        evolution.on_grid(lambda x, level=level: log_prob(MIXTURE, x, level), grid)
        for level in levels
    )
    times = t * np.linspace(1, 0, steps + 1) ** 1.5

    def run(lam):
        motion = evolution.reverse(schedule, oracle(MIXTURE), lam)
        return evolution.evolve(motion, grid, start, times)

    return np.array([distance(grid, p, exact) for p in jax.vmap(run)(jnp.array(lams))])


@pytest.mark.slow
def test_the_reverse_sde_of_the_exact_score_finds_the_data_to_order_two():
    """At lam = 1 and 0.7."""
    coarse, fine = (reverse_errors(schedules.VPLinear(0.1, 8.0), n, n // 2) for n in (160, 320))
    assert (np.log2(coarse / fine) > 1.75).all()


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
def test_the_reverse_sde_of_the_exact_score_has_the_law_of_the_data_on_every_schedule(schedule):
    """240 cells of 0.05 against a spread of 0.3: of the order of (h / s)^2."""
    assert (reverse_errors(schedule, 240, 120) < 0.03).all()


@pytest.mark.parametrize(
    ("method", "order"), [("crank_nicolson", 2), ("patankar", 2), ("implicit_euler", 1)]
)
def test_one_step_of_a_chain_is_its_exponential_up_to_the_order(method, order):
    """Five cells, exp(dt A) p: one step errs by the order and one, off by dt times the rates."""
    rng = np.random.default_rng(0)
    up, down, p = rng.uniform(0.5, 2, 4), rng.uniform(0.5, 2, 4), rng.uniform(0.5, 2, 5)
    rates = np.diag(up, -1) + np.diag(down, 1)
    rates = rates - np.diag(rates.sum(0))
    errors = [
        np.abs(METHODS[method](*map(jnp.asarray, (p, up, down)), dt) - expm(dt * rates) @ p).max()
        for dt in (0.002, 0.001)
    ]
    assert abs(slope(errors) - (order + 1)) < 0.1


@pytest.mark.parametrize("method", METHODS)
def test_mass_is_kept_and_the_positive_methods_stay_positive_at_any_step(method):
    """One cell full, the others empty, steps a thousand times the positive one."""
    grid = evolution.make_grid(-5, 5, 200)
    p = jnp.zeros(200).at[60].set(1 / grid.volume)
    longest = float(evolution.positive_step(FORWARD, grid, 0.0))
    long = evolution.evolve(FORWARD, grid, p, longest * np.array([0, 1000, 2000]), method)
    short = evolution.evolve(FORWARD, grid, p, longest * np.array([0, 0.99, 1.98]), method)
    for q in (long, short):
        assert abs(evolution.mass(grid, q) - 1) < 1e-10  # rounding times rates of 1000
    assert short.min() >= 0
    assert (long.min() >= 0) == (method != "crank_nicolson")


def test_the_positive_step_is_two_over_the_highest_rate_out_of_a_cell():
    """Pure diffusion: 2 D / h^2 along the axis of the finer cells."""
    motion = evolution.given(lambda x, t: 0 * x, 0.3)
    grid = evolution.make_grid([0, 0], [1, 1], [4, 5])
    assert float(evolution.positive_step(motion, grid, 0.0)) == pytest.approx(0.04 / 0.3)


@pytest.mark.parametrize("end", [1, -1])
def test_a_positive_step_is_one_whichever_way_time_runs(end):
    """A drift to the centre: along falling times the full cell there is left on both sides."""
    motion = evolution.given(lambda x, t: -20 * jnp.tanh(x / 0.01), 0.01)
    grid = evolution.make_grid(-1, 1, 101)
    longest = float(evolution.positive_step(motion, grid, 0))
    p = jnp.zeros(101, int).at[50].set(1)  # whole numbers are taken as numbers
    assert evolution.evolve(motion, grid, p, [0, end * longest]).min() >= -ROUNDING


@pytest.mark.parametrize("method", METHODS)
def test_equilibrium_of_a_potential_is_kept_where_the_drift_is_the_difference_of_the_potential(
    method,
):
    """b on a face = -D (U_{k+1} - U_k) / h: p = exp(-U) has no flux at all, at any spacing."""
    energy = np.array([0.0, 3.0, -1.0, 2.0, 9.0])
    up, down = jump_rates(-0.7 * np.diff(energy) / 0.5, 0.7, 0.5)
    p = jnp.exp(-energy)
    np.testing.assert_allclose(METHODS[method](p, up, down, 0.3), p, rtol=ROUNDING)


def test_rates_are_upwind_without_diffusion_and_central_without_drift():
    velocity = jnp.array([-2.0, 0.0, 3.0])
    up, down = jump_rates(velocity, 0.0, 0.5)
    np.testing.assert_array_equal(up, [0, 0, 6])
    np.testing.assert_array_equal(down, [4, 0, 0])
    up, down = jump_rates(0 * velocity, 0.3, 0.5)
    np.testing.assert_allclose([up, down], np.full((2, 3), 0.3 / 0.25), rtol=ROUNDING)


TURN = np.array([[-0.6, -1.5], [1.1, -0.3]])


def swirl(x, t):
    return x @ TURN.T


def test_two_dimensions_are_found_to_order_two_by_strang_splitting():
    """dx = A x dt + sqrt(2 D) dw with a rotation: C' = A C + C A^T + 2 D, closed by Lyapunov."""
    diffusion, start, t = 0.25, np.array([[0.4, 0.1], [0.1, 0.3]]), 0.5
    # C_inf of A C + C A^T = -2 D.
    double = np.kron(TURN, np.eye(2)) + np.kron(np.eye(2), TURN)
    rest = np.linalg.solve(double, -2 * diffusion * np.eye(2).ravel()).reshape(2, 2)
    flow = expm(TURN * t)
    exact = flow @ (start - rest) @ flow.T + rest
    mean = np.array([0.5, -0.2])
    motion = evolution.given(swirl, diffusion)

    def error(n):
        grid = evolution.make_grid([-4.5, -4], [4.5, 4], [2 * n, 2 * n - 8])
        p = evolution.on_grid(normal(mean, start), grid)
        p = evolution.evolve(motion, grid, p, np.linspace(0, t, n // 4 + 1))
        assert abs(evolution.mass(grid, p) - 1) < ROUNDING
        return distance(grid, p, evolution.on_grid(normal(flow @ mean, exact), grid))

    errors = [error(n) for n in (28, 56)]
    assert errors[-1] < 0.02
    assert 1.8 < slope(errors) < 2.4


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dim", [1, 2])
def test_a_step_solves_once_along_each_axis_and_again_along_the_first_of_two(dim, method):
    grid = evolution.make_grid([-1] * dim, [1] * dim, 4)
    motion = evolution.given(lambda x, t: -x, 0.3)
    step = lambda p: evolution.evolve(motion, grid, p, [0.0, 0.1], method)  # noqa: E731
    solves = str(jax.make_jaxpr(step)(jnp.ones(grid.shape))).count("tridiagonal_solve")
    assert solves == (2 * dim - 1) * (2 if method == "patankar" else 1)


def test_kept_densities_are_those_of_shorter_runs():
    grid, times = evolution.make_grid(-4, 4, 40), np.linspace(0, 0.5, 9)
    p = evolution.on_grid(normal([0.3], 0.3), grid)
    kept = evolution.evolve(FORWARD, grid, p, times, keep=(0, 8, 3))
    np.testing.assert_array_equal(kept[0], p)
    end = evolution.evolve(FORWARD, grid, p, times)
    np.testing.assert_allclose(kept[1], end, rtol=ROUNDING)
    middle = evolution.evolve(FORWARD, grid, p, times[:4])
    np.testing.assert_allclose(kept[2], middle, rtol=ROUNDING)


def test_bad_input_is_one_clear_line():
    grid, p = evolution.make_grid(-1, 1, 4), jnp.ones(4)
    for times in ([0.0], [0.0, 0.0], [0.0, 1.0, 0.5]):
        with pytest.raises(PersonError, match="strictly rise or fall"):
            evolution.evolve(FORWARD, grid, p, times)
    with pytest.raises(PersonError, match="shape"):
        evolution.evolve(FORWARD, grid, jnp.ones(5), [0.0, 1.0])
    with pytest.raises(PersonError, match="crank_nicolson"):
        evolution.evolve(FORWARD, grid, p, [0.0, 1.0], "crank")
    with pytest.raises(PersonError, match=r"0\.\.1"):
        evolution.evolve(FORWARD, grid, p, [0.0, 1.0], keep=(2,))
    with pytest.raises(PersonError, match="noise_level"):
        evolution.reverse(OU(), oracle(MIXTURE), -1.0)
