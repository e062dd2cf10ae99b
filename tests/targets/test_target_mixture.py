"""The closed forms of Gaussian mixtures, in float64, against independent truths."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from dfx import schedules
from dfx.errors import PersonError
from dfx.schedules import VE, Level, RectifiedLinear, SubVP, VPLinear
from dfx.targets import Mixture

pytestmark = pytest.mark.usefixtures("x64")

RNG = np.random.default_rng(0)
MEANS, WEIGHTS = RNG.normal(size=(4, 3)), np.array([0.1, 0.2, 0.3, 0.4])
FACTORS, VARIANCES = RNG.normal(size=(4, 3, 1)), RNG.uniform(0.1, 1.0, (4, 3))
DENSE = np.einsum("kir,kjr->kij", FACTORS, FACTORS) + 0.3 * np.eye(3)
POINTS = 1.5 * RNG.normal(size=(7, 3))
LEVEL = VPLinear().at(0.3)
CLEAN = jax.tree.map(np.float64, schedules.CLEAN)  # of the types of LEVEL: one compilation for both


def eye(scales):
    return np.asarray(scales)[:, None, None] * np.eye(3)


#: Every kind of covariance: the mixture, and its covariances written out.
KINDS = {
    "isotropic": (Mixture.isotropic(MEANS, VARIANCES[:, 0], WEIGHTS), eye(VARIANCES[:, 0] ** 2)),
    "isotropic shared": (Mixture.isotropic(MEANS, 0.4, WEIGHTS), eye([0.16] * 4)),
    "diagonal": (Mixture.diagonal(MEANS, VARIANCES, WEIGHTS), [np.diag(v) for v in VARIANCES]),
    "full": (Mixture.full(MEANS, DENSE, WEIGHTS), DENSE),
    "full shared": (Mixture.full(MEANS, DENSE[:1], WEIGHTS), DENSE[[0] * 4]),
    "low rank": (Mixture.low_rank(MEANS, FACTORS, 0.3, WEIGHTS), DENSE),
    "low rank shared": (Mixture.low_rank(MEANS, FACTORS[:1], 0.3, WEIGHTS), DENSE[[0] * 4]),
}
kinds = pytest.mark.parametrize("kind", KINDS)
NAMES = ["log_prob", "responsibilities", "denoise", "score", "posterior_covariance", "hessian"]


@jax.jit
def values(mixture, x, level):
    """Every method in one compiled function."""
    return {name: getattr(mixture, name)(x, level) for name in NAMES}


@jax.jit
def derivatives(mixture, x, level):
    """Gradient of the log density and Jacobian of the score by autodiff, per sample."""
    gradient = jax.grad(lambda x: mixture.log_prob(x, level).sum())(x)
    jacobian = jax.jacfwd(lambda x: mixture.score(x, level).sum(0))(x).swapaxes(0, 1)
    return gradient, jacobian


@functools.partial(jax.jit, static_argnums=(2, 3))
def draw(mixture, key, n, balanced=False):
    """Samples in float64."""
    return mixture.sample(key, n, jnp.float64, balanced=balanced)


@functools.cache
def known(kind):
    """Values of a kind at POINTS and LEVEL, compiled and computed once for all tests."""
    return jax.tree.map(np.asarray, values(KINDS[kind][0], POINTS, LEVEL))


def textbook(mixture, covariances, x, a, s):
    """Everything at one point from dense matrices and SciPy: the truth of this file."""
    weights, means = np.exp(mixture.log_weights), mixture.means
    noisy = [a**2 * S + s**2 * np.eye(3) for S in covariances]
    density = [stats.multivariate_normal(a * m, C).pdf(x) for m, C in zip(means, noisy)]
    share = weights * density / (weights @ density)
    gains = [a * S @ np.linalg.inv(C) for S, C in zip(covariances, noisy)]
    posterior = np.stack([m + G @ (x - a * m) for m, G in zip(means, gains)])
    within = np.stack([S - a * G @ S for S, G in zip(covariances, gains)])
    scores = np.stack([np.linalg.solve(C, a * m - x) for m, C in zip(means, noisy)])
    spread = posterior - share @ posterior
    return {
        "log_prob": np.log(weights @ density),
        "responsibilities": share,
        "denoise": share @ posterior,
        "score": share @ scores,
        "posterior_covariance": np.einsum("k,kij->ij", share, within)
        + np.einsum("k,ki,kj->ij", share, spread, spread),
    }


@kinds
def test_closed_forms_are_those_of_dense_linear_algebra(kind):
    truth = [textbook(*KINDS[kind], x, LEVEL.alpha, LEVEL.sigma) for x in POINTS]
    for name in truth[0]:
        expected = [t[name] for t in truth]
        np.testing.assert_allclose(known(kind)[name], expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", ["isotropic", "full shared", "low rank"])
def test_score_is_the_gradient_of_log_density_and_hessian_its_jacobian(kind):
    gradient, jacobian = derivatives(KINDS[kind][0], POINTS, LEVEL)
    np.testing.assert_allclose(known(kind)["score"], gradient, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(known(kind)["hessian"], jacobian, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("kind", ["isotropic", "isotropic shared"])
def test_derivatives_by_the_parameters_are_shifts_and_heat_flow(kind):
    # Moving all means by h is moving x by -alpha h; more variance is more noise, the heat equation.
    mixture = jax.tree.map(jnp.asarray, KINDS[kind][0])
    rates = jax.jit(jax.jacrev(lambda mixture: mixture.log_prob(POINTS, LEVEL)))(mixture)
    value, a = known(kind), LEVEL.alpha
    np.testing.assert_allclose(rates.means.sum(1), -a * value["score"], rtol=1e-10, atol=1e-12)
    curvature = np.trace(value["hessian"], axis1=1, axis2=2) + (value["score"] ** 2).sum(1)
    np.testing.assert_allclose(rates.variance.sum(1), a**2 / 2 * curvature, rtol=1e-9, atol=1e-11)


@kinds
def test_tweedie_and_its_second_order_hold(kind):
    value, a, s = known(kind), LEVEL.alpha, LEVEL.sigma
    tweedie = (POINTS + s**2 * value["score"]) / a
    np.testing.assert_allclose(value["denoise"], tweedie, rtol=1e-11, atol=1e-12)
    second = (s / a) ** 2 * (np.eye(3) + s**2 * value["hessian"])
    np.testing.assert_allclose(value["posterior_covariance"], second, atol=1e-12)


@kinds
def test_noisy_mixture_is_the_law_of_x_t(kind):
    mixture, a, s = KINDS[kind][0], LEVEL.alpha, LEVEL.sigma
    noisy = mixture.at(LEVEL)
    value = values(noisy, POINTS, CLEAN)
    for name in ("log_prob", "score", "responsibilities"):
        np.testing.assert_allclose(value[name], known(kind)[name], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(value["denoise"], POINTS, rtol=1e-12)  # nothing to remove at t = 0
    np.testing.assert_allclose(noisy.mean(), a * mixture.mean(), rtol=1e-12)
    expected = a**2 * mixture.covariance() + s**2 * np.eye(3)
    np.testing.assert_allclose(noisy.covariance(), expected, rtol=1e-12)


@kinds
def test_samples_have_the_moments_of_the_mixture(kind):
    (mixture, covariances), n = KINDS[kind], 20_000
    x = np.asarray(draw(mixture, jax.random.key(1), n))
    weights, mean = np.exp(mixture.log_weights), mixture.mean()
    np.testing.assert_allclose(mean, weights @ mixture.means, rtol=1e-12)
    seconds = np.asarray(covariances) + np.einsum("ki,kj->kij", *[mixture.means - mean] * 2)
    expected = np.einsum("k,kij->ij", weights, seconds)
    np.testing.assert_allclose(mixture.covariance(), expected, rtol=1e-12)
    # 4.5 standard errors: a probability of 1e-4 over all 12 entries and 7 kinds.
    assert (np.abs(x.mean(0) - mean) < 4.5 * x.std(0) / np.sqrt(n)).all()
    products = np.einsum("ni,nj->nij", x - mean, x - mean)
    assert (np.abs(products.mean(0) - expected) < 4.5 * products.std(0) / np.sqrt(n)).all()


@pytest.mark.parametrize("kind", [pytest.param("isotropic", marks=pytest.mark.slow), "low rank"])
def test_one_level_per_sample_is_one_call_per_level(kind):
    mixture, times = KINDS[kind][0], np.array([0.01, 0.3, 0.9, 0.02, 0.5, 0.7, 1.0])
    together = values(mixture, POINTS, VPLinear().at(times, ndim=2))
    for i, t in enumerate(times[:3]):
        alone = values(mixture, POINTS, VPLinear().at(t))
        for name, value in together.items():
            np.testing.assert_allclose(value[i], alone[name][i], rtol=1e-11, atol=1e-12)


def test_one_level_per_coordinate_rescales_the_coordinates():
    # alpha_j x0_j + sigma_j eps_j has the law of a mixture with rescaled axes.
    a, s = np.array([0.3, 0.8, 0.5]), np.array([0.9, 0.1, 0.4])
    level = Level(0.5, a, 0.0, s, -a, 0.0, s)
    mixture = Mixture.diagonal(MEANS, VARIANCES, WEIGHTS)
    noisy = Mixture.diagonal(a * MEANS, a**2 * VARIANCES + s**2, WEIGHTS)
    value, truth = values(mixture, POINTS, level), values(noisy, POINTS, CLEAN)
    for name in ("log_prob", "score"):
        np.testing.assert_allclose(value[name], truth[name], rtol=1e-10, atol=1e-12)
    tweedie = (POINTS + s**2 * truth["score"]) / a
    np.testing.assert_allclose(value["denoise"], tweedie, rtol=1e-10, atol=1e-12)
    second = np.outer(s**2 / a, s**2 / a) * truth["hessian"] + np.diag(s**2 / a**2)
    np.testing.assert_allclose(value["posterior_covariance"], second, rtol=1e-9, atol=1e-12)
    with pytest.raises(ValueError, match="per coordinate"):
        KINDS["full"][0].denoise(jnp.asarray(POINTS), level)


def test_density_integrates_to_one():
    u = np.linspace(-12, 12, 2001)
    # The trapezoidal rule converges faster than any power for a density that is 0 at the ends.
    line = Mixture.isotropic([[-1.0], [0.5], [2.0]], [0.3, 0.1, 0.5], [1, 2, 3])
    log_prob = jax.jit(lambda mixture, x, level: mixture.log_prob(x, level))
    for t in (0.01, 0.5, 1.0):
        p = np.exp(log_prob(line, u[:, None], VPLinear().at(t)))
        np.testing.assert_allclose(np.trapezoid(p, u), 1.0, rtol=1e-9)
    v = np.linspace(-12, 12, 301)
    grid = np.stack(np.meshgrid(v, v, indexing="ij"), -1).reshape(-1, 2)
    plane = Mixture.full(MEANS[:, :2], DENSE[:, :2, :2], WEIGHTS)
    p = np.exp(log_prob(plane, grid, LEVEL)).reshape(301, 301)
    np.testing.assert_allclose(np.trapezoid(np.trapezoid(p, v), v), 1.0, rtol=1e-9)


@functools.partial(jax.jit, static_argnums=0)
def evolution(schedule, mixture, x, t):
    """The rate of log p_t at x by autodiff, by the Fokker-Planck and by the continuity equation."""
    one, d = jnp.ones_like(t), x.shape[1]
    rate = jax.jvp(lambda t: mixture.log_prob(x, schedule.at(t)), (t,), (one,))[1]
    level = schedule.at(t)
    score, hessian = mixture.score(x, level), mixture.hessian(x, level)
    f = level.alpha_dot / level.alpha
    g2 = 2 * level.sigma * level.sigma_dot - 2 * f * level.sigma**2
    curvature = jnp.trace(hessian, axis1=1, axis2=2) + (score**2).sum(1)
    fokker_planck = -d * f - f * (x * score).sum(1) + 0.5 * g2 * curvature
    slopes = jax.jacfwd(lambda x: mixture.velocity(x, level).sum(0))(x)
    flow = mixture.velocity(x, level)
    continuity = -jnp.einsum("ini->n", slopes) - (flow * score).sum(1)
    return rate, fokker_planck, continuity


@pytest.mark.parametrize(
    ("schedule", "kind"),
    [
        (VPLinear(), "low rank"),
        (VE(), "isotropic"),
        (RectifiedLinear(), "diagonal"),
        pytest.param(SubVP(), "full shared", marks=pytest.mark.slow),
    ],
    ids=["vp", "ve", "rectified_linear", "sub_vp"],
)
def test_density_solves_the_fokker_planck_and_continuity_equations(schedule, kind):
    for t in (0.2, 0.7):
        rate, *others = evolution(schedule, KINDS[kind][0], POINTS, jnp.float64(t))
        for other in others:
            np.testing.assert_allclose(other, rate, rtol=1e-9, atol=1e-10)


def test_denoiser_is_the_monte_carlo_posterior_mean():
    n, x, (a, s) = 200_000, POINTS[0], (LEVEL.alpha, LEVEL.sigma)
    mixture = KINDS["full"][0]
    x0 = np.asarray(draw(mixture, jax.random.key(2), n))
    weights = np.exp(-((x - a * x0) ** 2).sum(1) / (2 * s**2))
    mean = weights @ x0 / weights.sum()
    error = np.sqrt(((weights[:, None] * (x0 - mean)) ** 2).sum(0)) / weights.sum()
    # 4 standard errors: probability 2e-4 for three entries.
    assert (np.abs(known("full")["denoise"][0] - mean) < 4 * error).all()


def test_all_forms_of_one_law_agree():
    forms = [
        Mixture.isotropic(MEANS, 0.5, WEIGHTS),
        Mixture.isotropic(MEANS, [0.5] * 4, WEIGHTS),
        Mixture.diagonal(MEANS, np.full((4, 3), 0.25), WEIGHTS),
        Mixture.full(MEANS, eye([0.25] * 4), WEIGHTS),
        Mixture.full(MEANS, eye([0.25]), WEIGHTS),
        Mixture.low_rank(MEANS, np.zeros((4, 3, 1)), 0.25, WEIGHTS),
    ]
    first, *others = (values(form, POINTS, LEVEL) for form in forms)
    for other in others:
        for name, value in first.items():
            np.testing.assert_allclose(other[name], value, rtol=1e-10, atol=1e-12, err_msg=name)


def test_one_component_is_the_gaussian_in_closed_form():
    a, s = LEVEL.alpha, LEVEL.sigma
    shrink = a * 0.49 / (a**2 * 0.49 + s**2)
    mean = MEANS[0] + shrink * (POINTS - a * MEANS[0])
    covariance = np.tile((1 - a * shrink) * 0.49 * np.eye(3), (7, 1, 1))
    for given in (0.49, 0.49 * np.eye(3)):
        value = values(Mixture.gaussian(MEANS[0], given), POINTS, LEVEL)
        np.testing.assert_allclose(value["denoise"], mean, rtol=1e-11, atol=1e-12)
        same = value["posterior_covariance"]
        np.testing.assert_allclose(same, covariance, rtol=1e-11, atol=1e-15)


def test_translation_rotation_and_permutation_move_the_oracles_along():
    turn, _ = np.linalg.qr(RNG.normal(size=(3, 3)))
    shift, order = np.array([5.0, -3.0, 1.0]), [2, 0, 3, 1]
    means, covariances = MEANS @ turn.T + shift, turn @ DENSE @ turn.T
    moved = Mixture.full(means[order], covariances[order], WEIGHTS[order])
    base = known("full")
    value = values(moved, POINTS @ turn.T + LEVEL.alpha * shift, LEVEL)
    np.testing.assert_allclose(value["log_prob"], base["log_prob"], rtol=1e-11)
    np.testing.assert_allclose(value["denoise"], base["denoise"] @ turn.T + shift, rtol=1e-11)
    np.testing.assert_allclose(value["score"], base["score"] @ turn.T, rtol=1e-10, atol=1e-11)
    shares = base["responsibilities"][:, order]
    np.testing.assert_allclose(value["responsibilities"], shares, rtol=1e-10)


def test_slope_halfway_between_two_modes_is_known():
    # D'(0) = s^2 / c + (gap^2 / 4) tau^2 / c^2 with c = s^2 + tau^2; gap 1, s = 0.05, alpha = 1.
    pair = Mixture.isotropic([[-0.5], [0.5]], 0.05)
    slopes = {0.2: 5.5952, 0.1: 16.2, 0.05: 25.5, 0.025: 16.8, 0.01: 4.6598}
    slope_of, origin = jax.jit(jax.jacfwd(pair.denoise)), jnp.zeros((1, 1))
    covariance_of = jax.jit(pair.posterior_covariance)
    for tau, rounded in slopes.items():
        c = 0.05**2 + tau**2
        slope = 0.05**2 / c + 0.25 * tau**2 / c**2
        np.testing.assert_allclose(slope, rounded, atol=5e-5)
        level = Level(tau, 1.0, 0.0, tau, 0.0, 0.0, 1.0)
        np.testing.assert_allclose(slope_of(origin, level).item(), slope, rtol=1e-11)
        by_covariance = covariance_of(origin, level).item() / tau**2
        np.testing.assert_allclose(by_covariance, slope, rtol=1e-11)


@pytest.mark.parametrize("kind", ["isotropic", "low rank"])
def test_pure_noise_leaves_the_mean_and_covariance_of_the_data(kind):
    mixture, level = KINDS[kind][0], RectifiedLinear().at(1.0)
    assert level.alpha == 0
    value = values(mixture, POINTS, level)
    np.testing.assert_allclose(value["denoise"], np.tile(mixture.mean(), (7, 1)), atol=1e-12)
    covariance = np.tile(mixture.covariance(), (7, 1, 1))
    np.testing.assert_allclose(value["posterior_covariance"], covariance, atol=1e-12)

    # To first order in alpha, E[x0 | x] = mean + alpha Cov x / sigma^2.
    @jax.jit
    def slope(alpha):
        return jax.jacfwd(lambda a: mixture.denoise(POINTS, level._replace(alpha=a)))(alpha)

    expected = POINTS @ mixture.covariance()
    np.testing.assert_allclose(slope(jnp.float64(0.0)), expected, rtol=1e-10, atol=1e-11)


def test_balanced_samples_take_the_components_in_turn():
    narrow, key = Mixture.isotropic(MEANS, 1e-3, WEIGHTS), jax.random.key(3)
    x = np.asarray(draw(narrow, key, 10, True))
    np.testing.assert_allclose(x, MEANS[np.arange(10) % 4], atol=6e-3)  # 6 standard deviations


def test_sample_i_is_the_same_for_every_number_of_samples():
    few, many = (draw(KINDS["low rank"][0], jax.random.key(1), n) for n in (10, 20_000))
    np.testing.assert_array_equal(many[:10], few)


def test_ten_thousand_dimensions_of_low_rank_need_no_square_matrix():
    d, rng = 10_000, np.random.default_rng(1)
    mixture = Mixture.low_rank(rng.normal(size=(3, d)), rng.normal(size=(3, d, 2)), 0.5)
    level = Level(0.5, 0.6, 0.0, 0.8, -1.0, 0.0, 1.0)
    x = 0.6 * mixture.means[[2, 0]] + rng.normal(size=(2, d))
    denoised = jax.jit(mixture.denoise)(x, level)
    k = [2, 0]  # components 140 apart: the others have a share of e^-1000s
    for i in range(2):
        basis, spectrum = mixture.basis[k[i]], mixture.spectrum[k[i]]
        offset = x[i] - 0.6 * mixture.means[k[i]]
        inside = basis.T @ offset
        gain = 0.6 * (spectrum + 0.5) / (0.36 * (spectrum + 0.5) + 0.64)
        rest = 0.6 * 0.5 / (0.36 * 0.5 + 0.64)
        expected = mixture.means[k[i]] + rest * (offset - basis @ inside) + basis @ (gain * inside)
        np.testing.assert_allclose(denoised[i], expected, rtol=1e-9, atol=1e-11)


def test_one_sample_at_a_time_gives_the_same():
    mixture, expected = KINDS["full"][0], known("full")["log_prob"]
    alone = jax.vmap(lambda x: mixture.log_prob(x[None], LEVEL)[0])
    np.testing.assert_allclose(jax.jit(alone)(POINTS), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Mixture.isotropic(MEANS[0], 0.1), "means must have shape"),
        (lambda: Mixture.isotropic(MEANS, [0.1, 0.2]), "one per mean"),
        (lambda: Mixture.isotropic(MEANS, -0.1), "negative"),
        (lambda: Mixture.isotropic(MEANS, 0.1, [1, 2, 0, 1]), "weights must be positive"),
        (lambda: Mixture.diagonal(MEANS, VARIANCES[:, :2]), "dimension"),
        (lambda: Mixture.full(MEANS, -DENSE), "negative"),
        (lambda: Mixture.full(MEANS, RNG.normal(size=(4, 3, 3))), "symmetric"),
        (lambda: Mixture.low_rank(MEANS, FACTORS, -1.0), "negative"),
    ],
)
def test_impossible_parameters_are_refused_by_name(make, message):
    with pytest.raises(PersonError, match=message):
        make()


def test_points_of_another_dimension_are_refused():
    with pytest.raises(ValueError, match=r"shape \(n, 3\), got \(7, 2\)"):
        KINDS["full"][0].denoise(jnp.asarray(POINTS[:, :2]), LEVEL)
