"""Tableaus as data: grouping of rows, padding, stacking, and what they say of themselves."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dfx import schedules, solvers
from dfx.errors import PersonError
from dfx.solvers import NOISE, Recorder, merge, output, pad, stack, unstack
from dfx.solvers.tableau import assemble

SCHEDULE = schedules.VPLinear()
GRID = np.linspace(0.95, 0.0, 7)


def test_a_tableau_says_what_it_needs():
    heun = solvers.heun(SCHEDULE, GRID)
    assert (heun.num_rows, heun.lanes, heun.num_inputs, heun.stochastic) == (11, 2, 0, False)
    assert solvers.ddpm(SCHEDULE, GRID).stochastic
    assert solvers.heun(SCHEDULE, GRID[1:], churn=1.0).stochastic
    mean = solvers.ddim(schedules.MeanReverting(SCHEDULE), GRID)
    assert (mean.num_inputs, mean.lanes) == (1, 2)


def test_an_input_that_only_waits_costs_no_operation():
    """Its lane has no key, and a lane without a key stays."""
    (rows,) = solvers.ddim(schedules.MeanReverting(SCHEDULE), GRID).phases
    assert set(rows.coef) == {(0, 0), (0, 1), (0, output(0))}


def test_merging_keeps_every_row_in_order():
    heun = solvers.heun(SCHEDULE, GRID)
    one = merge(heun)
    assert len(one.phases) == 1 and not one.tail and one.num_rows == heun.num_rows
    for before, after in zip(unstack(heun), unstack(one)):
        assert before.level == after.level
        for key, value in after.coef.items():
            assert value == before.coef.get(key, 0.0)
    assert merge(one) is one


def test_merging_rows_lets_coefficients_broadcast_as_in_a_row():
    """Weights of each channel in one phase, of each token in the other, and numbers."""
    level, channels = SCHEDULE.at(0.5), np.array([0.3, 0.7])
    tokens = np.array([[0.1], [0.2], [0.4]])
    kinds = [{(0, 0): channels, (1, 0): 1.0, (1, output(0)): 2.0}, {(0, 0): tokens, (0, 1): 0.5}]
    tableau = assemble({(0, 0): 1.0}, [solvers.Rows(level, kind) for kind in kinds * 4 + kinds[:1]])
    assert (len(tableau.phases), len(tableau.tail)) == (2, 1)
    for i, row in enumerate(unstack(merge(tableau))):
        for key, value in row.coef.items():
            expected = np.broadcast_to(kinds[i % 2].get(key, 0.0), (3, 2))
            np.testing.assert_array_equal(np.broadcast_to(value, (3, 2)), expected)


def test_coefficients_are_float64_on_the_host():
    for name in solvers.REGISTRY:
        leaves = jax.tree.leaves(solvers.make(name, SCHEDULE, GRID))
        assert all(isinstance(a, np.ndarray | np.float64) and a.dtype == np.float64 for a in leaves)


def test_padding_gives_one_structure_and_idle_rows():
    tableaus = pad([solvers.ddim(SCHEDULE, GRID[:4]), solvers.heun(SCHEDULE, GRID)])
    structures = {jax.tree.structure(t) for t in tableaus}
    assert len(structures) == 1 and {t.num_rows for t in tableaus} == {11}
    idle = unstack(tableaus[0])[-1].coef
    assert idle[0, 0] == idle[1, 1] == 1.0
    assert all(value == 0 for (lane, source), value in idle.items() if lane != source)
    assert stack(tableaus).phases[0].coef[0, 0].shape == (2, 11)


@pytest.mark.parametrize(
    "others",
    [
        [solvers.ddim(SCHEDULE, GRID[:2])],
        [solvers.ddim(SCHEDULE, GRID[:6])],
        [solvers.ddpm(SCHEDULE, GRID)],
        [solvers.ddim(SCHEDULE, GRID), solvers.heun(SCHEDULE, GRID[:4])],
    ],
)
def test_tableaus_of_different_patterns_stack_only_when_padded(others):
    """One row would be broadcast over the rows of the others."""
    tableaus = [solvers.ddim(SCHEDULE, GRID), *others]
    with pytest.raises(PersonError, match="tableaus of one pattern stack"):
        stack(tableaus)
    assert len(jax.tree.leaves(stack(pad(tableaus)))[0]) == len(tableaus)


@pytest.mark.usefixtures("x64")
def test_padding_keeps_the_inputs_that_wait(bent):
    schedule = schedules.MeanReverting(SCHEDULE)
    tableaus = [solvers.ddim(schedule, GRID[:4]), solvers.heun(schedule, GRID)]
    x, y = np.random.default_rng(0).normal(size=(2, 5, 3))
    for before, after in zip(tableaus, pad(tableaus)):
        ends = [solvers.sample(t, bent.jax, x, inputs=(y,)) for t in (before, after)]
        np.testing.assert_allclose(*ends, rtol=1e-12, atol=1e-13)


def test_answers_of_different_size_cannot_be_padded():
    r = Recorder()
    x = r.start
    e = r.at(x, SCHEDULE.at(0.5))
    with pytest.raises(PersonError, match="different numbers of lanes"):
        pad([r.tableau(e.x0, keep=(x,)), solvers.ddim(SCHEDULE, GRID)])


@pytest.mark.slow
def test_a_traced_grid_gives_traced_coefficients_of_the_same_pattern():
    for name in solvers.REGISTRY:
        host = solvers.make(name, SCHEDULE, GRID)
        build = functools.partial(solvers.make, name, SCHEDULE)
        traced = jax.eval_shape(build, jnp.asarray(GRID))
        assert jax.tree.structure(host) == jax.tree.structure(traced)


def test_noise_and_outputs_are_sources_that_no_lane_has():
    assert len({NOISE, output(0), output(1), 0, 1}) == 5
    assert max(NOISE, output(0), output(1)) < 0


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("length", [6, 7, 8])
def test_rows_run_in_order_whatever_their_period(length, bent):
    """Three kinds of rows in turn, with up to two rows left over; the noise of row i is i + 1."""
    level = SCHEDULE.at(0.5)
    kinds = [
        {(0, 0): 0.9, (0, output(0)): 0.3, (1, 1): 1.1},
        {(0, 0): 0.8, (0, NOISE): 0.1, (0, 1): 0.2, (1, 1): 1.0},
        {(0, 0): 1.1, (1, 0): 0.4, (1, output(0)): -0.5, (1, NOISE): 0.2},
    ]
    rows = [solvers.Rows(level, kinds[i % 3]) for i in range(length)]
    tableau = assemble({(0, 0): 1.0, (1, 0): 0.5}, rows)
    assert (len(tableau.phases), len(tableau.tail)) == (3, length % 3)
    x = np.random.default_rng(0).normal(size=(2, 3))
    lanes = [x, 0.5 * x]
    for i, row in enumerate(rows):
        sources = {0: lanes[0], 1: lanes[1], NOISE: i + 1.0, output(0): bent.numpy(lanes[0], level)}
        terms = [(lane, weight * sources[source]) for (lane, source), weight in row.coef.items()]
        lanes = [sum(term for to, term in terms if to == lane) for lane in (0, 1)]
    for merged in (None, True):
        end = solvers.sample(tableau, bent.jax, x, noise=lambda row: row + 1.0, merged=merged)
        np.testing.assert_allclose(end, lanes[0], rtol=1e-12)
