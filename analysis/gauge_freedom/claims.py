"""Figures and claims of the study `gauge_freedom`, from its run folder alone.

Claims of the paper are about the sign of an effect: it prints no headline numbers. The rules below
say how large an effect counts. Intervals are 95% over seeds (Student's t), of ratios that of the
logarithm; of shares they also hold what few points can tell; what is exact has none.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from analysis.gauge_freedom import dimension_figures, figures, statistics
from analysis.gauge_freedom.statistics import EXACT, EXACT_GAUGE, GAUGE, GRADIENT
from analysis.orders import from_order
from analysis.shares import from_shares
from dfx.runs import (
    Claim,
    Record,
    above,
    below,
    exact,
    from_ratios,
    from_seeds,
    mean_interval,
    read_run,
    within,
)
from experiments.gauge_freedom.exact import METHODS
from experiments.gauge_freedom.nets import FIELDS

PAPER = "Horvat & Pfister 2024"
OURS = "derived"

#: Two laws count as equal if W_2 differs from that of two draws of one law by less than this, a
#: third of the latter; and as different from it on.
SAME = 0.05

#: What bilinear interpolation between the centres of cells may take of E|e|^2, each centre the mean
#: of two faces: 2 (k h)^2 (1/8 + 1/12) of an error of wave number k, for cells h of an eighth of a
#: mode's deviation and waves down to three deviations long.
INTERPOLATION = 0.03

#: A success rate that counts as right, per point.
RIGHT = 0.9


def analyse(folder: Path) -> list[Claim]:
    """Draw every figure that the run has arrays for, and return the claims."""
    run = read_run(folder)
    claims: list[Claim] = []
    if "exact" in run.config.parts:
        figures.draw_exact(run)
        claims += law_claims(run) + density_claims(run) + step_claims(run) + split_claims(run)
    if "nets" in run.config.parts:
        figures.draw_nets(run)
        claims += net_claims(run)
    if "dimension" in run.config.parts:
        dimension_figures.draw(run)
        claims += dimension_claims(run)
    return claims


def law_claims(run: Record) -> list[Claim]:
    """Claims 1 to 3: gauge errors leave the law as it is, gradient errors do not; ODE and SDE."""
    sizes = run.config.exact.sizes
    at = statistics.middle(sizes)
    claims = []
    for number, way, who in (("1", "ode", f"{PAPER}, abstract"), ("3", "sde", OURS)):
        size, stop, gauge = farthest_excess(run, way)
        gradient = statistics.excess(run, way, GRADIENT)[:, -1]
        claims += [
            from_seeds(
                gauge,
                id=f"{number}a",
                paper=who,
                paper_value="0",
                rule=within(-SAME, SAME),
                statement=f"{way.upper()}, r = c A s: W2 minus that of c = 0; of every c up to "
                f"{max(sizes):g} and time, farthest from 0: c = {size:g}, t = {stop:g}",
            ),
            from_seeds(
                gradient[at],
                id="2a" if way == "ode" else "3b",
                paper=who,
                paper_value="> 0",
                rule=above(SAME),
                statement=f"{way.upper()}, r = grad u of equal norm, c = {sizes[at]:g}: the same",
            ),
        ]
    gradient = statistics.excess(run, "ode", GRADIENT)[:, -1]
    w2 = run.arrays("ode")["w2"][:, at, -1]
    return [
        *claims,
        from_seeds(
            gradient[at] - gradient[0], id="2b", paper=OURS, paper_value="> 0", rule=above(0.0),
            statement=f"ODE: W2 grows with c, from {sizes[0]:g} to {sizes[at]:g}",
        ),
        from_ratios(
            w2[GRADIENT] / w2[GAUGE], id="2c", paper=OURS, paper_value="> 1", rule=above(2.0),
            statement=f"ODE: W2 of gradient over gauge error, equal norm, c = {sizes[at]:g}",
        ),
    ]  # fmt: skip


def farthest_excess(run: Record, way: str) -> tuple[float, float, np.ndarray]:
    """Return size and time of the gauge error whose interval of `excess` reaches farthest from 0,
    and its excess, shape (seeds,): inside a rule round 0 only if all of them are."""
    found = statistics.excess(run, way, GAUGE)
    _, low, high = mean_interval(np.moveaxis(found, -1, 0))
    reach = np.maximum(-low, high)
    i, j = np.unravel_index(np.argmax(reach), reach.shape)
    return run.config.exact.sizes[i], run.config.exact.stops[j], found[i, j]


def density_claims(run: Record) -> list[Claim]:
    """Claim 1: the log-density along the model's path is exact in continuous time."""
    arrays, largest = run.arrays("density"), max(run.config.exact.sizes)
    order = statistics.density_order(run, largest)
    finest = float(arrays["error"][:, -1].mean(axis=-1).max())
    return [
        from_order(
            order, id="1b", paper=f"{PAPER}, abstract", paper_value="-> 0", rule=within(3.5, 5.0),
            statement=f"log-density with c = {largest:g}: order of its error in the RK4 step",
        ),
        exact(
            finest, id="1c", paper=f"{PAPER}, abstract", paper_value="0", rule=below(1e-3),
            statement=f"log-density, {arrays['steps'][-1]} steps: mean error, worst c", unit="nats",
        ),
    ]  # fmt: skip


