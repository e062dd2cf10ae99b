"""Run one study, in the form that TPU users know (`dfx run` is the short form of the same).

python -m experiments.run --config=configs/STUDY.py:SIZE --workdir=DIR [--config.seed=1]
"""

from __future__ import annotations

import shlex
import sys

from dfx.errors import PersonError
from dfx.runs.outcome import exit_status
from experiments.arguments import parse
from experiments.launch import join, run_study


def main(argv: list[str] | None = None) -> int:
    """Run one command line (without the program's name) and return its exit status."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    return exit_status(lambda: _command(arguments))


def _command(argv: list[str]) -> None:
    if "--help" in argv or "-h" in argv:
        print((__doc__ or "").strip())
        return
    join(argv)
    arguments = parse(argv, options=("--config", "--workdir", "--processes"))
    arguments.positionals("python -m experiments.run --config=configs/STUDY.py:SIZE --workdir=DIR")
    if "--config" not in arguments.options:
        raise PersonError("--config is missing: --config=configs/STUDY.py:SIZE says what to run")
    command = shlex.join(["python", "-m", "experiments.run", *argv])
    run_study(arguments.options["--config"], arguments, command)


if __name__ == "__main__":
    sys.exit(main())
