"""Observers: what is folded over the rows is what a stored path would give."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dfx import schedules, solvers
from dfx.errors import PersonError
from dfx.solvers import Row, sample, together, trajectory, window_variance

SCHEDULE = schedules.VPLinear()
GRID = np.linspace(0.95, 0.0, 24)
KEY = jax.random.key(0)


def fold(observer, path):
    """The observer on a path of x0_hat, shape (rows, n, *sample)."""

    def update(state, seen):
        index, x0 = seen
        return observer.update(state, Row(index, x0, x0, None)), None

    start = observer.init(path[0], len(path))
    state, _ = jax.lax.scan(update, start, (jnp.arange(len(path)), path))
    return observer.finish(state)


@pytest.mark.usefixtures("x64")
def test_the_window_variance_of_a_constant_path_is_zero():
    path = jnp.full((12, 3, 2), 0.1)
    np.testing.assert_array_equal(fold(window_variance((10,)), path), np.zeros((3, 1)))


@pytest.mark.usefixtures("x64")
def test_the_window_variance_of_an_alternating_path_is_the_square_of_its_height():
    """+-h over 10 rows gives h^2; what came before the window does not count."""
    heights = np.array([0.1, 2.0, 30.0])
    signs = (-1.0) ** np.arange(13)
    path = jnp.asarray(signs[:, None, None] * heights[:, None] + np.zeros((1, 1, 2)))
    path = path.at[:3].set(1e3)
    np.testing.assert_allclose(fold(window_variance((10,)), path)[:, 0], heights**2, rtol=1e-13)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("shape", [(4,), (4, 3), (4, 2, 2, 1)])
def test_the_window_variance_is_the_population_variance_then_the_mean(shape):
    path = np.random.default_rng(0).normal(size=(40, *shape)) + 5.0
    got = fold(window_variance((1, 10, 30, 100)), jnp.asarray(path))
    for column, w in enumerate((1, 10, 30, 40)):  # 100 rows are more than there are
        expected = path[-w:].var(axis=0).reshape(4, -1).mean(-1)
        np.testing.assert_allclose(got[:, column], expected, rtol=1e-12, atol=1e-14)


def test_the_window_variance_stays_exact_in_float32_far_from_zero():
    """Values 1000 +- 0.01: a difference of mean squares would have lost everything."""
    rng = np.random.default_rng(0)
    path = (1000 + 0.01 * rng.normal(size=(50, 200, 1))).astype(np.float32)
    got = fold(window_variance((50,)), jnp.asarray(path))[:, 0]
    expected = path.astype(np.float64).var(axis=0)[:, 0]
    # float32 keeps 1000 to 6e-5: differences of 0.01 are known to 0.6 %, the mean of 50 squares
    # better
    np.testing.assert_allclose(got, expected, rtol=0.01)


def test_observers_see_the_same_in_blocks(modes):
    tableau = solvers.ddim(SCHEDULE, GRID)
    x = solvers.prior(KEY, SCHEDULE, (2100, 2))
    watch = together(path=trajectory(4), moves=window_variance((5, 10)))
    ends = [sample(tableau, modes, x, observe=watch, block=block) for block in (0, 1000)]
    # float32 rounding over 23 rows near the boundary of two modes
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=2e-4), *ends)
    assert ends[0][1]["moves"].shape == (2100, 2)
    assert ends[0][1]["path"][0].shape == (2100, 7, 2)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("build", [solvers.ddim, solvers.heun])
def test_a_trajectory_holds_the_points_that_were_evaluated(build, gaussian):
    """Both phases and the tail are seen, in order, with the denoiser of each point at its level."""
    tableau = build(SCHEDULE, GRID[:7])
    x = np.random.default_rng(0).normal(size=(3, 2))
    end, (points, estimates) = sample(tableau, gaussian, x, observe=trajectory())
    assert points.shape == (3, tableau.num_rows, 2)
    np.testing.assert_array_equal(points[:, 0], x)
    for i, row in enumerate(solvers.unstack(tableau)):
        np.testing.assert_allclose(estimates[:, i], gaussian(points[:, i], row.level), rtol=1e-12)
    np.testing.assert_allclose(end, sample(tableau, gaussian, x), rtol=1e-13)


@pytest.mark.parametrize("every", [2, 3, 5, 30])
def test_a_thinned_trajectory_has_every_kth_row_and_the_last(every, modes):
    tableau = solvers.ddim(SCHEDULE, GRID)
    x = solvers.prior(KEY, SCHEDULE, (4, 2))
    _, (full, _) = sample(tableau, modes, x, observe=trajectory())
    _, (points, _) = sample(tableau, modes, x, observe=trajectory(every))
    rows = sorted({*range(0, 23, every), 22})
    np.testing.assert_allclose(points, full[:, rows], rtol=0, atol=1e-6)


def test_an_observer_sees_index_and_level(modes):
    """An observer of a user: a pair of functions."""

    def update(state, row):
        return state + row.index * row.level.sigma + 0 * row.x[:, 0]

    sigmas = solvers.Observer(lambda x, num_rows: jnp.zeros(len(x), x.dtype), update)
    tableau = solvers.heun(SCHEDULE, GRID[:6])
    _, total = sample(tableau, modes, solvers.prior(KEY, SCHEDULE, (4, 2)), observe=sigmas)
    expected = sum(i * row.level.sigma for i, row in enumerate(solvers.unstack(tableau)))
    np.testing.assert_allclose(total, np.full(4, expected), rtol=1e-6)


@pytest.mark.parametrize("n", [4, 2500])
def test_what_is_observed_has_an_entry_for_each_sample_however_many_there_are(n, modes):
    """A mean over the batch would be one a block."""
    mean = solvers.Observer(lambda x, _: 0.0 * x, lambda state, row: row.x, lambda x: x.mean())
    with pytest.raises(PersonError, match=r"finishes with shape \(\), allowed: \(\d+, ...\)"):
        sample(solvers.ddim(SCHEDULE, GRID), modes, jnp.zeros((n, 2)), observe=mean)


def test_equal_observers_are_one_object_so_that_programs_are_shared():
    assert window_variance((5,)) is window_variance([5])
    assert trajectory(3) is trajectory(3)
    assert together(a=trajectory(3)) is together(a=trajectory(3))


def test_bad_windows_are_refused():
    with pytest.raises(PersonError, match="windows"):
        window_variance(())
    with pytest.raises(PersonError, match="windows"):
        window_variance((0, 3))
    with pytest.raises(PersonError, match="every = 0"):
        trajectory(0)
