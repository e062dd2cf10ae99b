"""What the study of fitted samplers compares: budgets, other starts and mixtures, what is best."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from analysis import learned_solvers as analysis
from configs import learned_solvers as configs
from dfx import solvers
from dfx.runs.checks import ConfigError
from dfx.runs.config import from_plain
from experiments import learned_solvers as study
from experiments.shared import public_problem
from experiments.shared.solver_budget import Way, on_path
from experiments.shared.solver_stack import jitted


@pytest.fixture
def problem(x64):
    return study.public(configs.get_config("smoke"), None)


def test_starts_to_judge_on_are_those_of_the_packages_and_none_of_the_fit(problem):
    judged, fitted = (problem.draw(jax.random.key(0), 6, held_out) for held_out in (True, False))
    np.testing.assert_array_equal(judged, public_problem.starts(6))
    assert not np.isin(fitted, judged).any()
    # Both have the spread of x_T / alpha; 6 times 2 numbers: a factor of 2 is 3.4 standard errors.
    for x in (judged, fitted):
        assert 0.5 < np.std(x) / np.sqrt(1 + public_problem.NOISE**2) < 2


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("name", ["ddim", "heun", "flow_rk4"])
def test_a_fixed_sampler_spends_at_most_the_budget_and_starts_at_the_noise(problem, name, half):
    tableau = on_path(name, Way(2.0, half), 8, problem.noise)
    first = solvers.unstack(tableau)[0].level
    assert tableau.num_rows == {"ddim": 8, "heun": 7, "flow_rk4": 5}[name]
    np.testing.assert_allclose(first.sigma / first.alpha, public_problem.NOISE, 1e-9)


def test_half_way_changes_the_last_step_alone(problem):
    whole, half = (on_path("ddim", Way(1.5, half), 6, problem.noise) for half in (False, True))
    for one, other in zip(solvers.unstack(whole)[:-1], solvers.unstack(half)[:-1]):
        assert one.coef == other.coef
    alpha = solvers.unstack(half)[-1].level.alpha
    assert solvers.unstack(half)[-1].coef == {(0, 0): 0.5 / alpha, (0, solvers.output(0)): 0.5}


def test_distances_are_nan_for_a_solver_that_is_not_there(problem):
    field, x = jitted(problem.field), public_problem.starts(3)
    tableau = on_path("ddim", Way(1.0, False), 3, problem.noise)
    exact = np.zeros((3, 2))
    found = study.distances(field, [None, tableau], x, exact, problem)
    assert np.isnan(found[0]).all()
    level = study.PATH.at(study.start_time(problem))
    end = np.asarray(solvers.sample(tableau, problem.field, level.alpha * x))
    np.testing.assert_allclose(found[1], np.linalg.norm(end, axis=1), 1e-9)


def test_a_fitted_sampler_comes_back_from_its_arrays(x64):
    times = np.array([0.9, 0.6, 0.3, 0.1, 0.0])
    rows = [[], [0.3], [-0.2, 0.1], [0.5, 0.2]]
    stored = np.array([[0, 0], [0.3, 0], [-0.2, 0.1], [0.5, 0.2]])
    run = SimpleNamespace(arrays=lambda name, _: {"times": times, "corrections": stored})
    back, made = study.learned_tableau(run, 4), solvers.multistep(study.PATH, times, rows)
    for one, other in zip(solvers.unstack(back), solvers.unstack(made)):
        assert {k: v for k, v in one.coef.items() if v} == {
            k: v for k, v in other.coef.items() if v
        }


def test_other_mixtures_are_like_the_public_one():
    drawn = [study.mixture(seed) for seed in range(20)]
    weights = np.exp([np.sort(m.log_weights) for m in drawn])
    np.testing.assert_allclose(weights, np.tile(np.sort(public_problem.WEIGHTS), (20, 1)), 1e-12)
    variances = np.stack([m.spectrum for m in drawn])
    assert (variances >= 0.15**2 - 1e-12).all() and (variances <= 0.35**2 + 1e-12).all()
    assert np.linalg.norm([m.means for m in drawn], axis=-1).max() <= np.sqrt(1.2)
    assert len({m.means.tobytes() for m in drawn}) == 20


@pytest.fixture
def errors():
    """Two solvers in two ways; the first set of numbers is what the fits saw."""
    fixed = np.array(
        [  # (solvers, ways, budgets, 1 + sets)
            [[[4.0, 40.0, 41.0], [4.0, 1.0, 1.0]], [[3.0, 30.0, 31.0], [5.0, 1.0, 1.0]]],
            [[[9.0, 1.0, 1.0], [2.0, 20.0, 21.0]], [[np.nan] * 3, [np.nan] * 3]],
        ]
    )
    arrays = {
        "axes": {"solvers": np.array(["ddim", "heun"]), "ways": np.array(["one", "two"])},
        "fixed_public": {"errors": fixed},
        "descend_public_5": {"errors": np.array([3.0, 3.1])},
        "descend_public_10": {"errors": np.array([2.0, 2.1])},
    }
    config = {"budgets": (5, 10), "problems": ("public",), "fit": {"ways": ("descend",)}}
    return analysis.Errors(SimpleNamespace(config=from_plain(config), arrays=arrays.__getitem__))


def test_the_best_fixed_sampler_is_chosen_on_the_starts_of_the_fit_alone(errors):
    np.testing.assert_array_equal(errors.of("public", "best fixed"), [[30.0, 31.0], [20.0, 21.0]])
    np.testing.assert_array_equal(errors.of("public", "ddim"), [[30.0, 31.0], [1.0, 1.0]])


def test_a_ratio_is_the_geometric_mean_over_budgets(errors):
    np.testing.assert_allclose(errors.ratio("public", "descend", "best fixed"), [0.1, 0.1], 1e-12)


@pytest.mark.parametrize(
    ("num_starts", "expected"), [(256, [3.0, 2.0]), (128, [3.05, 2.05]), (64, None), (100, None)]
)
def test_public_packages_are_compared_on_their_own_starts_or_not_at_all(
    errors, num_starts, expected
):
    errors._run.config = from_plain({"judge": {"num_sets": 2, "num_starts": num_starts}})
    found = errors.on_public_starts("descend")
    assert found is None if expected is None else np.allclose(found, expected)
    claims = analysis.public_claims(errors)
    assert [claim.id for claim in claims] == ([] if expected is None else ["1a", "1b"])
    assert all(claim.low == claim.ours == claim.high for claim in claims)


@pytest.mark.slow
def test_what_is_fitted_is_better_on_other_starts_than_where_it_began(x64):
    """Six starts, 40 updates: DPM-Solver++(2M) on the same grid is behind on starts not seen."""
    config = configs.get_config("smoke")
    config.update({"fit": {"num_updates": 40, "learning_rate": 0.02}})
    problem = study.public(config, None)
    times = study.grids.power(study.PATH, 4, 1.5, study.start_time(problem))
    rk4 = on_path("flow_kutta38", Way(2.0, True), 120, problem.noise)
    alpha, field = study.PATH.at(times[0]).alpha, jitted(problem.field)
    x = public_problem.starts(40)
    end = study.run_stack([rk4], field, alpha * x[None])[0]
    seen, other = slice(0, 24), slice(24, 40)
    path = np.zeros((5, 24, 2))
    path[0], path[-1] = alpha * x[seen], end[seen]
    fit = study.FITS["descend"](config, times, problem.field, path)
    begun = solvers.make("dpm_solver_pp_2m", study.PATH, times)
    gaps = study.distances(field, [fit.tableau, begun], x[other], end[other], problem).mean(-1)
    assert gaps[0] < 0.7 * gaps[1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"problems": ("pubic",)}, "did you mean 'public'"),
        ({"fit": {"ways": ()}}, "config.fit.ways: given"),
        ({"budgets": (1, 5)}, "config.budgets: given"),
        ({"budgets": (5, 3)}, "config.budgets: given"),
        ({"budgets": (20, 50)}, "with one up to 10 among"),
        ({"fit": {"ways": ("least_squares",)}}, "with descend among"),
        ({"fit": {"exponent": 1e9}}, "config.fit.exponent: given"),
        ({"judge": {"num_sets": 1}}, "config.judge.num_sets: given 1"),
        ({"fit": {"num_updates": 0}}, "config.fit.num_updates: given 0, allowed: a number above 0"),
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
