"""The study's own mathematics: its nets of every d, its problems, its lines, its counts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from analysis.subspace_clustering import claims_maps, claims_nets, panels, statistics
from configs import subspace_clustering as configs
from dfx import metrics, nets, subspaces, targets
from dfx.runs import checks
from experiments.subspace_clustering import laws, maps, pictures, problems
from experiments.subspace_clustering import nets as perceptrons


class Folder:
    """The two things of a run that the statistics need."""

    def __init__(self, **arrays):
        self.config, self._arrays = configs.get_config("default"), arrays

    def arrays(self, name):
        return self._arrays[name]


DIMS, COUNTS = np.arange(2, 9), np.arange(2, 16)


def step_map(edge: int, seeds: int = 20) -> np.ndarray:
    """Success exactly where N >= d + edge."""
    success = COUNTS[None] >= DIMS[:, None] + edge
    return np.repeat(success[..., None], seeds, axis=2)


def test_a_net_of_every_dimension_is_the_low_rank_net_of_that_dimension():
    rng = np.random.default_rng(0)
    bases, x = rng.normal(size=(2, 8, 3)).astype(np.float32), rng.normal(size=(4, 8))
    t = np.tile(np.float32([0.8, 0.5]), (4, 1))

    @jax.jit
    def both(bases, x):
        pairs = []
        for d in (1, 2):
            ours, library = maps.masked_low_rank(8, 2, 3), nets.low_rank(8, (d, d))
            masked = ours.apply({"bases": bases}, x, t, problems.columns(d, 3))
            pairs.append((masked, library.apply({"bases": bases[:, :, :d]}, x, t)))
        return pairs

    for ours, expected in both(bases, np.float32(x)):
        np.testing.assert_allclose(ours, expected, atol=2e-6)  # rounding of float32


def test_programs_with_lapack_stay_on_one_cpu_device(monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 8)
    assert problems.num_devices(24) == 1
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert [problems.num_devices(m) for m in (24, 12, 9)] == [8, 4, 1]


@pytest.mark.slow
def test_columns_beyond_the_dimension_have_no_gradient():
    rng = np.random.default_rng(1)
    bases = jnp.asarray(rng.normal(size=(2, 8, 3)), jnp.float32)
    x, t = jnp.asarray(rng.normal(size=(4, 8)), jnp.float32), jnp.full((4, 2), 0.7)
    net, mask = maps.masked_low_rank(8, 2, 3), problems.columns(2, 3)
    gradient = jax.jit(jax.grad(lambda b: (net.apply({"bases": b}, x, t, mask) ** 2).sum()))(bases)
    assert np.abs(gradient[..., :2]).max() > 1e-2
    np.testing.assert_allclose(gradient[..., 2], 0, atol=1e-5)


@pytest.mark.slow
def test_problems_lie_on_their_subspaces_in_equal_numbers_and_pca_steps_at_n_equal_d():
    dims, counts = problems.cells((2, 3), (2, 3, 4), 3)
    assert dims.tolist() == [2] * 9 + [3] * 9 and counts[:9].tolist() == [2] * 3 + [3] * 3 + [4] * 3
    two = problems.draw(jax.random.key(0), dims, counts, 12, 2)
    assert two.points.shape == (18, 8, 12) and two.sizes.tolist() == (2 * counts).tolist()
    inside = np.einsum("mkdr,mnd->mnkr", two.bases, two.points)
    share = (inside**2).sum(3) / (np.asarray(two.points) ** 2).sum(2)[..., None]
    own = np.tile(np.eye(2), (18, 4, 1))
    np.testing.assert_allclose(share, own, atol=1e-5)  # orthogonal: all in one, none in the other
    assert (np.asarray(two.bases) ** 2).sum((1, 2, 3)).round(4).tolist() == (2.0 * dims).tolist()
    one = problems.draw(jax.random.key(1), dims, counts, 12, 1)
    error = problems.principal(one)
    assert error[counts >= dims].max() < 1e-2
    # One direction is missing at least: a distance of sqrt(2), less what chance finds of it.
    assert error[counts < dims].min() > 0.9


@pytest.mark.slow
def test_identities_hold_to_rounding():
    for name, gap in laws.identities().items():
        assert gap < (1e-6 if name == "minimiser" else 1e-12), name


@pytest.mark.slow
def test_the_loss_with_true_labels_is_d_sigma2_over_1_plus_sigma2():
    config = configs.get_config("smoke")
    config.laws.num_draws = 2048
    table = laws.hard_soft(config)
    ratio = table["levels"]
    expected = laws.SHIPPED_DIM * ratio**2 / (1 + ratio**2)
    # |error|^2 is chi-squared with 7 degrees: relative standard error sqrt(2 / 7 / draws); 4 of
    # them, over 4 seeds.
    tolerance = 4 * np.sqrt(2 / 7 / (4 * 2048))
    np.testing.assert_allclose(table["hard"].mean(0), expected, rtol=tolerance)
    assert (table["soft"].mean(0) > (1 - tolerance) * expected).all()


@pytest.mark.parametrize("edge", [0, 1])
def test_a_step_has_its_line_halfway_and_no_spread(edge):
    line = statistics.line(step_map(edge), DIMS, COUNTS)
    slope, low, high = line.slope_interval()
    # The ridge turns the line by a few hundredths.
    assert abs(slope - 1) < 0.05 and high - low < 1e-9
    assert abs(line.beyond(5.0)[0] - (edge - 0.5)) < 0.05


def test_the_line_of_a_logistic_curve_is_found():
    d, n = np.meshgrid(DIMS, COUNTS, indexing="ij")
    x = np.stack([np.ones(d.size), n.ravel(), d.ravel()], axis=1)
    beta = np.array([-1.0, 0.8, -1.2])
    shares = 1 / (1 + np.exp(-x @ beta))
    found = statistics.logistic(x, shares[None], trials=1000)[0]
    np.testing.assert_allclose(found, beta, rtol=2e-3)  # of the ridge
    rng = np.random.default_rng(0)
    success = rng.random((*d.shape, 400)) < shares.reshape(d.shape)[..., None]
    line = statistics.line(success, DIMS, COUNTS)
    for value, resamples, true in (
        (line.slope, line.slopes, 1.5),
        (line.intercept, line.intercepts, 1.25),
    ):
        assert abs(value - true) < 4 * resamples.std()
        assert 0.001 < resamples.std() < 0.2


def test_a_map_without_success_has_no_line():
    line = statistics.line(np.zeros((7, 14, 5), bool), DIMS, COUNTS)
    assert np.isnan([line.slope, line.intercept, *line.beyond(3.0), *line.slope_interval()]).all()


def test_cells_beside_the_edge_are_picked():
    for offset, expected in ((-1, False), (0, True), (1, True)):
        row = statistics.at_offset(step_map(0), DIMS, COUNTS, offset)
        assert (row == expected).all() and len(row) == 7 - (offset == -1)
    assert statistics.above_edge(DIMS, COUNTS).tolist() == step_map(0, 1)[..., 0].tolist()


def test_the_best_start_is_chosen_by_loss_and_the_truth_is_not_among_them():
    loss = np.array([[[[3.0, 1.0, 0.0], [1.0, 2.0, 0.0]]]])
    error = np.array([[[[0.1, 0.9, 0.1], [0.1, 0.9, 0.1]]]])
    run = Folder(map_net_2={"loss": loss, "error": error})
    assert statistics.best_start(run, "map_net_2").tolist() == [[[False, True]]]
    run = Folder(map_net_1={"loss": loss, "error": error}, map_net_2={"loss": loss, "error": error})
    assert statistics.trained_maps(run)["net_2_truth"].tolist() == [[[True, True]]]


def test_errors_at_the_papers_rate_have_slope_one_and_the_planted_ratio():
    dims, counts = np.array([2, 4]), np.array([3, 4, 6, 10, 20])
    rate = statistics.theory_rate(dims, counts)
    assert np.isnan(rate[1, 0]) and rate[0, 1] == pytest.approx(1 / (2 - 1))
    scale = np.array([0.3, 0.7])[:, None]  # one factor for each d
    error = np.repeat(np.where(np.isfinite(rate), scale * rate, 2.0)[..., None], 3, axis=2)
    table = {"dims": dims, "counts": counts, "error": np.stack([error, 1.1 * error])}
    run = Folder(noise=table)
    np.testing.assert_allclose(statistics.noise_slopes(run), 1, atol=1e-12)
    np.testing.assert_allclose(statistics.ambient_ratio(run), 1.1, rtol=1e-12)


def test_scores_count_samples_that_are_new_and_in_place():
    run = Folder()
    run.config.nets.update(dims=(3,), ratios=(5,), num_seeds=2, new=0.5, near=0.25)
    fresh = np.full((3, 4), 2.0)  # the cut is at 1; the third member is the rank's law
    distance = np.array([[0.5, 0.9, 1.1, 3.0], [1.1, 1.1, 1.1, 1.1], [0, 0, 0, 0]])
    off = np.array([[0.0, 0.0, 0.2, 0.3], [0.2, 0.2, 0.2, 0.3], [0, 0, 0, 0]])
    run._arrays["perceptrons_samples"] = {"fresh": fresh, "distance": distance, "off": off}
    found = statistics.scores(run)
    assert found["score"].tolist() == [[[0.25, 0.75]]]
    assert found["new"].tolist() == [[[0.5, 1.0]]]
    assert found["placed"].tolist() == [[[0.75, 0.75]]]
    assert found["fresh"].tolist() == [[[1.0, 1.0]]]


def test_the_gap_between_curves_is_that_of_their_means_and_not_of_single_nets():
    curves = np.array([[0.1, 0.5], [0.3, 0.5]])
    still = np.repeat(curves[..., None], 4, axis=2)
    np.testing.assert_allclose(statistics.collapse_gap(still), 0.1)
    rng = np.random.default_rng(0)
    one_law = rng.normal(0.5, 0.1, (3, 40, 20))  # the range of three normals is 1.69 deviations
    gap, *resamples = statistics.collapse_gap(one_law)
    assert np.ptp(one_law, axis=0).mean() == pytest.approx(0.169, abs=0.02)
    assert gap == pytest.approx(0.169 / np.sqrt(20), rel=0.25)
    assert gap < np.mean(resamples) < 0.07  # both draws of seeds add to it
    away = np.array([[[0.1], [0.6]], [[0.2], [0.5]]]) + rng.normal(0, 0.02, (2, 2, 20))
    low, high = statistics.interval(statistics.collapse_gap(away)[1:])
    assert low < 0.1 < high and high - low < 0.03


def picture_folder(levels, ranks):
    """Two nets of mean rank a tenth below and above, of ten pixels."""
    run = Folder()
    run.config.pictures.names = ("cifar10",)
    rank = 10 * np.asarray(ranks)[:, None, None] + np.array([-0.1, 0.1])[None, :, None]
    run._arrays["rank_cifar10"] = {"levels": np.asarray(levels), "rank": rank, "pixels": 10}
    run._arrays["edits_cifar10"] = {"change": np.array([[3.0, 1.0], [3.1, 1.0]])}
    return run


def test_ranks_of_pictures_are_judged_at_their_largest_in_the_middle_and_at_both_ends():
    """A rank that falls steadily with the noise is small at one level, not throughout."""
    falling = picture_folder((0.05, 0.7, 2.0, 10.0, 100.0), (0.65, 0.42, 0.29, 0.05, 0.04))
    found = {claim.id: claim for claim in claims_nets.picture_claims(falling)}
    assert set(found) == {"7zm", "7zl", "7zh", "10z"}
    assert [found[f"7z{part}"].ours for part in "mlh"] == pytest.approx([0.42, 0.65, 0.04])
    assert "sigma / alpha = 0.7" in found["7zm"].statement and found["7zm"].verdict == "fails"
    assert found["7zh"].verdict != "holds"
    valley = picture_folder((0.05, 0.7, 12.0, 100.0), (0.05, 0.01, 0.02, 0.05))
    assert "alpha = 12" in claims_nets.picture_claims(valley)[0].statement
    without = picture_folder((0.7, 2.0), (0.05, 0.01))
    assert [claim.id for claim in claims_nets.picture_claims(without)] == ["7zm", "10z"]


def test_every_set_of_pictures_has_its_letter_and_every_curve_its_look():
    assert sorted(claims_nets.LETTERS) == sorted(configs.PICTURES)
    assert len(set(claims_nets.LETTERS.values())) == len(configs.PICTURES)
    looks = list(panels.looks(range(20)))
    assert len({look[1:] for look in looks}) == 20
    assert len({color for _, color, _ in looks[:7]}) == len({mark for *_, mark in looks[:7]}) == 7


def test_the_middle_is_t_from_02_to_07_of_the_schedule():
    level = maps.SCHEDULE.at(np.array([0.2, 0.7]))
    np.testing.assert_allclose(level.sigma / level.alpha, statistics.MIDDLE, rtol=0.03)


def test_as_many_angles_are_tried_as_a_share_of_nine_tenths_needs():
    """Wilson's interval of all successes begins at n / (n + 1.96^2)."""
    for size in ("default", "paper", "pod"):
        low = metrics.wilson(*(configs.get_config(size).laws.angle_seeds,) * 2)[1]
        assert low > 0.9


