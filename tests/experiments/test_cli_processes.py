"""One run by two processes: the numbers of one, one voice, and an end for both."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from dfx.runs import read_run
from dfx.runs.lock import Lock

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow

# A study on a mesh: a net of two layers, sharded over all devices, trained with checkpoints.
CONFIG = '''"""Herding: does a net that lies on all devices learn a line?"""
import os
from pathlib import Path
from ml_collections import ConfigDict
from dfx.errors import PersonError

def get_config(size="default"):
    return ConfigDict(dict(seed=0, num_steps=30, mesh=dict(data=-1, fsdp=1)))

def validate(config):
    if not Path(os.environ.get("HERD_DATA", ".")).exists():
        raise PersonError("there is no data folder")
'''
EXPERIMENT = """
import os
import time
import jax
import jax.numpy as jnp
import numpy as np
from dfx import train
from dfx.runs import say
from dfx.train.mesh import put_whole

def loss(params, key, x):
    return jnp.mean((jnp.tanh(x @ params["in"]) @ params["out"] - x[:, :1]) ** 2), ()

def run(config, run):
    mesh, optimizer = train.make_mesh(config.mesh.data, config.mesh.fsdp), train.optimizer(0.01)
    step = train.make_step(loss, optimizer)

    def make_state(key):
        params = {"in": jax.random.normal(key, (4, 32)) / 2, "out": jnp.zeros((32, 1))}
        return train.init_state(params, optimizer, key)

    def on_chunk(state, metrics, done):
        run.log("train", done, loss=metrics["loss"].mean())
        time.sleep(float(os.environ.get("HERD_PAUSE", 0)))

    def compute():
        checkpoints = train.Checkpoints(run.checkpoint_folder("state"), run.config_hash, warn=say)
        first = train.init_on(mesh, make_state, jax.random.key(config.seed), min_size=64)
        state = checkpoints.restore(first) or first
        say(f"begins at {int(state.step)}")
        state = train.fit(
            step, state, lambda data, step: jnp.roll(data, step, 0)[:16], config.num_steps, 3,
            on_chunk, data=np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32),
            checkpoints=checkpoints, save_every=6,
        )
        whole = jax.jit(lambda tree: tree, out_shardings=put_whole(0.0, mesh).sharding)(state)
        return {name: np.asarray(leaf) for name, leaf in whole.params.items()}

    run.arrays("trained", compute)
    assert run.arrays("writer", lambda: {"index": jax.process_index()})["index"] == 0
"""
ANALYSIS = """
from dfx.runs import below, from_seeds, read_run

def analyse(folder):
    loss = read_run(folder).metrics("train")["loss"]
    return [from_seeds(loss[-3:], id="1", paper="Shepherd 2024", statement="The herd follows.",
                       paper_value="below 1", rule=below(1.0))]
"""
DRIVER = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import configs, experiments, analysis
for package in (configs, experiments, analysis):
    package.__path__.append(sys.argv[1] + "/" + package.__name__)
from experiments import cli
sys.exit(cli.main(sys.argv[2:]))
"""


@pytest.fixture(scope="module")
def herd(tmp_path_factory):
    """A function that starts the study in one process, or as one of two."""
    studies = tmp_path_factory.mktemp("studies")
    for package, text in (("configs", CONFIG), ("experiments", EXPERIMENT), ("analysis", ANALYSIS)):
        (studies / package).mkdir()
        (studies / package / "herd.py").write_text(text)
    code = [sys.executable, "-c", DRIVER, str(studies)]
    own = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "", "JAX_COMPILATION_CACHE_DIR": ""}

    def start(line, devices=1, **environment):
        environment = os.environ | own | {"JAX_NUM_CPU_DEVICES": str(devices)} | environment
        pipe = subprocess.PIPE
        return subprocess.Popen(
            [*code, *line.split()], env=environment, stdout=pipe, stderr=pipe, text=True
        )

    return start


def start_pair(herd, line, second=None, **environment):
    """Start the two processes; `second` changes the environment of the second one."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    joined = environment | {
        "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
        "JAX_NUM_PROCESSES": "2",
    }
    changes = ({}, second or {})
    return [herd(line, **joined, JAX_PROCESS_ID=str(i), **changes[i]) for i in range(2)]


def ends(pair):
    """Return the statuses, and of each process its lines and what it said of itself on stderr."""
    texts = [process.communicate(timeout=300) for process in pair]
    said = [[s for s in err.splitlines() if s.startswith("dfx:")] for _, err in texts]
    return [process.returncode for process in pair], [out for out, _ in texts], said


@pytest.fixture(scope="module")
def alone(herd, tmp_path_factory):
    """The run folder of one process with two devices."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    process = herd(f"run herd --workdir={folder}", devices=2)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return read_run(folder)


