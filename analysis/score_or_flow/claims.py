"""Figures and claims of the study `score_or_flow`, from its run folder alone.

The numbers of the paper are not known to us (its abstract has none): a claim's "paper value" is the
direction that the abstract states, or a value derived. Intervals are 95% over seeds (Student's t);
what quadrature finds has none, its bound is the tolerance of its rule.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from analysis.score_or_flow import figures, statistics
from dfx.runs import Claim, Record, above, below, from_seeds, read_run, within

PAPER = "Vuong et al. 2025"
DERIVED = "derived"

#: |J - J^T|^2 / 4|J|^2 of a gradient in float32: rounding of 6e-8, made 50 times larger where the
#: score is read off x0 at sigma / alpha = 0.02, squared, and a factor of 100 in hand.
FLOAT32_FLOOR = 1e-9

#: Circulation over its bound of a gradient in float64, by the same count, unsquared.
FLOAT64_FLOOR = 1e-11


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


def exact(value: Any, **fields: Any) -> Claim:
    """Return a claim on a number that has no sampling error."""
    return Claim(ours=float(value), low=float(value), high=float(value), **fields)


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
        from_seeds(
            statistics.w2(run, "gauge", size) / floor, id=f"3{letter}", paper=PAPER,
            paper_value="1", rule=within(0.8, 1.2),
            statement=f"error {size:g} A s, fine steps: W2 over that of the exact score",
        )
        for letter, size in zip("abcdefgh", sizes)
    ]  # fmt: skip
    return [
        *harmless,
        from_seeds(
            euler, id="3z", paper=DERIVED, paper_value="> 1", rule=above(1.5),
            statement=f"error {largest:g} A s, {nfe} Euler steps: W2 over that of the exact score",
        ),
        from_seeds(
            statistics.w2(run, "gradient", at_one) / statistics.w2(run, "gauge", at_one),
            id="4a", paper=PAPER, paper_value="> 1", rule=above(2.0),
            statement=f"equal size {at_one:g} |s|: W2 of a gradient over that of a gauge error",
        ),
        from_seeds(
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


def toy_claims(run: Record) -> list[Claim]:
    """Claims 1, 2 and 5, the rates of trained nets, and the joint table."""
    return [
        *gradient_claims(run), *training_claims(run), *split_claims(run), *joint_claims(run)
    ]  # fmt: skip


def gradient_claims(run: Record) -> list[Claim]:
    """Claim 1: a free net is no gradient at any noise level; the others are."""
    floor = statistics.asymmetry(run, "exact")
    free, twin = (statistics.asymmetry(run, kind) for kind in ("free", "conservative"))
    own = statistics.asymmetry(run, "free", "_own")
    around = {kind: statistics.circulation(run, kind)[..., -1] for kind in _kinds(run)}
    return [
        from_seeds(
            np.log10(free / floor).min(axis=1), id="1a", paper=f"{PAPER}, abstract",
            paper_value="> 0", statement="free nets: log10 asymmetry over the exact score's, least",
            rule=above(1.0),
        ),
        from_seeds(
            statistics.over_levels(free), id="1b", paper=PAPER, paper_value="-",
            statement="free nets: asymmetry, geometric mean over noise levels", rule=above(1e-6),
        ),
        from_seeds(
            twin.max(axis=1), id="1c", paper=DERIVED, paper_value="0",
            statement="conservative nets: largest asymmetry, float32", rule=below(FLOAT32_FLOOR),
        ),
        from_seeds(
            around["free"].min(axis=1), id="1d", paper=f"{PAPER}, abstract", paper_value="> 0",
            statement="free nets: circulation over its bound, rms, least over levels, float64",
            rule=above(100 * FLOAT64_FLOOR),
        ),
        from_seeds(
            around["conservative"].max(axis=1), id="1e", paper=DERIVED, paper_value="0",
            statement="conservative nets: the same, largest over levels",
            rule=below(FLOAT64_FLOOR),
        ),
        from_seeds(
            statistics.circulation_slope(run), id="1f", paper=DERIVED, paper_value="2",
            statement="slope of log |C| against log r, small circles", rule=within(1.95, 2.05),
        ),
        from_seeds(
            statistics.over_levels(own / free), id="1g", paper=DERIVED, paper_value="-",
            statement="asymmetry on the nets' own trajectories over that on p_t",
            rule=within(0.5, 2.0),
        ),
    ]  # fmt: skip


def _kinds(run: Record) -> tuple[str, ...]:
    return (*run.config.toy.kinds, "exact")


def training_claims(run: Record) -> list[Claim]:
    """Claim 2: samples get better while the field does not become a gradient."""
    arrays = run.arrays("free_training")
    first = int(np.flatnonzero(arrays["steps"] > 0)[0])
    start, steps = (arrays["steps"][i] for i in (first, -1))
    levels = statistics.over_levels(arrays["asymmetry"])
    return [
        from_seeds(
            arrays["w2"][:, -1] / arrays["w2"][:, first], id="2a", paper=f"{PAPER}, abstract",
            paper_value="< 1", statement=f"W2 after {steps} steps over that after {start}",
            rule=below(0.5),
        ),
        from_seeds(
            levels[:, -1] / levels[:, first], id="2b", paper=f"{PAPER}, abstract",
            paper_value="not 0", rule=above(0.1),
            statement=f"asymmetry after {steps} steps over that after {start}",
        ),
    ]  # fmt: skip


def split_claims(run: Record) -> list[Claim]:
    """Claim 5 and W4 on trained nets: what the part that is no gradient does."""
    share, arrays = statistics.remainder_share(run), run.arrays("projection_samples")
    rates = run.arrays("net_rates")
    net, gradient, _ = range(3)
    return [
        from_seeds(
            share.mean(axis=1), id="5a", paper=PAPER, paper_value="-", rule=above(0.01),
            statement="free nets: E|r|^2 / E|e|^2, mean over noise levels",
        ),
        from_seeds(
            arrays["w2"][gradient] / arrays["w2"][net], id="5b", paper=PAPER, paper_value="1",
            statement="W2 to the truth: grad phi over s_theta", rule=within(0.9, 1.1),
        ),
        from_seeds(
            arrays["kl"][gradient] / arrays["kl"][net], id="5c", paper=PAPER, paper_value="1",
            statement="KL(p | q): grad phi over s_theta", rule=within(0.8, 1.25),
        ),
        from_seeds(
            statistics.gauge_share(rates).mean(axis=1), id="5d", paper=DERIVED, paper_value="-",
            statement="free nets: E|r|^2 / E|e|^2 by the Poisson equation on a grid",
            rule=above(0.01),
        ),
        from_seeds(
            (rates["gradient"] / rates["measured"]).mean(axis=1), id="W4d", paper=DERIVED,
            paper_value="1", rule=within(0.95, 1.05),
            statement="free nets: dKL/dt predicted from grad eta alone over measured",
        ),
        from_seeds(
            np.abs(rates["gauge"] / rates["gradient"]).mean(axis=1), id="W4e", paper=DERIVED,
            paper_value="0", statement="free nets: |rate of the gauge part| over that of grad eta",
            rule=below(0.05),
        ),
    ]  # fmt: skip


def joint_claims(run: Record) -> list[Claim]:
    """The joint table: does a net that is a gradient, or consistent in time, sample better?"""
    table = statistics.joint_table(run)
    free, twin = table["free"], table["conservative"]
    claims = [
        from_seeds(
            twin["ode"] / free["ode"], id="Ja", paper=DERIVED, paper_value="-",
            statement="W2(ODE, truth): conservative over free", rule=within(0.5, 2.0),
        ),
    ]  # fmt: skip
    if "regularised" not in table:
        return claims
    other = table["regularised"]
    return [
        *claims,
        from_seeds(
            other["potential_residual"] / twin["potential_residual"], id="Jb", paper=DERIVED,
            paper_value="< 1", statement="Var R: regularised over conservative", rule=below(1.0),
        ),
        from_seeds(
            other["between"] / twin["between"], id="Jc", paper=DERIVED, paper_value="< 1",
            statement="W2(ODE, SDE): regularised over conservative", rule=below(1.0),
        ),
        from_seeds(
            other["ode"] / twin["ode"], id="Jd", paper=DERIVED, paper_value="-",
            statement="W2(ODE, truth): regularised over conservative", rule=within(0.5, 2.0),
        ),
    ]  # fmt: skip


def picture_claims(run: Record) -> list[Claim]:
    """Claim 1 on pictures."""
    found, name = run.arrays("pictures"), run.config.pictures.name
    ratio = np.log10(found["asymmetry"] / found["floor_asymmetry"]).min(axis=1)
    around = np.log10(found["circulation"] / found["floor_circulation"]).min(axis=1)
    return [
        from_seeds(
            found["asymmetry"].max(axis=1), id="Pa", paper=f"{PAPER}, abstract", paper_value="> 0",
            statement=f"{name}: asymmetry by probes, largest over levels", rule=above(1e-4),
        ),
        from_seeds(
            ratio, id="Pb", paper=f"{PAPER}, abstract", paper_value="> 0", rule=above(1.0),
            statement=f"{name}: log10 asymmetry over that of an exact score, least",
        ),
        from_seeds(
            around, id="Pc", paper=f"{PAPER}, abstract", paper_value="> 0", rule=above(1.0),
            statement=f"{name}: log10 circulation over that of an exact score, least",
        ),
        from_seeds(
            statistics.over_levels(found["planes"] / found["asymmetry"]), id="Pd", paper=DERIVED,
            paper_value="1", statement=f"{name}: asymmetry by loops in random planes over probes",
            rule=within(0.5, 2.0),
        ),
        from_seeds(
            statistics.over_levels(found["block"] / found["asymmetry"]), id="Pe", paper=PAPER,
            paper_value="-", statement=f"{name}: asymmetry of a block over that of the whole",
            rule=within(0.2, 5.0),
        ),
    ]  # fmt: skip
