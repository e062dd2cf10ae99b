"""Configs: one file a study, each with `get_config(size)`.

A study is a config, an experiment and an analysis of one name, each a module or a package; its one
line in `dfx list` is the first line of its config file.
"""

from __future__ import annotations

from pathlib import Path


def studies() -> dict[str, Path]:
    """Return the config file of every study, by name."""
    files = [path for folder in __path__ for path in Path(folder).glob("[!_]*.py")]
    return {path.stem: path for path in sorted(files, key=lambda path: path.stem)}
