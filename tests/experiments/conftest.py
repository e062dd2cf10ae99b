"""A tiny study, and ways to run the command line on it."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

import analysis
import configs
import experiments
from experiments import cli

ROOT = Path(__file__).parents[2]

# A whole study in three small files, found like every other by the names of its modules.
CONFIG = '''"""Counting sheep: does the mean of three sheep exceed one?"""
from ml_collections import ConfigDict, config_dict
from dfx.runs import checks

SIZES = ("smoke", "default")

def get_config(size="default"):
    return ConfigDict(dict(
        seed=0, solver="ddim", modes=(1.0, 2.0), path=config_dict.placeholder(str),
        train=dict(num_steps=5 if size == "smoke" else 50, rate=0.1),
    ))

def validate(config):
    checks.positive("config.train.num_steps", config.train.num_steps)
    checks.one_of("config.solver", config.solver, ("ddim", "heun"))
'''
EXPERIMENT = """
import time
import numpy as np
from dfx.errors import PersonError

PAUSE, HOOKS, DONE = 0.0, {}, []

def run(config, run):
    if config.path is not None:
        raise PersonError(f"there is no data file {config.path!r}")
    value = np.full(3, 1.0)
    for name in ("train", "sample"):
        value = run.arrays(name, lambda: stage(config, run, name, value))["x"]

def stage(config, run, name, value):
    for step in range(config.train.num_steps):
        HOOKS.get((name, step), lambda: None)()
        value = np.sin(value + step) + config.train.rate * np.arange(3) / 100 + 2
        run.log(name, step, mean=value.mean())
        time.sleep(PAUSE)
    DONE.append(name)
    return {"x": value}
"""
ANALYSIS = """
from dfx.runs import above, from_seeds, read_run

def analyse(folder):
    values = read_run(folder).arrays("sample")["x"]
    (folder / "figures").mkdir(exist_ok=True)
    (folder / "figures" / "sheep.png").write_bytes(b"a picture")
    return [from_seeds(values, id="1", paper="Shepherd 2024", statement="Three sheep exceed one.",
                       paper_value="over 1", rule=above(1.0))]
"""
# The command line with the study above, without the seconds that JAX takes to start.
DRIVER = """
import sys
sys.path.insert(0, {root!r})
import configs, experiments, analysis
for package in (configs, experiments, analysis):
    package.__path__.append({studies!r} + "/" + package.__name__)
from dfx.runs import provenance
from experiments import cli
provenance.devices = dict
import experiments.sheep
experiments.sheep.PAUSE = {pause}
status = cli.main(sys.argv[1:])
print("jax" in sys.modules, file=sys.stderr)
sys.exit(status)
"""


@pytest.fixture
def studies(tmp_path):
    """A folder with the study's three modules."""
    folder = tmp_path / "studies"
    for package, text in (("configs", CONFIG), ("experiments", EXPERIMENT), ("analysis", ANALYSIS)):
        (folder / package).mkdir(parents=True)
        (folder / package / "sheep.py").write_text(text)
    return folder


@pytest.fixture
def sheep(studies, tmp_path, monkeypatch):
    """The study's experiment, put among the others; the test runs in an empty folder."""
    for package in (configs, experiments, analysis):
        path = [*package.__path__, str(studies / package.__name__)]
        monkeypatch.setattr(package, "__path__", path)
    for name in ("experiments.sheep", "analysis.sheep"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "1")
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return importlib.import_module("experiments.sheep")


@pytest.fixture
def dfx(sheep, capsys):
    """Run a command line; return its exit status, what it printed and what it complained of."""

    def command(line, main=cli.main):
        capsys.readouterr()
        status = main(line.split() if isinstance(line, str) else line)
        return status, *capsys.readouterr()

    return command


@pytest.fixture
def drive(studies):
    """Start a command line in a process of its own, in the folder above `studies`."""

    def start(line, pause=0.0):
        code = DRIVER.format(root=str(ROOT), studies=str(studies), pause=pause)
        return subprocess.Popen(
            [sys.executable, "-c", code, *line.split()],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=studies.parent,
            env=os.environ | {"JAX_COMPILATION_CACHE_DIR": ""},
        )  # fmt: skip

    return start
