"""How a command ends: its exit status, and at most one line instead of a traceback.

0 done; 2 a person's mistake; 3 the run ended itself and would do so again; 130 and 143 stopped by
the keyboard and by SIGTERM; 1 anything else, with a traceback if it is a bug. Of several processes
of one run the first alone has the line; a traceback comes from whichever has the bug.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator

from dfx.errors import PersonError, Stopped
from dfx.runs.processes import OtherFailed, is_first, leave

DONE, FAILED, MISTAKE, STOPPED, INTERRUPTED, TERMINATED = 0, 1, 2, 3, 130, 143
# What the disk, not the code, is to blame for.
_DISK = {
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EFBIG,
    errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG,
}  # fmt: skip


class Terminated(KeyboardInterrupt):
    """SIGTERM: the system wants the machine back."""


def exit_status(command: Callable[[], None]) -> int:
    """Return the exit status of `command`, having said in one line on stderr what went wrong.

    Notes added to the exception (`add_note`), such as how to go on, are part of the line.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a sign that it cannot show is no reason to end
            stream.reconfigure(errors="backslashreplace")
    return leave(_status(command))


def _status(command: Callable[[], None]) -> int:
    try:
        with _terminable():
            command()
        sys.stdout.flush()  # so that a closed pipe is noticed here
        return DONE
    except PersonError as error:
        return _end(MISTAKE, error)
    except OtherFailed as error:
        return _end(FAILED, error)
    except Stopped as error:
        return _end(STOPPED, error)
    except Terminated as error:
        return _end(TERMINATED, error, "stopped by SIGTERM")
    except KeyboardInterrupt as error:
        return _end(INTERRUPTED, error, "stopped by the keyboard")
    except BrokenPipeError:
        # `dfx list | head -1`: nobody reads on, and Python must not complain of it when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:
        if error.errno in _DISK:
            name = f": {error.filename}" if error.filename else ""
            return _end(FAILED, error, f"{error.strerror}{name}")
        traceback.print_exc()
    except Exception:
        traceback.print_exc()
    return FAILED


def _end(status: int, error: BaseException, line: str | None = None) -> int:
    if is_first():
        # JAX adds a note, below a rule, on the frames that it has left out of the traceback.
        notes = [note for note in getattr(error, "__notes__", []) if not note.startswith("---")]
        print("dfx:", " ".join("; ".join([line or str(error), *notes]).split()), file=sys.stderr)
    return status


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Turn SIGTERM into an exception inside the block, so that open files are closed in order."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
