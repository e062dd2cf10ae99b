"""Tableaus in files: a fitted sampler outlives the process that fitted it."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from dfx.errors import PersonError
from dfx.schedules.schedule import Level
from dfx.solvers.tableau import Rows, Tableau


def save(path, tableau: Tableau) -> None:
    """Write a tableau to a file of NumPy arrays (.npz), whole or not at all.

    Raises:
      PersonError: its rows are given something else than a `Level`, the name does not end in .npz,
        or there is no such folder.
    """
    path = _named(path)
    if not path.parent.is_dir():
        raise PersonError(f"there is no folder {str(path.parent)!r}")
    arrays = {"keep": np.asarray(tableau.keep)}
    arrays |= {f"start {lane} {source}": c for (lane, source), c in tableau.start.items()}
    for kind in ("phases", "tail"):
        for number, rows in enumerate(getattr(tableau, kind)):
            if not isinstance(rows.level, Level):
                raise PersonError(f"a tableau whose rows are given {rows.level!r} has no file form")
            name = f"{kind} {number}"
            arrays |= {f"{name} level {key}": v for key, v in rows.level._asdict().items()}
            arrays |= {f"{name} coef {lane} {source}": c for (lane, source), c in rows.coef.items()}
    contents: dict[str, Any] = {name: np.asarray(a, np.float64) for name, a in arrays.items()}
    partial = path.with_name(path.name + ".part")
    with open(partial, "wb") as file:
        np.savez(file, **contents)
    partial.replace(path)


def load(path) -> Tableau:
    """Return the tableau that `save` wrote; no pickle is loaded.

    Raises:
      PersonError: no such file, a damaged one, or one that holds no tableau.
    """
    path = _named(path)
    if not path.is_file():
        raise PersonError(f"there is no file {str(path)!r}")
    try:
        with np.load(path, allow_pickle=False) as file:
            return _assembled({name: file[name] for name in file.files})
    except (ValueError, KeyError, TypeError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise PersonError(f"{str(path)!r} is damaged or holds no tableau: {error}") from None


def _assembled(arrays: dict[str, np.ndarray]) -> Tableau:
    keep = int(arrays.pop("keep"))
    start: dict = {}
    parts: dict[tuple[str, int], tuple[dict, dict]] = {}
    for name, value in arrays.items():
        kind, *words = name.split()
        if kind == "start":
            lane, source = map(int, words)
            start[lane, source] = value[()]
            continue
        number, group, *key = words
        level, coef = parts.setdefault((kind, int(number)), ({}, {}))
        if group == "level":
            level[key[0]] = value[()]
        else:
            coef[int(key[0]), int(key[1])] = value[()]
    rows = {
        kind: tuple(
            Rows(Level(**level), coef)
            for (other, _), (level, coef) in sorted(parts.items(), key=lambda part: part[0][1])
            if other == kind
        )
        for kind in ("phases", "tail")
    }
    if not rows["phases"] or not start:
        raise ValueError("rows are missing")
    return Tableau(start, rows["phases"], rows["tail"], keep)


def _named(path) -> Path:
    path = Path(path)
    if path.suffix != ".npz":
        raise PersonError(f"{str(path)!r}: the name of a tableau's file ends in .npz")
    return path
