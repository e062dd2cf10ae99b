"""Batches read by processes, where decoding is more than the threads of one process can do.

Decoding a JPEG leaves the interpreter free for other threads, so a process keeps some twenty cores
busy; a host with more of them reads faster by several processes. Needs grain, which starts them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from dfx.errors import PersonError

#: One step past the last: grain wants a number.
_END = 2**31


def by_processes(
    batch: Callable[[int], Any], step: int, processes: int, threads: int, ahead: int
) -> Iterator:
    """Return the iterator of batch(step), batch(step + 1), ... in this order; it has `close`.

    Args:
      batch: a pure function that can be pickled; it must not touch a device.
      step: the first one.
      processes: how many; they start anew, so a script must keep its own doings below
        `if __name__ == "__main__"`.
      threads, ahead: in each process.

    Raises:
      PersonError: grain is not installed.
    """
    try:
        import grain
    except ImportError as error:
        raise PersonError(
            "reading by processes needs the package grain, of the extra 'images': "
            "pip install 'dfx[images]', or set processes to 0"
        ) from error
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()  # grain reads flags of its own, whose defaults will do
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=ahead)
    steps = grain.MapDataset.range(step, _END).map(batch).to_iter_dataset(options)
    return iter(steps.mp_prefetch(grain.MultiprocessingOptions(num_workers=processes)))
