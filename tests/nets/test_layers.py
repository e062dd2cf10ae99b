"""Layers against flax's and against formulas; derivatives of the convolution of every kind."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dfx import train
from dfx.nets.convolve import convolve
from dfx.nets.layers import Conv, Dense, GroupNorm


def draw(*shapes, seed=0):
    rng = np.random.default_rng(seed)
    return [jnp.asarray(rng.standard_normal(shape)) for shape in shapes]


def plain(x, kernel, stride=1):
    """The convolution as XLA has it."""
    padding = 2 * [(len(kernel) // 2,) * 2]
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("size", "stride", "num"),  # pictures go two by two, or one by one
    [(1, 1, 3), (3, 1, 3), (3, 1, 4), (5, 1, 2), (1, 2, 2), (3, 2, 3), (5, 2, 2), (7, 2, 1)],
)
def test_all_derivatives_of_the_convolution_are_those_of_the_plain_one(size, stride, num):
    shapes = (num, 6, 7, 2), (size, size, 2, 3)
    x, kernel = draw(*shapes)
    dx, dkernel = draw(*shapes, seed=1)
    weights = draw((num, -(-6 // stride), -(-7 // stride), 3), seed=2)[0]

    def derivatives(conv):
        def value(x, kernel):
            return jnp.sum(weights * jnp.tanh(conv(x, kernel)))

        gradient = jax.grad(value, (0, 1))
        return (
            conv(x, kernel),
            gradient(x, kernel),
            jax.jvp(conv, (x, kernel), (dx, dkernel))[1],
            jax.jvp(lambda x: conv(x, kernel), (x,), (dx,))[1],
            jax.jvp(lambda k: conv(x, k), (kernel,), (dkernel,))[1],
            jax.jvp(gradient, (x, kernel), (dx, dkernel))[1],  # forward over reverse
            jax.grad(lambda k: jax.jvp(lambda x: value(x, k), (x,), (dx,))[1])(kernel),
            jax.grad(lambda k: jnp.sum(jax.grad(value)(x, k) * dx))(kernel),  # reverse twice
            jax.vmap(jax.grad(value, 1), (None, 0))(x, jnp.stack([kernel, dkernel])),
            jax.vmap(gradient, (1, -1))(jnp.stack([x, dx], 1), jnp.stack([kernel, dkernel], -1)),
            jax.vmap(jax.vmap(conv, (0, None)), (None, 0))(
                jnp.stack([x, dx]), jnp.stack([kernel, dkernel])
            ),
        )

    def strided(conv):
        return lambda x, kernel: conv(x, kernel, stride)

    found, expected = jax.jit(
        lambda: (derivatives(strided(convolve)), derivatives(strided(plain)))
    )()
    for one, two in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-9, atol=1e-9)  # rounding


def test_a_jacobian_product_in_x_computes_nothing_for_the_kernel():
    x, kernel = draw((2, 10, 10, 8), (3, 3, 8, 8))
    program = jax.make_jaxpr(lambda x, v: jax.jvp(lambda x: convolve(x, kernel), (x,), (v,)))
    assert "scan" not in str(program(x, x))
    assert "scan" in str(jax.make_jaxpr(jax.grad(lambda k: convolve(x, k).sum()))(kernel))


@pytest.mark.parametrize("stride", [1, 2])
def test_in_a_loop_xla_finds_kernels_as_its_fast_convolution_wants_them(stride):
    """Kernels with places, inputs, outputs in this order; else a product is thirty times slower."""
    (kernel,) = draw((3, 3, 4, 4))

    def gradients(x):
        value = lambda x, kernel: jnp.sum(convolve(x, kernel, stride) ** 2)  # noqa: E731
        return jax.lax.map(lambda x: jax.grad(value, (0, 1))(x, kernel), x)

    program = jax.jit(gradients).lower(jnp.ones((3, 2, 8, 8, 4))).compile().as_text()
    found = re.findall(r"window={(.*)}, dim_labels=(\S+),", program)
    assert [labels for _, labels in found] == 2 * ["b01f_01io->b01f"]
    assert not any("dilate" in window or "stride" in window for window, _ in found)


@pytest.mark.parametrize(("stride", "more"), [(1, 1), (2, 16 / 9)])
def test_its_flop_are_those_of_the_plain_one_up_to_the_zeros_of_a_stride(stride, more):
    x, kernel = draw((2, 8, 8, 4), (3, 3, 4, 5))
    ours, xlas = (
        train.product_flop(lambda *arguments, c=conv: c(*arguments, stride), x, kernel)
        for conv in (convolve, plain)
    )
    assert ours == pytest.approx(more * xlas, rel=1e-12)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (Dense(5), nn.Dense(5)),
        (Conv(5), nn.Conv(5, (3, 3))),
        (Conv(5, size=1), nn.Conv(5, (1, 1))),
        (Conv(5, stride=2), nn.Conv(5, (3, 3), 2, padding=1)),
        (GroupNorm(2), nn.GroupNorm(2, epsilon=1e-5)),
        (GroupNorm(2, silu=True), nn.Sequential([nn.GroupNorm(2, epsilon=1e-5), nn.silu])),
    ],
    ids=["dense", "conv", "conv1x1", "stride", "norm", "norm_silu"],
)
def test_layers_are_those_of_flax_on_the_same_parameters(ours, theirs):
    x = np.float32(np.random.default_rng(0).standard_normal((2, 6, 6, 4))) + 0.5
    params = jax.eval_shape(ours.init, jax.random.key(0), x)["params"]
    rng = np.random.default_rng(1)
    params = jax.tree.map(lambda a: np.float32(rng.standard_normal(a.shape)), params)

    def both(params, x):
        known = {"layers_0": params} if isinstance(theirs, nn.Sequential) else params
        return ours.apply({"params": params}, x), theirs.apply({"params": known}, x)

    one, two = jax.jit(both)(params, x)
    np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5)  # float32 rounding
    weights = jnp.sin(jnp.arange(one.size, dtype=jnp.float32)).reshape(one.shape)
    _, pull = jax.vjp(both, params, x)
    zeros = jnp.zeros_like(weights)
    grads = [
        jax.jit(pull)(weights_of_both) for weights_of_both in ((weights, zeros), (zeros, weights))
    ]
    for a, b in zip(*map(jax.tree.leaves, grads), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.usefixtures("x64")
def test_extra_scale_and_shift_act_after_the_norm():
    x, scale, shift, gain, bias = draw((2, 4, 4, 6), (2, 6), (2, 6), (6,), (6,))
    params = {"params": {"scale": gain, "bias": bias}}
    normed = GroupNorm(3).apply(params, x)
    expected = normed * (1 + scale[:, None, None]) + shift[:, None, None]
    out = GroupNorm(3).apply(params, x, (scale, shift))
    np.testing.assert_allclose(out, expected, rtol=1e-10, atol=1e-12)  # rounding


def test_norms_of_bfloat16_pictures_take_their_statistics_in_float32():
    x = 8 + np.random.default_rng(0).standard_normal((1, 32, 32, 2))
    x = jnp.asarray(x, jnp.bfloat16)
    params = {"params": {"scale": np.ones(2, np.float32), "bias": np.zeros(2, np.float32)}}
    out = GroupNorm(1, dtype=jnp.bfloat16).apply(params, x)
    wide = np.float64(np.asarray(x, np.float32))
    expected = (wide - wide.mean()) / wide.std()
    assert out.dtype == jnp.bfloat16
    # The result alone is rounded, 2^-9 of values up to 4; sums of 2048 would lose all digits.
    np.testing.assert_allclose(np.float64(out), expected, atol=2**-7)


def test_a_constant_group_becomes_its_bias():
    params = {"params": {"scale": np.ones(2, np.float32), "bias": np.float32([1, 2])}}
    out = GroupNorm(1).apply(params, jnp.full((1, 3, 3, 2), 0.1))
    np.testing.assert_allclose(out[0, 0, 0], [1, 2], atol=1e-3)
