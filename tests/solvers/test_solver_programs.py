"""Tableaus and fields as arguments: shared programs, `vmap` over solvers, and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dfx import schedules, solvers
from dfx.solvers import sample

SCHEDULE = schedules.VPLinear()
GRID = np.linspace(0.95, 0.0, 13)
KEY = jax.random.key(7)

BUILDERS = {"ddim": solvers.ddim, "ddpm": solvers.ddpm, "heun": solvers.heun}

#: Float64 rounding of a dozen rows, which near the boundary of two modes grow tenfold in some.
ROUNDING = 1e-10

pytestmark = pytest.mark.usefixtures("x64")


def starts(n=8):
    return solvers.prior(jax.random.key(1), SCHEDULE, (n, 2), dtype=jnp.float64)


def waves(row):
    """Cheap noise; tests about keys are elsewhere."""
    return jnp.cos(row + jnp.arange(2.0))


def test_solvers_of_one_pattern_and_fields_of_one_shape_share_a_compilation(gaussian):
    """The field counts how often it is traced."""
    count = []

    @jax.tree_util.register_pytree_node_class
    class Counted:
        def __init__(self, inner):
            self.inner = inner

        def __call__(self, x, level):
            count.append(1)
            return self.inner(x, level)

        def tree_flatten(self):
            return (self.inner,), None

        @classmethod
        def tree_unflatten(cls, _, children):
            return cls(*children)

    def run(tableau, field):
        count.clear()
        sample(tableau, Counted(field), starts(), KEY)
        return len(count)

    other = type(gaussian)(gaussian.mean + 1, gaussian.variance)
    assert run(solvers.ddim(SCHEDULE, GRID), gaussian) > 0
    assert run(solvers.euler(SCHEDULE, GRID), gaussian) == 0
    assert run(solvers.euler(SCHEDULE, GRID, "time"), gaussian) == 0
    assert run(solvers.ddim(schedules.EDM(), 80 * GRID), other) == 0
    assert run(solvers.ddpm(SCHEDULE, GRID), gaussian) > 0
    assert run(solvers.ddim(SCHEDULE, GRID, eta=0.3), other) == 0
    assert run(solvers.ddpm(SCHEDULE, GRID, "large"), gaussian) == 0
    assert run(solvers.euler_maruyama(SCHEDULE, GRID), gaussian) == 0


def test_vmap_over_tableaus_gives_what_single_runs_give(modes):
    grids = [GRID, np.linspace(0.95, 0.0, 8), np.linspace(0.9, 0.05, 7)]
    tableaus = [b(SCHEDULE, g) for b, g in zip((solvers.ddim, solvers.ddpm, solvers.heun), grids)]
    tableaus.append(solvers.heun(SCHEDULE, grids[1], churn=2.0))
    x = starts()
    stacked = solvers.stack(solvers.pad(tableaus))
    together = jax.vmap(lambda tableau: sample(tableau, modes, x, noise=waves))(stacked)
    for tableau, end in zip(tableaus, together):
        alone = sample(tableau, modes, x, noise=waves)
        np.testing.assert_allclose(end, alone, rtol=0, atol=ROUNDING)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ddim", "ddpm", "heun"])
def test_the_end_is_differentiable_in_the_grid(name, modes):
    """Build under a trace, against central differences on host grids (step 1e-6: error 1e-9)."""
    x = starts()

    def loss(grid):
        return jnp.sum(sample(BUILDERS[name](SCHEDULE, grid), modes, x, noise=waves) ** 2)

    grid = np.linspace(0.9, 0.0, 5)
    slopes = jax.grad(loss)(jnp.asarray(grid))[:-1]
    assert np.isfinite(slopes).all()
    for i in range(4):
        shift = 1e-6 * np.eye(5)[i]
        expected = (loss(grid + shift) - loss(grid - shift)) / 2e-6
        np.testing.assert_allclose(slopes[i], expected, rtol=1e-6, atol=1e-7)


def test_coefficients_can_be_learned(gaussian):
    """The gradient in the tableau: the answer is linear in the last row's coefficients."""
    tableau, x = solvers.ddim(SCHEDULE, [0.9, 0.4, 0.1]), starts(3)
    slopes = jax.grad(lambda t: jnp.sum(sample(t, gaussian, x)))(tableau)
    before = sample(solvers.ddim(SCHEDULE, [0.9, 0.4]), gaussian, x)
    np.testing.assert_allclose(slopes.phases[0].coef[0, 0][-1], jnp.sum(before), rtol=1e-12)
    estimate = gaussian(before, SCHEDULE.at(0.4))
    last = slopes.phases[0].coef[0, solvers.output(0)][-1]
    np.testing.assert_allclose(last, jnp.sum(estimate), rtol=1e-12)
