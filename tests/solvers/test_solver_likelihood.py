"""Log-likelihoods along the flow, against closed forms; the estimate of the trace and its law."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from dfx import fields, schedules, solvers
from dfx.errors import PersonError
from dfx.solvers import likelihood
from dfx.targets import Mixture, grid_2d

pytestmark = pytest.mark.usefixtures("x64")

SCHEDULES = {
    "vp_linear": schedules.VPLinear(),
    "edm": schedules.EDM(80.0),
    "rectified_linear": schedules.RectifiedLinear(),
}

#: Three modes that overlap: Jacobians with off-diagonal parts.
THREE = Mixture.isotropic([[0.9, 0.4], [-0.7, 0.8], [0.1, -1.0]], 0.45, [0.5, 0.3, 0.2])


@pytest.mark.slow
def test_25_modes_have_the_log_density_of_the_closed_form_within_1e4_nats():
    """Exact trace, from the straight path's alpha = 0, where the prior is exact."""
    target = grid_2d()
    points = target.sample(jax.random.key(0), 8, jnp.float64)
    points = points.at[0].set(jnp.array([0.1, 0.2]))  # between the modes
    found = solvers.log_likelihood(
        SCHEDULES["rectified_linear"], fields.oracle(target), points, rtol=1e-8, atol=1e-8
    )
    # The law that is asked is the one at the cut-off; 1e-8 a step, and log p = -77 between modes.
    at_cut_off = target.log_prob(points, schedules.EDM(80.0).at(1e-4))
    np.testing.assert_allclose(found.value, at_cut_off, rtol=0, atol=2e-5)
    # At its modes of deviation 0.018 the data's is within 1e-8 / 3e-4 of that, more far outside.
    clean = target.log_prob(points, schedules.CLEAN)
    np.testing.assert_allclose(found.value[1:], clean[1:], rtol=0, atol=1e-4)


def as_columns(x, level):
    """The denoiser of `THREE` for samples of shape (2, 1)."""
    level = type(level)(*(jnp.reshape(entry, np.shape(entry)[:2]) for entry in level))
    return THREE.denoise(x[..., 0], level)[..., None]


def log_prior(x, level):
    return THREE.log_prob(x[..., 0], level)


@pytest.mark.parametrize(("name", "time"), [("vp_linear", 0.0), ("edm", 0.4)])
def test_a_mixture_has_its_log_density_on_every_schedule(name, time):
    """With the exact law as the prior; clean data have the law that is wider by the cut-off. The
    shape of a sample is nothing to its density."""
    schedule, x = SCHEDULES[name], jnp.asarray(np.random.default_rng(0).normal(size=(5, 2)))
    options = dict(prior=log_prior, rtol=1e-7, atol=1e-7, last_noise=0.1)
    found = solvers.log_likelihood(schedule, as_columns, x[..., None], time, 0.9, **options)
    level = schedule.at(time) if time else schedules.EDM(80.0).at(0.1)
    np.testing.assert_allclose(found.value, THREE.log_prob(x, level), rtol=0, atol=1e-5)


def test_a_mean_term_moves_the_law_to_its_endpoint():
    """x - beta y has the law without it; where alpha = 0 the prior N(beta y, sigma^2) is exact.
    Fixed steps of order 5: 30 of them leave 1e-5."""
    schedule = schedules.MeanReverting(SCHEDULES["rectified_linear"])
    x, y = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 2, 1)))
    level = schedule.at(0.4)
    centred = lambda x, level: as_columns(x - level.beta * y, level)  # noqa: E731
    grid = np.linspace(0.4, 1.0, 31)
    found = solvers.log_likelihood(schedule, centred, x + level.beta * y, y=y, grid=grid)
    np.testing.assert_array_equal(found.evaluations, 1 + 6 * 30)
    np.testing.assert_allclose(found.value, THREE.log_prob(x[..., 0], level), rtol=0, atol=1e-5)


