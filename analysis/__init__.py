"""Analysis: a module or package for each study, with `analyse(folder)`, which reads a run alone.

`analyse` draws the figures into the folder's `figures` and returns the claims.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

from dfx.errors import PersonError
from dfx.runs import Claim, read_claims, read_run, table, write_claims
from dfx.runs.outcome import exit_status

Analyse = Callable[[Path], list[Claim]]


def draw(folder: str | Path) -> None:
    """Draw the figures of a run, write its claims and print both.

    Args:
      folder: a run folder; it says which study it is of.

    Raises:
      PersonError: there is no run, or it is not far enough.
    """
    run = read_run(folder)
    if importlib.util.find_spec(f"analysis.{run.study}") is None:
        raise PersonError(f"{folder} is a run of {run.study!r}, a study that is not known here")
    analyse: Analyse = importlib.import_module(f"analysis.{run.study}").analyse
    write_claims(folder, analyse(run.folder))
    show(folder)


def show(folder: str | Path) -> None:
    """Print where the figures of a run are, and its claims table."""
    run = read_run(folder)
    claims = table(read_claims(folder))
    count = len(list(run.figures.glob("*.png")))
    print(f"\n{claims}\n\n{count} figures in {run.figures}/")


def main(argv: list[str] | None = None) -> int:
    """Run `python -m analysis --workdir=DIR` and return its exit status."""
    arguments = sys.argv[1:] if argv is None else argv
    return exit_status(lambda: draw(_workdir(arguments)))


def _workdir(arguments: list[str]) -> str:
    text = "=".join(arguments)
    name, _, folder = text.partition("=")
    if name != "--workdir" or not folder or len(arguments) > 2:
        raise PersonError(f"given {' '.join(arguments)!r}, allowed: --workdir=DIR, a run folder")
    return folder
