"""One run by several processes: the first writes and speaks, the others compute the same.

A process that has joined others (`dfx.train.start_processes`) has imported JAX; here nothing does,
so that commands which compute nothing start at once. With a single process all of this does nothing
but call what it is given.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from dfx.errors import PersonError, Stopped

T = TypeVar("T")

#: How long a process that has come to its end waits for the others to come to theirs.
PATIENCE_SECONDS = 20
_LONGEST = 4096  # bytes of what a process tells the others


class OtherFailed(Stopped):
    """Another process has met a bug, or has lost its disk: it ends as this one does, status 1."""


_KINDS = {"PersonError": PersonError, "Stopped": Stopped, "OtherFailed": OtherFailed}


def several() -> bool:
    """Return whether this process has joined others."""
    jax = sys.modules.get("jax")
    return jax is not None and jax.distributed.is_initialized() and jax.process_count() > 1


def is_first() -> bool:
    """Return whether this process is the one that writes and speaks."""
    return not several() or sys.modules["jax"].process_index() == 0


def together(work: Callable[[], T]) -> T:
    """Return `work()` once every process has done its own; if one raises, all do.

    Raises:
      PersonError, Stopped: what the first of those raised that did, named if it is not this one;
        `OtherFailed` for anything else.
      Exception: what this one raised.
    """
    return _together(work)[0]


def by_first(work: Callable[[], Any]) -> Any:
    """Return in every process what `work()` returns in the first, which alone calls it.

    Args:
      work: returns None, a bool, a number or a short text.

    Raises:
      PersonError, Stopped: see `together`.
    """
    _, told = _together(lambda: work() if is_first() else None)
    return told[0]["value"]


def leave(status: int) -> int:
    """Return an exit status once the other processes have come to their ends as well.

    If they do not, because this one ended for a reason of its own, the process ends here and now:
    JAX would wait for five minutes and then abort. The others are ended by JAX when they miss the
    heartbeats of this one, or meet its absence in a sum over all devices.
    """
    if several():
        from jax.experimental import multihost_utils

        sys.stdout.flush()
        sys.stderr.flush()
        # No public name has barriers that end after a while.
        client: Any = multihost_utils.distributed.global_state.client
        try:
            client.wait_at_barrier("dfx ends", PATIENCE_SECONDS * 1000)
        except RuntimeError:
            os._exit(status)
    return status


def _together(work: Callable[[], T]) -> tuple[T, list[dict[str, Any]]]:
    """Return `work()` and what every process tells of its own; see `together`."""
    if not several():
        value = work()
        return value, [{"value": value}]
    found: list[T] = []
    error: Exception | None = None
    try:
        found.append(work())
    except Exception as raised:
        error = raised
    short = found[0] if found and isinstance(found[0], bool | int | float | str) else None
    told = _tell({"value": short, **_describe(error)})
    if error is not None:
        raise error
    for index, other in enumerate(told):
        if other["kind"]:
            said = other["line"] if index == 0 else f"process {index}: {other['line']}"
            raise _KINDS[other["kind"]](said)
    return found[0], told


def _describe(error: Exception | None) -> dict[str, str]:
    """Return the kind and the line of an error, as the others raise it."""
    if error is None:
        return {"kind": "", "line": ""}
    if isinstance(error, PersonError | Stopped):
        kind = "PersonError" if isinstance(error, PersonError) else "Stopped"
        return {"kind": kind, "line": str(error)[:500]}
    return {"kind": "OtherFailed", "line": f"{type(error).__name__}: {error}"[:500]}


def _tell(message: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the messages of all processes, in their order."""
    from jax.experimental import multihost_utils

    text = json.dumps(message).encode()
    padded = np.frombuffer(text.ljust(_LONGEST), np.uint8)
    return [json.loads(row.tobytes()) for row in multihost_utils.process_allgather(padded)]
