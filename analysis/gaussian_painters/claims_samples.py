"""Claims of the study `gaussian_painters` on samples, and on what skipping steps costs them."""

from __future__ import annotations

import numpy as np

from analysis.gaussian_painters import statistics
from analysis.gaussian_painters.sources import FIRST, SECOND, TABLES
from dfx.runs import Claim, Record, above, below, exact, from_seeds, within


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
        from_seeds(
            gaussian / variance, id="8a", paper=TABLES, paper_value="0.052 (CIFAR-10)",
            statement="Gaussian samples: MSE to the nets' over the pixel variance",
            rule=below(0.25),
        ),
        from_seeds(
            delta / gaussian, id="8b", paper=TABLES, paper_value="3.6", rule=above(1.0),
            statement="MSE to the nets' samples: delta over Gaussian",
        ),
        from_seeds(
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


def teleport_claims(run: Record) -> list[Claim]:
    """Claim 9: steps saved, against what else would save them, and what memory needs."""
    at = statistics.skip_index(run, 0.3)
    skip = run.config.teleport.skips[at]
    cold, plain = (statistics.arm(run, f"heun.scaled.{kind}", "frechet")[:, at]
                   for kind in ("cold", "plain"))  # fmt: skip
    claims = [
        from_seeds(
            statistics.steps_saved(run, f"heun.{grid}.cold", number), id=f"9{letter}",
            paper=f"{SECOND}, abstract (FID)", paper_value="0.15 to 0.30", rule=above(0.15),
            statement=f"Heun, {label}: share of steps saved, {measure}",
        )
        for letter, grid, label, number, measure in (
            ("a", "edm", "from 80", "frechet", "Frechet"),
            ("b", "edm", "from 80", "sliced", "sliced W2"),
            ("c", "scaled", "from 5.3 sd", "frechet", "Frechet"),
            ("d", "scaled", "from 5.3 sd", "sliced", "sliced W2"),
            ("j", "edm", "from 80", "transport", "W2"),
            ("k", "scaled", "from 5.3 sd", "transport", "W2"),
        )
    ]  # fmt: skip
    claims += [
        from_seeds(
            statistics.reference(run, "linear", number)
            / statistics.arm(run, "heun.edm.cold", number)[:, 0],
            id=f"9{letter}", paper="ours", paper_value="-", rule=above(1.05),
            statement=f"does it tell, {measure}: the Gaussian's samples over the nets'",
        )
        for letter, number, measure in (
            ("l", "frechet", "Frechet"), ("m", "sliced", "sliced W2"), ("n", "transport", "W2")
        )
    ]  # fmt: skip
    claims.append(
        from_seeds(
            cold / plain, id="9e", paper="ours", paper_value="-", rule=below(1.0),
            statement=f"Heun from 5.3 sd, Frechet: skip of {skip} over {skip} steps fewer",
        )
    )  # fmt: skip
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
            from_seeds(
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
