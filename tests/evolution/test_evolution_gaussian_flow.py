"""The flow of a Gaussian in closed form against its equation, its oracle and numerical paths."""

import jax
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from dfx import evolution, fields, schedules, solvers
from dfx.errors import PersonError
from dfx.evolution import emergence_time, gaussian_flow, growth, mode_gain, mode_outline
from dfx.schedules import CLEAN
from dfx.targets import Mixture

pytestmark = pytest.mark.usefixtures("x64")

RNG = np.random.default_rng(0)
MEAN = np.array([0.7, -1.2, 0.4])
TURN = np.linalg.qr(RNG.normal(size=(3, 3)))[0]
EIGENVALUES = np.array([4.0, 0.25, 0.0])
SINGULAR = TURN * EIGENVALUES @ TURN.T
FACTOR = RNG.normal(size=(3, 1))
POINTS = RNG.normal(size=(5, 3))

SCHEDULES = {name: schedules.make(name) for name in schedules.REGISTRY}
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)

#: The same law in every storage that can hold it, in pairs.
STORAGES = {
    "isotropic": Mixture.gaussian(MEAN, 0.3),
    "isotropic as diagonal": Mixture.gaussian(MEAN, np.full(3, 0.3)),
    "diagonal": Mixture.gaussian(MEAN, EIGENVALUES + 0.1),
    "diagonal as full": Mixture.gaussian(MEAN, np.diag(EIGENVALUES + 0.1)),
    "low rank": Mixture.low_rank(MEAN[None], FACTOR[None], 0.3),
    "low rank as full": Mixture.gaussian(MEAN, FACTOR @ FACTOR.T + 0.3 * np.eye(3)),
}
PAIRS = list(zip(list(STORAGES)[::2], list(STORAGES)[1::2]))


def start_of(schedule, share=0.95):
    """A level, and points of the size of x_t there."""
    level = schedule.at(share * schedule.end_time)
    return level, level.alpha * MEAN + np.hypot(level.alpha, level.sigma) * POINTS


def integrated(schedule, x, start, end):
    """dx/dt = f x - g^2 / 2 score by DOP853; the score by a linear solve, not by eigenvectors."""
    at = jax.jit(lambda t: schedule.at(t))  # it is asked some hundred times

    def slope(t, flat):
        level, x = schedules.Level(*map(float, at(t))), flat.reshape(-1, 3)
        noisy = level.alpha**2 * SINGULAR + level.sigma**2 * np.eye(3)
        score = -np.linalg.solve(noisy, (x - level.alpha * MEAN).T).T
        drift = level.alpha_dot / level.alpha
        g2 = 2 * level.sigma * level.sigma_dot - 2 * drift * level.sigma**2
        return (drift * x - 0.5 * g2 * score).ravel()

    found = solve_ivp(slope, (start.t, end.t), x.ravel(), "DOP853", rtol=1e-10, atol=1e-12)
    return found.y[:, -1].reshape(x.shape)


@every_schedule
def test_the_closed_form_solves_the_probability_flow_equation(schedule):
    """1e-8: the tolerance of the integration, times what the steps add up to."""
    flow = gaussian_flow(Mixture.gaussian(MEAN, SINGULAR))
    start, x = start_of(schedule)
    # The slope of an interpolated table jumps at a thousand times: only some are crossed.
    table = schedule in (SCHEDULES["ddpm"], SCHEDULES["zero_snr"])
    end = schedule.at((0.948 if table else 0.03) * schedule.end_time)
    found = flow.move(x, start, end)
    np.testing.assert_allclose(found, integrated(schedule, x, start, end), rtol=1e-8, atol=1e-8)


