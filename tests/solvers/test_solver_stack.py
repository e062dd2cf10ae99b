"""Many solvers at once: stacked tableaus under `vmap`, and how many programs solvers need."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from solver_by_hand import run

from dfx import schedules, solvers
from dfx.solvers import sample
from dfx.solvers.sample import _run

VP, EDM, FLOW = schedules.VPLinear(), schedules.EDM(), schedules.RectifiedLinear()
GRID = np.linspace(0.95, 0.0, 9)
KEY = jax.random.key(3)

#: Float64: padding adds terms that are zero and puts the sums in another order, and what is one
#: rounding (1e-16) there grows by the slope of the field, up to 10, in each of some ten rows.
ROUNDING = 1e-10

pytestmark = pytest.mark.usefixtures("x64")


def starts(shape=(5, 2)):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape))


def noise(row):
    """Noise that NumPy draws as well; that of keys is elsewhere."""
    return jnp.cos(3.0 * row + jnp.arange(10.0).reshape(5, 2))


def twenty():
    """Different methods, options, schedules and lengths; one lane to five, one stage to four."""
    make, odd = solvers.make, GRID**1.5
    return [
        make("ddim", VP, GRID),
        make("euler", EDM, 3 * GRID),
        make("dpm_solver_1", FLOW, odd),
        make("ddim", VP, odd[:6]),
        make("ddpm", VP, GRID),
        make("ddpm", EDM, 3 * odd, variance="large"),
        make("ddim", FLOW, GRID, eta=0.4),
        make("euler_maruyama", VP, GRID[2:7]),
        make("heun", VP, GRID),
        make("heun", EDM, 3 * GRID, churn=2.0),
        make("kdpm2", VP, odd),
        make("lms", VP, GRID),
        make("deis_tab", VP, odd, order=3),
        make("plms", VP, GRID[:-1]),
        make("rho_rk4", VP, GRID[3:]),
        make("dpm_solver_pp_2m", VP, GRID),
        make("dpm_solver_3m", VP, odd[:-1]),
        make("unipc_2", VP, GRID),
        make("sa_solver", VP, GRID, tau=0.6),
        make("ghvb", VP, odd[:-1], beta=0.7),
    ]


@pytest.mark.slow
def test_twenty_solvers_run_as_one_program(modes):
    """Against every solver by itself, row by row in NumPy, which compiles nothing."""
    x, tableaus = starts(), twenty()
    rows = max(tableau.num_rows for tableau in tableaus)
    z = {row: np.asarray(noise(row)) for row in range(-1, rows)}
    together = jax.jit(jax.vmap(lambda tableau: sample(tableau, modes, x, noise=noise, unroll=1)))
    ends = together(solvers.stack(solvers.pad(tableaus)))
    assert together._cache_size() == 1 and ends.shape == (20, *x.shape)
    for tableau, end in zip(tableaus, ends):
        alone = run(tableau, modes, np.asarray(x), z)
        np.testing.assert_allclose(end, alone, rtol=0, atol=ROUNDING)
    assert len(np.unique(np.round(ends[:, 0, 0], 6))) > 15  # solvers that differ end elsewhere


@pytest.mark.slow
def test_many_solvers_run_as_one_program_give_what_single_calls_give(modes):
    """All with the noise of one key; the padded calls by themselves share one program as well."""
    x, tableaus = starts(), solvers.pad(twenty())
    single = functools.partial(sample, field=modes, x=x, key=KEY, unroll=1)
    together = jax.vmap(single)(solvers.stack(tableaus))
    before = _run._cache_size()
    alone = np.stack([single(tableau) for tableau in tableaus])
    assert _run._cache_size() == before + 1 and len(alone) == 20
    np.testing.assert_allclose(together, alone, rtol=0, atol=ROUNDING)


def test_coefficients_of_one_pattern_stack_without_padding(modes):
    """A search over coefficients: twenty perturbations of one solver, each with the stages it had.

    The calls one by one share a program, and the answer moves with the coefficients.
    """
    x, rng = starts(), np.random.default_rng(4)
    base = solvers.make("dpm_solver_2s", VP, GRID)
    nudge = functools.partial(jax.tree.map, lambda c: c * (1 + 0.01 * rng.normal(size=np.shape(c))))
    tableaus = [nudge(base) for _ in range(20)]
    together = jax.vmap(lambda tableau: sample(tableau, modes, x))(solvers.stack(tableaus))
    before = _run._cache_size()
    alone = np.stack([sample(tableau, modes, x) for tableau in [base, *tableaus]])
    assert _run._cache_size() == before + 1
    np.testing.assert_allclose(together, alone[1:], rtol=0, atol=ROUNDING)
    assert np.all(np.abs(alone[1:] - alone[0]).max((1, 2)) > 1e-4)


#: Solvers that differ in numbers only, on different schedules and grids of one length.
SHARED = {
    "one step": [
        ("ddim", VP, GRID, {}),
        ("euler", EDM, 3 * GRID, {}),
        ("dpm_solver_1", FLOW, GRID**2, {}),
        ("flow_euler", VP, GRID**1.5, {}),
        ("lms", EDM, GRID, {"order": 1}),
    ],
    "one step with noise": [
        ("ddpm", VP, GRID, {}),
        ("ddim", EDM, 3 * GRID, {"eta": 0.2}),
        ("sde_dpm_solver_pp_1", FLOW, GRID**2, {}),
        ("euler_ancestral", VP, GRID, {}),
    ],
    "two predictions": [
        ("dpm_solver_pp_2m", VP, GRID, {"solver_type": "midpoint"}),
        ("dpm_solver_pp_2m", EDM, 3 * GRID, {"solver_type": "taylor"}),
        ("dpm_solver_pp_2m", VP, GRID**2, {"lower_order_final": True}),
        ("unipc_2", VP, GRID, {"corrector": False, "variant": "bh1"}),
        ("sa_solver", EDM, GRID, {"predictor": 2, "corrector": 0, "tau": 0}),
    ],
    "four noises": [
        ("lms", VP, GRID, {}),
        ("deis_tab", EDM, 3 * GRID, {}),
        ("ipndm", VP, GRID**2, {}),
    ],
    "two stages": [
        ("heun", VP, GRID, {}),
        ("rho_heun", EDM, 3 * GRID, {}),
        ("flow_heun", VP, GRID**2, {}),
        ("dpm_solver_2s", EDM, GRID, {}),
    ],
}


@pytest.fixture
def programs(modes):
    """Return a function: how many programs these solvers compile, one after another.

    The field is a function of its own, so that no other test has compiled any of them.
    """

    def field(x, level):
        return modes(x, level)

    def count(members, x):
        before = _run._cache_size()
        for name, schedule, grid, options in members:
            sample(solvers.make(name, schedule, grid, **options), field, x, KEY)
        return _run._cache_size() - before

    return count


@pytest.mark.parametrize("family", SHARED)
def test_solvers_of_one_pattern_are_one_program(family, programs):
    assert programs(SHARED[family], starts()) == 1


@pytest.mark.slow
def test_another_pattern_another_length_and_another_shape_are_programs_of_their_own(programs):
    x, first = starts(), [members[0] for members in SHARED.values()]
    assert programs(first, x) == len(SHARED)
    assert programs(first, x) == 0
    name, schedule, grid, options = first[0]
    assert programs([(name, schedule, grid[1:], options)], x) == 1
    assert programs(first[:1], x[:3]) == 1
    assert programs(first[:1], x.astype(jnp.float32)) == 1


def test_weights_for_each_coordinate_are_stacked_on_weights_for_all(modes):
    """The first solver has a number a row where the second has one for each coordinate."""
    x, z = starts(), {row: np.zeros((5, 2)) for row in range(-1, 9)}
    levels = np.linspace(-7.0, 7.0, 15)
    each = 0.5 + 0.1 * np.stack([np.tanh(levels), np.cos(levels)], axis=1)
    table = solvers.ModelStatistics(levels, each, 0.1 * each)
    tableaus = [solvers.make("ddim", VP, GRID), solvers.dpm_solver_v3(VP, GRID, table, order=1)]
    together = jax.vmap(lambda tableau: sample(tableau, modes, x))
    ends = together(solvers.stack(solvers.pad(tableaus)))
    for tableau, end in zip(tableaus, ends):
        np.testing.assert_allclose(end, run(tableau, modes, np.asarray(x), z), atol=ROUNDING)
