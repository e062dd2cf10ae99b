"""What holds for every net: the pair, its shapes and dtypes, what it may and may not see."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dfx import nets
from dfx.errors import PersonError

PICTURE = (8, 8, 1)
SMALL = {
    "weight_tied_mlp": (nets.make("weight_tied_mlp", 2, width=16), (2,)),
    "untied_mlp": (nets.make("weight_tied_mlp", 2, width=16, depth=2, shared=False), (2,)),
    "residual_mlp": (nets.make("residual_mlp", 2, width=16, depth=2, num_classes=3), (2,)),
    "mlp": (nets.make("mlp", 2, width=16, depth=2), (2,)),
    "energy_mlp": (nets.make("energy_mlp", 2, width=16, depth=2), (2,)),
    "unet": (
        nets.make(
            "unet", PICTURE, base=8, multipliers=(1,), blocks=1, groups=4, heads=2, num_classes=3
        ),
        PICTURE,
    ),
    "dit": (
        nets.make("dit", PICTURE, width=16, depth=1, heads=2, expansion=2, num_classes=3),
        PICTURE,
    ),
    "edm_unet": (
        nets.make(
            "edm_unet",
            PICTURE,
            base=8,
            multipliers=(1,),
            blocks=1,
            attention_sizes=(8,),
            num_classes=3,
        ),
        PICTURE,
    ),
}
CONDITIONAL = ("residual_mlp", "unet", "dit", "edm_unet")
NUM = 5


def any_params(net, scale=0.5):
    """Random parameters: the zeros of an initialisation would hide what a net can see."""
    rng = np.random.default_rng(7)
    shapes = jax.eval_shape(net.init, jax.random.key(0))
    return jax.tree.map(lambda a: (scale * rng.standard_normal(a.shape)).astype(a.dtype), shapes)


def example(kind, net, shape):
    params = any_params(net)
    x = jax.random.normal(jax.random.key(1), (NUM, *shape), jnp.float32)
    t = jnp.linspace(0.1, 1, NUM) if kind == "mlp" else jnp.linspace(3.0, 800.0, NUM)
    return jax.jit(net.apply), params, x, t


@pytest.fixture(params=SMALL, scope="module")
def small(request):
    return example(request.param, *SMALL[request.param])


def test_every_registered_net_is_among_those_tested():
    presets = {name for name, maker in nets.REGISTRY.items() if isinstance(maker, partial)}
    assert set(nets.REGISTRY) - presets <= set(SMALL)


def test_parameters_are_a_plain_nested_dict_of_float32(small):
    params = small[1]
    assert type(params) is dict
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(params))


def test_initial_parameters_depend_on_the_key_alone():
    net, _ = SMALL["residual_mlp"]
    one, two = net.init(jax.random.key(0)), net.init(jax.random.key(1))
    again = jax.jit(lambda key: net.init(key))(jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, one, again)
    kernels = [np.abs(a - b).max() for a, b in zip(*map(jax.tree.leaves, (one, two)), strict=True)]
    assert max(kernels) > 0 and jax.tree.all(jax.tree.map(lambda a: np.isfinite(a).all(), one))


def test_output_is_like_x(small):
    apply, params, x, t = small
    out = apply(params, x, t)
    assert out.shape == x.shape and out.dtype == x.dtype
    assert np.isfinite(out).all() and np.std(out) > 0


def test_bfloat16_input_gives_the_float32_output_to_its_rounding(small):
    apply, params, x, t = small
    short = x.astype(jnp.bfloat16)
    out = apply(params, short, t)
    assert out.dtype == jnp.bfloat16
    # Computed in float32 and rounded once at the end: 2^-8 relative.
    np.testing.assert_allclose(
        out.astype(np.float32), apply(params, short.astype(jnp.float32), t), rtol=2**-8, atol=1e-6
    )


def test_a_sample_sees_itself_alone(small):
    apply, params, x, t = small
    out = apply(params, x, t)
    other = apply(params, x.at[1].add(2.0), t.at[1].multiply(0.5))
    unchanged = np.arange(NUM) != 1
    # Samples of one batch may be summed in another order: float32 rounding.
    np.testing.assert_allclose(other[unchanged], out[unchanged], rtol=1e-5, atol=1e-5)
    assert np.abs(other[1] - out[1]).max() > 1e-2


def test_permuting_the_batch_permutes_the_output(small):
    apply, params, x, t = small
    order = np.array([3, 0, 4, 2, 1])
    np.testing.assert_allclose(
        apply(params, x[order], t[order]), apply(params, x, t)[order], rtol=1e-5, atol=1e-5
    )


def test_time_matters(small):
    apply, params, x, t = small
    difference = np.abs(apply(params, x, 0.5 * t) - apply(params, x, t))
    assert difference.reshape(NUM, -1).max(axis=1).min() > 1e-3


def test_the_gradient_reaches_every_parameter(small):
    apply, params, x, t = small
    target = jax.random.normal(jax.random.key(2), x.shape, x.dtype)
    grads = jax.jit(jax.grad(lambda p: jnp.mean((apply(p, x, t) - target) ** 2)))(params)
    for path, leaf in jax.tree_util.tree_leaves_with_path(grads):
        assert np.abs(leaf).max() > 1e-7, jax.tree_util.keystr(path)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("kind", ["weight_tied_mlp", "residual_mlp", "mlp"])
def test_float64_parameters_compute_in_float64(kind):
    apply, params, x, t = example(kind, *SMALL[kind])
    wide = jax.tree.map(lambda a: a.astype(jnp.float64), (params, x, t))
    out = apply(*wide)
    assert out.dtype == jnp.float64
    difference = np.abs(out - apply(params, x, t)).max()
    assert 0 < difference < 1e-3  # float32 rounding; the largest times turn by 800 radians


@pytest.mark.parametrize("small", CONDITIONAL, indirect=True, scope="module")
def test_classes_matter_and_none_is_the_null_class(small):
    apply, params, x, t = small
    same = jnp.broadcast_to(x[:1], x.shape), jnp.full(NUM, t[0])
    out = apply(params, *same, jnp.array([0, 1, 2, 3, 1]))
    for i in range(4):
        for j in range(i):
            assert np.abs(out[i] - out[j]).max() > 1e-3
    np.testing.assert_allclose(out[4], out[1], rtol=1e-5, atol=1e-5)
    # The program without classes is another one: float32 rounding.
    np.testing.assert_allclose(apply(params, *same)[0], out[3], rtol=1e-4, atol=1e-4)


def test_a_net_without_classes_refuses_cond():
    net = nets.mlp(2, width=8)
    params = net.init(jax.random.key(0))
    with pytest.raises(PersonError, match="MLP takes no cond: give it num_classes > 0"):
        net.apply(params, jnp.zeros((3, 2)), jnp.zeros(3), jnp.zeros(3, int))


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(PersonError, match="unknown net 'unett': did you mean 'unet'"):
        nets.make("unett", PICTURE)


@pytest.mark.parametrize(
    ("make", "size", "options"),
    [
        (nets.dit, PICTURE, dict(heads=0)),
        (nets.dit, PICTURE, dict(patch=0)),
        (nets.dit, PICTURE, dict(depth=-1)),
        (nets.dit, PICTURE, dict(expansion=0)),
        (nets.unet, PICTURE, dict(groups=0)),
        (nets.unet, PICTURE, dict(heads=0)),
        (nets.unet, PICTURE, dict(patch=-2)),
        (nets.unet, PICTURE, dict(multipliers=())),
        (nets.unet, PICTURE, dict(num_classes=-1)),
        (nets.edm_unet, PICTURE, dict(blocks=0)),
        (nets.edm_unet, PICTURE, dict(multipliers=(1, 0))),
        (nets.edm_unet, PICTURE, dict(head_width=-8)),
        (nets.classifier, PICTURE, dict(width=0)),
        (nets.mlp, 2, dict(depth=-1)),
        (nets.mlp, 2, dict(width=8.5)),
        (nets.residual_mlp, 2, dict(width=-32)),
        (nets.weight_tied_mlp, 0, dict(dim=0)),
        (nets.energy_mlp, 2, dict(width=0)),
    ],
)
def test_sizes_that_are_none_are_refused_in_one_line_before_anything_is_made(make, size, options):
    ((what, given),) = options.items()
    with pytest.raises(PersonError) as error:
        make(**({"dim" if isinstance(size, int) else "shape": size} | options))
    line = str(error.value)
    assert f": {what} {given!r}: allowed are whole numbers from " in line and "\n" not in line


def test_a_picture_has_pixels():
    with pytest.raises(PersonError, match=r"dit: shape \(8, 8, 0\)"):
        nets.dit((8, 8, 0))


def test_equal_settings_give_the_same_pair_and_others_another():
    assert nets.mlp(2, width=8) is nets.mlp(2, width=8)
    assert nets.mlp(2, width=8) != nets.mlp(2, width=9)
    assert hash(nets.mlp(2, width=8)) == hash(nets.mlp(2, width=8))


def test_ensembles_initialise_by_vmap_as_alone():
    net = nets.mlp(2, width=8)
    keys = jax.random.split(jax.random.key(0), 3)
    stacked = jax.vmap(net.init)(keys)
    alone = net.init(keys[1])
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[1], b), stacked, alone)


def test_num_params_counts_scalars_of_arrays_and_of_shapes():
    tree = {"a": jnp.zeros((2, 3)), "b": {"c": jnp.zeros(())}}
    assert nets.num_params(tree) == 7
    assert nets.num_params(jax.eval_shape(lambda: tree)) == 7
