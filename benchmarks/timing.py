"""How the benchmarks measure: warm, blocked until ready, in turn, medians, one JSON line a
case."""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax


def measure(fn: Callable[[], Any], repeats: int = 5) -> dict[str, float]:
    """Return the median wall and CPU seconds of a warm call, after one call that is not counted.

    Args:
      fn: takes nothing; the arrays that it returns are waited for.
      repeats: number of calls counted.

    Returns:
      `wall_s`, `cpu_s` (all threads of this process), and `first_s`, the wall seconds of the first
      call, which compiles.
    """
    return measure_in_turn({"fn": fn}, repeats)["fn"]


def measure_in_turn(
    fns: Mapping[str, Callable[[], Any]], repeats: int = 5
) -> dict[str, dict[str, float]]:
    """Return what `measure` does for several functions, called in turn: all see the same load."""
    first = {name: _once(fn)[0] for name, fn in fns.items()}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in fns}
    for _ in range(repeats):
        for name, fn in fns.items():
            times[name].append(_once(fn))
    return {
        name: {
            "wall_s": statistics.median(wall for wall, _ in pairs),
            "cpu_s": statistics.median(cpu for _, cpu in pairs),
            "first_s": first[name],
        }
        for name, pairs in times.items()
    }


def report(workload: str, case: str, **numbers: Any) -> None:
    """Print one case as a line of JSON."""
    short = {k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in numbers.items()}
    print(json.dumps({"workload": workload, "case": case, **short}), flush=True)


def num_cpus() -> int:
    """Return the number of CPU cores that this process may use (`taskset -c 0` leaves one)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _once(fn: Callable[[], Any]) -> tuple[float, float]:
    """Return the wall and CPU seconds of one call."""
    wall, cpu = time.perf_counter(), time.process_time()
    jax.block_until_ready(fn())
    return time.perf_counter() - wall, time.process_time() - cpu
