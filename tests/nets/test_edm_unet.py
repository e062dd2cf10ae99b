"""The U-Nets of EDM: the forward pass written out, what is inside, dropout, sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dfx import nets
from dfx.errors import PersonError
from dfx.nets.edm_blocks import Design, EdmBlock
from dfx.nets.embedding import fourier

ADM = dict(adaptive=True, rescale=False, project=False, attention_up="every", epsilon=1e-5)
NCSN = dict(resample="fir", time="fourier", residual_input=True)


def silu(h):
    return h / (1 + np.exp(-h))


def linear(p, h):
    kernel = p["kernel"]  # of a picture of one pixel a convolution sees the middle of its kernel
    middle = kernel[kernel.shape[0] // 2, kernel.shape[1] // 2] if kernel.ndim == 4 else kernel
    return h @ middle + p["bias"]


def norm(p, h, epsilon):
    """Groups of four channels."""
    parts = h.reshape(len(h), -1, 4)
    variance = parts.var(-1, keepdims=True)
    parts = (parts - parts.mean(-1, keepdims=True)) / np.sqrt(variance + epsilon)
    return parts.reshape(h.shape) * p["scale"] + p["bias"]


def block(p, h, features, options):
    """One residual block on pictures of one pixel, whose attention sees its own value alone."""
    epsilon, factor = options["epsilon"], np.sqrt(0.5) if options["rescale"] else 1.0
    inner = linear(p["conv1"], silu(norm(p["norm1"], h, epsilon)))
    change = linear(p["time"], features)
    if options["adaptive"]:
        scale, shift = np.split(change, 2, axis=-1)
        inner = norm(p["norm2"], inner, epsilon) * (1 + scale) + shift
    else:
        inner = norm(p["norm2"], inner + change, epsilon)
    h = factor * ((linear(p["skip"], h) if "skip" in p else h) + linear(p["conv2"], silu(inner)))
    if "attention" not in p:
        return h
    value = np.split(linear(p["qkv"], norm(p["norm3"], h, epsilon)), 3, axis=-1)[2]
    return factor * (h + linear(p["attention"], value))


def numpy_forward(params, x, features, options):
    """The net of one level and one block on pictures of one pixel, (n, channels)."""
    time = params["time"]
    features = silu(linear(time["outputs"], silu(linear(time["inputs"], features))))
    kept = [linear(params["inputs"], x)]
    kept.append(block(params["down_0_0"], kept[-1], features, options))
    h = kept[-1]
    for name in ("middle_0", "middle_1"):
        h = block(params[name], h, features, options)
    for name in ("up_0_0", "up_0_1"):
        h = block(params[name], np.concatenate([h, kept.pop()], -1), features, options)
    return linear(params["outputs"], silu(norm(params["norm"], h, options["epsilon"])))


def any_params(net, scale=0.4, dtype=np.float32):
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(net.init, jax.random.key(0))
    return jax.tree.map(lambda a: dtype(scale * rng.standard_normal(a.shape)), shapes)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("kind", [dict(), ADM, dict(time="fourier")], ids=["ddpmpp", "adm", "ncsn"])
def test_on_one_pixel_it_is_the_forward_pass_written_out(kind):
    sizes = dict(base=8, multipliers=(2,), blocks=1, attention_sizes=(1,))
    net = nets.edm_unet((1, 1, 3), **sizes, **kind)
    params = any_params(net, 0.5, np.float64)
    assert ("attention" in params["up_0_0"]) == ("attention_up" in kind)
    assert {"attention"} <= params["down_0_0"].keys() & params["up_0_1"].keys()
    x, t = np.random.default_rng(1).standard_normal((4, 3)), np.array([0.0, 0.3, 1.0, 700.0])
    angles = t[:, None] * 10000.0 ** (-np.arange(4) / 3)
    features = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    if kind.get("time") == "fourier":
        features = np.asarray(fourier(jnp.asarray(t * np.log(80 / 0.002) / 4000), 16))
    out = jax.jit(net.apply)(params, jnp.asarray(x[:, None, None, :]), jnp.asarray(t))[:, 0, 0]
    options = dict(adaptive=False, rescale=True, epsilon=1e-6) | kind
    expected = numpy_forward(params, x, features, options)
    np.testing.assert_allclose(out, expected, rtol=1e-7, atol=1e-7)  # norms amplify rounding


@pytest.fixture(scope="module", params=[ADM, NCSN], ids=["adm", "ncsn"])
def two_levels(request):
    """A net of two levels, its functions, any parameters, pictures and times."""
    sizes = dict(base=4, multipliers=(1, 2), blocks=1, attention_sizes=())
    net = nets.edm_unet((8, 8, 2), **sizes, **request.param)
    x = np.float32(np.random.default_rng(0).standard_normal((2, 8, 8, 2)))
    return jax.jit(net.features), any_params(net), x, np.float32([0.1, 2.0])


def test_transposing_the_picture_and_every_kernel_transposes_the_output(two_levels):
    features, params, x, t = two_levels
    turned = jax.tree.map(lambda a: a.swapaxes(0, 1) if a.ndim == 4 else a, params)
    out, _ = features(params, x, t)
    mirrored = np.swapaxes(features(turned, np.swapaxes(x, 1, 2), t)[0], 1, 2)
    np.testing.assert_allclose(mirrored, out, rtol=1e-3, atol=1e-3)  # float32 sums of some 100


def test_features_are_the_pictures_after_each_block_by_level_and_number(two_levels):
    features, params, x, t = two_levels
    _, found = features(params, x, t)
    top, low = (2, 8, 8, 4), (2, 4, 4, 8)
    shapes = {
        **dict.fromkeys(("inputs", "down_0_0", "up_0_0", "up_0_1"), top),
        **dict.fromkeys(("down_1_0", "middle_0", "middle_1", "up_1_0", "up_1_1"), low),
        "down_1": (2, 4, 4, 4),
        "up_1": (2, 8, 8, 8),
        "outputs": x.shape,
    }
    assert {name: found[name].shape for name in shapes} == shapes
    # The picture moved in one sample alone moves all that follows, there alone.
    other = x.copy()
    other[0, 0, 0] += 1
    _, moved = features(params, other, t)
    for name in shapes:
        assert np.abs(moved[name][0] - found[name][0]).max() > 0
        np.testing.assert_allclose(moved[name][1], found[name][1], rtol=1e-4, atol=1e-4)


def test_features_come_with_the_output_of_apply():
    net = nets.edm_unet((4, 4, 1), base=4, multipliers=(1,), blocks=1, attention_sizes=())
    params, x = any_params(net), np.ones((2, 4, 4, 1), np.float32)
    t = np.float32([0.1, 2.0])
    out, (same, _) = jax.jit(lambda p: (net.apply(p, x, t), net.features(p, x, t)))(params)
    np.testing.assert_allclose(out, same, rtol=1e-5, atol=1e-6)


def test_dropout_acts_with_a_key_alone():
    sizes = dict(base=4, multipliers=(1,), blocks=1, attention_sizes=())
    net, sure = (nets.edm_unet((4, 4, 1), **sizes, dropout=rate) for rate in (0.5, 0.0))
    assert net.dropout == 0.5 and sure.dropout == 0.0
    params, x, t = any_params(net), np.ones((1, 4, 4, 1), np.float32), np.float32([0.5])
    one, two = (jax.random.key(seed) for seed in (0, 1))
    apply = jax.jit(lambda key: net.apply(params, x, t, key=key))
    np.testing.assert_array_equal(apply(one), apply(one))
    assert np.abs(apply(one) - apply(two)).max() > 1e-3
    known, without = jax.jit(lambda p: (net.apply(p, x, t), sure.apply(p, x, t)))(params)
    np.testing.assert_allclose(known, without, rtol=1e-5, atol=1e-6)
    with pytest.raises(PersonError, match="has no dropout: it takes no key"):
        sure.apply(params, x, t, key=one)


def test_a_block_with_dropout_is_on_average_the_block_without():
    # Its last map is linear, and what is dropped is made up for by the rest.
    design = Design(True, True, "box", True, 0, 1e-5, 0.25, None, "xla")
    whole, dropping = EdmBlock(4, design), EdmBlock(4, design, drops=True)
    h, features = np.random.default_rng(0).standard_normal((2, 4)).astype(np.float32)
    h, features = h.reshape(1, 1, 1, 4), features[None]
    shapes = jax.eval_shape(whole.init, jax.random.key(0), h, features)
    rng = np.random.default_rng(1)
    params = jax.tree.map(lambda a: np.float32(rng.standard_normal(a.shape)), shapes)
    keys = jax.random.split(jax.random.key(2), 10_000)
    draw = jax.vmap(lambda key: dropping.apply(params, h, features, rngs={"dropout": key}))
    drawn = np.asarray(jax.jit(draw)(keys)).reshape(len(keys), 4)
    error = drawn.std(axis=0) / np.sqrt(len(keys))
    off = drawn.mean(axis=0) - np.asarray(whole.apply(params, h, features)).reshape(4)
    assert drawn.std(axis=0).min() > 0.05
    assert np.abs(off / error).max() < 3.5  # of four normal numbers, at p = 0.002


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shape": (30, 30, 3)}, r"edm_unet: shape \(30, 30, 3\).*multiples of 4"),
        ({"attention_sizes": (10,)}, r"attention_sizes \(10,\): .* heights \[32, 16, 8\]"),
        ({"head_width": 48}, "width 256 must be a multiple of head 48"),
        ({"base": 6}, "base 6 must be a multiple of 4"),
        ({"dropout": 1.0}, r"dropout 1.0 must be in \[0, 1\)"),
        ({"resample": "cubic"}, "unknown resample of edm_unet: 'cubic'.*box, fir"),
        ({"time": "sin"}, "unknown time of edm_unet"),
        ({"attention_up": "all"}, "unknown attention_up of edm_unet"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(options, message):
    with pytest.raises(PersonError, match=message):
        nets.edm_unet(**({"shape": (32, 32, 3)} | options))
