"""Counts of FLOP against formulas; rates against the numbers that were put in."""

import resource
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from dfx import train
from dfx.errors import PersonError
from dfx.train import cost

N, K, M = 32, 48, 64


def layer(w, x):
    return jnp.sum(jnp.tanh(x @ w))


W, X = jnp.ones((K, M)), jnp.ones((N, K))


def test_product_of_matrices_is_two_n_k_m_and_its_gradients_are_twice_that():
    assert train.product_flop(layer, W, X) == 2 * N * K * M
    assert train.product_flop(jax.value_and_grad(layer), W, X) == 2 * 2 * N * K * M
    assert train.product_flop(jax.value_and_grad(layer, argnums=(0, 1)), W, X) == 6 * N * K * M


def test_batched_product_counts_every_one_of_the_batch():
    products = train.product_flop(jax.vmap(layer, in_axes=(None, 0)), W, jnp.ones((5, N, K)))
    assert products == 5 * 2 * N * K * M


def test_product_over_several_axes_counts_every_one_of_them():
    a, b = jnp.ones((3, 4, 5)), jnp.ones((5, 4, 7))
    both = lambda a, b: jnp.einsum("ijk,kjl->il", a, b)  # noqa: E731
    assert train.product_flop(both, a, b) == 2 * 3 * 7 * (4 * 5)


def test_convolution_of_any_layout_and_in_groups_sees_the_inputs_of_its_group():
    """2 x 5 x 5 places of 6 outputs; 3 x 3 taps on 8 inputs, or on 4 of them."""
    x = jnp.ones((2, 8, 5, 5))
    dims = ("NCHW", "OIHW", "NCHW")
    for groups in (1, 2):
        conv = lambda w, x, g=groups: jax.lax.conv_general_dilated(  # noqa: E731
            x, w, (1, 1), "SAME", dimension_numbers=dims, feature_group_count=g
        )
        expected = 2 * (2 * 5 * 5 * 6) * (3 * 3 * 8 // groups)
        assert train.product_flop(conv, jnp.ones((6, 8 // groups, 3, 3)), x) == expected


def scanned(w, x):
    return jax.lax.scan(lambda c, _: (jnp.tanh(c @ w), None), x, None, length=7)[0].sum()


def test_loop_counts_as_often_as_it_runs():
    square = jnp.ones((N, N))
    once = 2 * N**3
    assert train.product_flop(scanned, square, square) == 7 * once
    branches = lambda w: jax.lax.cond(w.sum() > 0, lambda w: w @ w @ w, lambda w: w @ w, w)  # noqa: E731
    assert train.product_flop(branches, square) == 2 * once
    again = jax.grad(lambda w: jnp.sum(jax.checkpoint(lambda w: jnp.sin(w @ w) @ w)(w)))
    assert train.product_flop(again, square) == 7 * once  # of these one is remat's


@pytest.mark.parametrize(("stride", "size"), [(1, 8), (2, 4)])
def test_convolution_is_two_times_outputs_times_taps_and_its_gradients_likewise(stride, size):
    def conv(w, x):
        dims = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, w, (stride, stride), "SAME", dimension_numbers=dims)

    w, x = jnp.ones((3, 3, 4, 16)), jnp.ones((2, 8, 8, 4))
    one = 2 * (2 * size * size * 16) * (3 * 3 * 4)
    assert train.product_flop(conv, w, x) == one
    both = jax.grad(lambda w, x: jnp.sum(jnp.sin(conv(w, x))), argnums=(0, 1))
    found = train.product_flop(both, w, x)
    # Taps on the zeros that pad the input's gradient count too.
    assert 3 * one <= found <= 3.6 * one


def test_count_of_the_compiler_is_the_products_and_a_little_more():
    step = train.make_step(lambda w, key, x: (layer(w, x), ()), train.optimizer(1e-3))
    state = jax.eval_shape(
        lambda key: train.init_state(W, train.optimizer(1e-3), key), jax.random.key(0)
    )
    products = train.product_flop(step, state, X)
    assert products == 4 * N * K * M
    counted = jax.jit(step).lower(state, X).compile().cost_analysis()["flops"]
    assert products < counted < 1.5 * products


def test_meter_leaves_out_the_first_chunk_and_the_time_between_chunks():
    meter = train.Meter(batch_size=16, flop=1e6, peak=4e6)
    assert meter.report() == {}
    meter.add(10, 8.0)
    assert meter.report()["images_per_s"] == pytest.approx(20.0)
    meter.add(10, 2.0, 0.5)
    meter.add(20, 8.0, 2.0)
    found = meter.report()
    assert found["images_per_s"] == pytest.approx(16 * 30 / 10.0)
    assert found["step_s"] == pytest.approx(10.0 / 30)
    assert found["waiting"] == pytest.approx(0.25)
    assert found["flop_per_s"] == pytest.approx(3e6)
    assert found["utilisation"] == pytest.approx(0.75)
    assert meter.report(last=1)["step_s"] == pytest.approx(0.4)
    assert 0.0 <= found["first_s"] < 5.0
    assert found["memory_gib"] == pytest.approx(train.memory_high_water() / 2**30, rel=0.5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "batch_size 0"),
        ({"batch_size": 1, "flop": -1.0}, "flop -1"),
        ({"batch_size": 1, "flop": float("nan")}, "flop nan"),
        ({"batch_size": 1, "peak": 1.0}, "a peak without flop"),
    ],
)
def test_meter_refuses_numbers_that_say_nothing(settings, message):
    with pytest.raises(PersonError, match=message):
        train.Meter(**settings)


@pytest.mark.parametrize(
    ("kind", "peak"),
    [
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H100 NVL", 835),
        ("NVIDIA H200", 989),
        ("TPU v4", 275),
        ("TPU v5 lite", 197),
        ("TPU v5e", 197),
        ("TPU v5p", 459),
        ("TPU v5", 459),
        ("TPU v6 lite", 918),
        ("TPU v6e", 918),
    ],
)
def test_listed_peak_is_that_of_the_device_times_their_number(monkeypatch, kind, peak):
    monkeypatch.setattr(jax, "devices", lambda: [SimpleNamespace(device_kind=kind)] * 4)
    monkeypatch.setattr(jax, "device_count", lambda: 4)
    assert train.peak_flops() == (4 * peak * 1e12, "listed")


def test_peak_of_an_unlisted_device_is_measured():
    found, how = train.peak_flops(size=128)
    assert how == "measured"
    # A core does at least a few FLOP a cycle, and no two cores do 100 TFLOP/s.
    assert 1e8 < found / jax.device_count() < 1e14


def test_measured_peak_is_two_n_cubed_over_the_shortest_time(monkeypatch):
    clock = iter([0.0, 0.5, 1.0, 1.25, 2.0, 3.0])
    monkeypatch.setattr(cost, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    assert train.matmul_flops(16, repeats=3) == 2 * 16**3 / 0.25


def test_memory_is_what_the_devices_say_or_what_the_process_had(monkeypatch):
    assert train.memory_high_water() > 2**26  # JAX alone takes more
    monkeypatch.setattr(resource, "getrusage", lambda who: SimpleNamespace(ru_maxrss=5))
    for platform, unit in (("linux", 1024), ("darwin", 1)):
        monkeypatch.setattr(sys, "platform", platform)
        assert train.memory_high_water() == 5 * unit
    says = [SimpleNamespace(memory_stats=lambda n=n: {"peak_bytes_in_use": n}) for n in (3, 7)]
    monkeypatch.setattr(jax, "local_devices", lambda: says)
    assert train.memory_high_water() == 7
