"""`sample`: the result is a function of tableau, field, x and key, however the run is organised."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dfx import fields, schedules, solvers
from dfx.errors import PersonError
from dfx.solvers import sample
from dfx.solvers.noise import BLOCK, draw

SCHEDULE = schedules.VPLinear()
GRID = np.linspace(0.95, 0.0, 13)
KEY = jax.random.key(7)

#: One solver of each shape: deterministic, stochastic, two stages, two stages with noise at the
#: start.
BUILDERS = {
    "ddim": solvers.ddim,
    "ddpm": solvers.ddpm,
    "heun": solvers.heun,
    "churn": functools.partial(solvers.heun, churn=3.0),
}

#: Float64 rounding of a dozen rows, which near the boundary of two modes grow tenfold in some.
ROUNDING = 1e-10

pytestmark = pytest.mark.usefixtures("x64")


def starts(n=8, d=2, dtype=jnp.float64):
    return solvers.prior(jax.random.key(1), SCHEDULE, (n, d), dtype=dtype)


@pytest.mark.parametrize("name", ["ddpm", "churn"])
def test_a_sample_is_the_same_in_a_batch_of_8_and_of_8000(name, modes):
    """The larger batch runs in blocks of 1,000 by default."""
    tableau = BUILDERS[name](SCHEDULE, GRID)
    few = sample(tableau, modes, starts(8), KEY)
    many = sample(tableau, modes, starts(8000), KEY)
    np.testing.assert_allclose(few, many[:8], rtol=0, atol=ROUNDING)
    assert np.array_equal(starts(8), starts(8000)[:8])


@pytest.mark.parametrize(("name", "shape"), [("ddim", ()), ("ddpm", (2,)), ("ddpm", (5, 4))])
def test_blocks_do_not_change_a_sample(name, shape, modes):
    """Tiny samples have the batch axis last, larger ones not; the last block is not full."""
    tableau = BUILDERS[name](SCHEDULE, GRID)
    x = solvers.prior(jax.random.key(2), SCHEDULE, (2100, *shape), dtype=jnp.float64)
    whole = sample(tableau, modes, x, KEY, block=0)
    assert whole.shape == x.shape
    block = 2 * BLOCK if shape == (2,) else BLOCK
    some = sample(tableau, modes, x, KEY, block=block)
    np.testing.assert_allclose(some, whole, rtol=0, atol=ROUNDING)


def test_inputs_are_taken_in_the_dtype_of_x(modes):
    """y in float64 would make lanes of float32 wider."""
    schedule = schedules.MeanReverting()
    tableau, x = solvers.ddim(schedule, [0.9, 0.5, 0.0]), starts(dtype=jnp.float32)
    field = fields.from_function(lambda x, level: 0.5 * x, "x0")
    ends = [
        sample(tableau, field, x, inputs=(jnp.full(x.shape, 0.1, dtype),))
        for dtype in (jnp.float32, jnp.float64)
    ]
    assert ends[0].dtype == ends[1].dtype == jnp.float32
    np.testing.assert_array_equal(*ends)


def test_half_precision_rounds_samples_and_not_the_times_that_a_net_is_told():
    """997 and 998 of 1000 are one number in bfloat16."""
    seen = []

    class Net:
        @staticmethod
        def apply(params, x, t, cond=None):
            jax.debug.callback(lambda t: seen.append(np.asarray(t)), t)
            return x

    grid = np.array([0.998, 0.997, 0.5])
    end = sample(solvers.ddim(SCHEDULE, grid), fields.from_net(Net, {}, "eps"),
                 starts(dtype=jnp.bfloat16))  # fmt: skip
    jax.effects_barrier()
    assert end.dtype == jnp.bfloat16
    np.testing.assert_array_equal(np.sort([t[0] for t in seen]), np.float32([0.997, 0.998]))


def test_larger_samples_are_the_same_in_a_smaller_batch():
    """Beyond `TINY` numbers a sample the draws have the batch axis first."""
    draws = {n: draw(KEY, 3, (n, 5, 4), jnp.float32) for n in (7, 2100)}
    assert np.array_equal(draws[7], draws[2100][:7])
    second = draw(KEY, 3, (100, 5, 4), jnp.float32, first_block=2)
    assert np.array_equal(second, draws[2100][2000:])
    last = draw(KEY, 3, (7, 5, 4), jnp.float32, batch_last=True)
    assert np.array_equal(jnp.moveaxis(last, -1, 0), draws[7])


@pytest.mark.parametrize("name", ["ddpm", "heun"])
def test_phases_and_unroll_leave_the_result(name, modes):
    tableau, x = BUILDERS[name](SCHEDULE, GRID), starts(8)
    plain = sample(tableau, modes, x, KEY)
    for options in ({"unroll": 5}, {"merged": True, "unroll": 3}):
        np.testing.assert_allclose(sample(tableau, modes, x, KEY, **options), plain, atol=ROUNDING)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ddim", "heun"])
def test_without_jit_and_inside_another_jit_the_result_is_the_same(name, modes):
    tableau, x = BUILDERS[name](SCHEDULE, GRID[-4:]), starts(5)
    plain = sample(tableau, modes, x)
    inside = jax.jit(lambda tableau, x: sample(tableau, modes, x))(tableau, x)
    np.testing.assert_allclose(inside, plain, atol=ROUNDING)
    with jax.disable_jit():
        slow = sample(tableau, modes, x)
    np.testing.assert_allclose(slow, plain, atol=ROUNDING)


def test_noise_given_as_a_function_is_the_noise_used(modes):
    """With the draws of `key` handed over by hand, the result is that of the key."""
    tableau, x = solvers.ddpm(SCHEDULE, GRID), starts(8)

    def by_hand(row):
        row_key = jax.random.fold_in(KEY, row + 2)
        return jax.random.normal(jax.random.fold_in(row_key, 0), (2, BLOCK), jnp.float64).T[:8]

    got = sample(tableau, modes, x, noise=by_hand)
    np.testing.assert_allclose(got, sample(tableau, modes, x, KEY), atol=ROUNDING)


def test_two_grids_can_share_a_brownian_path(gaussian, slope):
    """Strong order of Euler-Maruyama: 1, its noise is additive. Fine increments add up."""
    fine, n = 1024, 400
    small = np.random.default_rng(0).normal(size=(fine, n, 2))
    x = np.random.default_rng(1).normal(size=(n, 2))
    ends = {}
    for steps in (32, 64, 128, fine):
        z = small.reshape(steps, fine // steps, n, 2).sum(1) / np.sqrt(fine // steps)
        path = jax.tree_util.Partial(lambda z, row: z[row], jnp.asarray(z))
        tableau = solvers.euler_maruyama(SCHEDULE, np.linspace(0.9, 0.3, steps + 1))
        ends[steps] = np.asarray(sample(tableau, gaussian, x, noise=path))
    coarse = [32, 64, 128]
    gaps = [np.sqrt(np.mean((ends[k] - ends[fine]) ** 2)) for k in coarse]
    # the reference has an error of its own, an eighth of the last: it tilts the fit upwards by
    # about 0.1
    assert 0.9 < slope(coarse, gaps) < 1.3


def test_float32_stays_within_rounding_of_float64_over_1000_rows(gaussian):
    grid = np.append(schedules.t_of_log_snr(SCHEDULE, 2 * np.linspace(-4, 6, 1000)), 0.0)
    z = np.random.default_rng(0).normal(size=(50, 2))
    for build in (solvers.ddim, solvers.ddpm):
        ends = [
            sample(
                build(SCHEDULE, grid),
                gaussian,
                z.astype(dtype),
                noise=jax.tree_util.Partial(lambda z, row: z * jnp.cos(row), z.astype(dtype)),
            )
            for dtype in (np.float64, np.float32)
        ]
        assert ends[1].dtype == jnp.float32
        # the prototype of the recorder measured a median of 1e-6 on mixtures
        assert np.median(np.abs(ends[1] - ends[0])) < 5e-6


def test_float32_samples_stay_float32_where_float64_is_on(modes):
    end, seen = sample(
        BUILDERS["churn"](SCHEDULE, GRID),
        modes,
        starts(dtype=jnp.float32),
        KEY,
        observe=solvers.trajectory(),
    )
    assert end.dtype == jnp.float32 and seen[0].dtype == jnp.float32


@pytest.mark.parametrize("outputs", [1, 2])
def test_a_field_may_have_several_outputs(outputs, modes):
    """x0 from the first; the second is used by a solver that asks for it."""
    r, levels = solvers.record(SCHEDULE, GRID)
    x = r.start
    for s, t in solvers.pairs(levels):
        e = r.at(x, s)
        second = e.out(1) if outputs == 2 else e.x0
        x = t.alpha * second + t.sigma / s.sigma * (x - s.alpha * e.x0)
    tableau = r.tableau(x)
    field = lambda x, level: (modes(x, level), 0.5 * modes(x, level))  # noqa: E731
    got = sample(tableau, field, starts())
    expected = starts()
    for s, t in solvers.pairs(levels):
        x0 = modes(expected, s)
        kept = 0.5 * x0 if outputs == 2 else x0
        expected = t.alpha * kept + t.sigma / s.sigma * (expected - s.alpha * x0)
    np.testing.assert_allclose(got, expected, atol=ROUNDING)


def test_a_net_is_compiled_once_for_all_stages():
    traces = []

    class Net:
        @staticmethod
        def apply(params, x, t, cond=None):
            traces.append(t.shape)
            return params * x

    field = fields.from_net(Net, 0.3, "v")
    tableau = solvers.heun(SCHEDULE, np.linspace(0.95, 0.05, 9))
    one = sample(tableau, field, starts())
    assert set(traces) == {(8,)}
    merged = len(traces)
    staged = sample(tableau, field, starts(), merged=False)
    assert len(traces) - merged > merged
    np.testing.assert_allclose(one, staged, atol=ROUNDING)


def test_a_plain_function_and_a_bound_method_are_fields(modes):
    tableau, x = solvers.ddim(SCHEDULE, GRID), starts()
    expected = sample(tableau, modes, x)
    for field in (modes.__call__, lambda x, level: modes(x, level)):
        np.testing.assert_allclose(sample(tableau, field, x), expected, atol=ROUNDING)


def test_kept_lanes_are_returned(modes):
    r, levels = solvers.record(SCHEDULE, GRID[:3])
    x = r.start
    before = r.let(1.0 * x)
    for s, t in solvers.pairs(levels):
        e = r.at(x, s)
        x = t.alpha * e.x0 + t.sigma * e.eps
    end, kept = sample(r.tableau(x, keep=(before,)), modes, starts())
    np.testing.assert_array_equal(kept, starts())
    expected = sample(solvers.ddim(SCHEDULE, GRID[:3]), modes, starts())
    np.testing.assert_allclose(end, expected, atol=ROUNDING)


def test_the_prior_has_the_spread_of_the_schedule():
    schedule = schedules.MeanReverting(schedules.VPLinear())
    y = jnp.full((20_000, 2), 3.0)
    x = solvers.prior(jax.random.key(0), schedule, (20_000, 2), y=y)
    assert x.dtype == jnp.float32
    level = schedule.at(schedule.end_time)
    assert abs(x.mean() - 3 * level.beta) < 4.5 * level.sigma / np.sqrt(40_000)
    assert abs(x.std() / level.sigma - 1) < 4.5 / np.sqrt(80_000)
    rows = [draw(jax.random.key(0), row, x.shape, x.dtype) for row in range(-1, 3)]
    noise = (x - level.beta * y) / level.sigma  # none of what the rows of a solver draw
    assert max(abs(jnp.mean(noise * row)) for row in rows) < 4.5 / np.sqrt(40_000)
    at_half = solvers.prior(jax.random.key(0), schedules.EDM(), (20_000, 2), t=2.0)
    assert abs(at_half.std() / 2 - 1) < 4.5 / np.sqrt(80_000)


BAD = [
    (dict(key=None), "stochastic: give a key"),
    (dict(x=np.zeros((3, 2), int)), "x must be a floating array"),
    (dict(x=np.float32(1.0)), "x must be a floating array of shape"),
    (dict(inputs=(np.zeros((3, 2)),)), "starts from x and 0 further inputs, got 1"),
    (dict(block=500), "block = 500: a multiple of 1000"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_bad_arguments_are_refused_with_one_line(options, message, modes):
    options = {"x": np.zeros((3, 2), np.float32), "key": KEY} | options
    with pytest.raises(PersonError, match=message):
        sample(solvers.ddpm(SCHEDULE, GRID), modes, **options)


class Net:
    """A net that says its condition, or 0.3 x."""

    @staticmethod
    def apply(params, x, t, cond=None):
        return 0.3 * x if cond is None else jnp.broadcast_to(cond[:, None], x.shape)


@pytest.mark.parametrize("prediction", ["eps", "score"])
def test_a_net_that_says_nothing_of_x0_at_the_start_is_refused(prediction):
    cosine, table = schedules.VPCosine(), schedules.discrete_zero_snr(100)
    net = fields.from_net(Net, {}, prediction)
    for field in (net, fields.classifier_free(net, net, 2.0)):
        for schedule in (cosine, table):
            tableau = solvers.ddim(schedule, np.linspace(1.0, 0.0, 4))
            with pytest.raises(PersonError, match=f"{prediction} does not determine x0 at t = 1"):
                sample(tableau, field, starts())


def test_a_net_that_is_not_asked_at_the_start_may_predict_anything(modes):
    schedule, net = schedules.VPCosine(), fields.from_net(Net, {}, "eps")
    tableau = solvers.ddim(schedule, np.array([1.0, 0.7, 0.3]))
    end = sample(tableau, solvers.handover(modes, net, schedule, 0.7), starts())
    assert np.isfinite(end).all()


@pytest.mark.parametrize(
    ("field", "message"),
    [
        (lambda x, level: (x[:, 0], x), r"output 0 of the field has shape \(3,\) for x of shape"),
        (lambda x, level: (x, x[:1]), r"output 1 of the field has shape \(1, 2\)"),
        (lambda x, level: x, "needs 2 outputs of the field, got 1"),
    ],
)
def test_outputs_that_are_missing_or_of_another_shape_are_refused(field, message):
    with pytest.raises(PersonError, match=message):
        sample(solvers.cfgpp(SCHEDULE, GRID), field, np.zeros((3, 2)))


def test_outputs_that_no_row_uses_may_be_anything(modes):
    field = lambda x, level: (modes(x, level), x[0], "text")  # noqa: E731
    x, tableau = starts(), solvers.ddim(SCHEDULE, GRID[:3])
    np.testing.assert_array_equal(sample(tableau, field, x), sample(tableau, modes, x))


def test_a_condition_for_each_sample_is_not_cut_into_blocks():
    field = fields.from_net(Net, {}, "x0", cond=np.zeros(1001))
    with pytest.raises(PersonError, match="a cond for each sample, so give 0"):
        sample(solvers.ddim(SCHEDULE, GRID), field, np.zeros((1001, 2)), block=1000)


def test_the_prior_of_a_mean_term_needs_its_endpoint():
    with pytest.raises(PersonError, match="give y to the prior"):
        solvers.prior(KEY, schedules.MeanReverting(), (4, 1))


def test_an_input_of_another_shape_is_refused(modes):
    tableau = solvers.ddim(schedules.MeanReverting(SCHEDULE), GRID)
    with pytest.raises(PersonError, match=r"input 1 has shape \(4, 2\), x has \(3, 2\)"):
        sample(tableau, modes, np.zeros((3, 2), np.float32), inputs=(np.zeros((4, 2)),))
