"""Figures and claims of the study `gaussian_painters`, from its run folder alone.

Intervals are 95 %: over seeds (Student's t), over paths where nothing is trained, and over pictures
if there is a single net. The authors' numbers are for MNIST and CIFAR-10; claims on other pictures
take their signs and orders from them, not their values.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from analysis.gaussian_painters import figures, path_figures, statistics
from analysis.gaussian_painters.statistics import KICKED_MIXTURE, MIXTURE, NET, TEST, finding
from dfx.runs import Claim, Record, above, below, from_seeds, read_run, within

FIRST, SECOND = "arXiv 2303.02490", "arXiv 2412.09726"
TABLES = f"{SECOND}, its tables"
DERIVED = "derived"

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
        claims += path_claims(run) + kick_claims(run) + explained_claims(run)
        claims += table_claims(run) + training_claims(run) + end_claims(run)
        claims += teleport_claims(run) + rank_claims(run)
    return claims


def exact_claims(run: Record) -> list[Claim]:
    """Claims 1, 4 and the far-field rates, without any net."""
    flow, modes, far = (run.arrays(name) for name in ("flow_errors", "power_modes", "far_field"))
    claims = [
        _exactly(
            error, id=f"1{letter}", paper=f"{SECOND}, closed form", paper_value="exact",
            statement=f"{name}: closed form against an adaptive solver, relative",
            rule=below(1e-9),
        )
        for letter, name, error in zip("abc", flow["names"], flow["errors"])
    ]  # fmt: skip
    claims.append(
        _exactly(
            statistics.log_slope(modes["variance"], modes["half"]), id="4a", paper=DERIVED,
            paper_value="0.5", rule=within(0.499, 0.501),
            statement="Gaussian: slope of log sigma_half against log lambda",
        )
    )  # fmt: skip
    slopes = np.log2(far["unexplained"][:, -2] / far["unexplained"][:, -1])
    clouds = ("skewed cloud, Gaussian", "symmetric cloud, Gaussian", "skewed cloud, mean alone")
    for letter, cloud, slope, law in zip("abc", clouds, slopes, (6, 8, 4)):
        claims.append(
            _exactly(
                slope, id=f"F{letter}", paper=f"{SECOND}; rates derived", paper_value=str(law),
                statement=f"{cloud}: 1 - EV falls as sigma to minus this power",
                rule=within(law - 0.2, law + 0.2),
            )
        )  # fmt: skip
    return claims


def _exactly(value: float, **fields) -> Claim:
    return Claim(ours=float(value), low=float(value), high=float(value), **fields)


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


def path_claims(run: Record) -> list[Claim]:
    """Claims 2 to 4 on trained nets."""
    arrays, variance = run.arrays("paths"), statistics.mode_variances(run)
    levels = statistics.settle_levels(run, NET)
    slopes, beside = (
        np.asarray([statistics.log_slope(variance, half)
                    for half in statistics.settle_levels(run, which)])
        for which in (NET, MIXTURE)
    )  # fmt: skip
    orders = [statistics.rank_correlation(variance, half) for half in levels]
    return [
        finding(
            arrays["shares"][:, NET, :, 1], id="2d", paper=f"{FIRST} (a note: Stable Diffusion)",
            paper_value="0.99", statement="nets, VP: variance of a path in two components",
            rule=above(0.99),
        ),
        finding(
            arrays["rotation"][:, NET], id="3d", paper=FIRST, paper_value="rotation",
            statement="nets: R^2 of a_t x_0 + s_t x_T, uncentred", rule=above(0.95),
        ),
        from_seeds(
            slopes, id="4b", paper=f"{FIRST}; slope derived", paper_value="0.5",
            statement="nets: slope of log sigma_half against log lambda", rule=within(0.4, 0.6),
        ),
        from_seeds(
            np.asarray(orders), id="4c", paper=f"{FIRST}, abstract", paper_value="1",
            statement="nets: rank correlation of lambda and sigma_half", rule=above(0.9),
        ),
        from_seeds(
            slopes / beside, id="4d", paper="ours", paper_value="-", rule=within(0.9, 1.1),
            statement=f"the slope of the nets over that of {statistics.finest(run)}",
        ),
    ]  # fmt: skip


def kick_claims(run: Record) -> list[Claim]:
    """Claim 5: what becomes of kicks."""
    arrays = run.arrays("kicks")
    agree = [statistics.map_agreement(arrays["along"][:, k], arrays["law"]) for k in range(2)]
    effect = arrays["whole"][:, NET] * arrays["levels"]
    return [
        from_seeds(
            agree[NET], id="5a", paper=f"{FIRST}; law derived", paper_value="1",
            statement="nets: response map, 1 - |found - law|^2 / |law|^2", rule=above(0.9),
        ),
        from_seeds(
            agree[KICKED_MIXTURE], id="5b", paper=f"{FIRST}; law derived", paper_value="1",
            statement=f"{statistics.finest(run)}: the same map", rule=above(0.9),
        ),
        from_seeds(
            effect[:, -1] / effect[:, 0], id="5c", paper=f"{FIRST}, abstract", paper_value="> 1",
            statement=f"nets: change by kicks ~ sigma at {arrays['levels'][-1]:g} over "
            f"{arrays['levels'][0]:g}", rule=above(1.0),
        ),
    ]  # fmt: skip


def explained_claims(run: Record) -> list[Claim]:
    """Claim 6: which law explains the nets' scores."""
    fine, name = statistics.finest(run), run.config.pictures.name
    levels = run.arrays("explained")["levels"]
    middle = [sigma for sigma in levels if 0.0999 <= sigma <= 5.001]
    isotropic = np.min(
        [statistics.advantage(run, "gaussian", "isotropic", sigma) for sigma in middle], axis=0
    )
    all_win = name == "cifar10"
    at_two, at_half = (statistics.at_level(run, sigma) for sigma in (2.0, 0.5))
    ev = 1 - statistics.unexplained(run, "gaussian")
    return [
        finding(
            ev[:, at_two], id="6a", paper=TABLES, paper_value="0.996 CIFAR, 0.986 MNIST",
            statement="EV of the Gaussian at sigma = 2", rule=above(0.9),
        ),
        finding(
            ev[:, at_half], id="6b", paper=TABLES, paper_value="0.959 CIFAR, 0.921 MNIST",
            statement="EV of the Gaussian at sigma = 0.5", rule=above(0.7),
        ),
        from_seeds(
            isotropic, id="6c", paper=TABLES, paper_value="> 0", rule=above(0.0),
            statement="log10 (1 - EV): isotropic over Gaussian, least for sigma 0.1 to 5",
        ),
        from_seeds(
            statistics.levels_won(run, "gaussian", "delta", 0.1, 5.0), id="6d", paper=TABLES,
            paper_value="1 CIFAR, 0 MNIST", rule=above(1.0) if all_win else below(0.0),
            statement="share of sigma 0.1 to 5 at which the Gaussian beats delta",
        ),
        from_seeds(
            statistics.advantage(run, fine, "gaussian", 0.5), id="6e", paper=TABLES,
            paper_value="> 0", statement=f"log10 (1 - EV) at 0.5: Gaussian over {fine}",
            rule=above(0.0),
        ),
        from_seeds(
            statistics.advantage(run, fine, "delta", 0.5), id="6f", paper=f"{SECOND}, abstract",
            paper_value="> 0", statement=f"log10 (1 - EV) at 0.5: delta over {fine}",
            rule=above(0.0),
        ),
        from_seeds(
            statistics.advantage(run, "gaussian", "delta", 0.5, TEST), id="6g", paper="ours",
            paper_value="-", rule=above(0.0),
            statement="held-out pictures, log10 (1 - EV) at 0.5: delta over Gaussian",
        ),
        from_seeds(
            statistics.advantage(run, fine, "delta", 0.5, TEST), id="6h", paper="ours",
            paper_value="-", rule=above(0.0),
            statement=f"held-out pictures, log10 (1 - EV) at 0.5: delta over {fine}",
        ),
    ]  # fmt: skip


