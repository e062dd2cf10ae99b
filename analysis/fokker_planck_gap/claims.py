"""Figures, table and claims of the study `fokker_planck_gap`, from its run folder alone.

"The paper's" numbers are those that the authors' published samples and weights give. Claims about
signs are judged on every data law and seed: the finding is the part for which the sign is as
claimed, and has no interval. Factors are geometric means over seeds, with 95% intervals (Student's
t of the logarithm). They are asked to reach the paper's in its own size of run alone; in smaller
ones they must exceed 1.

All distances are those within the window of half-width 3.5, as the paper's: it drops the samples
beyond without counting them. Claim 0c and the table say how much lies there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from analysis.fokker_planck_gap import figures, statistics
from analysis.fokker_planck_gap.statistics import GAP, ODE, REFERENCES, SDE
from dfx.runs import (
    Claim,
    Record,
    Rule,
    above,
    below,
    exact,
    from_ratios,
    from_seeds,
    read_run,
    within,
)
from experiments.fokker_planck_gap.data import SETS

PAPER = "Deveney et al. 2023"

#: W_2^2 between histograms of 64 x 64 of two samples of three million points of the mixture: what
#: is below it could not be seen in the paper.
FLOOR = 4e-4

#: Indices of the weights 0, 0.1, 1 and 10, which the config asks for.
NONE, LOW, MIDDLE, HIGH = range(4)


def analyse(folder: Path) -> list[Claim]:
    """Draw every figure, write the table and return the claims."""
    run = read_run(folder)
    figures.draw(run)
    statistics.write_table(run)
    return control_claims(run) + gap_claims(run) + truth_claims(run) + residual_claims(run)


def control_claims(run: Record) -> list[Claim]:
    """Claims 0: the computation leaves less than the paper could see, and the window is whole."""
    control = run.arrays("exact")["smooth"]
    moved = max(statistics.step_error(run, law).max() for law in SETS)
    beyond = max(run.arrays(f"distances_{law}")["outside"][:, :2].max() for law in SETS)
    return [
        exact(
            control.max(), id="0a", paper="exact score", paper_value="0", rule=below(FLOOR),
            statement="mixture, exact score: largest W_2^2 among ODE, SDE and data",
        ),
        exact(
            moved, id="0b", paper="two step sizes", paper_value="0", rule=below(FLOOR),
            statement="half the steps: largest change of W_2^2(ODE, SDE), first seeds",
        ),
        exact(
            beyond, id="0c", paper="mass in the window", paper_value="not counted",
            statement="largest mass that ODE or SDE of any net has beyond the window",
            rule=below(0.01),
        ),
    ]  # fmt: skip


def gap_claims(run: Record) -> list[Claim]:
    """Claims 1, 2 and 7: there is a gap, the residual closes it, and goes with it."""
    gaps = {law: statistics.distances(run, law) for law in SETS}
    ratios = {law: gap[GAP, NONE] / gap[SDE, NONE] for law, gap in gaps.items()}
    factors = {law: gap[GAP, NONE] / gap[GAP, HIGH] for law, gap in gaps.items()}
    theirs = {law: REFERENCES[law].distances for law in SETS}
    claims = [
        _factor(
            run, ratios[law], known[GAP, NONE] / known[SDE, NONE], 5.0, id=f"1{letter}",
            paper=PAPER, statement=f"{law}, w_R = 0: W_2^2(ODE, SDE) / W_2^2(SDE, data)",
        )
        for letter, (law, known) in zip("abc", theirs.items())
    ]  # fmt: skip
    claims.append(
        _signs(
            [statistics.falls(gap[GAP]) for gap in gaps.values()], id="2a", paper=PAPER,
            statement="W_2^2(ODE, SDE) falls with every rise of w_R",
        )
    )  # fmt: skip
    if statistics.has_histograms(run):
        binned = [statistics.distances(run, law, "binned")[GAP] for law in SETS]
        claims.append(
            _signs(
                [statistics.falls(gap) for gap in binned], id="2b", paper=PAPER,
                statement="the same between histograms, as the paper takes it",
            )
        )  # fmt: skip
    for letter, (law, known) in zip("cde", theirs.items()):
        factor = known[GAP, NONE] / known[GAP, HIGH]
        claims.append(
            _factor(
                run, factors[law], factor, float(f"{factor:.2g}"), id=f"2{letter}", paper=PAPER,
                statement=f"{law}: W_2^2(ODE, SDE) at w_R = 0 over that at 10",
            )
        )  # fmt: skip
    slopes = [
        statistics.slope(statistics.spatial_residual(run, law), gap[GAP])
        for law, gap in gaps.items()
    ]
    claims.append(
        _signs(
            [slope > 0 for slope in slopes], id="7", paper=f"{PAPER}, scatter plot",
            statement="log W_2^2(ODE, SDE) rises with log Var_x R over the weights",
        )
    )  # fmt: skip
    return claims


def truth_claims(run: Record) -> list[Claim]:
    """Claims 3 to 6: what the residual costs and gives, against the data."""
    laws = [statistics.distances(run, law) for law in SETS]
    dsm = [statistics.measured(run, law, "dsm") for law in SETS]
    error = statistics.measured(run, "mixture", "score_error")
    known = REFERENCES["mixture"].score_error
    assert known is not None
    return [
        _signs(
            [d[ODE, [LOW, MIDDLE]].min(0) < d[ODE, NONE] for d in laws], id="3", paper=PAPER,
            statement="ODE is nearer to the data at w_R = 0.1 or 1 than at 0",
        ),
        _signs(
            [statistics.falls(-d[SDE]) for d in laws], id="4a", paper=f"{PAPER}, abstract",
            statement="SDE moves away from the data with every rise of w_R",
        ),
        _signs(
            [d[SDE, HIGH] > d[SDE, NONE] for d in laws], id="4b", paper=f"{PAPER}, abstract",
            statement="SDE is further from the data at w_R = 10 than at 0",
        ),
        _signs(
            [d[GAP, HIGH] < 0.5 * d[[ODE, SDE], HIGH].min(0) for d in laws], id="5", paper=PAPER,
            statement="w_R = 10: W_2^2(ODE, SDE) below half of that of either to the data",
        ),
        _signs(
            [loss[HIGH] > loss[NONE] for loss in dsm], id="6a", paper=PAPER,
            statement="the denoising loss is higher at w_R = 10 than at 0",
        ),
        from_ratios(
            error[LOW] / error[NONE], id="6b", paper=PAPER,
            paper_value=f"{known[LOW] / known[NONE]:.2g}", rule=below(1.0),
            statement="mixture: score error at w_R = 0.1 over that at 0",
        ),
    ]  # fmt: skip


def residual_claims(run: Record) -> list[Claim]:
    """Claims 8 to 10: the part of the residual that matters, its bound, and where it is large."""
    shares = np.stack([statistics.constant_share(run, law) for law in SETS])
    linear, line = run.arrays("bound")["linear"], run.arrays("bound")["line"]
    peaks = [statistics.measured(run, law, "score_residual")[NONE].argmax(-1) == 0 for law in SETS]
    return [
        from_seeds(
            shares[:, NONE].min(0), id="8a", paper=PAPER, paper_value="over 0.96",
            statement="w_R = 0: part of R^2 that is constant in space, least of the laws",
            rule=above(0.96),
        ),
        from_seeds(
            shares[:, LOW:].max((0, 1)), id="8b", paper=PAPER, paper_value="under 0.15",
            statement="w_R = 0.1 and more: the same, most of laws and weights", rule=below(0.15),
        ),
        exact(
            linear[1] / linear[0], id="9a", paper="Grönwall, linear score", paper_value="1",
            statement="linear score: bound of the gap over the gap", rule=within(0.9999, 1.0001),
        ),
        exact(
            (line[:, 1] / line[:, 0]).min(), id="9b", paper="Grönwall", paper_value="over 1",
            statement="bumps on the line: bound of the gap over the gap, the tightest",
            rule=above(1.0),
        ),
        _signs(
            peaks, id="10", paper="Lai et al. 2023",
            statement="w_R = 0: the residual of the score equation is largest at the first time",
        ),
    ]  # fmt: skip


def _signs(true: list[Any], **fields: Any) -> Claim:
    """A claim that is to be true for every law and seed."""
    found = statistics.share(true)
    return exact(
        found, paper_value="all", rule=above(1.0), unit="of laws and seeds", seeds=len(true[0]),
        **fields,
    )  # fmt: skip


def _factor(run: Record, values: Any, theirs: float, asked: float, **fields: Any) -> Claim:
    """A factor beside the paper's; `asked` is what it must reach in a run of the paper's size."""
    rule: Rule = above(asked if run.size in ("paper", "pod") else 1.0)
    return from_ratios(values, paper_value=f"{theirs:.2g}", rule=rule, **fields)
