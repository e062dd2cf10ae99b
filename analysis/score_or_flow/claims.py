"""Figures and claims of the study `score_or_flow`, from its run folder alone.

The numbers of the paper are not known to us (its abstract has none): a claim's "paper value" is the
direction that the abstract states, or a value derived. Intervals are 95% over seeds (Student's t),
of ratios that of the logarithm; what quadrature finds has none, its bound is the tolerance of its
rule.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from analysis.score_or_flow import figures, statistics
from analysis.score_or_flow.claims_nets import picture_claims, toy_claims
from analysis.score_or_flow.sources import DERIVED, PAPER
from dfx.runs import Claim, Record, above, below, exact, from_ratios, read_run, within


def analyse(folder: Path) -> list[Claim]:
    """Draw every figure that the run has arrays for, and return the claims."""
    run = read_run(folder)
    claims: list[Claim] = []
    for part, of in {
        "identities": identity_claims,
        "errors": error_claims,
        "toy": toy_claims,
        "pictures": picture_claims,
    }.items():
        if part in run.config.parts:
            figures.draw(run, part)
            claims += of(run)
    return sorted(claims, key=lambda claim: claim.id)


def identity_claims(run: Record) -> list[Claim]:
    """Claims 6, 7 and 8, and the rates of planted errors."""
    return [*flow_claims(run), *loss_claims(run), *line_claims(run), *planted_claims(run)]


def flow_claims(run: Record) -> list[Claim]:
    """Claim 6: the forward process falls down KL(. | pi) as a gradient flow does."""
    flow = run.arrays("gradient_flow")
    claims = [
        exact(
            statistics.relative_gap(flow[f"{law}.measured"], flow[f"{law}.predicted"]),
            id=f"6{letter}", paper=f"{PAPER}; {DERIVED}", paper_value="0", rule=below(1e-4),
            statement=f"{law}: slope of KL(p_t | pi) against -(beta/2) I, largest relative gap",
        )
        for letter, law in zip("ab", ("line", "plane"))
    ]  # fmt: skip
    return [
        *claims,
        exact(
            flow["gaussian"][1], id="6c", paper=DERIVED, paper_value="-0.1674761",
            statement="N(0, 0.3), beta = 2, t = 0.37: slope of KL(p_t | pi)",
            rule=within(-0.1674771, -0.1674751), unit="nats per time",
        ),
    ]  # fmt: skip


def loss_claims(run: Record) -> list[Claim]:
    """Claim 7: matched, the three losses are one; plain, they look at other noise levels."""
    curves, medians = run.arrays("losses")["matched"], statistics.weighted_log_snr(run)
    gap = np.max(statistics.relative_gap(curves[1:], curves[:1]))
    return [
        exact(
            gap, id="7a", paper=f"{PAPER}; {DERIVED}", paper_value="0", rule=below(1e-8),
            statement=f"eps, score and velocity loss, matched: {curves.shape[1]} steps, gap",
        ),
        *(
            exact(
                medians[name] - medians["eps"], id=f"7{letter}", paper=DERIVED, paper_value="> 0",
                statement=f"plain {name} loss: median log-SNR of its weight minus that of eps",
                rule=above(0.0), unit="nats",
            )
            for letter, name in (("b", "score"),)
        ),
        exact(
            medians["velocity"] - medians["eps"], id="7c", paper=DERIVED, paper_value="-",
            statement="plain velocity loss: median log-SNR of its weight minus that of eps",
            rule=below(0.0), unit="nats",
        ),
    ]  # fmt: skip


def line_claims(run: Record) -> list[Claim]:
    """Claim 8: on the line there is no gauge part, and the rate is all of the error's."""
    line = run.arrays("rates_line")
    bound = np.sqrt(line["error_gradient"] * line["fisher"])
    return [
        exact(
            np.max(statistics.gauge_share(line)), id="8a", paper=DERIVED, paper_value="0",
            statement="one dimension: gauge part of the error, largest share", rule=below(1e-12),
        ),
        exact(
            statistics.relative_gap(line["measured"], line["predicted"]), id="8b", paper=DERIVED,
            paper_value="0", rule=below(0.01),
            statement="one dimension: dKL/dt measured against predicted, largest gap",
        ),
        exact(
            np.max(np.abs(line["measured"]) / bound), id="8c", paper=DERIVED, paper_value="< 1",
            statement="one dimension: |dKL/dt| over |grad eta| I^(1/2), largest", rule=below(1.0),
        ),
    ]  # fmt: skip


def planted_claims(run: Record) -> list[Claim]:
    """W4: of a planted error the gradient part alone drives KL(p | q)."""
    gauge, both = run.arrays("rates_gauge"), run.arrays("rates_both")
    return [
        exact(
            np.max(np.abs(gauge["kl"])), id="W4a", paper=DERIVED, paper_value="0",
            statement=f"gauge error of size {run.config.rates.gauge:g} |s|: largest KL(p_t | q_t)",
            rule=below(1e-3), unit="nats",
        ),
        exact(
            statistics.relative_gap(both["measured"], both["gradient"]), id="W4b", paper=DERIVED,
            paper_value="0", rule=below(0.05),
            statement="gauge and gradient error: dKL/dt against that of grad eta, largest gap",
        ),
        exact(
            np.max(np.abs(both["gauge"] / both["gradient"])), id="W4c", paper=DERIVED,
            paper_value="0", rule=below(0.05),
            statement="the same: rate of the gauge part over that of grad eta, largest",
        ),
    ]  # fmt: skip


def error_claims(run: Record) -> list[Claim]:
    """Claims 3 and 4: harmless and harmful errors of equal size, and of equal asymmetry too."""
    sizes, twin = [c for c in run.config.errors.sizes if c > 0], run.config.errors.twin
    floor, at_one = statistics.w2(run, "gauge", 0.0), min(sizes, key=lambda c: abs(c - 1))
    nfe, largest, euler = statistics.euler_ratio(run)
    harmless = [
        from_ratios(
            statistics.w2(run, "gauge", size) / floor, id=f"3{letter}", paper=PAPER,
            paper_value="1", rule=within(0.8, 1.2),
            statement=f"error {size:g} A s, fine steps: W2 over that of the exact score",
        )
        for letter, size in zip("abcdefgh", sizes)
    ]  # fmt: skip
    return [
        *harmless,
        from_ratios(
            euler, id="3z", paper=DERIVED, paper_value="> 1", rule=above(1.5),
            statement=f"error {largest:g} A s, {nfe} Euler steps: W2 over that of the exact score",
        ),
        from_ratios(
            statistics.w2(run, "gradient", at_one) / statistics.w2(run, "gauge", at_one),
            id="4a", paper=PAPER, paper_value="> 1", rule=above(2.0),
            statement=f"equal size {at_one:g} |s|: W2 of a gradient over that of a gauge error",
        ),
        from_ratios(
            statistics.w2(run, "twin", twin) / statistics.w2(run, "gauge", twin),
            id="4b", paper=PAPER, paper_value="> 1", rule=above(2.0),
            statement=f"equal size {twin:g} |s| and equal asymmetry: W2 of harmful over harmless",
        ),
        *(
            exact(
                statistics.relative_gap(
                    statistics.planted(run, name, "twin", twin),
                    statistics.planted(run, name, "gauge", twin),
                ),
                id=f"4{letter}", paper=DERIVED, paper_value="0", rule=below(1e-3),
                statement=f"that pair: gap of {label} over the noise levels, largest",
            )
            for letter, name, label in (("c", "error", "E|e|^2"), ("d", "asymmetry", "asymmetry"))
        ),
    ]  # fmt: skip
