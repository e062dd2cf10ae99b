"""The study's own mathematics: its control, its filter, its counts (U3, U6 of the paper's check
list)."""

import jax
import numpy as np
import pytest

from analysis.mode_interpolation import statistics
from configs import mode_interpolation as configs
from dfx import fields, metrics, targets
from dfx.runs import arrays as npz
from dfx.runs.checks import ConfigError
from experiments.mode_interpolation import recursion, study
from experiments.shared import toy_ddpm

MODES, STD = np.array([[1.0], [2.0], [3.0]]), 0.05


@pytest.fixture(scope="module")
def control():
    """50,000 samples of {1, 2, 3} by the paper's sampler with the exact score."""
    config, target = configs.get_config("default"), targets.modes_1d(MODES[:, 0], STD)
    schedule = toy_ddpm.make_schedule(config)
    sampler = toy_ddpm.ancestral(schedule, 1000)
    field, key = fields.oracle(target), jax.random.key(0)
    return toy_ddpm.sample_field(schedule, field, key, sampler, (50_000, 1), (10,))


@pytest.mark.slow
def test_exact_score_sampler_puts_no_sample_beyond_six_standard_deviations(control):
    distance = metrics.nearest_mode(control[0], MODES, STD)[1]
    assert distance.max() < 6


@pytest.mark.slow
def test_exact_score_sampler_gives_each_mode_a_third(control):
    # 3 standard errors of a share of 1/3 in 50,000: 0.0063.
    np.testing.assert_allclose(metrics.mode_shares(control[0], MODES), 1 / 3, atol=0.0063)


@pytest.mark.slow
def test_large_variance_shrinks_the_modes_to_0_047(control):
    # The paper's last steps are coarse at this scale; 0.0005 is 3 standard errors and rounding.
    spread = metrics.within_mode_std(control[0], MODES, STD, pooled=True)
    assert abs(spread - 0.047) < 0.001


@pytest.mark.slow
def test_starting_at_step_300_gives_the_same_law_as_at_1000(control):
    config, target = configs.get_config("default"), targets.modes_1d(MODES[:, 0], STD)
    schedule = toy_ddpm.make_schedule(config)
    sampler = toy_ddpm.ancestral(schedule, 300)
    field, key = fields.oracle(target), jax.random.key(1)
    x, _ = toy_ddpm.sample_field(schedule, field, key, sampler, (50_000, 1), (10,))
    # abar_300 = 8e-5 shifts the start by sqrt(8e-5) * 2 = 0.018 sd; 3 standard errors of the
    # difference of two means with sd 0.82 are 0.016.
    assert abs(x.mean() - control[0].mean()) < 0.018 + 0.016


@pytest.mark.parametrize(("count", "drop"), [(8000, 0.0244), (200, 0.0244), (100, 0.5)])
def test_filter_leaves_the_asked_number_and_drops_the_largest_variances(count, drop):
    total = recursion.num_generated(count, drop)
    assert (total - 1) * (1 - drop) < count <= total * (1 - drop) + 1e-9
    rng = np.random.default_rng(0)
    x, variance = np.arange(total, dtype=float)[:, None], rng.permutation(total).astype(float)
    kept = recursion.keep("variance", x, variance, count)
    gone = np.setdiff1d(x, kept).astype(int)
    assert len(kept) == count
    assert variance[kept[:, 0].astype(int)].max() <= variance[gone].min()


def test_random_filter_does_not_look_at_the_variance():
    x = np.arange(50.0)[:, None]
    for variance in (np.arange(50.0), -np.arange(50.0)):
        np.testing.assert_array_equal(recursion.keep("random", x, variance, 40), x[:40])


def test_uniform_points_are_nearer_to_edges_with_probability_0_414():
    modes = np.stack(np.meshgrid(np.arange(5.0), np.arange(5.0)), -1).reshape(-1, 2)
    edges, diagonals = statistics.segments(modes)
    assert (len(edges), len(diagonals)) == (40, 32)
    x = np.random.default_rng(0).uniform(0, 4, (20_000, 2))
    near = statistics.segment_distance(x, edges).min(1) < statistics.segment_distance(
        x, diagonals
    ).min(1)
    # The bisector of 45 degrees leaves four triangles of height tan(22.5 deg) / 2 to the edges.
    expected = np.tan(np.pi / 8)
    assert abs(near.mean() - expected) < 4 * np.sqrt(expected * (1 - expected) / len(x))


def test_segment_distance_is_that_to_the_nearest_point_of_a_dense_segment():
    rng = np.random.default_rng(1)
    ends, x = rng.normal(size=(3, 2, 2)), rng.normal(size=(40, 2))
    dense = ends[:, :1] + np.linspace(0, 1, 4001)[None, :, None] * (ends[:, 1:] - ends[:, :1])
    nearest = np.linalg.norm(x[:, None, None] - dense, axis=-1).min(-1)
    # The dense points are at most |segment| / 8000 away from the true foot.
    np.testing.assert_allclose(statistics.segment_distance(x, ends), nearest, atol=5e-4)


