"""The launcher for TPUs: the commands that it would give, and what a host does when a run ends."""

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
SETTINGS = {
    "TPU": "pod", "ZONE": "us-east5-b", "TYPE": "v6e-256", "VERSION": "v2-alpha-tpuv6e",
    "SPOT": "1", "SHARE": "10.0.0.2:/share", "DATA": "gs://bucket/sets", "RUN": "xl",
}  # fmt: skip


def tpu(*words, **changes):
    """Return the status, the commands (lists of words) and the complaints of a dry run."""
    command = ["bash", str(SCRIPTS / "tpu.sh"), "--dry-run", *words]
    done = subprocess.run(
        command, env=os.environ | SETTINGS | changes, capture_output=True, text=True, check=False
    )
    return done.returncode, [shlex.split(line) for line in done.stdout.splitlines()], done.stderr


def remote(command):
    """Return the worker and the words of what a gcloud command has a host do."""
    (worker,) = (w.removeprefix("--worker=") for w in command if w.startswith("--worker="))
    (text,) = (w.removeprefix("--command=") for w in command if w.startswith("--command="))
    return worker, text


def test_a_spot_tpu_is_asked_for_by_a_queued_resource():
    status, (command,), _ = tpu("create")
    assert status == 0
    expected = (
        "gcloud compute tpus queued-resources create pod --node-id=pod --zone=us-east5-b "
        "--accelerator-type=v6e-256 --runtime-version=v2-alpha-tpuv6e --spot"
    )
    assert command == expected.split()
    assert tpu("create", SPOT="0")[1] == [expected.split()[:-1]]


def test_code_python_and_the_shared_disk_come_to_all_hosts():
    _, (archive, copy, install, mount), _ = tpu("install")
    assert archive[0] == "git" and archive[3] == "archive"
    assert copy[:5] == ["gcloud", "compute", "tpus", "tpu-vm", "scp"] and "--worker=all" in copy
    worker, text = remote(install)
    assert worker == "all" and "--python 3.12" in text and "./dfx[tpu,images]" in text
    worker, text = remote(mount)
    assert worker == "all" and "mount -t nfs -o rw,hard 10.0.0.2:/share /mnt/runs" in text


def test_a_run_is_started_on_all_hosts_with_its_words_as_they_are():
    words = ["images:imagenet256_sit_xl", "--config.mesh.fsdp=16", "--config.data.name=a b"]
    _, (command,), _ = tpu("start", *words)
    worker, text = remote(command)
    assert worker == "all"
    tmux = shlex.split(text.partition("; ")[2])
    assert tmux[:5] == ["tmux", "new-session", "-d", "-s", "dfx"]
    inner = shlex.split(tmux[5])
    assert inner[1:] == ["bash", "~/dfx/scripts/tpu_host.sh", *words, "--workdir=/mnt/runs/xl"]


def test_a_run_that_is_kept_up_goes_through_all_of_it():
    _, commands, _ = tpu("keep", "images:imagenet64_edm")
    verbs = [command[4] for command in commands if command[0] == "gcloud"]
    assert verbs == ["create", "scp", "ssh", "ssh", "ssh", "ssh", "delete"]
    assert "gcloud storage rsync --recursive gs://bucket/sets data" in remote(commands[5])[1]
    assert "--force" in commands[-1]


@pytest.mark.parametrize(
    ("action", "worker", "expected"),
    [
        ("logs", "0", "tail -n 50 -f dfx.log"),
        ("status", "all", "tmux has-session -t dfx"),
        ("stop", "all", "pkill -TERM -f"),
        ("collect", "0", "--exclude=checkpoints xl"),
    ],
)
def test_what_is_asked_of_hosts(action, worker, expected):
    _, commands, _ = tpu(action)
    assert remote(commands[0])[0] == worker and expected in remote(commands[0])[1]


@pytest.mark.parametrize(
    ("words", "changes", "line"),
    [
        (["crate"], {}, "unknown action 'crate'; allowed: create, install"),
        (["start"], {}, "start needs the words after dfx run"),
        (["install"], {"SHARE": ""}, "SHARE is not set"),
        (["data"], {"DATA": ""}, "DATA is not set"),
    ],
)
def test_a_mistake_is_one_line_before_any_command(words, changes, line):
    status, commands, said = tpu(*words, **changes)
    assert (status, commands) == (2, []) and line in said and said.count("\n") == 1


#: A stand-in for gcloud: answers each kind of question with its next reply, at the end the last.
GCLOUD = """#!/usr/bin/env bash
kind=$4
case $* in *has-session*) kind=progress && echo "$*" >asked ;; *new-session*) kind=start ;; esac
echo $kind >>calls
reply=$(sed -n "1,$(grep -cx $kind calls)p" $kind 2>/dev/null | tail -n 1)
case $kind:$reply in
  *:fails) exit 1 ;;
  list:*) printf 'dfx\\tACTIVE\\n' && [ "$reply" = NONE ] || printf 'pod\\t%s\\n' "$reply" ;;
  *) echo "$reply" ;;
esac
"""
WHOLE = ["create", "scp", "ssh", "ssh", "start"]  # a new TPU, without data