def test_distance_off_subspaces_is_the_sine_to_the_nearest():
    bases = np.eye(4)[None, :, :2].repeat(2, axis=0)
    bases[1] = np.eye(4)[:, 2:]
    turn = np.radians(30)
    x = np.array([[5 * np.cos(turn), 0, 5 * np.sin(turn), 0], [0, 1, 0, 1.0], [0, 0, 0, 3.0]])
    expected = [np.sin(turn), np.sqrt(0.5), 0]
    # The square root of the rounding of float32.
    np.testing.assert_allclose(perceptrons.off_subspaces(x, bases), expected, atol=1e-3)


def test_the_score_line_of_a_collapse_in_n_over_d_is_flat():
    run = Folder()
    run.config.nets.update(dims=(2, 4, 8), ratios=(5, 10, 20, 40), num_seeds=3)
    ratio = np.tile(np.repeat(run.config.nets.ratios, 3), 3)
    rows = len(ratio) + 3  # the last three are the rank's law
    off = np.where(np.append(ratio, [0] * 3) >= 20, 0.1, 0.9)[:, None]
    run._arrays["perceptrons_samples"] = {
        "fresh": np.ones((rows, 1)),
        "distance": np.ones((rows, 1)),
        "off": off,
    }
    line = statistics.score_line(run)
    assert abs(line.slope) < 1e-9 and line.intercept == pytest.approx(np.log(10 * 20) / 2, abs=0.1)


