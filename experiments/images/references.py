"""What stands beside the samples of a net: pictures that the set holds, and laws that are known.

real       test pictures: what samples from the law of the data score.
gaussian   samples of the Gaussian with mean and covariance of the training pictures.
empirical  samples by the exact denoiser of the training pictures: training pictures, all of them.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from dfx import data, fields, metrics, targets
from dfx.recipes import constant_loss, gaussian_loss
from dfx.targets.fit import LARGEST_EXACT
from dfx.train.mesh import put_whole
from experiments.images import data as images_data
from experiments.images import losses, sampling
from experiments.images.data import Pictures
from experiments.images.scores import Jury, chosen, score
from experiments.images.training import Parts

NAMES = ("real", "gaussian", "empirical")
RANK = 1000  # of the covariance of larger pictures


def judge_references(config, run, parts: Parts, pictures: Pictures, jury: Jury, mesh: Mesh) -> None:
    """Score all three, and keep them as `judged_NAME`; `floors` has the losses that are known."""
    x0 = np.asarray(_numbers(config, jury.train))
    gaussian = fit_gaussian(x0)
    laws = {
        "gaussian": fields.flattened(fields.oracle(gaussian)),
        "empirical": fields.oracle(targets.Empirical(x0)),
    }

    def pixels(name: str) -> np.ndarray:
        if name == "real":
            return jury.test[chosen(config, len(jury.test))]
        if name == "gaussian":
            x = gaussian.sample(jax.random.key(config.seed + 6), config.evaluation.samples)
            return images_data.to_pixels(config, np.asarray(x).reshape(-1, *parts.shape))
        field = put_whole(laws[name], mesh)
        return images_data.to_pixels(config, sampling.draw(config, parts, lambda _: field, mesh))

    def compute(name: str) -> dict[str, Any]:
        found = score(config, jury, pixels(name)) if compares(config) else {}
        if name in laws and "loss" in config.evaluation.parts:
            field = put_whole(laws[name], mesh)
            found |= losses.measure(
                config, parts.recipe, parts.recipe.exact, field, lambda _: field, pictures, mesh
            )
        return found | (gaussian_bits(config, gaussian, jury) if name == "gaussian" else {})

    run.arrays("floors", lambda: floors(config, parts, x0))
    for name in NAMES:
        run.arrays(f"judged_{name}", lambda name=name: compute(name))


def compares(config) -> bool:
    """Whether samples are compared with pictures of the set, and not only looked at."""
    return bool({"judge", "neighbours"} & set(config.evaluation.parts) or config.inception.weights)


def fit_gaussian(x0: np.ndarray) -> targets.Mixture:
    """Return the Gaussian of flat pictures; of large ones with a covariance of lower rank."""
    exact = np.prod(x0.shape[1:]) <= LARGEST_EXACT
    return targets.fit.gaussian(x0, rank=None if exact else RANK)


def floors(config, parts: Parts, x0: np.ndarray) -> dict[str, Any]:
    """Return what is known of losses without a net, for data of the law of x0.

    constant: the loss of the best constant. gaussian: that of the Gaussian's denoiser on its own
    law. posterior: mean variance of a number of it given x_t, at each of `levels` (sigma / alpha).
    """
    v, levels = principal_variances(fit_gaussian(x0)), losses.noise_levels(config)
    return {
        "constant": constant_loss(parts.recipe, x0),
        "gaussian": gaussian_loss(parts.recipe, v),
        "levels": levels,
        "posterior": (v[:, None] * levels**2 / (v[:, None] + levels**2)).mean(0),
    }


def gaussian_bits(config, gaussian: targets.Mixture, jury: Jury) -> dict[str, Any]:
    """Return bits per dimension of the test pictures under the Gaussian, with their error, (2,);
    nothing where none are asked for, or the covariance is of lower rank."""
    if "bits" not in config.evaluation.parts or gaussian.spectrum.shape[-1] < gaussian.dim:
        return {}
    x = np.asarray(_numbers(config, jury.test), np.float64).reshape(len(jury.test), -1)
    v = principal_variances(gaussian)
    z = (x - gaussian.means[0]) @ gaussian.basis[0]
    density = -0.5 * (z**2 / v + np.log(2 * np.pi * v)).sum(axis=1)
    return {"bits": np.array(metrics.mean_bits(density, gaussian.dim, data.CELL))}


def principal_variances(gaussian: targets.Mixture) -> np.ndarray:
    """Return the eigenvalues (d,) of the covariance of a mixture of one component."""
    variances = np.full(gaussian.dim, gaussian.variance[0])
    variances[: gaussian.spectrum.shape[-1]] += gaussian.spectrum[0]
    return variances


def _numbers(config, images: np.ndarray):
    return images_data.to_numbers(config, images, jax.random.key(config.seed + 7))
