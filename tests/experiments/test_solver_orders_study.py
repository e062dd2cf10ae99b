"""Solvers run row by row, exact ends, budgets; and what the analysis makes of given errors."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib import pyplot as plt

from analysis.solver_orders import claims, figures, statistics
from configs import solver_orders as configs
from dfx import fields, schedules, solvers
from dfx.runs.checks import ConfigError
from dfx.runs.config import from_plain
from experiments import solver_orders as study
from experiments.shared import public_problem
from experiments.shared.laws import LAWS
from experiments.shared.solver_budget import within_budget
from experiments.shared.solver_stack import jitted, run_stack

#: Float64 rounding over some tens of rows.
ROUNDING = 1e-11

VP, FLOW = schedules.VPLinear(), schedules.RectifiedLinear()


@pytest.fixture
def law(x64):
    return study.Law(jitted(fields.oracle(LAWS["gaussian"]())), None)


def starts(*shape):
    return np.random.default_rng(0).normal(size=shape)


@pytest.mark.slow
def test_a_stack_gives_what_sample_gives_one_by_one(law):
    """Solvers of other patterns and lengths, on other schedules; the short one waits."""
    grid = np.linspace(0.9, 0.0, 5) ** 2
    tableaus = [solvers.make("unipc_3", VP, grid), solvers.make("heun", FLOW, grid[:-2])]
    x = starts(2, 4, 2)
    field = fields.oracle(LAWS["gaussian"]())
    alone = [solvers.sample(t, field, a) for t, a in zip(tableaus, x)]
    np.testing.assert_allclose(run_stack(tableaus, law.field, x), alone, ROUNDING, ROUNDING)


def test_a_stack_takes_weights_for_each_coordinate_and_further_inputs(law):
    levels = np.linspace(-6.0, 6.0, 41)
    each = np.stack([np.tanh(levels), np.cos(levels)], axis=1)
    table = solvers.ModelStatistics(levels, 0.5 + 0.1 * each, 0.1 * each, 0.2 * each)
    tableau = solvers.dpm_solver_v3(VP, [0.9, 0.7, 0.4, 0.1], table)
    x, ones = starts(1, 5, 2), np.ones((1, 5, 2))
    alone = solvers.sample(tableau, fields.oracle(LAWS["gaussian"]()), x[0], inputs=(ones[0],))
    np.testing.assert_allclose(
        run_stack([tableau], law.field, x, [ones])[0], alone, ROUNDING, ROUNDING
    )


@pytest.mark.slow
def test_exact_ends_of_a_gaussian_are_those_of_the_closed_form(x64):
    """Along each principal axis x / alpha - m grows as sqrt(v + sigma^2)."""
    target = LAWS["gaussian"]()
    v, axes = np.linalg.eigh(target.covariance())
    x, noise, end = 80 * starts(6, 2), 80.0, 0.05
    growth = np.sqrt((v + end**2) / (v + noise**2))
    mean = target.mean()
    expected = mean + (growth * ((x - mean) @ axes)) @ axes.T
    got = study.exact_end(study.EDM, fields.oracle(target), x, (noise, end), 1e-11)
    # 1e-11 a step in units of x / (sigma / alpha), over some tens of steps.
    np.testing.assert_allclose(got, expected, atol=1e-8)


@pytest.mark.parametrize(
    ("name", "budget", "spent"),
    [("ddim", 9, 9), ("heun", 9, 9), ("heun", 8, 7), ("rho_rk4", 8, 5), ("pndm", 9, 9)],
)
def test_a_budget_is_never_exceeded_and_used_as_far_as_steps_go(name, budget, spent):
    def make(n):
        return solvers.make(name, VP, np.linspace(0.9, 0.0, n + 1))

    tableau = within_budget(make, budget, solvers.REGISTRY[name].evaluations)
    assert tableau.num_rows == spent


@pytest.mark.parametrize("schedule", study.SCHEDULES)
@pytest.mark.parametrize("name", study.GRIDS)
def test_every_grid_runs_from_the_named_noise_to_the_data(schedule, name):
    times = study.GRIDS[name].times(study.SCHEDULES[schedule], 6, 80.0)
    level = study.SCHEDULES[schedule].at(times[0])
    assert times.shape == (7,) and times[-1] == 0
    np.testing.assert_allclose(level.sigma / level.alpha, 80.0, 1e-9)


def test_errors_are_distances_from_the_exact_end_in_x_over_alpha(law):
    """Of DDIM: x / alpha - m shrinks by 1 - gain (1 - ratio of noises) along each axis a step."""
    target = LAWS["gaussian"]()
    times = grids_of(VP)
    ends = study.ends_of(
        [None, solvers.ddim(VP, times)], [(VP, times[0], times[-1])] * 2, law, starts(3, 2), 2
    )
    assert np.isnan(ends[0]).all()
    v, axes = np.linalg.eigh(target.covariance())
    levels = [VP.at(t) for t in times]
    noise = np.array([level.sigma / level.alpha for level in levels])
    keep = np.prod(
        [1 - (s - t) / s * s**2 / (v + s**2) for s, t in itertools.pairwise(noise)], axis=0
    )
    mean = target.mean()
    expected = mean + (keep * ((starts(3, 2) - mean) @ axes)) @ axes.T
    np.testing.assert_allclose(ends[1], expected, ROUNDING, ROUNDING)


def test_there_is_no_sampler_for_a_budget_below_one_step():
    def make(n):
        return solvers.make("rho_rk4", VP, np.linspace(0.9, 0.1, n + 1))

    assert within_budget(make, 3, 4) is None


def grids_of(schedule):
    return np.linspace(0.8, 0.2, 5) * schedule.end_time


def test_the_public_problem_is_the_one_that_was_measured(x64):
    """k-diffusion 0.1.1, sample_dpmpp_2m, ten steps of Karras' grid, the first two starts; its
    noise levels were held in float32."""
    schedule, field = schedules.EDM(200.0), jitted(fields.oracle(public_problem.target()))
    times = schedules.grids.karras(schedule, 10, 0.01000132982421665, public_problem.NOISE)
    tableau = solvers.make("dpm_solver_pp_2m", schedule, times)
    end = run_stack([tableau], field, public_problem.starts(2)[None])[0]
    measured = [[1.471455328, 0.350411623], [0.597808225, 1.016515780]]
    np.testing.assert_allclose(end, measured, 1e-5)


def test_fitted_order_of_a_power_law_is_its_power():
    steps = np.array([10.0, 20.0, 40.0])
    errors = np.stack([3 * steps**-2.0, 0.1 * steps**-3.5])
    np.testing.assert_allclose(statistics.fitted_order(steps, errors), [2.0, 3.5], 1e-12)


SOLVERS, LAWS_, SCHEDULES = ("ddim", "heun", "unipc_3"), ("gaussian", "grid"), list(study.SCHEDULES)


def errors_of(names, logs, budgets):
    """Errors of a run of these solvers, log10 of them by name, the same for all laws and sets."""
    arrays = {"axes": {k: np.asarray(v) for k, v in study.axes(names).items()}}
    for name in names:
        values = np.broadcast_to(10 ** logs[name], (2, 4, 6, len(budgets)))[..., None] * np.ones(3)
        spent = np.broadcast_to(budgets, (4, 6, len(budgets)))
        arrays[f"error_{name}"] = {"errors": values, "evaluations": spent}
    config = from_plain({"laws": LAWS_, "errors": {"budgets": budgets}})
    return statistics.Errors(SimpleNamespace(config=config, arrays=arrays.__getitem__))


@pytest.fixture
def errors():
    """log10 error = a[solver] + b[schedule, grid] - budget / 10, the same for all sets."""
    rng = np.random.default_rng(1)
    of_solver, of_grid = np.array([0.0, 1.0, -1.0]), rng.normal(size=(4, 6))
    budgets = (5, 10, 20, 100)
    logs = of_grid[..., None] - np.asarray(budgets) / 10
    read = errors_of(SOLVERS, {n: a + logs for n, a in zip(SOLVERS, of_solver)}, budgets)
    return SimpleNamespace(read=read, of_grid=of_grid, of_solver=of_solver)


def test_ratios_are_geometric_means_over_budgets_and_laws(errors):
    grid = ("vp_linear", "karras")
    ratio = errors.read.ratio(("unipc_3", *grid), ("heun", *grid), (5, 20))
    np.testing.assert_allclose(ratio, [0.01] * 3, 1e-12)
    assert errors.read.has((90, 110)) and not errors.read.has((21, 99))


def test_variance_between_grids_is_compared_with_that_between_solvers_of_higher_order(errors):
    whole = errors.of_grid[:, :4]
    expected = whole.var() / np.var(errors.of_solver[1:])
    np.testing.assert_allclose(errors.read.grid_over_solver((10, 20)), [expected] * 3, 1e-12)


def test_the_best_grids_in_time_are_set_against_the_best_in_noise(errors):
    expected = 10 ** (errors.of_grid[3, :2].min() - errors.of_grid[:, 2:4].min())
    np.testing.assert_allclose(errors.read.straight_over_noise((5, 20)), [expected] * 3, 1e-12)


def test_the_best_samplers_are_listed_each_on_its_best_grid(errors):
    first, second = statistics.best_of(errors.read, "grid", 10, 2)
    i, j = np.unravel_index(errors.of_grid.argmin(), (4, 6))
    best = (SCHEDULES[i], list(study.GRIDS)[j], 10)
    assert first[:4] == ("unipc_3", *best) and second[:4] == ("ddim", *best)
    np.testing.assert_allclose(first.error, 10 ** (errors.of_grid.min() - 2), 1e-12)
    table = statistics.best_samplers(errors.read, 1).splitlines()
    assert len(table) == 2 + 2 * 4 and "| grid | 10 | unipc_3 |" in "\n".join(table)


@pytest.mark.parametrize(
    ("names", "drawn"),
    [
        (("ddim", "heun"), {"ddim", "heun"}),
        (("euler",), {"euler"}),
        (("ddim", "unipc_3"), {"unipc_3"}),
    ],
)
def test_figures_show_the_first_solvers_of_a_run_that_has_none_of_the_usual_ones(names, drawn):
    read = errors_of(names, dict.fromkeys(names, np.zeros((4, 6, 1))), (7,))
    assert set(figures.shown(read, figures.THREE, 3)) == drawn
    for draw in (figures.grids, figures.last_step, figures.work_precision):
        plt.close(draw(read))
    assert figures.ranked_budgets(read) == []


def test_no_figure_is_drawn_of_nothing(tmp_path):
    """A budget that no public package was measured at; orders on laws that are left out."""
    config = from_plain(
        {
            "laws": ("low_rank",),
            "orders": {"laws": ("grid",), "steps": (5, 10)},
            "public": {"budgets": (1,)},
        }
    )
    arrays = {
        "axes": {k: np.asarray(v) for k, v in study.axes(("ddim",)).items()},
        "public_ddim": {"errors": np.ones((4, 1))},
        "order_ddim": {"errors": np.ones((0, 2, 2, 2, 3))},
    }
    run = SimpleNamespace(config=config, arrays=arrays.__getitem__, figures=tmp_path)
    figures.draw_public(run)
    figures.draw_orders(run)
    assert not list(tmp_path.iterdir())
    assert claims.public_claims(run) == claims.order_claims(statistics.Orders(run)) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"solvers": ("ddpm",)}, "config.solvers: unknown value 'ddpm'"),
        ({"laws": ("grdi",)}, "did you mean 'grid'"),
        ({"num_sets": 1}, "config.num_sets: given 1, allowed: a number from 2"),
        ({"tolerance": 1e-3}, "config.tolerance: given 0.001"),
        ({"orders": {"late_start": -5.0}}, "rising half log-SNRs"),
        ({"orders": {"end": 1e3}}, "config.orders.end: given 1000.0, allowed: a number from -5"),
        ({"orders": {"start": -6.0}}, "config.orders.start: given -6.0"),
        ({"orders": {"end": -0.9}}, "0.5 apart"),
        ({"errors": {"budgets": (0, 5)}}, "config.errors.budgets: given"),
        ({"errors": {"budgets": (10, 5)}}, "config.errors.budgets: given"),
        ({"public": {"budgets": (5, 10**7)}}, "config.public.budgets: given"),
        ({"statistics": {"num_samples": 1}}, "config.statistics.num_samples: given 1, allowed: a"),
        ({"statistics": {"num_levels": 2}}, "config.statistics.num_levels: given 2, allowed: a"),
    ],
)
def test_a_wrong_setting_is_named(changes, message):
    config = configs.get_config("smoke")
    config.update(changes)
    with pytest.raises(ConfigError, match=message):
        configs.validate(from_plain(config))


@pytest.mark.parametrize("size", configs.SIZES)
def test_every_size_is_valid(size):
    configs.validate(from_plain(configs.get_config(size)))
