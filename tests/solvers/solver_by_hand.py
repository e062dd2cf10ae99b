"""What the tests of many solvers share: a tableau run in NumPy, row by row, without compilation."""

import jax
import jax.numpy as jnp
import numpy as np

from dfx import schedules, solvers
from dfx.schedules import Level
from dfx.solvers import NOISE, output

#: Float64 rounding over some tens of rows.
ROUNDING = 1e-12

SCHEDULES = {
    "vp_linear": schedules.VPLinear(),
    "edm": schedules.EDM(80.0),
    "rectified_linear": schedules.RectifiedLinear(),
    "ddpm": schedules.discrete_linear(100),
}


def run(tableau, field, x, z=None, inputs=()):
    """The answer of the tableau; z holds the noise of row i at i, that of the start at -1."""
    lanes = {lane: np.zeros_like(x) for lane in range(tableau.lanes)}
    given = (x, *inputs)
    lanes |= combine(tableau.start, lambda source: given[source] if source != NOISE else z[-1])
    for i, row in enumerate(solvers.unstack(tableau)):
        sources = {**lanes, output(0): field(lanes[0], row.level)}
        if z is not None:
            sources[NOISE] = z[i]
        lanes = {**lanes, **combine(row.coef, sources.__getitem__)}
    return lanes[0]


def combine(coef, source):
    result = {}
    for (lane, name), weight in coef.items():
        result[lane] = result.get(lane, 0.0) + weight * source(name)
    return result


def starts(n=6, d=3, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


def noises(rows, n=6, d=3):
    return np.random.default_rng(9).normal(size=(rows, n, d))


def grid_of(schedule, n=11, to_data=True, start=0.95):
    """Uneven times; the steps in time, in sigma / alpha and in log-SNR all differ."""
    t = np.linspace(start, 0.0 if to_data else 0.05, n + 1) ** 2
    return t * schedule.end_time


def levels(schedule, grid):
    """The level at each time, all made in one call."""
    return [Level(*entries) for entries in zip(*schedule.at(np.asarray(grid)))]


def check(got, expected, rounding=ROUNDING):
    np.testing.assert_allclose(got, expected, rtol=rounding, atol=rounding)


def errors(build, schedule, grid, field, steps, **options):
    """Mean distance from the exact end, starts at one standard deviation around the mean of x_t."""
    found = []
    for n in steps:
        times = grid(schedule, n)
        s, t = schedule.at(times[0]), schedule.at(times[-1])
        x = s.alpha * field.mean + np.sqrt(field.marginal_variance(s)) * starts(32, 2)
        end = run(build(schedule, times, **options), field, x)
        found.append(np.mean(np.linalg.norm(end - field.flow(x, s, t), axis=-1)))
    return found


def lagging(schedule, n=8, lag=2, start=0.9, end=0.05):
    """A grid with three tokens that start `lag` rows after one another, and that of one of them."""
    base = np.linspace(start, end, n + 1) * schedule.end_time
    rows = np.arange(n + 2 * lag + 1)[:, None] - lag * np.arange(3)
    return base[np.clip(rows, 0, n)][..., None], base


def check_traced(build, grid=(0.9, 0.6, 0.25, 0.0)):
    """Built under a trace: the coefficients, and their derivative as every time but the last moves.

    Against host grids, with central differences of step 1e-6: errors 1e-9 relative to what they
    are the differences of.
    """
    grid = np.array(grid)
    move = np.where(grid > 0, 1.0, 0.0)

    def coefficients(grid):
        return [row.coef for row in build(grid).phases], [row.coef for row in build(grid).tail]

    def both(grid):
        return jax.jvp(coefficients, (grid,), (move,))

    value, slope = jax.jit(both)(jnp.asarray(grid))
    jax.tree.map(lambda a, b: check(a, b, 1e-9), value, coefficients(grid))
    low, high = (coefficients(grid + step * move) for step in (-1e-6, 1e-6))
    jax.tree.map(
        lambda d, a, b: np.testing.assert_allclose(d, (b - a) / 2e-6, rtol=1e-5, atol=1e-5),
        slope, low, high,
    )  # fmt: skip
