"""The transformer: adaLN-zero, patches in their places, a time for each token."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dfx import nets
from dfx.errors import PersonError
from dfx.nets.patches import fold, unfold

SHAPE, PATCH, TOKENS = (8, 12, 2), 4, 6
NET = nets.dit(SHAPE, PATCH, width=8, depth=1, heads=2, expansion=2)
APPLY = jax.jit(NET.apply)


def to_patches(x, patch):
    """The patches in reading order, (n, h, w, c) -> (n, h w / patch^2, patch^2 c)."""
    grid = fold(x, patch)
    return grid.reshape(len(x), -1, grid.shape[-1])


def from_patches(tokens, patch, shape):
    n, height, width, _ = shape
    return unfold(tokens.reshape(n, height // patch, width // patch, -1), patch)


def any_params(scale=0.4):
    """Random parameters, the zeros of the initialisation included, and no learned places."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(NET.init, jax.random.key(0))
    params = jax.tree.map(lambda a: np.float32(scale * rng.standard_normal(a.shape)), shapes)
    return {**params, "position": np.zeros((TOKENS, 8), np.float32)}


def pictures(num=3):
    return jax.random.normal(jax.random.key(1), (num, *SHAPE), jnp.float32)


def test_defaults_have_the_parameters_of_the_reference_layout():
    params = jax.eval_shape(nets.dit((28, 28, 1)).init, jax.random.key(0))
    assert nets.num_params(params) == 4_174_864


def silu(h):
    return h / (1 + np.exp(-h))


def gelu(h):
    return h / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (h + 0.044715 * h**3)))


def norm(h):
    return (h - h.mean(-1, keepdims=True)) / np.sqrt(h.var(-1, keepdims=True) + 1e-6)


def linear(p, h):
    return h @ p["kernel"] + p["bias"]


def attention(q, k, v):
    logits = q @ k.swapaxes(1, 2) / np.sqrt(q.shape[-1])
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True) @ v


def numpy_forward(params, tokens, t):
    """The net on the patches, written out for two heads and one block."""
    angles = t[:, None] * np.exp(-np.log(10000) * np.arange(128) / 127)
    features = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    c = linear(params["time"]["outputs"], silu(linear(params["time"]["inputs"], features)))
    c = silu(c)[:, None, :]
    h = linear(params["inputs"], tokens) + params["position"]
    p = params["block_0"]
    shift1, scale1, gate1, shift2, scale2, gate2 = np.split(linear(p["modulation"], c), 6, -1)
    qkv = linear(p["qkv"], norm(h) * (1 + scale1) + shift1)
    q, k, v = (np.split(a, 2, axis=-1) for a in np.split(qkv, 3, axis=-1))
    heads = [attention(q[i], k[i], v[i]) for i in range(2)]
    h = h + gate1 * linear(p["attention"], np.concatenate(heads, axis=-1))
    inner = gelu(linear(p["mlp1"], norm(h) * (1 + scale2) + shift2))
    h = h + gate2 * linear(p["mlp2"], inner)
    shift, scale = np.split(linear(params["modulation"], c), 2, -1)
    return linear(params["outputs"], norm(h) * (1 + scale) + shift)


@pytest.mark.usefixtures("x64")
def test_it_is_the_adaln_zero_forward_pass():
    rng = np.random.default_rng(3)
    params = jax.tree.map(lambda a: 0.4 * rng.standard_normal(a.shape), any_params())
    tokens, t = rng.standard_normal((3, TOKENS, 32)), np.array([0.0, 40.0, 999.0])
    out = APPLY(params, from_patches(jnp.asarray(tokens), PATCH, (3, *SHAPE)), jnp.asarray(t))
    expected = numpy_forward(params, tokens, t)
    # Float64, but the softmax of the attention is computed in float32.
    np.testing.assert_allclose(to_patches(out, PATCH), expected, rtol=1e-5, atol=1e-5)


def test_it_starts_as_the_zero_function():
    params = NET.init(jax.random.key(0))
    np.testing.assert_array_equal(APPLY(params, pictures(), jnp.arange(3.0)), 0)
    assert not any(np.any(a) for a in jax.tree.leaves(params["block_0"]["modulation"]))


