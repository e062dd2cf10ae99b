"""The closed forms of Gaussian mixtures, in float64, against independent truths."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mixture_kinds import (
    CLEAN,
    DENSE,
    FACTORS,
    KINDS,
    LEVEL,
    MEANS,
    POINTS,
    RNG,
    VARIANCES,
    WEIGHTS,
    derivatives,
    eye,
    kinds,
    known,
    values,
)
from scipy import stats

from dfx.errors import PersonError
from dfx.schedules import Level, RectifiedLinear, VPLinear
from dfx.targets import Mixture

pytestmark = pytest.mark.usefixtures("x64")


@jax.jit
def answers(mixture, x, level):
    """What half precision can answer: no differences of nearly equal numbers."""
    return {name: getattr(mixture, name)(x, level) for name in ("denoise", "score", "log_prob")}


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
    same = Mixture.isotropic(MEANS, 0.5, WEIGHTS), Mixture.diagonal(MEANS, [[0.25] * 3], WEIGHTS)
    isotropic, diagonal = (law.denoise(jnp.asarray(POINTS), level) for law in same)
    np.testing.assert_allclose(isotropic, diagonal, rtol=1e-10, atol=1e-12)
    with pytest.raises(ValueError, match="per coordinate"):
        KINDS["full"][0].denoise(jnp.asarray(POINTS), level)


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


@kinds
def test_moments_of_parameters_on_a_device_are_those_on_the_host_and_round_no_factors(kind):
    mixture = KINDS[kind][0]
    for moment in (Mixture.mean, Mixture.covariance):
        on_device = jax.tree.map(jnp.asarray, mixture)
        np.testing.assert_allclose(moment(on_device), moment(mixture), rtol=1e-12, atol=1e-14)
        program = str(jax.make_jaxpr(moment)(on_device))
        assert program.count("dot_general[") == program.count("precision=(Precision.HIGHEST") > 0


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
        (lambda: Mixture.isotropic(MEANS * np.nan, 0.1), "all finite"),
        (lambda: Mixture.isotropic(np.zeros((0, 2)), 0.1), "means must have shape"),
        (lambda: Mixture.isotropic(MEANS, [0.1, 0.2]), "one per mean"),
        (lambda: Mixture.isotropic(MEANS, -0.1), "negative"),
        (lambda: Mixture.isotropic(MEANS, 0.1, [1, 2, 0, 1]), "weights must be positive"),
        (lambda: Mixture.diagonal(MEANS, VARIANCES[:, :2]), "dimension"),
        (lambda: Mixture.full(MEANS, -DENSE), "negative"),
        (lambda: Mixture.full(MEANS, RNG.normal(size=(4, 3, 3))), "symmetric"),
        (lambda: Mixture.full(MEANS, np.ones(3)), r"shape \(k, d, d\), got \(3,\)"),
        (lambda: Mixture.full(MEANS, np.ones((4, 3, 2))), r"shape \(k, d, d\)"),
        (lambda: Mixture.low_rank(MEANS, FACTORS, -1.0), "negative"),
        (lambda: Mixture.low_rank(MEANS, FACTORS[:, :2], 0.3), r"factors \(4, 2, 1\) must have"),
        (lambda: Mixture.isotropic(MEANS, 0.1).score(POINTS[:, :2], LEVEL), "points must have"),
    ],
)
def test_impossible_parameters_are_refused_by_name(make, message):
    with pytest.raises(PersonError, match=message):
        make()


def test_points_of_another_dimension_are_refused():
    with pytest.raises(ValueError, match=r"shape \(n, 3\), got \(7, 2\)"):
        KINDS["full"][0].denoise(jnp.asarray(POINTS[:, :2]), LEVEL)


@kinds
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_points_are_answered_in_half_precision(kind, dtype):
    mixture, x = KINDS[kind][0], jnp.asarray(POINTS, dtype)
    truth = values(mixture, jnp.asarray(x, jnp.float64), LEVEL)
    for name, value in answers(mixture, x, LEVEL).items():
        assert value.dtype == dtype, name
        # Each log weight is a sum over few coordinates of terms that are rounded a few times.
        error = np.abs(np.float64(value) - truth[name])
        assert (error <= 8 * float(jnp.finfo(dtype).eps) * (1 + np.abs(truth[name]))).all(), name


def test_samples_of_a_singular_covariance_lie_where_it_has_variance():
    """A covariance v v^T: its other eigenvalues come out as some 1e-17 of either sign."""
    for v in np.random.default_rng(0).normal(size=(9, 3)):
        law = Mixture.gaussian(np.zeros(3), np.outer(v, v))
        assert (law.spectrum >= 0).all()
    x = np.asarray(law.sample(jax.random.key(0), 4, jnp.float64))
    # Zero up to the root of the rounding of an eigenvalue.
    np.testing.assert_allclose(np.cross(x, v), 0, atol=1e-6)


def test_mixtures_are_compared_by_identity_as_tables_are():
    law, other = Mixture.isotropic(MEANS, 0.1), Mixture.isotropic(MEANS, 0.1)
    assert law == law and law != other and len({law, other}) == 2
