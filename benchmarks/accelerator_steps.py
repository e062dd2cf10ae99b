"""Training steps on one accelerator: how fast they are, and which part of them takes how long.

Part of `benchmarks.accelerator`. A case is a step of a config of the study `images` with some of it
changed, on one device; data are random numbers there. Utilisation is model FLOP (products alone,
without what remat computes again) a second over the peak. A case that does not fit in memory says
so.
"""

from __future__ import annotations

import importlib
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.timing import report
from dfx import train
from dfx.nets import presets
from dfx.nets.compute import attend
from dfx.runs.config import from_plain
from experiments.images import training
from experiments.lower import stand_in

STEPS = 20  # a measurement; three of them, of which the best counts
SMALL = {"name": "dit", "patch": 8, "width": 32, "depth": 2, "heads": 2, "dtype": "bfloat16"}
SMALL_UNET = {"name": "edm_unet", "base": 16, "multipliers": (1, 2), "blocks": 1}
#: Of the DiT, at its first batch.
VARIANTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("cudnn attention", {"attention": "cudnn"}),
    ("remat dots", {"remat": "dots"}),
    ("remat block", {"remat": "block"}),
    ("blocks unrolled", {"scan": False}),
    ("float32", {"dtype": "float32"}),
)


def dit(smoke: bool) -> None:
    """Report DiT-B/2 on latents, 256 tokens, batch 256, bfloat16, its variants and its parts."""
    config = load("imagenet256_sit_b", net=SMALL if smoke else {}, batch=8 if smoke else 256)
    batches = (8,) if smoke else (256, 128, 512)
    peak = report_peak(smoke)
    for batch in batches:
        report_step("dit", f"batch {batch}", changed(config, batch=batch), peak, smoke)
    for name, net in () if smoke else VARIANTS:
        if "cudnn" not in name or jax.default_backend() == "gpu":
            report_step("dit", name, changed(config, net=net), peak, smoke)
    report_parts(config, peak, smoke)


def unet(smoke: bool) -> None:
    """Report EDM's DDPM++ on CIFAR-10, bfloat16."""
    config = load("cifar10_edm", net=SMALL_UNET if smoke else {}, batch=8 if smoke else 256)
    peak = report_peak(smoke)
    for batch in (8,) if smoke else (256, 128, 512):
        report_step("unet", f"batch {batch}", changed(config, batch=batch), peak, smoke)
    for name, net in () if smoke else (("remat dots", {"remat": "dots"}),):
        report_step("unet", name, changed(config, net=net), peak, smoke)


def load(size: str, net: dict[str, Any], batch: int) -> Any:
    """Return the config of a size of `images`; `net`, if not empty, takes its net's place."""
    config = importlib.import_module("configs.images").get_config(size)
    if net:
        config.net = type(config.net)(net)
    config.train.batch_size = batch
    return config


def changed(config: Any, net: dict[str, Any] | None = None, batch: int | None = None) -> Any:
    """Return a config with options of the net, or the batch, changed."""
    copy = config.copy_and_resolve_references()
    copy.net = type(copy.net)(dict(copy.net) | (net or {}))
    copy.train.batch_size = batch or config.train.batch_size
    return from_plain(copy)


def report_peak(smoke: bool) -> float:
    """Report the listed peak of one device and what a large product reaches; return the first, in
    FLOP/s."""
    size = 256 if smoke else 8192
    total, origin = train.peak_flops(size)
    peak, reached = total / jax.device_count(), train.matmul_flops(size, jnp.bfloat16)
    device = jax.devices()[0].device_kind
    report("peak", device, peak_tflops=peak / 1e12, origin=origin, product_tflops=reached / 1e12)
    return peak


def report_step(part: str, case: str, config: Any, peak: float, smoke: bool) -> None:
    """Report time and utilisation of one step."""
    batch_size = config.train.batch_size
    try:
        parts = training.make_parts(config, stand_in(config))
        state, batch = draw(parts)
        step = jax.jit(parts.step, donate_argnums=0)
        compiled, first = compile_timed(step, state, batch)
        held = [state]

        def once() -> Any:
            held[0], metrics = compiled(held[0], batch)
            return metrics["loss"]

        seconds = best_time(once, 2 if smoke else STEPS)
        flop = training.model_flop(config, parts)
    except Exception as error:  # a case that cannot run must not hide those that can
        report(part, case, failed=" ".join(str(error).split())[:200])
        return
    report(
        part, case, step_ms=seconds * 1e3, images_per_s=batch_size / seconds,
        tflop=flop / 1e12, utilisation=flop / seconds / peak, compile_s=first,
        memory_gib=memory(compiled),
    )  # fmt: skip


