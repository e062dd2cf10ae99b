"""Guidance: identities of the combinators, and the law that classifier-free guidance samples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate

from dfx import fields, schedules, solvers
from dfx.errors import PersonError
from dfx.targets import Mixture

pytestmark = pytest.mark.usefixtures("x64")

SCHEDULE = schedules.VPLinear()

#: Float64 rounding of a handful of operations on numbers of order one.
ROUNDING = 1e-12

#: Four modes in the plane; the class is the first two.
MEANS = np.array([[1.0, 0.3], [-0.4, 1.2], [-1.1, -0.5], [0.6, -1.0]])
WEIGHTS = np.array([0.1, 0.3, 0.4, 0.2])
EVERYTHING = Mixture.isotropic(MEANS, 0.4, WEIGHTS)
CLASS = Mixture.isotropic(MEANS[:2], 0.4, WEIGHTS[:2])
CONDITIONAL, UNCONDITIONAL = fields.oracle(CLASS), fields.oracle(EVERYTHING)


def points(n=5, d=2, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(n, d)))


def log_class(x, level):
    """log p(class | x_t): the responsibilities of its components."""
    return jnp.log(EVERYTHING.responsibilities(x, level)[:, :2].sum(1))


@pytest.mark.parametrize("make", [fields.classifier_free, fields.autoguidance])
def test_weight_one_is_the_conditional_field_to_the_last_bit_and_weight_zero_the_other(make):
    x, level = points(), SCHEDULE.at(0.4)
    one, zero = (make(CONDITIONAL, UNCONDITIONAL, w)(x, level) for w in (1.0, 0.0))
    np.testing.assert_array_equal(one, CONDITIONAL(x, level))
    np.testing.assert_allclose(zero, UNCONDITIONAL(x, level), atol=ROUNDING)


@pytest.mark.parametrize("prediction", fields.PREDICTIONS)
def test_every_prediction_type_is_extrapolated_by_the_same_weight(prediction):
    x, level, w = points(), SCHEDULE.at(0.4), 3.5
    guided = fields.classifier_free(CONDITIONAL, UNCONDITIONAL, w)
    g, c, u = (
        np.asarray(fields.as_prediction(field, prediction)(x, level))
        for field in (guided, CONDITIONAL, UNCONDITIONAL)
    )
    np.testing.assert_allclose(g, u + w * (c - u), rtol=1e-11, atol=1e-11)


def test_the_guided_score_is_that_of_the_tilted_density_at_each_level():
    """s_u + w (s_c - s_u) from the scores of the mixtures, not from their denoisers."""
    x, level, w = points(), SCHEDULE.at(0.5), 2.5
    guided = fields.classifier_free(CONDITIONAL, UNCONDITIONAL, w)
    expected = (1 - w) * EVERYTHING.score(x, level) + w * CLASS.score(x, level)
    score = fields.as_prediction(guided, "score")(x, level)
    np.testing.assert_allclose(score, expected, rtol=1e-11)


@pytest.mark.parametrize("t", [0.05, 0.5, 1.0])
def test_classifier_guidance_with_the_exact_posterior_is_the_conditional_field(t):
    x, level = points(), SCHEDULE.at(t)
    guided = fields.classifier(UNCONDITIONAL, log_class, 1.0)
    # sigma^2 / alpha = 150 at t = 1 multiplies the rounding of the gradient
    np.testing.assert_allclose(guided(x, level), CONDITIONAL(x, level), rtol=0, atol=1e-11)


def test_classifier_guidance_with_any_weight_is_classifier_free_guidance():
    x, level = points(), SCHEDULE.at(0.4)
    by_classifier = fields.classifier(UNCONDITIONAL, log_class, 2.5)(x, level)
    free = fields.classifier_free(CONDITIONAL, UNCONDITIONAL, 2.5)(x, level)
    np.testing.assert_allclose(by_classifier, free, rtol=0, atol=ROUNDING)


def test_classifier_guidance_leaves_the_field_alone_where_nothing_is_left_of_x0():
    x, level = points(), schedules.RectifiedLinear().at(1.0)
    guided = fields.classifier(UNCONDITIONAL, lambda x, level: jnp.sin(x).sum(1), 3.0)
    np.testing.assert_array_equal(guided(x, level), UNCONDITIONAL(x, level))


def test_a_weight_may_depend_on_the_level_or_on_the_sample():
    x, level = points(), SCHEDULE.at(0.4)
    fixed = lambda w: fields.classifier_free(CONDITIONAL, UNCONDITIONAL, w)(x, level)  # noqa: E731
    np.testing.assert_allclose(fixed(lambda lv: 1 + 2 * lv.sigma), fixed(1 + 2 * level.sigma))
    each = np.arange(5.0)[:, None]
    np.testing.assert_allclose(fixed(each)[3], fixed(3.0)[3], rtol=1e-14)
    make = fields.classifier_free
    assert make(CONDITIONAL, UNCONDITIONAL, 2.0).pointwise
    assert not make(CONDITIONAL, UNCONDITIONAL, each).pointwise
    assert not make(CONDITIONAL, lambda x, level: x, 2.0).pointwise


def ones(x, level):
    return jnp.ones_like(x)


def twos(x, level):
    return 2 * jnp.ones_like(x)


def inside(field, schedule, t):
    """Where the field is the guided one: twos."""
    return np.asarray(field(jnp.zeros((1, 1)), schedule.at(t)))[0, 0] == 2


def test_the_interval_is_open_at_its_low_and_closed_at_its_high_end():
    field = fields.interval(twos, ones, 0.25, 2.0)
    edm = schedules.EDM(80.0)
    found = [bool(inside(field, edm, t)) for t in (0.2, 0.25, 0.26, 1.0, 2.0, 2.001, 70.0)]
    assert found == [False, False, True, True, True, False, False]
    everywhere = fields.interval(twos, ones, 0.0, np.inf)
    assert inside(everywhere, schedules.RectifiedLinear(), 1.0)  # sigma / alpha is infinite


def test_the_interval_in_half_log_snr_is_that_in_noise_turned_round():
    field = fields.interval(twos, ones, -0.7, 1.5, "half_log_snr")
    for half in (-0.71, -0.69, 0.3, 1.49, 1.51):
        t = schedules.t_of_log_snr(SCHEDULE, 2 * half)
        assert inside(field, SCHEDULE, t) == (-0.7 <= half < 1.5)


def test_an_end_of_the_interval_may_be_a_level_of_the_grid_in_any_precision():
    """Given in float64, and seen in float32 as well."""
    times = schedules.grids.karras(SCHEDULE, 40)[:-1]
    noise = SCHEDULE.at(times).sigma / SCHEDULE.at(times).alpha
    for dtype in (np.float32, np.float64):
        x, level = jnp.zeros((40, 1), dtype), SCHEDULE.at(times, 2).astype(dtype)
        for low, high in ((5, 2), (20, 19), (33, 0)):
            ends = -np.log(noise[[high, low]])
            for field in (
                fields.interval(twos, ones, noise[low], noise[high]),
                fields.interval(twos, ones, *ends, "half_log_snr"),
            ):
                guided = np.flatnonzero(field(x, level) == 2)
                np.testing.assert_array_equal(guided, np.arange(high, low))


def test_an_end_beyond_all_noise_is_open():
    field = fields.interval(twos, ones, -800.0, 3.0, "half_log_snr")
    assert inside(field, schedules.RectifiedLinear(), 1.0)  # sigma / alpha is infinite


def test_the_interval_chooses_for_each_sample_and_evaluates_one_field_where_it_can():
    field = fields.interval(twos, ones, 0.25, 2.0)
    edm = schedules.EDM(80.0)
    out = field(jnp.zeros((3, 2)), edm.at(np.array([0.1, 1.0, 5.0]), 2))
    np.testing.assert_array_equal(out, [[1, 1], [2, 2], [1, 1]])
    calls = []

    def counted(x, level):
        jax.debug.callback(lambda: calls.append(1))
        return 2 * x

    once = fields.interval(counted, ones, 0.25, 2.0)
    grid = np.array([4.0, 3.0, 1.5, 1.0, 0.1, 0.0])
    jax.block_until_ready(solvers.sample(solvers.ddim(edm, grid), once, jnp.ones((2, 2))))
    jax.effects_barrier()
    assert len(calls) == 2  # at 1.5 and 1


def test_cfg_plus_plus_has_the_guided_and_the_unconditional_output():
    x, level = points(), SCHEDULE.at(0.4)
    guided, plain = fields.cfg_plus_plus(CONDITIONAL, UNCONDITIONAL, 0.6)(x, level)
    free = fields.classifier_free(CONDITIONAL, UNCONDITIONAL, 0.6)
    np.testing.assert_array_equal(guided, free(x, level))
    np.testing.assert_array_equal(plain, UNCONDITIONAL(x, level))


def test_the_weight_is_an_argument_of_the_compiled_program():
    count = []

    @jax.jit
    def run(field, x):
        count.append(1)
        return field(x, SCHEDULE.at(0.5))

    for w in (1.0, 2.0, 7.5):
        run(fields.classifier_free(CONDITIONAL, UNCONDITIONAL, w), points())
    assert len(count) == 1


def test_float32_stays_float32():
    x = points().astype(jnp.float32)
    field = fields.classifier_free(ones, twos, np.float64(2.0))
    for guided in (
        fields.interval(field, ones, np.float64(0.1), np.float64(3.0)),
        fields.classifier(field, lambda x, level: jnp.sin(x).sum(1), np.float64(1.5)),
    ):
        assert guided(x, SCHEDULE.at(0.4)).dtype == jnp.float32


def test_unordered_intervals_and_unknown_variables_are_refused():
    for low, high in ((2.0, 1.0), (1.0, 1.0), (-2.0, -1.0)):
        with pytest.raises(PersonError, match="low must be below high"):
            fields.interval(ones, twos, low, high)
    with pytest.raises(PersonError, match="allowed are noise, half_log_snr"):
        fields.interval(ones, twos, 0.1, 1.0, "sigma")


@pytest.mark.slow
def test_autoguidance_undoes_a_blur_at_the_weight_in_closed_form():
    """With scores -x / (1 + k + S^2), k = 0.1 and 0.3, the flow ends in the variance
    (1.1)^w (1.3)^(1 - w), which is 1 at w = 1 + ln 1.1 / ln(1.3 / 1.1)."""
    edm = schedules.EDM(80.0)

    def at(k):
        return lambda x, level: x * (1 + k) / (1 + k + level.sigma**2)

    good, bad, start, ends = at(0.1), at(0.3), 80.0, {}
    for w in (0.0, 1.0, float(1 + np.log(1.1) / np.log(1.3 / 1.1))):
        field = fields.autoguidance(good, bad, w)
        x = jnp.full((1, 1), start)
        path = solvers.sample_adaptive(edm, field, x, rtol=1e-8, atol=1e-8)
        ends[w] = float(path.state[0, 0]) ** 2
    # x scales like the root of the variance: (v / (v + S^2))^(1/2) for each part, at S = 80
    shrink = lambda v: v / (v + start**2) * start**2  # noqa: E731
    for w, end in ends.items():
        assert end == pytest.approx(shrink(1.1) ** w * shrink(1.3) ** (1 - w), rel=1e-6)
    assert end == pytest.approx(1.0, rel=1e-3)  # up to what 80 leaves of 1.1 / 6400


# The law of guidance in one dimension: modes -1 and 1 of variance 0.25, the class is the mode at 1.
PAIR = Mixture.isotropic([[-1.0], [1.0]], 0.5)
RIGHT = Mixture.isotropic([[1.0]], 0.5)


def moments_of_tilted(w):
    """Mean and standard deviation of p_c^w p_u^(1 - w), by quadrature on a fine grid."""
    x = np.linspace(-6, 8, 40_001)
    bump = lambda m: np.exp(-((x - m) ** 2) / 0.5)  # noqa: E731
    density = bump(1) ** w * (0.5 * bump(1) + 0.5 * bump(-1)) ** (1 - w)
    density /= density.sum()
    mean = (density * x).sum()
    return mean, np.sqrt((density * (x - mean) ** 2).sum())


def nodes_of_the_normal():
    nodes, weights = np.polynomial.hermite_e.hermegauss(48)
    return nodes, weights / weights.sum()


def moments_of(x, weights):
    mean = weights @ x
    return mean, np.sqrt(weights @ (x - mean) ** 2)


def moments_of_guided(w):
    """Mean and standard deviation at the end of the guided flow from N(0, 1) where alpha = 0.

    The start points are Gauss-Hermite nodes and the map is smooth: there is no sampling error.
    """
    nodes, weights = nodes_of_the_normal()
    field = fields.classifier_free(fields.oracle(RIGHT), fields.oracle(PAIR), w)
    path = solvers.sample_adaptive(
        schedules.RectifiedLinear(), field, jnp.asarray(nodes)[:, None], rtol=1e-8, atol=1e-8
    )
    return moments_of(np.asarray(path.state[:, 0]), weights)


def moments_by_hand(w, start):
    """The same from N(0, start^2) at sigma = start, by dx / d ln sigma = x - x0_hat in NumPy."""

    def slope(log_sigma, x):
        noisy = 0.25 + np.exp(2 * log_sigma)
        centre = lambda m: m + 0.25 / noisy * (x - m)  # noqa: E731
        right = 1 / (1 + np.exp(-2 * x / noisy))
        plain = right * centre(1) + (1 - right) * centre(-1)
        return x - (plain + w * (centre(1) - plain))

    nodes, weights = nodes_of_the_normal()
    span = np.log(start), np.log(1e-4)
    found = scipy.integrate.solve_ivp(slope, span, start * nodes, "DOP853", rtol=1e-8, atol=1e-8)
    return moments_of(found.y[:, -1], weights)


@pytest.mark.slow
def test_classifier_free_guidance_does_not_sample_the_tilted_law():
    """w = 2: the flow ends with mean 1.324 and deviation 0.360, the tilted law has 1.036 and 0.468;
    without guidance both have 1 and 0.5."""
    np.testing.assert_allclose(moments_of_tilted(2.0), (1.036, 0.468), atol=5e-4)
    np.testing.assert_allclose(moments_of_guided(2.0), (1.3245, 0.3599), atol=5e-4)
    np.testing.assert_allclose(moments_of_tilted(1.0), (1, 0.5), atol=1e-6)
    # tolerances of the steps; the last step to x0_hat is off by 2e-8
    np.testing.assert_allclose(moments_of_guided(1.0), (1, 0.5), atol=1e-5)


@pytest.mark.slow
def test_the_guided_law_is_that_of_a_hand_written_integration():
    """A finite start costs 0.7 / start: N(0, start^2) is not where the guided flow has come to."""
    np.testing.assert_allclose(moments_by_hand(2.0, 1e4), moments_of_guided(2.0), atol=2e-4)
    assert moments_by_hand(2.0, 40.0)[0] == pytest.approx(1.307, abs=1e-3)


def test_samples_of_a_guided_solver_have_the_law_of_the_guided_flow():
    """4,000 samples by Heun in 60 steps from sigma = 80: within 4.5 standard errors, plus 0.005
    for the steps."""
    n, edm = 4000, schedules.EDM(80.0)
    field = fields.classifier_free(fields.oracle(RIGHT), fields.oracle(PAIR), 2.0)
    grid = schedules.grids.karras(edm, 60)
    x = solvers.prior(jax.random.key(0), edm, (n, 1), dtype=jnp.float64)
    end = np.asarray(solvers.sample(solvers.heun(edm, grid), field, x))
    mean, std = moments_by_hand(2.0, 80.0)
    assert abs(end.mean() - mean) < 4.5 * std / np.sqrt(n) + 0.005
    assert abs(end.std() - std) < 4.5 * std / np.sqrt(2 * n) + 0.005
