"""Where numbers come from: versions, commit, device, seed, times."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Any

PACKAGES = ("dfx", "jax", "jaxlib", "flax", "optax", "numpy")
_ROOT = Path(__file__).resolve().parents[2]


def now() -> str:
    """Return the time, in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def collect(command: str) -> dict[str, Any]:
    """Return one start of a run: time, command, versions, commit and devices. Imports JAX."""
    return {
        "time": now(),
        "command": command,
        "versions": versions(),
        "commit": commit(),
        "devices": devices(),
    }


def versions() -> dict[str, str | None]:
    """Return the versions of Python and of the packages that decide the numbers."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    return found | {name: version(name) for name in PACKAGES}


def version(package: str) -> str | None:
    """Return the installed version of a package, None if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def commit() -> dict[str, Any] | None:
    """Return {"hash", "dirty"} of the source tree; None if dfx does not run from a git checkout."""
    # An installed copy may lie inside somebody else's repository; only a source tree has this file.
    if not (_ROOT / "pyproject.toml").exists():
        return None
    head, status = _git("rev-parse", "HEAD"), _git("status", "--porcelain")
    return None if head is None else {"hash": head, "dirty": bool(status)}


def _git(*arguments: str) -> str | None:
    command = ["git", "-C", str(_ROOT), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def devices() -> dict[str, Any]:
    """Return the kind and the number of the devices that JAX computes on, of all processes."""
    import jax

    found, processes = jax.devices(), jax.process_count()
    about = {"platform": found[0].platform, "kind": found[0].device_kind, "count": len(found)}
    return about | ({"processes": processes} if processes > 1 else {})


def difference(old: dict[str, Any], new: dict[str, Any]) -> str | None:
    """Return in words what differs between two starts and may change numbers, None if nothing."""
    changed = []
    for package in PACKAGES:
        was, now_ = (start.get("versions", {}).get(package) for start in (old, new))
        if was != now_:
            changed.append(f"{package} {was}, now {now_}")
    if old.get("devices") != new.get("devices"):
        changed.append(f"devices {old.get('devices')}, now {new.get('devices')}")
    was, now_ = ((start.get("commit") or {}).get("hash") for start in (old, new))
    if was != now_:
        changed.append(f"commit {str(was)[:8]}, now {str(now_)[:8]}")
    return "; ".join(changed) or None
