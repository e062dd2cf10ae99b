"""The study's own mathematics: its losses, its growth, its kicks, its starts, its counts."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from analysis.gaussian_painters import claims_nets, claims_samples, statistics
from configs import gaussian_painters as configs
from dfx import evolution, fields, nets, schedules, solvers, targets
from dfx.runs import checks
from dfx.schedules import Level
from experiments.gaussian_painters import exact, paths, teleport
from experiments.gaussian_painters import fields as study_fields
from experiments.gaussian_painters import nets as setup

VARIANCE = np.array([4.0, 0.5, 0.1, 0.02])
MEAN = np.array([0.3, -0.2, 0.0, 0.5])
LAW = targets.Mixture.full(MEAN[None], np.diag(VARIANCE)[None])
SPECTRUM = study_fields.spectrum(LAW)


class Folder:
    """The two things of a run that the statistics need."""

    def __init__(self, config=None, **arrays):
        self.config, self._arrays = config, arrays

    def arrays(self, name):
        return self._arrays[name]


@pytest.mark.slow
def test_clouds_of_points_look_gaussian_from_afar_at_the_rates_derived():
    """Rates 6, 8 and 4 within 0.1 at the last doubling: the next order is relatively sigma^-1."""
    config = configs.get_config("smoke")
    with jax.enable_x64(True):
        far = exact.far_field(config)["unexplained"]
    np.testing.assert_allclose(np.log2(far[:, -2] / far[:, -1]), [6, 8, 4], atol=0.1)


def test_half_levels_are_where_the_growth_of_a_gaussian_says():
    sigma = np.geomspace(80.0, 1e-3, 4001)
    grown = 1 / np.sqrt(1 + sigma[:, None] ** 2 / VARIANCE)
    # Linear interpolation over steps of 0.3 % in sigma is of second order.
    np.testing.assert_allclose(exact.half_levels(sigma, grown), np.sqrt(3 * VARIANCE), rtol=1e-5)
    share = exact.half_levels(sigma, grown, 0.25)
    np.testing.assert_allclose(share, np.sqrt(15 * VARIANCE), rtol=1e-5)


def test_half_level_of_a_mode_that_crosses_twice_is_the_last_and_of_one_that_never_does_is_nan():
    sigma = np.exp(-np.arange(5.0))
    grown = np.array([[0.0, 0.9, 0.0], [1.0, 0.8, 0.1], [0.0, 0.9, 0.2],
                      [1.0, 1.0, 0.3], [1.0, 1.0, 0.4]])  # fmt: skip
    found = exact.half_levels(sigma, grown)
    assert found[0] == pytest.approx(np.exp(-2.5))
    assert np.isnan(found[1:]).all()


@pytest.mark.parametrize("rank", [0, 2, 4])
def test_denoising_loss_is_that_of_draws(rank):
    """200,000 draws: the errors of data and noise apart, each within 4 standard errors."""
    rest, rng = 0.01, np.random.default_rng(0)
    sigma = np.exp(-1.2 + 1.2 * rng.normal(size=200_000))[:, None]
    x0 = rng.normal(size=(200_000, 4)) * np.sqrt(VARIANCE)
    model = np.where(np.arange(4) < rank, VARIANCE, rest)
    x = x0 + sigma * rng.normal(size=x0.shape)
    weight = (sigma**2 + 0.25) / (0.5 * sigma) ** 2
    values = (weight * (model / (model + sigma**2) * x - x0) ** 2).sum(1)
    error = values.std() / np.sqrt(len(values))
    assert abs(values.mean() - study_fields.denoising_loss(VARIANCE, rank, rest)) < 4 * error


def test_loss_of_full_rank_is_the_least_and_the_mean_variance_a_better_rest_than_the_floor():
    config = configs.get_config("smoke")
    found = study_fields.ranks(config, VARIANCE)
    assert found["floor"][-1] == found["mean"][-1]
    assert (found["mean"] <= found["floor"]).all()
    assert (np.diff(found["floor"]) < 0).all() and (np.diff(found["mean"][:-1]) < 0).all()
    assert found["mean"][-2] == pytest.approx(found["mean"][-1])  # one direction is its own mean


def test_spectrum_puts_the_largest_variance_first():
    np.testing.assert_allclose(SPECTRUM["variance"], VARIANCE)
    rebuilt = (SPECTRUM["basis"] * SPECTRUM["variance"]) @ SPECTRUM["basis"].T
    np.testing.assert_allclose(rebuilt, np.diag(VARIANCE), atol=1e-12)


def test_noise_steps_are_the_logarithm_of_the_level_and_the_net_gets_unit_variance():
    level = schedules.EDM(80.0).at(np.array([0.002, 0.4, 80.0]))
    np.testing.assert_allclose(setup.noise_step(level), [0, 500, 1000], atol=1e-3)
    halves = Level(*(0.5 * entry for entry in level))  # the same ratio on another schedule
    np.testing.assert_allclose(setup.noise_step(halves), setup.noise_step(level), atol=1e-3)
    echo = nets.Net(lambda key: {}, lambda params, x, t, cond=None: x)
    net = setup.preconditioned(echo, (2, 2, 1))
    seen = net.apply({}, jnp.ones((3, 4)), setup.noise_step(level))
    expected = 1 / np.sqrt(np.array([0.002, 0.4, 80.0]) ** 2 + 0.25)
    np.testing.assert_allclose(seen, np.tile(expected[:, None], (1, 4)), rtol=1e-5)


def test_vp_grid_has_variance_one_and_ends_clean():
    sigma, alpha = paths.vp_grid(20)
    np.testing.assert_allclose(alpha**2 * (1 + sigma**2), 1, rtol=1e-6)
    assert sigma[0] == 80.0 and sigma[-1] == 0.0 and alpha[-1] == 1.0
    t = schedules.t_of_log_snr(exact.SCHEDULES["vp_linear"], -2 * np.log(sigma[:-1]))
    np.testing.assert_allclose(np.diff(np.append(t, 0.0)), -t[0] / 20, rtol=1e-4)


def test_closed_path_ends_in_its_last_outline_and_grows_as_the_law_says():
    """`growth` of closed-form paths is 1 / sqrt(1 + sigma^2 / lambda), in float32."""
    sigma = np.append(np.geomspace(80.0, 0.01, 30), 0.0)
    flow = evolution.gaussian_flow(LAW)
    x = 80.0 * jax.random.normal(jax.random.key(0), (5, 4))
    path, outline = paths.closed(flow, x, sigma)
    assert path.shape == outline.shape == (5, 31, 4)
    np.testing.assert_allclose(path[:, -1], outline[:, -1], atol=1e-5)
    np.testing.assert_allclose(path[:, 0], x, rtol=1e-5)
    outlines = ((outline - MEAN) @ SPECTRUM["basis"])[None, None]
    run = Folder(paths={"outlines": outlines, "sigma": sigma})
    found = statistics.growth(run, 0)[0]
    np.testing.assert_allclose(found, 1 / np.sqrt(1 + sigma[:, None] ** 2 / VARIANCE), atol=1e-4)


@pytest.mark.slow
def test_solver_path_of_the_oracle_is_the_closed_path():
    """Heun's error with 40 steps of the EDM grid: second order, here below 2 % of the spread."""
    sigma = schedules.grids.karras(setup.SCHEDULE, 40)
    x = 80.0 * jax.random.normal(jax.random.key(1), (3, 4))
    found = paths.follow(fields.oracle(LAW), x, sigma)
    expected = paths.closed(evolution.gaussian_flow(LAW), x, sigma)
    for one, other in zip(found, expected):
        assert one.shape == other.shape == (3, 41, 4)
        np.testing.assert_allclose(one[:, 1:-1] / (1 + sigma[1:-1, None]),
                                   other[:, 1:-1] / (1 + sigma[1:-1, None]), atol=0.02)  # fmt: skip
        np.testing.assert_allclose(one[:, -1], other[:, -1], atol=0.04)


