"""What the tests of the exponential integrators share."""

import functools

import numpy as np
from solver_by_hand import combine, levels

from dfx import schedules, solvers
from dfx.solvers import NOISE, output

#: Steps, and the half log-SNR from where the first steps are nearly exact to where data are seen,
#: for measured orders.
STEPS, FAR, NEAR = [40, 80, 160], -6.0, 2.0


def lam(level):
    """Half log-SNR, written out."""
    return np.log(level.alpha / level.sigma)


def run(tableau, field, x, z=None, inputs=()):
    """The answer of the tableau, in NumPy; z[i] is the noise of row i, z[-1] that of the start."""
    given = (x, *inputs)
    lanes = dict.fromkeys(range(tableau.lanes), 0.0)
    lanes |= combine(tableau.start, lambda source: z[-1] if source == NOISE else given[source])
    for i, row in enumerate(solvers.unstack(tableau)):
        sources = {**lanes, output(0): np.asarray(field(lanes[0], row.level))}
        if z is not None:
            sources[NOISE] = z[i]
        lanes |= combine(row.coef, sources.__getitem__)
    return lanes[0]


def flow(field, schedule, x, start, end, n=400):
    """The flow from one half log-SNR to another by RK4 for d(x / alpha) / dlambda (error 1e-8)."""
    times = schedules.t_of_log_snr(schedule, 2 * np.linspace(start, end, 2 * n + 1))
    at, h = levels(schedule, times), (end - start) / n

    def slope(scaled, level):
        x = level.alpha * scaled
        return -(x - level.alpha * np.asarray(field(x, level))) / level.alpha

    x = x / at[0].alpha
    for i in range(0, 2 * n, 2):
        a = slope(x, at[i])
        b = slope(x + h / 2 * a, at[i + 1])
        c = slope(x + h / 2 * b, at[i + 1])
        x = x + h / 6 * (a + 2 * b + 2 * c + slope(x + h * c, at[i + 2]))
    return at[-1].alpha * x


def law_of(tableau, field, start):
    """Mean and variance at the end for a Gaussian field, linear in x_T and in every noise.

    One run with no noise from the mean of x_T, and one for a deviation in x_T and in each row.
    """
    rows, mean = tableau.num_rows, start.alpha * field.mean
    x = np.tile(mean, (rows + 2, 1))
    x[1] += np.sqrt(field.marginal_variance(start))
    z = np.zeros((rows, rows + 2, 1))
    z[np.arange(rows), np.arange(rows) + 2] = 1
    ends = run(tableau, field, x, z)
    return ends[0], np.sum((ends[1:] - ends[0]) ** 2, axis=0)


def law_error(tableau, field, start, end):
    """The distance of mean and variance at the end from those of the exact law."""
    mean, variance = law_of(tableau, field, start)
    return (
        np.abs(mean - end.alpha * field.mean).sum()
        + np.abs(variance - field.marginal_variance(end)).sum()
    )


@functools.cache
def from_afar(modes):
    """A schedule, points at `FAR`, and the ends at `NEAR` of the flow from there."""
    schedule, x = schedules.EDM(500.0), 400 * np.linspace(-2, 2, 20)[:, None]
    return schedule, x, flow(modes, schedule, x, FAR, NEAR)


def errors_on_modes(build, modes, ones=False):
    """Mean distance from the flow at `NEAR` for the `STEPS`, uniform in log-SNR; sigma = t."""
    schedule, x, exact = from_afar(modes)
    grids = [np.exp(-np.linspace(FAR, NEAR, n + 1)) for n in STEPS]
    inputs = (np.ones_like(x),) if ones else ()
    ends = [run(build(schedule, grid), modes, x, inputs=inputs) for grid in grids]
    return [np.mean(np.abs(end - exact)) for end in ends]
