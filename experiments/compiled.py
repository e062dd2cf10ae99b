"""What a run asks of JAX before it is imported: its compiled programs kept between processes, so
that a second start does not wait for XLA again, and a device for each core.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import sys
import warnings
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dfx.runs import say

FOLDER = "JAX_COMPILATION_CACHE_DIR"
DEVICES = "JAX_NUM_CPU_DEVICES"
HASTE = "JAX_DISABLE_MOST_OPTIMIZATIONS"
#: What makes XLA quicker at compiling on a CPU: its old writer of fused loops takes two thirds of
#: the time of the new one. jax 0.10 has a flag for it, 0.11 an option; each refuses the other's.
HASTY_FLAG = (
    "--xla_cpu_use_fusion_emitters=false"
    if version("jax").startswith("0.10.")
    else "--xla_backend_extra_options=xla_cpu_disable_new_fusion_emitters"
)
MOST_DEVICES = 8  # ensembles have a few dozen members; more devices would share them unevenly
_TORN = re.compile(r"reading persistent compilation cache entry for '([\w.<>-]+)'")


def keep_compiled() -> None:
    """Let JAX keep compiled programs, unless the person chose a folder for them or "" for none.

    Called before JAX is imported. One folder for each kind of processor, since programs for one may
    not run on another.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    os.environ.setdefault(FOLDER, str(cache / "dfx" / "jax" / _processor()))


def device_a_core() -> None:
    """Let JAX see each core as a device, unless the person has said how many there are.

    Members of an ensemble are spread over the devices. 18 small nets, two cores: 8.9 ms a step
    against 15.6 on one device, whose threads wait for each other at every product (jax 0.10.2).
    Called before JAX is imported; other platforms do not look at it.
    """
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        os.environ.setdefault(DEVICES, str(min(_cores(), MOST_DEVICES)))


def compile_in_haste() -> None:
    """Let XLA leave most optimisations out, unless the person has chosen.

    For runs that are nearly all compilation, the smallest size of a study: 67 s of CPU instead of
    149 for `score_or_flow:smoke`. Called before anything is compiled; a process that has joined
    others has imported JAX already.
    """
    if HASTE not in os.environ:
        os.environ[HASTE] = "1"
        os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), HASTY_FLAG])
        if "jax" in sys.modules:
            sys.modules["jax"].config.update(HASTE.lower(), True)


def _cores() -> int:
    """The cores that this process may use."""
    usable = getattr(os, "sched_getaffinity", None)
    return len(usable(0)) if usable else os.cpu_count() or 1


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
