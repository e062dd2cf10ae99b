"""The study's own mathematics: its pair of errors, its rates, its losses, its counts."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from analysis.score_or_flow import claims as study_analysis
from analysis.score_or_flow import statistics
from configs import score_or_flow as configs
from dfx import diagnostics, evolution, fields, losses, nets, targets
from dfx.runs import checks
from experiments.score_or_flow import errors, identities, pictures, projection, rates
from experiments.shared import perturbed


class Folder:
    """The two things of a run that the statistics need."""

    def __init__(self, config=None, **arrays):
        self.config, self._arrays = config, arrays

    def arrays(self, name):
        return self._arrays[name]


@pytest.mark.parametrize("size", [0.1, 0.5, 0.8, 2.0])
def test_twin_has_size_and_asymmetry_of_the_gauge_error_at_every_point(size):
    """e = M s with constant M: compare |M s| and the asymmetry of (I + M) H for any s and H."""
    b, a = errors.twin_parts(size)
    twin, gauge = b * np.eye(2) + a * perturbed.TURN, size * perturbed.TURN
    rng = np.random.default_rng(0)
    s, h = rng.normal(size=2), rng.normal(size=(2, 2))
    h = h + h.T

    def asymmetry(error):
        jacobian = (np.eye(2) + error) @ h
        return np.sum((jacobian - jacobian.T) ** 2) / (4 * np.sum(jacobian**2))

    assert np.linalg.norm(twin @ s) == pytest.approx(size * np.linalg.norm(s), rel=1e-12)
    assert asymmetry(twin) == pytest.approx(asymmetry(gauge), rel=1e-12)
    assert b < 0  # its gradient part is not 0: the law changes


@pytest.mark.slow
def test_planted_fields_have_the_errors_of_their_names():
    config = configs.get_config("smoke")
    bed = perturbed.Bed(perturbed.three_modes(), identities.SCHEDULE)
    weight = diagnostics.TimeTable(np.array([0.0, 1.0]), np.array([2.0, 2.0]))
    planted = errors.plant(config, bed, weight)
    level = bed.schedule.at(0.3)
    x = np.random.default_rng(1).normal(size=(5, 2))
    b, a = errors.twin_parts(config.errors.twin)
    with jax.enable_x64(True):
        x = jnp.asarray(x)
        s = np.asarray(bed.target.score(x, level))
        ripple = diagnostics.gradient_of(perturbed.ripple)(x, level)
        expected = {
            ("gauge", 0.0): 0 * s,
            ("gauge", 1.0): s @ perturbed.TURN.T,
            ("gradient", 0.5): 0.5 * 2.0 * ripple,
            ("twin", config.errors.twin): b * s + a * s @ perturbed.TURN.T,
        }
        for name, error in expected.items():
            found = diagnostics.score_error(planted[name], bed.exact, level)(x)
            np.testing.assert_allclose(found, error, atol=1e-10)


def test_faces_of_the_fine_grid_meet_at_the_centres_of_the_coarse_one():
    """A field linear in both coordinates is found exactly."""
    grid = evolution.make_grid([-1.0, -2.0], [1.0, 2.0], [4, 6])
    fine = evolution.make_grid([-1.0, -2.0], [1.0, 2.0], [4 * rates.FINE, 6 * rates.FINE])
    for axis in range(2):
        shape = tuple(n - (i == axis) for i, n in enumerate(fine.shape))
        faces = (np.asarray(fine.faces(axis)) @ [3.0, -2.0] + 1.0).reshape(shape)
        found = rates._at_centres(faces, axis)
        expected = (np.asarray(grid.centres()) @ [3.0, -2.0] + 1.0).reshape(grid.shape)
        np.testing.assert_allclose(found, expected, atol=1e-5)  # float32 places


def test_box_reaches_beyond_every_mode():
    test = rates.Test(perturbed.three_modes(), identities.SCHEDULE, 10, 8, 0.05)
    grid = rates.box(test, 1e-6)
    widest = np.sqrt(max(np.linalg.eigvalsh(c).max() for c in rates._covariances(test.target)))
    assert widest == pytest.approx(np.sqrt(np.linalg.eigvalsh([[0.12, -0.05], [-0.05, 0.06]])[1]))
    np.testing.assert_allclose(grid.high[0], 1.2 + rates.REACH * widest, rtol=1e-3)


@pytest.mark.slow
def test_rate_of_a_linear_error_is_that_of_two_gaussians():
    """p = N(0, V), q = N(0, U): a score off by the factor 1 + e has the closed law `linear_law`,
    and with e_v = b x, b = (g^2 / 2) e / V, the slope is -b (V / U - 1) (Gaussians, derived)."""
    variance, error, level = 0.6, 0.05, 0.5
    target = targets.Mixture.isotropic([[0.0]], [np.sqrt(variance)])
    field = evolution.linear_field(variance, error)
    test = rates.Test(target, identities.SCHEDULE, 60, 60, 0.02)
    found = rates.rates(test, field, (level,))
    t = float(found["t"][0])
    at = identities.SCHEDULE.at(t)
    v = at.alpha**2 * variance + at.sigma**2
    last = identities.SCHEDULE.at(1.0)
    start = last.alpha**2 * variance + last.sigma**2
    u = evolution.linear_law(
        identities.SCHEDULE, variance, error, 0.0, end=t, start_variance=start
    ).variance
    b = 0.5 * found["clock"][0] * at.sigma**2 * error / v
    slope = -b * (v / u - 1)
    assert found["kl"][0] == pytest.approx(0.5 * (v / u - 1 - np.log(v / u)), rel=1e-5)
    assert found["predicted"][0] == pytest.approx(slope, rel=1e-5)
    assert found["gradient"][0] == pytest.approx(slope, rel=1e-3)  # order 2 of the fine grid
    assert found["measured"][0] == pytest.approx(slope, rel=1e-3)  # order 2 of the step in t
    assert found["error"][0] == pytest.approx(b**2 * v, rel=1e-3)


@pytest.mark.slow
def test_slope_of_the_gradient_flow_of_a_gaussian_is_the_closed_form():
    """V' = beta (1 - V), KL = (V - 1 - log V) / 2: slope beta (1 - V) (1 - 1 / V) / 2."""
    with jax.enable_x64(True):
        normal = targets.Mixture.isotropic([[0.0]], [0.5])
        kl, measured, predicted = identities.gradient_flow_at(normal, identities.SCHEDULE, 0.2)
    at, beta = identities.SCHEDULE.at(0.2), 0.1 + 19.9 * 0.2
    v = at.alpha**2 * 0.25 + at.sigma**2
    assert kl == pytest.approx(0.5 * (v - 1 - np.log(v)), rel=1e-9)
    assert predicted == pytest.approx(0.5 * beta * (1 - v) * (1 - 1 / v), rel=1e-9)
    assert measured == pytest.approx(predicted, rel=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("prediction", identities.PREDICTIONS)
def test_an_eps_net_seen_as_another_has_the_same_loss_when_matched(prediction):
    body = nets.Net(lambda key: {}, lambda params, x, t, cond=None: jnp.sin(x) + t[:, None])
    weighting = losses.weighting.make("snr")
    seen = identities.seen_as(body, prediction)
    with jax.enable_x64(True):
        x0, eps = jax.random.normal(jax.random.key(0), (2, 20, 2), jnp.float64)
        t = jnp.linspace(0.05, 0.9, 20)
        found = losses.per_sample(seen, identities.SCHEDULE, prediction, weighting)({}, x0, eps, t)
        expected = losses.per_sample(body, identities.SCHEDULE, "eps")({}, x0, eps, t)
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_plain_weights_are_those_of_the_closed_forms():
    arrays = identities.plain_weights()
    level = identities.SCHEDULE.at(arrays["t"])
    rate = 0.1 + 19.9 * arrays["t"]  # g^2 = beta for VP
    factors = dict(zip(identities.PREDICTIONS, arrays["factor"]))
    np.testing.assert_allclose(factors["eps"], 1.0, rtol=1e-6)
    np.testing.assert_allclose(factors["score"], 1 / level.sigma**2, rtol=1e-6)
    np.testing.assert_allclose(factors["velocity"], rate**2 / (4 * level.sigma**2), rtol=1e-6)


def test_gradient_field_adds_the_kept_parts_of_one_net_from_the_noise_to_the_data():
    """eps = (1, 0) at t = 1 and (3, 0) at t = 0.01 for the first net, half that for the second."""
    values = np.zeros((2, 2, 2, 4, 4))
    values[:, 0, 0], values[:, 1, 0] = np.array([[[1.0]], [[0.5]]]), np.array([[[3.0]], [[1.5]]])
    split = {"t": np.array([1.0, 0.01]), "side": np.array([4.0, 2.0]), "values": values}
    x = jnp.asarray([[0.3, -0.2], [1.0, 2.0]], jnp.float32)
    for seed, size in ((0, 1.0), (1, 0.5)):
        field = projection.gradient_field(split, seed)
        for t, eps in ((1.0, 1.0), (0.1, 2.0), (0.01, 3.0)):
            level = identities.SCHEDULE.at(t)
            found = diagnostics.score_error(field, projection.toy.BED.exact, level)(x)
            expected = np.array([[-size * eps, 0.0]] * 2) / level.sigma
            # Two scores of float32, read off x0_hat: rounding times alpha / sigma^2.
            np.testing.assert_allclose(found, expected, atol=1e-5 / level.sigma**2)


def test_middle_block_is_sixteen_neighbouring_pixels_of_the_first_channel():
    shape = (8, 10, 3)
    marked = np.zeros(np.prod(shape))
    marked[list(pictures.middle(shape))] = 1
    marked = marked.reshape(shape)
    assert marked[2:6, 3:7, 0].sum() == marked.sum() == 16


@pytest.mark.slow
def test_asymmetry_of_a_linear_field_on_pictures_is_found_by_probes_block_and_planes():
    """eps_hat = (I + c K) x with K a quarter turn of pairs of pixels: c^2 / (1 + c^2) each way."""
    c, shape, n = 0.5, (4, 4, 1), 30
    turn = np.kron(np.eye(8), perturbed.TURN).astype(np.float32)

    def eps(x, level):
        flat = x.reshape(len(x), -1)
        return (flat + c * flat @ turn.T).reshape(x.shape)

    field = fields.from_function(eps, "eps")
    clean = jnp.zeros((n, *shape), jnp.float32)
    seen = pictures._look(field, clean, jax.random.key(0), jnp.float32(0.3), counts=(4, 40))
    expected = c**2 / (1 + c**2)
    assert seen["asymmetry"] == pytest.approx(expected, rel=1e-4)  # K orthogonal: no probe noise
    assert seen["block"] == pytest.approx(expected, rel=1e-4)
    # 1200 planes: the squared curls have a relative standard error near sqrt(2 / 1200) = 0.04.
    assert seen["planes"] == pytest.approx(expected, rel=0.2)


@pytest.mark.parametrize("power", [2.0, 3.0])
def test_slope_of_the_circulation_is_the_power_of_the_radius(power):
    radii = np.array([0.01, 0.1, 0.5])
    config = types.SimpleNamespace(toy=types.SimpleNamespace(radii=tuple(radii)))
    curl = np.random.default_rng(0).normal(size=(3, 4, 1, 50))
    over_curl = curl * radii[:, None] ** power / (np.pi * radii[:, None] ** 2 * curl)
    run = Folder(config, free_loops={"over_curl": over_curl})
    np.testing.assert_allclose(statistics.circulation_slope(run), power, rtol=1e-12)


def test_distances_are_read_by_kind_and_size():
    arrays = {
        "kinds": np.array(["gauge", "gauge", "twin"]),
        "sizes": np.array([0.0, 0.5, 0.5]),
        "w2": np.arange(6.0).reshape(3, 2),
    }
    run = Folder(errors=arrays)
    assert statistics.w2(run, "gauge", 0.5).tolist() == [2, 3]
    assert statistics.w2(run, "twin", 0.5).tolist() == [4, 5]


def test_means_over_levels_and_loops_are_geometric_and_root_mean_square():
    np.testing.assert_allclose(statistics.over_levels(np.array([[1.0, 4.0], [2.0, 8.0]])), [2, 4])
    loops = {"circulation": np.array([[[[3.0, -4.0]], [[0.0, 2.0]]]])}
    found = statistics.circulation(Folder(free_loops=loops), "free")
    np.testing.assert_allclose(found, np.sqrt([[[12.5], [2.0]]]))
    gap = statistics.relative_gap(np.array([1.0, 3.0]), np.array([2.0, 4.0]))
    assert gap == pytest.approx(0.5)  # of what is expected


def test_joint_table_has_means_over_levels_and_shares_are_of_the_whole_square():
    split = {"gradient": np.array([[3.0, 1.0]]), "remainder": np.array([[1.0, 3.0]])}
    split["total"] = split["gradient"] + split["remainder"]
    fields_of = {"error": np.array([[2.0, 6.0]]), "score_residual": np.array([[1.0, 5.0]])}
    joint = {"kinds": np.array(["free", "conservative"]), "ode": np.array([[7.0], [8.0]])}
    run = Folder(
        projection=split, joint=joint, free_fields=fields_of, conservative_fields=fields_of
    )
    table = statistics.joint_table(run)
    assert table["free"] == {"ode": [7], "score_residual": [3], "gradient": [2], "remainder": [2]}
    assert table["conservative"] == {"ode": [8], "score_residual": [3], "gradient": [4]}
    np.testing.assert_allclose(statistics.remainder_share(run), [[0.25, 0.75]])
    rates_of = {"error_gauge": np.array([1.0]), "error": np.array([4.0])}
    np.testing.assert_allclose(statistics.gauge_share(rates_of), [0.25])


def test_euler_ratio_is_of_the_largest_size_over_none_at_the_fewest_steps():
    arrays = {
        "sizes": np.array([0.0, 1.0, 4.0]),
        "nfe": np.array([10, 20]),
        "w2": np.array([[[1.0, 2.0], [9, 9]], [[7, 7], [9, 9]], [[3.0, 8.0], [9, 9]]]),
    }
    nfe, size, ratio = statistics.euler_ratio(Folder(errors_steps=arrays))
    assert (nfe, size, ratio.tolist()) == (10, 4.0, [3.0, 4.0])


def test_median_log_snr_halves_the_weight():
    log_snr = np.linspace(5, -5, 101)
    arrays = {"log_snr": log_snr, "factor": np.stack([np.ones(101), np.exp(log_snr)])}
    found = statistics.weighted_log_snr(
        Folder(weights=arrays, losses={"names": np.array(["eps", "score"])})
    )
    assert found["eps"] == pytest.approx(0.0, abs=0.11)
    assert found["score"] == pytest.approx(5 - np.log(2), abs=0.11)  # mass e^x below 5


def test_planted_claims_fail_when_the_gauge_part_enters():
    """Arrays in which the rate is that of the whole error, not of its gradient part."""
    config = configs.get_config("smoke")
    gradient, gauge = np.array([-1.0, -2.0]), np.array([-0.5, -0.5])
    both = {"measured": gradient + gauge, "gradient": gradient, "gauge": gauge}
    run = Folder(config, rates_gauge={"kl": np.array([0.0, 0.2])}, rates_both=both)
    verdicts = {claim.id: claim.verdict for claim in study_analysis.planted_claims(run)}
    assert verdicts == {"W4a": "fails", "W4b": "fails", "W4c": "fails"}
    both = {"measured": gradient, "gradient": gradient, "gauge": 0 * gauge}
    run = Folder(config, rates_gauge={"kl": np.zeros(2)}, rates_both=both)
    assert {claim.verdict for claim in study_analysis.planted_claims(run)} == {"holds"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"errors.sizes": (0.5, 1.0)}, ("config.errors.sizes", "with 0")),
        ({"errors.twin": 1.0}, ("config.errors.twin", "0.9")),
        ({"toy.kinds": ("free",)}, ("config.toy.kinds", "conservative")),
        ({"toy.snapshots": (0, 100_000)}, ("config.toy.snapshots", "below")),
        ({"rates.levels": (1.0, 0.4)}, ("config.rates.levels", "rising")),
        ({"levels.low": 0.001}, ("config.levels.low", "0.0105")),
        ({"pictures.name": "mnits"}, ("config.pictures.name", "mnist")),
        ({"num_seeds": 1}, ("config.num_seeds", "2")),
        ({"toy.radii": (0.1,)}, ("config.toy.radii", "two rising numbers")),
        ({"toy.num_points": 1}, ("config.toy.num_points", "from 2")),
        ({"errors.sizes": (0.0, 0.5, 1e9)}, ("config.errors.sizes", "0.0 to 1000.0")),
        ({"pictures.net.patch": 3}, ("config.pictures.net", "multiples of 3")),
    ],
)
def test_bad_settings_are_refused_in_one_line(change, words):
    config = configs.get_config("smoke")
    with config.ignore_type():
        config.update_from_flattened_dict(change)
    with pytest.raises(checks.ConfigError) as error:
        configs.validate(config)
    assert "\n" not in str(error.value)
    assert all(word in str(error.value) for word in words)


@pytest.mark.parametrize("size", configs.SIZES)
def test_every_size_is_valid(size):
    configs.validate(configs.get_config(size))