@pytest.mark.slow
@every_schedule
def test_an_adaptive_path_to_singular_data_ends_at_the_closed_form(schedule):
    """1e-6: the cut-off leaves (1e-5)^2 / (2 0.25) of a distance, the steps 1e-10 each."""
    law = Mixture.gaussian(MEAN, EIGENVALUES)
    start, x = start_of(schedule)
    path = solvers.sample_adaptive(
        schedule, fields.oracle(law), x, start.t, rtol=1e-10, atol=1e-10, last_noise=1e-5
    )
    exact = gaussian_flow(law).move(x, start, CLEAN)
    np.testing.assert_allclose(path.state, exact, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("pair", PAIRS, ids=[one for one, _ in PAIRS])
@pytest.mark.parametrize("name", ["move", "outline", "velocity"])
def test_the_storage_of_a_covariance_does_not_matter(pair, name):
    one, other = (gaussian_flow(STORAGES[kind]) for kind in pair)
    start, x = start_of(SCHEDULES["vp_linear"])
    end = SCHEDULES["vp_linear"].at(0.2)
    found, expected = (getattr(flow, name)(x, start, end) for flow in (one, other))
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", ["diagonal", "low rank"])
def test_outline_and_velocity_are_those_of_the_oracle_at_the_moved_point(kind):
    law, flow = STORAGES[kind], gaussian_flow(STORAGES[kind])
    oracle = jax.jit(lambda law, x, level: (law.denoise(x, level), law.velocity(x, level)))
    for schedule in (SCHEDULES["sub_vp"], SCHEDULES["edm"]):
        start, x = start_of(schedule)
        end = schedule.at(0.2 * schedule.end_time)
        denoised, velocity = oracle(law, flow.move(x, start, end), end)
        np.testing.assert_allclose(flow.outline(x, start, end), denoised, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(flow.velocity(x, start, end), velocity, rtol=1e-10, atol=1e-10)


@every_schedule
def test_flows_compose_and_go_back(schedule):
    flow = gaussian_flow(Mixture.gaussian(MEAN, SINGULAR))
    start, x = start_of(schedule)
    middle, end = (schedule.at(share * schedule.end_time) for share in (0.5, 0.1))
    there = flow.move(flow.move(x, start, middle), middle, end)
    np.testing.assert_allclose(there, flow.move(x, start, end), rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(flow.move(there, end, start), x, rtol=1e-9, atol=1e-9)


def test_the_flow_carries_the_law():
    """From alpha = 0: mean and covariance of 20,000 ends within 4.5 standard errors."""
    schedule, n = SCHEDULES["rectified_linear"], 20_000
    x = np.random.default_rng(1).normal(size=(n, 3))
    flow = gaussian_flow(Mixture.gaussian(MEAN, SINGULAR))
    ends = np.asarray(flow.move(x, schedule.at(1.0), CLEAN)) @ TURN
    error = np.abs(ends.mean(0) - MEAN @ TURN)
    # The singular direction has 1e-16 of a variance by rounding, 1e-8 of a deviation.
    assert (error < 4.5 * np.sqrt(EIGENVALUES / n) + 1e-7).all()
    spread = np.sqrt((np.outer(EIGENVALUES, EIGENVALUES) + np.diag(EIGENVALUES) ** 2) / n)
    gap = np.abs(np.cov(ends.T) - np.diag(EIGENVALUES))
    assert (gap < 4.5 * spread + 1e-7).all()


def test_times_samples_and_pictures_are_axes_of_the_same_map():
    schedule, flow = SCHEDULES["vp_cosine"], gaussian_flow(STORAGES["low rank"])
    start, x = start_of(schedule)
    times = np.array([0.8, 0.3, 0.0])
    found = np.asarray(flow.move(x.reshape(5, 1, 3, 1), start, schedule.at(times, 3)))
    assert found.shape == (3, 5, 1, 3, 1)
    for t, part in zip(times, found):
        expected = flow.move(x, start, schedule.at(t))
        np.testing.assert_allclose(part.reshape(5, 3), expected, rtol=1e-12)
    each = flow.move(x[:3], start, schedule.at(times, 2))
    own = [flow.move(x[i : i + 1], start, schedule.at(t))[0] for i, t in enumerate(times)]
    np.testing.assert_allclose(each, own, rtol=1e-12)


def test_float32_points_keep_their_type_and_their_digits():
    """Under jit too, where the coefficients are float32: a few roundings of 6e-8."""
    schedule, flow = SCHEDULES["edm"], gaussian_flow(STORAGES["low rank"])
    x = np.float32(80 * POINTS)
    exact = flow.move(np.float64(x), schedule.at(80.0), CLEAN)
    for move in (flow.move, jax.jit(flow.move)):
        found = move(x, schedule.at(80.0), CLEAN)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, exact, rtol=2e-6, atol=2e-6)


@every_schedule
def test_the_gain_is_that_of_the_exact_linear_score(schedule):
    start, end = (schedule.at(share * schedule.end_time) for share in (0.9, 0.2))
    variance = np.array([3.0, 0.1])
    line = evolution.linear_law(schedule, variance, 0.0, 0.0, float(start.t), float(end.t))
    np.testing.assert_allclose(mode_gain(variance, start, end), line.gain, rtol=1e-9)


def test_a_kick_grows_by_the_gain_along_the_numerical_path():
    """Variance exploding: sqrt(lambda / (lambda + sigma^2)); early kicks of the size of the noise
    act at the scale of each mode, late ones at their own."""
    edm, variance = SCHEDULES["edm"], np.array([4.0, 0.25])
    response = {s: mode_gain(variance, edm.at(s), CLEAN) for s in (0.01, 0.3, 50.0)}
    for sigma, found in response.items():
        np.testing.assert_allclose(found, np.sqrt(variance / (variance + sigma**2)), rtol=1e-12)
    np.testing.assert_allclose(50 * response[50.0], np.sqrt(variance), rtol=1e-3)
    np.testing.assert_allclose(0.01 * response[0.01], 0.01, rtol=1e-3)
    # Kicked and plain, half log-SNR in 200 steps of order 4: 1e-8.
    times = np.exp(-np.linspace(-np.log(0.3), 6, 201))
    x, kicked = np.array([1.0, -1.0]), np.array([1.0, -1.0]) + 0.2
    change = path(kicked, times, variance) - path(x, times, variance)
    expected = 0.2 * mode_gain(variance, edm.at(0.3), edm.at(times[-1]))
    np.testing.assert_allclose(change, expected, rtol=1e-7)


def path(x, times, variance):
    """d x / d log sigma = sigma^2 / (lambda + sigma^2) x by the classical method of order 4."""
    slope = lambda u, x: x * np.exp(2 * u) / (variance + np.exp(2 * u))  # noqa: E731
    for u, h in zip(np.log(times), np.diff(np.log(times))):
        k1 = slope(u, x)
        k2 = slope(u + h / 2, x + h / 2 * k1)
        k3 = slope(u + h / 2, x + h / 2 * k2)
        k4 = slope(u + h, x + h * k3)
        x = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return x


@pytest.mark.parametrize("name", ["vp_cosine", "ve"])
@pytest.mark.parametrize("share", [0.1, 0.5])
def test_a_mode_has_its_share_at_its_time_of_emergence(name, share):
    schedule, variance = SCHEDULES[name], np.array([0.02, 0.3, 2.0])
    times = emergence_time(schedule, variance, share)
    level, start = schedule.at(times), schedule.at(0.999 * schedule.end_time)
    np.testing.assert_allclose(growth(variance, level), share, rtol=1e-6)
    outline = [mode_outline(variance, start, to) for to in (level, CLEAN)]
    np.testing.assert_allclose(outline[0] / outline[1], share, rtol=1e-6)


def test_emergence_has_a_slope_of_one_half():
    edm, variance = SCHEDULES["edm"], 10.0 ** np.arange(-3, 3)
    half = emergence_time(edm, variance)
    np.testing.assert_allclose(half, np.sqrt(3 * variance), rtol=1e-9)
    slope = np.polyfit(np.log(variance), np.log(half), 1)[0]
    assert abs(slope - 0.5) < 1e-9
    assert emergence_time(edm, 0.0) == 0 and emergence_time(edm, 1e9) == edm.end_time


def test_mistakes_are_named():
    with pytest.raises(PersonError, match="2 components"):
        gaussian_flow(Mixture.isotropic(np.zeros((2, 3)), 1.0))
    singular = gaussian_flow(Mixture.gaussian(MEAN, EIGENVALUES))
    level = SCHEDULES["edm"].at(1.0)
    with pytest.raises(PersonError, match="start is clean"):
        singular.move(POINTS, CLEAN, level)
    with pytest.raises(PersonError, match="3 dimensions"):
        singular.move(POINTS[:, :2], level, CLEAN)
    with pytest.raises(PersonError, match="share = 1"):
        emergence_time(SCHEDULES["edm"], 1.0, 1)
