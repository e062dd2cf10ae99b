"""Checks of settings for a study's `validate(config)`, with one form of message.

Each takes the setting's full name and its value, and returns nothing if the value will do. A tuple
is checked entry by entry.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from typing import Any

from dfx.errors import PersonError, unknown


class ConfigError(PersonError):
    """A setting that does not exist, or has a value that it cannot have."""


def refuse(setting: str, given: Any, allowed: str) -> ConfigError:
    """Return the error for a value that a setting cannot have.

    >>> str(refuse("config.train.steps", -3, "a whole number above 0"))
    'setting config.train.steps: given -3, allowed: a whole number above 0'
    """
    return ConfigError(f"setting {setting}: given {given!r}, allowed: {allowed}")


def require(condition: bool, setting: str, given: Any, allowed: str) -> None:
    """Raise the ConfigError of `refuse` unless the condition holds."""
    if not condition:
        raise refuse(setting, given, allowed)


def positive(setting: str, value: Any) -> None:
    """Require a number above 0 (or a tuple of such)."""
    ok = all(v is not None and v > 0 for v in _entries(value))
    require(ok, setting, value, "a number above 0")


def not_negative(setting: str, value: Any) -> None:
    """Require a number that is 0 or above (or a tuple of such)."""
    ok = all(v is not None and v >= 0 for v in _entries(value))
    require(ok, setting, value, "a number that is 0 or above")


def in_range(setting: str, value: Any, low: float, high: float) -> None:
    """Require low <= value <= high (for a tuple: of each entry)."""
    ok = all(v is not None and low <= v <= high for v in _entries(value))
    require(ok, setting, value, f"a number from {low} to {high}")


def not_empty(setting: str, value: Any) -> None:
    """Require a tuple or a text with at least one entry."""
    require(bool(value), setting, value, "at least one entry")


def one_of(setting: str, value: Any, allowed: Iterable[Any]) -> None:
    """Require one of the allowed values (for a tuple: of each entry); the nearest is named."""
    names = tuple(allowed)
    for entry in _entries(value):
        if entry not in names:
            reason = unknown("value", entry, map(str, names))
            raise ConfigError(f"setting {setting}: {reason}")


def numbers(group: Any, name: str = "config") -> Iterator[tuple[str, Any]]:
    """Yield (full name, value) of all settings that are numbers, or tuples of numbers.

    >>> list(numbers({"train": {"steps": 5, "kind": "eps"}, "sizes": (1, 2)}))
    [('config.train.steps', 5), ('config.sizes', (1, 2))]
    """
    for key, value in group.items():
        first = value[0] if isinstance(value, tuple) and value else value
        if hasattr(value, "items"):
            yield from numbers(value, f"{name}.{key}")
        elif not isinstance(first, str):
            yield f"{name}.{key}", value


def value_of(config: Any, name: str) -> Any:
    """Return the value of a setting by its name within the config, such as "train.num_steps"."""
    return functools.reduce(lambda group, part: group[part], name.split("."), config)


def _entries(value: Any) -> tuple:
    return value if isinstance(value, tuple) else (value,)
