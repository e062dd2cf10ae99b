"""Claims of the study `score_or_flow` on trained nets: in two dimensions, and of pictures."""

from __future__ import annotations

import numpy as np

from analysis.score_or_flow import statistics
from analysis.score_or_flow.sources import DERIVED, PAPER
from dfx.runs import Claim, Record, above, below, from_ratios, from_seeds, within

#: |J - J^T|^2 / 4|J|^2 of a gradient in float32: rounding of 6e-8, made 50 times larger where the
#: score is read off x0 at sigma / alpha = 0.02, squared, and a factor of 100 in hand.
FLOAT32_FLOOR = 1e-9

#: Circulation over its bound of a gradient in float64, by the same count, unsquared.
FLOAT64_FLOOR = 1e-11


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
        from_ratios(
            statistics.over_levels(free), id="1b", paper=PAPER, paper_value="-",
            statement="free nets: asymmetry, geometric mean over noise levels", rule=above(1e-6),
        ),
        from_seeds(
            twin.max(axis=1), id="1c", paper=DERIVED, paper_value="0",
            statement="conservative nets: largest asymmetry, float32", rule=below(FLOAT32_FLOOR),
        ),
        from_ratios(
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
        from_ratios(
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
        from_ratios(
            arrays["w2"][:, -1] / arrays["w2"][:, first], id="2a", paper=f"{PAPER}, abstract",
            paper_value="< 1", statement=f"W2 after {steps} steps over that after {start}",
            rule=below(0.5),
        ),
        from_ratios(
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
        from_ratios(
            arrays["w2"][gradient] / arrays["w2"][net], id="5b", paper=PAPER, paper_value="1",
            statement="W2 to the truth: grad phi over s_theta", rule=within(0.9, 1.1),
        ),
        from_ratios(
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
        from_ratios(
            twin["ode"] / free["ode"], id="Ja", paper=DERIVED, paper_value="-",
            statement="W2(ODE, truth): conservative over free", rule=within(0.5, 2.0),
        ),
    ]  # fmt: skip
    if "regularised" not in table:
        return claims
    other = table["regularised"]
    return [
        *claims,
        from_ratios(
            other["potential_residual"] / twin["potential_residual"], id="Jb", paper=DERIVED,
            paper_value="< 1", rule=below(1.0),
            statement="(sigma^2 / g^2)^2 Var_x R, mean over levels: regularised over conservative",
        ),
        from_ratios(
            other["between"] / twin["between"], id="Jc", paper=DERIVED, paper_value="< 1",
            statement="W2(ODE, SDE): regularised over conservative", rule=below(1.0),
        ),
        from_ratios(
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
        from_ratios(
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
        from_ratios(
            statistics.over_levels(found["planes"] / found["asymmetry"]), id="Pd", paper=DERIVED,
            paper_value="1", statement=f"{name}: asymmetry by loops in random planes over probes",
            rule=within(0.5, 2.0),
        ),
        from_ratios(
            statistics.over_levels(found["block"] / found["asymmetry"]), id="Pe", paper=PAPER,
            paper_value="-", statement=f"{name}: asymmetry of a block over that of the whole",
            rule=within(0.2, 5.0),
        ),
    ]  # fmt: skip