def test_the_prior_is_the_normal_law_around_the_mean_term():
    level = schedules.MeanReverting().at(0.8)
    x, y = np.random.default_rng(0).normal(size=(2, 3, 2, 2))
    expected = norm.logpdf(x, level.beta * y, level.sigma).sum((1, 2))
    found = likelihood._normal(jnp.asarray(x), level, jnp.asarray(y))
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    found = likelihood._normal(jnp.asarray(x - level.beta * y), level, None)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_all_probes_of_signs_together_give_the_exact_divergence():
    """The mean of z^T J z over all z of +-1 is the trace, whatever is off the diagonal of J."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=(5, 2)))
    flow = SCHEDULES["rectified_linear"], fields.oracle(THREE), None
    signs = jnp.array([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])[:, None] * jnp.ones_like(x)
    rates = [jax.jit(likelihood._rate)((flow, probes), (x, None), 0.6) for probes in (None, signs)]
    for exact, mean in zip(*rates):
        np.testing.assert_allclose(mean, exact, rtol=1e-12)


@pytest.mark.slow
def test_the_default_prior_is_the_normal_law_of_pure_noise():
    """On VP alpha = 0.0066 is left at the end: that is the error."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=(5, 2)))
    schedule, field = SCHEDULES["vp_linear"], fields.oracle(THREE)
    found = solvers.log_likelihood(schedule, field, x, 0.4, rtol=1e-6, atol=1e-6)
    level, sigma = schedule.at(0.4), schedule.at(1.0).sigma
    by_hand = -0.5 * jnp.sum((found.latent / sigma) ** 2, 1) - jnp.log(2 * jnp.pi * sigma**2)
    exact_prior = THREE.log_prob(found.latent, schedule.at(1.0))
    off = by_hand - exact_prior
    assert 1e-4 < np.abs(off).max() < 0.03
    expected = THREE.log_prob(x, level) + off
    np.testing.assert_allclose(found.value, expected, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_the_latent_is_the_end_of_the_flow(gaussian):
    schedule = SCHEDULES["vp_linear"]
    s, t = schedule.at(0.2), schedule.at(0.9)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(5, 2)))
    found = solvers.log_likelihood(schedule, gaussian, x, 0.2, 0.9, rtol=1e-7, atol=1e-7)
    assert found.reached.all()
    np.testing.assert_allclose(found.latent, gaussian.flow(x, s, t), rtol=0, atol=1e-6)


@pytest.mark.slow
def test_fixed_steps_have_the_order_of_the_method(slope):
    """Bogacki & Shampine's method of order 3, 12 and 36 steps uniform in time."""
    schedule, field, errors = SCHEDULES["rectified_linear"], fields.oracle(THREE), []
    x = jnp.asarray(np.random.default_rng(0).normal(size=(5, 2)))
    exact = THREE.log_prob(x, schedule.at(0.2))
    steps = [12, 36]
    for n in steps:
        grid = np.linspace(0.2, 1.0, n + 1)
        found = solvers.log_likelihood(schedule, field, x, grid=grid, method="bosh3")
        np.testing.assert_array_equal(found.evaluations, 1 + 3 * n)
        errors.append(np.abs(found.value - exact).mean())
    assert abs(slope(steps, errors) - 3) < 0.3
    assert errors[-1] < 1e-3


def test_a_fixed_grid_may_begin_and_end_anywhere():
    """Two libraries' arc tangents differ by a last digit at some of these times."""
    schedule, x = SCHEDULES["vp_linear"], jnp.array([[0.8, -0.3]])
    found = [
        solvers.log_likelihood(
            schedule, fields.oracle(THREE), x, grid=np.linspace(start, 0.9, 6)
        ).value[0]
        for start in np.linspace(0.05, 0.2, 16)
    ]
    # Densities at neighbouring times lie on a smooth curve: third differences are of h^3 = 1e-6
    # times a third derivative of some thousands.
    assert np.abs(np.diff(found, 3)).max() < 1e-2


@functools.cache
def estimates(num_probes, probe, n=4000):
    """Estimates at one point on a fixed grid, each with probes of its own."""
    many = jnp.broadcast_to(jnp.array([[0.8, -0.3]]), (n, 2))
    key = jax.random.key(1)
    return np.asarray(at_point(many, key=key, num_probes=num_probes, probe=probe).value)


