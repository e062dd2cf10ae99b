"""What the study `gaussian_painters` reads off its arrays; seeds are the first axis throughout."""

from __future__ import annotations

from typing import Any

import numpy as np

from analysis.shares import Counts
from dfx.runs import Claim, Record, from_seeds
from dfx.runs.claims import mean_interval
from experiments.gaussian_painters.exact import half_levels
from experiments.gaussian_painters.teleport import DISTANCES, NUMBERS

TRAIN, TEST = range(2)
NET, GAUSSIAN, MIXTURE = range(3)  # the fields of `paths`
KICKED_MIXTURE = 1  # beside the net, the only field that is kicked

#: Explained variances of the authors' result tables: name -> model -> (sigma, EV), training
#: pictures. CIFAR-10: the pretrained EDM net; MNIST: a small U-Net after 10^6 steps.
TABLES: dict[str, dict[str, tuple[tuple[float, ...], tuple[float, ...]]]] = {
    "cifar10": {
        "isotropic": ((0.1, 0.2, 0.5, 1, 2, 5), (0.047, 0.157, 0.531, 0.824, 0.952, 0.9944)),
        "gaussian": (
            (0.1, 0.2, 0.5, 1, 2, 5, 10),
            (0.818, 0.892, 0.959, 0.984, 0.9957, 0.99965, 0.99997),
        ),
        "gmm": ((0.1, 0.2, 0.5, 1, 2, 5), (0.836, 0.902, 0.960, 0.985, 0.9960, 0.99980)),
        "delta": (
            (0.1, 0.2, 0.5, 1, 2, 5, 10),
            (0.786, 0.879, 0.946, 0.972, 0.986, 0.9979, 0.99998),
        ),
    },
    "mnist": {
        "gaussian": ((0.1, 0.2, 0.5, 1, 2, 5), (0.744, 0.836, 0.921, 0.961, 0.986, 0.9991)),
        "delta": ((0.1, 0.2, 0.5, 1, 2, 5), (0.926, 0.950, 0.973, 0.983, 0.991, 0.9998)),
    },
}

#: The same along the CIFAR-10 training at sigma = 0.5: thousands of pictures, Gaussian's EV.
TRAINING_TABLE = (
    (0, 100, 200, 301, 502, 1003, 5000),
    (0.176, 0.301, 0.962, 0.977, 0.974, 0.970, 0.966),
)


def finding(values: Any, **fields: Any) -> Claim:
    """Return the claim on a mean of values (seeds, n): by seeds, or of one by its values."""
    values = np.asarray(values, np.float64)
    if len(values) > 1:
        return from_seeds(values.mean(axis=1), **fields)
    mean, low, high = map(float, mean_interval(values[0]))
    return Claim(ours=mean, low=low, high=high, seeds=1, **fields)


def finest(run: Record) -> str:
    """Return the name of the mixture with the most modes."""
    return f"gmm_{max(run.config.models.num_modes)}"


def unexplained(run: Record, model: str, split: int = TRAIN, kind: str = "score") -> np.ndarray:
    """Return 1 - EV of a model, (seeds, levels, points)."""
    arrays = run.arrays("explained")
    return arrays[kind][split, :, :, list(arrays["names"]).index(model)]


def at_level(run: Record, sigma: float, name: str = "explained") -> int:
    """Return the index of the level nearest to sigma."""
    return int(np.argmin(np.abs(np.log(run.arrays(name)["levels"] / sigma))))


def advantage(run: Record, model: str, other: str, sigma: float, split: int = TRAIN) -> np.ndarray:
    """Return log10 of the mean 1 - EV of `other` over that of `model` at a level, (seeds,):
    positive where `model` explains more."""
    row = at_level(run, sigma)
    means = (unexplained(run, name, split)[:, row].mean(-1) for name in (other, model))
    return np.subtract(*(np.log10(mean) for mean in means))


def levels_won(run: Record, model: str, other: str, low: float, high: float) -> Counts:
    """Return at how many of the levels from low to high `model` explains more."""
    levels = run.arrays("explained")["levels"]
    inside = (levels >= low * 0.999) & (levels <= high * 1.001)
    better = unexplained(run, model).mean(-1) < unexplained(run, other).mean(-1)
    return Counts(better[:, inside].sum(axis=1), np.full(len(better), inside.sum()))


def along_training(run: Record, model: str, sigma: float) -> np.ndarray:
    """Return the EV of scores against the steps, (seeds, steps)."""
    arrays = run.arrays("explained_training")
    index = list(arrays["names"]).index(model)
    return 1 - arrays["unexplained"][:, :, at_level(run, sigma, "explained_training"), index]


def peaks(values: np.ndarray) -> np.ndarray:
    """Return for each seed the step at which the mean over the other seeds is largest, (seeds,).

    A seed's own largest value is above its last one by chance too; at a step that others choose the
    difference has no such sign. At least two seeds.

    Args:
      values: (seeds, steps).
    """
    return (values.sum(axis=0) - values).argmax(axis=1)


def since_peak(values: np.ndarray, peaked: np.ndarray) -> np.ndarray:
    """Return by how much `values` rise from the peak of `peaked` to the last step, (seeds,); nan of
    a single seed, which has no other to find the peak with."""
    if len(values) < 2:
        return np.full(len(values), np.nan)
    return values[:, -1] - values[np.arange(len(values)), peaks(peaked)]


