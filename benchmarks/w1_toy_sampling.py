"""W1, toy sampling: dfx's `sample` against hand-written loops and against what else is installed.

A mixture of 25 equal Gaussians, centres {-2..2} x {-2..2}, std 0.1, with its exact posterior mean;
10,000 particles from one fixed draw; the table of betas linspace(1e-4, 0.02, 1000). Cases:
ancestral sampling in 1,000 steps, DDIM in 50, second-order multistep (DPM-Solver++ 2M) in 20, Heun
at 18 levels (35 evaluations).

    taskset -c 0 python -m benchmarks.w1_toy_sampling              # one core: the figures of record
    python -m benchmarks.w1_toy_sampling --cases ddim50 --repeats 5

`dfx` runs the library's own oracle, `dfx_hand_field` the posterior mean of the hand-written loops;
`scan` is one hand-written `lax.scan`, `blocks` runs 1,000 particles at a time, `blocks_last` stores
them as (2, n), `blocks_drawn` draws the noise of 20 steps at once besides. Deterministic results
are compared with the same grid in float64 NumPy. Every result says how evenly the modes are hit,
how much lies over 4 std from all of them, and the spread inside a mode over the true one.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import w1_loops, w1_peers
from benchmarks.timing import measure_in_turn, num_cpus, report
from dfx import fields, schedules, solvers
from dfx.targets import Mixture

NUM_PARTICLES, SEED = 10_000, 0


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class HandField:
    """The posterior mean of the hand-written loops as a field."""

    pointwise = True

    def __call__(self, x, level):
        return w1_loops.posterior_mean(x, level.alpha, level.sigma)


def dpmpp_2m(schedule, grid):
    """Return DPM-Solver++(2M) by the recorder: order 2 in log-SNR, order 1 in the end steps."""
    r, levels = solvers.record(schedule, grid)
    x, old, h_old = r.start, None, np.nan
    for s, t in solvers.pairs(levels):
        h = t.half_log_snr - s.half_log_snr
        m = r.at(x, s).x0
        first_order = old is None or t is levels[-1]
        d = m if first_order else m + h / (2 * h_old) * (m - old)
        keep = t.sigma / s.sigma
        x = keep * x + (t.alpha - keep * s.alpha) * d
        old, h_old = m, h
    return r.tableau(x)


def tableau(case: str) -> solvers.Tableau:
    """Return the solver of a case on its grid."""
    schedule = schedules.discrete_linear()
    times = schedules.t_of_log_snr(schedule, -2 * np.log(w1_loops.ratios(case)[:-1]))
    build: dict[str, Callable[..., solvers.Tableau]] = {
        "ddpm1000": solvers.ddpm,
        "ddim50": solvers.ddim,
        "dpmpp20": dpmpp_2m,
        "heun18": solvers.heun,
    }
    return build[case](schedule, np.append(times, 0.0))


def ways(case: str, x: jax.Array) -> dict:
    """Return the ways of sampling a case by name, as calls without arguments."""
    key, solver = jax.random.key(SEED + 1), tableau(case)
    oracle = fields.oracle(Mixture.isotropic(w1_loops.CENTRES, w1_loops.STD))
    calls = {
        "dfx": functools.partial(solvers.sample, solver, oracle, x, key),
        "dfx_hand_field": functools.partial(solvers.sample, solver, HandField(), x, key),
        "numpy": functools.partial(w1_loops.by_numpy, case, np.asarray(x)),
    }
    for name, form in w1_loops.jax_forms(case).items():
        calls[name] = functools.partial(form, x, key)
    return calls | w1_peers.ways(case, np.asarray(x))


def quality(points) -> dict[str, float]:
    """Return how well the points follow the mixture.

    `modes_off`: the largest deviation of a mode's count from n / 25, in its standard error; `far`:
    the share further than 4 std from every mode; `spread`: the root mean square distance from the
    own mode per coordinate, over the true std, of the others.
    """
    points = np.asarray(points, np.float64)
    offsets = points[:, None] - w1_loops.CENTRES
    distances = np.linalg.norm(offsets, axis=-1)
    nearest, k = distances.argmin(1), len(w1_loops.CENTRES)
    counts = np.bincount(nearest, minlength=k)
    error = np.sqrt(len(points) * (1 / k) * (1 - 1 / k))
    own = distances.min(1)
    near = own <= 4 * w1_loops.STD
    spread = np.sqrt(np.mean(own[near] ** 2) / 2) / w1_loops.STD
    off = float(np.abs(counts - len(points) / k).max() / error)
    return {"modes_off": off, "far": float(np.mean(~near)), "spread": float(spread)}


def compare(case: str, repeats: int, only: list[str] | None) -> None:
    """Measure a case in turn; ratios are to dfx with its oracle and with the hand-written field."""
    x = jax.random.normal(jax.random.key(SEED), (NUM_PARTICLES, 2), jnp.float32)
    calls = {k: call for k, call in ways(case, x).items() if not only or k in [*only, "dfx"]}
    exact = None if case == "ddpm1000" else w1_loops.by_numpy(case, np.asarray(x), np.float64)
    times = measure_in_turn(calls, repeats)
    for name, time in times.items():
        end = np.asarray(calls[name]())
        checks = quality(end)
        if exact is not None:
            gaps = np.linalg.norm(end - exact, axis=1)
            checks |= {"error_median": float(np.median(gaps)), "error_max": float(gaps.max())}
        for base in ("dfx", "dfx_hand_field"):
            if base in times:
                checks[f"over_{base}"] = time["cpu_s"] / times[base]["cpu_s"]
                checks[f"over_{base}_wall"] = time["wall_s"] / times[base]["wall_s"]
        evaluations = w1_loops.CASES[case]
        report("W1", f"{case} {name}", evaluations=evaluations, cpus=num_cpus(), **time, **checks)


def main() -> None:
    """Run the workload as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", choices=w1_loops.CASES, default=list(w1_loops.CASES))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs="+", help="names of the ways to run beside dfx")
    args = parser.parse_args()
    for case in args.cases:
        compare(case, args.repeats, args.only)


if __name__ == "__main__":
    main()
