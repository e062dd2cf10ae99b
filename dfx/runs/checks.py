"""Checks of settings for a study's `validate(config)`, with one form of message.

Most take the setting's full name and its value, and return nothing if the value will do. A tuple
is checked entry by entry. Those of many settings at once (`choices`, `signs`, `ranges`, `seeds`,
`rising`) take the config, and names within it such as "train.num_steps".
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from dfx.errors import PersonError, unknown

#: Keys take 31 bits for sure; parts of a study add some hundreds.
LARGEST_SEED = 2**31 - 1000
#: No setting of any study is near it; larger ones overflow what is computed with them.
LARGEST = 10**12


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


@contextlib.contextmanager
def named(setting: str) -> Iterator[None]:
    """Put the setting's name before what is said against it by what is called within.

    >>> with named("config.net"):
    ...     raise PersonError("width 33 must be a multiple of heads 2")
    Traceback (most recent call last):
    dfx.runs.checks.ConfigError: setting config.net: width 33 must be a multiple of heads 2
    """
    try:
        yield
    except ConfigError:
        raise
    except PersonError as error:
        raise ConfigError(f"setting {setting}: {error}") from error


def positive(setting: str, value: Any) -> None:
    """Require a number above 0 (or a tuple of such)."""
    ok = all(_is_number(v) and v > 0 for v in _entries(value))
    require(ok, setting, value, "a number above 0")


def not_negative(setting: str, value: Any) -> None:
    """Require a number that is 0 or above (or a tuple of such)."""
    ok = all(_is_number(v) and v >= 0 for v in _entries(value))
    require(ok, setting, value, "a number that is 0 or above")


def not_huge(setting: str, value: Any) -> None:
    """Require of a number (or of each of a tuple) that it is at most LARGEST, its sign left out."""
    ok = all(not _is_number(v) or abs(v) <= LARGEST for v in _entries(value))
    require(ok, setting, value, f"a number of at most {LARGEST:g}, its sign left out")


def in_range(setting: str, value: Any, low: float, high: float) -> None:
    """Require low <= value <= high (for a tuple: of each entry)."""
    ok = all(_is_number(v) and low <= v <= high for v in _entries(value))
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


def choices(
    config: Any, allowed: Mapping[str, Iterable[Any]], may_be_empty: Collection[str] = ()
) -> None:
    """Require of each setting one of its allowed values; of a tuple, of each entry, and an entry.

    Args:
      config: or a part of one; messages speak of "config".
      allowed: by name.
      may_be_empty: the names whose tuples need no entry.
    """
    for name, values in allowed.items():
        given = value_of(config, name)
        if name not in may_be_empty:
            not_empty(f"config.{name}", given)
        one_of(f"config.{name}", given, values)


def signs(
    config: Any,
    zero: Collection[str] = (),
    free: Collection[str] = (),
    may_be_empty: Collection[str] = (),
) -> None:
    """Require every number of a config to be above 0, and of each tuple an entry; of any number
    that it is at most LARGEST, its sign left out.

    `seed` may be 0, and ends where keys begin to repeat themselves.

    >>> signs({"seed": 0, "rate": 0.0})
    Traceback (most recent call last):
    dfx.runs.checks.ConfigError: setting config.rate: given 0.0, allowed: a number above 0
    >>> signs({"seed": 0, "rate": 0.0, "law": {"mean": -1.0}}, zero=("rate",), free=("law",))

    Args:
      config: see `numbers`.
      zero: names of settings, or of groups of them, that may be 0 too.
      free: those that may have any value.
      may_be_empty: the names whose tuples need no entry.
    """
    for name, value in numbers(config):
        groups = set(itertools.accumulate(name.split(".")[1:], "{}.{}".format))
        if not groups & set(may_be_empty):
            require(value != (), name, value, "at least one entry")
        not_huge(name, value)
        if groups == {"seed"}:
            in_range(name, value, 0, LARGEST_SEED)
        elif groups & set(zero):
            not_negative(name, value)
        elif not groups & set(free):
            positive(name, value)


def ranges(config: Any, allowed: Mapping[str, tuple[float, float]]) -> None:
    """Require low <= value <= high of each setting.

    >>> ranges({"a": {"b": 3}}, {"a.b": (1, 2)})
    Traceback (most recent call last):
    dfx.runs.checks.ConfigError: setting config.a.b: given 3, allowed: a number from 1 to 2
    """
    for name, (low, high) in allowed.items():
        in_range(f"config.{name}", value_of(config, name), low, high)


def seeds(config: Any, *names: str) -> None:
    """Require from 2 to 10,000 of what is repeated for an interval, which needs two."""
    ranges(config, dict.fromkeys(names, (2, 10_000)))


def rising(config: Any, *names: str, least: int = 1, allowed: str = "rising numbers") -> None:
    """Require of each setting at least so many numbers, each above the one before.

    >>> rising({"steps": (5, 20, 10)}, "steps")
    Traceback (most recent call last):
    dfx.runs.checks.ConfigError: setting config.steps: given (5, 20, 10), allowed: rising numbers
    """
    for name in names:
        given = value_of(config, name)
        rises = all(before < after for before, after in itertools.pairwise(given))
        require(rises and len(given) >= least, f"config.{name}", given, allowed)


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


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def _entries(value: Any) -> tuple:
    return value if isinstance(value, tuple) else (value,)
