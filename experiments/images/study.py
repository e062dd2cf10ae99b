"""Image training: any recipe, net and set, on any mesh; evaluated while it runs and at the end.

The training stops at fixed steps, where its checkpoint is written and its averages are judged; a
run that is killed goes on from the last checkpoint, to the same bits, and does what is missing at
the stop where it stands. Kept:

  metrics.jsonl   stage "train": loss, gradient, seconds, images a second, utilisation, memory
  judged_STEP     what is said of the net after so many steps (see `evaluation`)
  judged_NAME     the same of real pictures and of laws that are known (see `references`)
  floors          losses that are known without a net
  widths          losses of averages of other widths, made after the training
  judge           the classifier by whose features and classes pictures are compared
  setting         sampler, evaluations, parameters, FLOP of a step, devices
"""

from __future__ import annotations

import functools

import jax

from dfx import nets, train
from experiments.images import data
from experiments.images.evaluation import Evaluation, judge_widths
from experiments.images.references import judge_references
from experiments.images.sampling import sampler
from experiments.images.scores import call_jury
from experiments.images.trainer import Trainer
from experiments.images.training import make_parts


def run(config, run) -> None:
    """Train, judge at the stops, and put the references beside."""
    if jax.default_backend() == "cpu":
        train.keep_freed_memory()  # a step is a fifth faster
    run.plan("train", "judge", "widths", "references")
    pictures = data.open_pictures(config)
    parts = make_parts(config, pictures)
    trainer = Trainer(config, run, pictures, parts)

    @functools.cache  # at the first stop: the first step should not wait for the judge's training
    def evaluation() -> Evaluation:
        jury = call_jury(config, run, pictures)
        return Evaluation(config, run, parts, pictures, jury, trainer.mesh)

    trainer.run_to_end(
        lambda state, done, last: evaluation().judge(state, done, trainer.seconds, last)
    )
    judge_widths(config, run, trainer.snapshots, evaluation(), trainer.state)
    judge_references(config, run, parts, pictures, evaluation().jury, trainer.mesh)
    run.arrays("setting", lambda: setting(config, parts, trainer))


def setting(config, parts, trainer: Trainer) -> dict:
    """Return what every number of the run is to name."""
    how = sampler(config, parts.recipe)
    shapes = jax.eval_shape(parts.make_state, jax.random.key(0))
    return {
        "solver": how.solver,
        "grid": how.grid,
        "evaluations": how.tableau(parts.recipe.schedule).num_rows,
        "num_params": nets.num_params(shapes.params),
        "flop": trainer.flop,
        "peak": trainer.peak,
        "devices": jax.device_count(),
        "steps": trainer.done,
        "seconds": trainer.seconds,
    }