@pytest.mark.slow
@pytest.mark.parametrize("sigma", [0.3, 5.0])
def test_response_to_kicks_is_the_law_of_a_gaussian(sigma):
    """sqrt(lambda / (lambda + sigma^2)) up to Heun's error with 18 steps."""
    x = 80.0 * jax.random.normal(jax.random.key(2), (2, 4))
    random = np.asarray(jax.random.normal(jax.random.key(3), (2, 4)))
    found = paths.respond(fields.oracle(LAW), x, sigma, 0.2, np.eye(4, dtype=np.float32), random)
    law = np.sqrt(VARIANCE / (VARIANCE + sigma**2))
    np.testing.assert_allclose(found[:-1], law, atol=0.01)
    whole = np.sqrt(np.sum((law * random) ** 2) / np.sum(random**2))
    assert found[-1] == pytest.approx(whole, abs=0.01)


def plan_of(variant, skip, solver="dpm_solver_pp_2m"):
    settings = types.SimpleNamespace(num_steps=8, memory=3)
    field, flow = fields.oracle(LAW), evolution.gaussian_flow(LAW)
    bed = teleport.Bed(field, LAW, flow, jnp.ones((1, 4)))
    return teleport.plan(settings, bed, teleport.Arm(solver, "edm", variant), 80.0, skip), flow


