"""What the study `subspace_clustering` counts: recovery, transition lines, scores, ranks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dfx import metrics
from dfx.runs import Claim, Record

#: Maps of the K-subspaces solver: number of subspaces, and its starts.
SOLVERS = {
    "map_k2": "K = 2, from anywhere",
    "map_k2_points": "K = 2, from points",
    "map_k3": "K = 3, from points",
}

#: Noise levels sigma / alpha at which pictures' Jacobians are said to have a small rank: t from 0.2
#: to 0.7 of linear VP, which is 0.72 to 11.8, rounded outwards.
MIDDLE = 0.7, 12.0

#: Bootstrap resamples of the seeds, of the intervals of lines and slopes.
RESAMPLES = 400

#: Ridge on the two slopes of the logistic curve, in units of one trial: where cells separate
#: without error the curve would be infinitely steep; its line stays halfway between them.
RIDGE = 1e-3


class Line(NamedTuple):
    """The line N = slope d + intercept at which half of the trials succeed, with resamples (b,) of
    both."""

    slope: float
    intercept: float
    slopes: np.ndarray
    intercepts: np.ndarray

    def beyond(self, d: float) -> tuple[float, float, float]:
        """Return N - d on the line at d, with its 95% interval."""
        low, high = interval((self.slopes - 1) * d + self.intercepts)
        return (self.slope - 1) * d + self.intercept, low, high

    def slope_interval(self) -> tuple[float, float, float]:
        """Return the slope with its 95% interval."""
        return self.slope, *interval(self.slopes)


def interval(values) -> tuple[float, float]:
    """Return the middle 95% of resamples; nan if one of them is nan."""
    low, high = np.quantile(np.asarray(values, np.float64), (0.025, 0.975))
    return float(low), float(high)


def share(success, **fields) -> Claim:
    """Return a claim on the share of trials that succeed, with its Wilson interval."""
    success = np.asarray(success)
    value, low, high = map(float, metrics.wilson(int(success.sum()), success.size))
    return Claim(
        ours=value, low=low, high=high, seeds=success.shape[-1], unit="of trials", **fields
    )


def resampled(values, seeds: int, **fields) -> Claim:
    """Return a claim on a number of all trials, first, with the interval of its resamples."""
    low, high = interval(values[1:])
    return Claim(ours=float(values[0]), low=low, high=high, seeds=seeds, **fields)


def found(run: Record, name: str) -> np.ndarray:
    """Return which trials of a map found all subspaces, (dims, counts, seeds[, starts])."""
    return run.arrays(name)["error"] <= run.config.tolerance


def best_start(run: Record, name: str, among=slice(None, -1)) -> np.ndarray:
    """Return the success of the start with the least loss, (dims, counts, seeds); by default among
    the random ones, without the truth, which is last."""
    loss = run.arrays(name)["loss"][..., among]
    success = found(run, name)[..., among]
    best = loss.argmin(-1)[..., None]
    return np.take_along_axis(success, best, -1)[..., 0]


def trained_maps(run: Record) -> dict[str, np.ndarray]:
    """Return the successes of trained nets by name, (dims, counts, seeds)."""
    return {
        "net_1": found(run, "map_net_1")[..., 0],
        "net_2": best_start(run, "map_net_2"),
        "net_2_truth": found(run, "map_net_2")[..., -1],
    }


def line(success: np.ndarray, dims, counts, seed: int = 0) -> Line:
    """Return the transition line of a map: logistic regression of success (dims, counts, seeds) on
    (1, N, d), with a bootstrap over seeds. All nan where nothing, or everything, succeeds."""
    rng = np.random.default_rng(seed)
    n = success.shape[2]
    chosen = rng.integers(n, size=(RESAMPLES, n))
    shares = np.stack([success.mean(2), *(success[:, :, pick].mean(2) for pick in chosen)])
    d, count = np.meshgrid(np.asarray(dims, float), np.asarray(counts, float), indexing="ij")
    x = np.stack([np.ones(d.size), count.ravel() - count.mean(), d.ravel() - d.mean()], axis=1)
    b = logistic(x, shares.reshape(len(shares), -1), n)
    with np.errstate(divide="ignore", invalid="ignore"):
        slopes = -b[:, 2] / b[:, 1]
        intercepts = count.mean() - slopes * d.mean() - b[:, 0] / b[:, 1]
    empty = (shares == shares[:, :1, :1]).all((1, 2))
    slopes, intercepts = (np.where(empty, np.nan, a) for a in (slopes, intercepts))
    return Line(float(slopes[0]), float(intercepts[0]), slopes[1:], intercepts[1:])


def logistic(x: np.ndarray, shares: np.ndarray, trials: int, steps: int = 60) -> np.ndarray:
    """Return the coefficients (b, p) of P(success) = 1 / (1 + exp(-x beta)) for shares (b, cells)
    of `trials` each: the maximum likelihood with a ridge on all but the first, by damped Newton
    steps."""
    ridge = np.full(x.shape[1], RIDGE)
    ridge[0] = 1e-9
    b = np.zeros((len(shares), x.shape[1]))
    for _ in range(steps):
        p = 1 / (1 + np.exp(-np.clip(b @ x.T, -40, 40)))
        gradient = trials * (shares - p) @ x - ridge * b
        hessian = np.einsum("bc,cp,cq->bpq", trials * p * (1 - p), x, x) + np.diag(ridge)
        step = np.linalg.solve(hessian, gradient[..., None])[..., 0]
        longest = np.abs(step).max(1, keepdims=True)
        b = b + step * np.minimum(1, 2 / np.maximum(longest, 1e-30))
    return b


def at_offset(success: np.ndarray, dims, counts, offset: int) -> np.ndarray:
    """Return the successes of the cells N = d + offset, (cells, seeds)."""
    pairs = [
        (i, j)
        for i, d in enumerate(dims)
        for j, count in enumerate(counts)
        if int(count) == int(d) + offset
    ]
    rows = [success[pair] for pair in pairs]
    return np.stack(rows) if rows else np.zeros((0, success.shape[2]), bool)


def above_edge(dims, counts) -> np.ndarray:
    """Return which cells have N >= d, (dims, counts)."""
    return np.asarray(counts)[None] >= np.asarray(dims)[:, None]


def theory_rate(dims, counts) -> np.ndarray:
    """Return 1 / (sqrt N - sqrt(d - 1)) of the paper's theorem 2, (dims, counts); nan for N < d."""
    d, n = np.asarray(dims, float)[:, None], np.asarray(counts, float)[None]
    gap = np.sqrt(n) - np.sqrt(d - 1)
    return np.where(n >= d, 1 / np.where(n >= d, gap, 1.0), np.nan)


