"""How much of a learned score a Gaussian, mixtures and the training set itself explain.

Kept: `spectrum` (of the training pictures), `explained` (trained nets, by noise level, model and
picture), `explained_training` (along the training) and `ranks` (denoising losses of Gaussians of
low rank).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from dfx import diagnostics, fields, targets
from experiments.gaussian_painters import nets as setup

#: Points at which fields are compared: the training pictures with noise, as in the paper, and
#: pictures that neither net nor models have seen.
SPLITS = ("train", "test")

#: The distribution of log sigma under which the losses of ranks are taken, and nodes an integral.
LOSS_MEAN, LOSS_STD, LOSS_NODES = -1.2, 1.2, 64


def measure_fields(config, run, net, snapshots, laws, pictures) -> None:
    """Compute all parts."""
    run.arrays("spectrum", lambda: spectrum(laws["gaussian"]))
    run.arrays("ranks", lambda: ranks(config, run.arrays("spectrum", dict)["variance"]))
    run.arrays("explained", lambda: explained(config, run, net, snapshots[-1], laws, pictures))
    run.arrays(
        "explained_training",
        lambda: explained_training(config, run, net, snapshots, laws, pictures),
    )


def spectrum(law: targets.Mixture) -> dict[str, np.ndarray]:
    """Return variances (d,), falling, principal components (d, d) and the mean (d,)."""
    order = np.argsort(law.spectrum[0] + law.variance[0])[::-1]
    variance = np.maximum(law.spectrum[0] + law.variance[0], 0)[order]
    return {"variance": variance, "basis": law.basis[0][:, order], "mean": law.means[0]}


def noised(config, points, seed: int, sigma: float, number: int) -> jax.Array:
    """Return some of the points with noise; the same points of a seed at every level."""
    key = setup.seed_keys(config, 0)[seed]
    size = min(config.explained.num_points, len(points))
    chosen = jax.random.permutation(jax.random.fold_in(key, 0), len(points))[:size]
    eps = jax.random.normal(jax.random.fold_in(key, 1 + number), (size, points.shape[1]))
    return jnp.asarray(points)[chosen] + sigma * eps


def explained(config, run, net, params, laws, pictures) -> dict[str, np.ndarray]:
    """Return 1 - EV of the nets' scores and denoisers, each (splits, seeds, levels, models,
    points), and the models' names.

    Denoisers are compared about the mean of the data: there, the isotropic model of mean and
    variance alone is not right at high noise.
    """
    levels = config.explained.levels
    size = min(config.explained.num_points, len(pictures.test))
    found: dict[str, list] = {"score": [], "denoiser": []}
    with run.progress(len(SPLITS) * config.num_seeds, "explained", unit="net") as bar:
        for points in (pictures.train, pictures.test):
            for seed in range(config.num_seeds):
                field = setup.net_field(net, params, seed)
                gaps = _gaps(config, field, laws, points, seed, levels)
                for name, row in found.items():
                    row.append(np.stack([getattr(gap, name)[..., :size] for gap in gaps]))
                bar.update(1)
    shape = (len(SPLITS), config.num_seeds, len(levels), len(laws), size)
    stacked = {name: np.stack(row).reshape(shape) for name, row in found.items()}
    return stacked | {"names": np.asarray(list(laws)), "levels": np.asarray(levels)}


def _gaps(config, field, laws, points, seed, levels) -> list[diagnostics.Unexplained]:
    """One entry a level, its arrays (models, points)."""
    centre, rows = np.mean(points, axis=0), []
    for number, sigma in enumerate(levels):
        x = noised(config, points, seed, sigma, number)
        level = setup.SCHEDULE.at(sigma)
        gaps = [
            diagnostics.unexplained(field, fields.oracle(law), x, level, centre)
            for law in laws.values()
        ]
        rows.append(jax.tree.map(lambda *a: np.stack([np.asarray(b) for b in a]), *gaps))
    return rows


def explained_training(config, run, net, snapshots, laws, pictures) -> dict[str, np.ndarray]:
    """Return the mean 1 - EV of scores over training pictures, (seeds, steps, levels, models), for
    the Gaussian, the finest mixture and the delta mixture."""
    levels = config.explained.training_levels
    names = ("gaussian", finest(config), "delta")
    chosen = {name: laws[name] for name in names}
    rows = []
    with run.progress(len(snapshots), "explained in training", unit="net") as bar:
        for params in snapshots:
            row = []
            for seed in range(config.num_seeds):
                field = setup.net_field(net, params, seed)
                gaps = _gaps(config, field, chosen, pictures.train, seed, levels)
                row.append(np.stack([gap.score.mean(-1) for gap in gaps]))
            rows.append(np.stack(row))
            bar.update(1)
    return {
        "unexplained": np.stack(rows, axis=1),
        "names": np.asarray(names),
        "levels": np.asarray(levels),
        "steps": np.asarray(setup.snapshot_steps(config)),
    }


def finest(config) -> str:
    """Return the name of the mixture with the most modes."""
    return f"gmm_{max(config.models.num_modes)}"


def ranks(config, variance: np.ndarray) -> dict[str, np.ndarray]:
    """Return ranks and the losses of the Gaussians of these ranks, the other directions having the
    floor ("floor") or their mean variance ("mean")."""
    count = min(config.ranks.count, len(variance))
    kept = np.unique(np.geomspace(1, len(variance), count).round().astype(int))
    floor = config.models.floor
    rests = [variance[rank:].mean() if rank < len(variance) else floor for rank in kept]
    pairs = list(zip(kept, rests))
    return {
        "ranks": kept,
        "floor": np.asarray([denoising_loss(variance, rank, floor) for rank in kept]),
        "mean": np.asarray([denoising_loss(variance, rank, rest) for rank, rest in pairs]),
    }


def denoising_loss(variance: np.ndarray, rank: int, rest: float) -> float:
    """Return EDM's loss of a Gaussian's denoiser on data of these variances, summed over the
    coordinates,

        E_sigma w(sigma) sum_k (1 - g_k)^2 lambda_k + g_k^2 sigma^2,    g_k = l_k / (l_k + sigma^2),

    with w = (sigma^2 + 1/4) / (sigma / 2)^2, log sigma ~ N(-1.2, 1.2^2), and l_k = lambda_k in the
    first `rank` directions, l_k = rest in all others. Exact up to Gauss-Hermite quadrature.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(LOSS_NODES)
    sigma2 = np.exp(2 * (LOSS_MEAN + LOSS_STD * nodes))[:, None]
    model = np.where(np.arange(len(variance)) < rank, variance, rest)
    gain = model / (model + sigma2)
    error = ((1 - gain) ** 2 * variance + gain**2 * sigma2).sum(1)
    weigh = (sigma2[:, 0] + 0.25) / (0.25 * sigma2[:, 0])
    return float(weights @ (weigh * error) / weights.sum())
