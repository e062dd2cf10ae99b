"""The laws of ODE and SDE of one field: closed forms, reference values, identities."""

import jax.numpy as jnp
import numpy as np
import pytest
from evolution_by_hand import MIXTURE, OU, log_prob, normal, potential, residual, wrong_field

from dfx import evolution, schedules
from dfx.errors import PersonError

pytestmark = pytest.mark.usefixtures("x64")

NODES = evolution.normal_nodes(4001)


@pytest.mark.parametrize(
    ("error", "sde", "ode", "gap"),
    [(0.1, 0.0703, 0.00956, 0.167), (-0.1, 0.1055, 0.745, 0.539), (0.3, 0.0528, 0.00012, None)],
)
def test_a_wrong_linear_score_makes_the_reference_variances(error, sde, ode, gap):
    """OU up to T = 10 from N(0, 1/2), data variance 0.0845. The references hold to 1e-3."""
    given = dict(schedule=OU(10.0), variance=0.0845, error=error, start_variance=0.5)
    got = [evolution.linear_law(noise_level=lam, **given).variance for lam in (1.0, 0.0)]
    np.testing.assert_allclose(got, [sde, ode], atol=1e-3)
    if gap is not None:
        assert abs(np.diff(np.sqrt(got))[0]) == pytest.approx(gap, abs=1e-3)


def test_the_variance_of_the_ode_is_its_closed_form():
    """V_T (S_0 / S_T)^(1+e) e^(-2 e T) for OU, by hand."""
    s_end = np.exp(-4) * 0.3 + 0.5 * (1 - np.exp(-4))
    expected = 0.7 * (0.3 / s_end) ** 1.2 * np.exp(-0.2 * 2 * 2)
    got = evolution.linear_law(OU(2.0), 0.3, 0.2, 0.0, start_variance=0.7).variance
    assert got == pytest.approx(expected, rel=1e-13)


