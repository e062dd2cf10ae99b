"""Solvers on constant denoisers, tokens with their own times, mean terms; and what they refuse."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import solver_by_hand

from dfx import schedules, solvers
from dfx.errors import PersonError

#: Float64 rounding over some tens of rows.
ROUNDING = 1e-12

pytestmark = pytest.mark.usefixtures("x64")

SCHEDULES = {
    "vp_linear": schedules.VPLinear(),
    "edm": schedules.EDM(80.0),
    "rectified_linear": schedules.RectifiedLinear(),
    "ddpm": schedules.discrete_linear(100),
}


def starts(n=6, d=3, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


def pick(z, row):
    return z[row]


def run(tableau, field, x, z):
    noise = jax.tree_util.Partial(pick, jnp.asarray(z))
    return np.asarray(solvers.sample(tableau, field, x, noise=noise))


def check(got, expected):
    np.testing.assert_allclose(got, expected, rtol=ROUNDING, atol=ROUNDING)


CONSTANT = np.array([0.3, -2.0, 1.0])


def constant(x, level):
    return CONSTANT + 0 * x


def waves(row):
    return jnp.cos(row + jnp.arange(3.0))


def no_noise(row):
    return jnp.zeros(3)


@pytest.mark.parametrize("n", [1, 2, 3, 12])
@pytest.mark.parametrize("name", ["ddim", "euler", "ddpm"])
def test_a_constant_denoiser_is_solved_exactly(name, n):
    """x_t = alpha_t c + sigma_t / sigma_s (x_s - alpha_s c) whatever the steps."""
    for schedule in SCHEDULES.values():
        grid = np.linspace(0.95, 0.05, n + 1) ** 2 * schedule.end_time
        s, t = schedule.at(grid[0]), schedule.at(grid[-1])
        c, x = CONSTANT, starts()
        got = solvers.sample(solvers.make(name, schedule, grid), constant, x, noise=no_noise)
        if name == "ddpm":  # the mean of q(x_t | x_s, x0) for the two ends
            a = s.alpha / t.alpha
            of_x = a * t.sigma**2 / s.sigma**2
            expected = of_x * x + (t.alpha - of_x * s.alpha) * c
        else:
            expected = t.alpha * c + t.sigma / s.sigma * (x - s.alpha * c)
        check(got, expected)


def test_each_token_is_solved_as_by_its_own_run(modes):
    """Tokens lag by two rows each, so they wait, move and stand still; a stochastic solver too."""
    schedule, n, lag = schedules.VPLinear(), 8, 2
    base = np.linspace(0.9, 0.0, n + 1)
    rows = np.arange(n + 2 * lag + 1)[:, None] - lag * np.arange(3)
    grid = base[np.clip(rows, 0, n)][..., None]  # (rows, tokens, 1)
    x = np.random.default_rng(0).normal(size=(4, 3, 2))
    z = np.random.default_rng(1).normal(size=(len(grid) - 1, 4, 3, 2))
    for build in (solvers.ddim, solvers.ddpm, lambda s, g: solvers.ddim(s, g, eta=0.5)):
        together = run(build(schedule, grid), modes, x, z)
        for token in range(3):
            own = z[token * lag : token * lag + n, :, token]
            check(together[:, token], run(build(schedule, base), modes, x[:, token], own))


@pytest.mark.parametrize("name", ["ddpm", "euler_ancestral", "sde_dpm_solver_pp_2m"])
def test_a_token_that_is_clean_last_leaves_the_noise_of_others(name, modes):
    """One token ends at t = 0, the other at 0.2 with noise in every row."""
    schedule, base = schedules.VPLinear(), np.linspace(0.9, [0.0, 0.2], 6)
    x, z = np.random.default_rng(0).normal(size=(4, 2, 3)), np.ones((5, 4, 2, 3))
    tableau = solvers.make(name, schedule, base[..., None])
    together = solver_by_hand.run(tableau, modes, x, z)
    for token in range(2):
        tableau = solvers.make(name, schedule, base[:, token])
        check(together[:, token], solver_by_hand.run(tableau, modes, x[:, token], z[:, :, token]))


def test_churn_raises_each_token_by_what_its_own_noise_allows(modes):
    """The first starts above the bound and takes no churn in its first steps, the second does."""
    schedule, base = schedules.VPLinear(), np.linspace([0.9, 0.4], 0.1, 6)
    x, z = np.random.default_rng(0).normal(size=(4, 2, 3)), np.ones((11, 4, 2, 3))
    options = dict(churn=1.0, churn_max=2.0, churn_noise=0.9)
    together = solver_by_hand.run(solvers.heun(schedule, base[..., None], **options), modes, x, z)
    for token in range(2):
        alone = solvers.heun(schedule, base[:, token], **options)
        own = solver_by_hand.run(alone, modes, x[:, token], z[:, :, token])
        np.testing.assert_allclose(together[:, token], own, rtol=1e-9)  # times of raised levels


def test_tokens_of_a_mean_term_are_solved_as_by_their_own_runs(modes):
    """Small samples, whose batch axis comes last; each token starts at a noise of its own."""
    schedule, steps = schedules.MeanReverting(schedules.VPLinear()), np.linspace(1.0, 0.1, 6)
    base = [start * steps for start in (0.9, 0.7, 0.4)]
    x, y = np.random.default_rng(0).normal(size=(2, 4, 3, 2))
    tableau = solvers.heun(schedule, np.stack(base, axis=1)[..., None])
    together = solvers.sample(tableau, modes, x, inputs=(y,))
    for token, grid in enumerate(base):
        own = solver_by_hand.run(
            solvers.heun(schedule, grid), modes, x[:, token], inputs=(y[:, token],)
        )
        np.testing.assert_allclose(together[:, token], own, rtol=1e-11, atol=1e-11)


BAD = [
    (dict(grid=[0.1, 0.9]), "must decrease"),
    (dict(grid=[0.9, 0.5, 0.5, 0.0]), "must decrease .*0.5 is followed by 0.5"),
    (dict(grid=[0.5]), "at least 2 times"),
    (dict(grid=0.5), "at least 2 times"),
    (dict(grid=[1.5, 0.0]), r"spans \[0, 1.5\], outside the schedule's \[0, 1\]"),
    (dict(grid=[0.5, -0.1]), "outside"),
    (dict(grid=[np.nan, 0.1]), "not finite"),
    (dict(grid=jnp.linspace(0.001, 1, 6)), "must decrease"),
    (dict(grid=jnp.linspace(1000.0, 0, 6)), "outside"),
    (dict(name="heun", schedule=schedules.VPCosine(), grid=jnp.array([1.0, 0.0])), "alpha = 0"),
    (dict(name="sde_dpm_solver_pp_2m", eta=np.inf), "eta = inf"),
    (dict(name="huen"), "unknown solver 'huen': did you mean 'heun'"),
    (dict(name="ddim", eat=1.0), "did you mean 'eta'"),
    (dict(name="ddim", eta=-0.1), "eta = -0.1"),
    (dict(name="ddim", eta=1.1), "eta = 1.1"),
    (dict(name="ddpm", variance="big"), "variance = 'big': allowed are small, large"),
    (dict(name="euler", variable="t"), "variable = 't': allowed are sigma, time"),
    (dict(name="heun", churn=-1.0), "must not be negative"),
    (dict(name="heun", churn_min=2.0, churn_max=1.0), "churn_min = 2.0"),
    (dict(name="heun", churn=5.0, grid=[1.0, 0.5, 0.0]), "beyond the end of the schedule"),
    (dict(name="heun", schedule=schedules.RectifiedLinear(), grid=[1.0, 0.0]), "alpha = 0"),
    (dict(name="euler_maruyama", schedule=schedules.RectifiedLinear(), grid=[1, 0]), "alpha > 0"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_bad_input_is_refused_with_one_line(options, message):
    options = {"name": "ddim", "schedule": schedules.VPLinear(), "grid": [0.9, 0.0]} | options
    with pytest.raises(PersonError, match=message) as error:
        solvers.make(**options)
    assert "\n" not in str(error.value)


def test_a_jax_grid_may_overshoot_the_end_by_the_rounding_of_its_type():
    """0.1 in float32 is above 0.1."""
    grid = jnp.asarray([0.1, 0.05, 0.0], jnp.float32)
    assert solvers.ddim(schedules.EDM(0.1), grid).num_rows == 2


def tokens(ready, last):
    """Two tokens from t = 0.95; the second is at `last` from row `ready` on."""
    return np.stack(
        [np.linspace(0.95, 0, 9), np.r_[np.linspace(0.95, last, ready), [last] * (9 - ready)]], 1
    )[..., None]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("grid", [tokens(5, 0.0), tokens(9, 0.2)], ids=["ready early", "not ready"])
@pytest.mark.parametrize("name", solvers.REGISTRY)
def test_tokens_that_are_not_clean_together_are_solved_or_refused(name, grid):
    for schedule in (schedules.VPLinear(), schedules.EDM(80.0)):
        with contextlib.suppress(PersonError):
            tableau = solvers.make(name, schedule, grid)
            for row in solvers.unstack(tableau):
                assert all(np.isfinite(weight).all() for weight in row.coef.values())


def test_ddim_with_all_noise_has_the_derivatives_of_ddpm():
    """Also from a start without signal, where std = sigma and its root has no derivative."""
    schedule = schedules.RectifiedLinear()

    def slopes(build):
        # Of all rows but the last, which a trace takes for one to clean data.
        coef = jax.jacfwd(lambda grid: build(grid).phases[0].coef)(jnp.array([1.0, 0.6, 0.3, 0.1]))
        return jax.tree.map(lambda a: a[:-1], coef)

    ddpm = slopes(lambda grid: solvers.ddpm(schedule, grid))
    ddim = slopes(lambda grid: solvers.ddim(schedule, grid, eta=1.0))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(ddpm))
    jax.tree.map(check, ddim, ddpm)
    fresh = slopes(lambda grid: solvers.euler_ancestral(schedule, grid, eta=1.5))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(fresh))
