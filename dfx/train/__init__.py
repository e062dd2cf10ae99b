"""Training: one pure step, its loop, ensembles, averages and checkpoints."""

from dfx.train import ema
from dfx.train.checkpoint import CheckpointError, Checkpoints
from dfx.train.ensemble import device_mesh, member, num_members, spread, stack
from dfx.train.environment import keep_freed_memory
from dfx.train.fit import NonFinite, all_finite, fit, steps_done
from dfx.train.optimizer import hold, learning_rate_at, optimizer
from dfx.train.step import State, averaged, in_slices, init_state, make_step

__all__ = [
    "CheckpointError",
    "Checkpoints",
    "NonFinite",
    "State",
    "all_finite",
    "averaged",
    "device_mesh",
    "ema",
    "fit",
    "hold",
    "in_slices",
    "init_state",
    "keep_freed_memory",
    "learning_rate_at",
    "make_step",
    "member",
    "num_members",
    "optimizer",
    "spread",
    "stack",
    "steps_done",
]
