"""The exact propagation of laws, its closed forms, and what the study counts."""

import itertools

import jax
import numpy as np
import pytest
from scipy import stats

from analysis.orders import fit_order
from analysis.solver_laws import statistics
from configs import solver_laws as configs
from dfx import fields, solvers
from dfx.runs import checks
from experiments.shared import laws
from experiments.solver_laws import exact, members, normal, sampling
from experiments.solver_laws.members import MEMBERS, SCHEDULE

PLANE = exact.normal_of(laws.gaussian())
LINE = normal.NARROW
GRID = members.even_grid(8, -4.0, 3.0)


SETTINGS = configs.get_config().grid
FIRST = members.practical_grid(2, SETTINGS)[0]
TOGETHER = ("ddpm", "heun_churn", "sa_solver")


@pytest.fixture(scope="module")
def sampled():
    """Solver -> its tableau of 8 evaluations, 4000 starts on the normal law, and their ends."""
    tableaus = [MEMBERS[name].with_evaluations(8, SETTINGS) for name in TOGETHER]
    x = sampling.start_points(laws.gaussian(), jax.random.key(0), FIRST, 4000)
    found = sampling.sample_all(tableaus, laws.gaussian(), x, jax.random.key(1))
    return {name: (t, x, end) for name, t, end in zip(TOGETHER, tableaus, found)}


def ends(law, grid=GRID):
    return (exact.noised(law, SCHEDULE.at(grid[i])) for i in (0, -1))


def propagated(tableau, law=PLANE, grid=GRID):
    begin, _ = ends(law, grid)
    return exact.propagate(tableau, exact.denoiser_of(law), begin)


@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])
def test_ddim_on_one_dimension_has_its_recursion_of_mean_and_variance(eta):
    """x' = k x + (alpha_t - k alpha_s) x0_hat + std z, moments by hand in the paper's symbols."""
    levels = [SCHEDULE.at(t) for t in GRID]
    m, v = LINE.mean[0], LINE.covariance[0, 0]
    mean, variance = levels[0].alpha * m + 0.3, 1.7
    for s, t in itertools.pairwise(levels):
        std = eta * t.sigma * np.sqrt(1 - (s.alpha * t.sigma / (t.alpha * s.sigma)) ** 2)
        gain = s.alpha * v / (s.alpha**2 * v + s.sigma**2)
        k = np.sqrt(t.sigma**2 - std**2) / s.sigma
        factor = k + (t.alpha - k * s.alpha) * gain
        mean = factor * mean + (t.alpha - k * s.alpha) * (m - gain * s.alpha * m)
        variance = factor**2 * variance + std**2
    start = exact.Normal(np.array([levels[0].alpha * m + 0.3]), np.array([[1.7]]))
    tableau = solvers.ddim(SCHEDULE, GRID, eta)
    end = exact.propagate(tableau, exact.denoiser_of(LINE), start).end
    np.testing.assert_allclose([end.mean[0], end.covariance[0, 0]], [mean, variance], rtol=1e-12)


@pytest.mark.parametrize("name", members.SAME_AS_DDPM)
def test_three_names_of_ddpm_give_one_law(name):
    ours, ddpm = (propagated(MEMBERS[key].on(GRID)).end for key in (name, "ddpm"))
    np.testing.assert_allclose(ours.mean, ddpm.mean, rtol=1e-12)
    np.testing.assert_allclose(ours.covariance, ddpm.covariance, rtol=1e-12)


def test_constant_denoiser_makes_ddpm_exact_at_every_level():
    """Data at a point: gain 0, and every x_t has mean alpha c and variance sigma^2."""
    point = exact.Normal(np.array([0.4]), np.zeros((1, 1)))
    path = propagated(solvers.ddpm(SCHEDULE, GRID), point)
    for level, law in zip(path.levels, path.points):
        np.testing.assert_allclose(law.mean, level.alpha * 0.4, rtol=1e-12)
        np.testing.assert_allclose(law.covariance, [[level.sigma**2]], rtol=1e-12)


