"""A person's mistake: one clear line that says what was given and what is allowed; choice by
name."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable
from typing import Any


class PersonError(ValueError):
    """A mistake of the person at the keyboard; the command line prints it alone and exits with
    2."""


class Stopped(RuntimeError):
    """A run that ended itself for a reason it can say in one line; the command line exits with
    3."""


def unknown(kind: str, name: object, allowed: Iterable[str]) -> PersonError:
    """Return the error for a name that is not in a list, with the nearest valid name.

    Args:
      kind: what the name stands for, for example "solver".
      name: what was given.
      allowed: the valid names.

    >>> str(unknown("solver", "ddmi", ["ddim", "ddpm", "heun"]))
    "unknown solver 'ddmi': did you mean 'ddim'? allowed: ddim, ddpm, heun"
    """
    names = sorted(allowed)
    near = nearest(str(name), names, cutoff=0.5)
    hint = f": did you mean {near!r}?" if near else "."
    return PersonError(f"unknown {kind} {name!r}{hint} allowed: {', '.join(names)}")


def nearest(name: str, allowed: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the valid name that is spelt most alike, None if none is; capitals do not matter.

    Args:
      cutoff: how much alike, from 0 to 1.

    >>> nearest("DDMI", ["ddim", "ddpm", "heun"])
    'ddim'
    """
    small, others = name.lower(), {other.lower(): other for other in allowed}
    near = difflib.get_close_matches(small, others, n=3, cutoff=cutoff)
    near.sort(key=lambda other: sorted(other) != sorted(small))  # swapped letters come first
    return others[near[0]] if near else None


def choose(kind: str, name: str, registry: dict):
    """Return `registry[name]`.

    Raises:
      PersonError: the name is not in the registry; the message holds the nearest one that is.
    """
    if name not in registry:
        raise unknown(kind, name, registry)
    return registry[name]


def call(kind: str, name: str, registry: dict, *args, **options) -> Any:
    """Return `registry[name](*args, **options)`.

    Raises:
      PersonError: the name is not in the registry or an option is not one of the factory's; the
        nearest is named.
    """
    factory = choose(kind, name, registry)
    allowed = list(inspect.signature(factory).parameters)[len(args) :]
    for option in options:
        if option not in allowed:
            raise unknown(f"option of {kind} {name!r}:", option, allowed)
    return factory(*args, **options)
