"""The command that lists the samplers."""

import pytest

from dfx.solvers import REGISTRY


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")


def test_solvers_names_every_solver_in_one_line(dfx):
    status, out, err = dfx("solvers")
    assert (status, err) == (0, "")
    header, *lines = out.splitlines()
    assert header.split() == ["solver", "order", "kind", "evaluations", "a", "step", "source"]
    assert [line.split()[0] for line in lines] == list(REGISTRY)
    assert all(len(line) <= 120 and line == line.rstrip() for line in (header, *lines))


def test_a_line_holds_what_the_registry_knows(dfx):
    lines = {line.split()[0]: line for line in dfx("solvers")[1].splitlines()}
    assert lines["heun"].split(maxsplit=5)[1:] == [
        "2",
        "strong",
        "(ODE)",
        "2",
        "Karras et al. 2022",
    ]
    assert lines["ddpm"].split(maxsplit=5)[1:4] == ["1", "weak", "(SDE)"]


def test_solvers_fits_its_lines_to_the_terminal(dfx, monkeypatch):
    monkeypatch.setenv("COLUMNS", "50")
    lines = dfx("solvers")[1].splitlines()
    assert all(len(line) <= 50 for line in lines)
    assert [line.split()[0] for line in lines[1:]] == list(REGISTRY)


MISTAKES = {
    "solvers heun": "given heun, allowed: dfx solvers",
    "solvers --workdir=a": "unknown option '--workdir'",
    "solvers --config.x=1": "--config.x is of no use here",
    "sovlers": "unknown command 'sovlers': did you mean 'solvers'?",
}


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_one_line_with_status_2(dfx, line):
    status, out, err = dfx(line)
    assert (status, out) == (2, "")
    assert MISTAKES[line] in err and err.count("\n") == 1


def test_help_says_the_command(dfx):
    assert "dfx solvers" in dfx("--help")[1]