def growth(run: Record, which: int) -> np.ndarray:
    """Return the share of its final value that each mode of x0_hat has, (seeds, frames, modes).

    By regression over paths: sum c_t c_0 / sum c_0^2, which is 1 at the end.
    """
    outlines = run.arrays("paths")["outlines"][:, which]
    final = outlines[:, :, -1:]
    return (outlines * final).sum(axis=1) / (final**2).sum(axis=1)


def settle_levels(run: Record, which: int) -> np.ndarray:
    """Return the noise levels at which modes are half grown, (seeds, modes)."""
    sigma = run.arrays("paths")["sigma"][:-1]
    return np.stack([half_levels(sigma, rows[:-1]) for rows in growth(run, which)])


def mode_variances(run: Record) -> np.ndarray:
    """Return the variances of the modes that were followed."""
    return run.arrays("spectrum")["variance"][: run.config.paths.num_modes]


def log_slope(x: np.ndarray, y: np.ndarray) -> float:
    """Return the least-squares slope of log y against log x, over the pairs that are positive."""
    ok = (x > 0) & (y > 0)  # nan compares as false
    return float(np.polyfit(np.log(x[ok]), np.log(y[ok]), 1)[0]) if ok.sum() > 1 else np.nan


def rank_correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Return Spearman's correlation over the pairs that are finite."""
    ok = np.isfinite(x) & np.isfinite(y)
    if ok.sum() < 3:
        return np.nan
    first, second = (np.argsort(np.argsort(a[ok])) for a in (x, y))
    return float(np.corrcoef(first, second)[0, 1])


def map_agreement(found: np.ndarray, law: np.ndarray) -> np.ndarray:
    """Return 1 - sum (found - law)^2 / sum law^2 over a map, (seeds,)."""
    return 1 - ((found - law) ** 2).sum(axis=(1, 2)) / (law**2).sum()


def mse(run: Record, name: str) -> np.ndarray:
    """Return the squared distance a pixel of the samples of a model to the nets', (seeds, n)."""
    arrays = run.arrays("ends")
    index = list(arrays["names"]).index(name)
    squares = np.asarray(arrays["x"][index] - arrays["x"][NET], np.float64) ** 2
    return squares.mean(-1)


def linear_share(run: Record) -> np.ndarray:
    """Return the share of the variance of the nets' samples that the Gaussian's, from equal noise,
    take away, (seeds,)."""
    x = run.arrays("ends")["x"][NET].astype(np.float64)
    total = np.mean((x - x.mean(axis=1, keepdims=True)) ** 2, axis=(1, 2))
    return 1 - mse(run, "gaussian").mean(axis=1) / total


def gains(run: Record) -> tuple[np.ndarray, np.ndarray]:
    """Return the gains from noise to samples by mode: of the nets by regression, (seeds, modes),
    and those of the Gaussian, sqrt(lambda / (lambda + sigma_T^2)), (modes,)."""
    ends, spectrum, variance = run.arrays("ends"), run.arrays("spectrum"), mode_variances(run)
    basis = spectrum["basis"][:, : len(variance)]
    noise = (ends["noise"] - spectrum["mean"]) @ basis
    modes = (ends["x"][NET] - spectrum["mean"]) @ basis
    highest = run.arrays("paths")["sigma"][0]
    found = (modes * noise).sum(axis=1) / (noise**2).sum(axis=1)
    return found, np.sqrt(variance / (variance + highest**2))


def arm(run: Record, name: str, number: str) -> np.ndarray:
    """Return one of the `NUMBERS` of a teleportation arm, (seeds, skips)."""
    return run.arrays("teleport")[name][..., NUMBERS.index(number)]


def reference(run: Record, name: str, number: str) -> np.ndarray:
    """Return a distance to held-out pictures of training pictures ("floors") or of samples of the
    closed form alone ("linear"), (seeds,)."""
    return run.arrays("teleport")[name][:, DISTANCES.index(number)]


def steps_saved(run: Record, name: str, number: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest share of steps left out such that up to it the distance to held-out
    pictures stays within `teleport.tolerance` of that without a skip, and the next share that was
    tried, 1 after the last: where the distance leaves the tolerance is between the two. (seeds,)
    each."""
    settings = run.config.teleport
    values = arm(run, name, number)
    fine = values <= values[:, :1] * (1 + settings.tolerance)
    count = np.cumprod(fine, axis=1).sum(axis=1)
    shares = np.append(settings.skips, settings.num_steps) / settings.num_steps
    return shares[count - 1], shares[count]


def told_apart(run: Record, number: str) -> np.ndarray:
    """Return the distance to held-out pictures of samples of the Gaussian alone over that of the
    nets' samples from 80, (seeds,). A distance for which this is 1 finds every skip harmless."""
    return reference(run, "linear", number) / arm(run, "heun.edm.cold", number)[:, 0]


def skip_index(run: Record, share: float) -> int:
    """Return the index of the skip nearest to a share of the steps."""
    skips = np.asarray(run.config.teleport.skips) / run.config.teleport.num_steps
    return int(np.argmin(np.abs(skips - share)))


def loss_ratio(run: Record, share: float) -> tuple[int, float]:
    """Return the rank nearest to a share of the dimensions, and the loss there over that of full
    rank."""
    arrays = run.arrays("ranks")
    index = int(np.argmin(np.abs(arrays["ranks"] - share * arrays["ranks"][-1])))
    return int(arrays["ranks"][index]), float(arrays["floor"][index] / arrays["floor"][-1])
