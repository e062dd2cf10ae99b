"""Averages of any length after the run: power-function profiles made of stored ones.

The average of `ema.power` at step t weighs the parameters of time s by its profile

    p(s; t, gamma) = (gamma + 1) s^gamma / t^(gamma + 1),    0 <= s <= t.

Snapshots of a few such averages, taken along the run, span a space of profiles; the average with
another gamma is, nearly, the combination of snapshots whose profile comes closest to its own.
Source: Karras et al. 2024 (EDM2), section 3.2 and algorithm 3.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from dfx.errors import PersonError
from dfx.train import ema
from dfx.train.checkpoint import CheckpointError, Checkpoints
from dfx.train.distributed import is_first
from dfx.train.record import Refused
from dfx.train.step import State


def weights(times: Sequence[float], gammas: Sequence[float], time: float, gamma: float):
    """Return the combination of stored profiles that is closest to the one wanted, and its error.

    Least squares in the integral over s, in float64, among the combinations whose weights sum to
    one, so that parameters that never changed come out as they are. (The source does not ask for
    the sum; where it can be reached, its weights are these.)

    Args:
      times: steps at which the profiles were stored, positive.
      gammas: their exponents, as many.
      time: the step at which the wanted average ends.
      gamma: its exponent, 0 or larger.

    Returns:
      The weights, float64 of the shape of times, and the distance of the profiles relative to the
      norm of the one wanted (0: exact).
    """
    t, g = np.asarray(times, np.float64), np.asarray(gammas, np.float64)
    stored = overlap(t[:, None], g[:, None], t[None], g[None])
    wanted, norm = overlap(t, g, time, gamma), overlap(time, gamma, time, gamma)
    # The minimum with a multiplier for the sum. Profiles of neighbours are nearly dependent: the
    # least-squares solver gives these the smallest weights that do.
    ones = np.ones((len(t), 1))
    size = np.sqrt(np.diag(stored))[:, None]  # early profiles are the largest: all to size one
    system = np.block([[stored / size / size.T, ones / size], [(ones / size).T, 0.0]])
    right = np.append(wanted / size[:, 0], 1.0)
    found = np.linalg.lstsq(system, right, rcond=None)[0][:-1] / size[:, 0]
    error = found @ stored @ found - 2.0 * found @ wanted + norm
    return found, float(np.sqrt(max(error, 0.0) / norm))


def overlap(time, gamma, other_time, other_gamma):
    """Return the integral of the product of two profiles; the arguments broadcast.

    (gamma_a + 1) (gamma_b + 1) / (gamma_a + gamma_b + 1) (t_a / t_b)^gamma_b / t_b, where b is the
    one with the later time.
    """
    a, b = (np.asarray(t, np.float64) for t in (time, other_time))
    late = np.where(a < b, other_gamma, gamma)
    ratio = np.minimum(a, b) / np.maximum(a, b)
    factor = (np.add(gamma, 1.0) * np.add(other_gamma, 1.0)) / (np.add(gamma, other_gamma) + 1.0)
    return factor * ratio**late / np.maximum(a, b)


def combine(trees: Iterable[Any], weights: Sequence[float]) -> Any:
    """Return the weighted sum of pytrees, summed in float64, in the dtypes of the first.

    Args:
      trees: read one by one, so that an iterator needs the memory of one.
      weights: as many numbers.
    """
    total, first = None, None
    for tree, weight in zip(trees, weights, strict=True):
        first = tree if first is None else first
        part = jax.tree.map(lambda leaf, w=weight: w * np.asarray(leaf, np.float64), tree)
        total = part if total is None else jax.tree.map(np.add, total, part)
    return jax.tree.map(lambda sum, leaf: np.asarray(sum, leaf.dtype), total, first)


class Snapshots:
    """The stored averages of one run, in one folder, and what can be made of them.

    Example:
      snapshots = Snapshots(folder, config_hash, [0.05, 0.10])
      step = make_step(loss, optimizer, snapshots.ema)
      .. on_chunk: if done % every == 0: snapshots.save(done, state)
      params, error = snapshots.reconstruct(0.075, state)
    """

    def __init__(
        self,
        folder: str | Path,
        config_hash: str,
        sigma_rels: Sequence[float] = (0.05, 0.10),
        warn: Callable[[str], None] | None = None,
    ):
        """Open a folder of snapshots; the other arguments are those of `Checkpoints`.

        Args:
          sigma_rels: widths of the averages to keep, as shares of the run (`ema.power`).

        Raises:
          PersonError: there are no widths, or one is out of range.
        """
        if not sigma_rels:
            raise PersonError("snapshots: give the width (sigma_rel) of at least one average")
        self.gammas = {f"{width:g}": ema.gamma_of_sigma_rel(width) for width in sigma_rels}
        self.averages = {name: ema.power(gamma) for name, gamma in self.gammas.items()}
        self.ema = ema.several(self.averages)
        self.warn = warn or warnings.warn
        self._files = Checkpoints(folder, config_hash, keep=None, warn=self.warn)

    def save(self, step: int, state: State) -> None:
        """Store the averages of a state, and return when they are on disk.

        So a checkpoint that is saved later never outlives the snapshot before it. A step that is
        there already, in a run that was resumed, is kept.

        Raises:
          NotSaved: they could not be written.
        """
        if step not in self._files.steps():
            self._files.save(step, state.ema)
            self._files.wait()

    def reconstruct(
        self, sigma_rel: float, template: State, step: int | None = None
    ) -> tuple[Any, float]:
        """Return the average of another width, and how far its profile is from the one wanted.

        A damaged snapshot is named in a warning and left out.

        Args:
          sigma_rel: the width, in (0, 0.2887].
          template: a state of the run, or its shapes.
          step: where the average ends; the newest snapshot by default.

        Returns:
          The parameters as NumPy arrays, and the error of `weights`.

        Raises:
          PersonError: sigma_rel is out of range.
          CheckpointError: there are no snapshots up to that step.
        """
        gamma = ema.gamma_of_sigma_rel(sigma_rel)
        steps = [s for s in self._files.steps() if s > 0 and (step is None or s <= step)]
        if not (readable := self._readable(steps, template)):
            raise CheckpointError(f"no usable snapshots in {self._files.folder}")
        stored = [(s, name) for s in readable for name in self.gammas]
        gammas = [self.gammas[name] for _, name in stored]
        end = readable[-1] if step is None else step
        found, error = weights([s for s, _ in stored], gammas, end, gamma)
        trees = (
            averages[name]
            for s in readable
            for averages in [self._files.read(s, template.ema).averages]
            for name in self.gammas
        )
        return combine(trees, found), error

    def _readable(self, steps: list[int], template: State) -> list[int]:
        readable = []
        for step in steps:
            try:
                self._files.read(step, template.ema)
                readable.append(step)
            except Refused as reason:
                if is_first():
                    self.warn(f"snapshot {step} left out: {reason}")
        return readable
