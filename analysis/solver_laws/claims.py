"""Figures and claims of the study `solver_laws`, from its run folder alone.

Orders are fitted to exact errors; their intervals are those of the straight line. Sampled numbers
have intervals of 95% over seeds (Student's t). What is exact has no interval.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from analysis.orders import from_order
from analysis.solver_laws import figures, knob_figures, statistics
from analysis.solver_laws.statistics import W2
from dfx.runs import Claim, Record, Rule, above, below, exact, from_seeds, read_run, within
from experiments.solver_laws.members import DETERMINISTIC, MEMBERS, SAMPLED, STOCHASTIC
from experiments.solver_laws.normal import CLOCKS, normals

#: How far a measured order may be from the stated one.
TOLERANCE = 0.15

SDE = tuple(name for name in SAMPLED if name in STOCHASTIC)
ODE = tuple(DETERMINISTIC)

KARRAS, SONG = "Karras et al. 2022, section 4", "Song et al. 2021 (DDIM), table 1"
XUE, CAO = "Xue et al. 2023, section 6", "Cao et al. 2023, abstract"


def analyse(folder: Path) -> list[Claim]:
    """Draw every figure and return the claims."""
    run = read_run(folder)
    figures.draw(run)
    knob_figures.draw(run)
    return order_claims(run) + knob_claims(run) + error_claims(run)


def order_claims(run: Record) -> list[Claim]:
    """Claims 1 to 3: weak orders, strong orders, and that samples have the propagated law."""
    stated = run.arrays("orders")["stated"]
    orders = statistics.weak_orders(run)
    off = [abs(o.value - s) for law in orders for o, s in zip(law, stated)]
    names = tuple(STOCHASTIC)

    def weak(name, paper, value, **rest):
        found = orders[0][names.index(name)]
        return from_order(found, paper=paper, paper_value=str(value), rule=_near(value), **rest)

    strong = statistics.strong_orders(run)
    worst = max(strong, key=lambda order: abs(order.value - 1))
    return [
        weak("ddpm", "registry", 1, id="1a",
             statement="DDPM: weak order, W_2 on a normal law"),
        weak("sde_dpm_solver_pp_2m", "Lu et al. 2022b", 2, id="1b",
             statement="SDE-DPM-Solver++(2M): weak order"),
        weak("sa_solver", "registry", 2, id="1c", statement="SA-Solver, tau = 1: weak order"),
        weak("heun_churn", "registry (Heun)", 2, id="1d",
             statement="EDM with churn: weak order is that of Heun, not of the noise"),
        exact(max(off), id="1e", paper="registry", paper_value="stated orders",
               statement="all stochastic solvers, two laws: order against the stated, furthest",
               rule=below(TOLERANCE)),
        from_order(worst, id="2", paper="Kloeden & Platen 1992 (additive noise)", paper_value="1",
                statement=f"strong order of {len(CLOCKS)} solvers on shared paths: furthest from 1",
                rule=_near(1)),
        exact(statistics.check_p_value(run), id="3", paper="exact propagation", paper_value="-",
               statement="sampled moments have the propagated law: corrected p of the worst",
               rule=above(0.01)),
    ]  # fmt: skip


def knob_claims(run: Record) -> list[Claim]:
    """Claims 4 to 6: what eta, tau and churn do to the law, with and without an early error."""
    few, many = run.config.sweeps.nfe[0], run.config.sweeps.nfe[-1]
    eta = statistics.swept(run, "grid", "eta")
    gap = (eta[-1] - eta[0])[:, [0, -1]]  # over seeds, few and many
    found = {knob: run.arrays("sweeps")[knob][..., W2] for knob in ("eta", "tau", "churn")}
    right, wrong = found["churn"]
    tau = np.array([run.config.sweeps.tau[i] for i in found["tau"][1].argmin(0)])
    return [
        from_seeds(
            eta[1:, :, 0].min(0) - eta[0, :, 0], id="4a", paper=SONG, paper_value="> 0",
            statement=f"grid, {few} steps: best eta > 0 minus eta = 0, sliced W_2",
            rule=above(0.0),
        ),
        from_seeds(
            gap[:, 1] / gap[:, 0], id="4b", paper=SONG, paper_value="falls", rule=below(0.25),
            statement=f"grid: excess of eta = 1 over eta = 0, {many} over {few} steps",
        ),
        exact(
            wrong[1:, -1].min() / wrong[0, -1], id="5a", paper=KARRAS, paper_value="< 1",
            statement=f"wrong prior, {many} evaluations: best churn over none, W_2",
            rule=below(0.9),
        ),
        exact(
            right[1:, 0].min() / right[0, 0], id="5b", paper=KARRAS, paper_value="> 1",
            statement=f"exact start, {few} evaluations: best churn over none, W_2", rule=above(1.0),
        ),
        exact(
            tau[-1] - tau[0], id="6", paper=XUE, paper_value="> 0", rule=above(0.01),
            statement=f"wrong prior: best tau at {many} evaluations minus best at {few}",
        ),
    ]  # fmt: skip


def error_claims(run: Record) -> list[Claim]:
    """Claims 7 to 9: an early error is forgotten with noise alone, a late one is doubled by it."""
    few, many = run.config.mixtures.nfe[0], run.config.mixtures.nfe[-1]
    early = statistics.sampled(run, "grid_early", "sliced")
    excess = statistics.best(early, SAMPLED, SDE) - statistics.best(early, SAMPLED, ODE)
    means = run.arrays("gaussian")["errors"][1, :, -1, statistics.MEAN]
    law = normals()["gaussian"]

    def forgotten(name, tau):
        return means[tuple(MEMBERS).index(name)] / statistics.wrong_prior_limit(run, law, tau)

    left, limit = run.arrays("pulses")["left"], statistics.pulse_limits(run)
    ratio = left[run.config.pulse.tau.index(1.0)] / left[run.config.pulse.tau.index(0.0)]
    return [
        exact(
            forgotten("dpm_solver_pp_2m", 0.0), id="7a", paper="closed form", paper_value="1",
            statement=f"wrong prior, ODE, {run.config.nfe[-1]} steps: shift left over closed form",
            rule=within(0.95, 1.05),
        ),
        exact(
            forgotten("sde_dpm_solver_pp_2m", 1.0), id="7b", paper="closed form", paper_value="1",
            statement=f"wrong prior, SDE, {run.config.nfe[-1]} steps: shift left over closed form",
            rule=within(0.95, 1.05),
        ),
        from_seeds(
            excess[:, 0], id="8a", paper=KARRAS, paper_value="> 0", rule=above(0.0),
            statement=f"grid, wrong prior, {few} evaluations: best SDE minus best ODE, sliced W_2",
        ),
        from_seeds(
            excess[:, -1], id="8b", paper=KARRAS, paper_value="< 0", rule=below(0.0),
            statement=f"grid, wrong prior, {many} evaluations: best SDE minus best ODE, sliced W_2",
        ),
        exact(
            ratio[0], id="9a", paper=CAO, paper_value="< 1", rule=below(0.1),
            statement="error pulse at the start: left by the SDE over left by the ODE",
        ),
        exact(
            ratio[-1], id="9b", paper=CAO, paper_value="> 1", rule=within(1.8, 2.2),
            statement="error pulse at the end: left by the SDE over the ODE (closed form: 2)",
        ),
        exact(
            np.abs(left / limit - 1).max(), id="9c", paper="closed form", paper_value="0",
            statement="pulses at all levels and noises: furthest from the closed form",
            rule=below(0.05), unit="relative",
        ),
    ]  # fmt: skip


def _near(order: float) -> Rule:
    return within(order - TOLERANCE, order + TOLERANCE)