def table_claims(run: Record) -> list[Claim]:
    """Claim 6 by its numbers, where the pictures are the authors'."""
    table, claims = statistics.TABLES.get(run.config.pictures.name, {}), []
    levels = run.arrays("explained")["levels"]
    for model in ("gaussian", "delta"):
        for sigma, value in zip(*table.get(model, ((), ()))):
            row = statistics.at_level(run, sigma)
            if not np.isclose(levels[row], sigma):
                continue
            claims.append(
                finding(
                    1 - statistics.unexplained(run, model)[:, row], id=f"T{model[0]}{sigma:g}",
                    paper=TABLES, paper_value=f"{value:g}", rule=within(value - 0.03, value + 0.03),
                    statement=f"EV of {model} at sigma = {sigma:g}",
                )
            )  # fmt: skip
    return claims


def training_claims(run: Record) -> list[Claim]:
    """Claim 7: the Gaussian part is learned first."""
    gaussian, delta = (statistics.along_training(run, m, 0.5) for m in ("gaussian", "delta"))
    return [
        from_seeds(
            statistics.decline(gaussian), id="7a", paper=f"{TABLES} (CIFAR-10)",
            paper_value="0.011", statement="EV of the Gaussian at 0.5: peak in training minus end",
            rule=above(1e-6),
        ),
        from_seeds(
            statistics.rise_after_peak(delta, gaussian), id="7b", paper=f"{TABLES} (CIFAR-10)",
            paper_value="> 0", statement="EV of delta at 0.5: end minus at that peak",
            rule=above(1e-6),
        ),
    ]  # fmt: skip