def test_means_and_ends_are_read_at_the_level_nearest_in_logarithms():
    run = Folder(rank={"levels": np.array([0.5, 2.0]), "net": np.arange(8.0).reshape(2, 2, 2)})
    np.testing.assert_allclose(statistics.rank_at(run, "net", 1.1), [4.5, 6.5])
    assert statistics.interval(np.arange(1001.0)) == (25, 975)
    run = Folder(map={"error": np.array([0.4, 0.6])})
    run.config.tolerance = 0.5
    assert statistics.found(run, "map").tolist() == [True, False]


def test_recovery_at_an_angle_is_judged_in_units_of_its_sine():
    angles = np.array([5.0, 90.0])
    error = np.array([0.4, 0.4])[:, None, None]
    run = Folder(angles={"angles": angles, "counts": np.array([6]), "error": error})
    assert statistics.angle_success(run).ravel().tolist() == [False, True]


@pytest.mark.slow
def test_the_jacobian_of_one_subspace_is_its_projector():
    basis = np.linalg.qr(np.random.default_rng(0).normal(size=(5, 2)))[0][None]
    level = type("Level", (), {"alpha": 0.8, "sigma": 0.5})
    found = laws.jacobian(
        jnp.asarray(np.repeat(basis, 3, axis=0)), jnp.ones(5), level
    )  # three copies
    expected = 0.8 / (0.8**2 + 0.5**2) * basis[0] @ basis[0].T
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_claims_on_a_step_hold_for_the_law_it_was_made_by():
    table = {"dims": DIMS, "counts": COUNTS}
    of = {c.id: c.verdict for c in claims_maps.line_claims("x", "x", step_map(1), table, edge=1)}
    assert of == {"xs": "holds", "xp": "fails", "xq": "holds"}
    of = {c.id: c.verdict for c in claims_maps.line_claims("x", "x", step_map(0), table)}
    assert of == {"xs": "holds", "xp": "holds"}


