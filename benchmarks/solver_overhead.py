"""Solvers: what the executor of tableaus costs over hand-written loops, and the same solvers
elsewhere.

    taskset -c 0 python -m benchmarks.solver_overhead    # one core: three minutes, steady figures
    python -m benchmarks.solver_overhead --cases ddim peers50 --repeats 9

Cases by name of a solver: 48 evaluations of a cheap denoiser, that of a diagonal Gaussian, on a
grid uniform in log-SNR; 10,000 samples of dimension 2, 64 of 3,072 and 4 of 196,608, float32. `dfx`
is `sample` with its defaults, `hand` the loop of `solver_loops`, `hand_x4` the same with four steps
in a turn of its scan. `gap` is the largest difference of the ends with the same noise, over the
largest entry: rounding, as both compute the same method.

The cost of a solver shows here and nowhere else: a net hides it. At dimension 2 a whole run takes
less than a millisecond, and what it costs to hand some dozen arrays to a compiled program counts.

Cases `peers20` and `peers50`: solvers of other packages in 20 and 50 steps, see `solver_peers`.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import solver_loops, solver_peers
from benchmarks.timing import measure_in_turn, num_cpus, report
from dfx import schedules, solvers

#: Shape of x -> calls that are timed.
SIZES = {(10_000, 2): 101, (64, 3_072): 25, (4, 196_608): 7}

#: The grid: half log-SNR from START to END.
EVALUATIONS, START, END, SEED = 48, -4.5, 3.0, 0


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Gaussian:
    """The denoiser of N(mean, diag(variance)), as a field and for the hand-written loops.

    It does not call itself pointwise: blocks that stay in cache pay for what costs more.
    """

    mean: jax.Array
    variance: jax.Array

    def __call__(self, x, level):
        alpha, sigma = level.alpha, level.sigma
        gain = self.variance * (alpha / (alpha * alpha * self.variance + sigma * sigma))
        return self.mean + gain * (x - alpha * self.mean)


def gaussian(d: int) -> Gaussian:
    """Return a Gaussian whose standard deviations lie between 0.5 and 2."""
    mean, width = jax.random.normal(jax.random.key(SEED), (2, d))
    return Gaussian(mean, 4.0 ** jnp.tanh(width))


def half_log_snr(name: str) -> np.ndarray:
    """Return the ends of as many steps as spend the evaluations."""
    _, each, more = solver_loops.LOOPS[name]
    return np.linspace(START, END, (EVALUATIONS - more) // each + 1)


def tableau(name: str) -> solvers.Tableau:
    """Return the solver of a case on its grid."""
    schedule = schedules.VPLinear()
    return solvers.make(name, schedule, schedules.t_of_log_snr(schedule, 2 * half_log_snr(name)))


def hand(name: str, unroll: int):
    """Return the hand-written program of (x, key, field), jitted."""
    loop, lam = solver_loops.LOOPS[name][0], half_log_snr(name)

    @jax.jit
    def run(x, key, field):
        return loop(lam, x, functools.partial(normal, key, x.shape), field, unroll)

    return run


def normal(key, shape, row):
    """Return the noise of a row as one writes it by hand."""
    return jax.random.normal(jax.random.fold_in(key, row), shape)


def overhead(name: str, shape: tuple[int, int], repeats: int) -> None:
    """Measure one solver at one size in turn with its hand-written loops."""
    x, key = jax.random.normal(jax.random.key(1), shape), jax.random.key(2)
    field, solver = gaussian(shape[1]), tableau(name)
    loops = {"hand": hand(name, 1), "hand_x4": hand(name, 4)}
    calls = {"dfx": functools.partial(solvers.sample, solver, field, x, key)}
    calls |= {way: functools.partial(loop, x, key, field) for way, loop in loops.items()}
    times = measure_in_turn(calls, repeats)
    end = calls["dfx"]()
    if solver.stochastic:  # the same noise, drawn as the loop draws it
        end = solvers.sample(solver, field, x, noise=functools.partial(normal, key, shape))
    gap = jnp.max(jnp.abs(end - calls["hand"]())) / jnp.max(jnp.abs(end))
    for way, time in times.items():
        over = {f"over_dfx_{k}": time[f"{k}_s"] / times["dfx"][f"{k}_s"] for k in ("wall", "cpu")}
        case = f"{name} d{shape[1]} {way}"
        report("solvers", case, cpus=num_cpus(), **time, **over, gap=float(gap))


def main() -> None:
    """Run the cases as the command line says."""
    peers = {f"peers{steps}": steps for steps in solver_peers.STEPS}
    names = [*solver_loops.LOOPS, *peers]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", choices=names, default=names)
    parser.add_argument("--repeats", type=int, help="calls that are timed; more for short ones")
    args = parser.parse_args()
    for name in args.cases:
        if name in peers:
            solver_peers.compare(peers[name], args.repeats or 7)
            continue
        for shape, repeats in SIZES.items():
            overhead(name, shape, args.repeats or repeats)


if __name__ == "__main__":
    main()
