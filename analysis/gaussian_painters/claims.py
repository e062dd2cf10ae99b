"""Figures and claims of the study `gaussian_painters`, from its run folder alone.

Intervals are 95 %: over seeds (Student's t, of ratios that of the logarithm), over paths where
nothing is trained, and over pictures if there is a single net. The authors' numbers are for MNIST
and CIFAR-10; claims on other pictures take their signs and orders from them, not their values.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from analysis.gaussian_painters import (
    claims_nets,
    claims_samples,
    figures,
    path_figures,
    statistics,
)
from analysis.gaussian_painters.sources import DERIVED, FIRST, SECOND
from dfx.runs import Claim, Record, below, exact, from_seeds, read_run, within

#: Exponent of the spectrum -> shares of one and two principal components, and R^2 of the turn, of
#: one path in 1024 dimensions.
ONE_PATH = {1.0: (0.992, 0.9999, 0.980), 1.5: (0.984, 0.9998, 0.991)}


def analyse(folder: Path) -> list[Claim]:
    """Draw every figure that the run has arrays for, and return the claims."""
    run, claims = read_run(folder), []
    if "exact" in run.config.parts:
        figures.draw_exact(run)
        claims += exact_claims(run) + power_claims(run)
    if "nets" in run.config.parts:
        figures.draw_nets(run)
        path_figures.draw_nets(run)
        claims += claims_nets.net_claims(run) + claims_samples.sample_claims(run)
    return claims


def exact_claims(run: Record) -> list[Claim]:
    """Claims 1, 4 and the far-field rates, without any net."""
    flow, modes, far = (run.arrays(name) for name in ("flow_errors", "power_modes", "far_field"))
    claims = [
        exact(
            error, id=f"1{letter}", paper=f"{SECOND}, closed form", paper_value="exact",
            statement=f"{name}: closed form against an adaptive solver, relative",
            rule=below(1e-9),
        )
        for letter, name, error in zip("abc", flow["names"], flow["errors"])
    ]  # fmt: skip
    claims.append(
        exact(
            statistics.log_slope(modes["variance"], modes["half"]), id="4a", paper=DERIVED,
            paper_value="0.5", rule=within(0.499, 0.501),
            statement="Gaussian: slope of log sigma_half against log lambda",
        )
    )  # fmt: skip
    slopes = np.log2(far["unexplained"][:, -2] / far["unexplained"][:, -1])
    clouds = ("skewed cloud, Gaussian", "symmetric cloud, Gaussian", "skewed cloud, mean alone")
    for letter, cloud, slope, law in zip("abc", clouds, slopes, (6, 8, 4)):
        claims.append(
            exact(
                slope, id=f"F{letter}", paper=f"{SECOND}; rates derived", paper_value=str(law),
                statement=f"{cloud}: 1 - EV falls as sigma to minus this power",
                rule=within(law - 0.2, law + 0.2),
            )
        )  # fmt: skip
    return claims


def power_claims(run: Record) -> list[Claim]:
    """Claims 2 and 3 on Gaussians with a power-law spectrum."""
    arrays, claims = run.arrays("power_paths"), []
    for i, exponent in enumerate(run.config.exact.exponents):
        if exponent not in ONE_PATH:
            continue
        first, second, rotated = ONE_PATH[exponent]
        law = f"lambda ~ k^-{exponent:g}"
        claims += [
            from_seeds(
                arrays["vp_shares"][i, :, 0], id=f"2a{i + 1}", paper=f"{FIRST}; one path derived",
                paper_value=f"{first:g}", statement=f"{law}, VP: variance in one component",
                rule=within(first - 0.008, first + 0.008),
            ),
            from_seeds(
                1 - arrays["vp_shares"][i, :, 1], id=f"2b{i + 1}",
                paper=f"{FIRST}; one path derived", paper_value=f"{1 - second:.1g}",
                statement=f"{law}, VP: variance left out by two components",
                rule=below(1 - second + 0.0005),
            ),
            from_seeds(
                1 - arrays["edm_shares"][i, :, 0], id=f"2c{i + 1}", paper=DERIVED,
                paper_value="2e-05", rule=below(1e-4),
                statement=f"{law}, EDM grid: variance left out by one component",
            ),
            from_seeds(
                arrays["rotation"][i], id=f"3{i + 1}", paper=f"{FIRST}; one path derived",
                paper_value=f"{rotated:g}", statement=f"{law}: R^2 of a_t x_0 + s_t x_T, uncentred",
                rule=within(rotated - 0.01, rotated + 0.01),
            ),
        ]  # fmt: skip
    return claims
