"""Every member of the registry, by the same rules.

A tableau is run in NumPy, row by row; one test sets `sample` against that.
"""

import functools
import warnings

import jax.numpy as jnp
import numpy as np
import pytest
from solver_by_hand import SCHEDULES, grid_of, noises, run, starts

from dfx import fields, schedules, solvers

pytestmark = pytest.mark.usefixtures("x64")

NAMES = list(solvers.REGISTRY)
DETERMINISTIC = [name for name in NAMES if not solvers.REGISTRY[name].stochastic]
every = pytest.mark.parametrize("name", NAMES)
deterministic = pytest.mark.parametrize("name", DETERMINISTIC)

#: Methods in time: of their order on grids that are smooth in time, exact for constant data on the
#: linear path alone.
IN_TIME = [name for name in NAMES if name.startswith("flow_")]

#: How far a fitted order may lie from the stated one at 160 and 320 steps: the next term of the
#: error, and for the multistep methods of order 4 the steps of lower order that they begin with.
TOLERANCE = {1: 0.15, 2: 0.15, 3: 0.15, 4: 0.4}


def two_modes(x, level):
    """The denoiser `modes` of the other files, in NumPy."""
    return np.tanh(level.alpha * x / (level.sigma**2 + 0.1))


def times(name, n):
    """The grid on which orders are stated: half log-SNR from -4 to 3 in equal steps; for methods in
    time, equal steps of it."""
    if name in IN_TIME:
        return np.linspace(0.9, 0.1, n + 1)
    return schedules.t_of_log_snr(SCHEDULES["vp_linear"], 2 * np.linspace(-4, 3, n + 1))


@functools.cache
def exact_end(in_time):
    """The end of the path by 1000 steps of order 4: a thousandth of the smallest error below."""
    name = "flow_rk4" if in_time else "rho_rk4"
    return run(solvers.make(name, SCHEDULES["vp_linear"], times(name, 1000)), two_modes, starts(16))


@pytest.mark.slow
@deterministic
def test_the_error_falls_with_the_stated_order(name):
    order = solvers.REGISTRY[name].order
    errors = []
    for n in (160, 320):
        tableau = solvers.make(name, SCHEDULES["vp_linear"], times(name, n))
        gap = run(tableau, two_modes, starts(16)) - exact_end(name in IN_TIME)
        errors.append(np.mean(np.linalg.norm(gap, axis=1)))
    slope = np.log2(errors[0] / errors[1])
    assert slope > order - TOLERANCE[order]
    # `fast` takes steps of order 3 but the last, whose error is not yet the largest here.
    assert slope < order + TOLERANCE[order] + (name == "dpm_solver_fast")


@deterministic
@pytest.mark.parametrize("to_data", [True, False])
def test_a_constant_denoiser_is_exact(name, to_data):
    """The path x_t = alpha_t x0 + sigma_t eps has constant x0 and eps: no error is possible."""
    schedule = SCHEDULES["rectified_linear" if name in IN_TIME else "vp_linear"]
    grid, x, data = grid_of(schedule, to_data=to_data), starts(6, 2), np.array([0.3, -2.0])
    end = run(solvers.make(name, schedule, grid), lambda x, level: data + 0 * x, x)
    s, t = schedule.at(grid[0]), schedule.at(grid[-1])
    eps = (x - s.alpha * data) / s.sigma
    # Rounding of some ten rows, whose weights of x grow like sigma_s / sigma_t.
    np.testing.assert_allclose(end, t.alpha * data + t.sigma * eps, rtol=1e-9, atol=1e-9)


@every
def test_sample_is_the_tableau_row_by_row_in_every_batch(name, bent):
    tableau = solvers.make(name, SCHEDULES["vp_linear"], grid_of(SCHEDULES["vp_linear"], 5))
    x, z = starts(4, 2), noises(tableau.num_rows + 1, 4, 2)
    expected = run(tableau, bent.numpy, x, z)
    found = solvers.sample(tableau, bent.jax, x[:3], noise=lambda row: jnp.asarray(z)[row, :3])
    # The same float64 operations in another order.
    np.testing.assert_allclose(found, expected[:3], rtol=1e-10, atol=1e-12)


@every
@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_grids_of_few_steps_to_the_data_are_finite(name, schedule, gaussian):
    for n in (1, 2, 3):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            tableau = solvers.make(name, schedule, grid_of(schedule, n))
        x, z = starts(4, 2), noises(tableau.num_rows + 1, 4, 2)
        assert np.isfinite(run(tableau, gaussian, x, z)).all()


@every
def test_a_field_of_every_prediction_type_gives_the_same_end(name, gaussian):
    schedule = SCHEDULES["vp_linear"]
    tableau = solvers.make(name, schedule, grid_of(schedule, 4))
    x, z = starts(4, 2), noises(tableau.num_rows + 1, 4, 2)
    expected = run(tableau, gaussian, x, z)
    for kind in fields.PREDICTIONS:

        def field(x, level, kind=kind):
            value = fields.convert(gaussian(x, level), x, level, "x0", kind)
            return np.asarray(fields.convert(value, x, level, kind, "x0"))

        # There and back loses sigma / alpha at the start, 1e4 at most, in rounding.
        np.testing.assert_allclose(run(tableau, field, x, z), expected, rtol=1e-9, atol=1e-9)


@every
def test_each_further_step_costs_the_stated_evaluations(name):
    schedule = SCHEDULES["vp_linear"]
    # `fast` shares its budget out over steps of one to three evaluations: three steps at a time.
    few, many = (solvers.make(name, schedule, grid_of(schedule, n)).num_rows for n in (9, 12))
    assert many - few == 3 * solvers.REGISTRY[name].evaluations


@every
def test_the_registry_names_its_source_and_draws_noise_only_where_it_says(name):
    solver = solvers.REGISTRY[name]
    assert any(word.isdigit() for word in solver.source.replace("a", "").replace("b", "").split())
    tableau = solvers.make(name, SCHEDULES["vp_linear"], grid_of(SCHEDULES["vp_linear"], 5))
    assert tableau.stochastic == solver.stochastic


@every
def test_a_mean_term_is_the_substitution_of_the_centred_point(name, bent):
    """A run on x - beta y without a mean term, y added wherever the field looks, is the same."""
    plain, x, y = schedules.VPLinear(), starts(), starts(seed=5)
    schedule, grid = schedules.MeanReverting(plain), np.linspace(0.9, 0.1, 9)
    tableau = solvers.make(name, schedule, grid)
    z = noises(tableau.num_rows + 1)
    s, t = schedule.at(grid[0]), schedule.at(grid[-1])

    def shifted(x, level):
        return bent.numpy(x + (1 - level.alpha) * y, level)

    end = run(solvers.make(name, plain, grid), shifted, x - s.beta * y, z)
    # Float64 rounding of some tens of rows.
    found = run(tableau, bent.numpy, x, z, inputs=(y,))
    np.testing.assert_allclose(found, end + t.beta * y, rtol=1e-10, atol=1e-10)
