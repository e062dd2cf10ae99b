"""What the study `mode_interpolation` counts in its samples."""

from __future__ import annotations

import itertools

import numpy as np

from analysis.shares import Counts
from dfx import metrics
from dfx.runs import Record
from experiments.mode_interpolation.recursion import FILTERS


class Hallucinations:
    """The samples of an ensemble, by problem and seed, and which of them lie far from every mode.

    Attributes:
      names: of the problems; for an ensemble of one problem, its name.
      x: samples, shape (problems, seeds, n, d).
      variance: late variances of x0_hat, shape (problems, seeds, n, windows).
    """

    def __init__(self, run: Record, ensemble: str, dimension: str | None = None):
        """Read the samples of `ensemble`: of every problem, or, with `dimension` ("one_d",
        "two_d"), of its first one alone, perhaps several times over, as along its training."""
        self.cut = run.config.detection.cut
        self._laws = run.arrays(f"{dimension or ensemble}_laws")
        samples = run.arrays(f"{ensemble}_samples")
        problems = [str(name) for name in self._laws["names"]]
        count = len(samples["x"]) // run.config.num_seeds
        self.names = problems if dimension is None else [problems[0]] * count
        self.x, self.variance = (
            samples[key].reshape(count, run.config.num_seeds, *samples[key].shape[1:])
            for key in ("x", "variance")
        )

    def means(self, name: str) -> np.ndarray:
        """The modes of a problem, shape (k, d)."""
        return self._laws[f"{name}.means"]

    def std(self, name: str) -> float:
        """The standard deviation of each mode."""
        return float(self._laws[f"{name}.std"][0])

    def distance(self, index: int) -> np.ndarray:
        """Distance to the nearest mode in standard deviations, shape (seeds, n), of the problem
        with that index."""
        name = self.names[index]
        return np.stack(
            [metrics.nearest_mode(x, self.means(name), self.std(name))[1] for x in self.x[index]]
        )

    def labels(self, index: int = 0) -> np.ndarray:
        """Which samples are hallucinated, shape (seeds, n)."""
        return self.distance(index) > self.cut

    def shares(self) -> np.ndarray:
        """The hallucinated share, shape (problems, seeds)."""
        return np.stack([self.labels(i).mean(axis=1) for i in range(len(self.names))])

    def share(self, name: str, cut: float | None = None) -> np.ndarray:
        """The hallucinated share of one problem, shape (seeds,); `cut` replaces the config's."""
        far = self.distance(self.names.index(name)) > (self.cut if cut is None else cut)
        return far.mean(axis=1)

    def hallucinated(self, name: str) -> list[np.ndarray]:
        """The hallucinated samples of one problem, an array (m, d) for each seed."""
        index = self.names.index(name)
        return [x[bad] for x, bad in zip(self.x[index], self.labels(index))]

    def inside(self, name: str) -> Counts:
        """1-D: how many of the hallucinated samples lie between the outer modes."""
        low, high = self.means(name).min(), self.means(name).max()
        return part_of(self.hallucinated(name), lambda x: (x[:, 0] > low) & (x[:, 0] < high))

    def near_gaps(self, name: str) -> Counts:
        """1-D: how many lie in gaps of the smallest width, of those in any gap."""
        modes = np.sort(self.means(name)[:, 0])
        widths = np.diff(modes)
        near = np.flatnonzero(widths < 1.01 * widths.min())
        gaps = [np.digitize(x[:, 0], modes) - 1 for x in self.hallucinated(name)]
        within = [gap[(gap >= 0) & (gap < len(widths))] for gap in gaps]
        return part_of(within, lambda gap: np.isin(gap, near))

    def on_edges(self, name: str) -> Counts:
        """2-D: how many are nearer to a segment between neighbours than to one across a cell."""
        edges, diagonals = segments(self.means(name))
        return part_of(
            self.hallucinated(name),
            lambda x: segment_distance(x, edges).min(1) < segment_distance(x, diagonals).min(1),
        )

    def variance_ratio(self, column: int) -> np.ndarray:
        """Median late variance of the hallucinated samples over that of the others, shape
        (seeds,)."""
        return np.asarray(
            [
                np.median(v[bad, column]) / np.median(v[~bad, column]) if bad.any() else np.nan
                for v, bad in zip(self.variance[0], self.labels())
            ]
        )

    def removed(self, column: int, keep: float) -> Counts:
        """How many of the hallucinated samples of the first problem have a late variance above the
        threshold that keeps `keep` of the others on the seed before; a seed never sees its own
        threshold chosen. No trials where one of the two seeds lacks either kind.
        """
        scores, labels = self.variance[0, :, :, column], self.labels()
        both_kinds = [row.any() and not row.all() for row in labels]
        groups = [np.zeros(0, bool)] * len(scores)
        for i in range(len(scores)):
            if both_kinds[i] and both_kinds[i - 1]:
                threshold = metrics.threshold_keeping(scores[i - 1], labels[i - 1], keep)
                groups[i] = scores[i][labels[i]] > threshold
        return part_of(groups, lambda above: above)