SCHEDULES = [
    OU(2.0),
    schedules.VPLinear(0.1, 8.0),
    schedules.SubVP(0.1, 8.0),
    schedules.VE(0.01, 2.0),
    schedules.EDM(2.0),
    schedules.RectifiedLinear(),
]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("lam", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("error", [0.25, -0.5])
def test_mean_and_variance_of_linear_scores_obey_their_equations(schedule, lam, error):
    """dV/dt = 2 c V - lam^2 g^2 and a' = c a, c = f + (1 + lam^2)/2 (1 + e) g^2 / Sigma.

    e = -1/2 and lam = 1 is the case k = 1. Central differences in the end time: 1e-6.
    """
    t, step = 0.4 * schedule.end_time, 1e-4
    given = dict(schedule=schedule, variance=0.3, error=error, noise_level=lam, start=2 * t)
    law, low, high = (evolution.linear_law(end=t + h, **given) for h in (0.0, -step, step))
    level = schedule.at(t)
    f, g2 = schedules.drift_coefficient(schedule, t), schedules.diffusion(schedule, t)
    total = 0.3 * level.alpha**2 + level.sigma**2
    c = f + 0.5 * (1 + lam**2) * (1 + error) * g2 / total
    slope = (high.variance - low.variance) / (2 * step)
    assert slope == pytest.approx(2 * c * law.variance - lam**2 * g2, rel=2e-5)
    assert (high.gain - low.gain) / (2 * step) == pytest.approx(c * law.gain, rel=2e-5)


def test_an_exact_linear_score_keeps_the_law_whatever_the_noise():
    schedule = schedules.VPCosine()
    level = schedule.at(0.7)
    start = 0.3 * level.alpha**2 + level.sigma**2
    lam = np.array([0.0, 0.5, 1.0, 2.0])
    law = evolution.linear_law(schedule, 0.3, 0.0, lam, 0.7, 0.0, start)
    np.testing.assert_allclose(law.variance, 0.3, rtol=1e-12)


def test_grid_laws_of_a_linear_score_have_the_closed_variances():
    """Order 2, spacing 0.03 against a deviation of 0.4: (h / s)^2 of the variance."""
    schedule, grid = OU(2.0), evolution.make_grid(-3, 3, 200)
    field = evolution.linear_field(0.3, 0.2, 0.25)
    times = np.linspace(2.0, 0.05, 201)
    given = dict(schedule=schedule, variance=0.3, error=0.2, end=0.05)
    ode = evolution.ode_law(schedule, field, grid, times)
    sde = evolution.sde_law(schedule, field, grid, times, 0.8)
    assert float(evolution.mass(grid, ode)) == pytest.approx(1, abs=1e-6)
    for law, lam in ((ode, 0.0), (sde, 0.8)):
        mean, covariance = evolution.moments(grid, law)
        expected = evolution.linear_law(noise_level=lam, **given)
        assert float(covariance[0, 0]) == pytest.approx(expected.variance, rel=4e-3)
        shift = (0 - 0.25 * np.exp(-2)) * expected.gain
        assert float(mean[0]) == pytest.approx(0.25 * np.exp(-0.05) + shift, abs=1e-3)


def gaps(error, cells, steps, end=1e-5):
    """W2(ODE, SDE), W2(SDE, true), W2(ODE, true) at data time, both laws started from p_T."""
    schedule, grid = OU(2.0), evolution.make_grid(-6, 6, cells)
    top, field = schedule.at(2.0), wrong_field(error)
    true = evolution.mixture_quantiles(MIXTURE, schedule.at(0.0), NODES)
    start = jnp.asarray(evolution.mixture_quantiles(MIXTURE, top, NODES))[:, None]
    flow = evolution.reverse(schedule, field, 0.0)
    ode = evolution.move(flow, start, np.linspace(2.0, end, steps + 1), "midpoint")
    law = evolution.sde_law(
        schedule, field, grid, np.linspace(2.0, 0.0, steps + 1),
        start=lambda x: log_prob(MIXTURE, x, top),
    )  # fmt: skip
    sde = evolution.grid_quantiles(grid, law, NODES)
    pairs = ((ode, sde), (sde, true), (ode, true))
    return [evolution.wasserstein(a, b, NODES) for a, b in pairs]


def spatial_residual(error):
    """The root of the mean over t in [0, 2] of Var R under p_t, by quadrature."""
    found = []
    for t in np.linspace(0.05, 1.95, 20):
        level = OU(2.0).at(t)
        x = np.linspace(-5, 5, 401)[:, None]
        p, values = np.exp(log_prob(MIXTURE, x, level)), np.asarray(residual(x, level, error))
        p = p / p.sum()
        found.append(p @ (values - p @ values) ** 2)
    return np.sqrt(np.mean(found))


REFERENCES = {
    0.025: (0.0666, 0.0712, 0.1206),
    0.1: (0.196, 0.212, 0.346),
    0.4: (0.358, 0.568, 0.789),
}


def test_an_inconsistent_score_splits_the_laws_as_the_reference_says():
    """600 cells and 400 steps: order 2 leaves 16 times 1e-5 of the run with four times as many."""
    np.testing.assert_allclose(gaps(0.1, 600, 400), REFERENCES[0.1], atol=1e-3)


def test_the_residual_of_an_inconsistent_score_has_the_reference_size():
    assert spatial_residual(0.025) == pytest.approx(0.0417, abs=1e-3)
    assert spatial_residual(0.1) == pytest.approx(0.167, abs=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("error", REFERENCES)
def test_the_reference_gaps_come_out_at_full_resolution(error):
    np.testing.assert_allclose(gaps(error, 2400, 2000), REFERENCES[error], atol=1e-3)


@pytest.mark.slow
def test_without_an_error_the_laws_are_one():
    assert max(gaps(0.0, 2400, 2000)) < 2e-5


def test_the_weight_of_the_sde_law_changes_by_the_residual_alone():
    """u = p_SDE / e^phi solves -u' = f . grad u + g^2/2 Lap u + R u (Feynman-Kac), so for every law
    rho of the forward process int rho u changes by -int rho u R. Here rho = p_t: rho u = p_SDE
    e^(-e eta). Trapezoidal rule and grid of order 2.
    """
    error, schedule, grid = 0.4, OU(2.0), evolution.make_grid(-6, 6, 600)
    times = np.linspace(2.0, 0.1, 401)
    keep = tuple(range(0, 401, 10))
    top = schedule.at(2.0)
    start = evolution.on_grid(lambda x: log_prob(MIXTURE, x, top), grid)
    motion = evolution.reverse(schedule, wrong_field(error))
    laws = evolution.evolve(motion, grid, start, times, keep=keep)
    x = grid.centres()
    density, source = [], []
    for t, p in zip(times[list(keep)], laws):
        level = schedule.at(t)
        weight = p * jnp.exp(log_prob(MIXTURE, x, level) - potential(x, level, error)) * grid.volume
        density.append(float(weight.sum()))
        source.append(float(weight @ residual(x, level, error)))
    change = np.trapezoid(source, -times[list(keep)])
    assert density[-1] - density[0] == pytest.approx(change, rel=2e-3)
    assert abs(change) > 0.05


def test_the_bound_of_the_gap_is_attained_by_linear_scores():
    """OU, S_0 = 0.3, e = 0.2, T = 1, V_T = S_T / (1 + e), where e^phi is the start: 0.072999."""
    schedule, error, t = OU(1.0), 0.2, np.linspace(0, 1, 401) ** 1.2
    level = schedule.at(t)
    total = 0.3 * level.alpha**2 + level.sigma**2
    start = total[-1] / (1 + error)

    def variances(lam):
        given = dict(start=1.0, start_variance=start, noise_level=lam)
        inner = [evolution.linear_law(schedule, 0.3, error, end=s, **given) for s in t[:-1]]
        return np.array([*(law.variance for law in inner), start])

    sde, ode = variances(1.0), variances(0.0)
    gap = abs(np.sqrt(sde[0]) - np.sqrt(ode[0]))
    fisher = sde * ((1 + error) / total - 1 / sde) ** 2
    lipschitz = -(-1 + 0.5 * (1 + error) / total)
    bound = float(evolution.gap_bound(t, jnp.asarray(lipschitz), 0.5, jnp.asarray(fisher)))
    assert gap == pytest.approx(0.072999, abs=1e-6)
    assert bound == pytest.approx(gap, rel=2e-5)  # order 2, 400 steps


def test_the_normal_prior_is_the_density_it_names():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(5, 2)))
    prior = evolution.normal_prior(OU(2.0), [1.5, 0.1])
    variance = 0.5 * (1 - np.exp(-3.0))
    np.testing.assert_allclose(prior(x), normal([0, 0], variance * np.eye(2))(x), rtol=1e-12)


def test_bad_input_is_one_clear_line():
    with pytest.raises(PersonError, match="no signal"):
        evolution.linear_law(schedules.RectifiedLinear(), 1.0)
    with pytest.raises(PersonError, match="noisier"):
        evolution.linear_law(OU(2.0), 1.0, start=0.5, end=1.0)
