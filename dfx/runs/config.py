"""Configs: a Python file with `get_config(size)`, made into one fixed value with a name of its own.

A study's config file holds `get_config(size="default") -> ConfigDict`; if it has several sizes, the
constant SIZES; if ranges or choices are to be checked, `validate(config)`; and if data are read,
`fingerprint(config) -> str`, which becomes the setting `data.fingerprint` (see
`dfx.runs.fingerprint`). The first line of its docstring says what the study is about. A setting is
a bool, int, float, str, None or a tuple of these; groups of settings nest.

The setting `data.path`, if there is one, says where things lie and not what is computed: configs
that differ in it alone are the same.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from ml_collections import ConfigDict, FrozenConfigDict

from dfx.errors import unknown
from dfx.runs.checks import ConfigError
from dfx.runs.files import digest
from dfx.runs.overrides import override

DEFAULT_SIZE = "default"
_PREFIX = "_dfx_config_"  # of the names of config files as modules


class Description(NamedTuple):
    """What a config file says of its study, read without running it."""

    line: str
    sizes: tuple[str, ...]


def load(
    path: str | Path, size: str = DEFAULT_SIZE, overrides: Iterable[tuple[str, str]] = ()
) -> FrozenConfigDict:
    """Return the config that the file gives for `size`, with the overrides, checked and frozen.

    Args:
      path: a Python file with `get_config`.
      size: one of the file's SIZES.
      overrides: pairs of a setting, "train.steps", and its new value as text, "2000".

    Raises:
      ConfigError: no such file, size or setting, or a value that the setting cannot have.
    """
    module = _run_file(Path(path))
    config = _get(module, size)
    for setting, text in overrides:
        override(config, setting, text)
    frozen = from_plain(config)
    if hasattr(module, "validate"):
        module.validate(frozen)
    if hasattr(module, "fingerprint"):
        told = {"fingerprint": module.fingerprint(frozen)}
        frozen = from_plain(to_plain(frozen) | {"data": to_plain(frozen.data) | told})
    return frozen


def unchanged(path: str | Path, size: str = DEFAULT_SIZE) -> FrozenConfigDict:
    """Return the config that the file gives for `size` as it is, not checked: it need not be one
    that could run here.

    Raises:
      ConfigError: no such file or size.
    """
    return from_plain(_get(_run_file(Path(path)), size))


def _get(module: ModuleType, size: str) -> ConfigDict:
    sizes = tuple(getattr(module, "SIZES", (DEFAULT_SIZE,)))
    if size not in sizes:
        study = module.__name__.removeprefix(_PREFIX)
        raise ConfigError(str(unknown(f"size of {study}", size, sizes)))
    return ConfigDict(module.get_config(size))


def _run_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ConfigError(f"there is no config file {str(path)!r}")
    name = f"{_PREFIX}{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{str(path)!r} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses in the file look their module up
    spec.loader.exec_module(module)
    if not hasattr(module, "get_config"):
        raise ConfigError(f"{str(path)!r} has no get_config(size)")
    return module


def describe(path: str | Path) -> Description:
    """Return the study's one line and its sizes, by reading the config file, not running it."""
    tree = ast.parse(Path(path).read_text(encoding="utf-8"))
    line = (ast.get_docstring(tree) or "").partition("\n")[0]
    sizes = (DEFAULT_SIZE,)
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(t, ast.Name) and t.id == "SIZES" for t in targets):
            with contextlib.suppress(ValueError):  # computed, not written out: known when it runs
                sizes = tuple(ast.literal_eval(node.value))  # type: ignore[attr-defined]
    return Description(line, sizes)


def to_plain(config: Any, name: str = "config") -> Any:
    """Return the config as nested dicts, tuples and numbers, references resolved.

    Raises:
      ConfigError: an entry is of a type that a setting cannot have.
    """
    if isinstance(config, ConfigDict | dict):
        return {key: to_plain(config[key], f"{name}.{key}") for key in config}
    if isinstance(config, list | tuple):
        return tuple(to_plain(entry, name) for entry in config)
    if config is None or isinstance(config, bool | int | str):
        return config
    if isinstance(config, float) and abs(config) < float("inf"):
        return float(config)
    allowed = "a bool, int, finite float, str, None or tuple"
    raise ConfigError(f"{name} is {config!r}: a setting is {allowed}")


def from_plain(value: Any) -> FrozenConfigDict:
    """Return the frozen config of any config, of its `to_plain` or of its JSON."""
    return FrozenConfigDict(to_plain(value))


def config_hash(config: Any) -> str:
    """Return the config's own name: the sha256, in hexadecimal, of its JSON with sorted keys.

    Equal values give equal names whatever the order of the keys, and wherever data lie; 1 and 1.0
    are different values.
    """
    return digest(_apart_from_places(config))


def _apart_from_places(config: Any) -> dict[str, Any]:
    """Return the plain config without `data.path`."""
    plain = to_plain(config)
    if isinstance(plain.get("data"), dict):
        plain["data"].pop("path", None)
    return plain


def first_difference(old: Any, new: Any) -> tuple[str, str, str] | None:
    """Return (setting, old, new value) of the first setting that differs, None if none does;
    data.path is left out."""
    one, two = (_flat(_apart_from_places(config)) for config in (old, new))
    for setting in [*two, *one]:
        if one.get(setting, "not there") != two.get(setting, "not there"):
            return setting, one.get(setting, "not there"), two.get(setting, "not there")
    return None


def _flat(value: Any, name: str = "config") -> dict[str, str]:
    """Return {full name: JSON text} of every setting, in order; an empty group counts as one."""
    if not isinstance(value, dict) or not value:
        return {name: json.dumps(value)}
    return {k: v for key, entry in value.items() for k, v in _flat(entry, f"{name}.{key}").items()}
