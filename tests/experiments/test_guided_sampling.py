"""The mathematics of the study of guidance: closed forms, identities, layouts, and its counts."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, special

from analysis.guided_sampling import statistics
from configs import guided_sampling as configs
from dfx import schedules, solvers, targets
from dfx.runs.checks import ConfigError
from experiments.guided_sampling import cfgpp as plus
from experiments.guided_sampling import laws, stability, tilt, where
from experiments.shared import laws as shared

PAIR = dict(mean=1.0, variance=1.0, wide=4.0)
Z = laws.noise_grid(401)

#: Compiled: op by op, each call would compile dozens of small programs.
denoise = jax.jit(lambda law, x, level: law.denoise(x, level))
score = jax.jit(lambda law, x: law.score(x, schedules.CLEAN))
log_prob = jax.jit(lambda law, x, level: law.log_prob(x, level))
evaluate = jax.jit(lambda field, x, level: field(x, level))


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


def moments_by_integration(weight, mean, variance, wide, noise):
    """Mean and variance of dx = -(1 + noise) / 2 score dtau (+ noise dw) from tau = 1e12 to 0."""
    start, share = 1e12, (1 + noise) / 2

    def rate(log_tau, y):
        tau = np.exp(log_tau)
        pull = weight / (variance + tau) + (1 - weight) / (wide + tau)
        push = weight * mean / (variance + tau)
        slopes = share * (pull * y[0] - push), 2 * share * pull * y[1] - noise
        return tau * np.asarray(slopes)

    span = np.log(start), np.log(1e-12)
    return integrate.solve_ivp(rate, span, [0, start], "LSODA", rtol=1e-10, atol=1e-12).y[:, -1]


@pytest.mark.parametrize("weight", [1.0, 2.0, 4.0])
@pytest.mark.parametrize(("closed", "noise"), [(laws.pair_ode, 0), (laws.pair_sde, 1)])
def test_closed_forms_of_the_pair_are_the_ends_of_the_moment_equations(closed, noise, weight):
    # The start at 1e12 costs the mean of the ODE 1 / sqrt(1e12), the tolerance about 1e-7.
    expected = moments_by_integration(weight, **PAIR, noise=noise)
    np.testing.assert_allclose(closed(weight, **PAIR), expected, rtol=2e-5)


@pytest.mark.parametrize("closed", [laws.pair_ode, laws.pair_sde, laws.pair_tilted])
def test_weight_one_gives_the_class_itself(closed):
    np.testing.assert_allclose(closed(1.0, 0.7, 0.3, 2.0), (0.7, 0.3), rtol=1e-9)


def test_tilted_moments_of_the_pair_are_those_of_the_tilted_density():
    toward, away = laws.gaussian_pair(**PAIR)
    x = np.linspace(-9, 11, 4001)
    density = laws.tilted_density(toward, away, 3.0, x)
    mean = np.trapezoid(x * density, x)
    variance = np.trapezoid((x - mean) ** 2 * density, x)
    np.testing.assert_allclose((mean, variance), laws.pair_tilted(3.0, **PAIR), rtol=1e-8)


def test_slope_of_the_tilted_log_density_is_the_guided_score():
    toward, away = laws.two_modes()
    x = np.linspace(-1, 2, 3001)
    slope = np.gradient(np.log(laws.tilted_density(toward, away, 2.5, x)), x)
    to, of = (np.asarray(score(law, x[:, None]))[:, 0] for law in (toward, away))
    # Central differences: the spacing squared times a third derivative of about 60.
    np.testing.assert_allclose(slope[1:-1], (of + 2.5 * (to - of))[1:-1], atol=1e-4)


@pytest.mark.parametrize(
    ("law", "labels"),
    [(shared.grid(), np.arange(25) // 5), (shared.low_rank(), np.array([0, 1, 0, 1, 2, 2, 3, 3]))],
)
def test_law_is_the_mixture_of_its_classes(law, labels):
    law = laws.labelled(law, labels)
    shares = np.bincount(labels, np.exp(law.law.log_weights))
    parts = [law.one(label) for label in range(law.num_classes)]
    means = np.stack([part.mean() for part in parts])
    within = np.stack([part.covariance() for part in parts])
    np.testing.assert_allclose(shares @ means, law.law.mean(), atol=1e-14)
    offsets = means - law.law.mean()
    total = np.einsum("c,cij->ij", shares, within) + (shares * offsets.T) @ offsets
    np.testing.assert_allclose(total, law.law.covariance(), atol=1e-14)


def test_guidance_acts_in_its_interval_alone(monkeypatch):
    """A solver that keeps (weight, from, to) shows what is guided where."""
    pieces = []

    def note(field, x, above, below):
        pieces.append((field.weight, above, below))
        return x

    monkeypatch.setattr(where.laws, "flow_between", note)
    where.flow_within(laws.two_modes(), Z, 3.0, (0.5, 2.0), 40.0)
    assert pieces == [(1.0, 40.0, 2.0), (3.0, 2.0, 0.5), (1.0, 0.5, 0.0)]
    pieces.clear()
    where.flow_within(laws.two_modes(), Z, 3.0, (0.0, np.inf), 40.0)
    where.flow_within(laws.two_modes(), Z, 3.0, (0.0, 0.0), 40.0)
    assert pieces == [(3.0, 40.0, 0.0), (1.0, 40.0, 0.0)]


def test_guided_denoiser_is_the_formula():
    toward, away = laws.two_modes()
    level, x = schedules.EDM().at(0.7), Z[::50, None]
    to, of = denoise(toward, x, level), denoise(away, x, level)
    found = evaluate(laws.guided_field(toward, away, 3.0), x, level)
    np.testing.assert_allclose(found, of + 3 * (to - of), atol=1e-13)


def test_noise_grid_integrates_a_normal_law():
    mean, std = statistics.moments(Z, np.stack([0.3 + 2.0 * Z, Z**2]))
    np.testing.assert_allclose(mean, (0.3, 1.0), atol=1e-9)
    np.testing.assert_allclose(std, (2.0, np.sqrt(2.0)), atol=1e-7)  # 3e-12 lies beyond, times 7^4


def test_best_autoguidance_weight_restores_the_variance():
    weight = laws.autoguidance_weight(0.7, 0.1, 0.4)
    assert (0.7 + 0.1) ** weight * (0.7 + 0.4) ** (1 - weight) == pytest.approx(0.7, rel=1e-12)


def test_blurred_law_is_the_law_at_that_noise_level():
    law, level = targets.modes_1d((-1.0, 1.0), 0.5), schedules.EDM().at(np.sqrt(0.3))
    x = Z[::40, None]
    blurred = where.blurred(law, 0.3, shift=0.2)
    expected = log_prob(law, x - 0.2, level)
    np.testing.assert_allclose(log_prob(blurred, x, schedules.CLEAN), expected, rtol=1e-12)


def test_tiles_cover_the_noise_levels_once():
    config = configs.get_config("default")
    lows = where.positions(config)
    np.testing.assert_allclose(lows[1:], lows[:-1] * config.interval.width)
    end = lows[-1] * config.interval.width
    assert config.tilt.start_noise / config.interval.width < end
    assert end < config.tilt.start_noise * config.interval.width


def test_a_langevin_step_has_the_drift_and_the_noise_of_its_size():
    law, n, e = targets.modes_1d((0.0, 0.0), 0.5), 20_000, tilt.LANGEVIN_STEP
    field, x = laws.guided_field(law, law, 1.0), np.ones((n, 1))
    moved = np.asarray(tilt.relax(field, x, jax.random.key(0), 1)) - x
    # x + e score + sqrt(2 e) z, each to 4 standard errors.
    expected = -e / (0.25 + tilt.LAST_LEVEL**2)
    assert moved.mean() == pytest.approx(expected, abs=4 * np.sqrt(2 * e / n))
    assert moved.var() == pytest.approx(2 * e, rel=4 * np.sqrt(2 / n))


def constant_noise(x, level):
    """Predictions of the plain and the conditional field that do not depend on the point."""
    return 0.3 * jnp.ones_like(x), -0.8 * jnp.ones_like(x)


def some_levels():
    return plus.levels(plus.stable_diffusion(), 20)


@pytest.mark.parametrize("is_plus", [False, True])
def test_inversion_undoes_a_step_where_the_noise_does_not_depend_on_the_point(is_plus):
    noisy, clean = plus.pairs(some_levels())
    pair = tuple(jax.tree.map(lambda a: a[4], level) for level in (noisy, clean))
    x = Z[:5, None]
    there = plus.inversion_step(constant_noise, x, pair, 2.5, is_plus)
    np.testing.assert_allclose(
        plus.back_step(constant_noise, there, pair, 2.5, is_plus), x, atol=1e-12
    )


@pytest.mark.parametrize("step", [plus.back_step, plus.inversion_step])
@pytest.mark.parametrize("number", [0, 7, 19])
def test_cfg_plus_plus_is_guidance_with_the_weight_of_the_step(step, number):
    level = some_levels()
    pair = tuple(jax.tree.map(lambda a: a[number], part) for part in plus.pairs(level))
    weight = 0.6 * plus.effective_weights(level)[number]
    arguments = (constant_noise, Z[:5, None], pair)
    np.testing.assert_allclose(
        step(*arguments, 0.6, True), step(*arguments, weight, False), atol=1e-12
    )


def test_effective_weight_is_constant_on_a_geometric_grid_and_one_at_the_end():
    level = schedules.EDM().at(np.append(80 * 0.8 ** np.arange(10), 0.0))
    np.testing.assert_allclose(plus.effective_weights(level)[:-1], 1 / 0.2)
    assert plus.effective_weights(level)[-1] == 1


def test_effective_weight_grows_with_the_steps_of_stable_diffusion():
    mean = [
        plus.effective_weights(plus.levels(plus.stable_diffusion(), n)).mean() for n in (50, 100)
    ]
    # The share of a step halves; the first and the last steps keep the ratio from being 2.
    assert 1.9 < mean[1] / mean[0] < 2.0


def test_reversed_pairs_are_the_same_steps_from_the_data_on():
    noisy, clean = plus.pairs(some_levels())
    first, second = plus.reversed_pairs(some_levels())
    np.testing.assert_array_equal(first.sigma[::-1], noisy.sigma)
    assert second.sigma[0] == clean.sigma[-1] == 0


def test_seeds_are_taken_apart_within_each_class():
    classes, seeds, n = 3, 2, 4
    values = np.arange(classes)[:, None] * 100 + np.repeat(np.arange(seeds), n)
    split = stability.by_seed(values, seeds)
    assert split.shape == (seeds, classes * n)
    np.testing.assert_array_equal(split % 100, [[0] * 12, [1] * 12])


def test_box_reaches_four_deviations_around_every_mode():
    law = laws.labelled(targets.Mixture.full([[1.0, -2.0]], [[[1.0, 0.9], [0.9, 4.0]]]), [0])
    np.testing.assert_allclose(stability.box(law), (1 + 4 * 1, 2 + 4 * 2))
    inside = stability.outside(np.array([[5.0, 10.0], [5.1, 0.0], [np.nan, 0.0]]), (5.0, 10.0))
    np.testing.assert_array_equal(inside, [False, True, True])


MEANS, DIAGONALS = [[0.0, 1.0, 0.0], [2.0, 0.0, 0.0]], [[1.0, 4.0, 0.25], [0.5, 0.1, 3.0]]
FACTORS = np.random.default_rng(0).normal(size=(2, 3, 1))
SQUARES = FACTORS @ np.swapaxes(FACTORS, 1, 2)


@pytest.mark.parametrize(
    ("law", "variances"),
    [
        (targets.Mixture.isotropic(MEANS, [0.5, 2.0]), [[0.25] * 3, [4.0] * 3]),
        (targets.Mixture.isotropic(MEANS, 0.5), [[0.25] * 3] * 2),
        (targets.Mixture.diagonal(MEANS, DIAGONALS), DIAGONALS),
        (targets.Mixture.diagonal(MEANS, DIAGONALS[:1]), DIAGONALS[:1] * 2),
        (targets.Mixture.full(MEANS, SQUARES + np.eye(3)), (FACTORS**2)[:, :, 0] + 1),
        (targets.Mixture.full(MEANS, SQUARES[:1]), (FACTORS**2)[[0, 0], :, 0]),
        (targets.Mixture.low_rank(MEANS, FACTORS, 0.2), (FACTORS**2)[:, :, 0] + 0.2),
    ],
    ids=["isotropic", "one std", "diagonal", "one diagonal", "full", "one full", "low rank"],
)
def test_variances_of_a_component_are_the_diagonal_of_its_covariance(law, variances):
    found = [stability.component_variances(law, k) for k in range(2)]
    np.testing.assert_allclose(found, variances, rtol=1e-12)
    expected = np.max(np.abs(MEANS) + stability.BOX * np.sqrt(variances), axis=0)
    labelled = laws.labelled(law, np.array([0, 1]))
    np.testing.assert_allclose(stability.box(labelled), expected, rtol=1e-12)


def test_solvers_spend_at_most_the_budget_and_end_at_one_time():
    settings, schedule = configs.get_config("smoke").stability, schedules.VPLinear()
    settings.update(evaluations=(15,), spacings=("uniform",))
    tableaus = stability.make_tableaus(settings, schedule)
    count = len(settings.spacings) * len(stability.METHODS) * len(settings.evaluations)
    assert len(tableaus) == count
    for number, tableau in enumerate(tableaus):
        budget = settings.evaluations[number % len(settings.evaluations)]
        assert budget - 3 < tableau.num_rows <= budget


def test_padding_keeps_the_order_of_the_solvers_and_makes_two_programs():
    settings, schedule = configs.get_config("smoke").stability, schedules.VPLinear()
    settings.update(evaluations=(15, 30), spacings=("uniform_log_snr",))
    tableaus = stability.make_tableaus(settings, schedule)
    padded = stability.pad_alike(tableaus)
    assert len({tableau.num_rows for tableau in padded}) == 2
    for before, after in zip(tableaus, padded, strict=True):
        times = [jax.tree.leaves(t.phases[0].level)[0] for t in (solvers.merge(before), after)]
        np.testing.assert_array_equal(times[0], times[1][: len(times[0])])


def test_tight_solve_gives_each_weight_every_start(monkeypatch):
    """A solver that returns start + 100 weight shows which went with which."""

    def solve(schedule, field, x, **options):
        state = x + 100 * field.field.weight
        return types.SimpleNamespace(state=state, reached=np.array(True))

    monkeypatch.setattr(stability.solvers, "sample_adaptive", solve)
    law, weights = laws.quadrants(), np.array([1.0, 4.0])
    x = np.random.default_rng(0).normal(size=(4, 3, 2))
    ends = stability.tight(configs.get_config().stability, schedules.VPLinear(), law, x, weights, 1)
    np.testing.assert_allclose(ends, x + 100 * weights[:, None, None, None])


def test_solvers_are_given_each_class_its_own_field(monkeypatch):
    """A solver that returns start + 100 weight + class mean shows which went with which."""

    def solve(tableau, field, x, **options):
        guided = field.field
        return x + 100 * guided.weight + guided.toward.target.means[0]

    monkeypatch.setattr(stability.solvers, "sample", solve)
    law, weights = laws.quadrants(), np.array([1.0, 4.0])
    x = np.random.default_rng(0).normal(size=(4, 3, 2))
    ends = stability._solve.__wrapped__(None, law, x, weights, 1.0)
    expected = x + 100 * weights[:, None, None, None] + law.classes.means
    np.testing.assert_allclose(ends, expected)


def test_clipped_field_stays_in_the_box_and_without_limit_is_the_guided_one():
    (toward, away), level, x = laws.two_modes(), schedules.EDM().at(0.7), Z[::50, None]
    free, boxed = (
        np.asarray(evaluate(stability.clipped_field(away, toward, 5.0, limit), x, level))
        for limit in (np.inf, 1.2)
    )
    to, of = denoise(toward, x, level), denoise(away, x, level)
    np.testing.assert_allclose(free, of + 5 * (to - of), atol=1e-12)
    np.testing.assert_allclose(boxed, np.clip(free, -1.2, 1.2))
    assert np.abs(free).max() > 1.2


def normal_density(x, mean=0.0):
    return np.exp(-0.5 * (x - mean) ** 2) / np.sqrt(2 * np.pi)


def test_density_of_an_affine_map_is_that_of_the_normal_law():
    ends = 1 + 2 * Z
    expected = normal_density(ends / 2, 0.5) / 2
    np.testing.assert_allclose(statistics.flow_density(Z, ends), expected, rtol=1e-9)


def test_distance_of_shifted_normal_laws_is_the_shift():
    x = np.linspace(-9, 9, 20_001)
    density, n = normal_density(x), 2000
    assert statistics.flow_distance(Z, Z + 0.7, x, density) == pytest.approx(0.7, abs=1e-4)
    assert statistics.flow_distance(Z, Z - 0.7, x, density, 2.0) == pytest.approx(0.7, abs=1e-4)
    samples = special.ndtri((np.arange(n) + 0.5) / n)[::-1] + 0.7
    both = statistics.sample_distance(np.stack([samples, samples - 0.7]), x, density)
    np.testing.assert_allclose(both, (0.7, 0.0), atol=1e-4)


def test_quantiles_on_uneven_places_are_those_of_the_density():
    """Of the density 2 x on [0, 1]: F = x^2, to the square of the spacing."""
    x = np.linspace(0, 1, 2001) ** 2
    np.testing.assert_allclose(statistics.cumulative(x, 2 * x), x**2, atol=1e-6)
    levels = np.array([0.09, 0.25, 0.81])
    np.testing.assert_allclose(statistics.quantiles(x, 2 * x, levels), np.sqrt(levels), atol=1e-5)


def test_distances_to_the_tilted_laws_are_read_weight_by_weight():
    x, shifts = np.linspace(-9, 12, 4001), (0.0, 2.0)
    samples = special.ndtri((np.arange(500) + 0.5) / 500)
    run = Folder(
        tilted={"x": x, "density": np.stack([normal_density(x, shift) for shift in shifts])},
        ode={"z": Z, "ends": np.stack([Z, Z + 2.5])},
        sde={"x": np.stack([samples, samples + 1.5])[:, None].repeat(3, 1)},
        corrected={"x": np.stack([samples + 2, samples + 3])[:, None]},
    )
    run.config.tilt.weights, run.config.corrector.weight = (1.0, 4.0), 4.0
    flow, of_samples, floor = statistics.tilted_distances(run)
    np.testing.assert_allclose(flow, [0, 0.5], atol=1e-3)
    np.testing.assert_allclose(of_samples, [[0] * 3, [0.5] * 3], atol=1e-3)
    exact = statistics.sampling_floor(x, normal_density(x), 500)
    np.testing.assert_allclose(floor, exact, rtol=1e-3)
    of_corrected, alone = statistics.corrected_distances(run, "corrected")
    np.testing.assert_allclose(of_corrected, [[0], [1]], atol=1e-3)
    assert alone == pytest.approx(exact, rel=1e-3)


def test_sampling_floor_is_the_mean_distance_of_exact_samples():
    x, n = np.linspace(0, 1, 2001), 400
    floor = statistics.sampling_floor(x, np.ones_like(x), n)
    # int sqrt(F (1 - F)) of the uniform law is pi / 8.
    assert floor == pytest.approx(np.sqrt(2 / (np.pi * n)) * np.pi / 8, rel=1e-3)
    draws = np.random.default_rng(0).uniform(size=(2000, n))
    found = statistics.sample_distance(draws, x, np.ones_like(x))
    assert found.mean() == pytest.approx(floor, abs=4 * found.std() / np.sqrt(2000) + 0.03 * floor)


class Folder:
    """The two things of a run folder that the statistics read."""

    def __init__(self, **arrays):
        self.config = configs.get_config("default")
        self._arrays = arrays

    def arrays(self, name):
        return self._arrays[name]


def test_errors_are_counted_by_method_budget_and_weight():
    error = np.zeros((1, 2, 2, 2, 1, 4))  # spacings, methods, evaluations, weights, seeds, n
    error[0, 0, 1, 1] = [[3.0, 0.5, 0.0, 4.0]]
    error[0, 1, 1, 1] = 2.5
    error[0, 0, 0, 0, 0, 0] = np.nan
    flags = np.zeros_like(error, dtype=bool)
    flags[0, 1, 0, 1, 0, :3] = True
    kept = {
        "methods": np.array(["ddim", "ipndm"]),
        "error": error,
        "outside": flags,
        "exact_outside": flags[0, 0, 0],
    }
    run = Folder(stability_grid=kept)
    settings = dict(weights=(1.0, 8.0), evaluations=(10, 15), spacings=("uniform",))
    run.config.stability.update(settings)
    found = statistics.Stability(run, "grid")
    rms = np.sqrt((9 + 0.25 + 16) / 4)
    assert found.ratio("uniform", ("ipndm", "ddim"), 15, 8.0) == pytest.approx([2.5 / rms])
    np.testing.assert_array_equal(found.at(found.lost, "uniform", "ddim", 15), [[0.0], [0.5]])
    np.testing.assert_array_equal(found.at(found.lost, "uniform", "ddim", 10), [[0.25], [0.0]])
    assert np.isinf(found.at(found.error, "uniform", "ddim", 10)[0, 0])
    np.testing.assert_array_equal(found.at(found.outside, "uniform", "ipndm", 10), [[0.0], [0.75]])


def test_round_trips_are_compared_at_the_nominal_and_at_the_effective_weight():
    row = lambda *values: np.stack([np.full((2, 3), v) for v in values])[None]  # noqa: E731
    run = Folder(
        round_trip={
            "free": row(1.0, 2.0),
            "plus": row(5.0, 6.0) * np.array([0, 1, np.sqrt(2)]),  # of these the root mean square
            "matched": row(7.0, 4.0),
            "effective": np.array([[2.0, 6.0]]),
        }
    )
    weight = statistics.AUTHORS_WEIGHT
    run.config.cfgpp.update(weights=(1.0, weight), scales=(0.2, 0.6), scale=0.6)
    nominal, matched = statistics.round_trip_ratios(run, weight)
    np.testing.assert_allclose(nominal, [[3.0, 3.0]])
    np.testing.assert_allclose(matched, [[1.5, 1.5]])


def test_best_weight_is_where_the_autoguided_law_is_nearest():
    weights = np.linspace(1, 3, 5)
    arrays = {"z": Z, "weights": weights, "truth.toy": 2 * Z, "toy": weights[:, None] * Z}
    arrays["toy.best"] = 2.5 * Z
    best, spacing, found = statistics.best_weight(Folder(autoguidance=arrays), "toy")
    assert (best, spacing) == (2.0, 0.5)
    np.testing.assert_allclose(found, np.abs(weights - 2), atol=1e-9)  # W2 of N(0, a^2), N(0, b^2)
    assert statistics.autoguided(Folder(autoguidance=arrays), "toy")[-1] == pytest.approx(0.5)


@pytest.mark.parametrize("size", configs.SIZES)
def test_every_size_is_valid(size):
    config = configs.get_config(size)
    configs.validate(config)
    assert config.num_seeds >= 2


@pytest.mark.parametrize(
    ("group", "name", "value", "allowed"),
    [
        ("stability", "weights", (1.0, 4.0), "8"),
        ("stability", "laws", ("circle",), "grid"),
        ("stability", "evaluations", (15, 10), "rising"),
        ("pair", "wide", 0.5, "above 1"),
        ("cfgpp", "steps", (50, 2000), "1000"),
        ("interval", "edges", (0.1, 0.2, 0.3), "two"),
        ("autoguidance", "blurs", (0.3, 0.1), "rising"),
        ("autoguidance", "blurs", (1e-300, 1e3), "0.001 to 10.0"),
        ("autoguidance", "blurs", (0.3, 0.301), "far apart"),
        ("tilt", "start_noise", -1.0, "above 0"),
        ("tilt", "start_noise", 1e-300, "1.0 to 100.0"),
        ("tilt", "num_samples", 1, "2 to 10000000"),
        ("corrector", "corrections", (0,), "two rising numbers or more, with 0 among them"),
        ("corrector", "corrections", (1, 2), "with 0 among them"),
        ("interval", "smallest", 1e300, "at most"),
        ("interval", "smallest", 2.0, "0.001 to 1.0"),
        ("interval", "edges", (1e-9, 2e-9), "interval.smallest = 0.04 to below 40"),
        ("interval", "edges", (0.3, 1e11), "below 40, tilt.start_noise"),
        ("interval", "weight", 1.0, "1.1 to 12.0"),
        ("stability", "weights", (1.0, 8.0, 1e3), "0.1 to 100.0"),
        ("stability", "num_samples", {"grid": 10**10, "low_rank": 1}, "1 to 1000000"),
        ("pair", "mean", 1e300, "at most"),
        ("pair", "mean", 1e5, "0.01 to 100.0"),
    ],
)
def test_settings_that_cannot_be_are_refused_in_one_line(group, name, value, allowed):
    config = configs.get_config("default")
    with config.unlocked():
        config[group][name] = value
    with pytest.raises(ConfigError) as error:
        configs.validate(config)
    message = str(error.value)
    assert f"config.{group}.{name}" in message
    assert allowed in message
    assert "\n" not in message
