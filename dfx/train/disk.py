"""What the disk may do to a save: be full, be read-only, belong to somebody else.

Each comes out as one line that names what is still whole.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax

from dfx.errors import Stopped
from dfx.train.distributed import any_process


class NotSaved(Stopped):
    """A checkpoint could not be written: the disk is full, or the folder is not ours."""


@contextlib.contextmanager
def writing(what: str, folder: Path, clear: Callable[[], None]) -> Iterator[None]:
    """Turn what the disk raises inside the block into NotSaved.

    Args:
      what: is being written.
      folder: of the checkpoints, one folder a step.
      clear: removes from it what is half-written, to make room.
    """
    try:
        yield
    except Exception as error:
        reason = _reason(error)
        if reason is None:  # not the disk's fault
            raise
        clear()
        whole = sorted(int(path.name) for path in folder.glob("*") if path.name.isdigit())
        last = f"step {whole[-1]} is the last good one" if whole else "there is none before it"
        raise NotSaved(
            f"{what} could not be written in {folder}: {reason}; {last}. "
            "Make room, and the same command goes on from there"
        ) from error


def check_writable(folder: Path) -> None:
    """Make a folder and a file in it, which is removed, or raise OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / f".{uuid.uuid4().hex}"
    try:
        probe.write_bytes(b"\0" * 4096)
    finally:
        probe.unlink(missing_ok=True)


def check_room(folder: Path, tree: Any) -> None:
    """Raise OSError if there is less room in a folder, in any process, than a tree may take.

    A disk that fills up later is noticed too, but then threads of tensorstore may print more than
    a line.
    """
    needed = sum(leaf.nbytes for leaf in jax.tree.leaves(tree))
    if any_process(shutil.disk_usage(folder).free < needed):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def quiet_orbax() -> None:
    """Keep orbax from logging tracebacks in its threads for what it also raises."""
    logging.getLogger("absl").addFilter(_not_of_orbax)


def _not_of_orbax(line: logging.LogRecord) -> bool:
    return line.levelno < logging.ERROR or "orbax" not in line.pathname


def _reason(error: BaseException) -> str | None:
    """Return what the system says of a write that failed, None if that is not what happened."""
    seen: BaseException | None = error
    while seen is not None:
        # tensorstore raises ValueErrors that hold the system's number in their text.
        code = re.search(r"os_error_code='(\d+)'", str(seen))
        if isinstance(seen, OSError) and seen.errno is not None:
            return os.strerror(seen.errno)
        if code:
            return os.strerror(int(code[1]))
        seen = seen.__cause__ or seen.__context__
    return None