@pytest.mark.parametrize("skip", [0, 2, 5])
def test_arms_start_where_they_should(skip):
    grid = schedules.grids.karras(setup.SCHEDULE, 8)
    for variant, first in (("cold", skip), ("warm", max(skip - 3, 0))):
        (tableau, _, start), flow = plan_of(variant, skip)
        assert tableau.num_rows == 8 - first
        at = setup.SCHEDULE.at(grid[first])
        moved = flow.move(80.0 * jnp.ones((1, 4)), setup.SCHEDULE.at(80.0), at)
        np.testing.assert_allclose(start, moved, rtol=1e-5)
    (tableau, _, start), _ = plan_of("plain", skip)
    assert tableau.num_rows == 8 - skip and float(start[0, 0]) == 80.0


@pytest.mark.slow
def test_net_answers_from_the_level_skipped_to_and_the_gaussian_above_it():
    settings = types.SimpleNamespace(num_steps=8, memory=3)
    silent = fields.from_function(_zero, "x0")
    bed = teleport.Bed(silent, LAW, evolution.gaussian_flow(LAW), jnp.ones((1, 4)))
    arm = teleport.Arm("dpm_solver_pp_2m", "edm", "warm")
    _, field, _ = teleport.plan(settings, bed, arm, 80.0, 4)
    grid = schedules.grids.karras(setup.SCHEDULE, 8)
    x = jnp.ones((1, 4))
    assert float(jnp.abs(field(x, setup.SCHEDULE.at(grid[4]))).max()) == 0.0
    above = setup.SCHEDULE.at(grid[3])
    np.testing.assert_allclose(field(x, above), LAW.denoise(x, above), rtol=1e-5)


def _zero(x, level):
    return 0 * x


@pytest.mark.slow
def test_arms_of_a_gaussian_lose_nothing_and_count_the_evaluations_of_the_net():
    config = configs.get_config("smoke")
    settings = config.teleport
    settings.reference_steps = 80
    bed = teleport.Bed(fields.oracle(LAW), LAW, evolution.gaussian_flow(LAW),
                       jax.random.normal(jax.random.key(4), (64, 4)))  # fmt: skip
    test = np.asarray(LAW.sample(jax.random.key(5), settings.num_samples))
    judge = teleport.Judge(config, SPECTRUM, test)
    assert judge.apart(test, test + 1.0) == pytest.approx(2 / np.sqrt(VARIANCE.sum()), rel=1e-5)
    assert judge.distances(test) == pytest.approx((0, 0, 0), abs=1e-6)
    number = teleport.NUMBERS.index
    for solver, each in (("heun", 2), ("dpm_solver_pp_2m", 1)):
        arm = teleport.Arm(solver, "edm", "cold")
        rows = np.asarray(teleport._run_arm(config, bed, arm, 80.0, judge))
        saved = rows[0, number("evaluations")] - rows[:, number("evaluations")]
        np.testing.assert_array_equal(saved, each * np.asarray(settings.skips))
        assert rows[0, number("same")] == 0 and (rows[1:, number("same")] > 0).all()
        if solver == "heun":  # what is skipped is not got wrong: the closed form is exact here
            assert (np.diff(rows[:, number("fine")]) < 0).all()
    warm = teleport._run_arm(config, bed, teleport.Arm(solver, "edm", "warm"), 80.0, judge)
    np.testing.assert_array_equal(np.asarray(warm)[:, number("evaluations")],
                                  rows[:, number("evaluations")])  # fmt: skip