def report_parts(config: Any, peak: float, smoke: bool) -> None:
    """Report what a step is made of: loss, gradient, update; and blocks' parts on their own."""
    config = changed(config)
    parts = training.make_parts(config, stand_in(config))
    state, batch = draw(parts)
    loss, key = parts.recipe.loss(parts.net), jax.random.key(1)
    x0 = jax.random.normal(key, (config.train.batch_size, *parts.shape))
    inputs = (x0, batch[1]) if parts.num_classes else (x0,)
    optimizer = training.make_optimizer(config)
    average = train.ema.several(training.make_averages(config))

    def update(state, grads):
        step = jax.tree.map(jnp.add, state.params, grads)
        moved, opt_state = optimizer.update(grads, state.opt_state, state.params)
        return moved, opt_state, average.update(state.ema, step, state.step + 1)

    whole = jax.value_and_grad(lambda p: loss(p, key, *inputs)[0])
    cases: list[tuple[str, int, tuple[Callable, tuple]]] = [
        ("loss alone", 1, (lambda p: loss(p, key, *inputs)[0], (state.params,))),
        ("loss and gradient", 1, (whole, (state.params,))),
        ("optimizer and averages", 1, (update, (state, state.params))),
        *block_parts(config),
    ]
    for name, times, (function, arguments) in cases:
        compiled, _ = compile_timed(jax.jit(function), *arguments)
        seconds = times * best_time(lambda: compiled(*arguments), 2 if smoke else STEPS)  # noqa: B023
        flop = times * train.product_flop(function, *arguments)
        share = {"utilisation": flop / seconds / peak} if flop else {}
        report("parts", name, step_ms=seconds * 1e3, **share)


def block_parts(config: Any) -> Iterator[tuple[str, int, tuple[Callable, tuple]]]:
    """Yield parts of a block, forward and backward, and how many blocks there are."""
    net = {**presets.dit_b.keywords, **config.net}
    n, width, heads, depth = config.train.batch_size, net["width"], net["heads"], net["depth"]
    tokens = (32 // net["patch"]) ** 2
    keys = jax.random.split(jax.random.key(0), 6)
    half = jnp.bfloat16

    def both_ways(function, *arguments):
        return jax.value_and_grad(function, argnums=range(len(arguments))), arguments

    def square(h):  # its gradient is not constant, or the compiler would see through it
        return jnp.mean(jnp.square(h.astype(jnp.float32)))

    shape = (n, tokens, heads, width // heads)
    q, k, v = (jax.random.normal(key, shape, half) for key in keys[:3])
    yield "attention of all blocks", depth, both_ways(lambda *qkv: square(attend(*qkv)), q, k, v)

    h = jax.random.normal(keys[3], (n * tokens, width), half)
    sizes = ((width, 3 * width), (width, width), (width, 4 * width), (4 * width, width))
    weights = [jax.random.normal(keys[4], size, half) / math.sqrt(size[0]) for size in sizes]

    def products(h, qkv, out, up, down):
        return square(h @ qkv) + square(h @ out) + square((h @ up) @ down)

    yield "products of all blocks", depth, both_ways(products, h, *weights)

    def norm(h):
        wide = h.astype(jnp.float32)
        wide = (wide - wide.mean(-1, keepdims=True)) * jax.lax.rsqrt(
            wide.var(-1, keepdims=True) + 1
        )
        return square(h + (wide * 1.1 + 0.1).astype(half))

    yield "a norm in all blocks", depth, both_ways(norm, h)


def draw(parts: training.Parts) -> tuple[train.State, tuple]:
    """Return a first state and a random batch, on the device."""
    state = jax.jit(parts.make_state)(jax.random.key(0))
    rng = np.random.default_rng(0)
    rows = []
    for leaf in parts.batch:
        whole = np.issubdtype(leaf.dtype, np.integer)
        high = 256 if leaf.dtype == np.uint8 else max(parts.num_classes, 1)
        drawn = rng.integers(0, high, leaf.shape) if whole else rng.random(leaf.shape)
        rows.append(jnp.asarray(drawn.astype(leaf.dtype)))
    return state, tuple(rows)


def compile_timed(function: Any, *arguments: Any) -> tuple[Any, float]:
    """Return a compiled function, and the seconds that it took."""
    begin = time.perf_counter()
    return function.lower(*arguments).compile(), time.perf_counter() - begin


def best_time(call: Callable[[], Any], steps: int) -> float:
    """Return the seconds a call takes, the best of three rows of `steps` calls."""
    jax.block_until_ready([call() for _ in range(2)])
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        jax.block_until_ready([call() for _ in range(steps)])
        times.append((time.perf_counter() - begin) / steps)
    return min(times)


def memory(compiled: Any) -> float | None:
    """Return the GiB that a compiled function needs at once, where XLA says."""
    found = compiled.memory_analysis()
    if found is None:
        return None
    return (found.argument_size_in_bytes + found.temp_size_in_bytes) / 2**30
