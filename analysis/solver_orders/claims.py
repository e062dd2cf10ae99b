"""Figures and claims of the study `solver_orders`, from its run folder alone.

Intervals are 95% over sets of starts (Student's t): the starts are all that is random. Ratios of
two samplers are geometric means over the laws and the sets. `best_samplers.md` lists the best of
every budget.
"""

from __future__ import annotations

from pathlib import Path

from analysis.solver_orders import figures
from analysis.solver_orders.statistics import STARTS, Errors, Orders, Public, best_samplers
from dfx.runs import (
    Claim,
    Record,
    above,
    below,
    exact,
    from_ratios,
    from_seeds,
    read_run,
    within,
)
from dfx.runs.files import atomic

PUBLIC = "public packages"


def analyse(folder: Path) -> list[Claim]:
    """Draw every figure that the run has arrays for, and return the claims."""
    run = read_run(folder)
    claims: list[Claim] = []
    if "orders" in run.config.parts:
        figures.draw_orders(run)
        claims += order_claims(Orders(run))
    if "errors" in run.config.parts:
        figures.draw_errors(run)
        with atomic(run.figures / "best_samplers.md") as path:
            path.write_text(best_samplers(Errors(run)), encoding="utf-8")
        claims += last_step_claims(Errors(run)) + ranking_claims(Errors(run))
    if "public" in run.config.parts:
        figures.draw_public(run)
        claims += public_claims(run)
    return claims


#: id, sampler, start, statement, paper, the paper's value, rule: orders on the Gaussian.
ORDERS = (
    ("2a", "dpm_solver_pp_3m, reference", "early", "order of 3M with the published weights",
     "Lu et al. 2022b", "3", above(2.85)),
    ("2b", "dpm_solver_pp_3m", "early", "order of 3M with the exact weights",
     "Lu et al. 2022b", "3", above(2.85)),
    ("3a", "plms, reference", "early", "order of PLMS with its fixed weights, uneven sigma",
     "Liu et al. 2022", "2", within(1.85, 2.15)),
    ("3b", "plms", "early", "order of PLMS with exact weights", "-", "4", above(3.6)),
    ("4", "dpm_solver_pp_3m", "late", "order of 3M started late: its first step shows",
     "-", "2", within(1.85, 2.15)),
)  # fmt: skip


def order_claims(orders: Orders) -> list[Claim]:
    """Which order a sampler has, between two noise levels."""
    shares = [
        from_seeds(
            orders.share_as_stated(k), id=f"1{letter}", paper="all sources", paper_value="1",
            statement=f"{law}: share of solvers with the stated order, within 0.15 (above 3: 0.4)",
            rule=above(1.0), unit="of solvers",
        )
        for letter, (k, law) in zip("abc", enumerate(orders.laws))
    ]  # fmt: skip
    if "gaussian" not in orders.laws:
        return shares
    law = orders.laws.index("gaussian")
    return shares + [
        from_seeds(
            orders.slopes(name)[law, 0, STARTS.index(start)], id=number, paper=paper,
            paper_value=value, statement=statement, rule=rule,
        )
        for number, name, start, statement, paper, value, rule in ORDERS
        if name in orders.names
    ]  # fmt: skip


def last_step_claims(errors: Errors) -> list[Claim]:
    """What the last step to clean data costs, on equal steps of the linear path."""
    asked = "flow_kutta38" in errors.names and "gaussian" in errors.laws
    if not asked or len(errors.late_budgets()) < 2:
        return []
    return [
        from_seeds(
            errors.fitted_order("flow_kutta38", "gaussian", "rectified_linear", grid), id=number,
            paper=paper, paper_value=value, rule=rule,
            statement=f"fourth order to clean data, last step {how}: order left",
        )
        for number, grid, how, paper, value, rule in (
            ("5a", "uniform", "to the denoiser", "-", "2", within(1.85, 2.15)),
            ("5b", "uniform, half", "half-way", "Hyvärinen 2024", "4", within(3.6, 4.4)),
        )
    ]  # fmt: skip


#: id, paper, statement, (solver, schedule, grid) of both sides, budgets. The first is to be better.
RANKINGS = (
    ("6a", "Zhao et al. 2023", "UniPC-3 over DPM++(3M), 5 to 10 evaluations",
     ("unipc_3", "vp_linear", "log_snr"), ("dpm_solver_pp_3m", "vp_linear", "log_snr"), (5, 10)),
    ("6b", "Zheng et al. 2023", "DPM-Solver-v3 over DPM++(2M), 5 to 10 evaluations",
     ("dpm_solver_v3", "vp_linear", "log_snr"), ("dpm_solver_pp_2m", "vp_linear", "log_snr"),
     (5, 10)),
    ("6c", "Lu et al. 2022b", "DPM++ 2M over 2S, 10 to 20 evaluations",
     ("dpm_solver_pp_2m", "vp_linear", "log_snr"), ("dpm_solver_pp_2s", "vp_linear", "log_snr"),
     (10, 20)),
    ("6d", "Zhang & Chen 2023", "tAB over rhoAB, root of t, 10 evaluations",
     ("deis_tab", "vp_linear", "quadratic"), ("deis_rhoab", "vp_linear", "quadratic"), (10, 10)),
    ("6e", "Karras et al. 2022", "Heun: Karras grid over equal steps in sigma, 30 to 50",
     ("heun", "edm", "karras"), ("heun", "edm", "uniform"), (30, 50)),
    ("6f", "Karras et al. 2022", "Heun over Euler, Karras grid, 30 to 50",
     ("heun", "edm", "karras"), ("euler", "edm", "karras"), (30, 50)),
)  # fmt: skip


def ranking_claims(errors: Errors) -> list[Claim]:
    """Who beats whom at equal evaluations, and whether grid or solver decides."""
    claims = [
        from_ratios(
            errors.ratio(one, other, budgets), id=number, paper=paper, paper_value="< 1",
            statement=f"error ratio: {statement}", rule=below(1.0),
        )
        for number, paper, statement, one, other, budgets in RANKINGS
        if {one[0], other[0]} <= set(errors.names) and errors.has(budgets)
    ]  # fmt: skip
    if errors.has((10, 20)) and len(errors.names) > 1:
        claims.append(
            from_ratios(
                errors.straight_over_noise((10, 20)), id="7", paper=PUBLIC, paper_value="< 1",
                statement="error ratio: best on the straight path's t over best in noise level",
                rule=below(1.0),
            )
        )  # fmt: skip
    if errors.has((10, 20)) and errors.second_order().sum() > 1:
        claims.append(
            from_ratios(
                errors.grid_over_solver((10, 20)), id="8", paper=PUBLIC, paper_value="> 1",
                statement="variance of log error: between grids over between solvers",
                rule=above(1.0),
            )
        )  # fmt: skip
    return claims


def public_claims(run: Record) -> list[Claim]:
    """The best sampler here against the best of the public packages, on the same starts."""
    found = Public(run)
    sides = (("9", False, ""), ("10", True, ", told nothing of the field"))
    return [
        # The same starts and no chance: the ratio has no interval.
        exact(
            best.ratio, id=f"{number}{letter}", paper=best.public_name,
            paper_value=f"{best.public_error:.3g}", rule=below(1.0),
            statement=f"{best.budget} evaluations: error of {best.solver} over theirs{told}",
        )
        for number, blind, told in sides
        for letter, best in zip("abc", found.best(blind))
    ]  # fmt: skip
