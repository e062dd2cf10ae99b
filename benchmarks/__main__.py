"""Run the workloads named on the command line, all by default, and print a table of ratios.

    python -m benchmarks [w1 w2 w3 w4 w5 w6 solvers probes subspaces input]

Each workload runs in a process of its own; its JSON lines go to standard output as they come.
"""

from __future__ import annotations

import json
import subprocess
import sys

from dfx.errors import PersonError, choose

MODULES = {
    "w1": "w1_toy_sampling",
    "w2": "w2_toy_training",
    "w3": "w3_diagnostics",
    "w4": "w4_empirical",
    "w5": "w5_transport",
    "w6": "w6_image_training",
    "solvers": "solver_overhead",
    "probes": "probes",
    "subspaces": "subspaces",
    "input": "input",
}


def main(names: list[str]) -> int:
    """Run the workloads and return the exit status."""
    try:
        modules = [choose("workload", name, MODULES) for name in names or MODULES]
    except PersonError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    rows = [row for module in modules for row in run(f"benchmarks.{module}")]
    print(table(rows))
    return 0


def run(module: str) -> list[dict]:
    """Return the JSON lines of one workload, printed as they come."""
    rows = []
    with subprocess.Popen([sys.executable, "-m", module], stdout=subprocess.PIPE, text=True) as job:
        for line in job.stdout or ():
            print(line, end="", flush=True)
            if line.startswith("{"):
                rows.append(json.loads(line))
    if job.returncode:
        raise SystemExit(job.returncode)
    return rows


def table(rows: list[dict]) -> str:
    """Return wall and CPU milliseconds of every case, and its ratios to dfx in the same group."""
    lines = [f"{'case':44} {'wall ms':>9} {'CPU ms':>9} {'wall / dfx':>10} {'CPU / dfx':>10}"]
    base: dict = {}
    for row in rows:
        if "wall_s" not in row:
            continue
        group = (row["workload"], row["case"].rpartition(" ")[0])
        name = row["case"].rpartition(" ")[2]
        if name == "dfx":
            base[group] = row
        own = base.get(group)
        ratio = [f"{row[k] / own[k]:10.2f}" if own else f"{'-':>10}" for k in ("wall_s", "cpu_s")]
        label = f"{row['workload']} {row['case']}"
        lines.append(
            f"{label:44} {row['wall_s'] * 1e3:9.1f} {row['cpu_s'] * 1e3:9.1f} {' '.join(ratio)}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