def at_point(x, **options):
    schedule, grid = SCHEDULES["rectified_linear"], np.linspace(0.2, 1.0, 7)
    field = fields.oracle(THREE)
    return solvers.log_likelihood(schedule, field, x, grid=grid, method="bosh3", **options)


@pytest.mark.slow
@pytest.mark.parametrize("probe", ["rademacher", "normal"])
def test_the_estimate_of_the_trace_is_unbiased(probe):
    """Path and steps are those of the exact trace: the mean of 4,000 within 4.5 standard errors."""
    value, exact = estimates(1, probe), float(at_point(jnp.array([[0.8, -0.3]])).value[0])
    assert value.std() > 0.05
    assert abs(value.mean() - exact) < 4.5 * value.std() / np.sqrt(len(value))


@pytest.mark.slow
def test_its_variance_falls_as_one_over_the_number_of_probes():
    """Normal probes, 4,000 estimates: a variance is known to sqrt((kurtosis - 1) / n), 5 % here."""
    one, eight = (estimates(k, "normal").var() for k in (1, 8))
    assert eight * 8 == pytest.approx(one, rel=0.2)


@pytest.mark.slow
def test_a_sample_has_the_same_probes_in_every_batch():
    schedule, field = SCHEDULES["vp_linear"], fields.oracle(THREE)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(5, 2)))
    run = lambda x: solvers.log_likelihood(schedule, field, x, 0.2, key=jax.random.key(3))  # noqa: E731
    together, alone = run(x), run(x[:2])
    np.testing.assert_allclose(together.value[:2], alone.value, rtol=1e-12)
    np.testing.assert_array_equal(together.evaluations[:2], alone.evaluations)


@pytest.mark.slow
def test_pictures_are_one_sample_each(gaussian):
    """Shape (n, 2, 2), all coordinates N(0.3, 0.5): d = 4."""
    schedule = SCHEDULES["rectified_linear"]
    field = type(gaussian)(0.3, 0.5)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 2, 2)))
    found = solvers.log_likelihood(schedule, field, x, 0.3, rtol=1e-7, atol=1e-7)
    level = schedule.at(0.3)
    variance = field.marginal_variance(level)
    squares = jnp.sum((x - level.alpha * 0.3) ** 2, (1, 2)) / variance
    expected = -0.5 * squares - 2 * np.log(2 * np.pi * variance)
    np.testing.assert_allclose(found.value, expected, rtol=0, atol=1e-5)


def test_mistakes_are_refused():
    run = lambda *args, **options: solvers.log_likelihood(  # noqa: E731
        SCHEDULES["vp_linear"], None, jnp.ones((1, 1)), *args, **options
    )
    with pytest.raises(PersonError, match="must be less noisy than the end"):
        run(0.5, 0.2)
    with pytest.raises(PersonError, match="must rise from the data to the noise"):
        run(grid=[1.0, 0.5])
    with pytest.raises(PersonError, match="unknown probe 'gauss'"):
        run(probe="gauss")
    with pytest.raises(PersonError, match="at least 1 probe"):
        run(num_probes=0)
    with pytest.raises(PersonError, match="two times of the grid are one noise level"):
        run(grid=[0.0, 1e-10, 0.5, 1.0])
    with pytest.raises(PersonError, match="x must be a floating array"):
        solvers.log_likelihood(SCHEDULES["vp_linear"], None, np.zeros((3, 2), int))
    with pytest.raises(PersonError, match="give y to the flow"):
        solvers.log_likelihood(schedules.MeanReverting(), None, jnp.ones((1, 1)))


def test_a_bridge_needs_its_endpoints_though_they_are_gone_at_its_end():
    class Bridge(schedules.RectifiedLinear):
        def beta(self, t):
            return t * (1 - t)

    with pytest.raises(PersonError, match="give y to the flow"):
        solvers.log_likelihood(Bridge(), None, jnp.ones((1, 1)))