def part_of(groups: list[np.ndarray], test) -> Counts:
    """Return for each group how many of its members pass the test."""
    hits = [np.count_nonzero(test(group)) for group in groups]
    return Counts(np.asarray(hits), np.asarray([len(group) for group in groups]))


def segments(modes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the segments (m, 2, d) between nearest modes of a square grid, and those across its
    cells."""
    pairs = np.asarray(list(itertools.combinations(modes, 2)))
    lengths = np.linalg.norm(pairs[:, 0] - pairs[:, 1], axis=1)
    lengths = lengths / lengths.min()
    return pairs[np.isclose(lengths, 1.0)], pairs[np.isclose(lengths, np.sqrt(2.0))]


def segment_distance(x: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Return the distance of points (n, d) to segments (m, 2, d), shape (n, m)."""
    start, along = ends[:, 0], ends[:, 1] - ends[:, 0]
    place = ((x[:, None] - start) * along).sum(-1) / (along**2).sum(-1)
    foot = start + np.clip(place, 0.0, 1.0)[..., None] * along
    return np.linalg.norm(x[:, None] - foot, axis=-1)


def spacing_cut(run: Record) -> float:
    """Return the distance, in sd, that tells hallucinations at every spacing: the config's, or two
    fifths of the smallest gap, since half of it is as far as a sample between two modes can be."""
    settings = run.config.one_d
    return min(run.config.detection.cut, 0.4 * min((1.0, *settings.spacings)) / settings.std)


def control_share(run: Record, name: str) -> tuple[float, float, float]:
    """Return the hallucinated share of the exact-score samples with its 95% Wilson interval."""
    arrays = run.arrays(f"control_{name}")
    _, distance = metrics.nearest_mode(arrays["x"], arrays["means"], float(arrays["std"][0]))
    bad = int((distance > run.config.detection.cut).sum())
    share, low, high = metrics.wilson(bad, len(distance))
    return float(share), float(low), float(high)


def slope_ratios(run: Record) -> tuple[np.ndarray, np.ndarray]:
    """Return the steps, and the learned over the exact slope of x0_hat at the midpoints, shape
    (steps, seeds)."""
    arrays = run.arrays("one_d_score")
    exact, learned = arrays["slopes"][:, :1], arrays["slopes"][:, 1:]
    return arrays["steps"], (learned / exact).mean(axis=-1)


def generation_shares(run: Record) -> dict[str, np.ndarray]:
    """Return the hallucinated share by filter, each of shape (generations + 1, seeds)."""
    law, rows = run.arrays("recursion_laws"), []
    for number in range(run.config.recursion.generations + 1):
        x = run.arrays(f"recursion_{number}_samples")["x"]
        far = [metrics.nearest_mode(m, law["grid.means"], float(law["grid.std"][0]))[1] for m in x]
        share = (np.stack(far) > run.config.detection.cut).mean(axis=1)
        rows.append(np.resize(share, (len(FILTERS), run.config.num_seeds)))
    return dict(zip(FILTERS, np.stack(rows, axis=1)))


def window_column(run: Record, window: int) -> int:
    """Return where a window is among those of the config."""
    return list(run.config.detection.windows).index(window)
