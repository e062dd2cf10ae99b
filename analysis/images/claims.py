"""Figures, scores and claims of the study `images`, from its run folder alone.

Samples are judged in pixels and by a classifier that the study trains itself; beside them stand
real test pictures, a Gaussian fit, and samples by the exact denoiser of the training pictures. One
net a run, so intervals are over pictures: 1.96 standard errors. Every score with its setting is in
`figures/scores.md`.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from analysis.images import figures, scores
from analysis.images.scores import Judged, read_judged
from dfx import metrics, recipes
from dfx.runs import Claim, Record, above, below, read_run

#: What the judge must get right of the test pictures to be believed, where its set is easy.
TRUST = {"digits": 0.9, "mnist": 0.97}
COPIES = 0.01  # how much more of the samples than of real pictures may lie near a training picture
AS_PAPER = 1.05  # how far an FID may be above the paper's: it varies by 2 % between draws (EDM)
PAPERS_SAMPLES = 50_000
DOUBT = 0.15  # how much less of the samples than of real pictures the judge may be sure of


def analyse(folder: Path) -> list[Claim]:
    """Draw every figure that the run has arrays for, write the scores, and return the claims."""
    run = read_run(folder)
    judged = read_judged(run)
    figures.draw(run, judged)
    scores.write(run, judged)
    claims: list[Claim] = []
    if "loss" in run.config.evaluation.parts:
        claims += loss_claims(run, judged)
    if "judge" in run.config.evaluation.parts:
        claims += judge_claims(run, judged)
    if "neighbours" in run.config.evaluation.parts:
        claims.append(copies_claim(judged))
    if "bits" in run.config.evaluation.parts:
        claims += bits_claims(judged)
    if "fid" in judged.last:
        claims += fid_claims(run, judged)
    return claims


def loss_claims(run: Record, judged: Judged) -> list[Claim]:
    """Claims 1: the net denoises pictures it has not seen better than what needs no training."""
    ours, floors = judged.last["loss_test"], run.arrays("floors")
    gaussian = judged.references["gaussian"]["loss_test"]
    return [
        ratio_claim(
            ours, np.array([floors["constant"], 0.0]), "1a",
            "held-out loss over that of the best constant predictor",
        ),
        ratio_claim(
            ours, gaussian, "1b", "held-out loss over that of the Gaussian fit's exact denoiser"
        ),
    ]  # fmt: skip


def judge_claims(run: Record, judged: Judged) -> list[Claim]:
    """Claims 2 to 4: the judge can be trusted; classes are there and clear; features are near."""
    ours, real = judged.last, judged.references["real"]
    claims = []
    name, sure = run.config.data.name, run.config.judge.sure
    if name in TRUST:
        right = run.arrays("judge")["right"]
        share, low, high = map(float, metrics.wilson(int(right.sum()), len(right)))
        statement, rule = "the judge is right on the test half", above(TRUST[name])
        claims.append(our_claim(share, low, high, "2a", statement, rule, "of pictures"))
    count = float(metrics.class_histogram(ours["probabilities"]).counts.astype(bool).sum())
    classes = ours["probabilities"].shape[1]
    claims.append(our_claim(count, count, count, "2b", "classes among the samples", above(classes)))
    gap = difference(is_sure(real, sure), is_sure(ours, sure))
    claims += [
        our_claim(
            *gap, "3",
            f"judge at least {sure:g} sure: share of real pictures minus share of samples",
            below(DOUBT), "of pictures",
        ),
        ratio_claim(
            ours["frechet_limit"], judged.references["gaussian"]["frechet_limit"], "4",
            "Frechet distance of features to the training set, over the Gaussian fit's",
        ),
    ]  # fmt: skip
    return claims


def copies_claim(judged: Judged) -> Claim:
    """Claim 5: samples are no copies, as far as held-out pictures are none."""
    ours, real = (
        found["ratio"] < metrics.memorisation.CUT
        for found in (judged.last, judged.references["real"])
    )
    return our_claim(
        *difference(ours, real), "5",
        "copies (a third of the second distance): share of samples minus share of real pictures",
        below(COPIES), "of pictures", "Yoon et al. 2023, section 3",
    )  # fmt: skip


def bits_claims(judged: Judged) -> list[Claim]:
    """Claim 6: the net codes test pictures better than the Gaussian fit does."""
    gaussian = judged.references["gaussian"].get("bits")
    if gaussian is None:  # its covariance is of lower rank
        return []
    ours = judged.last["bits"]
    return [
        our_claim(
            *interval(ours[0] - gaussian[0], math.hypot(ours[1], gaussian[1])), "6",
            "bits per dimension of test pictures minus those under the Gaussian fit",
            below(0.0), "bits",
        )
    ]  # fmt: skip


def fid_claims(run: Record, judged: Judged) -> list[Claim]:
    """Claims 7: the FID is below the Gaussian fit's, and near the one that the paper prints. That
    has the bias of its number of samples: fewer are not compared with it."""
    ours, gaussian = judged.last["fid"], judged.references["gaussian"]["fid"]
    claims = [ratio_claim(ours, gaussian, "7a", "FID over the Gaussian fit's")]
    if judged.last["count"] < PAPERS_SAMPLES:
        return claims
    source = recipes.make(run.config.recipe).source
    for letter, paper in zip("bcdef", scores.published(run)):
        statement = f"FID of {judged.last['count']:,} samples (paper: {paper.how})"
        claims.append(
            our_claim(
                *interval(*ours), f"7{letter}", statement, below(AS_PAPER * paper.value),
                paper=source, paper_value=f"{paper.value:g}",
            )
        )  # fmt: skip
    return claims


def is_sure(found, sure: float) -> np.ndarray:
    """Return of which pictures' classes the judge is that sure, bool (n,)."""
    return found["probabilities"].max(axis=1) >= sure


def difference(hits: np.ndarray, others: np.ndarray) -> tuple[float, float, float]:
    """Return the share of hits minus that of others, with the ends of its 95% interval.

    Made of both score intervals, so that no hits at all are no certainty.
    Source: Newcombe 1998, method 10.
    """
    (p, low, high), (q, below_q, above_q) = (
        map(float, metrics.wilson(int(part.sum()), len(part))) for part in (hits, others)
    )
    down, up = math.hypot(p - low, above_q - q), math.hypot(high - p, q - below_q)
    return p - q, p - q - down, p - q + up


def ratio_claim(ours, other, id: str, statement: str) -> Claim:
    """Return the claim that one estimate, (value, error), is below another."""
    value = ours[0] / other[0]
    error = abs(value) * math.hypot(ours[1] / ours[0], other[1] / other[0])
    return our_claim(*interval(value, error), id, statement, below(1.0))


def our_claim(
    value, low, high, id, statement, rule, unit="", paper="ours", paper_value="-"
) -> Claim:
    """Return a claim; unless a paper is named, of the study's own."""
    return Claim(id, paper, statement, paper_value, value, low, high, rule, unit)


def interval(value: float, error: float) -> tuple[float, float, float]:
    """Return a value with the ends of its 95% interval."""
    return float(value), float(value - 1.96 * error), float(value + 1.96 * error)
