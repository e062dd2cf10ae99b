"""What is asked of a net at a stop of its training, and once more at the end."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from dfx import train
from dfx.train.mesh import put_whole
from experiments.images import data, sampling
from experiments.images import losses as images_losses
from experiments.images.data import Pictures
from experiments.images.scores import Jury, score
from experiments.images.training import Parts


class Evaluation:
    """How the nets of one run are judged."""

    def __init__(self, config, run, parts: Parts, pictures: Pictures, jury: Jury, mesh: Mesh):
        """Keep what all stops share; see `scores.call_jury` for the jury."""
        self.config, self.run, self.parts = config, run, parts
        self.pictures, self.jury, self.mesh = pictures, jury, mesh

    def judge(self, state: train.State, done: int, seconds: float, last: bool) -> None:
        """Keep as `judged_STEP` what is found of the averaged net after so many steps.

        Samples are scored as `scores.score` says, losses as `losses.measure`; at the
        last stop there are bits per dimension too.

        Args:
          state: of the training.
          done: its steps.
          seconds: of training up to here.
          last: whether it ends here.
        """
        self.run.arrays(stage(done), lambda: self._compute(state, seconds, last))

    def _compute(self, state: train.State, seconds: float, last: bool) -> dict[str, Any]:
        config, parts = self.config, self.config.evaluation.parts
        params = sampling.whole(train.averaged(state, config.evaluation.ema), self.mesh)
        found: dict[str, Any] = {"seconds": seconds}
        if "samples" in parts:
            found |= score(config, self.jury, self._pixels(params))
        if "loss" in parts:
            found |= self.losses(params)
        if "bits" in parts and last:
            # So few pictures are no work for all devices: every process has them on its own.
            local = jax.tree.map(np.asarray, params)
            field = sampling.net_field(config, self.parts, local)
            found |= images_losses.bits(config, self.parts.recipe, field, self.pictures)
        return found

    def losses(self, params: Any) -> dict[str, np.ndarray]:
        """Return the losses of a net, without guidance; see `losses.measure`."""
        recipe, net = self.parts.recipe, self.parts.net
        return images_losses.measure(
            self.config, recipe, recipe.model(net), params,
            lambda labels: recipe.field(net, params, labels), self.pictures, self.mesh,
        )  # fmt: skip

    def _pixels(self, params: Any) -> np.ndarray:
        config = self.config

        def field_of(labels):
            return sampling.net_field(config, self.parts, params, labels)

        with self.run.progress(config.evaluation.samples, "sample", unit="picture") as bar:
            x = sampling.draw(config, self.parts, field_of, self.mesh, bar)
        return data.to_pixels(config, x)


def judge_widths(config, run, snapshots: train.Snapshots, evaluation: Evaluation, state) -> None:
    """Keep as `widths` the losses of averages of other widths, made of the snapshots.

    sigma_rel: the widths. error: how far each profile is from the one wanted. loss_test,
    loss_train: (2, widths).
    """
    if not config.ema.posthoc:
        return

    def compute():
        rows = []
        for width in config.ema.posthoc:
            params, error = snapshots.reconstruct(width, state)
            found = evaluation.losses(put_whole(params, evaluation.mesh))
            rows.append((error, found["loss_train"], found["loss_test"]))
        error, loss_train, loss_test = zip(*rows)
        widths = np.array(config.ema.posthoc)
        return {"sigma_rel": widths, "error": np.array(error), "loss_train": np.array(loss_train).T,
                "loss_test": np.array(loss_test).T}  # fmt: skip

    run.arrays("widths", compute)


def stage(done: int) -> str:
    """Return the name under which a stop after so many steps is kept."""
    return f"judged_{done:08d}"