def test_path_starts_in_the_start_law_and_has_a_level_a_row():
    path = propagated(MEMBERS["sa_solver"].on(GRID))
    np.testing.assert_allclose(path.points[0].covariance, next(ends(PLANE)).covariance, rtol=1e-14)
    np.testing.assert_allclose([level.t for level in path.levels], GRID[:-1], rtol=1e-12)


@pytest.mark.parametrize("name", TOGETHER)
def test_samples_have_the_propagated_moments(name, sampled):
    """Chi-square of 2 + 3 degrees of freedom: above 25.7 with probability 1e-4."""
    tableau, _, x = sampled[name]
    start = exact.noised(PLANE, SCHEDULE.at(FIRST))
    end = exact.propagate(tableau, exact.denoiser_of(PLANE), start).end
    white = np.linalg.solve(np.linalg.cholesky(end.covariance), (x - end.mean).T)
    off = np.cov(white) - np.eye(2)
    assert len(x) * (np.sum(white.mean(1) ** 2) + 0.5 * np.sum(off**2)) < 25.7


def test_padded_solvers_sample_as_by_themselves(sampled):
    tableau, start, x = sampled["ddpm"]
    alone = solvers.sample(tableau, fields.oracle(laws.gaussian()), start, jax.random.key(1))
    np.testing.assert_allclose(x, alone, atol=2e-3)  # float32, from noise level 50


def test_wrong_prior_moves_every_coordinate_by_its_part_of_sigma(sampled):
    _, right, _ = sampled["ddpm"]
    moved = sampling.start_points(laws.gaussian(), jax.random.key(0), FIRST, len(right), 0.3)
    np.testing.assert_allclose(moved - right, 0.3 * SCHEDULE.at(FIRST).sigma, rtol=1e-4)


@pytest.mark.parametrize("name", TOGETHER)
def test_responses_make_up_the_propagated_covariance(name):
    """Forwards and backwards: R_0 C R_0^T + sum R_i R_i^T is the covariance of the answer."""
    tableau = MEMBERS[name].on(GRID)
    of_x, *of_noise = exact.responses(tableau, exact.denoiser_of(PLANE), 2)
    begin, _ = ends(PLANE)
    total = of_x @ begin.covariance @ of_x.T + sum(r @ r.T for r in of_noise)
    np.testing.assert_allclose(total, propagated(tableau).end.covariance, rtol=1e-11)


def ddpm_by_hand(x, grid, z):
    """The paper's step on the one-dimensional law, z of shape (steps, n)."""
    levels = [SCHEDULE.at(t) for t in grid]
    for (s, t), noise in zip(itertools.pairwise(levels), z):
        a, denoise = s.alpha / t.alpha, exact.denoiser_of(LINE)(s)
        beta = s.sigma**2 - a**2 * t.sigma**2
        x0 = denoise[0][0, 0] * x + denoise[1][0]
        mean = (a * t.sigma**2 * x + t.alpha * beta * x0) / s.sigma**2
        x = mean + np.sqrt(beta) * t.sigma / s.sigma * noise
    return x


def test_strong_distance_is_that_of_samples_on_one_brownian_path():
    """20,000 paths of two grids; a root mean square has the relative error 1 / sqrt(2 n) = 0.5%."""
    coarse, fine = (members.even_grid(n, -4.0, 3.0) for n in (8, 16))
    cells = np.abs(np.diff(SCHEDULE.at(fine).snr))
    denoiser, (begin, _) = exact.denoiser_of(LINE), ends(LINE)
    answers = [exact.responses(MEMBERS["ddpm"].on(g), denoiser, 1) for g in (coarse, fine)]
    found = exact.strong_distance(*answers, cells, begin.covariance)
    rng = np.random.default_rng(0)
    x = begin.mean[0] + np.sqrt(begin.covariance[0, 0]) * rng.normal(size=20_000)
    path = np.cumsum(np.sqrt(cells)[:, None] * rng.normal(size=(16, 20_000)), axis=0)
    path = np.concatenate([np.zeros((1, 20_000)), path])
    x_ends = []
    for grid, stride in ((coarse, 2), (fine, 1)):
        spans = np.abs(np.diff(SCHEDULE.at(grid).snr))
        z = np.diff(path[::stride], axis=0) / np.sqrt(spans)[:, None]
        x_ends.append(ddpm_by_hand(x, grid, z))
    assert abs((x_ends[0] - x_ends[1]).std() / found - 1) < 4.5 * 0.005


