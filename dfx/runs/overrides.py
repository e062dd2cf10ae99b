"""Settings from the command line: text becomes a value of the type that the default has."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict

from dfx.errors import nearest
from dfx.runs.checks import ConfigError, refuse

_WORDS: dict[type, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a finite number",
    str: "a text",
}


def override(config: ConfigDict, setting: str, text: str) -> None:
    """Set `config`'s entry `setting` ("train.steps") to what `text` says, in place.

    The type is that of the default: a whole number may be written 1e3 but not 1.5; true or false
    for a switch; entries separated by commas for a tuple, of any length; a tuple of tuples as
    (1,2),(3,4). A setting that is None until it is given must be a `config_dict.placeholder(type)`,
    and "none" gives it back its None.

    Raises:
      ConfigError: no such setting (the nearest is named), or the text is no value of that type.
    """
    *groups, name = setting.split(".")
    node: Any = config
    for group in groups:
        if not isinstance(node, ConfigDict) or group not in node:
            raise _unknown(config, setting)
        node = node[group]
    if not isinstance(node, ConfigDict) or name not in node:
        raise _unknown(config, setting)
    default, kind = node[name], node.get_type(name)
    if isinstance(default, ConfigDict):
        inside = ", ".join(f"config.{setting}.{key}" for key in sorted(default))
        raise ConfigError(f"config.{setting} is a group of settings: {inside}")
    node[name] = parse(f"config.{setting}", text, default, kind)


def parse(setting: str, text: str, default: Any, kind: type | None = None) -> Any:
    """Return the value of type `kind` (the default's own if not given) that `text` stands for.

    Raises:
      ConfigError: it stands for none.
    """
    kind = kind or type(default)
    if kind is tuple or kind is list:
        return _tuple(setting, text, tuple(default or ()))
    if default is None and text.lower() == "none":
        return None
    if kind not in _WORDS:
        raise ConfigError(f"setting {setting} cannot be given on the command line")
    try:
        return _scalar(kind, text)
    except (ValueError, KeyError, OverflowError):
        raise refuse(setting, text, _WORDS[kind]) from None


def _scalar(kind: type, text: str) -> Any:
    if kind is bool:
        return {"true": True, "false": False}[text.lower()]
    if kind is int:
        return _whole(text)
    if kind is float:
        value = float(text)
        if not math.isfinite(value):
            raise ValueError(text)
        return value
    return text


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        value = float(text)
        if not value.is_integer():
            raise
        return int(value)


def _tuple(setting: str, text: str, default: tuple) -> tuple:
    entries = tuple(_split(setting, text))
    kinds = {type(entry) for entry in default}
    if kinds == {int, float}:
        kinds = {float}
    if len(kinds) == 1 and kinds != {tuple}:
        kind = kinds.pop()
        entries = tuple(map(_unquoted, entries)) if kind is str else entries
        return tuple(parse(setting, entry, default[0], kind) for entry in entries)
    if kinds == {tuple}:
        return tuple(_tuple(setting, entry, default[0]) for entry in entries)
    if not default:
        return tuple(_guess(entry) for entry in entries)
    if len(entries) != len(default):
        raise refuse(setting, text, f"{len(default)} entries, as in {default!r}")
    return tuple(parse(setting, e, d) for e, d in zip(entries, default))


def _guess(text: str) -> Any:
    for kind in (int, float):
        try:
            return _scalar(kind, text)
        except ValueError:
            continue
    return text


def _split(setting: str, text: str) -> Iterator[str]:
    """Yield the entries between the commas that stand outside brackets."""
    text = text.strip()
    if text[:1] in ("(", "[") and _closing(text) == len(text) - 1:
        text = text[1:-1]
    depth, entry = 0, ""
    for sign in text:
        depth += (sign in "([") - (sign in ")]")
        if depth < 0:
            break
        if sign == "," and depth == 0:
            yield entry.strip()
            entry = ""
        else:
            entry += sign
    if depth != 0:
        raise refuse(setting, text, "entries separated by commas, each bracket closed")
    if entry.strip():  # so that "1," is a tuple of one and "" of none
        yield entry.strip()


def _unquoted(text: str) -> str:
    """Return the text without the quotes that it may stand in, as in ('digits', "shapes")."""
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text


def _closing(text: str) -> int:
    """Return the index of the bracket that closes the first one, -1 if none does."""
    depth = 0
    for index, sign in enumerate(text):
        depth += (sign in "([") - (sign in ")]")
        if depth == 0:
            return index
    return -1


def names(config: ConfigDict, prefix: str = "config") -> Iterator[str]:
    """Yield the full name of every setting, groups left out."""
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            yield from names(value, f"{prefix}.{key}")
        else:
            yield f"{prefix}.{key}"


def _unknown(config: ConfigDict, setting: str) -> ConfigError:
    near = _nearest(setting, [name.removeprefix("config.") for name in names(config)])
    hint = f": did you mean {'config.' + near!r}?" if near else "."
    group, node = _deepest(config, setting)
    inside = ", ".join(sorted(node))
    name = f"config.{setting}"
    return ConfigError(f"unknown setting {name!r}{hint} settings of {group}: {inside}")


def _nearest(setting: str, every: list[str]) -> str | None:
    """Return the right name in another group if there is one, else the name spelt most alike."""
    last = setting.rpartition(".")[2].lower()
    moved = [name for name in every if name.rpartition(".")[2].lower() == last]
    return nearest(setting, moved, cutoff=0.0) if moved else nearest(setting, every)


def _deepest(config: ConfigDict, setting: str) -> tuple[str, ConfigDict]:
    """Return the innermost group on the way to `setting` that exists, with its name."""
    name, node = "config", config
    for group in setting.split(".")[:-1]:
        if group not in node or not isinstance(node[group], ConfigDict):
            break
        name, node = f"{name}.{group}", node[group]
    return name, node
