"""A person's mistake: status 2, one clear line, nothing written."""

import contextlib
import random
import shutil
from pathlib import Path

import pytest

import analysis
import configs
from dfx.errors import PersonError
from dfx.runs import ConfigError, checks, load, open_run, unchanged
from dfx.runs.overrides import names
from experiments import run as long_form


def written():
    return {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}


MISTAKES = {
    "rnu sheep": "unknown command 'rnu': did you mean 'run'?",
    "run": "given nothing, allowed: dfx run STUDY[:SIZE]",
    "run sheep mode": "given sheep mode, allowed: dfx run STUDY[:SIZE]",
    "run shep": "unknown study 'shep': did you mean 'sheep'?",
    "run sheep:smkoe": "unknown size of sheep 'smkoe': did you mean 'smoke'?",
    "run configs/sheep.py": "there is no config file 'configs/sheep.py'",
    f"run {'x' * 300}.py": "there is no config file",
    f"run sheep --workdir=new/{'x' * 300}": "cannot be written: File name too long",
    "run SHEEP": "did you mean 'sheep'?",
    "run sheep --WORKDIR=a": "did you mean '--workdir'?",
    "run sheep --config.TRAIN.Rate=1": "did you mean 'config.train.rate'?",
    "run sheep --config.solver=DDIM": "did you mean 'ddim'?",
    "run .py": "there is no config file '.py'",
    "run sheep:smoke --wrokdir=a": "unknown option '--wrokdir': did you mean '--workdir'?",
    "run sheep --confg.seed=1": "unknown option '--confg.seed': did you mean '--config.seed'?",
    "run sheep --redo": "unknown option '--redo'. allowed: --workdir, --processes",
    "run sheep -x": "unknown option '-x'",
    "run sheep --processes=4": "--processes=4: allowed is auto",
    "run sheep --workdir": "--workdir needs a value",
    "run sheep --workdir=": "--workdir needs a folder",
    "run sheep --workdir --config.seed=1": "--workdir needs a value",
    "run sheep --config.seed": "--config.seed needs a value",
    "run sheep --config.train.num_stpes=3": "did you mean 'config.train.num_steps'?",
    "run sheep --config.train.num_steps=-3": "given -3, allowed: a number above 0",
    "run sheep --config.train.num_steps=abc": "num_steps: given 'abc', allowed: a whole number",
    "run sheep --config.train.num_steps=1.5": "given '1.5', allowed: a whole number",
    "run sheep --config.train=5": "config.train is a group of settings",
    "run sheep --config.modes=1,x": "config.modes: given 'x', allowed: a finite number",
    "run sheep --config.solver=ddmi": "setting config.solver: unknown value 'ddmi': did you mean",
    "run sheep --config.path=mnist.gz": "there is no data file 'mnist.gz'",
    "run sheep --workdir=file": "file is in the way",
    "run sheep --workdir=file/below": "file is in the way",
    "run sheep --workdir=full": "full is no run folder: it holds thesis.tex",
    "run sheep --workdir=/proc/dfx": "/proc/dfx",
    "list all": "given all, allowed: dfx list",
    "list --config.x=1": "--config.x is of no use here",
    "list --workdir=a": "unknown option '--workdir'",
    "figures": "given nothing, allowed: dfx figures DIR",
    "figures --workdir=full file": "given full file, allowed: dfx figures DIR",
    "figures absent": "there is no run in 'absent'",
    "claims full": "there is no run in 'full'",
    "claims file": "there is no run in 'file'",
    "claims --wrkdir=a": "did you mean '--workdir'?",
    "claims full --config.seed=1": "--config.seed is of no use here",
}


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_one_line_with_status_2_and_writes_nothing(dfx, line):
    Path("file").touch()
    Path("full").mkdir()
    Path("full/thesis.tex").touch()
    status, out, err = dfx(line)
    assert status == 2
    *before, last = err.splitlines()
    assert last.startswith("dfx: ") and MISTAKES[line] in last
    # Only the study itself can find out that its data file is missing, after it has begun.
    assert len(before) == ("config.path" in line)
    assert all(line.startswith("dfx: sheep:default in runs/") for line in before)
    assert out == ""
    assert sorted(path.name for path in Path().rglob("*")) == ["file", "full", "thesis.tex"]


@pytest.mark.parametrize(
    ("line", "allowed"),
    [
        ("list --workdir=x", "--help"),
        ("figures -x", "--workdir"),
        ("claims -x", "--workdir"),
        ("run sheep -x", "--workdir, --processes, --config.SETTING"),
    ],
)
def test_an_unknown_option_is_told_what_its_command_takes(dfx, line, allowed):
    assert dfx(line)[2].endswith(f". allowed: {allowed}\n")


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("", "--config is missing"),
        ("--config=configs/nothing.py --workdir=a", "there is no config file"),
        ("--config=sheep:smkoe", "did you mean 'smoke'?"),
        ("--confg=sheep", "unknown option '--confg': did you mean '--config'?"),
        ("--config", "--config needs a value"),
        ("sheep", "given sheep, allowed: python -m experiments.run --config=configs/STUDY.py:SIZE"),
    ],
)
def test_a_mistake_in_the_long_form_is_one_line_too(dfx, line, part):
    status, out, err = dfx(line, long_form.main)
    assert (status, out) == (2, "")
    assert part in err and err.count("\n") == 1
    assert written() == {}


