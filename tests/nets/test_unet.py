"""The U-Net: its layout, its symmetry, its sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dfx import nets
from dfx.errors import PersonError
from dfx.nets.patches import fold, unfold


def test_defaults_have_the_parameters_of_the_reference_layout():
    params = jax.eval_shape(nets.unet((28, 28, 1)).init, jax.random.key(0))
    assert nets.num_params(params) == 1_539_329


def silu(h):
    return h / (1 + np.exp(-h))


def norm(p, h, groups=2):
    parts = h.reshape(len(h), groups, -1)
    parts = (parts - parts.mean(-1, keepdims=True)) / np.sqrt(parts.var(-1, keepdims=True) + 1e-5)
    return parts.reshape(h.shape) * p["scale"] + p["bias"]


def linear(p, h):
    kernel = p["kernel"]  # of a picture of one pixel a convolution sees the middle of its kernel
    middle = kernel[kernel.shape[0] // 2, kernel.shape[1] // 2] if kernel.ndim == 4 else kernel
    return h @ middle + p["bias"]


def block(p, h, features):
    inner = linear(p["conv1"], silu(norm(p["norm1"], h))) + linear(p["time"], silu(features))
    inner = linear(p["conv2"], silu(norm(p["norm2"], inner)))
    return inner + (linear(p["skip"], h) if "skip" in p else h)


def numpy_forward(params, x, t):
    """The net of one level on pictures of one pixel, (n, channels)."""
    angles = t[:, None] * np.array([1, 1e-4])
    features = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    time = params["time"]
    features = linear(time["outputs"], silu(linear(time["inputs"], features)))
    first = linear(params["inputs"], x)
    down = block(params["down_0_0"], first, features)
    h = block(params["middle_0"], down, features)
    p = params["attention"]  # a single place attends to itself
    value = np.split(linear(p["qkv"], norm(p["norm"], h)), 3, axis=-1)[2]
    h = block(params["middle_1"], h + linear(p["outputs"], value), features)
    h = block(params["up_0_0"], np.concatenate([h, down], axis=-1), features)
    h = block(params["up_0_1"], np.concatenate([h, first], axis=-1), features)
    return linear(params["outputs"], silu(norm(params["norm"], h)))


@pytest.mark.usefixtures("x64")
def test_on_one_pixel_it_is_the_forward_pass_written_out():
    net = nets.unet((1, 1, 3), base=4, multipliers=(1,), blocks=1, groups=2, heads=2)
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(net.init, jax.random.key(0))
    params = jax.tree.map(lambda a: 0.6 * rng.standard_normal(a.shape), shapes)
    x, t = rng.standard_normal((4, 3)), np.array([0.0, 3.0, 50.0, 999.0])
    out = jax.jit(net.apply)(params, jnp.asarray(x[:, None, None, :]), jnp.asarray(t))[:, 0, 0]
    expected = numpy_forward(params, x, t)
    # Float64; group norms of two numbers amplify its rounding.
    np.testing.assert_allclose(out, expected, rtol=1e-7, atol=1e-7)


@pytest.fixture(scope="module")
def two_levels():
    """A U-Net of two levels, any parameters, two pictures and their times."""
    net = nets.unet((8, 8, 2), base=4, multipliers=(1, 2), blocks=1, groups=2, heads=2)
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(net.init, jax.random.key(0))
    params = jax.tree.map(lambda a: np.float32(0.4 * rng.standard_normal(a.shape)), shapes)
    x = np.float32(rng.standard_normal((2, 8, 8, 2)))
    return jax.jit(net.apply), params, x, np.float32([3, 700])


def test_transposing_the_picture_and_every_kernel_transposes_the_output(two_levels):
    # Padding and strides treat both axes alike; reflections and shifts are no symmetries here.
    apply, params, x, t = two_levels
    turned = jax.tree.map(lambda a: a.swapaxes(0, 1) if a.ndim == 4 else a, params)
    out = apply(params, x, t)
    mirrored = np.swapaxes(apply(turned, np.swapaxes(x, 1, 2), t), 1, 2)
    assert out.shape == x.shape and np.std(out) > 0
    np.testing.assert_allclose(mirrored, out, rtol=1e-3, atol=1e-3)  # float32 sums of some 100


def test_a_pixel_reaches_every_pixel_through_the_lowest_level(two_levels):
    apply, params, x, t = two_levels
    other = x.copy()
    other[0, 0, 0] += 1
    change = np.abs(apply(params, other, t) - apply(params, x, t)).max(axis=-1)
    assert np.count_nonzero(change[0] > 1e-6) == 64
    assert change[1].max() < 1e-4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shape": (28, 30, 1)}, r"unet: shape \(28, 30, 1\).*multiples of 4"),
        ({"shape": (28, 28)}, r"need \(height, width, channels\)"),
        ({"shape": (28, 28, 1), "base": 12}, "base 12 must be a multiple of 8 groups, 8 heads"),
    ],
)
def test_sizes_that_do_not_divide_are_refused(options, message):
    with pytest.raises(PersonError, match=message):
        nets.unet(**options)


@pytest.mark.slow
def test_patches_are_the_channels_of_a_smaller_picture():
    x = np.arange(2 * 4 * 6).reshape(1, 4, 6, 2)
    np.testing.assert_array_equal(fold(x, 2)[0, 1, 2], x[0, 2:4, 4:6].reshape(-1))
    settings = dict(base=4, multipliers=(1,), blocks=1, groups=2, heads=2)
    whole, folded = nets.unet((4, 4, 1), patch=2, **settings), nets.unet((2, 2, 4), **settings)
    params = whole.init(jax.random.key(0))
    x, t = jax.random.normal(jax.random.key(1), (2, 4, 4, 1)), jnp.array([0.0, 500.0])
    expected = unfold(folded.apply(params, fold(x, 2), t), 2)
    np.testing.assert_allclose(whole.apply(params, x, t), expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(PersonError, match="multiples of 2"):
        nets.unet((6, 5, 1), patch=2, **settings)
