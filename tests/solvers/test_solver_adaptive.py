"""Adaptive steps: the closed-form flow of a Gaussian, and steps of each sample's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dfx import fields, schedules, solvers
from dfx.errors import PersonError
from dfx.solvers import adaptive

pytestmark = pytest.mark.usefixtures("x64")

SCHEDULES = {
    "vp_linear": schedules.VPLinear(),
    "edm": schedules.EDM(80.0),
    "rectified_linear": schedules.RectifiedLinear(),
}


def spread(field, level, n=6):
    """Points at one standard deviation or so around the mean of x_t."""
    z = np.random.default_rng(0).normal(size=(n, 2))
    return jnp.asarray(level.alpha * field.mean + np.sqrt(field.marginal_variance(level)) * z)


@pytest.mark.parametrize(("name", "end"), [*((name, 0.0) for name in SCHEDULES), ("edm", 0.3)])
def test_the_end_is_that_of_the_exact_flow_to_the_tolerance(name, end, gaussian):
    """From the end of the schedule (on the straight path alpha = 0) to clean data or t = 0.3.
    x0_hat at sigma / alpha = 0.01 keeps sqrt(v / (v + 1e-4)) of the distance of the end from the
    mean. Six evaluations a step, one more at the start and for x0_hat."""
    schedule, tolerance = SCHEDULES[name], 1e-7
    s, t = schedule.at(schedule.end_time), schedule.at(end)
    x = spread(gaussian, s)
    path = solvers.sample_adaptive(
        schedule, gaussian, x, end=end, rtol=tolerance, atol=tolerance, last_noise=0.01
    )
    assert path.reached.all()
    kept = 1.0 if end else np.sqrt(gaussian.variance / (gaussian.variance + 1e-4))
    mean = t.alpha * gaussian.mean
    exact = mean + kept * (gaussian.flow(x, s, t) - mean)
    # some 20 steps, each with at most the tolerance, in units of u
    assert np.abs(path.state - exact).max() < 20 * tolerance * np.hypot(t.alpha, t.sigma)
    steps = path.accepted + path.rejected
    np.testing.assert_array_equal(path.evaluations, 1 + 6 * steps + (end == 0))


def test_the_rate_is_v_prediction_of_the_centred_point_at_an_angle(gaussian):
    """u = (x - beta y) / r at tan(theta) = sigma / alpha, du / dtheta = cos eps_hat - sin x0_hat;
    clean data are x / alpha of the points at the angle."""
    schedule = schedules.MeanReverting(SCHEDULES["rectified_linear"])  # r is not 1
    theta = jnp.asarray(0.7)
    x, y = jnp.asarray(np.random.default_rng(5).normal(size=(2, 6, 2)))
    shared = schedule, lambda x, level: gaussian(x - level.beta * y, level), y
    u, radius = adaptive.to_angle(shared, x, theta, False)
    back, level = adaptive.from_angle(shared, u, theta)
    assert level.sigma / level.alpha == pytest.approx(np.tan(theta), rel=1e-12)
    assert radius == pytest.approx(np.hypot(level.alpha, level.sigma), rel=1e-12)
    assert abs(level.beta - (1 - level.alpha)) < 1e-9 < level.beta
    centred = x - level.beta * y
    np.testing.assert_allclose(radius * u, centred, rtol=1e-12)
    np.testing.assert_allclose(back, x, rtol=1e-12)
    x0 = gaussian(centred, level)
    eps = (centred - level.alpha * x0) / level.sigma
    rate = adaptive.velocity(shared, u, theta)
    np.testing.assert_allclose(rate, np.cos(theta) * eps - np.sin(theta) * x0, rtol=1e-9)
    u, radius = adaptive.to_angle(shared, x, theta, True)
    np.testing.assert_allclose(u, np.cos(theta) * x, rtol=1e-12)
    assert radius == pytest.approx(1 / np.cos(theta), rel=1e-12)


@pytest.mark.slow
def test_a_method_of_higher_order_takes_fewer_steps(gaussian):
    schedule = SCHEDULES["edm"]
    s, t = schedule.at(80.0), schedule.at(0.3)
    x, options = spread(gaussian, s), {"rtol": 1e-9, "atol": 1e-9}
    five = solvers.sample_adaptive(schedule, gaussian, x, end=0.3, **options)
    eight = solvers.sample_adaptive(schedule, gaussian, x, end=0.3, method="dopri8", **options)
    np.testing.assert_allclose(eight.state, gaussian.flow(x, s, t), rtol=0, atol=1e-7)
    assert np.all(eight.accepted < five.accepted)


@pytest.mark.slow
def test_the_path_does_not_depend_on_the_schedule(gaussian):
    """From one sigma / alpha to another, in units of sqrt(alpha^2 + sigma^2), steps included."""
    u = np.random.default_rng(1).normal(size=(6, 2))
    found = []
    for schedule in SCHEDULES.values():
        start, end = (schedules.t_of_log_snr(schedule, -2 * np.log(s)) for s in (5.0, 0.1))
        s, t = schedule.at(start), schedule.at(end)
        x = jnp.asarray(np.hypot(s.alpha, s.sigma) * u)
        path = solvers.sample_adaptive(schedule, gaussian, x, start, end)
        found.append((path.state / np.hypot(t.alpha, t.sigma), path.evaluations))
    for state, evaluations in found[1:]:
        # the times of a noise level are found to 1e-10 or so
        np.testing.assert_allclose(state, found[0][0], rtol=0, atol=1e-8)
        np.testing.assert_array_equal(evaluations, found[0][1])


def counted(field, calls):
    def counting(x, level):
        jax.debug.callback(lambda: calls.append(len(x)))
        return field(x, level)

    return counting


@pytest.mark.slow
def test_evaluations_are_what_the_field_was_called(modes):
    """One sample alone, six stages a step: as many calls as reported, one more at each end."""
    calls = []
    x = jnp.array([[0.4, -1.1]])
    path = solvers.sample_adaptive(SCHEDULES["edm"], counted(modes, calls), 80 * x)
    jax.block_until_ready(path)
    jax.effects_barrier()
    assert len(calls) == path.evaluations[0]
    assert path.evaluations[0] == 2 + 6 * (path.accepted[0] + path.rejected[0])


@pytest.mark.slow
def test_each_sample_takes_the_steps_it_takes_alone(modes):
    x = jnp.asarray(80.0 * np.random.default_rng(2).normal(size=(9, 2)))
    together = solvers.sample_adaptive(SCHEDULES["edm"], modes, x)
    alone = solvers.sample_adaptive(SCHEDULES["edm"], modes, x[4:6])
    assert len(set(together.evaluations.tolist())) > 1
    np.testing.assert_array_equal(alone.evaluations, together.evaluations[4:6])
    np.testing.assert_allclose(alone.state, together.state[4:6], rtol=1e-12)


@pytest.mark.slow
def test_a_field_may_hold_something_for_each_sample(gaussian):
    """A condition of shape (n,) reaches the samples it belongs to."""

    class Net:
        @staticmethod
        def apply(params, x, t, cond=None):
            return jnp.broadcast_to(cond[:, None], x.shape)

    cond = jnp.array([3.0, -1.0, 0.5])
    field = fields.from_net(Net, {}, "x0", cond=cond)
    path = solvers.sample_adaptive(SCHEDULES["edm"], field, jnp.ones((3, 2)))
    np.testing.assert_allclose(path.state, np.stack([cond, cond], 1), rtol=1e-12)


@pytest.mark.slow
def test_data_to_noise_and_back_is_a_round_trip(gaussian):
    x = jnp.asarray(np.random.default_rng(3).normal(size=(6, 2)))
    schedule = SCHEDULES["rectified_linear"]
    options = {"rtol": 1e-8, "atol": 1e-8, "last_noise": 1e-5}
    noise = solvers.sample_adaptive(schedule, gaussian, x, 0.0, 1.0, **options).state
    expected = (x - gaussian.mean) / np.sqrt(gaussian.variance)  # where alpha = 0
    np.testing.assert_allclose(noise, expected, rtol=0, atol=1e-6)
    back = solvers.sample_adaptive(schedule, gaussian, noise, 1.0, 0.0, **options).state
    np.testing.assert_allclose(back, x, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_the_end_is_differentiable_forwards_in_the_start(gaussian):
    """The derivative of the flow of a Gaussian is its growth."""
    schedule = SCHEDULES["edm"]
    s, t = schedule.at(80.0), schedule.at(0.3)
    x = spread(gaussian, s)
    end = lambda x: solvers.sample_adaptive(schedule, gaussian, x, end=0.3, rtol=1e-7).state  # noqa: E731
    growth = np.sqrt(gaussian.marginal_variance(t) / gaussian.marginal_variance(s))
    _, slope = jax.jvp(end, (x,), (jnp.ones_like(x),))
    np.testing.assert_allclose(slope, np.broadcast_to(growth, (6, 2)), rtol=1e-4)


@pytest.mark.slow
def test_a_mean_term_is_the_substitution_x_minus_beta_y(gaussian):
    schedule = schedules.MeanReverting()
    y = jnp.asarray(np.random.default_rng(4).normal(size=(6, 2)))
    around = lambda x, level: gaussian(x - level.beta * y, level)  # noqa: E731
    s, t = schedule.at(1.0), schedule.at(0.0)
    centred = spread(gaussian, s)
    path = solvers.sample_adaptive(
        schedule, around, centred + s.beta * y, y=y, rtol=1e-7, atol=1e-7, last_noise=1e-6
    )
    np.testing.assert_allclose(path.state, gaussian.flow(centred, s, t), rtol=0, atol=2e-6)


@pytest.mark.slow
def test_float32_stays_float32_and_follows_the_flow(gaussian):
    schedule = SCHEDULES["rectified_linear"]
    s, t = schedule.at(1.0), schedule.at(0.0)
    x = spread(gaussian, s).astype(jnp.float32)
    # not the fixture itself: its float64 numbers would promote the denoiser
    field = lambda x, level: gaussian(x, level).astype(jnp.float32)  # noqa: E731
    path = solvers.sample_adaptive(schedule, field, x)
    assert path.state.dtype == jnp.float32
    np.testing.assert_allclose(path.state, gaussian.flow(x, s, t), rtol=0, atol=2e-4)


@pytest.mark.slow
def test_a_sample_that_runs_out_of_steps_is_not_a_number(gaussian):
    x = jnp.ones((6, 2))
    path = solvers.sample_adaptive(SCHEDULES["edm"], gaussian, x, max_steps=3)
    assert not path.reached.any() and np.isnan(path.state).all()


def test_mistakes_are_refused():
    run = lambda *args, **options: solvers.sample_adaptive(  # noqa: E731
        SCHEDULES["edm"], None, jnp.ones((1, 1)), *args, **options
    )
    with pytest.raises(PersonError, match=r"must lie in \[0, 80\]"):
        run(81.0)
    with pytest.raises(PersonError, match="one noise level"):
        run(2.0, 2.0)
    with pytest.raises(PersonError, match="unknown method 'rk45'"):
        run(method="rk45")
    with pytest.raises(PersonError, match="must be positive"):
        run(rtol=0.0)
    with pytest.raises(PersonError, match="last_noise"):
        run(last_noise=0.0)
    for x in (np.zeros((3, 2), int), [[1, 2]], np.float32(1.0)):
        with pytest.raises(PersonError, match="x must be a floating array"):
            solvers.sample_adaptive(SCHEDULES["edm"], None, x)
    with pytest.raises(PersonError, match="give y to the flow"):
        solvers.sample_adaptive(schedules.MeanReverting(), None, jnp.ones((1, 1)))


def test_a_net_that_says_nothing_of_x0_at_an_end_is_refused():
    net = fields.from_function(lambda x, t: 0.3 * x, "eps")
    for run in (
        lambda: solvers.sample_adaptive(schedules.VPCosine(), net, jnp.ones((1, 2))),
        lambda: solvers.log_likelihood(schedules.VPCosine(), net, jnp.ones((1, 2))),
    ):
        with pytest.raises(PersonError, match="eps does not determine x0 at t = 1"):
            run()
    # The clean end, where the same net says everything, is looked at from `last_noise`.
    assert solvers.sample_adaptive(schedules.VPCosine(), net, jnp.ones((1, 2)), 0.9).reached.all()