def test_a_study_without_its_other_modules_is_named(dfx, studies):
    shutil.copy(studies / "configs" / "sheep.py", studies / "configs" / "lonely.py")
    status, _, err = dfx("run lonely")
    assert status == 2 and "study 'lonely' has no module experiments/lonely.py" in err


def test_a_folder_of_another_config_is_refused_and_left_alone(dfx):
    dfx("run sheep:smoke --workdir=a")
    before = written()
    status, out, err = dfx("run sheep:smoke --workdir=a --config.train.rate=0.2")
    assert (status, out) == (2, "")
    assert "a holds another run: config.train.rate is 0.1 there and 0.2 here" in err
    assert written() == before


def test_a_run_in_use_is_refused(dfx, sheep):
    config = cli_config("smoke")
    with open_run("a", config, "sheep", "smoke", start={}):
        status, _, err = dfx("run sheep:smoke --workdir=a")
    assert status == 2 and "a is in use by another process" in err


def cli_config(size):
    return load(configs.studies()["sheep"], size)


@pytest.mark.parametrize("line", ["", "a", "--dir=a", "--workdir=", "--workdir", "--workdir a b"])
def test_analysis_alone_wants_a_run_folder(dfx, line):
    status, out, err = dfx(line, analysis.main)
    assert (status, out) == (2, "")
    assert err.count("\n") == 1 and "allowed: --workdir=DIR" in err


@pytest.mark.parametrize("file", ["config.json", "provenance.json"])
def test_a_damaged_run_is_refused_by_name(dfx, file):
    dfx("run sheep:smoke --workdir=a")
    Path("a", file).write_text("{")
    for line in ("run sheep:smoke --workdir=a", "figures a", "claims a"):
        status, _, err = dfx(line)
        assert status == 2 and f"{file} is damaged" in err and err.count("\n") == 1


def test_a_run_of_an_unknown_study_is_named(dfx):
    dfx("run sheep:smoke --workdir=a")
    with open_run("b", cli_config("smoke"), "goats", start={}):
        pass
    status, _, err = dfx("figures b")
    assert status == 2 and "b is a run of 'goats', a study that is not known here" in err


@pytest.mark.parametrize("study", configs.studies())
def test_no_study_takes_a_seed_whose_keys_are_those_of_another(study):
    with pytest.raises(ConfigError, match=r"seed: given 4294967296, allowed: a number from 0 to"):
        load(configs.studies()[study], "smoke", [("seed", "4294967296")])


def test_an_order_is_fitted_to_numbers_of_steps_that_differ():
    for steps in ("40", "40,40", "80,40"):
        with pytest.raises(ConfigError, match="allowed: two rising numbers or more"):
            load(configs.studies()["solver_orders"], "smoke", [("orders.steps", steps)])


def test_a_tuple_needs_an_entry_unless_none_means_something():
    accepted = set()
    for study, path in configs.studies().items():
        base = unchanged(path, "smoke")
        for name in names(base, study):
            setting = name.partition(".")[2]
            if isinstance(checks.value_of(base, setting), tuple):
                with contextlib.suppress(PersonError):
                    load(path, "smoke", [(setting, "")])
                    accepted.add(name)
    assert accepted == {
        "images.ema.half_lives", "images.ema.posthoc", "images.evaluation.parts",
        "mode_interpolation.one_d.snapshots", "solver_orders.solvers",
    }  # fmt: skip


def test_random_command_lines_never_show_a_traceback(dfx, sheep):
    rng = random.Random(0)
    words = ["run", "list", "figures", "claims", "sheep", "sheep:smoke", "sheep:", ":", "a", "-"]
    words += ["--workdir", "--workdir=a", "--workdir=a/b", "--config.seed=1", "--config.seed", "é"]
    words += ["--config.train.num_steps=2", "--config.train.num_steps=", "--config.", "--config"]
    words += ["--config.modes=((1,", "--config.solver=heun", "--config.path=x"]
    words += ["=", "..", "a.py:x", "", "--"]
    for _ in range(300):
        line = [rng.choice(words) for _ in range(rng.randrange(1, 6))]
        if rng.random() < 0.7:
            line = ["run", "sheep:smoke", *line[1:]]
        status, _, err = dfx(line)
        assert status in (0, 2), (line, err)
        assert "Traceback" not in err, line