def planted_teleport(frechet):
    config = configs.get_config("default")
    config.teleport.skips = (0, 1, 2, 4)
    numbers = np.zeros((len(frechet), 4, len(teleport.NUMBERS)))
    numbers[..., teleport.NUMBERS.index("frechet")] = frechet
    return Folder(config, teleport={"arm": numbers})


def test_steps_saved_end_at_the_first_skip_that_is_worse():
    """Tolerance 5 %, 18 steps: a later recovery does not count."""
    run = planted_teleport([[1.0, 0.9, 1.04, 1.2], [1.0, 1.2, 0.5, 0.5], [1.0, 1.0, 1.0, 1.05]])
    inside, outside = statistics.steps_saved(run, "arm", "frechet")
    np.testing.assert_allclose(inside, np.array([2, 0, 4]) / 18)
    np.testing.assert_allclose(outside, np.array([4, 1, 18]) / 18)
    assert statistics.skip_index(run, 0.3) == 3  # 4 of 18 is the nearest to 0.3


def test_steps_saved_reach_to_the_next_skip_and_count_only_where_the_distance_tells():
    run = planted_teleport([[1.0, 1.0, 1.0, 1.2]] * 2)
    table, all_fine = run.arrays("teleport"), planted_teleport([[1.0] * 4] * 2)
    table["heun.edm.cold"] = table["arm"]
    table["heun.scaled.cold"] = all_fine.arrays("teleport")["arm"]
    table["linear"] = np.full((2, len(teleport.DISTANCES)), 1.2)
    first, second, tells = claims_samples.saved_claims(run, "frechet")
    assert (first.id, second.id, tells.id) == ("9a", "9c", "9l")
    assert (first.ours, first.low, first.high) == pytest.approx((2 / 18, 2 / 18, 4 / 18))
    assert (second.low, second.high) == pytest.approx((4 / 18, 1)) and second.verdict == "holds"
    assert tells.ours == pytest.approx(1.2) and tells.verdict == "holds"
    table["linear"] = np.full((2, len(teleport.DISTANCES)), 1.01)
    _, blind, tells = claims_samples.saved_claims(run, "frechet")
    assert tells.verdict == "fails" and blind.verdict == "undecided"
    assert blind.ours == second.ours and np.isnan([blind.low, blind.high]).all()


def test_findings_of_one_seed_have_the_interval_of_their_values():
    values = np.random.default_rng(0).normal(1.0, 0.1, (1, 400))
    fields_of = dict(id="x", paper="", statement="", paper_value="", rule=None)
    claim = statistics.finding(values, **fields_of)
    half = 1.966 * values.std(ddof=1) / 20  # Student's t, 399 degrees of freedom
    assert claim.high - claim.ours == pytest.approx(half, rel=1e-3)
    several = statistics.finding(np.array([[1.0, 3.0], [4.0, 6.0]]), **fields_of)
    assert several.ours == 3.5 and several.seeds == 2


def explained_folder():
    """Two laws at two levels: the first law explains more at the first level alone."""
    score = np.empty((2, 2, 2, 2, 3))  # splits, seeds, levels, models, points
    score[..., 0, 0, :], score[..., 0, 1, :] = 0.01, 0.1
    score[..., 1, 0, :], score[..., 1, 1, :] = 0.2, 0.02
    score[1] = 0.5
    arrays = {"score": score, "names": np.array(["gaussian", "delta"]),
              "levels": np.array([0.5, 2.0])}  # fmt: skip
    return Folder(configs.get_config("default"), explained=arrays)