def test_errors_are_counted_in_the_coordinates_where_the_law_is_standard_normal():
    moved = exact.Normal(np.array([0.7 + 0.5 * 0.1]), np.array([[0.25 * 1.2]]))
    mean, covariance, distance = exact.errors(moved, LINE)
    np.testing.assert_allclose([mean, covariance], [0.1, 0.2], rtol=1e-12)
    np.testing.assert_allclose(distance, np.hypot(0.1, np.sqrt(1.2) - 1), rtol=1e-12)


def test_standard_errors_are_the_spread_of_sampled_moments():
    """1000 sets of 200 samples: root mean squares to 2.5%; W_2 to first order in 1 / n."""
    x = np.random.default_rng(0).multivariate_normal(*PLANE, size=(1000, 200))
    fits = [exact.Normal(a.mean(0), np.cov(a, rowvar=False)) for a in x]
    found = np.sqrt(np.mean([exact.errors(fit, PLANE) ** 2 for fit in fits], axis=0))
    np.testing.assert_allclose(found, exact.standard_errors(PLANE, 200), rtol=0.06)


@pytest.mark.parametrize(
    ("tau", "name"), [(0.0, "dpm_solver_pp_2m"), (1.0, "sde_dpm_solver_pp_2m")]
)
def test_wrong_prior_is_forgotten_at_the_rate_of_the_closed_form(tau, name):
    """200 steps of second order leave 2% of difference, mostly of the step to clean data."""
    config = configs.get_config()
    start = normal.start_law(config, PLANE, config.early_shift)
    tableau = MEMBERS[name].with_evaluations(200, config.grid)
    end = exact.propagate(tableau, exact.denoiser_of(PLANE), start).end
    run = type("Run", (), {"config": config})
    limit = statistics.wrong_prior_limit(run, PLANE, tau)
    np.testing.assert_allclose(exact.errors(end, PLANE)[0], limit, rtol=0.02)


def test_wrong_mean_is_remembered_in_deviations_of_the_data():
    """tau = 0: sqrt(v / (v + s^2)) of shift / sqrt(v); tau = 1 once more that factor."""
    v, shift, level = np.array([0.25, 4.0]), np.array([1.0, 3.0]), 2.0
    factor = np.sqrt(v / (v + level**2))
    for tau, power in ((0.0, 1), (1.0, 2)):
        found = statistics.remembered(v, shift, level, tau)
        np.testing.assert_allclose(found, shift / np.sqrt(v) * factor**power, rtol=1e-12)


def test_worst_solver_is_judged_by_the_number_of_solvers():
    """Three solvers, two seeds with 2 degrees of freedom each: 3 exp(-x / 2) (1 + x / 2)."""
    check = {"chi_square": np.array([[1.0, 2.0], [8.0, 6.0], [3.0, 3.0]]), "freedom": np.array(2)}
    run = type("Run", (), {"arrays": staticmethod(lambda name: check)})
    assert statistics.check_p_value(run) == pytest.approx(3 * np.exp(-7) * 8)