def keep(folder, **replies):
    """Return the status of `keep`, what it asked for, and its complaints."""
    for name, text in (("gcloud", GCLOUD), ("sleep", "#!/bin/sh\n"), ("git", "#!/bin/sh\n")):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    for kind, answers in ({"progress": ["finished"]} | replies).items():
        (folder / kind).write_text("".join(f"{answer}\n" for answer in answers))
    path = {"PATH": f"{folder}:{os.environ['PATH']}", "DATA": ""}
    done = subprocess.run(
        ["bash", str(SCRIPTS / "tpu.sh"), "keep", "images:mnist"], cwd=folder, timeout=30,
        env=os.environ | SETTINGS | path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    calls = (folder / "calls").read_text().split()
    return done.returncode, [c for c in calls if c not in ("list", "progress")], done.stderr


@pytest.mark.parametrize(
    ("replies", "calls"),
    [
        ({"list": ["NONE", "WAITING", "ACTIVE"]}, WHOLE),
        # Nobody knows: a run in progress is let alone, and so is one whose host does not answer.
        (
            {"list": ["ACTIVE", "fails", "ACTIVE"], "progress": ["running", "fails", "finished"]},
            [],
        ),
        # It came too late: the next one is asked for.
        ({"list": ["NONE", "FAILED", "FAILED", "NONE", "ACTIVE"]}, ["create", "delete", *WHOLE]),
        # Of what a TPU needs, nothing is left out.
        (
            {"list": ["NONE", "ACTIVE"], "scp": ["fails", ""], "progress": ["idle", "finished"]},
            ["create", "scp", *WHOLE[1:]],
        ),
        # Preempted.
        (
            {
                "list": ["NONE", "ACTIVE", "ACTIVE", "SUSPENDED", "NONE", "ACTIVE"],
                "progress": ["ended 143", "finished"],
            },
            [*WHOLE, "delete", *WHOLE],
        ),
        # The end of an earlier start.
        ({"list": ["ACTIVE"], "progress": ["ended 2", "running", "finished"]}, WHOLE[1:]),
    ],
)
def test_a_run_is_kept_up_by_what_is_missing_and_no_more(tmp_path, replies, calls):
    assert keep(tmp_path, **replies)[:2] == (0, calls)


@pytest.mark.parametrize("end", ["ended 1", "ended 2", "ended 3"])
def test_a_run_that_would_end_again_is_not_waited_for(tmp_path, end):
    status, calls, said = keep(tmp_path, list=["NONE", "ACTIVE"], progress=[end])
    assert (status, calls) == (2, WHOLE) and f"the run has {end}" in said


@pytest.mark.parametrize(
    ("tmux", "log", "answer"),
    [
        (0, "tpu_host.sh: status 1", "running"),  # between two attempts
        (1, "tpu_host.sh: status 3", "ended 3"),
        (1, "dfx: train: 100/200", "idle"),  # the machine was started anew
        (1, "", "idle"),
    ],
)
def test_a_host_says_how_far_its_run_is(tmp_path, tmux, log, answer):
    keep(tmp_path, list=["ACTIVE"])
    question = (tmp_path / "asked").read_text().partition("--command=")[2]
    (tmp_path / "dfx.log").write_text(f"tpu_host.sh: status 2\n{log}\n" if log else "")
    (tmp_path / "tmux").write_text(f"#!/bin/sh\nexit {tmux}\n")
    (tmp_path / "tmux").chmod(0o755)
    path = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    assert subprocess.check_output(question, shell=True, cwd=tmp_path, env=path, text=True) == (
        f"{answer}\n"
    )


@pytest.mark.parametrize(
    ("statuses", "end", "starts"),
    [("134 1 0", 0, 3), ("2", 2, 1), ("3", 3, 1), ("1 143", 143, 2), ("1", 1, 4)],
)
def test_a_host_starts_again_what_the_death_of_another_has_ended(tmp_path, statuses, end, starts):
    """A stand-in for Python ends with one status after the other, and with the last for ever."""
    fake = tmp_path / "python"
    fake.write_text(f"""#!/usr/bin/env bash
echo "$@" >> {tmp_path}/calls
number=$(wc -l < {tmp_path}/calls)
set -- {statuses}
shift $((number > $# ? $# - 1 : number - 1))
exit "$1"
""")
    fake.chmod(0o755)
    own = {"PYTHON": str(fake), "LOG": str(tmp_path / "log"), "ATTEMPTS": "4", "PAUSE": "0"}
    command = ["bash", str(SCRIPTS / "tpu_host.sh"), "images:mnist", "--workdir=a b"]
    assert subprocess.run(command, env=os.environ | own, check=False).returncode == end
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls == ["-m experiments.cli run images:mnist --workdir=a b --processes=auto"] * starts
    assert (tmp_path / "log").read_text().count("attempt") == starts
