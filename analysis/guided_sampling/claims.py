"""Figures and claims of the study `guided_sampling`, from its run folder alone.

Intervals of what is sampled are 95% over seeds (Student's t), of ratios that of the logarithm. Maps
of the noise on the line have no sampling error; theirs is the error named beside each.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from analysis.guided_sampling import figures, statistics
from dfx.runs import Claim, Record, above, below, from_ratios, from_seeds, read_run, within
from dfx.runs.claims import Rule

LU, CHUNG = "Lu et al. 2022b, section 3", "Chung et al. 2024"
TILTED = "often said, after Ho & Salimans 2022"
INTERVAL, AUTO = "Kynkäänniemi et al. 2024", "Karras et al. 2024"

#: Of a W_1 to the tilted law that counts as none: a twentieth of the class's deviation.
CLOSE = 0.025

#: Of moments and distances of maps of the noise: solver and quadrature.
MAP_ERROR = 1e-5


def analyse(folder: Path) -> list[Claim]:
    """Draw every figure and return the claims."""
    run = read_run(folder)
    figures.draw(run)
    return stability_claims(run) + tilt_claims(run) + cfgpp_claims(run) + where_claims(run)


def stability_claims(run: Record) -> list[Claim]:
    """Claims 1 to 4: at a large weight high orders of noise prediction fail, data prediction does
    not, on both spacings of the times; and the exact solution itself leaves the data.

    Errors of lost samples have heavy tails, so ratios are compared by their logarithms.
    """
    settings, claims = run.config.stability, []
    where = f"w = {settings.weight:g}, {settings.budget} evaluations"
    pairs = (
        ("1", ("dpm_solver_3s", "ddim"), above(0.0), "> 0"),
        ("2", ("dpm_solver_pp_2m", "ddim"), below(0.0), "< 0"),
        ("3", ("dpm_solver_2m", "dpm_solver_pp_2m"), above(0.0), "> 0"),
    )
    cases = [(spacing, name) for spacing in settings.spacings for name in settings.laws]
    for letter, (spacing, name) in zip("abcd", cases):
        found = statistics.Stability(run, name)
        for number, pair, rule, said in pairs:
            ratio = found.ratio(spacing, pair, settings.budget, settings.weight)
            claims.append(from_seeds(
                np.log10(ratio), id=number + letter, paper=LU, paper_value=said, rule=rule,
                unit="log10", statement=f"{name}, {spacing} times, {where}: error of "
                f"{' / '.join(pair)}",
            ))  # fmt: skip
    for letter, name in zip("ab", settings.laws):
        found = statistics.Stability(run, name)
        outside = found.exact_outside
        column = found.weights.index(settings.weight)
        claims.append(from_seeds(
            outside[column] - outside[0], id="4" + letter, paper=LU, paper_value="> 0",
            rule=above(0.01), unit="of samples",
            statement=f"{name}: exact ends outside the data's box, w = {settings.weight:g} minus "
            f"w = {found.weights[0]:g}",
        ))  # fmt: skip
    return sorted(claims, key=lambda claim: claim.id)


def tilt_claims(run: Record) -> list[Claim]:
    """Claims 5 to 7: the law that guidance samples, its closed forms, and the correctors."""
    of_flow, of_samples, _ = statistics.tilted_distances(run)
    row = list(run.config.tilt.weights).index(2.0)
    weight = run.config.corrector.weight
    other = list(run.config.tilt.weights).index(weight)
    pair_flow, pair_samples = pair_errors(run)
    every, last = (
        statistics.corrected_distances(run, name)[0] for name in ("corrected", "relaxed")
    )
    most = run.config.corrector.corrections[-1]
    return [
        of_map(
            of_flow[row], id="5a", paper=TILTED, paper_value="0", rule=below(CLOSE), unit="W1",
            statement="two modes, w = 2: the ODE samples p_u (p_c / p_u)^w",
        ),
        from_seeds(
            of_samples[row], id="5b", paper=TILTED, paper_value="0", rule=below(CLOSE), unit="W1",
            statement="two modes, w = 2: the SDE samples p_u (p_c / p_u)^w",
        ),
        from_seeds(
            of_flow[other] - of_samples[other], id="5c", paper="closed forms", paper_value="> 0",
            rule=above(0.0), unit="W1",
            statement=f"two modes, w = {weight:g}: the SDE ends nearer to it than the ODE",
        ),
        of_map(
            pair_flow, id="6a", paper="closed forms", paper_value="0", rule=below(1e-4),
            statement="Gaussian pair: largest relative error of the ODE's mean and variance",
        ),
        from_seeds(
            pair_samples, id="6b", paper="closed forms", paper_value="1", rule=within(0.97, 1.03),
            statement="Gaussian pair, w = 2: variance of the SDE / closed form",
        ),
        from_seeds(
            last[-1], id="7a", paper="Bradley & Nakkiran 2024", paper_value="0",
            rule=below(CLOSE), unit="W1",
            statement=f"w = {weight:g}: the ODE's ends after Langevin steps at the last level",
        ),
        from_ratios(
            every[-1] / every[0], id="7b", paper="Bradley & Nakkiran 2024", paper_value="to 0",
            rule=below(0.25),
            statement=f"w = {weight:g}: W1 with {most} corrections a level / without",
        ),
    ]  # fmt: skip


def pair_errors(run: Record) -> tuple[float, np.ndarray]:
    """Return the largest relative error of the pair's flow against its closed form, and the
    variance of the SDE's samples at w = 2 over its own, shape (seeds,)."""
    arrays = run.arrays("pair")
    mean, std = statistics.moments(arrays["z"], arrays["ode"])
    found = np.stack([mean, std**2], axis=-1)
    of_ode, of_sde = arrays["exact_at"][:2]
    row = list(run.config.pair.weights).index(2.0)
    variance = arrays["sde"][row].astype(np.float64).var(axis=-1, ddof=1)
    return float(np.abs(found / of_ode - 1).max()), variance / of_sde[row, 1]


