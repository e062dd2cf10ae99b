"""Claims of the study `subspace_clustering` on fields: perceptrons, Jacobians, edits, pictures."""

from __future__ import annotations

import numpy as np

from analysis.subspace_clustering import statistics
from analysis.subspace_clustering.sources import DERIVED, PAPER
from analysis.subspace_clustering.statistics import MIDDLE, resampled
from dfx.runs import Claim, Record, above, below, from_ratios, from_seeds, within


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
        resampled(
            gap, settings.num_seeds, id="6a", paper=f"{PAPER}, fig. 5a", paper_value="0",
            statement=f"perceptrons: score of d = {settings.dims} at equal N_k / d, mean gap of "
            "the curves", rule=below(0.1),
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
        for name in run.config.pictures.names
        for claim in _picture_claims(run, name, LETTERS[name])
    ]


#: What the claims on a set of pictures have in their names.
LETTERS = {"digits": "x", "mnist": "y", "cifar10": "z", "fashion_mnist": "w"}


def _picture_claims(run: Record, name: str, letter: str) -> list[Claim]:
    change = run.arrays(f"edits_{name}")["change"]
    return [
        *_picture_rank_claims(run, name, letter),
        from_ratios(
            change[:, 0] / change[:, -1], id=f"10{letter}", paper="Chen et al. 2024",
            paper_value="> 1", rule=above(2.0),
            statement=f"{name}: change of x0_hat along v_1 over that along a random direction",
        ),
    ]  # fmt: skip


def _picture_rank_claims(run: Record, name: str, letter: str) -> list[Claim]:
    """The rank is below a tenth of the numbers of a picture throughout the middle, so that its
    largest value counts there, and nearer to all than to none of them at both ends; where the run
    has levels."""
    ranks, levels = statistics.picture_ranks(run, name), run.arrays(f"rank_{name}")["levels"]
    low, high = (np.flatnonzero(found) for found in (levels < MIDDLE[0], levels > MIDDLE[1]))
    middle = np.arange(len(levels))[len(low) : len(levels) - len(high)]
    most = middle[ranks[middle].mean(1).argsort()]
    return [
        from_seeds(
            ranks[rows[at]], id=f"7{letter}{part}", paper="Chen et al. 2024", paper_value=value,
            statement=f"{name}: rank over pixels {what} = {levels[rows[at]]:g}", rule=rule,
        )
        for part, rows, at, what, value, rule in (
            ("m", most, -1, "for t in 0.2 to 0.7, largest at sigma / alpha", "< 0.1", below(0.1)),
            ("l", low, 0, "at the clean end, sigma / alpha", "near 1", above(0.5)),
            ("h", high, -1, "at the noisy end, sigma / alpha", "near 1", above(0.5)),
        )
        if len(rows)
    ]  # fmt: skip
