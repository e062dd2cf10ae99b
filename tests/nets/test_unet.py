"""The U-Net: its layout, its symmetry, its sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dfx import nets
from dfx.errors import PersonError


def test_defaults_have_the_parameters_of_the_reference_layout():
    params = jax.eval_shape(nets.unet((28, 28, 1)).init, jax.random.key(0))
    assert nets.num_params(params) == 1_539_329


def test_transposing_the_picture_and_every_kernel_transposes_the_output():
    # Padding and strides treat both axes alike; reflections and shifts are no symmetries here.
    net = nets.unet((8, 4, 2), base=4, multipliers=(1, 2), blocks=1, groups=2, heads=2)
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(net.init, jax.random.key(0))
    params = jax.tree.map(lambda a: np.float32(0.4 * rng.standard_normal(a.shape)), shapes)
    turned = jax.tree.map(lambda a: a.swapaxes(0, 1) if a.ndim == 4 else a, params)
    x = jnp.asarray(rng.standard_normal((2, 8, 4, 2)), jnp.float32)
    t = jnp.array([3.0, 700.0])
    out = jax.jit(net.apply)(params, x, t)
    mirrored = jax.jit(net.apply)(turned, x.swapaxes(1, 2), t).swapaxes(1, 2)
    assert out.shape == x.shape and np.std(out) > 0
    np.testing.assert_allclose(mirrored, out, rtol=1e-3, atol=1e-3)  # float32 sums of some 100


def test_a_pixel_reaches_every_pixel_through_the_lowest_level():
    net = nets.unet((8, 8, 1), base=4, multipliers=(1, 1), blocks=1, groups=2, heads=2)
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(net.init, jax.random.key(0))
    params = jax.tree.map(lambda a: np.float32(0.5 * rng.standard_normal(a.shape)), shapes)
    x = jnp.asarray(rng.standard_normal((1, 8, 8, 1)), jnp.float32)
    apply = jax.jit(net.apply)
    change = apply(params, x.at[0, 0, 0].add(1.0), jnp.zeros(1)) - apply(params, x, jnp.zeros(1))
    assert np.count_nonzero(np.abs(change) > 1e-6) == 64


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
