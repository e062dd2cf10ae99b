"""dfx: run a study of diffusion and flow models, look at its figures, read its claims.

  dfx list                            the studies, one line each
  dfx solvers                         the samplers, one line each
  dfx run STUDY[:SIZE] [options]      run a study, or go on with one that was stopped
  dfx figures DIR                     draw the figures of a run folder again
  dfx claims DIR                      print the claims of a run folder again
  dfx --version, dfx --help

Options of run:
  --workdir=DIR                       the run folder; runs/STUDY-SIZE if not given
  --config.GROUP.SETTING=VALUE        change a setting, such as --config.train.num_steps=2000
  --processes=auto                    join the other hosts of a TPU pod or of a SLURM job

Elsewhere the variables JAX_COORDINATOR_ADDRESS (host:port of the first process), JAX_NUM_PROCESSES
and JAX_PROCESS_ID (from 0) join processes. All get the same command and see the same run folder.

Exit status: 0 done, 2 a mistake in what was asked, 3 the run ended itself and would do so again,
130 or 143 stopped, 1 anything else.

Compiled programs are kept for the next start in the folder that JAX_COMPILATION_CACHE_DIR names, by
default dfx/jax in the user's cache folder.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import textwrap

from dfx.errors import choose
from dfx.runs import describe, provenance
from dfx.runs.outcome import exit_status
from experiments.arguments import Arguments, parse
from experiments.environment import starts_jax
from experiments.launch import draw, join, run_study


def main(argv: list[str] | None = None) -> int:
    """Run one command line (without the program's name) and return its exit status."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    return exit_status(lambda: _command(arguments))


def _command(argv: list[str]) -> None:
    if not argv or "--help" in argv or argv[0] in ("-h", "help"):
        print((__doc__ or "").strip())
    elif argv[0] == "--version":
        print(f"dfx {provenance.version('dfx')} (jax {provenance.version('jax')})")
    else:
        command = choose("command", argv[0], _COMMANDS)
        if argv[0] == "run":
            join(argv)
        options = _OPTIONS.get(argv[0], ("--workdir",))
        command(parse(argv[1:], options, settings=argv[0] == "run"))


def _list(arguments: Arguments) -> None:
    import configs

    arguments.refuse_settings()
    arguments.positionals("dfx list")
    studies = {name: describe(path) for name, path in configs.studies().items()}
    columns = shutil.get_terminal_size((120, 24)).columns
    for name, study in studies.items():
        sizes = f" [{' '.join(study.sizes)}]"
        room = max(columns - len(sizes), len(name) + 20)
        line = textwrap.shorten(f"{name}: {study.line}", room, placeholder=" ...") + sizes
        print(line if len(line) <= columns else f"{line[: columns - 5].rstrip()} ...]")


@starts_jax()
def _solvers(arguments: Arguments) -> None:
    from dfx.solvers import REGISTRY

    arguments.refuse_settings()
    arguments.positionals("dfx solvers")
    rows = [("solver", "order", "kind", "evaluations a step", "source")]
    for name, (_, order, evaluations, stochastic, source) in REGISTRY.items():
        kind = "weak (SDE)" if stochastic else "strong (ODE)"
        rows.append((name, str(order), kind, str(evaluations), source))
    widths = [max(map(len, column)) for column in zip(*rows)]
    columns = shutil.get_terminal_size((120, 24)).columns
    for row in rows:
        line = "  ".join(map(str.ljust, row, widths)).rstrip()
        print(line if len(line) <= columns else f"{line[: columns - 4].rstrip()} ...")


def _run(arguments: Arguments) -> None:
    (spec,) = arguments.positionals("dfx run STUDY[:SIZE]")
    run_study(spec, arguments, shlex.join(["dfx", "run", *arguments.given]))


def _figures(arguments: Arguments) -> None:
    draw(_folder(arguments, "dfx figures DIR"))


def _claims(arguments: Arguments) -> None:
    import analysis

    analysis.show(_folder(arguments, "dfx claims DIR"))


def _folder(arguments: Arguments, usage: str) -> str:
    arguments.refuse_settings()
    given = filter(None, [arguments.options.get("--workdir"), *arguments.words])
    return os.path.expanduser(arguments._replace(words=tuple(given)).positionals(usage)[0])


_COMMANDS = {
    "list": _list,
    "solvers": _solvers,
    "run": _run,
    "figures": _figures,
    "claims": _claims,
}
_OPTIONS: dict[str, tuple[str, ...]] = {
    "list": (),
    "solvers": (),
    "run": ("--workdir", "--processes"),
}

if __name__ == "__main__":
    sys.exit(main())
