"""The perceptrons; the weight-tied net against an independent NumPy forward pass."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dfx import nets


def norm(h, p, epsilon=1e-5):
    mean, variance = h.mean(axis=-1, keepdims=True), h.var(axis=-1, keepdims=True)
    return (h - mean) / np.sqrt(variance + epsilon) * p["scale"] + p["bias"]


def act(h):
    return np.where(h > 0, h, 0.02 * h)


def numpy_forward(params, x, t, layers):
    """The net of the paper, line by line; `layers` holds the parameters of each layer applied."""
    half = params["time"]["kernel"].shape[0] // 2
    angles = t[:, None] * np.exp(-np.log(10000) / (half - 1) * np.arange(half))
    features = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    features = act(features @ params["time"]["kernel"] + params["time"]["bias"])
    h = x @ params["inputs"]["kernel"]
    for p in layers:
        inner = act(norm(h, p["norm1"])) @ p["linear1"]["kernel"]
        inner = inner + features @ p["time"]["kernel"] + p["time"]["bias"]
        h = act(norm(inner, p["norm2"])) @ p["linear2"]["kernel"] + h
    return norm(h, params["norm"]) @ params["outputs"]["kernel"] + params["outputs"]["bias"]


def any_params(net, scale=0.2):
    """Random float64 parameters, norms' scales and biases included."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(net.init, jax.random.key(0))
    return jax.tree.map(lambda a: scale * rng.standard_normal(a.shape), shapes)


def forward(net, params, x, t):
    return jax.jit(net.apply)(params, jnp.asarray(x), jnp.asarray(t))


def inputs(dim, num=7):
    rng = np.random.default_rng(1)
    return rng.standard_normal((num, dim)) * 2, np.array([0, 1, 5, 50, 300, 998, 999.0])[:num]


@pytest.mark.parametrize(("dim", "count"), [(1, 66_817), (2, 67_074)])
def test_tied_net_has_the_papers_number_of_parameters(dim, count):
    params = jax.eval_shape(nets.weight_tied_mlp(dim).init, jax.random.key(0))
    assert nets.num_params(params) == count  # 128 more into and 129 more out of each dimension


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("dim", [1, 2])
def test_tied_net_is_the_papers_forward_pass(dim):
    net = nets.weight_tied_mlp(dim)
    params = any_params(net)
    x, t = inputs(dim)
    expected = numpy_forward(params, x, t, 3 * [params["layer"]])
    # Rounding of float64; the norms' fast variance loses some digits of it.
    np.testing.assert_allclose(forward(net, params, x, t), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.usefixtures("x64")
def test_untied_net_is_the_same_pass_with_its_own_weights_in_each_layer():
    net = nets.weight_tied_mlp(2, width=16, shared=False)
    params = any_params(net)
    x, t = inputs(2)
    expected = numpy_forward(params, x, t, [params[f"layer_{i}"] for i in range(3)])
    np.testing.assert_allclose(forward(net, params, x, t), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.usefixtures("x64")
def test_gradient_of_the_shared_weights_is_the_sum_over_untied_copies():
    tied, untied = (nets.weight_tied_mlp(1, width=16, shared=s) for s in (True, False))
    params = any_params(tied)
    copies = {k: v for k, v in params.items() if k != "layer"}
    copies |= {f"layer_{i}": params["layer"] for i in range(3)}
    x, t = inputs(1)

    def gradient(net, params):
        return jax.jit(jax.grad(lambda p: jnp.sum(net.apply(p, jnp.asarray(x), t) ** 2)))(params)

    shared, apart = gradient(tied, params), gradient(untied, copies)
    total = jax.tree.map(lambda *g: sum(g), *(apart[f"layer_{i}"] for i in range(3)))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-8), shared["layer"], total
    )


def test_tied_net_starts_with_xavier_weights_zero_biases_and_an_output_that_is_not_zero():
    net = nets.weight_tied_mlp(1)
    params = net.init(jax.random.key(0))
    bound = np.sqrt(6 / (128 + 128))
    for name in ("linear1", "linear2", "time"):
        kernel = np.asarray(params["layer"][name]["kernel"])
        assert np.abs(kernel).max() <= bound
        # Uniform on [-bound, bound]: variance bound^2 / 3, its standard error 2/sqrt(5) / 128.
        assert kernel.var() == pytest.approx(bound**2 / 3, rel=4 * 0.9 / 128)
    assert np.abs(params["outputs"]["kernel"]).max() <= np.sqrt(6 / (128 + 1))
    assert not np.any(params["time"]["bias"]) and not np.any(params["outputs"]["bias"])
    x, t = inputs(1)
    assert np.std(forward(net, params, np.float32(x), np.float32(t))) > 0.1


def test_first_norm_of_the_tied_net_sees_only_the_sign_of_a_scalar():
    # Without layers what remains is norm, linear of the direction of x: the paper's pitfall P5.
    net = nets.weight_tied_mlp(1, depth=0)
    params = net.init(jax.random.key(0))
    out = forward(net, params, [[1.0], [3.0], [-1.0], [-3.0]], np.zeros(4, np.float32))
    np.testing.assert_allclose(out[0], out[1], rtol=1e-2)  # the norm's epsilon against x^2 / 64
    np.testing.assert_allclose(out[0], -out[2], rtol=1e-5)


@pytest.mark.usefixtures("x64")
def test_mlp_is_silu_layers_on_x_and_t_side_by_side():
    net = nets.mlp(2, width=8, depth=2)
    params = any_params(net)
    x, t = inputs(2)
    h = np.concatenate([x, t[:, None] / 1000], axis=1)
    for i in range(2):
        h = h @ params[f"hidden_{i}"]["kernel"] + params[f"hidden_{i}"]["bias"]
        h = h / (1 + np.exp(-h))
    expected = h @ params["outputs"]["kernel"] + params["outputs"]["bias"]
    np.testing.assert_allclose(forward(net, params, x, t / 1000), expected, rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_residual_mlp_is_its_forward_pass_with_time_and_class_in_every_branch():
    """h + W2 silu(W1 norm(h) + W silu(time + class)), with 3 of 3 classes for none."""
    net = nets.residual_mlp(2, width=8, depth=2, num_classes=3)
    silu = lambda h: h / (1 + np.exp(-h))  # noqa: E731
    params, (x, t), cond = any_params(net, 0.6), inputs(2), np.arange(7) % 4
    linear = lambda name, h, p=params: h @ p[name]["kernel"] + p[name]["bias"]  # noqa: E731
    angles = t[:, None] * 10000.0 ** (-np.arange(4) / 3)
    features = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    features = linear("outputs", silu(linear("inputs", features, params["time"])), params["time"])
    features = silu(features + params["classes"]["table"]["embedding"][cond])
    h = linear("inputs", x)
    for i in range(2):
        inner = linear(f"linear1_{i}", norm(h, params[f"norm_{i}"], 1e-6))
        h = h + linear(f"linear2_{i}", silu(inner + linear(f"time_{i}", features)))
    expected = linear("outputs", norm(h, params["norm"], 1e-6))
    out = jax.jit(net.apply)(params, jnp.asarray(x), jnp.asarray(t), jnp.asarray(cond))
    np.testing.assert_allclose(out, expected, rtol=1e-10, atol=1e-10)
