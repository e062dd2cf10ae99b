"""W6, image training: a step of dfx's U-Net and DiT against plain flax and eager torch.

28 x 28 x 1, batch 64, Adam at 1e-4, float32; the velocity of the straight path is predicted. All
ways have the same parameters and the same fixed batch, and report its loss. `flop_floor` is the
time of the step's products and convolutions at the rate of a large matrix product in the same run.

    taskset -c 0 python -m benchmarks.w6_image_training        # one core: the figures of record
    python -m benchmarks.w6_image_training --nets dit --repeats 3
    python -m benchmarks.w6_image_training --keep-memory

The cases `first_step` are seconds from the first use of JAX to the end of the first step of dfx, in
a new process, without and with what an earlier one has left in the compilation cache.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import w6_plain
from benchmarks.timing import measure_in_turn, num_cpus, report
from dfx import nets, train

SHAPE, BATCH, RATE, SEED = (28, 28, 1), 64, 1e-4, 0
#: 10^9 additions and multiplications of a step's products and convolutions, by torch's counter.
GFLOP = {"unet": 104.0, "dit": 50.6}


def draw_params(net: nets.Net):
    """Return normal parameters: those of an initialisation would leave whole parts at zero."""
    rng = np.random.default_rng(SEED)
    shapes = jax.eval_shape(net.init, jax.random.key(SEED))
    return jax.tree.map(lambda a: np.float32(0.05 * rng.standard_normal(a.shape)), shapes)


def draw_batch() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return pictures, noise and times in [0, 1000]."""
    rng = np.random.default_rng(SEED + 1)
    x0, eps = rng.standard_normal((2, BATCH, *SHAPE)).astype(np.float32)
    return x0, eps, rng.uniform(0, 1000, BATCH).astype(np.float32)


def make_loss(apply: Callable) -> Callable:
    """Return (params, key, x0, eps, t) -> (mean square error of the velocity, {})."""

    def loss(params, key, x0, eps, t):
        u = t.reshape(-1, 1, 1, 1) / 1000
        output = apply(params, (1 - u) * x0 + u * eps, t)
        return jnp.mean((output - (eps - x0)) ** 2), {}

    return loss


def by_dfx(name: str) -> tuple[Callable, Callable]:
    """Return the calls of one step and of the loss, by `dfx.nets` and `dfx.train`."""
    net, batch = nets.make(name, SHAPE), jax.tree.map(jnp.asarray, draw_batch())
    loss, adam = make_loss(net.apply), train.optimizer(RATE)
    params = jax.tree.map(jnp.asarray, draw_params(net))
    state = train.init_state(params, adam, jax.random.key(SEED))
    step = jax.jit(train.make_step(loss, adam))
    return lambda: step(state, batch), lambda: float(step(state, batch)[1]["loss"])


def by_flax(name: str) -> tuple[Callable, Callable]:
    """Return the same of the plain nets, with a step as a person would write it."""
    params = jax.tree.map(jnp.asarray, draw_params(nets.make(name, SHAPE)))
    batch, adam = jax.tree.map(jnp.asarray, draw_batch()), optax.adam(RATE)
    loss = make_loss(w6_plain.APPLY[name])

    @jax.jit
    def step(params, state, *batch):
        (value, _), grads = jax.value_and_grad(loss, has_aux=True)(params, None, *batch)
        updates, state = adam.update(grads, state)
        return optax.apply_updates(params, updates), state, value

    state = adam.init(params)
    return lambda: step(params, state, *batch), lambda: float(step(params, state, *batch)[2])


def by_torch(name: str) -> tuple[Callable, Callable]:
    """Return the same of eager torch."""
    from benchmarks import w6_torch

    params = draw_params(nets.make(name, SHAPE))
    step, loss = w6_torch.trainer(name, params, draw_batch(), RATE, num_cpus())
    return step, loss


def product() -> Callable:
    """Return the call of the product that the floor is measured by, 2 x 2048^3 operations."""
    a = jnp.asarray(np.random.default_rng(SEED).standard_normal((2048, 2048)), jnp.float32)
    multiply = jax.jit(lambda a: a @ a)
    return lambda: multiply(a)


def compare(name: str, repeats: int) -> None:
    """Measure the ways of training one net in turn and report a step of each."""
    ways = {"dfx": by_dfx, "flax": by_flax}
    if importlib.util.find_spec("torch"):
        ways["torch"] = by_torch
    made = {way: make(name) for way, make in ways.items()}
    losses = {way: loss() for way, (_, loss) in made.items()}  # before torch's steps change it
    calls = {way: step for way, (step, _) in made.items()} | {"product": product()}
    times = measure_in_turn(calls, repeats)
    rate = 2 * 2.048**3 / times["product"]["cpu_s"]
    for way in ways:
        over = times[way]["cpu_s"] * rate / GFLOP[name]
        report(
            *("W6", f"{name} {way}"),
            **times[way],
            loss=losses[way],
            over_floor=over,
            cpus=num_cpus(),
        )
    report("W6", f"{name} flop_floor", cpu_floor_s=GFLOP[name] / rate, gflop_per_s=rate)


def first_step(name: str) -> None:
    """Report the time of the first step in new processes, the second with a warm cache."""
    with tempfile.TemporaryDirectory() as cache:
        for kind in ("cold", "warm"):
            command = [sys.executable, "-m", "benchmarks.w6_image_training", "--first", name]
            settings = {
                "JAX_COMPILATION_CACHE_DIR": cache,
                "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            }
            done = subprocess.run(
                command, env=os.environ | settings, check=True, capture_output=True, text=True
            )
            report("W6", f"{name}_first_step {kind}", **json.loads(done.stdout), cpus=num_cpus())


def take_first_step(name: str) -> None:
    """Print the seconds of parameters, compilation and one step, as JSON."""
    wall, cpu = time.perf_counter(), time.process_time()
    step, _ = by_dfx(name)
    jax.block_until_ready(step())
    seconds = {"first_s": time.perf_counter() - wall, "first_cpu_s": time.process_time() - cpu}
    print(json.dumps(seconds))


def main() -> None:
    """Run the workload as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nets", nargs="+", default=list(GFLOP), choices=list(GFLOP))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--keep-memory", action="store_true", help="see dfx/train/environment.py")
    parser.add_argument("--first", choices=list(GFLOP), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.keep_memory and not train.keep_freed_memory():
        parser.error("--keep-memory needs glibc")
    if args.first:
        take_first_step(args.first)
        return
    for name in args.nets:
        compare(name, args.repeats)
        first_step(name)


if __name__ == "__main__":
    main()
