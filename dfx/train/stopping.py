"""SIGTERM, the notice that the machine is wanted back: finish the chunk, save, then end.

While a loop runs with somewhere to save, the first SIGTERM sets a flag, which the loop reads
between chunks. After the save the signal is sent again with the handler of before, so that a
process ends as it would have: under the command line with status 143 and one line that says how to
go on, without a handler by the signal. A second SIGTERM does not wait for the chunk.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

from dfx.errors import Stopped
from dfx.train.distributed import any_process


class Preempted(Stopped):
    """A loop was stopped by SIGTERM, its state saved, and the process chose to live on."""


class Notice:
    """Whether SIGTERM has come."""

    def __init__(self) -> None:
        self._come, self._watching = False, False
        self._before: Any = signal.SIG_DFL

    def come(self) -> bool:
        """Return whether SIGTERM has come to any process of the run; all of them have to ask."""
        return any_process(self._come)

    def obey(self, saved: str) -> None:
        """End this process as SIGTERM would have; call it when everything is saved.

        Raises:
          Preempted: the handler of before returned, or this is not the main thread.
        """
        if self._watching:
            self._end()
            signal.raise_signal(signal.SIGTERM)
        raise Preempted(f"stopped by SIGTERM; {saved}")

    def _begin(self) -> None:
        self._watching, self._before = True, signal.signal(signal.SIGTERM, self._take)

    def _take(self, *_: Any) -> None:
        """Note the signal; the next one is handled as before."""
        self._come = True
        signal.signal(signal.SIGTERM, self._before)

    def _end(self) -> None:
        """Give the signal back."""
        self._watching, self._come = False, False
        signal.signal(signal.SIGTERM, self._before)


@contextlib.contextmanager
def notice(wanted: bool = True) -> Iterator[Notice]:
    """Yield a notice that SIGTERM sets inside the block.

    Args:
      wanted: False leaves the signal alone. So do a thread that is not the main one, and a handler
        that Python cannot put back or that ignores the signal.
    """
    found, before = Notice(), signal.getsignal(signal.SIGTERM)
    main = threading.current_thread() is threading.main_thread()
    if wanted and main and before not in (None, signal.SIG_IGN):
        found._begin()
    try:
        yield found
    finally:
        unheard = found._come  # it came after the loop had asked for the last time
        if found._watching:
            found._end()
        if unheard:
            signal.raise_signal(signal.SIGTERM)
