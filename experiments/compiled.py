"""Compiled programs kept between processes, so that a second start does not wait for XLA again."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dfx.runs import say

FOLDER = "JAX_COMPILATION_CACHE_DIR"
_TORN = re.compile(r"compilation cache entry for '([\w.<>-]+)'")


def keep_compiled() -> None:
    """Let JAX keep compiled programs, unless the person chose a folder for them or "" for none.

    Called before JAX is imported. One folder for each kind of processor, since programs for one may
    not run on another.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    os.environ.setdefault(FOLDER, str(cache / "dfx" / "jax" / _processor()))


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = [platform.processor()]
    kind = sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))})
    return f"{platform.machine()}-{hashlib.sha256(''.join(kind).encode()).hexdigest()[:8]}"


@contextlib.contextmanager
def plain_warnings() -> Iterator[None]:
    """Show warnings as one line each; one about a torn compiled program also removes that program.

    JAX does not write its cache atomically and keeps an entry that it cannot read, so a kill in the
    middle of a write would cost a warning and a compilation at every later start.
    """
    with warnings.catch_warnings():
        warnings.showwarning = _show
        yield


def _show(message: Warning | str, *_: Any, **__: Any) -> None:
    torn = _TORN.search(str(message))
    if torn and os.environ.get(FOLDER):
        for entry in Path(os.environ[FOLDER]).glob(f"{torn[1]}-*"):
            entry.unlink(missing_ok=True)
        say(f"warning: the kept compilation of {torn[1]} was damaged: compiling it again")
    else:
        say(f"warning: {' '.join(str(message).split())}")
