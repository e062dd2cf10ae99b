"""Input alone: pictures a second that reach the device ready for the net, with no net behind.

Part of `benchmarks.accelerator`: the batches of `images:cifar10_small` by both ways in, with all
that happens to them on the device (numbers, mirrored pictures). The rate a training needs is that
of the parts `unet` and `train`.
"""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.accelerator_steps import load
from benchmarks.timing import report
from dfx import data
from experiments.images import data as images_data
from experiments.images.trainer import make_batches

KEY = jax.random.key(0)


def measure(path: str, smoke: bool) -> None:
    """Report both ways in; random pictures take the place of CIFAR-10 where it is not given."""
    size = "digits_smoke" if smoke else "cifar10_small"
    config = load(size, net={}, batch=64 if smoke else 512)
    config.data.path = path
    if smoke or path:
        records = images_data.open_split(config, "train")
    else:
        rng = np.random.default_rng(0)
        pictures = rng.integers(0, 256, (50_000, 32, 32, 3), np.uint8)
        records = data.HostArrays((pictures, np.arange(50_000) % 10))
    steps = 20 if smoke else 500
    for name, call in (
        ("from memory", from_memory(config, records, steps)),
        ("from the host", from_host(config, records, steps)),
    ):
        call()
        times = []
        for _ in range(3):
            begin = time.perf_counter()
            jax.block_until_ready(call())
            times.append(time.perf_counter() - begin)
        rate = steps * config.train.batch_size / min(times)
        report("input", name, pictures_per_s=rate, step_ms=1e3 * min(times) / steps)


def from_memory(config: Any, records: data.Records, steps: int) -> Callable[[], Any]:
    """Return the call that draws and prepares batches in one compiled loop."""
    columns = tuple(map(jnp.asarray, records.take(np.arange(len(records)))))
    batch, prepare = make_batches(config.train.batch_size), images_data.make_prepare(config)

    @jax.jit
    def run(columns):
        def body(i, total):
            x0 = prepare(batch((columns, KEY), i), jax.random.fold_in(KEY, i))[0]
            return total + x0.sum()  # every pixel is used, or the compiler would leave it out

        return jax.lax.fori_loop(0, steps, body, jnp.zeros(()))

    return functools.partial(run, columns)


def from_host(config: Any, records: data.Records, steps: int) -> Callable[[], Any]:
    """Return the call that reads batches on the host, puts them on the device and prepares them."""
    feed = data.Feed(records, config.train.batch_size, KEY)
    prepare = images_data.make_prepare(config)
    use = jax.jit(lambda batch, i: prepare(batch, jax.random.fold_in(KEY, i))[0].sum())

    def run():
        batches = itertools.islice(feed.from_step(0), steps)
        return [use(jax.device_put(batch), i) for i, batch in enumerate(batches)]

    return run
