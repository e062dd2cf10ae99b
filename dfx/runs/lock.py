"""One writer a folder: a lock that the system drops when its process ends, however it ends."""

from __future__ import annotations

import os
from pathlib import Path

from dfx.errors import PersonError
from dfx.runs.progress import say

try:
    import fcntl
except ImportError:  # not a POSIX system: runs work, unguarded
    fcntl = None  # type: ignore[assignment]

NAME = ".lock"


class Lock:
    """A held lock on a folder; `release` gives it back.

    Raises:
      PersonError: another process holds it.
    """

    def __init__(self, folder: Path):
        self._file: int | None = os.open(folder / NAME, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if fcntl is not None:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(self._file, 100, 0).decode(errors="replace").strip()
            self.release()
            message = f"{folder} is in use by another process ({owner}): wait for it, or end it"
            raise PersonError(message) from None
        except OSError as error:  # some network file systems have no locks
            say(f"warning: {folder} cannot be locked ({error.strerror}): start no second run in it")
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"process {os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Give the lock back; a second call does nothing."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
