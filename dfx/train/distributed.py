"""Several processes of one run: one for each host of a pod, or a few on one machine.

Every process runs the same program on its own devices; what leaves a process (lines, files) is the
business of the first one. With a single process all of this does nothing.

A process that dies takes the others with it. They end, by JAX's doing, with a traceback when they
meet its absence in a sum over all devices (CPU), or with SIGABRT when its heartbeats have been
missing for `HEARTBEAT_SECONDS`; at once if it is the first process, which hears the heartbeats. All
of them started again go on from the last checkpoint.
"""

from __future__ import annotations

import os
from typing import NamedTuple

import jax
import numpy as np

from dfx.errors import PersonError

#: Where the environment says which process this is; jax knows the same names.
_COORDINATOR, _COUNT, _INDEX = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"

#: How long a process may be silent before the others are ended; a thread of JAX's own speaks.
HEARTBEAT_SECONDS = 60


class Processes(NamedTuple):
    """Which process this is, from 0, of how many; how many devices it and all of them have."""

    process: int
    processes: int
    local_devices: int
    devices: int


def start_processes(
    coordinator: str | None = None, count: int | None = None, index: int | None = None
) -> Processes:
    """Join the other processes of the run, once, and return which one this is.

    Call it before JAX computes anything. Later calls only report.

    Args:
      coordinator: "host:port" of process 0, with count and index; or "auto" where the machines
        know of each other (TPU VMs, SLURM). None: what the variables JAX_COORDINATOR_ADDRESS,
        JAX_NUM_PROCESSES and JAX_PROCESS_ID say, and a single process without them.
      count: number of processes.
      index: which one this is, from 0.

    Raises:
      PersonError: the numbers make no sense, or stand without a coordinator, or JAX computes
        already. If the others do not come within five minutes, JAX aborts the process.
    """
    if coordinator is None:
        coordinator = os.environ.get(_COORDINATOR)
        count = _number(_COUNT) if count is None else count
        index = _number(_INDEX) if index is None else index
    if not jax.distributed.is_initialized():
        if coordinator:
            _join(coordinator, count, index)
        elif count is not None or index is not None:
            # Each host would take itself for the first of one, and all would write.
            raise PersonError(
                f"process {index!r} of {count!r} without a coordinator: give host:port of the "
                f"first process, or {_COORDINATOR}"
            )
    return Processes(
        jax.process_index(), jax.process_count(), jax.local_device_count(), jax.device_count()
    )


def is_first() -> bool:
    """Return whether this process is the one that logs and writes."""
    return jax.process_index() == 0


def any_process(flag: bool) -> bool:
    """Return whether the flag is set in any process; every process has to call it."""
    if jax.process_count() == 1:
        return flag
    from jax.experimental import multihost_utils

    return bool(np.any(multihost_utils.process_allgather(np.asarray(flag))))


def wait_for_all(name: str) -> None:
    """Return once every process has come here."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(name)


def _join(coordinator: str, count: int | None, index: int | None) -> None:
    # Its handler of SIGTERM would take the place of the one that saves the state (`stopping`).
    jax.config.update("jax_enable_preemption_service", False)
    try:
        if coordinator == "auto":
            jax.distributed.initialize(heartbeat_timeout_seconds=HEARTBEAT_SECONDS)
            return
        ported = coordinator.rpartition(":")[2].isdecimal()
        if not ported or count is None or index is None or not 0 <= index < count:
            raise PersonError(
                f"process {index!r} of {count!r} at {coordinator}: give host:port of the first "
                "process, the number of processes and which one this is, from 0"
            )
        jax.distributed.initialize(
            coordinator, count, index, heartbeat_timeout_seconds=HEARTBEAT_SECONDS
        )
    except (RuntimeError, ValueError) as error:
        if isinstance(error, PersonError):
            raise
        reason = " ".join(str(error).split())
        raise PersonError(f"the processes at {coordinator} cannot be joined: {reason}") from error


def _number(variable: str) -> int | None:
    text = os.environ.get(variable)
    if text is None:
        return None
    if not text.isdecimal():
        raise PersonError(f"{variable} {text!r}: allowed are whole numbers from 0 up")
    return int(text)