def step_claims(run: Record) -> list[Claim]:
    """Claim 4: in finitely many steps a gauge error costs quality."""
    gap = float(statistics.rotation_gap(run).max())
    speed = run.config.rotation.speed
    names, budgets = list(METHODS), run.config.evaluations.budgets
    without, gauge = statistics.method_excess(run)
    euler, rk4, few = names.index("flow_euler"), names.index("flow_rk4"), len(budgets) // 2 - 1
    size = run.config.evaluations.size
    return [
        Claim(
            id="4a", paper=OURS, paper_value="3.05 1.83 1.28 1.13 1.013",
            statement=f"radii by Euler, Heun, RK4 at speed {speed:g}: off the formula by",
            ours=gap, low=gap, high=gap, rule=below(1e-6),
        ),
        from_seeds(
            gauge[euler, few] - without[euler, few], id="4b", paper=OURS, paper_value="> 0",
            rule=above(SAME),
            statement=f"Euler, {budgets[few]} evaluations: W2 with r (c = {size:g}) minus without",
        ),
        from_seeds(
            gauge[euler, -1] - gauge[rk4, -1], id="4c", paper=OURS, paper_value="> 0",
            rule=above(0.0), statement=f"with r, {budgets[-1]} evaluations: W2, Euler minus RK4",
        ),
        from_seeds(
            gauge[rk4, -1] - without[rk4, -1], id="4d", paper=OURS, paper_value="0",
            rule=within(-SAME, SAME),
            statement=f"RK4, {budgets[-1]} evaluations: W2 with r minus without",
        ),
    ]  # fmt: skip


def split_claims(run: Record) -> list[Claim]:
    """Claim 5: the split is orthogonal."""
    linear, mixture = run.arrays("linear"), run.arrays("mixture")
    worst = float(max(linear[name].max() for name in ("pythagoras", "trace", "symmetric")))
    return [
        Claim(
            id="5a", paper=f"{PAPER}, theorem 1", paper_value="0",
            statement="linear fields on Gaussians: Pythagoras and gauge condition, off by",
            ours=worst, low=worst, high=worst, rule=below(1e-12),
        ),
        from_seeds(
            statistics.root_mean_z(run, "inner"), id="5b", paper=f"{PAPER}, theorem 1",
            paper_value="0", rule=below(2.0), unit="standard errors",
            statement="mixture: E[grad phi . r] on fresh draws, root mean square",
        ),
        from_seeds(
            statistics.root_mean_z(run, "excess"), id="5c", paper=f"{PAPER}, theorem 1",
            paper_value="0", rule=below(2.0), unit="standard errors",
            statement="mixture: score-matching loss minus its two parts, root mean square",
        ),
        from_ratios(
            (mixture["remainder"] / mixture["planted"]).mean(axis=0), id="5d", paper=OURS,
            paper_value="1", rule=within(0.9, 1.1),
            statement="mixture: E|r|^2 found over that planted",
        ),
    ]  # fmt: skip