def cfgpp_claims(run: Record) -> list[Claim]:
    """Claims 8 to 10: what CFG++ is, that it has no limit, and whether it inverts better."""
    identity, limit = run.arrays("cfgpp_identity"), run.arrays("cfgpp_limit")
    settings = run.config.cfgpp
    row, steps = list(settings.steps).index(50), settings.steps[-1]
    mean = statistics.moments(limit["z"], limit["plus"])[0]
    factor = identity["mean_weight"][row]
    inverted = list(settings.round_trip_steps).index(50)
    nominal, matched = statistics.round_trip_ratios(run, statistics.AUTHORS_WEIGHT)
    weight = factor * settings.scale
    off = float(np.abs(identity["plus"] - identity["free"]).max())
    pair = f"{settings.scale:g} / CFG at"
    return [
        Claim(
            id="8a", paper="identity", paper_value="0", ours=off, low=off, high=off,
            rule=below(1e-12), statement="largest CFG++ minus DDIM with w = lam rho / (rho - rho')",
        ),
        of_map(
            factor, id="8b", paper=f"{CHUNG}, code", paper_value="12.5", rule=within(11.25, 13.75),
            statement="mean w / lam of that, Stable Diffusion's levels, 50 steps",
        ),
        of_map(
            mean[-1] - mean[row], id="9", paper="identity", paper_value="no limit",
            rule=above(1.0), statement=f"two modes: CFG++'s mean at {steps} minus 50 steps",
        ),
        from_ratios(
            nominal[inverted], id="10a", paper=CHUNG,
            paper_value="< 1", rule=below(1.0),
            statement=f"quadrants, 50 steps, round trip: error of CFG++ {pair} "
            f"w = {statistics.AUTHORS_WEIGHT:g}",
        ),
        from_ratios(
            matched[inverted], id="10b", paper=CHUNG,
            paper_value="< 1", rule=below(1.0),
            statement=f"the same against CFG at its own mean weight, {weight:.2f}",
        ),
    ]  # fmt: skip


def where_claims(run: Record) -> list[Claim]:
    """Claims 11 and 12: where guidance acts, and autoguidance's best weight."""
    arrays, tilted = run.arrays("intervals"), run.arrays("tilted")
    names = [str(name) for name in arrays["names"]]
    mean, std = (
        dict(zip(names, values)) for values in statistics.moments(arrays["z"], arrays["named"])
    )
    away = {
        name: statistics.flow_distance(arrays["z"], ends, tilted["x"], tilted["class"])
        for name, ends in zip(names, arrays["named"])
    }
    low, high = run.config.interval.edges
    auto = run.arrays("autoguidance")
    best, (_, spread) = float(auto["best"]), statistics.moments(auto["z"], auto["gaussian.best"])
    w = f"w = {run.config.interval.weight:g}"
    return [
        of_map(
            away["low"] / away["all"], id="11a", paper=INTERVAL, paper_value="0",
            rule=below(0.1),
            statement=f"{w}, sigma < {low:g} only: W1 to the class's law / that of all levels",
        ),
        of_map(
            (mean["high"] - mean["none"]) / (mean["all"] - mean["none"]), id="11b", paper=INTERVAL,
            paper_value="most", rule=above(0.5),
            statement=f"{w}, sigma > {high:g} only: the mean's shift / that of all levels",
        ),
        of_map(
            std["middle"] - std["all"], id="11c", paper=INTERVAL, paper_value="> 0",
            rule=above(0.0),
            statement=f"{w}: deviation, sigma in ({low:g}, {high:g}] only minus all levels",
        ),
        of_map(
            float(spread**2) - 1, id="12a", paper="closed form", paper_value="0",
            rule=within(-1e-4, 1e-4),
            statement=f"Gaussian, autoguidance at w* = {best:.4f}: variance minus the truth",
        ),
        *(
            best_weight_claim(run, name, id=number, paper_value=said, rule=rule, statement=text)
            for name, number, said, rule, text in (
                ("modes", "12b", "inside", within(best - 0.2, best + 0.2),
                 f"two modes, bad field of the same kind: best weight (w* = {best:.2f})"),
                ("unrelated", "12c", "none", below(1.0),
                 "two modes, bad field with another error: best weight (1: none)"),
            )
        ),
    ]  # fmt: skip


def best_weight_claim(run: Record, name: str, **fields) -> Claim:
    """Return the claim on the best weight of an autoguided law, known up to half a spacing of the
    weights; at the first weight there is no other side."""
    weight, spacing, found = statistics.best_weight(run, name)
    half = spacing / 2 if found.argmin() > 0 else 0.0
    return Claim(
        paper=AUTO, ours=weight, low=weight - half,
        high=weight + half, unit="w", **fields,
    )  # fmt: skip


def of_map(value, *, rule: Rule, **fields) -> Claim:
    """Return a claim on a number without sampling error, known up to MAP_ERROR."""
    value = float(value)
    return Claim(ours=value, low=value - MAP_ERROR, high=value + MAP_ERROR, rule=rule, **fields)
