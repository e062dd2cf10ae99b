"""Claims of the study `subspace_clustering` on its maps: where recovery begins, by each method."""

from __future__ import annotations

import numpy as np

from analysis.subspace_clustering import statistics
from analysis.subspace_clustering.sources import BEFORE, DERIVED, PAPER
from analysis.subspace_clustering.statistics import share
from dfx.runs import Claim, Record, above, below, from_seeds, within


def map_claims(run: Record) -> list[Claim]:
    """Claims 3, 4 and 5: the transition of every map against N = d."""
    return [*pca_claims(run), *cluster_claims(run), *trained_claims(run)]


def pca_claims(run: Record) -> list[Claim]:
    """Claim 3, noiseless: a step at N = d."""
    table, success = run.arrays("map_pca"), statistics.found(run, "map_pca")
    enough = statistics.above_edge(table["dims"], table["counts"])
    return [
        share(
            success[~enough], id="3a", paper=f"{PAPER}, theorem 2", paper_value="0",
            statement="PCA, K = 1, no noise: success where N < d", rule=below(0.01),
        ),
        share(
            success[enough], id="3b", paper=f"{PAPER}, theorem 2", paper_value="1",
            statement="PCA, K = 1, no noise: success where N >= d", rule=above(0.99),
        ),
        *line_claims("3", "PCA, K = 1", success, table),
    ]  # fmt: skip


def line_claims(letter: str, name: str, success, table, edge: int = 0) -> list[Claim]:
    """Return the claims on slope and place of a transition; a step from d - 1 + edge to d + edge
    has its line in between. The paper's law is edge 0."""
    line = statistics.line(success, table["dims"], table["counts"])
    middle, seeds = float(np.mean(table["dims"])), success.shape[2]
    slope, low, high = line.slope_interval()
    claims = [
        Claim(
            id=f"{letter}s", paper=f"{PAPER}, fig. 4", paper_value="1",
            statement=f"{name}: slope of the transition line N over d",
            ours=slope, low=low, high=high, rule=within(0.9, 1.1), seeds=seeds,
        )
    ]  # fmt: skip
    for at in sorted({0, edge}):
        value, low, high = line.beyond(middle)
        claims.append(
            Claim(
                id=f"{letter}{'pq'[at]}", paper=DERIVED if at else f"{PAPER}, N_k >= d",
                paper_value=f"{at - 1} to {at}", statement=f"{name}: N - d of the line at mid d",
                ours=value, low=low, high=high, rule=within(at - 1, at), seeds=seeds,
                unit="samples",
            )
        )  # fmt: skip
    return claims


#: Success of K-subspaces at N_k = d, 40 starts: measured before this study, some 20 trials each.
K2_EDGE = {2: 0.65, 3: 0.25, 4: 0.05}


def cluster_claims(run: Record) -> list[Claim]:
    """Claim 4: with two subspaces or more the edge is at d + 1."""
    claims: list[Claim] = []
    for letter, (name, label) in zip("uvw", statistics.SOLVERS.items()):
        table, success = run.arrays(name), statistics.found(run, name)
        args, title = (table["dims"], table["counts"]), f"K-subspaces, {label}"
        at_edge = statistics.at_offset(table["kept"] >= 1 - 1e-5, *args, 0)
        claims += [
            share(
                statistics.at_offset(success, *args, 0), id=f"4{letter}a",
                paper=f"{PAPER}, theorem 4", paper_value="1", rule=above(0.9),
                statement=f"{title}: success at N_k = d, all d",
            ),
            share(
                at_edge, id=f"4{letter}b", paper=DERIVED, paper_value="1", rule=above(0.9),
                statement=f"{title}: at N_k = d what is returned keeps all the energy",
            ),
            share(
                statistics.at_offset(success, *args, 1), id=f"4{letter}c", paper=DERIVED,
                paper_value="1", rule=above(0.9),
                statement=f"{title}: success at N_k = d + 1, all d",
            ),
            *line_claims(f"4{letter}", title, success, table, edge=1),
        ]  # fmt: skip
    table, success = run.arrays("map_k2"), statistics.found(run, "map_k2")
    return claims + [
        share(
            statistics.at_offset(success[[i]], [d], table["counts"], 0), id=f"4d{d}", paper=BEFORE,
            paper_value=f"{K2_EDGE[int(d)]:g}", statement=f"K = 2: success at N_k = d = {d}",
            # Two standard errors of the difference of two shares of 20 trials.
            rule=within(K2_EDGE[int(d)] - 0.3, K2_EDGE[int(d)] + 0.3),
        )
        for i, d in enumerate(table["dims"])
        if int(d) in K2_EDGE and d in table["counts"]
    ]  # fmt: skip


def trained_claims(run: Record) -> list[Claim]:
    """Claim 5: low-rank nets trained by the plain loss."""
    success = statistics.trained_maps(run)
    one, two = run.arrays("map_net_1"), run.arrays("map_net_2")
    last = int(two["counts"][-1])
    restarts = run.config.maps.two.restarts
    gain = (success["net_2_truth"].mean((0, 1)) - success["net_2"].mean((0, 1))).astype(float)
    return [
        *line_claims("5a", "trained net, K = 1", success["net_1"], one),
        *line_claims("5b", "trained net, K = 2, from the truth", success["net_2_truth"], two),
        *line_claims("5c", f"trained net, K = 2, best of {restarts}", success["net_2"], two),
        share(
            success["net_2"][:, -1], id="5d", paper=f"{PAPER}, fig. 4", paper_value="1",
            statement=f"trained net, K = 2, best of {restarts}: success at N_k = {last}",
            rule=above(0.9),
        ),
        from_seeds(
            gain, id="5e", paper=DERIVED, paper_value="> 0", rule=above(0.0), unit="of trials",
            statement="trained net, K = 2: success from the truth minus from random starts",
        ),
    ]  # fmt: skip
