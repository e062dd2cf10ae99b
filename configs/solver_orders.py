"""Which deterministic sampler at which budget: errors and orders of all of them, on exact fields.

    dfx run solver_orders           every solver, four schedules, six grids; five minutes, two cores
    dfx run solver_orders:smoke     every part with few solvers, half a minute
    dfx run solver_orders:paper     more starts
    dfx run solver_orders:pod       the same, more sets of starts

Parts: "orders" fits the order of every solver between two noise levels, "errors" is work against
precision from noise to clean data, "public" compares with the samplers of public packages on their
problem. Laws: a Gaussian and 25 modes in two dimensions, eight low-rank Gaussians in 64.

Left out: the FIDs of the solvers' papers, which need their trained nets.

Sources: those of the solvers (`dfx solvers`); grids of Karras et al. (2022), Song et al. (2021), Lu
et al. (2022); public packages measured on the same problem.
"""

import itertools
from typing import Any

from ml_collections import config_dict

from dfx.runs import checks

SIZES = ("smoke", "default", "paper", "pod")
PARTS = ("orders", "errors", "public")
LAWS = ("gaussian", "grid", "low_rank")


def get_config(size: str = "default") -> config_dict.ConfigDict:
    """Return the config of one size."""
    config = _default()
    config.update(_CHANGES[size])
    return config


def _default() -> config_dict.ConfigDict:
    return config_dict.create(
        seed=0,
        parts=PARTS,
        laws=LAWS,
        solvers=(),  # names; () is every deterministic one
        # Errors are averaged over each set of starts; the sets give the interval.
        num_sets=4,
        num_starts=16,
        noise=80.0,  # sigma / alpha of the start
        tolerance=1e-11,  # of the adaptive reference
        # Half log-SNRs log(alpha / sigma); orders are fitted over all numbers of steps.
        orders=dict(
            laws=("gaussian", "grid"), start=-4.0, late_start=-1.0, end=3.0, steps=(80, 160, 320)
        ),
        errors=dict(budgets=(1, 2, 3, 5, 7, 10, 14, 20, 30, 50, 70, 100, 200)),
        public=dict(budgets=(5, 10, 20)),
        statistics=dict(num_samples=512, num_levels=241),  # for DPM-Solver-v3
    )


_CHANGES: dict[str, dict[str, Any]] = {
    "default": {},
    "smoke": dict(
        laws=("gaussian", "grid"),
        solvers=("ddim", "heun", "dpm_solver_pp_2m", "dpm_solver_pp_3m", "flow_kutta38", "plms"),
        num_starts=4,
        tolerance=1e-9,
        orders=dict(steps=(40, 80)),
        errors=dict(budgets=(5, 10)),
    ),
    "paper": dict(num_sets=8, num_starts=128),
    "pod": dict(num_sets=64, num_starts=128),
}


_RANGES = {
    "noise": (1.0, 150.0),
    # Below 1e-6 the cosine and the linear path cannot be told from pure noise.
    "tolerance": (1e-12, 1e-6),
    # The linear schedule ends at sigma / alpha = 152, a half log-SNR of -5.02.
    **dict.fromkeys(("orders.start", "orders.late_start", "orders.end"), (-5.0, 6.0)),
    # A sampler is a table of a row an evaluation.
    **dict.fromkeys(("orders.steps", "errors.budgets", "public.budgets"), (1, 10_000)),
    "statistics.num_samples": (2, 1_000_000),  # of one there is no regression
    "statistics.num_levels": (3, 100_000),  # and of two no second difference
}


def validate(config: config_dict.ConfigDict) -> None:
    """Check ranges and choices.

    Raises:
      ConfigError: a setting out of its range, in one line.
    """
    checks.choices(config, {"parts": PARTS, "laws": LAWS, "orders.laws": LAWS})
    free = ("orders.start", "orders.late_start", "orders.end")
    checks.signs(config, free=free, may_be_empty=("solvers",))
    checks.seeds(config, "num_sets")
    checks.ranges(config, _RANGES)
    orders = config.orders
    given = (orders.start, orders.late_start, orders.end)
    apart = all(after - before >= 0.5 for before, after in itertools.pairwise(given))
    allowed = "rising half log-SNRs, 0.5 apart or more"  # nearer, errors are rounding
    checks.require(apart, "config.orders start, late_start, end", given, allowed)
    checks.rising(config, "orders.steps", least=2, allowed="two rising numbers or more")
    checks.rising(config, "errors.budgets", "public.budgets")
    _check_solvers(config.solvers)


def _check_solvers(names) -> None:
    if not names:
        return
    from dfx.solvers import REGISTRY  # here: it imports JAX, which the other checks can do without

    allowed = [name for name, solver in REGISTRY.items() if not solver.stochastic]
    checks.one_of("config.solvers", names, allowed)
