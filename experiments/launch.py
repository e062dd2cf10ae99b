"""From words to a finished run: find the study, check everything, compute, draw, print."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
from pathlib import Path
from typing import NamedTuple

from ml_collections import ConfigDict

import analysis
import configs
from dfx.errors import PersonError, Stopped, choose
from dfx.runs import load, open_run, read_claims, read_run, say, unchanged
from dfx.runs.config import DEFAULT_SIZE
from dfx.runs.place import check, default_folder
from dfx.runs.processes import by_first, several, together
from experiments.arguments import Arguments
from experiments.compiled import compile_in_haste, device_a_core, keep_compiled, plain_warnings
from experiments.environment import keep_only_where_possible, starts_jax

_AUTO = re.compile(r"--processes[= ]auto\b")


class Study(NamedTuple):
    """A study and a size of it: where its config file is."""

    name: str
    size: str
    path: Path


@starts_jax()
def join(argv: list[str]) -> None:
    """Join the other processes of the run, where the words or the environment ask for it.

    Before the words are looked at and before a device is: from here on the first process alone
    speaks, so that a mistake is said once.

    Args:
      argv: the command line; `--processes=auto` is for machines that know of each other, else the
        variables of `train.start_processes` count.

    Raises:
      PersonError: the processes cannot be joined.
    """
    auto = _AUTO.search(" ".join(argv)) is not None
    if auto or "JAX_COORDINATOR_ADDRESS" in os.environ:
        keep_compiled()
        keep_only_where_possible()
        device_a_core()
        from dfx.train import start_processes  # here: it imports JAX

        found = start_processes("auto" if auto else None)
        say(f"{found.processes} processes with {found.devices} devices have joined")


def find(spec: str) -> Study:
    """Return the study that "STUDY", "STUDY:SIZE" or "path/STUDY.py:SIZE" names.

    Raises:
      PersonError: there is no such study or file; the nearest study is named.
    """
    name, _, size = spec.partition(":")
    known = configs.studies()
    path = Path(name) if name.endswith(".py") else choose("study", name, known)
    if not os.path.isfile(path) or not path.stem.isidentifier():
        raise PersonError(f"there is no config file {name!r}; studies: {', '.join(known)}")
    for package in ("experiments", "analysis"):
        if importlib.util.find_spec(f"{package}.{path.stem}") is None:
            raise PersonError(f"study {path.stem!r} has no module {package}/{path.stem}.py")
    return Study(path.stem, size or DEFAULT_SIZE, path)


@starts_jax()
def run_study(spec: str, arguments: Arguments, command: str) -> None:
    """Run a study to its end, or go on with it; draw its figures and print its claims.

    A finished run is not computed again: it is only shown. Everything that was asked is checked
    before anything is written. Of several processes (see `join`) all compute, and the first writes,
    draws and prints.

    Args:
      spec: see `find`.
      arguments: the options and settings of the command line.
      command: the whole command line, for the provenance and for the line that says how to go on.

    Raises:
      PersonError: a mistake in what was asked.
    """
    study, config, folder = together(lambda: _look(spec, arguments))
    if by_first(lambda: _is_finished(folder)):
        say(f"{folder} is finished already: nothing to compute")
        by_first(lambda: _show(folder))
    else:
        _compute(study, config, folder, command)
        by_first(lambda: draw(folder))


def draw(folder: str | Path) -> None:
    """Draw the figures of a run and print its claims; see `analysis.draw`."""
    # It needs no display and sets the one backend it uses; a wrong name here would stop it.
    os.environ["MPLBACKEND"] = "agg"
    analysis.draw(folder)


def _look(spec: str, arguments: Arguments) -> tuple[Study, ConfigDict, Path]:
    """Return the study, its config and the run folder, all of them checked."""
    study = find(spec)
    keep_compiled()  # here: the check of a config may read data, and so import JAX
    keep_only_where_possible()
    device_a_core()
    if study.size == "smoke":
        compile_in_haste()
    processes = arguments.options.get("--processes", "auto")
    if processes != "auto":
        raise PersonError(f"--processes={processes}: allowed is auto; see dfx --help")
    config = load(study.path, study.size, arguments.settings)
    if several() and "mesh" not in config:
        raise PersonError(f"{study.name} runs in one process: it has no settings of a mesh")
    folder = _folder(study, config, arguments.options.get("--workdir"))
    check(folder, config, study.name)
    return study, config, folder


def _folder(study: Study, config: ConfigDict, given: str | None) -> Path:
    if given is None:
        base = unchanged(study.path, study.size)
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
        draw(folder)
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