@pytest.mark.slow
def test_the_jacobian_of_a_scaled_perceptron_is_asked_for_at_the_scaled_level():
    """x0 of one subspace and unit * x0, unit times the noise ratio: one point up to a factor."""
    basis = np.eye(6)[None, :, :2].astype(np.float32)
    law = targets.union_of_subspaces(jnp.asarray(basis))
    level, scaled = (laws.level_at(maps.SCHEDULE, ratio) for ratio in (0.5, 1.5))
    x, wide = perceptrons.noised(law, jax.random.key(0), 8, level, scaled)
    np.testing.assert_allclose(wide / scaled.alpha, 3 * x / level.alpha, rtol=1e-4)


@pytest.mark.slow
def test_singular_values_of_a_linear_field_are_those_of_its_matrix():
    matrix = np.random.default_rng(3).normal(size=(12, 12)).astype(np.float32)

    def field(x, level):
        return (x.reshape(len(x), -1) @ matrix.T).reshape(x.shape)

    found = pictures.singular_values(
        jax.tree_util.Partial(field), jnp.ones((2, 2, 2, 3)), laws.level_at(maps.SCHEDULE, 1.0)
    )
    expected = np.linalg.svd(matrix, compute_uv=False)
    np.testing.assert_allclose(found, [expected] * 2, atol=1e-3 * expected[0])


