"""Intrinsic dimension: closed forms of Gaussians, exact low-rank mixtures, a circle."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dfx import fields, schedules, targets
from dfx.diagnostics import dimension
from dfx.diagnostics.flow_jacobian import flow_jacobian, random_directions
from dfx.errors import PersonError
from dfx.pytree import pytree

VP = schedules.VPLinear()
ALL = (
    VP,
    schedules.VPCosine(),
    schedules.SubVP(),
    schedules.VE(),
    schedules.EDM(),
    schedules.RectifiedLinear(),
    schedules.Trigonometric(),
    schedules.MeanReverting(VP, 0.7),
)
VARIANCES = np.array([1.0, 0.36, 0, 0, 0])
A = np.random.default_rng(0).normal(size=(5, 5))


@pytree
@dataclasses.dataclass(frozen=True)
class Gaussian:
    """The exact field of N(0, diag l), with `turn` @ score added to the score."""

    variances: jax.Array
    turn: jax.Array

    def __call__(self, x, level):
        noisy = level.alpha**2 * self.variances + level.sigma**2
        exact = level.alpha * self.variances / noisy * x
        return exact - level.sigma**2 / level.alpha * (x / noisy) @ self.turn.T


def gaussian(turn=0.0):
    return Gaussian(jnp.asarray(VARIANCES), jnp.asarray(turn * (A - A.T)))


@pytree
@dataclasses.dataclass(frozen=True)
class Planes:
    """Two planes through different points of R^6, one with an axis four times shorter; the law of
    x_t lies around beta y."""

    target: targets.Mixture
    y: float = 0.0

    def __call__(self, x, level):
        return self.target.denoise(x - level.beta * self.y, level)

    def points(self, n):
        """Data of both planes in turn."""
        z = np.random.default_rng(2).normal(size=(n, 2))
        parts = np.arange(n) % 2
        return jnp.asarray(MEANS[parts] + np.einsum("ndr,nr->nd", FACTORS[parts], z))


MEANS = np.array([[1.0] * 6, [-1.0] * 6])
FACTORS = np.random.default_rng(1).normal(size=(2, 6, 2)) * [[[1, 1]], [[1, 0.25]]]


def planes(y=0.0):
    return Planes(targets.Mixture.low_rank(MEANS, FACTORS, 0.0), y)


def time_of(schedule, ratio):
    """The time at which sigma / alpha has this value."""
    return float(schedules.t_of_log_snr(schedule, -2 * np.log(ratio)))


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("turn", [0.0, 0.5, 2.0])
def test_the_flow_of_a_flat_gaussian_has_the_singular_values_of_its_closed_form(turn):
    """sqrt(v_i(t) / v_i(1)), also with an exact gauge error: Y C_1 Y^T = C_t, C_1 nearly I.

    The table is that of linear VP at t = 0.1, 0.01, 1e-3, 1e-4: x / alpha is the same at the same
    sigma / alpha on every schedule, here one whose alpha^2 + sigma^2 is not 1.
    """
    schedule, x, of_table = (
        schedules.SubVP(),
        normal(2, 5),
        VP.at(np.array([0.1, 0.01, 1e-3, 1e-4])),
    )
    times = np.array([time_of(schedule, ratio) for ratio in of_table.sigma / of_table.alpha])
    flow = flow_jacobian(schedule, gaussian(turn), x, times, rtol=1e-8, atol=1e-10)
    assert flow.matrix.shape == (4, 2, 5, 5) and flow.reached.all()
    singular = jnp.linalg.svd(flow.matrix, compute_uv=False)
    table = [[1, 0.653, 0.322], [1, 0.601, 0.0446], [1, 0.6001, 0.0105], [1, 0.6000, 0.00318]]
    scaled = singular[:, 0, :3] * (of_table.alpha / schedule.at(times).alpha)[:, None]
    np.testing.assert_allclose(scaled, table, rtol=2e-3)  # its digits
    for k, t in enumerate(times):
        start, end = (
            VARIANCES * level.alpha**2 + level.sigma**2
            for level in (schedule.at(1.0), schedule.at(t))
        )
        exact = np.sqrt(end / start)
        # C_1 is the identity to alpha(1)^2 = 4e-5; without the gauge error nothing but steps.
        np.testing.assert_allclose(singular[k], [exact] * 2, rtol=5e-5 if turn else 1e-6)
        carried = flow.matrix[k] @ np.diag(start) @ jnp.swapaxes(flow.matrix[k], 1, 2)
        np.testing.assert_allclose(carried, [np.diag(end)] * 2, atol=1e-6)
        # The field is linear, so the path is Y x.
        path = jnp.einsum("nab,nb->na", flow.matrix[k], x)
        np.testing.assert_allclose(flow.points[k], path, atol=1e-6)
    np.testing.assert_array_equal(dimension.count_by_gap(singular[1:]), 2)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_fixed_steps_have_the_order_of_their_method():
    """On a schedule whose r = (alpha^2 + sigma^2)^(1/2) is not 1."""
    schedule = schedules.EDM(5.0)
    start, end = (VARIANCES + schedule.at(t).sigma ** 2 for t in (5.0, 0.5))
    errors = []
    for num_steps in (6, 12):
        flow = flow_jacobian(schedule, gaussian(), normal(1, 5), [0.5], num_steps=num_steps)
        errors.append(np.abs(flow.matrix[0, 0] - np.diag(np.sqrt(end / start))).max())
        assert flow.evaluations[0, 0] == 6 * num_steps + 1
    assert 4.5 < np.log2(errors[0] / errors[1]) < 6, errors  # order 5
    # Of equal ratio in arctan(sigma / alpha): two steps are one to the geometric mean, and one on.
    middle = float(np.tan(np.sqrt(np.arctan(5.0) * np.arctan(0.5))))
    one, two = (
        flow_jacobian(schedule, gaussian(), normal(1, 5), times, num_steps=num_steps).matrix[-1]
        for times, num_steps in (([middle, 0.5], 1), ([0.5], 2))
    )
    np.testing.assert_allclose(one, two, rtol=1e-10, atol=1e-14)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_columns_in_groups_or_along_directions_are_those_of_the_whole():
    x, times = normal(2, 5), [0.1, 0.01]
    options = dict(rtol=1e-8, atol=1e-10)
    whole = flow_jacobian(VP, gaussian(0.5), x, times, **options)
    groups = flow_jacobian(VP, gaussian(0.5), x, times, at_once=3, **options)
    np.testing.assert_allclose(groups.matrix, whole.matrix, atol=1e-6)  # other steps
    directions = random_directions(jax.random.key(0), (5,), 3, jnp.float64)
    np.testing.assert_allclose(directions @ directions.T, np.eye(3), atol=1e-14)
    along = flow_jacobian(VP, gaussian(0.5), x, times, directions=directions, **options)
    np.testing.assert_allclose(along.matrix, whole.matrix @ directions.T, atol=1e-6)
    singular = jnp.linalg.svd(along.matrix[-1], compute_uv=False)
    np.testing.assert_array_equal(dimension.count_by_gap(singular), 2)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_a_sample_is_reached_with_every_group_of_columns_or_not_at_all():
    """Variances 1 and 1e-4, a path along the first, and 8 steps: too few for the second column."""
    field, x = Gaussian(jnp.array([1.0, 1e-4]), jnp.zeros((2, 2))), jnp.array([[1.0, 0.0]])
    flow = flow_jacobian(VP, field, x, [1e-3], at_once=1, max_steps=8)
    np.testing.assert_array_equal(np.isnan(flow.matrix[0, 0]), [[False, True]] * 2)
    assert not flow.reached.any()


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_the_flow_to_two_planes_keeps_two_directions_from_where_no_data_are_left():
    schedule, times = schedules.RectifiedLinear(), [1e-2, 1e-3]
    flow = flow_jacobian(schedule, planes(), normal(6, 6), times, rtol=1e-5)
    singular = jnp.linalg.svd(flow.matrix, compute_uv=False)
    np.testing.assert_array_equal(dimension.count_by_gap(singular[1]), 2)
    # Where one plane is left, tangents stay and normals fall as sigma, to (sigma / l)^2 = 0.01.
    np.testing.assert_allclose(singular[1, :, 2:], 0.1 * singular[0, :, 2:], rtol=0.02)
    np.testing.assert_allclose(singular[1, :, :2], singular[0, :, :2], rtol=0.02)


def fast_in(schedule):
    is_fast = isinstance(schedule, (schedules.VPLinear, schedules.EDM, schedules.MeanReverting))
    marks = () if is_fast else pytest.mark.slow
    return pytest.param(schedule, marks=marks, id=type(schedule).__name__)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("schedule", [fast_in(schedule) for schedule in ALL])
def test_local_readings_find_the_dimension_of_two_planes_for_every_schedule(schedule):
    """Read at sigma / alpha = 1e-3; what is left is of order (sigma |x| / l)^2 < 1e-3."""
    field = planes(0.3)
    x0, time = field.points(8), time_of(schedule, 1e-3)
    y, key = jnp.full_like(x0, 0.3), jax.random.key(1)
    values = dimension.flipd(schedule, field, x0, time, y=y)
    np.testing.assert_allclose(values, 2, atol=1e-3)
    # The same reading of the same q_s, whatever the schedule: the time is found to 1e-10.
    edm = dimension.flipd(schedules.EDM(), field, x0, 1e-3, y=y)
    np.testing.assert_allclose(values, edm, atol=1e-8)
    singular = dimension.denoiser_singular_values(schedule, field, x0, time, y=y)
    np.testing.assert_array_equal(dimension.count_by_gap(singular), 2)
    np.testing.assert_allclose(singular.sum(1), 2, atol=1e-3)
    spread = dimension.score_singular_values(schedule, field, x0, time, key, 60, y=y)
    np.testing.assert_array_equal(6 - dimension.count_by_gap(spread, "difference"), 2)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_flipd_is_the_dimension_plus_the_slope_of_the_blurred_log_density():
    field, x = planes(), 2 * normal(8, 6)

    def blurred(log_ratio):
        return field.target.log_prob(x, schedules.EDM().at(jnp.exp(log_ratio)))

    for ratio in (0.2, 1.0):
        slope = jax.jvp(blurred, (jnp.log(ratio),), (jnp.ones(()),))[1]
        value = dimension.flipd(VP, field, x, time_of(VP, ratio))
        np.testing.assert_allclose(value, 6 + slope, rtol=1e-7)  # of the time found


@pytest.mark.usefixtures("x64")
def test_probes_estimate_flipd_without_bias():
    x0, time = jnp.broadcast_to(normal(1, 5), (2000, 5)), 0.05
    matrix = np.random.default_rng(3).normal(size=(5, 5))
    field = lambda x, level: jnp.sin(x @ matrix.T)  # noqa: E731
    exact = dimension.flipd(VP, field, x0[:1], time)[0]
    for probe in ("rademacher", "normal"):
        values = dimension.flipd(VP, field, x0, time, jax.random.key(0), 1, probe)
        assert abs(values.mean() - exact) < 4 * values.std() / np.sqrt(2000)
        assert values.std() > 0


@pytest.mark.usefixtures("x64")
def test_spectra_of_a_gaussian_are_their_closed_forms():
    """alpha^2 l / (alpha^2 l + sigma^2), and sigma^2 / (alpha^2 l + sigma^2) at the mean."""
    time, level = 0.3, VP.at(0.3)
    noisy = level.alpha**2 * VARIANCES + level.sigma**2
    singular = dimension.denoiser_singular_values(VP, gaussian(), normal(3, 5), time)
    np.testing.assert_allclose(singular, [level.alpha**2 * VARIANCES / noisy] * 3, atol=1e-14)
    spread = dimension.score_singular_values(
        VP, gaussian(), jnp.zeros((3, 5)), time, jax.random.key(0), num_draws=20_000
    )
    expected = np.sort(level.sigma**2 / noisy)[::-1]
    # The deviation of a standard deviation of 20,000 draws is 0.5 %; three equal ones repel.
    np.testing.assert_allclose(spread, [expected] * 3, rtol=0.025)
    x, ratio = normal(3, 5), level.sigma**2 / level.alpha**2
    v = VARIANCES + ratio  # of q_s: d + d log q_s / d log s = d + sum s^2 / v (x^2 / v - 1)
    expected = 5 + np.sum(ratio / v * (x**2 / v - 1), axis=1)
    np.testing.assert_allclose(dimension.flipd(VP, gaussian(), x, time), expected, rtol=1e-12)
    # A time for each sample, and a mean term: the law of x_t lies around beta y.
    times, y = np.array([0.1, 0.3, 0.6]), normal(3, 5, seed=1)
    level = ALL[-1].at(times, 2)
    ratio = level.sigma**2 / level.alpha**2
    v = VARIANCES + ratio
    expected = 5 + np.sum(ratio / v * (x**2 / v - 1), axis=1)
    moved = lambda x, level: gaussian()(x - level.beta * y, level)  # noqa: E731
    found = dimension.flipd(ALL[-1], moved, x, times, y=y)
    np.testing.assert_allclose(found, expected, rtol=1e-11)


@pytest.mark.usefixtures("x64")
def test_a_circle_in_space_has_one_dimension_at_noise_above_the_spacing_of_its_points():
    angle = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    points = np.stack([np.cos(angle), np.sin(angle), 0 * angle], 1)
    field = fields.oracle(targets.Empirical(points))
    x0 = jnp.asarray(points[::80])
    # Spacing 0.016. Curvature changes q_s by a factor of relative order s^2; below, points show.
    np.testing.assert_allclose(dimension.flipd(VP, field, x0, time_of(VP, 0.04)), 1, atol=0.01)
    np.testing.assert_allclose(dimension.flipd(VP, field, x0, time_of(VP, 1e-3)), 0, atol=0.01)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_pictures_and_compiled_calls_give_the_same_readings():
    x0 = normal(3, 2, 3, 1)
    field = lambda x, level: jnp.sin(x) * level.alpha + jnp.roll(x, 1, 2) ** 2  # noqa: E731
    flat = lambda x, level: field(  # noqa: E731
        x.reshape(-1, 2, 3, 1), level._replace(alpha=level.alpha.reshape(-1, 1, 1, 1))
    ).reshape(-1, 6)
    whole = dimension.flipd(VP, field, x0, jnp.asarray([0.1, 0.2, 0.3]))
    rows = dimension.flipd(VP, flat, x0.reshape(3, 6), jnp.asarray([0.1, 0.2, 0.3]))
    np.testing.assert_allclose(whole, rows, rtol=1e-12)
    one = jax.jit(lambda t: dimension.flipd(VP, field, x0[1:2], t))(0.2)
    np.testing.assert_allclose(one[0], whole[1], rtol=1e-9)
    pictures = dimension.denoiser_singular_values(VP, field, x0, 0.2)
    np.testing.assert_allclose(
        pictures, dimension.denoiser_singular_values(VP, flat, x0.reshape(3, 6), 0.2), rtol=1e-12
    )
    key = jax.random.key(0)
    spectra = (
        dimension.score_singular_values(VP, f, a, 0.2, key)
        for f, a in ((field, x0), (flat, x0.reshape(3, 6)))
    )
    np.testing.assert_allclose(*spectra, rtol=1e-10)


def test_the_count_is_where_the_largest_gap_is():
    values = np.array([[8.0, 2.0, 1.9, 0.5], [1.0, 0.9, 0.8, 0.0], [1.0, 0.9, 0.85, 0.83]])
    np.testing.assert_array_equal(dimension.count_by_gap(values), [1, 3, 1])
    np.testing.assert_array_equal(dimension.count_by_gap(values, least=2.0), [1, 3, 4])
    np.testing.assert_array_equal(dimension.count_by_gap(values, "difference"), [1, 3, 1])
    np.testing.assert_array_equal(dimension.count_by_gap(values, "difference", 0.5), [1, 3, 4])
    np.testing.assert_array_equal(dimension.count_by_gap(values[:, :1]), 1)
    # Rounding below rounding of the largest is no gap.
    assert dimension.count_by_gap(np.array([1.0, 0.1, 1e-9, 1e-30])) == 2


def test_mistakes_are_refused_in_one_line():
    x, field = jnp.zeros((2, 5)), gaussian()
    with pytest.raises(PersonError, match="must go one way from the start"):
        flow_jacobian(VP, field, x, [0.1, 0.2])
    with pytest.raises(PersonError, match="must go one way from the start"):
        flow_jacobian(VP, field, x, [])
    with pytest.raises(PersonError, match="at_once = 0: must be 1 or more, or None"):
        flow_jacobian(VP, field, x, [0.1], at_once=0)
    with pytest.raises(PersonError, match="num_steps = -1: must be 1 or more"):
        flow_jacobian(VP, field, x, [0.1], num_steps=-1)
    with pytest.raises(PersonError, match="unknown method"):
        flow_jacobian(VP, field, x, [0.1], method="euler")
    with pytest.raises(PersonError, match="give y to the flow"):
        flow_jacobian(ALL[-1], field, x, [0.1])
    with pytest.raises(PersonError, match="num = 6: there are 5 orthogonal directions"):
        random_directions(jax.random.key(0), (5,), 6)
    for reading in (dimension.flipd, dimension.denoiser_singular_values):
        with pytest.raises(PersonError, match="needs data and noise"):
            reading(VP, field, x, 0.0)
        with pytest.raises(PersonError, match="mean term"):
            reading(ALL[-1], field, x, 0.3)
    with pytest.raises(PersonError, match="num_draws = 0"):
        dimension.score_singular_values(VP, field, x, 0.1, jax.random.key(0), 0)
    with pytest.raises(PersonError, match="unknown rule 'ration': did you mean 'ratio'"):
        dimension.count_by_gap(np.ones(3), "ration")