def test_problems_keep_their_order_in_the_run_folder(tmp_path):
    class Folder:
        """The one thing of a run that is needed; files come back with their keys sorted."""

        def arrays(self, name, compute):
            npz.save(tmp_path / name, compute())
            return npz.load(tmp_path / name)

    law = targets.modes_1d((1.0, 2.0))
    names = ["base", "points_1000", "four"]
    study.keep_laws(Folder(), "one_d", [study.Problem(name, law, 10) for name in names])
    assert npz.load(tmp_path / "one_d_laws")["names"].tolist() == names


def test_hallucinated_share_is_that_of_planted_samples_problem_by_problem():
    """Seeds x samples of two problems with other modes; a sample at a foreign mode is far away."""
    laws = {
        "names": np.array(["wide", "base"]),
        "base.means": np.array([[1.0], [2.0]]),
        "base.std": np.array([0.05]),
        "wide.means": np.array([[1.0], [9.0]]),
        "wide.std": np.array([0.05]),
    }
    x = np.array([[9.0, 1.0], [9.0, 9.0], [2.0, 1.0], [2.0, 1.5]])[..., None]  # problem x seed

    class Folder:
        config = configs.get_config("default")

        def arrays(self, name):
            return laws if name == "one_d_laws" else {"x": x, "variance": np.zeros((4, 2, 1))}

    Folder.config.num_seeds = 2
    found = statistics.Hallucinations(Folder(), "one_d")
    assert found.names == ["wide", "base"]
    np.testing.assert_array_equal(found.shares(), [[0, 0], [0, 0.5]])
    np.testing.assert_array_equal(found.inside("base"), [[0, 1], [0, 1]])  # hits, trials
    # 1.5 is ten standard deviations from both of its modes.
    np.testing.assert_array_equal(found.share("base", cut=9.9), [0, 0.5])
    np.testing.assert_array_equal(found.share("base", cut=10.1), [0, 0])
    # As many snapshots of the first problem as there are problems: all have its modes, 1 and 9.
    along = statistics.Hallucinations(Folder(), "one_d_snapshots", "one_d")
    np.testing.assert_array_equal(along.shares(), [[0, 0], [0.5, 1]])


def test_a_threshold_is_judged_on_the_seed_after_the_one_that_chose_it():
    """Seed 0 keeps scores up to 4, seed 1 up to 40: each removes what lies above the other's."""
    samples = object.__new__(statistics.Hallucinations)
    scores = np.array([[1, 2, 3, 4, 5, 50], [10, 20, 30, 40, 41, 42]], float)
    samples.variance, bad = scores[None, ..., None], np.arange(6) >= 4
    samples.labels = lambda: np.stack([bad, bad])
    np.testing.assert_array_equal(samples.removed(0, keep=1.0), [[1, 2], [2, 2]])
    samples.labels = lambda: np.stack([bad, np.zeros(6, bool)])  # one seed has none
    np.testing.assert_array_equal(samples.removed(0, keep=1.0).trials, [0, 0])


def test_spacings_are_compared_by_a_cut_that_a_sample_in_the_smallest_gap_can_pass():
    class Folder:
        config = configs.get_config("default")

    std, gap = Folder.config.one_d.std, min(Folder.config.one_d.spacings)
    assert statistics.spacing_cut(Folder) * std == pytest.approx(0.4 * gap)
    Folder.config.one_d.spacings = (2.0,)
    assert statistics.spacing_cut(Folder) == Folder.config.detection.cut


@pytest.mark.parametrize("size", configs.SIZES)
def test_every_size_is_valid(size):
    configs.validate(configs.get_config(size))


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("num_seeds", 1, "2 to 10000"),
        ("schedule.num_steps", 1, "a number from 100 to 100000"),
        ("schedule.beta_start", 0.3, "up to schedule.beta_end = 0.2"),
        ("schedule.beta_end", 1.5, "0.0 to 0.9999"),
        ("sample.start_index", 2000, "a number from 10 to 1000"),
        ("detection.windows", (5, 20), "10 among"),
        ("detection.num_samples", 1, "a number from 100 to"),
        ("one_d.std", 100.0, "0.001 to 1.0"),
        ("one_d.spacings", (1e9,), "0.1 to 100.0"),
        ("pictures.sample_steps", 1001, "1 to 1000"),
    ],
)
def test_bad_settings_are_refused_in_one_line(name, value, allowed):
    config = configs.get_config()
    group, _, last = name.rpartition(".")
    (config[group] if group else config)[last] = value
    with pytest.raises(ConfigError) as error:
        configs.validate(config)
    assert f"config.{name}: given" in str(error.value) and allowed in str(error.value)
    assert "\n" not in str(error.value)


def test_a_net_that_does_not_fit_the_pictures_is_refused_by_its_setting():
    config = configs.get_config("smoke")
    config.pictures.net.patch = 3
    with pytest.raises(ConfigError, match=r"setting config\.pictures\.net: .* multiples of 3"):
        configs.validate(config)
