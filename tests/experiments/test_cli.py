"""The command line as a person meets it: what it prints and what it leaves behind."""

import shutil
from pathlib import Path

import pytest

import analysis
import configs
from dfx.runs import config_hash, read_run
from experiments import run as long_form


def written():
    return {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}


def test_list_names_every_study_in_one_line(dfx):
    status, out, err = dfx("list")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert [line.split(":")[0] for line in lines] == sorted(configs.studies())
    (line,) = (line for line in lines if line.startswith("sheep"))
    assert line == "sheep: Counting sheep: does the mean of three sheep exceed one? [smoke default]"
    assert all(len(line) <= 120 for line in lines)


@pytest.mark.parametrize("line", ["", "--help", "-h", "help", "run --help", "claims --help"])
def test_help_says_every_command(dfx, line):
    status, out, err = dfx(line)
    assert (status, err) == (0, "")
    for word in ("dfx list", "dfx run", "dfx figures", "dfx claims", "--workdir", "--config."):
        assert word in out


def test_version_names_the_version_of_jax_too(dfx):
    import jax

    assert dfx("--version")[1].startswith("dfx ")
    assert jax.__version__ in dfx("--version")[1]


def test_a_run_prints_its_claims_and_where_the_figures_are(dfx):
    status, out, err = dfx("run sheep:smoke")
    assert status == 0
    assert "1 figures in runs/sheep-smoke/figures/" in out
    assert "Three sheep exceed one." in out and "Of 1 claims 1 hold" in out
    assert err == "dfx: sheep:smoke in runs/sheep-smoke\n"
    run = read_run("runs/sheep-smoke")
    assert run.finished and run.config.train.num_steps == 5
    assert run.provenance["starts"][0]["command"] == "dfx run sheep:smoke"
    assert run.metrics("train")["step"].tolist() == [0, 1, 2, 3, 4]


def test_a_finished_run_says_so_and_does_nothing(dfx, sheep):
    first = dfx("run sheep:smoke")
    before, sheep.DONE[:] = written(), []
    status, out, err = dfx("run sheep:smoke")
    assert (status, out) == (0, first[1])
    assert err == "dfx: runs/sheep-smoke is finished already: nothing to compute\n"
    assert sheep.DONE == [] and written() == before


def test_settings_change_the_run_and_the_folder(dfx):
    dfx("run sheep:smoke --config.train.num_steps=2 --config.train.rate 1e-1")
    (folder,) = Path("runs").iterdir()
    run = read_run(folder)
    assert run.config.train.num_steps == 2
    assert folder.name == f"sheep-smoke-{config_hash(run.config)[:8]}"
    dfx("run sheep:smoke --config.train.num_steps=5")  # the default, so the default's folder
    assert Path("runs/sheep-smoke").is_dir()


def test_the_long_form_is_the_same_run(dfx, studies):
    dfx("run sheep:smoke --config.seed=4 --workdir=a")
    file = studies / "configs" / "sheep.py"
    for spec in (f"{file}:smoke", "sheep:smoke"):
        line = f"--config={spec} --workdir=a --config.seed=4"
        status, _, err = dfx(line, long_form.main)
        assert status == 0 and "finished already" in err
    status, _, err = dfx(f"--config {file}:smoke --workdir b --config.seed 4", long_form.main)
    assert status == 0
    assert Path("a/arrays/sample.npz").read_bytes() == Path("b/arrays/sample.npz").read_bytes()
    assert read_run("b").provenance["starts"][0]["command"].startswith("python -m experiments.run")
    assert "experiments.run" in dfx("--help", long_form.main)[1]


def test_figures_and_claims_come_from_the_folder_alone(dfx, sheep, studies):
    _, out, _ = dfx("run sheep:smoke --workdir=a")
    shutil.rmtree("a/figures")
    sheep.HOOKS["train", 0] = raiser(AssertionError("computed"))
    assert dfx("figures a") == (0, out, "")
    assert Path("a/figures/sheep.png").exists()
    assert dfx("claims a") == dfx("claims --workdir=a") == (0, out, "")
    assert dfx("--workdir=a", analysis.main) == dfx("--workdir a", analysis.main) == (0, out, "")


def test_a_tilde_is_the_persons_home(dfx, monkeypatch):
    monkeypatch.setenv("HOME", str(Path.cwd()))
    assert dfx(["run", "sheep:smoke", "--workdir=~/a"])[0] == 0
    for line in ("figures --workdir=~/a", "claims ~/a"):
        status, _, err = dfx(line)
        assert (status, err) == (0, "")


def raiser(error):
    def hook():
        raise error

    return hook
