"""Inception: the sizes that are printed of it, its parts by hand, and the features of another
implementation with the same weights."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dfx.errors import PersonError
from dfx.nets import inception

SHAPES = inception.array_shapes()

#: Of torch-fidelity 0.4.0 (torch 2.13.0), the port of the original graph, with the weights and the
#: two pictures below: every 256th feature, and mean and standard deviation of all.
FEATURES = [
    [0.25124672, 0.0, 2.8186612, 0.0018919854, 0.48128521, 5.3045278, 2.7877827, 3.3869271],
    [0.31765234, 0.0, 2.8504446, 0.0, 0.37030518, 5.3455234, 2.6229761, 3.2646346],
]
MEANS, SPREADS = [2.9767179, 2.9873776], [4.4385509, 4.4515061]


@pytest.fixture(scope="module")
def arrays():
    """Weights of the size that keeps numbers of one size from layer to layer."""
    rng, found = np.random.default_rng(0), {}
    for name in sorted(SHAPES):
        shape = SHAPES[name]
        if name.endswith("conv.weight"):
            std = np.float32(math.sqrt(2 / math.prod(shape[1:])))
            found[name] = std * rng.standard_normal(shape, np.float32)
        elif name.endswith(("running_var", "bn.weight")):
            found[name] = rng.uniform(0.5, 1.5, shape).astype(np.float32)
        elif name == "fc.weight":
            found[name] = np.zeros(shape, np.float32)
        else:
            found[name] = rng.normal(0, 0.1, shape).astype(np.float32)
    return found


def test_its_size_is_the_published_one():
    # 94 convolutions; Keras prints 21,802,784 weights without the classifier: kernels, and of each
    # batch norm all but the scale.
    kernels = [shape for name, shape in SHAPES.items() if name.endswith("conv.weight")]
    channels = sum(shape[0] for shape in kernels)
    assert len(kernels) == 94 and len(SHAPES) == 5 * 94 + 1
    assert sum(map(math.prod, kernels)) + 3 * channels == 21_802_784


def test_a_folded_convolution_is_the_convolution_and_its_norm(arrays):
    name = "Mixed_6c.branch7x7_2"
    kernel, bias = inception.fold(arrays)[name]
    assert kernel.shape == (1, 7, 160, 160) and kernel.dtype == np.float32
    x = np.random.default_rng(1).normal(size=(7, 160))  # one window
    plain = np.einsum("wi,oiw->o", x, np.float64(arrays[f"{name}.conv.weight"][:, :, 0]))
    gamma, beta, mean, variance = (
        np.float64(arrays[f"{name}.bn.{part}"])
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    normal = (plain - mean) / np.sqrt(variance + 1e-3) * gamma + beta
    # 1120 products of kernels rounded to float32.
    np.testing.assert_allclose(np.einsum("wi,wio->o", x, kernel[0]) + bias, normal, atol=1e-5)


@pytest.mark.parametrize("size", [32, 299, 400])
def test_pictures_are_resized_from_the_corner_without_a_shift_by_half_a_pixel(size):
    rows = jnp.arange(float(size))[None, :, None, None] * jnp.ones((1, 1, size, 1))
    columns = rows.transpose(0, 2, 1, 3)
    found = inception.resize(jnp.concatenate([rows, 10 * columns], axis=-1))
    expected = np.minimum(np.arange(299) * size / 299, size - 1)
    np.testing.assert_allclose(found[0, :, 7, 0], expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found[0, 7, :, 1], 10 * expected, rtol=1e-6, atol=1e-6)


def test_means_over_places_count_no_padding():
    x = jnp.arange(6.0).reshape(1, 2, 3, 1)
    expected = [[[2.0], [2.5], [3.0]], [[2.0], [2.5], [3.0]]]
    np.testing.assert_allclose(inception._mean(x)[0], expected, rtol=1e-6)


def test_features_are_those_of_another_implementation(arrays):
    pixels = np.random.default_rng(1).integers(0, 256, (2, 20, 24, 3)).astype(np.uint8)
    found = np.asarray(jax.jit(inception.features)(inception.fold(arrays), pixels))
    assert found.shape == (2, inception.NUM_FEATURES)
    # Float32 sums of up to 4,000 products in some 20 layers one after the other; features reach 30.
    np.testing.assert_allclose(found[:, ::256], FEATURES, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found.mean(axis=1), MEANS, rtol=1e-5)
    np.testing.assert_allclose(found.std(axis=1), SPREADS, rtol=1e-5)


def test_a_grey_picture_is_one_of_three_equal_channels(arrays):
    weights = inception.fold(arrays)
    grey = np.random.default_rng(2).integers(0, 256, (1, 8, 8, 1)).astype(np.uint8)
    run = jax.jit(inception.features)
    np.testing.assert_array_equal(run(weights, grey), run(weights, grey.repeat(3, axis=-1)))


@pytest.mark.parametrize("shape", [(1, 8, 8, 2), (8, 8, 3)])
def test_what_is_no_picture_is_refused(shape):
    with pytest.raises(PersonError, match=r"allowed: \(n, h, w, 1\) or \(n, h, w, 3\)"):
        inception.features({}, np.zeros(shape, np.uint8))


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("Mixed_5b.branch1x1.conv.weight", None, "'Mixed_5b.branch1x1.conv.weight' is missing"),
        # A version with other classes, in whose features no published distance is taken.
        ("fc.weight", np.zeros((1000, 2048)), r"'fc.weight' is \(1000, 2048\), allowed: \(1008"),
        ("Conv2d_1a_3x3.bn.running_var", np.full(32, -1.0), "variances below 0"),
    ],
)
def test_other_weights_are_refused(arrays, name, array, message):
    changed = {key: value for key, value in arrays.items() if key != name}
    with pytest.raises(PersonError, match=message):
        inception.fold(changed if array is None else changed | {name: array})