def test_orders_are_fitted_to_the_last_steps_and_knobs_read_at_their_evaluations():
    steps = np.array([5, 10, 20, 40])
    errors = np.stack([steps**-1.0, steps**-2.0, steps**-3.0], 1)[None, None]
    errors[:, :, 0] = 100.0  # too few steps
    config = configs.get_config()
    config.orders.fit = 3
    config.mixtures.nfe, config.sweeps.nfe = (5, 10, 20), (5, 20)
    values = {nfe: np.full((1, 2, len(sampling.STATISTICS)), nfe) for nfe in (5, 10, 20)}
    for row in values.values():
        row[..., sampling.STATISTICS.index("sliced")] *= 10
    kept = {"orders": {"steps": steps, "errors": errors}, **{
        f"grid_{nfe}": {"tau": row} for nfe, row in values.items()}}  # fmt: skip
    run = type("Run", (), {"config": config, "arrays": staticmethod(kept.__getitem__)})
    for kind in range(3):
        assert statistics.weak_orders(run, kind)[0][0].value == pytest.approx(kind + 1)
    np.testing.assert_array_equal(statistics.swept(run, "grid", "tau"), [[[50, 200]] * 2])


def test_pulse_of_the_whole_path_leaves_what_its_closed_integral_says():
    """tau = 1: int (v + e^2) / (v + u) du / u = (1 + e^2 / v) log of the ratio of u / (v + u)."""
    v, low, high, end = 0.25, 0.2, 0.5, 0.05
    ratio = (high**2 / (v + high**2)) / (low**2 / (v + low**2))
    expected = (1 + end**2 / v) * np.log(ratio)
    got = statistics.pulse_left(v, [low], [high], end, 1.0)
    np.testing.assert_allclose(got, expected, rtol=1e-10)


def test_propagated_pulses_agree_with_the_closed_form():
    """First-order steps of 7/240: the exponents are off by about that."""
    config = configs.get_config()
    config.pulse.update(steps=240, width=8, count=3)
    kept = normal.pulses(config)
    run = type("Run", (), {"config": config, "arrays": staticmethod(lambda name: kept)})
    np.testing.assert_allclose(kept["left"], statistics.pulse_limits(run), rtol=0.06)


def test_shift_of_the_denoiser_is_there_between_its_levels_alone():
    denoiser = exact.denoiser_of(LINE)
    low, high = (members.even_grid(2, -1.0, 1.0)[i] for i in (2, 0))
    bounds = [float(level.sigma / level.alpha) for level in map(SCHEDULE.at, (low, high))]
    wrong = exact.shifted(denoiser, [2.0], *bounds)
    for t, expected in ((0.9 * low, 0.0), ((low + high) / 2, 2.0), (0.5 * (1 + high), 0.0)):
        level = SCHEDULE.at(t)
        assert wrong(level)[1] - denoiser(level)[1] == pytest.approx(expected)
        np.testing.assert_array_equal(wrong(level)[0], denoiser(level)[0])


def test_two_stage_solvers_spend_at_most_the_evaluations_given():
    rows = {
        name: [MEMBERS[name].with_evaluations(nfe, SETTINGS).num_rows for nfe in (4, 10)]
        for name in ("ddpm", "heun", "heun_churn", "sa_solver")
    }
    assert rows == {"ddpm": [4, 10], "heun": [3, 9], "heun_churn": [3, 9], "sa_solver": [4, 10]}


def test_statistics_of_a_moved_and_narrowed_sample_are_the_planted_ones():
    """Samples of the grid, each mode shrunk by half about its mean, then all moved by (3, 4)."""
    target, key, n = laws.grid(), jax.random.key(1), 2000
    noise = np.sqrt(target.variance[0]) * np.random.default_rng(0).normal(size=(n, 2))
    modes = target.means[np.arange(n) % 25]
    x = modes + noise

    def found(samples):
        values = sampling.statistics(target, samples.astype(np.float32), x, key, 200)
        return dict(zip(sampling.STATISTICS, values))

    narrow = found(modes + 0.5 * noise)
    assert narrow["within"] == pytest.approx(-0.5, abs=0.03)  # 1 / sqrt(4 n) is 0.011
    assert narrow["shares"] < 1e-6
    moved = found(x + np.array([3, 4]))
    assert moved["frechet"] == pytest.approx(5, abs=0.05)
    assert moved["sliced"] == pytest.approx(5 / np.sqrt(2), rel=0.15)  # 200 directions: 5%
    assert moved["mean"] == pytest.approx(5 / np.sqrt(2 / n), rel=0.01)  # unit variances


