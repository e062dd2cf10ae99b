"""The low-rank net: exact at the true subspaces, invariant to bases, trained by its gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dfx import fields, losses, nets, schedules, targets, train
from dfx.errors import PersonError
from dfx.nets.low_rank import orthonormal

pytestmark = pytest.mark.usefixtures("x64")

VP = schedules.VPLinear()
SCHEDULES = (VP, schedules.VE(), schedules.SubVP(), schedules.RectifiedLinear())
KEY, TIME = jax.random.key(0), nets.alpha_sigma
RNG = np.random.default_rng(0)
DIMS, WEIGHTS = (3, 2), (0.3, 0.7)
BASES = np.linalg.qr(RNG.normal(size=(2, 12, 3)))[0]  # at any angle
BASES[1, :, 2] = 0
X = RNG.normal(size=(5, 12))


def field(bases=BASES, **options):
    net = nets.low_rank(12, DIMS, weights=WEIGHTS, **options)
    return jax.tree_util.Partial(guess, fields.from_net(net, {"bases": bases}, "x0", TIME))


@jax.jit
def guess(field, x, level):
    return field(x, level)


def test_at_the_true_subspaces_it_is_the_exact_denoiser_of_every_schedule():
    exact = fields.oracle(targets.union_of_subspaces(BASES, weights=WEIGHTS))
    for schedule in SCHEDULES:
        for level in (schedule.at(0.3), schedule.at(np.linspace(0.1, 0.9, 5), 2)):
            expected = guess(exact, X, level)
            np.testing.assert_allclose(field()(X, level), expected, rtol=1e-9, atol=1e-12)


def test_only_the_spans_enter_and_unequal_dimensions_need_the_determinant():
    level = VP.at(0.3)
    expected = field()(X, level)
    mixed = BASES.copy()
    mixed[0] = BASES[0] @ RNG.normal(size=(3, 3))
    mixed[1, :, :2] = BASES[1, :, :2] @ RNG.normal(size=(2, 2))
    mixed[1, :, 2] = 7.0  # beyond its dimension
    np.testing.assert_allclose(field(mixed)(X, level), expected, rtol=1e-9, atol=1e-11)
    put_back = orthonormal({"bases": jnp.asarray(mixed)}, DIMS)["bases"]
    gram = np.einsum("kir,kis->krs", put_back, put_back)
    np.testing.assert_allclose(gram, [np.eye(3), np.diag([1, 1, 0])], atol=1e-12)
    assert np.abs(field(determinant=False)(X, level) - expected).max() > 0.01


def test_pictures_and_levels_of_any_shape_are_the_flat_ones():
    pictures, times = X.reshape(5, 2, 2, 3), np.linspace(0.1, 0.9, 5)
    for t in (0.3, times):
        flat = field()(X, VP.at(t, 2))
        np.testing.assert_array_equal(field()(pictures, VP.at(t, 4)).reshape(5, 12), flat)


def test_hard_weights_are_the_largest_soft_one_and_labels_are_obeyed():
    level = VP.at(0.3)
    projected = (
        level.alpha
        / (level.alpha**2 + level.sigma**2)
        * np.einsum("kir,kjr,nj->kni", BASES, BASES, X)
    )
    exact = targets.union_of_subspaces(BASES, weights=WEIGHTS)
    most = np.asarray(jax.jit(lambda x: exact.responsibilities(x, level))(X).argmax(1))
    hard = field(assignment="hard")(X, level)
    np.testing.assert_allclose(hard, projected[most, np.arange(5)], rtol=1e-9, atol=1e-12)
    labels, net = np.array([0, 1, 1, 0, 0]), nets.low_rank(12, DIMS)
    t = jnp.broadcast_to(nets.alpha_sigma(level), (5, 2))
    told = net.apply({"bases": jnp.asarray(BASES)}, X, t, labels)
    np.testing.assert_allclose(told, projected[labels, np.arange(5)], rtol=1e-9, atol=1e-12)


def test_the_gradient_has_no_part_along_the_subspace():
    """The loss does not change when bases are mixed, so U^T dL/dU = 0: columns never shrink."""
    net = nets.low_rank(12, DIMS)
    loss = losses.denoising(net, VP, "x0", time=nets.alpha_sigma)
    params = {"bases": jnp.asarray(BASES)}
    gradient = jax.jit(jax.grad(lambda p: loss(p, KEY, X)[0]))(params)["bases"]
    assert np.abs(gradient).max() > 1e-3 and np.isfinite(gradient).all()  # zero columns too
    inner = np.einsum("kir,kis->krs", BASES, gradient)
    np.testing.assert_allclose(inner, 0, atol=1e-12)


def test_training_turns_a_random_subspace_to_the_data():
    """One subspace, d + 1 points: the distance falls from about 2 to that of Adam's last steps."""
    bases = np.linalg.qr(np.random.default_rng(1).normal(size=(16, 2)))[0]
    x0 = jnp.asarray(np.random.default_rng(2).normal(size=(3, 2)) @ bases.T, jnp.float32)
    net, optimizer = nets.low_rank(16, 2), optax.adam(optax.linear_schedule(0.05, 0.0, 300))
    step = train.make_step(losses.denoising(net, VP, "x0", time=nets.alpha_sigma), optimizer)
    state = train.init_state(net.init(KEY), optimizer, KEY)
    batch = jnp.tile(x0, (8, 1))
    state = jax.jit(lambda s: jax.lax.scan(lambda s, _: (step(s, batch)[0], None), s, None, 300))(
        state
    )[0]
    found = orthonormal(state.params)["bases"][0]
    assert np.linalg.norm(found @ found.T - bases @ bases.T) < 0.1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(dims=(3, 0)), "dims"),
        (dict(dims=13), "dims"),
        (dict(dims=(1, 2), weights=(1.0,)), "weights"),
        (dict(dims=(1, 2), assignment="sof"), "did you mean 'soft'"),
    ],
)
def test_bad_options_are_said_in_one_line(options, message):
    with pytest.raises(PersonError, match=message):
        nets.low_rank(12, **options)