def noise_slopes(run: Record) -> np.ndarray:
    """Return the slope of log mean error against log (sqrt N - sqrt(d - 1))^-1 over the cells
    N >= d of the smaller ambient dimension, one intercept for each d: of all trials, then of
    resamples, (1 + b,)."""
    table = run.arrays("noise")
    error, rng = table["error"][0], np.random.default_rng(0)
    rate = np.log(theory_rate(table["dims"], table["counts"]))
    inside = np.isfinite(rate)
    x = _centred(rate, inside)
    n = error.shape[2]
    picks = [np.arange(n), *rng.integers(n, size=(RESAMPLES, n))]
    means = [np.log(error[:, :, pick].mean(2)) for pick in picks]
    return np.asarray([(x * _centred(y, inside)).sum() / (x**2).sum() for y in means])


def _centred(values, inside) -> np.ndarray:
    """Values less their mean over the cells of the same d; zero outside."""
    mean = np.where(inside, values, 0).sum(1, keepdims=True) / inside.sum(1, keepdims=True)
    return np.where(inside, values - mean, 0)


def ambient_ratio(run: Record) -> np.ndarray:
    """Return the geometric mean over the cells N >= d of the mean error in the larger ambient
    dimension over that in the smaller: of all trials, then of resamples, (1 + b,)."""
    table, rng = run.arrays("noise"), np.random.default_rng(0)
    inside, n = above_edge(table["dims"], table["counts"]), table["error"].shape[3]
    picks = [(np.arange(n),) * 2, *rng.integers(n, size=(RESAMPLES, 2, n))]
    small, large = table["error"]
    ratios = [large[:, :, b].mean(2) / small[:, :, a].mean(2) for a, b in picks]
    return np.asarray([np.exp(np.log(ratio[inside]).mean()) for ratio in ratios])


def angle_success(run: Record) -> np.ndarray:
    """Return which trials found both subspaces, (angles, counts, seeds). The tolerance shrinks with
    the sine of the angle, as the distance between the two subspaces does."""
    table = run.arrays("angles")
    scale = np.sin(np.radians(table["angles"]))[:, None, None]
    return table["error"] <= run.config.tolerance * scale


def scores(run: Record) -> dict[str, np.ndarray]:
    """Return shares of samples, (dims, ratios, seeds): `new`, farther from the training set than
    `config.nets.new` times the median distance of fresh data; `placed`, within `config.nets.near`
    of a subspace; `score`, both; `fresh`, the share of fresh data that is new."""
    settings, table = run.config.nets, run.arrays("perceptrons_samples")
    shape = len(settings.dims), len(settings.ratios), settings.num_seeds
    cut = settings.new * np.median(table["fresh"], axis=1, keepdims=True)
    new, placed = table["distance"] > cut, table["off"] <= settings.near
    rows = {"new": new, "placed": placed, "score": new & placed, "fresh": table["fresh"] > cut}
    count = int(np.prod(shape))
    return {name: row[:count].mean(1).reshape(shape) for name, row in rows.items()}


def score_line(run: Record) -> Line:
    """Return the line in log(N / d) and log d on which half of the perceptrons have a score of 1/2
    or more."""
    settings = run.config.nets
    return line(scores(run)["score"] >= 0.5, np.log(settings.dims), np.log(settings.ratios))


def collapse_gap(values: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return the mean over N / d of the largest difference between the curves of two d, each curve
    the mean over seeds: of all seeds, then of resamples, (1 + b,).

    The difference is taken of means: that of single nets is large where all d have one law. What
    chance leaves of it falls with the root of the number of seeds.

    Args:
      values: (dims, ratios, seeds), independent in all three; so are the resamples.
    """
    rng, (dims, ratios, n) = np.random.default_rng(seed), values.shape
    picks = rng.integers(n, size=(RESAMPLES, dims, ratios, n))
    resamples = np.take_along_axis(values[None], picks, axis=3)
    return np.append(_spread(values), _spread(resamples))


def _spread(values) -> np.ndarray:
    return np.ptp(values.mean(-1), axis=-2).mean(-1)


def rank_at(run: Record, name: str, ratio: float) -> np.ndarray:
    """Return the mean rank at the noise level nearest to sigma / alpha = ratio, (seeds,)."""
    table = run.arrays("rank")
    return table[name][nearest(table["levels"], ratio)].mean(1)


def nearest(levels, ratio: float) -> int:
    """Return the place of the level nearest to a ratio, in logarithms."""
    return int(np.abs(np.log(levels) - np.log(ratio)).argmin())


def picture_ranks(run: Record, name: str) -> np.ndarray:
    """Return the mean rank over the number of pixels of a set of pictures, (levels, seeds)."""
    table = run.arrays(f"rank_{name}")
    return table["rank"].mean(2) / int(table["pixels"])
