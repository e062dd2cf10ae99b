"""Fields: oracle, net and function; the denoiser is what all of them return."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dfx import fields, schedules
from dfx.errors import PersonError
from dfx.fields.field import predict

SCHEDULE = schedules.VPLinear()


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Point:
    """All data at one point; its score is -(x - alpha p) / sigma^2."""

    place: jax.typing.ArrayLike

    def denoise(self, x, level):
        return jnp.broadcast_to(jnp.asarray(self.place, x.dtype), x.shape)


class Net:
    """A net in the sense of `fields.from_net`: its output tells what it was given."""

    @staticmethod
    def apply(params, x, t, cond=None):
        out = params["scale"] * x + t.reshape(t.shape + (1,) * (x.ndim - t.ndim))
        return out if cond is None else out + cond[:, None]


def points(shape=(4, 2), seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


@pytest.mark.parametrize("prediction", ["eps", "score", "velocity"])
def test_a_net_seen_as_what_it_predicts_is_its_output_to_the_bit(prediction):
    """A detour through x0_hat at sigma = 1e-3 would cost three digits of a float32 score."""
    x, level = points().astype(jnp.float32), SCHEDULE.at(1e-6)
    params = {"scale": jnp.float32(1.7)}
    field = fields.from_net(Net, params, prediction)
    output = Net.apply(params, x, jnp.full(len(x), 1e-6, jnp.float32))
    np.testing.assert_array_equal(fields.as_prediction(field, prediction)(x, level), output)


@pytest.mark.usefixtures("x64")
def test_an_oracle_field_is_its_targets_denoiser_in_every_type():
    field, x, level = fields.oracle(Point(np.array([1.0, -2.0]))), points(), SCHEDULE.at(0.4)
    eps = (x - level.alpha * np.array([1.0, -2.0])) / level.sigma
    np.testing.assert_allclose(fields.as_prediction(field, "eps")(x, level), eps, rtol=1e-13)
    np.testing.assert_allclose(fields.as_prediction(field, "score")(x, level), -eps / level.sigma)
    np.testing.assert_array_equal(fields.as_prediction(field, "x0")(x, level), field(x, level))


@pytest.mark.usefixtures("x64")
def test_a_mean_term_is_taken_off_before_a_field_is_read():
    """x_t = alpha x0 + beta y + sigma eps with an oracle of x0, and with a net that says eps."""
    place, y, x = np.array([1.0, -2.0]), points(seed=1), points()
    level = schedules.MeanReverting(SCHEDULE).at(0.4)
    score = -(x - level.alpha * place - level.beta * y) / level.sigma**2
    found = predict(fields.oracle(Point(place)), x, level, "score", y)
    np.testing.assert_allclose(found, score, rtol=1e-12)
    net = fields.from_net(Net, {"scale": 2.0}, "eps")
    x0 = (x - level.beta * y - level.sigma * (2 * x + 0.4)) / level.alpha
    np.testing.assert_allclose(predict(net, x, level, "x0", y), x0, rtol=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("prediction", fields.PREDICTIONS)
def test_a_function_of_any_type_gives_the_field_it_came_from(prediction):
    point, x, level = Point(np.array([0.5, 3.0])), points(), SCHEDULE.at(0.7)
    seen = fields.as_prediction(fields.oracle(point), prediction)
    back = fields.from_function(seen, prediction)
    np.testing.assert_allclose(back(x, level), point.denoise(x, level), rtol=0, atol=1e-12)


@pytest.mark.usefixtures("x64")
def test_a_net_field_converts_what_the_net_predicts():
    x, level = points(), SCHEDULE.at(0.3)
    field = fields.from_net(Net, {"scale": 2.0}, "eps")
    expected = (x - level.sigma * (2 * x + 0.3)) / level.alpha
    np.testing.assert_allclose(field(x, level), expected, rtol=1e-13)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("shape", "t_shape", "seen"),
    [
        ((4, 2), (), (4,)),
        ((4, 2), (4,), (4,)),
        ((4, 3, 2), (4, 3), (4, 3)),
        ((4, 5, 5, 1), (4,), (4,)),
    ],
)
def test_the_net_gets_one_time_per_sample_or_token(shape, t_shape, seen):
    got = []

    class Spy:
        @staticmethod
        def apply(params, x, t, cond=None):
            got.append(t)
            return x

    t = np.random.default_rng(0).uniform(0.1, 0.9, t_shape)
    fields.from_net(Spy, {}, "x0")(points(shape), SCHEDULE.at(t, len(shape)))
    assert got[0].shape == seen
    np.testing.assert_array_equal(got[0], np.broadcast_to(t, seen))


def test_per_token_times_that_are_the_same_for_all_samples_are_spread():
    assert fields.net_time(np.zeros((3, 1)), jnp.zeros((4, 3, 2))).shape == (4, 3)


@pytest.mark.usefixtures("x64")
def test_time_and_cond_reach_the_net():
    table = schedules.discrete_linear()
    x, cond = points(), jnp.arange(4.0)
    index = table.at(table.time_of_index(7))
    field = fields.from_net(Net, {"scale": 0.0}, "x0", lambda level: table.index(level.t), cond)
    expected = np.broadcast_to(7.0 + np.arange(4.0)[:, None], (4, 2))
    np.testing.assert_allclose(field(x, index), expected, rtol=1e-12)
    assert not field.pointwise and fields.from_net(Net, {}, "x0").pointwise


@pytest.mark.usefixtures("x64")
def test_further_outputs_pass_a_conversion_unchanged():
    field = fields.from_function(lambda x, level: (x, 2 * x, 3 * x), "eps")
    x, level = points(), SCHEDULE.at(0.5)
    outs = field(x, level)
    np.testing.assert_array_equal(outs[2], 3 * x)
    np.testing.assert_allclose(outs[0], (1 - level.sigma) / level.alpha * x)
    assert fields.denoiser(outs) is outs[0] and fields.denoiser(x) is x


def test_fields_are_pytrees_whose_numbers_are_arguments():
    count = []

    @jax.jit
    def run(field, x):
        count.append(1)
        return field(x, SCHEDULE.at(0.5))

    x = jnp.ones((2, 2))
    for scale in (1.0, 2.0, 3.0):
        run(fields.from_net(Net, {"scale": jnp.float32(scale)}, "v"), x)
        run(fields.oracle(Point(np.full(2, scale))), x)
    assert len(count) == 2


def test_unknown_predictions_are_refused_at_once():
    for make in (
        lambda: fields.from_net(Net, {}, "epsilon"),
        lambda: fields.from_function(Net.apply, "flow"),
        lambda: fields.as_prediction(Net.apply, "noise"),
    ):
        with pytest.raises(PersonError, match="unknown prediction"):
            make()
