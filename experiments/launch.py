"""From words to a finished run: find the study, check everything, compute, draw, print."""

from __future__ import annotations

import importlib
import importlib.util
import os
from pathlib import Path
from typing import NamedTuple

from ml_collections import ConfigDict

import analysis
import configs
from dfx.errors import PersonError, Stopped, choose
from dfx.runs import load, open_run, read_claims, read_run, say
from dfx.runs.config import DEFAULT_SIZE
from dfx.runs.place import check, default_folder
from experiments.arguments import Arguments
from experiments.compiled import compile_in_haste, device_a_core, keep_compiled, plain_warnings


class Study(NamedTuple):
    """A study and a size of it: where its config file is."""

    name: str
    size: str
    path: Path


def find(spec: str) -> Study:
    """Return the study that "STUDY", "STUDY:SIZE" or "path/STUDY.py:SIZE" names.

    Raises:
      PersonError: there is no such study or file; the nearest study is named.
    """
    name, _, size = spec.partition(":")
    known = configs.studies()
    path = Path(name) if name.endswith(".py") else choose("study", name, known)
    if not path.is_file() or not path.stem.isidentifier():
        raise PersonError(f"there is no config file {name!r}; studies: {', '.join(known)}")
    for package in ("experiments", "analysis"):
        if importlib.util.find_spec(f"{package}.{path.stem}") is None:
            raise PersonError(f"study {path.stem!r} has no module {package}/{path.stem}.py")
    return Study(path.stem, size or DEFAULT_SIZE, path)


def run_study(spec: str, arguments: Arguments, command: str) -> None:
    """Run a study to its end, or go on with it; draw its figures and print its claims.

    A finished run is not computed again: it is only shown. Everything that was asked is checked
    before anything is written.

    Args:
      spec: see `find`.
      arguments: the options and settings of the command line.
      command: the whole command line, for the provenance and for the line that says how to go on.

    Raises:
      PersonError: a mistake in what was asked.
    """
    study = find(spec)
    keep_compiled()  # here: the check of a config may read data, and so import JAX
    device_a_core()
    if study.size == "smoke":
        compile_in_haste()
    config = load(study.path, study.size, arguments.settings)
    folder = _folder(study, config, arguments.options.get("--workdir"))
    check(folder, config, study.name)
    if _is_finished(folder):
        say(f"{folder} is finished already: nothing to compute")
        _show(folder)
    else:
        _compute(study, config, folder, command)
        analysis.draw(folder)


def _folder(study: Study, config: ConfigDict, given: str | None) -> Path:
    if given is None:
        base = load(study.path, study.size)
        return default_folder(study.name, study.size, config, base)
    if not given.strip():
        raise PersonError("--workdir needs a folder: --workdir=DIR")
    return Path(os.path.expanduser(given))


def _is_finished(folder: Path) -> bool:
    """Whether the run is finished and all its arrays are still as they were."""
    if not (folder / "config.json").exists():
        return False
    run = read_run(folder)
    torn = run.torn()
    for name in torn:
        say(f"warning: arrays/{name}.npz is missing or damaged: computing it anew")
    return run.finished and not torn


def _show(folder: Path) -> None:
    try:
        read_claims(folder)
    except PersonError:  # the process ended between the last array and the claims
        analysis.draw(folder)
    else:
        analysis.show(folder)


def _compute(study: Study, config: ConfigDict, folder: Path, command: str) -> None:
    with plain_warnings():
        module = importlib.import_module(f"experiments.{study.name}")
        with open_run(folder, config, study.name, study.size, command) as run:
            say(f"{study.name}:{study.size} in {folder}")
            try:
                module.run(run.config, run)
            except PersonError:
                run.discard_if_empty()
                raise
            except Stopped:  # says itself how to go on
                raise
            except BaseException as error:
                error.add_note(f"to go on: {command}")
                raise
            run.finish()
