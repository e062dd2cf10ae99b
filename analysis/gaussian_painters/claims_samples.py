"""Claims of the study `gaussian_painters` on samples, and on what skipping steps costs them."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from analysis.gaussian_painters import statistics
from analysis.gaussian_painters.sources import FIRST, SECOND, TABLES
from dfx.runs import Claim, Record, above, below, exact, from_ratios, from_seeds, within
from dfx.runs.claims import HOLDS, mean_interval


def sample_claims(run: Record) -> list[Claim]:
    """Claims 8 to 11."""
    return [*end_claims(run), *teleport_claims(run), *rank_claims(run)]


def end_claims(run: Record) -> list[Claim]:
    """Claims 8 and 11: samples from equal noise."""
    fine = statistics.finest(run)
    gaussian, mixture, delta = (
        statistics.mse(run, name).mean(axis=1) for name in ("gaussian", fine, "delta")
    )
    variance = run.arrays("spectrum")["variance"].mean()
    found, law = statistics.gains(run)
    return [
        from_ratios(
            gaussian / variance, id="8a", paper=TABLES, paper_value="0.052 (CIFAR-10)",
            statement="Gaussian samples: MSE to the nets' over the pixel variance",
            rule=below(0.25),
        ),
        from_ratios(
            delta / gaussian, id="8b", paper=TABLES, paper_value="3.6", rule=above(1.0),
            statement="MSE to the nets' samples: delta over Gaussian",
        ),
        from_ratios(
            mixture / gaussian, id="8c", paper=TABLES, paper_value="0.91", rule=below(1.0),
            statement=f"MSE to the nets' samples: {fine} over Gaussian",
        ),
        from_seeds(
            np.asarray([statistics.log_slope(law, row) for row in found]), id="11a", paper=FIRST,
            paper_value="1", statement="nets: slope of log gain noise to sample against the law's",
            rule=within(0.8, 1.2),
        ),
        from_seeds(
            statistics.linear_share(run), id="11b", paper=FIRST, paper_value="most",
            statement="variance of the nets' samples explained by the linear map",
            rule=above(0.5),
        ),
    ]  # fmt: skip


#: Distance to held-out pictures -> its name, the claim on whether it tells, and those on steps
#: saved on the two grids.
MEASURES = {
    "frechet": ("Frechet", "9l", ("9a", "9c")),
    "sliced": ("sliced W2", "9m", ("9b", "9d")),
    "transport": ("W2", "9n", ("9j", "9k")),
}
GRIDS = {"edm": "from 80", "scaled": "from 5.3 sd"}


def tell_claim(run: Record, number: str) -> Claim:
    """Return whether a distance finds the Gaussian's samples worse than the nets' by more than the
    tolerance: if not, it finds every skip harmless, and what rests on it is not decided."""
    measure, name, _ = MEASURES[number]
    return from_ratios(
        statistics.told_apart(run, number), id=name, paper="ours", paper_value="-",
        statement=f"does it tell, {measure}: the Gaussian's samples over the nets'",
        rule=above(1 + run.config.teleport.tolerance),
    )  # fmt: skip


def if_told(run: Record, number: str, claim: Claim) -> Claim:
    """Return a claim by a distance, undecided unless `tell_claim` of that distance holds."""
    if tell_claim(run, number).verdict == HOLDS:
        return claim
    return dataclasses.replace(claim, low=math.nan, high=math.nan)


def saved_claims(run: Record, number: str) -> list[Claim]:
    """Claim 9 by one distance. The interval goes from the last skips within the tolerance to the
    first ones outside, the ends of the intervals of both."""
    measure, _, names = MEASURES[number]
    claims = []
    for name, (grid, label) in zip(names, GRIDS.items(), strict=True):
        inside, outside = statistics.steps_saved(run, f"heun.{grid}.cold", number)
        claim = from_seeds(
            inside, id=name, paper=f"{SECOND}, abstract (FID)", paper_value="0.15 to 0.30",
            statement=f"Heun, {label}: share of steps saved, {measure}", rule=above(0.15),
        )  # fmt: skip
        claims.append(dataclasses.replace(claim, high=float(mean_interval(outside)[2])))
    return [*(if_told(run, number, claim) for claim in claims), tell_claim(run, number)]


def teleport_claims(run: Record) -> list[Claim]:
    """Claim 9: steps saved, against what else would save them, and what memory needs."""
    at = statistics.skip_index(run, 0.3)
    skip = run.config.teleport.skips[at]
    claims = [claim for number in MEASURES for claim in saved_claims(run, number)]
    cold, plain = (statistics.arm(run, f"heun.scaled.{kind}", "frechet")[:, at]
                   for kind in ("cold", "plain"))  # fmt: skip
    against = from_ratios(
        cold / plain, id="9e", paper="ours", paper_value="-", rule=below(1.0),
        statement=f"Heun from 5.3 sd, Frechet: skip of {skip} over {skip} steps fewer",
    )  # fmt: skip
    claims.append(if_told(run, "frechet", against))
    saved = -np.diff(statistics.arm(run, "heun.edm.cold", "evaluations")[:, [0, at]], axis=1)
    claims.append(
        exact(
            saved[0, 0] / skip,
            id="9f",
            paper=SECOND,
            paper_value="2",
            rule=within(2, 2),
            statement="Heun: evaluations saved a step",
        )
    )
    for number, solver in enumerate(run.config.teleport.solvers):
        warm, cold = (statistics.arm(run, f"{solver}.edm.{kind}", "same")[:, at]
                      for kind in ("warm", "cold"))  # fmt: skip
        claims.append(
            from_ratios(
                warm / cold, id=f"9{'ghi'[number]}", paper="ours", paper_value="-",
                rule=below(1.0),
                statement=f"{solver}: distance to no skip, warm over cold start, skip of {skip}",
            )
        )  # fmt: skip
    return claims


def rank_claims(run: Record) -> list[Claim]:
    """Claim 10: a third of the directions is nearly enough."""
    rank, ratio = statistics.loss_ratio(run, 1 / 3)
    return [
        exact(
            ratio, id="10", paper=f"{TABLES} (rank 1024 of 3072)", paper_value="1.02",
            statement=f"denoising loss of the Gaussian: rank {rank} over full rank",
            rule=below(1.05),
        )
    ]  # fmt: skip
