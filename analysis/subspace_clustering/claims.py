"""Figures and claims of the study `subspace_clustering`, from its run folder alone.

The paper prints no numbers of its maps beyond its law N >= d: what it says of N = d is the value
of a trained or solved map; numbers marked "derived" or "measured before" are ours, taken before
this study was written. Intervals are 95%: over seeds by Student's t, of shares by Wilson, of fitted
lines and slopes by a bootstrap over seeds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from analysis.subspace_clustering import figures, statistics
from dfx import metrics
from dfx.runs import Claim, Record, above, below, from_seeds, read_run, within

PAPER = "Wang et al. 2024"
DERIVED, BEFORE = "derived", "measured before"

#: What float64 leaves of an identity whose terms are of order one, with a factor of 1e5 in hand.
FLOAT64 = 1e-10


def analyse(folder: Path) -> list[Claim]:
    """Draw every figure that the run has arrays for, and return the claims."""
    run = read_run(folder)
    claims: list[Claim] = []
    for part, of in {
        "laws": law_claims,
        "maps": map_claims,
        "nets": net_claims,
        "pictures": picture_claims,
    }.items():
        if part in run.config.parts:
            figures.draw(run, part)
            claims += of(run)
    return claims


def exact(value: Any, **fields) -> Claim:
    """Return a claim on a number that has no sampling error."""
    return Claim(ours=float(value), low=float(value), high=float(value), **fields)


def share(success, **fields) -> Claim:
    """Return a claim on the share of trials that succeed, with its Wilson interval."""
    success = np.asarray(success)
    value, low, high = map(float, metrics.wilson(int(success.sum()), success.size))
    return Claim(
        ours=value, low=low, high=high, seeds=success.shape[-1], unit="of trials", **fields
    )


def resampled(values, seeds: int, **fields) -> Claim:
    """Return a claim on a number of all trials, first, with the interval of its resamples."""
    low, high = statistics.interval(values[1:])
    return Claim(ours=float(values[0]), low=low, high=high, seeds=seeds, **fields)


def law_claims(run: Record) -> list[Claim]:
    """Claims 1, 2, 3 (with noise), 8 and 9."""
    gaps = run.arrays("identities")
    return [
        exact(
            gaps["denoiser"], id="1a", paper=f"{PAPER}, eq. 9", paper_value="0",
            statement="low-rank net at the truth against the posterior mean, largest gap",
            rule=below(FLOAT64),
        ),
        exact(
            gaps["jacobian"], id="1b", paper=DERIVED, paper_value="0",
            statement="formula of its Jacobian against the derivative, largest gap",
            rule=below(FLOAT64),
        ),
        exact(
            gaps["objective"], id="2a", paper=f"{PAPER}, theorems 1 and 3", paper_value="0",
            statement="loss with labels by x0 against energy kept, K = 1, 2, 3, largest gap",
            rule=below(FLOAT64),
        ),
        exact(
            gaps["minimiser"], id="2b", paper=f"{PAPER}, theorem 1", paper_value="0",
            statement="minimisers of 4 losses (VP, VE; 2 weightings) against PCA, largest angle",
            rule=below(1e-6), unit="radians",
        ),
        *noise_claims(run), *hard_claims(run), *angle_claims(run),
    ]  # fmt: skip


#: Success of PCA at N = d with noise 0.02 a coordinate, 200 trials: measured before this study.
NOISY_EDGE = {2: 0.59, 4: 0.31, 6: 0.20, 8: 0.16}


def noise_claims(run: Record) -> list[Claim]:
    """Claim 3 with noise: the softened edge, the rate, and the ambient dimension."""
    table, seeds = run.arrays("noise"), run.config.laws.noise_seeds
    success = table["error"][0] <= run.config.tolerance
    edges = [
        share(
            statistics.at_offset(success[[i]], [d], table["counts"], 0), id=f"3e{d}", paper=BEFORE,
            paper_value=f"{NOISY_EDGE[int(d)]:g}",
            statement=f"PCA with noise: success at N = d = {d}",
            # Two standard errors of the difference of two shares of 200 trials.
            rule=within(NOISY_EDGE[int(d)] - 0.1, NOISY_EDGE[int(d)] + 0.1),
        )
        for i, d in enumerate(table["dims"])
        if int(d) in NOISY_EDGE and d in table["counts"]
    ]  # fmt: skip
    return [
        *edges,
        resampled(
            statistics.noise_slopes(run), seeds, id="3f", paper=f"{PAPER}, theorem 2",
            paper_value="1", rule=within(0.8, 1.2),
            statement="log mean error against log 1 / (sqrt N - sqrt(d - 1)), N >= d: slope",
        ),
        resampled(
            statistics.ambient_ratio(run), seeds, id="3g", paper=f"{PAPER}, theorem 2",
            paper_value="1", rule=within(0.9, 1.1),
            statement=f"equal noise energy: mean error at n = {table['ambient'][1]} over that at "
            f"{table['ambient'][0]}",
        ),
    ]  # fmt: skip


#: Loss of the exact denoiser by noise level: measured before this study (K = 2, d = 7, n = 48).
SOFT_LOSS = {0.1: 0.0694, 0.3: 0.578, 1.0: 4.06, 3.0: 6.60}


def hard_claims(run: Record) -> list[Claim]:
    """Claim 8: what the true label is worth."""
    table, claims = run.arrays("hard_soft"), []
    for i, ratio in enumerate(table["levels"]):
        known = SOFT_LOSS.get(round(float(ratio), 6))
        if known is not None:
            claims.append(
                from_seeds(
                    table["soft"][:, i], id=f"8s{ratio:g}", paper=BEFORE, paper_value=f"{known:g}",
                    statement=f"loss of the exact denoiser at sigma / alpha = {ratio:g}",
                    rule=within(0.97 * known, 1.03 * known),
                )
            )  # fmt: skip
    worst = statistics.nearest(table["levels"], 1.0)
    cost = table["soft"][:, worst] / table["hard"][:, worst]
    return [
        *claims,
        from_seeds(
            cost, id="8r", paper=f"{BEFORE}; no bound in the paper", paper_value="1.16",
            statement="loss of soft over true labels, "
            f"sigma / alpha = {table['levels'][worst]:g}",
            rule=within(1.12, 1.20),
        ),
    ]  # fmt: skip


def angle_claims(run: Record) -> list[Claim]:
    """Claim 9: the theorem asks for orthogonal subspaces; the solver does not."""
    table, success = run.arrays("angles"), statistics.angle_success(run)
    chosen = statistics.nearest(table["angles"], 30.0)
    return [
        share(
            success[chosen, -1], id="9", paper=DERIVED, paper_value="1",
            statement=f"two subspaces at {table['angles'][chosen]:g} degrees, d = 3, "
            f"N = {table['counts'][-1]}: found by K-subspaces",
            rule=above(0.9),
        )
    ]  # fmt: skip


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


def net_claims(run: Record) -> list[Claim]:
    """Claims 6, 7 and 10."""
    return [*score_claims(run), *rank_claims(run), *move_claims(run)]


def score_claims(run: Record) -> list[Claim]:
    """Claim 6: the curves of all d are one in N_k / d, and reach 1 near 60."""
    settings, shares = run.config.nets, statistics.scores(run)
    at = statistics.nearest(settings.ratios, 60)
    where = f"N_k / d = {settings.ratios[at]}"
    gap = statistics.collapse_gap(shares["score"])
    if shares["score"].mean(2).max() < 0.5:
        gap = np.full_like(gap, np.nan)  # curves that never rise agree, and say nothing
    line = statistics.score_line(run)
    exponent, low, high = 1 + np.array(line.slope_interval())
    return [
        from_seeds(
            gap, id="6a", paper=f"{PAPER}, fig. 5a", paper_value="0", rule=below(0.1),
            statement=f"perceptrons: score of d = {settings.dims} at equal N_k / d, mean gap",
        ),
        from_seeds(
            shares["score"][:, at].mean(0), id="6b", paper=f"{PAPER}, fig. 5a", paper_value="1",
            statement=f"perceptrons: share of samples new and in place, {where}",
            rule=above(0.9),
        ),
        from_seeds(
            shares["new"][:, at].mean(0), id="6c", paper=f"{PAPER}, fig. 5a", paper_value="1",
            statement=f"the same: new, in place or not, {where}", rule=above(0.9),
        ),
        Claim(
            id="6d", paper=f"{PAPER}, fig. 5a", paper_value="1", rule=within(0.8, 1.2),
            statement="perceptrons: exponent of N_k over d, on the line where half of the nets "
            "put half of their samples in place and new",
            ours=exponent, low=low, high=high, seeds=settings.num_seeds,
        ),
    ]  # fmt: skip


def rank_claims(run: Record) -> list[Claim]:
    """Claim 7: the rank falls from K d to d as the noise does."""
    d, levels = run.config.nets.rank.dim, run.arrays("rank")["levels"]
    high, low = (float(levels[statistics.nearest(levels, ratio)]) for ratio in (5.0, 0.2))
    names = {
        "exact": "exact denoiser",
        "low_rank": "trained low-rank net",
        "perceptron": "perceptron",
    }
    return [
        from_seeds(
            statistics.rank_at(run, field, ratio), id=f"7{letter}{'hl'[i]}",
            paper=f"{PAPER}, fig. 3", paper_value=f"{rank}",
            statement=f"{label}: rank of the Jacobian at sigma / alpha = {ratio:g}",
            rule=within(rank - 0.5, rank + 0.5),
        )
        for letter, (field, label) in zip("abc", names.items())
        for i, (ratio, rank) in enumerate(((high, 2 * d), (low, d)))
    ]  # fmt: skip


def move_claims(run: Record) -> list[Claim]:
    """Claim 10 on the exact denoiser."""
    table, config = run.arrays("moves"), run.config
    middle, high, low = (statistics.nearest(table["levels"], r) for r in (1.0, 5.0, 0.1))
    expected = np.sqrt(2 * config.nets.rank.dim / config.dim)
    return [
        from_seeds(
            table["order"][middle], id="10a", paper="Chen et al. 2024; derived", paper_value="2",
            statement=f"error of lambda s_1 u_1 at sigma / alpha = {table['levels'][middle]:g}: "
            "order in lambda", rule=within(1.9, 2.1),
        ),
        from_seeds(
            table["random"][high], id="10b", paper=DERIVED, paper_value=f"{expected:.2f}",
            statement="a random direction's change over that of v_1, "
            f"sigma / alpha = {table['levels'][high]:g}",
            rule=within(0.9 * expected, 1.1 * expected),
        ),
        from_seeds(
            table["outside"][low], id="10c", paper=DERIVED, paper_value="0",
            statement="part of v_1 off the active subspace, "
            f"sigma / alpha = {table['levels'][low]:g}", rule=below(0.05),
        ),
    ]  # fmt: skip


def picture_claims(run: Record) -> list[Claim]:
    """Claims 7 and 10 on nets of pictures, for each set of them."""
    return [
        claim
        for letter, name in zip("xyz", run.config.pictures.names)
        for claim in _picture_claims(run, name, letter)
    ]


def _picture_claims(run: Record, name: str, letter: str) -> list[Claim]:
    ranks, levels = statistics.picture_ranks(run, name), run.arrays(f"rank_{name}")["levels"]
    change = run.arrays(f"edits_{name}")["change"]
    least = int(ranks.mean(1).argmin())
    return [
        from_seeds(
            ranks[least], id=f"7{letter}m", paper=f"{PAPER}; Chen et al. 2024",
            paper_value="< 0.1", rule=below(0.1),
            statement=f"{name}: least rank over pixels, at sigma / alpha = {levels[least]:g}",
        ),
        from_seeds(
            ranks[0], id=f"7{letter}l", paper=f"{PAPER}; Chen et al. 2024", paper_value="near 1",
            statement=f"{name}: rank over pixels at sigma / alpha = {levels[0]:g}",
            rule=above(0.5),
        ),
        from_seeds(
            change[:, 0] / change[:, -1], id=f"10{letter}", paper="Chen et al. 2024",
            paper_value="> 1", rule=above(2.0),
            statement=f"{name}: change of x0_hat along v_1 over that along a random direction",
        ),
    ]  # fmt: skip