def assert_same_numbers(folder, alone):
    """Both end with the same numbers: the order of float32 sums may differ."""
    found = read_run(folder)
    assert found.finished and found.torn() == [] and found.names() == alone.names()
    for name, expected in alone.arrays("trained").items():
        np.testing.assert_allclose(found.arrays("trained")[name], expected, rtol=1e-4, atol=1e-6)
    rows, expected = found.metrics("train"), alone.metrics("train")
    np.testing.assert_array_equal(rows["step"], expected["step"])
    np.testing.assert_allclose(rows["loss"], expected["loss"], rtol=1e-4, atol=1e-7)


def wait_for_steps(folder, pair):
    """Return once the run has logged a step."""
    while not (folder / "metrics.jsonl").exists():
        assert all(process.poll() is None for process in pair)
        time.sleep(0.05)


def test_two_processes_end_with_the_numbers_of_one_and_the_first_alone_speaks(
    herd, alone, tmp_path
):
    line = f"run herd --workdir={tmp_path / 'run'} --config.mesh.data=1 --config.mesh.fsdp=2"
    for _ in range(2):  # the second time there is nothing to compute
        statuses, out, said = ends(start_pair(herd, line))
        assert statuses == [0, 0]
        assert "The herd follows" in out[0] and "herd" not in out[1]
        assert said[0][0] == "dfx: 2 processes with 2 devices have joined" and said[1] == []
        assert_same_numbers(tmp_path / "run", alone)
    assert "finished already" in said[0][-1]
    (start,) = read_run(tmp_path / "run").provenance["starts"]
    assert start["devices"]["processes"] == 2 == start["devices"]["count"]


def test_a_mistake_is_one_line_of_the_first_process_and_status_2_of_both(herd, tmp_path):
    folder = tmp_path / "run"
    line = f"run herd --workdir={folder}"
    missing = {"HERD_DATA": str(tmp_path / "nowhere")}
    for words, second, expected in (
        (f"{line} --config.num_stps=2", None, "did you mean 'config.num_steps'?"),
        (line, missing, "dfx: process 1: there is no data folder"),
        ("run solver_laws:smoke", None, "solver_laws runs in one process"),
    ):
        statuses, _, said = ends(start_pair(herd, words, second))
        assert statuses == [2, 2]
        assert expected in said[0][-1] and len(said[0]) == 2 and said[1] == []
        assert not folder.exists()
    folder.mkdir()
    lock = Lock(folder)
    statuses, _, said = ends(start_pair(herd, line))
    lock.release()
    assert statuses == [2, 2]
    assert "in use by another process" in said[0][-1] and said[1] == []


def test_sigterm_to_one_saves_and_ends_both_and_one_process_goes_on(herd, alone, tmp_path):
    folder = tmp_path / "run"
    line = f"run herd --workdir={folder}"
    pair = start_pair(herd, line, HERD_PAUSE="0.3")
    wait_for_steps(folder, pair)
    pair[1].send_signal(signal.SIGTERM)
    statuses, _, said = ends(pair)
    assert statuses == [143, 143]
    assert said[0][-1] == f"dfx: stopped by SIGTERM; to go on: dfx {line}" and said[1] == []
    process = herd(line, devices=2)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    (begun,) = (s for s in err.splitlines() if "begins at" in s)
    assert int(begun.split()[-1]) > 0
    assert_same_numbers(folder, alone)


@pytest.mark.parametrize("victim", [0, 1])
def test_a_process_that_dies_takes_the_other_with_it(herd, alone, tmp_path, victim):
    folder = tmp_path / "run"
    line = f"run herd --workdir={folder}"
    pair = start_pair(herd, line, HERD_PAUSE="0.2")
    wait_for_steps(folder, pair)
    pair[victim].kill()
    statuses, _, _ = ends(pair)
    assert statuses[victim] == -signal.SIGKILL and statuses[1 - victim] not in (0, 2)
    assert ends(start_pair(herd, line))[0] == [0, 0]
    assert_same_numbers(folder, alone)