def test_advantage_is_positive_where_a_law_explains_more():
    run = explained_folder()
    np.testing.assert_allclose(statistics.advantage(run, "gaussian", "delta", 0.5), 1.0)
    # 1.1 is nearer to 2 than to 0.5 by its logarithm.
    np.testing.assert_allclose(statistics.advantage(run, "gaussian", "delta", 1.1), -1.0)
    np.testing.assert_allclose(statistics.advantage(run, "gaussian", "delta", 0.5, 1), 0.0)
    np.testing.assert_allclose(statistics.levels_won(run, "gaussian", "delta", 0.1, 5).shares, 0.5)
    np.testing.assert_allclose(statistics.levels_won(run, "delta", "gaussian", 1, 5).shares, 1.0)


def test_rises_are_counted_from_the_peak_of_the_other_seeds():
    gaussian = np.array([[0.1, 0.9, 0.7], [0.1, 0.6, 0.8], [0.2, 0.5, 0.6]])
    assert statistics.peaks(gaussian).tolist() == [2, 1, 1]
    np.testing.assert_allclose(statistics.since_peak(gaussian, gaussian), [0, 0.2, 0.1])
    delta = np.array([[0.2, 0.5, 0.6]] * 3)
    np.testing.assert_allclose(statistics.since_peak(delta, gaussian), [0, 0.1, 0.1])
    assert np.isnan(statistics.since_peak(delta[:1], gaussian[:1])).all()


def test_nets_that_only_scatter_do_not_decline():
    """Flat curves with noise: their largest value less the last is 0.12 in the mean, of a peak that
    others choose it is 0 within 4 standard errors."""
    flat = np.random.default_rng(0).normal(0.9, 0.1, (400, 5))
    assert (flat.max(axis=1) - flat[:, -1]).mean() > 0.1
    rise = statistics.since_peak(flat, flat)
    assert abs(rise.mean()) < 4 * 0.1 * np.sqrt(2 / 400)


def test_gains_and_linear_share_of_linear_samples_are_those_of_the_law():
    """Samples by the closed form from drawn noise: gains to float32, all variance explained."""
    config = configs.get_config("smoke")
    config.paths.num_modes = 4
    flow, start = evolution.gaussian_flow(LAW), setup.SCHEDULE.at(80.0)
    noise = 80.0 * np.asarray(jax.random.normal(jax.random.key(6), (2, 500, 4)))
    x = np.stack([flow.move(n, start, schedules.CLEAN) for n in noise])
    names = np.array(["net", "gaussian", "delta"])
    run = Folder(config, spectrum=SPECTRUM, paths={"sigma": np.array([80.0, 0.0])},
                 ends={"x": np.stack([x, x, x + 0.5]), "names": names, "noise": noise})  # fmt: skip
    found, law = statistics.gains(run)
    np.testing.assert_allclose(found, np.tile(law, (2, 1)), rtol=1e-2)
    np.testing.assert_allclose(statistics.linear_share(run), 1.0)
    np.testing.assert_allclose(statistics.mse(run, "delta"), 0.25, rtol=1e-5)
    law_of_one = np.array([[[1.0, 0.5]]])
    assert statistics.map_agreement(law_of_one, law_of_one[0]) == 1.0
    assert statistics.map_agreement(0.5 * law_of_one, law_of_one[0]) == 0.75


def test_slopes_and_rank_correlations_leave_out_what_is_missing():
    x = np.array([1.0, 2.0, 4.0, 8.0])
    assert statistics.log_slope(x, np.array([1.0, 4.0, np.nan, 64.0])) == pytest.approx(2.0)
    assert statistics.rank_correlation(x, np.array([1.0, 5.0, np.nan, 6.0])) == pytest.approx(1)
    # 1 - 6 sum d^2 / (n (n^2 - 1)) with the ranks 3, 1, 4, 2 and 1, 3, 4, 2: d^2 = 4, 4, 0, 0.
    shuffled, y = np.array([4.0, 1.0, 8.0, 2.0]), np.array([0.0, 5.0, 9.0, 1.0])
    assert statistics.rank_correlation(shuffled, y) == pytest.approx(0.2)
    assert np.isnan(statistics.log_slope(x, np.full(4, np.nan)))