def test_blocks_with_zero_modulation_are_the_identity():
    params = any_params()
    blocks = {k: v for k, v in params.items() if k.startswith("block")}
    without = {k: v for k, v in params.items() if not k.startswith("block")}
    for block in blocks.values():
        block["modulation"] = jax.tree.map(np.zeros_like, block["modulation"])
    shallow = nets.dit(SHAPE, PATCH, width=8, depth=0, heads=2, expansion=2)
    out = APPLY({**without, **blocks}, pictures(), jnp.arange(3.0))
    expected = jax.jit(shallow.apply)(without, pictures(), jnp.arange(3.0))
    assert np.std(out) > 0
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5)  # float32 rounding


def test_tokens_are_the_patches_in_reading_order():
    x = np.asarray(pictures())
    tokens = np.asarray(to_patches(x, PATCH))
    assert tokens.shape == (3, TOKENS, PATCH * PATCH * 2)
    for k in range(TOKENS):
        i, j = PATCH * (k // 3), PATCH * (k % 3)
        np.testing.assert_array_equal(
            tokens[:, k], x[:, i : i + PATCH, j : j + PATCH].reshape(3, -1)
        )
    np.testing.assert_array_equal(from_patches(tokens, PATCH, x.shape), x)


def test_without_learned_places_permuting_patches_and_their_times_permutes_the_output():
    params, x = any_params(), pictures()
    t = jnp.asarray(np.linspace(0, 900, 3 * TOKENS).reshape(3, TOKENS), jnp.float32)
    order = np.array([2, 0, 5, 1, 4, 3])
    moved = from_patches(to_patches(x, PATCH)[:, order], PATCH, x.shape)
    out = to_patches(APPLY(params, x, t), PATCH)[:, order]
    # Attention sums over tokens in another order: float32 rounding.
    np.testing.assert_allclose(
        to_patches(APPLY(params, moved, t[:, order]), PATCH), out, rtol=1e-4, atol=1e-4
    )


def test_learned_places_break_that_symmetry():
    params, x = any_params(), pictures()
    params["position"] = np.float32(np.random.default_rng(2).standard_normal((TOKENS, 8)))
    order = np.array([2, 0, 5, 1, 4, 3])
    moved = from_patches(to_patches(x, PATCH)[:, order], PATCH, x.shape)
    t = jnp.zeros(3)
    out = to_patches(APPLY(params, x, t), PATCH)[:, order]
    assert np.abs(to_patches(APPLY(params, moved, t), PATCH) - out).max() > 0.1


def test_one_time_for_all_tokens_is_the_scalar_time_and_unequal_times_are_not():
    params, x = any_params(), pictures()
    t = jnp.array([10.0, 200.0, 900.0])
    scalar = APPLY(params, x, t)
    tokens = jnp.broadcast_to(t[:, None], (3, TOKENS))
    np.testing.assert_allclose(APPLY(params, x, tokens), scalar, rtol=1e-4, atol=1e-4)
    # Without attention between tokens, a token's time acts on that token alone.
    params["block_0"]["attention"] = jax.tree.map(np.zeros_like, params["block_0"]["attention"])
    moved = APPLY(params, x, tokens.at[0, 4].set(50.0)) - APPLY(params, x, tokens)
    difference = np.abs(to_patches(moved, PATCH)).max(axis=-1)
    assert difference[0, 4] > 1e-2
    difference[0, 4] = 0
    np.testing.assert_array_equal(difference, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shape": (9, 8, 1)}, r"dit: shape \(9, 8, 1\).*multiples of 4"),
        ({"shape": (8, 8)}, r"need \(height, width, channels\)"),
        ({"shape": (8, 8, 1), "width": 10, "heads": 4}, "width 10 must be a multiple of heads 4"),
    ],
)
def test_sizes_that_do_not_divide_are_refused(options, message):
    with pytest.raises(PersonError, match=message):
        nets.dit(**options)
