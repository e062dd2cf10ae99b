"""What a person has set in the environment for JAX: a mistake there is one line, as elsewhere."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

from dfx.errors import PersonError, Stopped
from dfx.runs import say
from experiments.compiled import DEVICES, FOLDER

PLATFORMS = "JAX_PLATFORMS"
_ALLOWED = {
    PLATFORMS: "kinds of devices that are here, as in cpu or cuda,cpu",
    DEVICES: "a whole number from 1",
    "JAX_ENABLE_X64": "true or false",
}


@contextlib.contextmanager
def starts_jax() -> Iterator[None]:
    """Say in one line that JAX does not start because of what is set in the environment.

    For a block in which JAX may be imported for the first time. Its other errors are left alone.

    Raises:
      PersonError: a variable keeps JAX from being imported or from finding a device.
    """
    try:
        yield
    except (PersonError, Stopped):
        raise
    except Exception as error:
        line = _blame(error)
        if line:
            raise PersonError(line) from error
        raise


def keep_only_where_possible() -> None:
    """Keep no compiled programs, with a warning, where their folder neither is nor can be made."""
    folder = os.environ.get(FOLDER, "")
    if not folder or "://" in folder:  # none is wanted, or it is no folder of this machine
        return
    place = Path(folder).absolute()
    there = next(path for path in (place, *place.parents) if os.path.lexists(path))
    if not there.is_dir() or (there != place and not os.access(there, os.W_OK | os.X_OK)):
        why = "cannot be written" if there.is_dir() else "is no folder"
        say(f"warning: {FOLDER}={folder}: {there} {why}: compiled programs are not kept")
        os.environ[FOLDER] = ""


def _blame(error: Exception) -> str | None:
    """Return the line on the variables that keep JAX from starting, None if it starts."""
    jax = sys.modules.get("jax")
    if jax is None:
        named = _named_by_import(error)
    else:
        try:
            jax.devices()
            return None
        except Exception as own:  # RuntimeError, or AssertionError for lack of any device
            error = own
        named = [DEVICES] if int(os.environ.get(DEVICES, 1)) < 1 else [PLATFORMS]
    found = [f"{name}={os.environ[name]!r}" for name in named if os.environ.get(name)]
    if not found:
        return None
    allowed = "".join(f", allowed: {_ALLOWED[name]}" for name in named if name in _ALLOWED)
    said = " ".join(str(error).split()) or "no such device was found"
    return f"JAX does not start with {' '.join(found)} in the environment{allowed} ({said})"


def _named_by_import(error: Exception) -> list[str]:
    """Return the variables that an error names, if it is one of the import of JAX."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    if not frame.f_globals.get("__name__", "").startswith("jax"):
        return []
    said = str(error).upper()  # it may name the option of JAX that a variable sets
    return [name for name in os.environ if name.startswith("JAX_") and name in said]
