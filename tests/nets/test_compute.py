"""How picture nets are computed: memory, dtypes and attention, none of which changes the net."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dfx import nets
from dfx.errors import PersonError
from dfx.nets.compute import REMAT, as_dtype, attend

SHAPE = (8, 8, 1)
MAKERS = {
    "unet": dict(base=8, multipliers=(1,), blocks=1, groups=2, heads=2),
    "edm_unet": dict(base=8, multipliers=(1,), blocks=1, attention_sizes=(8,), adaptive=True),
    "dit": dict(width=16, depth=1, heads=2, patch=2),
    "dit_scan": dict(width=16, depth=2, heads=2, patch=2, scan=True),
}
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("unet", "edm_unet", "dit")]


def make(name, **options):
    return nets.make(name.removesuffix("_scan"), SHAPE, **MAKERS[name], **options)


def example(net, seed=0):
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(net.init, jax.random.key(0))
    params = jax.tree.map(lambda a: np.float32(0.2 * rng.standard_normal(a.shape)), shapes)
    x = np.float32(rng.standard_normal((2, *SHAPE)))
    return params, x, np.float32([3.0, 700.0])


def loss(net, x, t):
    return lambda params: jnp.mean((net.apply(params, x, t) - 1.0) ** 2)


@pytest.mark.parametrize("name", ["dit_scan", *SLOW])
def test_gradients_do_not_depend_on_what_is_computed_again(name):
    params, x, t = example(make(name))
    known = [jax.value_and_grad(loss(make(name, remat=remat), x, t)) for remat in REMAT]
    (value, grads), *others = jax.jit(lambda p: [f(p) for f in known])(params)
    scale = max(np.abs(a).max() for a in jax.tree.leaves(grads))
    for other, other_grads in others:
        np.testing.assert_allclose(other, value, rtol=1e-5)
        for one, two in zip(*map(jax.tree.leaves, (grads, other_grads)), strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5 * scale)  # float32 rounding


@pytest.mark.parametrize("name", MAKERS)
def test_what_is_kept_shrinks_from_none_to_dots_to_block(name):
    params, x, t = example(make(name))

    def kept(remat):
        pull = jax.eval_shape(lambda p: jax.vjp(loss(make(name, remat=remat), x, t), p)[1], params)
        return nets.num_params(pull) - nets.num_params(params)

    assert kept("block") < 0.8 * kept("dots") < 0.8 * 0.8 * kept("none")


def operations(jaxpr):
    """All operations of a program, those inside others too."""
    for eqn in jaxpr.eqns:
        yield eqn
        for value in jax.tree.leaves(eqn.params, is_leaf=lambda v: hasattr(v, "eqns")):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from operations(inner)


@pytest.mark.parametrize("name", MAKERS)
def test_in_bfloat16_time_features_statistics_and_softmax_are_float32(name):
    net = make(name, dtype="bfloat16")
    params, x, t = example(net)
    program = jax.make_jaxpr(net.apply)(params, x, t).jaxpr
    kinds = {"sin": set(), "exp": set(), "rsqrt": set(), "dot_general": set(), "div": set()}
    for eqn in operations(program):
        if eqn.primitive.name in kinds:
            kinds[eqn.primitive.name].add(str(eqn.invars[0].aval.dtype))
    assert kinds["sin"] == kinds["exp"] == kinds["rsqrt"] == {"float32"}
    assert kinds["dot_general"] == {"bfloat16", "float32"}  # float32: time, and the last layer
    assert all(
        a.dtype == jnp.float32 for a in jax.tree.leaves(jax.eval_shape(net.init, jax.random.key(0)))
    )


def test_a_dtype_is_also_known_by_its_name():
    assert make("dit", dtype="bfloat16") is make("dit", dtype=jnp.bfloat16)
    assert as_dtype("net", "float32") == jnp.float32 and as_dtype("net", None) is None


def test_a_scan_over_blocks_is_the_same_net_with_stacked_parameters():
    params, x, t = example(make("dit_scan"))
    blocks = params["blocks"]
    single = {k: v for k, v in params.items() if k != "blocks"}
    single |= {f"block_{i}": jax.tree.map(lambda a, i=i: a[i], blocks) for i in range(2)}
    out, features = jax.jit(make("dit_scan").features)(params, x, t)
    expected, tokens = jax.jit(nets.dit(SHAPE, **MAKERS["dit"] | {"depth": 2}).features)(
        single, x, t
    )
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5)  # float32 rounding
    assert set(features) == set(tokens)
    for name in ("block_0", "block_1"):
        assert features[name].shape == (2, 16, 16)
        np.testing.assert_allclose(features[name], tokens[name], rtol=1e-5, atol=1e-5)


def test_attention_is_the_softmax_of_products_over_root_width():
    q, k, v = np.float32(np.random.default_rng(0).standard_normal((3, 2, 5, 3, 4)))
    logits = np.einsum("nihc,njhc->nhij", q, k) / 2
    weights = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    expected = np.einsum("nhij,njhc->nihc", weights, v)
    np.testing.assert_allclose(attend(q, k, v), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"remat": "all"}, "unknown remat of .*: 'all'.*block, dots, none"),
        ({"attention": "flash"}, "unknown attention of .*: 'flash'"),
        ({"attention": "cudnn"}, "'cudnn' needs dtype bfloat16 or float16, not None"),
        ({"dtype": "int8"}, "dtype 'int8': allowed are float32, bfloat16"),
        ({"dtype": "half-ish"}, "dtype 'half-ish': allowed"),
    ],
)
@pytest.mark.parametrize("name", ["unet", "edm_unet", "dit"])
def test_unknown_choices_are_refused(name, options, message):
    with pytest.raises(PersonError, match=message):
        make(name, **options)


@pytest.mark.skipif(jax.default_backend() == "gpu", reason="there is a GPU")
def test_cudnn_is_refused_without_a_gpu():
    q = jnp.zeros((1, 4, 1, 8), jnp.bfloat16)
    with pytest.raises(PersonError, match="needs a GPU: this is 'cpu'"):
        attend(q, q, q, "cudnn")
