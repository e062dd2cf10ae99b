"""W4, exact empirical denoiser: dfx's `Empirical` against other ways to take the same softmax mean.

E[x0 | x] for 256 queries over 60,000 uniform points of 784 entries at sigma = 3 (about 320 points
matter for each): two matrix products, 48.2 GFLOP.

    taskset -c 0 python -m benchmarks.w4_empirical      # one core: the figures of record
    python -m benchmarks.w4_empirical --points 6000 --repeats 3

`stream` is the hand-written JAX form, blocks of 1,000 points with a running maximum and norms
computed beforehand; `plain` holds all weights; `numpy` streams; `torch` streams, if installed. The
largest difference from a float64 NumPy result stands beside each time.
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.timing import measure_in_turn, num_cpus, report
from dfx.schedules import EDM
from dfx.targets import Empirical

SIGMA, DIM, QUERIES, BLOCK, SEED = 3.0, 784, 256, 1000, 0


def draw(num_points: int) -> tuple[np.ndarray, np.ndarray]:
    """Return uniform points and noisy queries, float32."""
    rng = np.random.default_rng(SEED)
    points = rng.random((num_points, DIM), np.float32)
    noise = rng.standard_normal((QUERIES, DIM), np.float32)
    return points, points[:QUERIES] + np.float32(SIGMA) * noise


def by_dfx(points: np.ndarray, queries: np.ndarray) -> Callable:
    """Return the call of the library's denoiser, jitted, the points on the device."""
    target, x = Empirical(jax.device_put(points)), jax.device_put(queries)
    level = jax.tree.map(jnp.float32, EDM().at(SIGMA))
    denoise = jax.jit(lambda target, x, level: target.denoise(x, level))
    return lambda: denoise(target, x, level)


def by_stream(points: np.ndarray, queries: np.ndarray) -> Callable:
    """Return the hand-written streaming form."""
    norms = (points.astype(np.float64) ** 2).sum(1).astype(np.float32) / 2

    @jax.jit
    def denoise(points, norms, x):
        def step(state, start):
            top, total, sums = state
            p = jax.lax.dynamic_slice_in_dim(points, start, BLOCK)
            logits = (x @ p.T - jax.lax.dynamic_slice_in_dim(norms, start, BLOCK)) / SIGMA**2
            new = jnp.maximum(top, logits.max(1))
            weights, faded = jnp.exp(logits - new[:, None]), jnp.exp(top - new)
            return (new, total * faded + weights.sum(1), sums * faded[:, None] + weights @ p), None

        zero = jnp.zeros(len(x))
        start = (zero - jnp.inf, zero, jnp.zeros_like(x))
        _, total, sums = jax.lax.scan(step, start, jnp.arange(0, len(points), BLOCK))[0]
        return sums / total[:, None]

    arrays = [jax.device_put(a) for a in (points, norms, queries)]
    return lambda: denoise(*arrays)


def by_plain(points: np.ndarray, queries: np.ndarray) -> Callable:
    """Return the form that holds the whole matrix of weights."""

    @jax.jit
    def denoise(points, x):
        logits = (x @ points.T - (points**2).sum(1) / 2) / SIGMA**2
        return jax.nn.softmax(logits, axis=1) @ points

    arrays = [jax.device_put(a) for a in (points, queries)]
    return lambda: denoise(*arrays)


def by_numpy(points: np.ndarray, queries: np.ndarray) -> Callable:
    """Return the streaming form in NumPy, in the dtype of its arguments."""
    norms = (points**2).sum(1) / 2

    def denoise():
        top = np.full(len(queries), -np.inf, points.dtype)
        total, sums = np.zeros_like(top), np.zeros_like(queries)
        for i in range(0, len(points), BLOCK):
            p = points[i : i + BLOCK]
            logits = (queries @ p.T - norms[i : i + BLOCK]) / points.dtype.type(SIGMA**2)
            new = np.maximum(top, logits.max(1))
            weights, faded = np.exp(logits - new[:, None]), np.exp(top - new)
            total, sums, top = total * faded + weights.sum(1), sums * faded[:, None], new
            sums += weights @ p
        return sums / total[:, None]

    return denoise


def by_torch(points: np.ndarray, queries: np.ndarray) -> Callable:
    """Return the streaming form in torch."""
    import torch

    torch.set_num_threads(num_cpus())
    data, x = torch.from_numpy(points), torch.from_numpy(queries)
    norms = (data**2).sum(1) / 2

    @torch.inference_mode()
    def denoise():
        top = torch.full((len(x),), -torch.inf)
        total, sums = torch.zeros(len(x)), torch.zeros_like(x)
        for p, norm in zip(data.split(BLOCK), norms.split(BLOCK)):
            logits = (x @ p.T - norm) / SIGMA**2
            new = torch.maximum(top, logits.amax(1))
            weights, faded = torch.exp(logits - new[:, None]), torch.exp(top - new)
            total, top = total * faded + weights.sum(1), new
            sums = torch.addmm(sums * faded[:, None], weights, p)
        return sums / total[:, None]

    return denoise


def cases(num_points: int = 60_000) -> dict[str, Callable]:
    """Return the ways by name, as calls without arguments."""
    ways = {"dfx": by_dfx, "stream": by_stream, "plain": by_plain, "numpy": by_numpy}
    if importlib.util.find_spec("torch"):
        ways["torch"] = by_torch
    arrays = draw(num_points)
    return {name: way(*arrays) for name, way in ways.items()}


def main(argv: list[str] | None = None) -> None:
    """Measure all ways in turn and print a line of JSON for each."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--points", type=int, default=60_000, help=f"a multiple of {BLOCK}")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args(argv)
    if args.points < BLOCK or args.points % BLOCK:
        parser.error(f"--points is {args.points}, allowed: multiples of {BLOCK}")
    ways = cases(args.points)
    exact = by_numpy(*(a.astype(np.float64) for a in draw(args.points)))()
    gflop = 4e-9 * args.points * DIM * QUERIES
    for name, times in measure_in_turn(ways, args.repeats).items():
        error = float(np.abs(np.asarray(ways[name]()) - exact).max())
        rate = gflop / times["cpu_s"]
        case = f"{args.points}x{DIM} {name}"
        report("w4", case, cpus=num_cpus(), gflop_per_cpu_s=rate, max_error=error, **times)


if __name__ == "__main__":
    main()
