"""W3, diagnostics of a score net: dfx against plain and chunked JAX and torch.func.

A perceptron (d + 1 -> 256 x 3 -> d, SiLU) is the score at t = 0.5 of 4,096 points, d = 2, 10, 50,
float32. With J its Jacobian in x, at every point

    div     tr J                                                        fields.divergence
    asym    |J - J^T|_F                                                 diagnostics.asymmetry
    fp      |d_t s - grad (div s + |s|^2 + x . s) / 2|                  diagnostics.score_residual

the last for the variance-preserving process of beta = 1.

    taskset -c 0 python -m benchmarks.w3_diagnostics      # one core: the figures of record
    python -m benchmarks.w3_diagnostics --dims 2 --repeats 3 --only plain

`plain` is the per-point formula under `vmap`, all points at once; `chunk512` and `chunk32` run it
on that many points at a time; torch by `jacrev` or `jacfwd` in chunks of 512. The largest relative
difference from the plain form in float64 stands beside each time.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.timing import measure_in_turn, num_cpus, report
from dfx import diagnostics, fields, nets
from dfx.schedules import VPLinear

POINTS, WIDTH, DEPTH, TIME, SEED = 4096, 256, 3, 0.5, 0
QUANTITIES = ("div", "asym", "fp")
SCHEDULE = VPLinear(1.0, 1.0)


def draw(dim: int) -> tuple[list, np.ndarray]:
    """Return the layers [(weights, bias), ..] and the points, float32."""
    rng = np.random.default_rng(SEED)
    sizes = [dim + 1, *[WIDTH] * DEPTH, dim]
    layers = [
        (rng.standard_normal((m, n), np.float32) * m**-0.5, np.zeros(n, np.float32))
        for m, n in itertools.pairwise(sizes)
    ]
    return layers, rng.standard_normal((POINTS, dim), np.float32)


def by_dfx(quantity: str, layers: list, x: np.ndarray) -> Callable:
    """Return the call of the library, its choice of blocks."""
    params = {f"hidden_{i}": {"kernel": w, "bias": b} for i, (w, b) in enumerate(layers[:-1])}
    params["outputs"] = dict(zip(("kernel", "bias"), layers[-1]))
    params, points = jax.device_put((params, x))
    field = fields.from_net(nets.mlp(x.shape[1], WIDTH, DEPTH), params, "score")
    if quantity == "fp":
        return lambda: jnp.linalg.norm(
            diagnostics.score_residual(SCHEDULE, field, points, TIME), axis=1
        )
    score = diagnostics.prediction_at(field, SCHEDULE.at(TIME))
    if quantity == "asym":
        return lambda: diagnostics.asymmetry(score, points).absolute
    divergence = jax.jit(fields.divergence)
    return lambda: divergence(score, points)


def score_at(layers, x, t):
    """Return the score at one point, shape (d,)."""
    h = jnp.append(x, t)
    for w, b in layers[:-1]:
        h = jax.nn.silu(h @ w + b)
    return h @ layers[-1][0] + layers[-1][1]


def at_point(quantity: str, layers, x):
    """Return the quantity at one point, as its formula says it."""
    score = lambda x: score_at(layers, x, TIME)  # noqa: E731
    if quantity == "fp":

        def bracket(x):
            s = score(x)
            return jnp.trace(jax.jacfwd(score)(x)) + s @ s + x @ s

        rate = jax.jvp(lambda t: score_at(layers, x, t), (TIME,), (1.0,))[1]
        return jnp.linalg.norm(rate - 0.5 * jax.grad(bracket)(x))
    j = jax.jacfwd(score)(x)
    return jnp.trace(j) if quantity == "div" else jnp.linalg.norm(j - j.T)


def by_plain(chunk: int, quantity: str, layers: list, x: np.ndarray) -> Callable:
    """Return the formula at `chunk` points at a time."""

    @jax.jit
    def run(layers, x):
        block = jax.vmap(functools.partial(at_point, quantity, layers))
        return jax.lax.map(block, x.reshape(-1, chunk, x.shape[1])).reshape(-1)

    layers, points = jax.device_put((layers, x))
    return lambda: run(layers, points)


def by_torch(mode: str, quantity: str, layers: list, x: np.ndarray) -> Callable:
    """Return the formula by torch.func, Jacobians by `jacrev` or `jacfwd`."""
    import torch

    torch.set_num_threads(num_cpus())
    weights = [tuple(map(torch.from_numpy, layer)) for layer in layers]
    points, differentiate = torch.from_numpy(x), getattr(torch.func, mode)

    def score(x, t):
        h = torch.cat([x, t.reshape(1)])
        for w, b in weights[:-1]:
            h = torch.nn.functional.silu(h @ w + b)
        return h @ weights[-1][0] + weights[-1][1]

    time = torch.tensor(TIME)

    def jacobian(x):
        j = differentiate(score)(x, time)
        return torch.trace(j) if quantity == "div" else torch.linalg.norm(j - j.T)

    def bracket(x):
        s = score(x, time)
        return torch.trace(differentiate(score)(x, time)) + s @ s + x @ s

    def residual(x):
        rate = torch.func.jvp(lambda t: score(x, t), (time,), (torch.ones(()),))[1]
        return torch.linalg.norm(rate - 0.5 * torch.func.grad(bracket)(x))

    mapped = torch.func.vmap(residual if quantity == "fp" else jacobian)

    def run():
        with torch.no_grad():
            return torch.cat([mapped(block) for block in points.split(512)])

    return run


def cases() -> dict[str, Callable]:
    """Return the ways by name: those whose packages are installed."""
    ways: dict[str, Callable] = {"dfx": by_dfx}
    for name, chunk in (("plain", POINTS), ("chunk512", 512), ("chunk32", 32)):
        ways[name] = functools.partial(by_plain, chunk)
    if importlib.util.find_spec("torch"):
        for mode in ("jacrev", "jacfwd"):
            ways[f"torch_{mode}"] = functools.partial(by_torch, mode)
    return ways


def exact(quantity: str, layers: list, x: np.ndarray, num: int = 64) -> np.ndarray:
    """Return the quantity at the first points, in float64."""
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), (layers, x[:num]))
        return np.asarray(jax.vmap(functools.partial(at_point, quantity, wide[0]))(wide[1]))


def compare(quantity: str, dim: int, repeats: int, only: list[str] | None) -> None:
    """Measure the ways in turn and print a line of JSON for each."""
    layers, x = draw(dim)
    found = {
        name: way(quantity, layers, x)
        for name, way in cases().items()
        if not only or name in [*only, "dfx"]
    }
    truth = exact(quantity, layers, x)
    for name, times in measure_in_turn(found, repeats).items():
        gap = np.abs(np.asarray(found[name]())[: len(truth)] - truth)
        error = float(gap.max() / np.abs(truth).max())
        report("w3", f"{quantity} d={dim} {name}", cpus=num_cpus(), max_error=error, **times)


def main(argv: list[str] | None = None) -> None:
    """Run the workload as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dims", type=int, nargs="+", default=[2, 10, 50])
    parser.add_argument("--quantities", nargs="+", default=QUANTITIES, choices=QUANTITIES)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs="+", help="names of the ways to run beside dfx")
    args = parser.parse_args(argv)
    for dim in args.dims:
        for quantity in args.quantities:
            compare(quantity, dim, args.repeats, args.only)


if __name__ == "__main__":
    main()
