"""W5, distances between samples: dfx's exact W2 and Sinkhorn against POT, ott-jax and plain JAX.

Two samples of the mixture of 25 Gaussians (centres -2..2, std 0.1), n = 2,000 and 5,000, squared
Euclidean cost. `exact` is the assignment, float64, cost and all; `sinkhorn` 100 iterations at
eps = 0.1 and the value <P, C>, float32 in JAX, the cost given.

    taskset -c 0 python -m benchmarks.w5_transport      # one core: the figures of record
    python -m benchmarks.w5_transport --points 500 --repeats 3

`kernel` is the hand-written form on a kernel absorbed every 10 iterations, `log` the one on
logarithms. POT and ott run when installed: POT's `sinkhorn` on one kernel, in float64 (much of it
is subnormal in float32, which is slower), ott on logarithms. Beside each time stands the value; at
n = 2,000 also the converged one, in float64.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import warnings
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.timing import measure_in_turn, num_cpus, report
from dfx import metrics

EPS, ITERATIONS, ABSORB, SEED = 0.1, 100, 10, 0


def draw(n: int) -> list[np.ndarray]:
    """Return two samples, float32."""
    rng = np.random.default_rng(SEED)
    return [
        (rng.integers(-2, 3, (n, 2)) + 0.1 * rng.standard_normal((n, 2))).astype(np.float32)
        for _ in range(2)
    ]


def exact_cases(x: np.ndarray, y: np.ndarray) -> dict[str, Callable]:
    """Return the ways to the squared exact distance."""
    ways: dict[str, Callable] = {"dfx": lambda: metrics.wasserstein_exact(x, y) ** 2}
    if importlib.util.find_spec("ot"):
        import ot

        wide = x.astype(np.float64), y.astype(np.float64)
        ways["pot"] = lambda: ot.emd2([], [], ot.dist(*wide), numItermax=10_000_000)
    return ways


def sinkhorn_cases(x: np.ndarray, y: np.ndarray) -> dict[str, Callable]:
    """Return the ways to the value of the entropic plan."""
    cost = jax.block_until_ready(metrics.squared_distances(x, y))
    ways: dict[str, Callable] = {
        "dfx": lambda: metrics.sinkhorn(cost, EPS, num_iterations=ITERATIONS).value,
        "kernel": functools.partial(on_kernel, cost, EPS),
        "log": functools.partial(on_logarithms, cost, EPS),
    }
    if importlib.util.find_spec("ot"):
        ways["pot"] = by_pot(np.asarray(cost, np.float64))
    if all(map(importlib.util.find_spec, ("ott", "jaxopt"))):
        ways["ott"] = by_ott(cost)
    return ways


@jax.jit
def on_kernel(cost, eps):
    """Return the value by the scalings of a kernel, absorbed every 10 iterations."""
    a, b = (jnp.full(k, 1 / k) for k in cost.shape)

    def absorb(_, potentials):
        f, g = potentials
        kernel = jnp.exp((f[:, None] + g - cost) / eps)

        def iterate(_, scalings):
            u = a / (kernel @ scalings[1])
            return u, b / (u @ kernel)

        u, v = jax.lax.fori_loop(0, ABSORB, iterate, (jnp.ones_like(a), jnp.ones_like(b)))
        return f + eps * jnp.log(u), g + eps * jnp.log(v)

    start = jnp.zeros_like(a), jnp.zeros_like(b)
    f, g = jax.lax.fori_loop(0, ITERATIONS // ABSORB, absorb, start)
    return jnp.sum(jnp.exp((f[:, None] + g - cost) / eps) * cost)


@jax.jit
def on_logarithms(cost, eps):
    """Return the value by the iteration on logarithms."""
    log_a, log_b = (-jnp.log(k) for k in cost.shape)

    def iterate(_, potentials):
        g = potentials[1]
        f = eps * (log_a - jax.nn.logsumexp((g - cost) / eps, axis=1))
        return f, eps * (log_b - jax.nn.logsumexp((f[:, None] - cost) / eps, axis=0))

    start = tuple(jnp.zeros(k) for k in cost.shape)
    f, g = jax.lax.fori_loop(0, ITERATIONS, iterate, start)
    return jnp.sum(jnp.exp((f[:, None] + g - cost) / eps) * cost)


def by_pot(cost: np.ndarray) -> Callable:
    """Return the value by POT; it is stopped by the number of iterations alone."""
    import ot

    def run():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it has not converged
            plan = ot.sinkhorn([], [], cost, EPS, numItermax=ITERATIONS, stopThr=0.0)
        return np.sum(plan * cost)

    return run


def by_ott(cost) -> Callable:
    """Return the value by ott-jax."""
    from ott.geometry import geometry
    from ott.problems.linear import linear_problem
    from ott.solvers.linear import sinkhorn

    solver = sinkhorn.Sinkhorn(
        threshold=0.0, min_iterations=ITERATIONS, max_iterations=ITERATIONS, lse_mode=True
    )

    @jax.jit
    def run(cost):
        found = solver(linear_problem.LinearProblem(geometry.Geometry(cost, epsilon=EPS)))
        return jnp.sum(found.matrix * cost)

    return lambda: run(cost)


def converged(x: np.ndarray, y: np.ndarray) -> float:
    """Return the value at the end of the iteration, float64."""
    with jax.enable_x64(True):
        cost = metrics.squared_distances(x.astype(np.float64), y.astype(np.float64))
        return float(metrics.sinkhorn(cost, EPS, tolerance=1e-6, num_iterations=20_000).value)


def main(argv: list[str] | None = None) -> None:
    """Run the workload as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--points", type=int, nargs="+", default=[2000, 5000])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=["exact", "sinkhorn"])
    args = parser.parse_args(argv)
    for n in args.points:
        x, y = draw(n)
        for kind, make in (("exact", exact_cases), ("sinkhorn", sinkhorn_cases)):
            if args.only and kind not in args.only:
                continue
            ways = make(x, y)
            for name, times in measure_in_turn(ways, args.repeats).items():
                value = float(ways[name]())
                report("w5", f"{kind} n={n} {name}", cpus=num_cpus(), value=value, **times)
        if not args.only and n <= 2000:
            report("w5", f"sinkhorn n={n} converged", value=converged(x, y))


if __name__ == "__main__":
    main()
