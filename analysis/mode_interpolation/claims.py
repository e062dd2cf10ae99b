"""Figures and claims of the study `mode_interpolation`, from its run folder alone.

A sample is hallucinated if it lies more than `config.detection.cut` standard deviations from every
mode. The threshold of a detector is chosen on one seed and judged on the next. Intervals are 95%
over seeds (Student's t), of ratios and of the share that spans decades that of the logarithm; of
shares of a few samples they also hold what so few can tell (`analysis.shares`).
"""

from __future__ import annotations

from pathlib import Path

from analysis.mode_interpolation import figures, picture_figures
from analysis.mode_interpolation.statistics import (
    Hallucinations,
    control_share,
    generation_shares,
    slope_ratios,
    spacing_cut,
    window_column,
)
from analysis.shares import from_shares
from dfx.runs import Claim, Record, above, below, from_ratios, from_seeds, read_run

PAPER = "Aithal et al. 2024"

WINDOW = 10  # the paper's code takes the variance over the last ten steps

# 0 of 50,000 exact-score samples bounds their share by 7.7e-5 (Wilson, 95%); what exceeds this is
# the net's doing.
CONTROL_BOUND = 1e-4


def analyse(folder: Path) -> list[Claim]:
    """Draw every figure that the run has arrays for, and return the claims."""
    run = read_run(folder)
    claims: list[Claim] = []
    if "gaussians" in run.config.parts:
        figures.draw_gaussians(run)
        claims += place_claims(run) + amount_claims(run) + cause_claims(run) + detection_claims(run)
    if "recursion" in run.config.parts:
        figures.draw_recursion(run)
        claims.append(recursion_claim(run))
    if "pictures" in run.config.parts:
        claims += picture_figures.draw_pictures(run)
    return claims


def place_claims(run: Record) -> list[Claim]:
    """Claims 1 and 2: there are samples between modes, and between nearest modes only."""
    one, two = Hallucinations(run, "one_d"), Hallucinations(run, "two_d")
    many = Hallucinations(run, "one_d_detection", "one_d")  # the largest draw of the same nets
    cut = f"{run.config.detection.cut:g} sd"
    count, low, high = control_share(run, "base")
    return [
        from_ratios(
            many.share("base"), id="1a", paper=f"{PAPER}, fig. 1", paper_value="visible",
            statement=f"{{1,2,3}}: nets put samples beyond {cut} of every mode",
            rule=above(CONTROL_BOUND), unit="of samples",
        ),
        Claim(
            id="1b", paper=f"{PAPER}, appendix", paper_value="none",
            statement=f"{{1,2,3}}: the exact score puts none beyond {cut}",
            ours=count, low=low, high=high, rule=below(CONTROL_BOUND), unit="of samples",
        ),
        from_shares(
            many.inside("base"), id="1c", paper=PAPER, paper_value="all",
            statement="{1,2,3}: these lie between the outer modes",
            rule=above(0.95), unit="of these",
        ),
        from_shares(
            one.near_gaps("four"), id="2a", paper=PAPER, paper_value="most",
            statement="{1,2,4,5}: they lie in (1,2) and (4,5), not in (2,4)",
            rule=above(0.9), unit="of these",
        ),
        from_shares(
            two.on_edges("grid"), id="2b", paper=PAPER, paper_value="on edges",
            statement="grid: nearer to an edge than to a diagonal (uniform: 0.41)",
            rule=above(0.8), unit="of these",
        ),
        from_shares(
            two.on_edges("rotated"), id="2c", paper=PAPER, paper_value="on edges",
            statement="rotated grid: along the rotated edges (uniform: 0.41)",
            rule=above(0.8), unit="of these",
        ),
    ]  # fmt: skip


def amount_claims(run: Record) -> list[Claim]:
    """Claim 3: fewer of them with more data, and with more distance between modes."""
    one, settings, cut = Hallucinations(run, "one_d"), run.config.one_d, spacing_cut(run)
    few, widest = min(settings.data_sizes), max(settings.spacings)
    closest = f"spacing_{min(settings.spacings):g}" if min(settings.spacings) < 1 else "base"
    return [
        from_seeds(
            one.share(f"points_{few}") - one.share("base"), id="3a", paper=PAPER, paper_value="> 0",
            statement=f"more data, fewer: n = {few} minus n = {settings.data_size}",
            rule=above(0.0), unit="of samples",
        ),
        from_seeds(
            one.share(closest, cut) - one.share(f"spacing_{widest:g}", cut), id="3b", paper=PAPER,
            paper_value="> 0", rule=above(0.0), unit="of samples",
            statement=f"wider apart, fewer: closest minus widest spacing, beyond {cut:g} sd",
        ),
    ]  # fmt: skip


def cause_claims(run: Record) -> list[Claim]:
    """Claims 4 and 6: the learned denoiser is a smoothed one, and keeps moving for such samples."""
    step, ratios = slope_ratios(run)
    one, column = Hallucinations(run, "one_d_detection", "one_d"), window_column(run, WINDOW)
    ddim = Hallucinations(run, "one_d_ddim", "one_d")
    return [
        from_seeds(
            ratios[0], id="4", paper=f"{PAPER}, fig. 3", paper_value="< 1",
            statement=f"learned / exact slope of x0_hat at the midpoints, step {step[0]}",
            rule=below(0.5),
        ),
        from_ratios(
            one.variance_ratio(column), id="6", paper=f"{PAPER}, fig. 5", paper_value="> 1",
            statement="late variance of x0_hat: hallucinated / in support (medians)",
            rule=above(2.0),
        ),
        from_seeds(
            ddim.share("base") - one.share("base"), id="P7",
            paper="arXiv 2605.06831", paper_value="> 0",
            statement="the same nets hallucinate more with DDIM than with DDPM",
            rule=above(0.0), unit="of samples",
        ),
    ]  # fmt: skip


def detection_claims(run: Record) -> list[Claim]:
    """Claim 5: the threshold that keeps 96% of the samples in support removes over 95% of the
    others."""
    keep, column = run.config.detection.keep, window_column(run, WINDOW)
    found = {
        "{1,2,3}": Hallucinations(run, "one_d_detection", "one_d"),
        "grid": Hallucinations(run, "two_d"),
    }
    return [
        from_shares(
            samples.removed(column, keep), id=f"5{letter}", paper=f"{PAPER}, abstract",
            paper_value="> 0.95", rule=above(0.95), unit="of these",
            statement=f"{where}: removed at the threshold that keeps {keep:g}",
        )
        for letter, (where, samples) in zip("ab", found.items())
    ]  # fmt: skip


def recursion_claim(run: Record) -> Claim:
    """Claim 7: dropping by late variance keeps the share lower over generations than dropping at
    random."""
    shares = generation_shares(run)
    return from_seeds(
        shares["random"][-1] - shares["variance"][-1], id="7", paper=f"{PAPER}, abstract",
        paper_value="> 0", rule=above(0.0), unit="of samples",
        statement=f"grid, generation {len(shares['random']) - 1}: random minus variance filter",
    )  # fmt: skip