def end_claims(run: Record) -> list[Claim]:
    """Claims 8 and 11: samples from equal noise."""
    fine = statistics.finest(run)
    gaussian, mixture, delta = (
        statistics.mse(run, name).mean(axis=1) for name in ("gaussian", fine, "delta")
    )
    variance = run.arrays("spectrum")["variance"].mean()
    found, law = statistics.gains(run)
    return [
        from_seeds(
            gaussian / variance, id="8a", paper=TABLES, paper_value="0.052 (CIFAR-10)",
            statement="Gaussian samples: MSE to the nets' over the pixel variance",
            rule=below(0.25),
        ),
        from_seeds(
            delta / gaussian, id="8b", paper=TABLES, paper_value="3.6", rule=above(1.0),
            statement="MSE to the nets' samples: delta over Gaussian",
        ),
        from_seeds(
            mixture / gaussian, id="8c", paper=TABLES, paper_value="0.91", rule=below(1.0),
            statement=f"MSE to the nets' samples: {fine} over Gaussian",
        ),
        from_seeds(
            np.asarray([statistics.log_slope(law, row) for row in found]), id="11a", paper=FIRST,
            paper_value="1", statement="nets: slope of log gain noise to sample against the law's",
            rule=within(0.8, 1.2),
        ),
        from_seeds(
            statistics.linear_share(run), id="11b", paper=FIRST, paper_value="most",
            statement="variance of the nets' samples explained by the linear map",
            rule=above(0.5),
        ),
    ]  # fmt: skip


def teleport_claims(run: Record) -> list[Claim]:
    """Claim 9: steps saved, against what else would save them, and what memory needs."""
    at = statistics.skip_index(run, 0.3)
    skip = run.config.teleport.skips[at]
    cold, plain = (statistics.arm(run, f"heun.scaled.{kind}", "frechet")[:, at]
                   for kind in ("cold", "plain"))  # fmt: skip
    claims = [
        from_seeds(
            statistics.steps_saved(run, f"heun.{grid}.cold", number), id=f"9{letter}",
            paper=f"{SECOND}, abstract (FID)", paper_value="0.15 to 0.30", rule=above(0.15),
            statement=f"Heun, {label}: share of steps saved, {measure}",
        )
        for letter, grid, label, number, measure in (
            ("a", "edm", "from 80", "frechet", "Frechet"),
            ("b", "edm", "from 80", "sliced", "sliced W2"),
            ("c", "scaled", "from 5.3 sd", "frechet", "Frechet"),
            ("d", "scaled", "from 5.3 sd", "sliced", "sliced W2"),
            ("j", "edm", "from 80", "transport", "W2"),
            ("k", "scaled", "from 5.3 sd", "transport", "W2"),
        )
    ]  # fmt: skip
    claims += [
        from_seeds(
            statistics.reference(run, "linear", number)
            / statistics.arm(run, "heun.edm.cold", number)[:, 0],
            id=f"9{letter}", paper="ours", paper_value="-", rule=above(1.05),
            statement=f"does it tell, {measure}: the Gaussian's samples over the nets'",
        )
        for letter, number, measure in (
            ("l", "frechet", "Frechet"), ("m", "sliced", "sliced W2"), ("n", "transport", "W2")
        )
    ]  # fmt: skip
    claims.append(
        from_seeds(
            cold / plain, id="9e", paper="ours", paper_value="-", rule=below(1.0),
            statement=f"Heun from 5.3 sd, Frechet: skip of {skip} over {skip} steps fewer",
        )
    )  # fmt: skip
    saved = -np.diff(statistics.arm(run, "heun.edm.cold", "evaluations")[:, [0, at]], axis=1)
    claims.append(
        _exactly(
            saved[0, 0] / skip,
            id="9f",
            paper=SECOND,
            paper_value="2",
            rule=within(2, 2),
            statement="Heun: evaluations saved a step",
        )
    )
    for number, solver in enumerate(run.config.teleport.solvers):
        warm, cold = (statistics.arm(run, f"{solver}.edm.{kind}", "same")[:, at]
                      for kind in ("warm", "cold"))  # fmt: skip
        claims.append(
            from_seeds(
                warm / cold, id=f"9{'ghi'[number]}", paper="ours", paper_value="-",
                rule=below(1.0),
                statement=f"{solver}: distance to no skip, warm over cold start, skip of {skip}",
            )
        )  # fmt: skip
    return claims


def rank_claims(run: Record) -> list[Claim]:
    """Claim 10: a third of the directions is nearly enough."""
    rank, ratio = statistics.loss_ratio(run, 1 / 3)
    return [
        _exactly(
            ratio, id="10", paper=f"{TABLES} (rank 1024 of 3072)", paper_value="1.02",
            statement=f"denoising loss of the Gaussian: rank {rank} over full rank",
            rule=below(1.05),
        )
    ]  # fmt: skip