def test_training_curves_are_explained_shares_and_losses_are_over_that_of_full_rank():
    arrays = {"levels": np.array([0.5, 2.0]), "names": np.array(["gaussian", "delta"]),
              "unexplained": np.arange(8.0).reshape(1, 2, 2, 2) / 10}  # fmt: skip
    ranks = {"ranks": np.array([0, 10, 20, 100]), "floor": np.array([8.0, 6.0, 5.0, 4.0])}
    run = Folder(explained_training=arrays, ranks=ranks)
    np.testing.assert_allclose(statistics.along_training(run, "delta", 2.0), [[0.7, 0.3]])
    assert statistics.loss_ratio(run, 0.12) == (10, 1.5)


def test_modes_settle_where_they_are_half_grown():
    """Grown by 1 / sqrt(1 + sigma^2 / lambda): at sqrt(3 lambda), the clean end left out."""
    sigma = np.append(np.geomspace(80.0, 1e-3, 2001), 0.0)
    grown = 1 / np.sqrt(1 + sigma[:, None] ** 2 / VARIANCE)
    run = Folder(paths={"outlines": grown[None, None, None], "sigma": sigma})
    found = statistics.settle_levels(run, 0)
    np.testing.assert_allclose(found, [np.sqrt(3 * VARIANCE)], rtol=1e-4)


def test_claims_on_authors_tables_are_made_for_their_pictures_alone():
    run = explained_folder()
    assert claims_nets.table_claims(run) == claims_nets.won_claims(run) == []
    run.config.pictures.name = "mnist"
    (claim,) = claims_nets.won_claims(run)  # at one of two levels, the paper: at none
    assert claim.ours == 0.5 and claim.verdict == "fails"
    claims = {claim.id: claim for claim in claims_nets.table_claims(run)}
    assert set(claims) == {"Tg0.5", "Tg2", "Td0.5", "Td2"}
    assert claims["Tg0.5"].ours == pytest.approx(0.99) and claims["Tg0.5"].verdict == "fails"


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("teleport.skips", (1, 2), "given (1, 2), allowed: rising numbers from 0 to at most"),
        ("teleport.skips", (0, 17), "teleport.num_steps - 2 = 16"),
        ("explained.levels", (0.1, 1.0), "allowed: any levels, with 0.5 among"),
        ("kicks.levels", (0.1, 100.0), "a number from 0.002 to 80.0"),
        ("kicks.modes", (1, 30), "allowed: numbers from 1 to 24"),
        ("train.snapshots", (0, 6000), "allowed: numbers below train.num_steps = 6000"),
        ("train.std", 0.0, "given 0.0, allowed: a number above 0"),
        ("pictures.name", "digit", "digits"),
        ("models.num_modes", (5, 2000), "numbers up to 1438, that of the pictures"),
        ("exact.dim", 1, "a number from 4 to"),
        ("pictures.limit", 1, "a number from 16 to"),
        ("teleport.num_samples", 1, "a number from 2 to"),
        ("train.mean", 1e9, "a number from -10.0 to 10.0"),
        ("models.num_modes", (20, 5), "given (20, 5), allowed: rising numbers"),
    ],
)
def test_bad_settings_are_refused_in_one_line(setting, value, message):
    config = configs.get_config("default")
    group, name = setting.split(".")
    config[group][name] = value
    with pytest.raises(checks.ConfigError) as error:
        configs.validate(config)
    assert f"config.{setting}" in str(error.value) and message in str(error.value)
    assert "\n" not in str(error.value)


def test_modes_are_those_in_which_the_pictures_vary():
    config = configs.get_config("default")
    config.paths.num_modes = 64
    with pytest.raises(checks.ConfigError, match="at most 61, the directions in which"):
        configs.validate(config)


def test_a_net_that_does_not_fit_the_pictures_is_refused_by_its_setting():
    config = configs.get_config("smoke")
    config.net.update(kind="dit", width=16, patch=3, heads=2)
    with pytest.raises(checks.ConfigError, match=r"setting config\.net: .* multiples of 3"):
        configs.validate(config)
    config.pictures.pad = 2  # 12 pixels
    configs.validate(config)


@pytest.mark.parametrize("size", configs.SIZES)
def test_every_size_is_valid(size):
    config = configs.get_config(size)
    configs.validate(config)
    assert solvers.REGISTRY.keys() >= set(config.teleport.solvers)
    assert max(config.kicks.modes) <= config.paths.num_modes