@pytest.mark.slow
def test_training_from_the_truth_stays_and_its_loss_is_that_of_the_exact_denoiser(tmp_path):
    """At the truth with ample points the plain loss is least: a few steps at rate 0 change nothing,
    and the loss measured is the mean of d sigma^2 / (alpha^2 + sigma^2) / n over the times."""
    d, n = 2, 12
    of = problems.draw(jax.random.key(0), [d], [400], n, 1)
    error, loss = maps.judge(of, {"bases": of.bases})
    level = maps.SCHEDULE.at(np.linspace(*maps.TIMES, 2001))
    c = level.alpha / (level.alpha**2 + level.sigma**2)
    x2 = float((np.asarray(of.points) ** 2).sum(2).mean())
    rho = (level.alpha * c) * (2 - level.alpha * c)
    expected = np.mean(x2 * (1 - rho) + c**2 * level.sigma**2 * d) / n
    assert error[0] < 1e-3
    # 400 * 32 draws; the loss of one varies by less than three times its mean: 4 standard errors.
    assert loss[0] == pytest.approx(expected, rel=4 * 3 / np.sqrt(400 * maps.REPEATS))
    assert subspaces.coefficients_at(level).gain == pytest.approx(rho)


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("maps.points.dims", (2, 17), "a number from 1 to 16"),
        ("maps.counts", (4, 2), "rising numbers"),
        ("maps.restarts", (5,), "two: uniform, through points"),
        ("laws.angles", (0.5, 90.0), "a number from 1.0 to 90.0"),
        ("nets.rank.levels", (0.1, 40.0), "a number from 0.001 to 37.5"),
        ("pictures.levels", (0.1, 200.0), "a number from 0.001 to 150.0"),
        ("maps.num_seeds", 1, "a number from 2 to 10000"),
        ("maps.counts", (2, 9), "with d and d + 1 for a d of maps.dims"),
        ("maps.points.counts", (4, 5), "with d and d + 1 for a d of maps.points.dims"),
        ("maps.counts", (3, 4), "one below its last"),
        ("nets.ratios", (5,), "two rising numbers or more"),
        ("laws.noise_counts", (2, 3), "two of them at least laws.noise_dims' last, 3"),
        ("pictures.digits", {"patch": 3, "width": 48, "depth": 2, "heads": 4}, "multiples of 3"),
    ],
)
def test_bad_settings_are_refused_in_one_line(setting, value, words):
    config = configs.get_config("smoke")
    group, _, name = setting.rpartition(".")
    checks.value_of(config, group)[name] = value
    with pytest.raises(checks.ConfigError, match=f"config.{setting}") as error:
        configs.validate(config)
    assert words in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("size", configs.SIZES)
def test_every_size_is_allowed(size):
    configs.validate(configs.get_config(size))
    assert configs.get_config(size).maps.num_seeds >= (4 if size == "smoke" else 20)
