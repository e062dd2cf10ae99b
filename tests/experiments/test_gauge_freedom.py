"""The study's own mathematics: exact fields of manifolds, errors of equal size, counts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate

from analysis.gauge_freedom import statistics
from configs import gauge_freedom as configs
from dfx import diagnostics, schedules, solvers, targets
from dfx.runs.checks import ConfigError
from dfx.schedules import grids
from experiments.gauge_freedom import dimension, exact, manifolds, nets, training
from experiments.shared import perturbed

VP = schedules.make("vp_linear")
BED = perturbed.Bed(perturbed.three_modes(), VP)


class Folder:
    """A run folder of constructed arrays."""

    def __init__(self, **arrays):
        self.config, self._arrays = configs.get_config("default"), arrays

    def arrays(self, name):
        return self._arrays[name]


@pytest.mark.parametrize(("k", "kappa"), [(2, 0.3), (2, 40.0), (3, 0.3), (3, 40.0)])
def test_mean_length_is_the_mean_cosine_of_the_von_mises_fisher_law(k, kappa):
    weight = lambda a: np.exp(kappa * (np.cos(a) - 1)) * np.sin(a) ** (k - 2)  # noqa: E731
    mean = integrate.quad(lambda a: np.cos(a) * weight(a), 0, np.pi)[0]
    expected = mean / integrate.quad(weight, 0, np.pi)[0]
    # The subtraction of 1 / kappa leaves a few roundings of float32.
    np.testing.assert_allclose(manifolds.mean_length(jnp.float32(kappa), k), expected, rtol=1e-5)


def test_mean_length_is_kappa_over_k_near_zero_on_both_sides_of_the_switch():
    for k in (2, 3):
        kappa = jnp.asarray([0.0, 0.5 * manifolds.SMALL, 2 * manifolds.SMALL], jnp.float32)
        # float32 rounds coth - 1 / kappa to 1e-7 / kappa: 6e-5 of 7e-4.
        np.testing.assert_allclose(manifolds.mean_length(kappa, k), kappa / k, atol=1e-4)


def test_exact_field_of_the_circle_is_the_posterior_mean_over_dense_points():
    law, level = manifolds.make("circle3"), VP.at(0.1)
    angle = 2 * np.pi * np.arange(400) / 400
    points = np.stack([np.cos(angle), np.sin(angle)], 1) @ manifolds.frame(3, 2).T
    x = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    square = np.sum((x[:, None] - level.alpha * points) ** 2, axis=-1)
    weight = np.exp(-0.5 * (square - square.min(1, keepdims=True)) / level.sigma**2)
    mean = weight / weight.sum(1, keepdims=True) @ points
    # Equal spacing on a circle converges faster than any power; float32 rounding is left.
    np.testing.assert_allclose(law.exact(x, level.astype(np.float32)), mean, atol=1e-5)


def test_exact_field_of_the_plane_is_that_of_the_gaussian():
    law, level = manifolds.make("plane5"), VP.at(0.3)
    covariance = manifolds.frame(5, 2) @ np.diag(manifolds.PLANE) @ manifolds.frame(5, 2).T
    x = np.random.default_rng(1).normal(size=(6, 5)).astype(np.float32)
    gain = level.alpha * covariance
    gain = gain @ np.linalg.inv(level.alpha**2 * covariance + level.sigma**2 * np.eye(5))
    np.testing.assert_allclose(law.exact(x, level), x @ gain.T, atol=1e-5)


@pytest.mark.parametrize("name", ["plane5", "circle3", "sphere4", "roll5"])
def test_draws_fill_as_many_directions_as_the_manifold_needs(name):
    law = manifolds.make(name)
    x = np.asarray(law.draw(jax.random.key(0), 400))
    flat = {"plane": 2, "circle": 2, "sphere": 3, "roll": 3}[name[:-1]]
    assert x.shape == (400, law.dim)
    assert np.linalg.matrix_rank(x, tol=1e-3) == min(flat, law.dim)
    if name.startswith(("circle", "sphere")):
        np.testing.assert_allclose(np.linalg.norm(x, axis=1), 1, atol=1e-5)


@pytest.mark.slow
def test_gauge_error_is_as_long_as_the_score_and_obeys_the_gauge_condition():
    level = VP.at(0.1)
    x = BED.draw(jax.random.key(0), 50, 0.1)
    score = diagnostics.prediction_at(BED.exact, level)
    error = perturbed.gauge_error(BED, 2.0)
    lengths = [np.linalg.norm(f, axis=1) for f in (error(x, level), score(x))]
    np.testing.assert_allclose(lengths[0], 2 * lengths[1], rtol=1e-4)
    residual = diagnostics.gauge_residual(lambda x: error(x, level), score, x).weighted
    assert np.abs(residual).max() < 1e-4 * np.abs(score(x)).max() ** 2  # float32 rounding


def test_wasserstein_of_a_shift_is_its_length_and_of_overflow_infinite():
    x = np.random.default_rng(2).normal(size=(30, 2))
    others = [x[::-1] + np.array([3.0, 4.0]), np.where(x > 1, np.inf, x), x]
    found = perturbed.distances(np.stack([x] * 3), np.stack(others))
    np.testing.assert_allclose(found, [5, np.inf, 0], atol=1e-12)


@pytest.mark.slow
def test_starts_and_exact_draws_of_one_key_are_independent():
    keys = jax.random.split(jax.random.key(3), 2)
    tableau = solvers.make("flow_euler", VP, grids.uniform(VP, 1, 1.0, 0.9999))
    ends = perturbed.follow(BED, BED.exact, keys, 500, [tableau])[0]
    for copy in (0, 1):
        (truth,) = perturbed.truth(BED, keys, 500, (1.0,), copy)
        for x, y in zip(ends, truth):
            # 4.5 standard errors of a correlation of 500 independent pairs.
            assert np.abs(np.corrcoef(x.T, y.T)[:2, 2:]).max() < 0.2


def test_scaled_weight_is_a_multiple_at_every_time():
    table = diagnostics.TimeTable(np.array([0.1, 1.0]), np.array([2.0, 4.0]))
    level = VP.at(0.55)
    twice = perturbed.scaled(table, 2.0)
    np.testing.assert_allclose(twice(level), 2 * table(level))


def test_inflation_is_that_of_the_stability_functions():
    n = np.array([10, 20, 50, 100, 1000])
    y = 1j * 5.0 / n
    functions = [1 + y, 1 + y + y**2 / 2, 1 + y + y**2 / 2 + y**3 / 6 + y**4 / 24]
    expected = np.stack([np.abs(f) ** n for f in functions])
    found = statistics.inflation(n, 5.0, 1.0)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    # The numbers of the derivation, to their printed digits.
    np.testing.assert_allclose(found[0], [3.05, 1.83, 1.28, 1.13, 1.013], atol=0.005)


def test_order_of_a_constructed_error_is_its_power():
    steps = np.array([10, 20, 40, 80])
    error = np.stack([7.0 / steps**4, 7.0 / steps**2])[:, :, None] * np.ones(3)
    run = Folder(density={"steps": steps, "sizes": np.array([0.0, 5.0]), "error": error})
    for size, order in ((0.0, 4.0), (5.0, 2.0)):
        np.testing.assert_allclose(statistics.density_order(run, size), order)
    error[0, 0] *= 10  # steps too long for the order to show
    np.testing.assert_allclose(statistics.density_order(run, 0.0), 4.0)


def test_excess_is_measured_from_the_run_without_error_seed_by_seed():
    none = np.array([[0.1, 0.2]])
    w2 = np.zeros((2, 3, 1, 2)) + none + np.array([0.0, 1.0])[:, None, None, None]
    run = Folder(ode={"none": none, "w2": w2})
    np.testing.assert_allclose(statistics.excess(run, "ode", statistics.GAUGE), 0)
    np.testing.assert_allclose(statistics.excess(run, "ode", statistics.GRADIENT), 1)


def test_shares_and_roots_are_taken_point_by_point_and_seed_by_seed():
    z = np.array([[1.0, 2.0], [3.0, 2.0], [2.0, 4.0]])  # points x seeds
    parts = {"gradient": 3 * z, "remainder": z, "total": 4 * z}
    fields_of = {"gap": np.arange(len(statistics.FIELDS) * 6.0).reshape(-1, 2, 3)}
    run = Folder(mixture={"mean": 0.1 * z, "mean_error": 0 * z + 0.1}, net_split=parts,
                 net_density=fields_of, evaluations={"w2": 5 * z, "floor": z})  # fmt: skip
    np.testing.assert_allclose(statistics.root_mean_z(run, "mean"), np.sqrt([14 / 3, 8]))
    np.testing.assert_allclose(statistics.gauge_shares(run), 0.25)
    np.testing.assert_allclose(statistics.method_excess(run), 4 * z)
    found = statistics.relative_entropies(run)
    np.testing.assert_allclose([found[name] for name in statistics.FIELDS[:2]], [[1, 4], [7, 10]])
    assert [statistics.middle(range(n)) for n in (1, 4, 5)] == [0, 2, 2]


def test_exact_singular_values_of_the_plane_have_the_digits_of_the_derivation():
    """t = 0.1: 1, 0.653, 0.322; 0.01: 1, 0.601, 0.0446."""
    about = {"dims": np.array([5]), "times": np.array([0.1, 0.01])}
    found = statistics.plane_values(Folder(dimension_laws=about), 5)
    printed = [[1, 0.653, 0.322, 0.322, 0.322], [1, 0.601, 0.0446, 0.0446, 0.0446]]
    np.testing.assert_allclose(found, printed, atol=6e-4)


def test_size_of_an_error_is_the_square_of_its_weight_times_its_own():
    """A gauge error of size 2 with the weight 3 at every time: 36 E|s|^2."""
    error = perturbed.gauge_error(BED, 2.0)
    found = perturbed.sizes(BED, {"gauge": (error, lambda level: 3.0)}, jax.random.key(0), [0.3], 8)
    np.testing.assert_allclose(found["gauge"], 36 * found["score"], rtol=1e-4)  # float32


def test_copies_of_the_truth_are_drawn_apart():
    keys = jax.random.split(jax.random.key(4), 1)
    one, same, other = (perturbed.truth(BED, keys, 4, (0.5,), copy) for copy in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).min() > 1e-6


def test_counts_leave_out_missing_fields_and_the_coordinates_beyond_the_law():
    """Two laws x one seed x one time x three points: a plane in R^3, a circle in R^2."""
    values = np.full((2, 1, 1, 3, 3), np.nan)
    values[0, 0, 0] = [[1, 0.6, 0.01], [1, 0.01, 0.009], [np.nan] * 3]
    values[1, 0, 0, :, :2] = [[1, 0.01], [0.9, 0.5], [1, 0.2]]
    about = {"dims": np.array([3, 2]), "intrinsic": np.array([2, 1])}
    run = Folder(dimension_laws=about, free_values={"values": values})
    np.testing.assert_array_equal(
        statistics.counts(run, "free")[:, 0, 0], [[1, 0, np.nan], [1, 1, 1]]
    )
    np.testing.assert_allclose(statistics.success(run, "free")[:, 0, 0], [0.5, 1])
    np.testing.assert_array_equal(statistics.last_counts(run, "free", 0), [[1], [2]])
    values[1] = np.nan
    np.testing.assert_allclose(statistics.final_success(run, "free"), [0.5])


def test_singular_values_of_a_path_cut_short_are_missing():
    matrix = np.stack([np.diag([3.0, 2.0]), np.full((2, 2), np.nan)])
    found = dimension.singular_values(matrix)
    np.testing.assert_allclose(found, [[3, 2], [np.nan] * 2], rtol=1e-12)


@pytest.mark.parametrize("dim", [3, 5])
def test_gauge_matrix_is_antisymmetric_with_largest_turn_one(dim):
    a = dimension.antisymmetric(dim, 1)
    np.testing.assert_array_equal(a, -a.T)
    assert np.linalg.norm(a, 2) == pytest.approx(1.0)


@pytest.mark.slow
def test_projection_loss_is_zero_for_the_teacher_itself_and_positive_for_another():
    settings = configs.get_config("smoke").dimension
    net = training.make_net("free", 3, settings)
    loss = jax.jit(training._projection_loss(net, net, VP))
    first, second = (net.init(jax.random.key(i)) for i in range(2))
    x0 = jnp.zeros((8, 3))
    assert loss(first, jax.random.key(2), x0, first)[0] == 0
    assert loss(second, jax.random.key(2), x0, first)[0] > 1e-3


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("parts", ("exact", "net"), "nets"),
        ("evaluations.budgets", (16, 30), "multiples of 4"),
        ("density.steps", (25, 60, 80), "multiples of the first"),
        ("density.steps", (25, 50), "three"),
        ("exact.stops", (0.1, 0.5), "falling"),
        ("dimension.manifolds", ("circle9",), "circle"),
        ("nets.num_seeds", 1, "from 2"),
        ("nets.num_cells", 1, "from 2"),
        ("nets.num_judge", 1, "from 2"),
        ("split.num_judge", 1, "from 2"),
        ("rotation.speed", 1e6, "from 0.01 to 100.0"),
        ("schedule.beta_min", 0.0, "above 0"),
    ],
)
def test_a_bad_setting_is_refused_in_one_line_that_names_it(name, value, reason):
    config = configs.get_config("smoke")
    with config.unlocked():
        config.update_from_flattened_dict({name: value})
    with pytest.raises(ConfigError) as refused:
        configs.validate(config)
    message = str(refused.value)
    assert f"config.{name}" in message and reason in message and "\n" not in message


@pytest.mark.parametrize("size", configs.SIZES)
def test_every_size_is_valid(size):
    assert configs.validate(configs.get_config(size)) is None


@pytest.mark.slow
def test_both_kinds_of_error_have_the_norm_of_the_score():
    config = configs.get_config("smoke")
    found = exact.error_sizes(config, BED, exact.gradient_weight(config, BED))
    # The table is linear between its times; means over 20,000 draws are off by a percent.
    np.testing.assert_allclose(found["gauge"], found["score"], rtol=1e-4)
    np.testing.assert_allclose(found["gradient"], found["score"], rtol=0.06)


@pytest.mark.slow
def test_log_density_is_exact_with_a_gauge_error_and_not_with_a_gradient_one(monkeypatch):
    noise, last = VP.at(1.0), 0.1
    with jax.enable_x64(True):
        x = BED.draw(jax.random.key(5), 8, last, jnp.float64)
        log_p = exact._log_prob(BED.target, x, VP.at(last))
        times = [np.linspace(last, 1.0, 41)]
        gauge = exact._path_error(BED, 1.0, x, times, log_p, noise)
        gradient = diagnostics.gradient_of(perturbed.ripple)
        monkeypatch.setattr(perturbed, "gauge_error", lambda bed, size: gradient)
        wrong = exact._path_error(BED, 1.0, x, times, log_p, noise)
    assert gauge.max() < 1e-3  # RK4 in 40 steps
    assert wrong.mean() > 0.1


@pytest.mark.slow
def test_rotated_gaussian_has_the_radii_of_the_formula():
    config = configs.get_config("smoke")
    arrays = exact._rotation(config)
    run = Folder(rotation=arrays)
    run.config.rotation.steps = config.rotation.steps
    assert statistics.rotation_gap(run).max() < 1e-6


@pytest.mark.slow
def test_singular_values_of_the_plane_are_those_of_the_gaussian_law():
    law, times = manifolds.make("plane5"), np.array([0.1, 0.01])
    about = {"names": np.array(["plane5"]), "dims": np.array([5]), "times": times}
    expected = statistics.plane_values(Folder(dimension_laws=about), 5)
    x = jax.random.normal(jax.random.key(0), (3, 5))
    path = diagnostics.flow_jacobian(VP, law.exact, x, times, rtol=1e-4, atol=1e-5)
    found = dimension.singular_values(path.matrix)
    np.testing.assert_allclose(found, np.broadcast_to(expected[:, None], found.shape), rtol=1e-3)


def test_six_modes_lie_on_the_unit_circle():
    target = nets.make_bed(configs.get_config("smoke")).target
    assert isinstance(target, targets.Mixture)
    np.testing.assert_allclose(np.linalg.norm(target.means, axis=1), 1)
    np.testing.assert_allclose(target.mean(), 0, atol=1e-12)
