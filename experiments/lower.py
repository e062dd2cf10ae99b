"""The training step of a pod, lowered on a laptop: does it fit together, what does it take?

    python -m experiments.lower images:imagenet256_sit_xl --devices=256 [--platform=tpu]
        [--config.mesh.fsdp=16]

Prints parameters, FLOP a step and bytes on each device, and fails where the step does not fit the
mesh. Nothing is computed, no data are read and no device of the kind is needed. What XLA adds for
activations is not counted: only a compilation for the device tells.
"""

from __future__ import annotations

import importlib
import math
import sys
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from dfx import data, train
from dfx.data.dataset import REGISTRY
from dfx.errors import PersonError, choose
from dfx.runs.config import from_plain
from dfx.runs.outcome import exit_status
from dfx.runs.overrides import override
from dfx.train.lower import abstract_mesh, bytes_per_device, shapes_on
from dfx.train.mesh import AXES, mesh_shape
from experiments.arguments import Arguments, parse
from experiments.images import data as images_data
from experiments.images import training

USAGE = "python -m experiments.lower STUDY:SIZE --devices=256"
PLATFORMS = ("tpu", "cuda", "cpu")
GIB = 2**30


class PodStep(NamedTuple):
    """A step for devices that are not there.

    state: shapes with where they lie. lowered: the program. flop: of a step's products, without
    those that remat adds. mesh: sizes of "data" and "fsdp".
    """

    state: train.State
    lowered: Any
    flop: float
    mesh: dict[str, int]


def main(argv: list[str] | None = None) -> int:
    """Run one command line (without the program's name) and return its exit status."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    return exit_status(lambda: _command(arguments))


def lower(config, devices: int, platform: str = "tpu") -> PodStep:
    """Return the step of an image training on so many devices.

    Raises:
      PersonError: devices, mesh and batch do not fit together.
    """
    sizes = dict(zip(AXES, mesh_shape(config.mesh.data, config.mesh.fsdp, devices)))
    mesh = abstract_mesh(**sizes)
    train.check_batch(config.train.batch_size, mesh, config.train.slices)
    parts = training.make_parts(config, stand_in(config))
    state = jax.eval_shape(parts.make_state, jax.random.key(0))
    lowered = train.lower_step(parts.step, state, parts.batch, **sizes, platform=platform)
    flop = training.model_flop(config, parts)
    return PodStep(shapes_on(mesh, state), lowered, flop, sizes)


def stand_in(config) -> images_data.Pictures:
    """Return one black picture of the shape that the config's data have, with a label.

    Raises:
      PersonError: the shape is not known without the data.
    """
    if config.data.latents:  # of the encoder that makes 32 x 32 x 4 of 256 x 256 x 3
        row, shape = np.zeros((1, 32, 32, 8), np.float32), (32, 32, 4)
    else:
        shape = _pixels(config.data)
        row = np.zeros((1, *shape), np.uint8)
    records = data.HostArrays((row, np.zeros(1, np.int32)))
    classes = config.data.num_classes if config.labels.use else 0
    return images_data.Pictures(records, records, shape, classes, labelled=True)


def _pixels(settings) -> tuple[int, int, int]:
    if settings.kind == "folder":
        return settings.size, settings.size, settings.channels
    known = REGISTRY[settings.name].shape if settings.name in REGISTRY else None
    if known is None:
        raise PersonError(f"the shape of {settings.name!r} is not known without its files")
    return known


def report(step: PodStep, batch_size: int) -> str:
    """Return what a step takes, in lines of text."""
    devices = math.prod(step.mesh.values())
    number = sum(leaf.size for leaf in jax.tree.leaves(step.state.params))
    parts = {
        "parameters": step.state.params,
        "optimizer": step.state.opt_state,
        "averages": step.state.ema,
    }
    held = {name: bytes_per_device(part) / GIB for name, part in parts.items()}
    mesh = " x ".join(f"{name} {size}" for name, size in step.mesh.items())
    return "\n".join([
        f"{devices} devices ({mesh}), batch {batch_size}: {batch_size / devices:g} on each",
        f"{number:,} parameters; {step.flop / 1e12:.4g} TFLOP a step, "
        f"{step.flop / devices / 1e12:.4g} on each device",
        f"GiB on each device: {sum(held.values()):.3g} ("
        + ", ".join(f"{name} {size:.3g}" for name, size in held.items())
        + f"), gradients {held['parameters']:.3g} more during a step",
        f"the program has {step.lowered.as_text().count(chr(10)):,} lines",
    ])  # fmt: skip


def _command(argv: list[str]) -> None:
    if not argv or "--help" in argv or "-h" in argv:
        print((__doc__ or "").strip())
        return
    arguments = parse(argv, options=("--devices", "--platform"))
    config = _config(arguments)
    devices = arguments.options.get("--devices", "256")
    if not devices.isdecimal() or int(devices) < 1:
        raise PersonError(f"--devices={devices}: allowed are whole numbers from 1 up")
    platform = arguments.options.get("--platform", "tpu")
    choose("platform", platform, dict.fromkeys(PLATFORMS))
    print(report(lower(config, int(devices), platform), config.train.batch_size))


def _config(arguments: Arguments) -> ConfigDict:
    """Return the config that is asked for; its data and devices, which need not be here, are not
    looked for."""
    (spec,) = arguments.positionals(USAGE)
    study, _, size = spec.partition(":")
    choose("study", study, {"images": None})
    module = importlib.import_module(f"configs.{study}")
    config = module.get_config(
        choose("size of images", size, dict(zip(module.SIZES, module.SIZES)))
    )
    for setting, text in arguments.settings:
        override(config, setting, text)
    return from_plain(config)


if __name__ == "__main__":
    sys.exit(main())
