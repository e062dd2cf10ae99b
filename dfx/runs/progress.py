"""Progress on stderr: a bar on a terminal, a line now and then elsewhere. Of several processes of
one run the first alone speaks."""

from __future__ import annotations

import sys
import time
from typing import Any

from tqdm import tqdm

from dfx.runs.processes import is_first

QUIET_SECONDS = 10.0  # between two lines where there is no terminal


def say(line: str) -> None:
    """Print one line on stderr, above a bar if there is one."""
    if not is_first():
        return
    tqdm.write(f"dfx: {line}", file=sys.stderr)
    sys.stderr.flush()


class Progress:
    """How far a stage is: label, rate, time left and the latest numbers.

    >>> with Progress(3, "train") as bar:
    ...     bar.update(3, loss=0.5)
    """

    def __init__(self, total: int, label: str, initial: int = 0, unit: str = "step"):
        self._label, self._shown = label, time.monotonic()
        self._terminal = sys.stderr.isatty() and is_first()
        self._bar: Any = tqdm(
            total=total, desc=label, initial=initial, unit=f" {unit}s", file=sys.stderr,
            dynamic_ncols=True, disable=not self._terminal, leave=True,
        )  # fmt: skip
        self._done, self._first, self._total = initial, initial, total
        self._start = time.monotonic()

    def update(self, n: int = 1, **values: float) -> None:
        """Count `n` more steps and show `values`, such as loss=0.12."""
        self._done += n
        if self._terminal:
            self._bar.set_postfix_str(_text(values), refresh=False)
            self._bar.update(n)
        elif time.monotonic() - self._shown > QUIET_SECONDS:
            self._shown = time.monotonic()
            say(self._line(values))

    def _line(self, values: dict[str, float]) -> str:
        rate = (self._done - self._first) / max(time.monotonic() - self._start, 1e-9)
        left = (self._total - self._done) / rate if rate > 0 else float("inf")
        words = [f"{self._label}: {self._done}/{self._total}", f"{rate:.3g} a second"]
        return ", ".join([*words, f"{left:.0f} s left", *_text(values).split(", ")]).rstrip(", ")

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()


def _text(values: dict[str, float]) -> str:
    return ", ".join(f"{name}={float(value):.4g}" for name, value in values.items())
