"""Training: one pure step, its two loops, meshes, ensembles, averages and checkpoints.

`make_step` makes the step. `fit` runs it on data that lie on the device, `fit_feed` on batches that
come from the host; both go on from any state, save through `Checkpoints`, stop at numbers that are
not finite and end in order on SIGTERM. Where a state lies decides where it is trained: `init_on` a
mesh for one large net on many devices and hosts, `spread` for an ensemble.
"""

from dfx.train import ema
from dfx.train.checkpoint import CheckpointError, Checkpoints
from dfx.train.cost import Meter, matmul_flops, memory_high_water, peak_flops, product_flop
from dfx.train.disk import NotSaved
from dfx.train.distributed import Processes, is_first, start_processes
from dfx.train.ensemble import member, num_members, spread, stack
from dfx.train.environment import keep_freed_memory
from dfx.train.feed import Feed, fit_feed
from dfx.train.fit import NonFinite, all_finite, fit, steps_done
from dfx.train.lower import lower_step
from dfx.train.mesh import (
    batch_sharding,
    check_batch,
    device_mesh,
    init_on,
    local_rows,
    make_mesh,
    move_to,
    put_batch,
    state_shardings,
)
from dfx.train.optimizer import hold, learning_rate_at, optimizer
from dfx.train.posthoc import Snapshots
from dfx.train.step import State, averaged, in_slices, init_state, make_step
from dfx.train.stopping import Preempted

__all__ = [
    "CheckpointError",
    "Checkpoints",
    "Feed",
    "Meter",
    "NonFinite",
    "NotSaved",
    "Preempted",
    "Processes",
    "Snapshots",
    "State",
    "all_finite",
    "averaged",
    "batch_sharding",
    "check_batch",
    "device_mesh",
    "ema",
    "fit",
    "fit_feed",
    "hold",
    "in_slices",
    "init_on",
    "init_state",
    "is_first",
    "keep_freed_memory",
    "learning_rate_at",
    "local_rows",
    "lower_step",
    "make_mesh",
    "make_step",
    "matmul_flops",
    "member",
    "memory_high_water",
    "move_to",
    "num_members",
    "optimizer",
    "peak_flops",
    "product_flop",
    "put_batch",
    "spread",
    "stack",
    "start_processes",
    "state_shardings",
    "steps_done",
]