def net_claims(run: Record) -> list[Claim]:
    """Claim 6: nets have a gauge part, without which they sample the same law."""
    found, laws = run.arrays("net_split"), run.arrays("net_laws")
    entropy = statistics.relative_entropies(run)
    net, gradient = FIELDS.index("net"), FIELDS.index("gradient")
    total, gradient_part, remainder = (
        found[name].sum(axis=0) for name in ("total", "gradient", "remainder")
    )
    return [
        from_seeds(
            statistics.gauge_shares(run).mean(axis=0), id="6a", paper=PAPER, paper_value="> 0",
            statement="free nets: E|r|^2 / E|s_theta - s|^2, mean over levels",
            rule=above(0.05),
        ),
        from_seeds(
            (laws["truth"][gradient] - laws["truth"][net]).mean(axis=0), id="6b", paper=PAPER,
            paper_value="0", rule=within(-SAME, SAME),
            statement="samples of grad phi minus those of s_theta: W2 to exact draws, equal starts",
        ),
        from_ratios(
            entropy["gradient"] / entropy["net"], id="6c", paper=PAPER, paper_value="1",
            rule=within(0.8, 1.2), statement="KL(p || law of grad phi) over that of s_theta",
        ),
        from_seeds(
            (total - gradient_part - remainder) / total, id="6d", paper=f"{PAPER}, theorem 1",
            paper_value="0", rule=within(-INTERPOLATION, INTERPOLATION),
            statement="L2 error minus that of grad phi and E|r|^2, over it, on fresh draws",
        ),
    ]  # fmt: skip


def dimension_claims(run: Record) -> list[Claim]:
    """Claims 7 and 8: which fields give the intrinsic dimension."""
    rate = {name: statistics.final_success(run, name) for name in statistics.METHODS_OF_DIMENSION}
    seven = f"{PAPER}, section 5"
    unit = "of points"

    def claim(values, **rest):
        return from_seeds(values, **({"unit": unit} | rest))

    claims = [
        claim(rate["conservative"], id="7a", paper=seven, paper_value="counts right",
              statement="conservative nets count right, mean over laws", rule=above(RIGHT)),
        claim(rate["free"], id="7b", paper=seven, paper_value="counts wrong",
              statement="free nets do not", rule=below(RIGHT)),
        claim(rate["conservative"] - rate["free"], id="7c", paper=seven, paper_value="> 0",
              statement="conservative minus free", rule=above(0.0)),
        claim(rate["projected"] - rate["free"], id="7d", paper="not in the paper",
              paper_value="-", rule=above(0.0),
              statement="control: free net projected on gradients, minus free"),
        claim(rate[EXACT_GAUGE], id="7e", paper="not in the paper", paper_value="-",
              statement="control: exact score plus gauge error counts right", rule=above(RIGHT)),
        claim(rate[EXACT], id="7f", paper=seven, paper_value="counts right",
              statement="the exact score counts right", rule=above(RIGHT)),
        claim(rate["penalised"], id="8a", paper=f"{PAPER}, supplement",
              paper_value="counts wrong", rule=below(RIGHT),
              statement="free nets with a symmetry penalty do not count right"),
        claim(rate["penalised"] - rate["free"], id="8b", paper=f"{PAPER}, supplement",
              paper_value="about 0", rule=within(-0.1, 0.1),
              statement="symmetry penalty minus none"),
    ]  # fmt: skip
    return claims + (plane_claims(run) if statistics.planes(run) else [])


def plane_claims(run: Record) -> list[Claim]:
    """Claim 7 on the Gaussian of rank 2, the paper's figure."""
    place = statistics.planes(run)[0]
    name = str(run.arrays("dimension_laws")["names"][place])
    right = {kind: statistics.last_counts(run, kind, place) for kind in ("conservative", "free")}
    gap = statistics.plane_gap(run, EXACT_GAUGE)
    return [
        from_shares(
            right["conservative"], id="7g", paper=f"{PAPER}, section 5",
            paper_value="counts right", statement=f"{name}: conservative nets count right",
            rule=above(RIGHT), unit="of points",
        ),
        from_shares(
            right["free"], id="7h", paper=f"{PAPER}, section 5", paper_value="counts wrong",
            statement=f"{name}: free nets do not", rule=below(RIGHT), unit="of points",
        ),
        exact(
            gap.max(), id="7i", paper=OURS, paper_value="0", rule=below(0.02), seeds=len(gap),
            statement=f"{name}: singular values of score + gauge error, relative error at most",
        ),
    ]  # fmt: skip