def test_moment_errors_are_those_of_exact_samples():
    """Root mean squares over 300 samples of 100: to 4%, more for fourth moments."""
    x = np.random.default_rng(0).multivariate_normal(*PLANE, size=(300, 100))
    means = np.linalg.norm(x.mean(1) - PLANE.mean, axis=1)
    covariances = [np.linalg.norm(np.cov(a, rowvar=False) - PLANE.covariance) for a in x]
    found = [np.sqrt(np.mean(np.square(a))) for a in (means, covariances)]
    expected = sampling.moment_errors(*PLANE, x.reshape(-1, 2))
    expected = np.sqrt(300) * np.array(expected)  # of 100, not of all
    np.testing.assert_allclose(found, expected, rtol=0.12)


def test_fitted_order_of_a_power_law_is_its_exponent():
    steps = np.array([10, 20, 40, 80])
    order = fit_order(steps, 3.0 * steps**-1.5)
    np.testing.assert_allclose(order, [1.5, 1.5, 1.5], atol=1e-7)
    bent = fit_order(steps, steps**-1.0 + steps**-2.0)
    assert bent.low < bent.value < bent.high and 1 < bent.value < 1.1


def test_interval_of_an_order_is_that_of_the_straight_line():
    """Student's t at 97.5 % with 3 degrees of freedom is 3.1824 (tables)."""
    steps = np.array([10, 15, 40, 80, 100])
    errors = steps**-1.3 * np.exp(np.array([0.1, -0.2, 0.05, 0.15, -0.1]))
    found, line = fit_order(steps, errors), stats.linregress(np.log(steps), np.log(errors))
    half = 3.1824 * line.stderr
    np.testing.assert_allclose(found, [-line.slope, -line.slope - half, -line.slope + half], 1e-4)


def test_best_is_the_smallest_of_those_named():
    errors = np.array([[3.0, 1.0], [2.0, 2.0], [0.0, 0.0]])
    np.testing.assert_array_equal(statistics.best(errors, ("a", "b", "c"), ("a", "b")), [2, 1])


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("num_seeds", 1, "2 to 10000"),
        ("orders.steps", (20, 30, 40, 80, 160), "each is twice the last"),
        ("orders.fit", 6, "3 to 5"),
        ("sweeps.eta", (0.0, 1.5), "0.0 to 1.0"),
        ("sweeps.tau", (0.5, 1.0), "0, the deterministic"),
        ("sweeps.nfe", (10, 11), "two or more of"),
        ("low_rank.solvers", ("ddmp",), "'ddpm'"),
        ("pulse.count", 1000, "fit in pulse.steps"),
        ("grid.sigma_max", 152.0, "1.0 to 100.0"),
        ("orders.steps", (20,), "four numbers or more"),
        ("orders.end", -1e300, "at most"),
        ("orders.end", -4.5, "-3.6 to 6.0"),
        ("orders.end", -3.5, "a number from -3, which is 1 above orders.start, to 6"),
        ("grid.rho", 1e-300, "1.0 to 100.0"),
        ("sweeps.tau", (0.0, 1e3), "0.0 to 4.0"),
        ("pulse.tau", (0.0, 1.0, 1e3), "0.0 to 4.0"),
        ("early_shift", 0.0, "0.001 or more"),
        ("early_shift", 1e9, "-100.0 to 100.0"),
        ("low_rank.num_samples", 1, "16 to 10000000"),
        ("mixtures.num_samples", 1, "16 to 10000000"),
        ("gaussian.num_samples", 1, "2 to 10000000"),
    ],
)
def test_bad_settings_are_refused_in_one_line(name, value, allowed):
    config = configs.get_config()
    *groups, last = name.split(".")
    group = config
    for part in groups:
        group = group[part]
    group[last] = value
    with pytest.raises(checks.ConfigError) as error:
        configs.validate(config)
    assert name in str(error.value) and allowed in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("size", configs.SIZES)
def test_every_size_is_valid(size):
    assert configs.validate(configs.get_config(size)) is None
