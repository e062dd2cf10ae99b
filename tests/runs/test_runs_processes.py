"""One run folder, several processes: threads stand in for them, a barrier for what they send."""

import threading

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from dfx.errors import PersonError, Stopped
from dfx.runs import opening, processes, read_run, say
from dfx.runs.shared import SharedRun

CONFIG = ConfigDict({"seed": 0})
MINE = threading.local()


@pytest.fixture
def each(monkeypatch):
    """Run a function of the index in three "processes"; return what each gave or raised."""
    barrier, told = threading.Barrier(3), [None] * 3

    def tell(message):
        told[MINE.index] = message
        barrier.wait()
        heard = list(told)
        barrier.wait()
        return heard

    def run(work):
        ends = [None] * 3

        def one(index):
            MINE.index = index
            try:
                ends[index] = work(index)
            except Exception as error:
                ends[index] = error

        threads = [threading.Thread(target=one, args=(i,)) for i in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
        assert not barrier.broken and not any(thread.is_alive() for thread in threads)
        return ends

    monkeypatch.setattr(processes, "several", lambda: True)
    monkeypatch.setattr(opening, "several", lambda: True)
    monkeypatch.setattr(processes, "_tell", tell)
    monkeypatch.setattr(jax, "process_index", lambda: MINE.index)
    return run


def raiser(error):
    raise error


def opened(folder, config=CONFIG):
    return opening.open_run(folder, config, "fake", "smoke", start={"time": "now"})


def test_what_one_raises_all_raise(each):
    assert each(lambda i: processes.together(lambda: i)) == [0, 1, 2]
    for guilty, given, kind, line in (
        (0, PersonError("no such file"), PersonError, "no such file"),
        (2, PersonError("no such file"), PersonError, "process 2: no such file"),
        (1, Stopped("the disk is full"), Stopped, "process 1: the disk is full"),
        (1, KeyError("x" * 10_000), processes.OtherFailed, "process 1: KeyError: 'xxx"),
    ):
        ends = each(
            lambda i: processes.together(lambda: raiser(given) if i == guilty else i)  # noqa: B023
        )
        assert ends[guilty] is given
        for end in (end for end in ends if end is not given):
            assert type(end) is kind and str(end).startswith(line)


def test_the_first_decides_for_all(each):
    for value in (True, False, 3, "text", None):
        assert each(lambda i: processes.by_first(lambda: value)) == [value] * 3  # noqa: B023
    done = []
    each(lambda i: processes.by_first(lambda: done.append(i)))
    assert done == [0]


def test_arrays_are_the_firsts_in_all_and_are_computed_by_all_or_by_none(each, tmp_path):
    computed = []

    def study(index):
        with opened(tmp_path / "r") as run:
            assert type(run) is SharedRun

            def compute():
                computed.append(index)
                return {"x": np.full(3, index)}

            first = run.arrays("a", compute)["x"]
            again = run.arrays("a", compute)["x"]
            run.log("train", 1, loss=index + 0.5)
            assert not run.finished
            run.finish()
            assert run.finished
            return first.tolist() + again.tolist()

    assert each(study) == [[0] * 6] * 3
    assert sorted(computed) == [0, 1, 2]
    record = read_run(tmp_path / "r")
    assert record.finished and record.names() == ["a"] and len(record.provenance["starts"]) == 1
    assert (tmp_path / "r" / "metrics.jsonl").read_text().count("\n") == 1
    np.testing.assert_array_equal(record.metrics("train")["loss"], [0.5])


def test_all_have_to_see_the_folder_and_the_same_config(each, tmp_path, monkeypatch):
    ends = each(lambda i: opened(tmp_path / f"disk{max(i - 1, 0)}" / "r"))
    assert all(type(end) is PersonError for end in ends)
    assert "process 2: " in str(ends[0]) and "is not seen here" in str(ends[0])
    ends = each(lambda i: opened(tmp_path / "r", ConfigDict({"seed": i // 2})))
    assert all(type(end) is PersonError for end in ends)
    assert str(ends[0]) == "process 2: config.seed is 0 in process 0 and 1 here"
    monkeypatch.setattr(opening, "several", lambda: False)
    opened(tmp_path / "r").close()  # the lock was given back


def test_only_the_first_speaks(each, capsys):
    each(lambda i: say(f"process {i}"))
    assert capsys.readouterr().err == "dfx: process 0\n"


def test_a_single_process_has_joined_nobody():
    assert not processes.several() and processes.is_first()
    assert processes.leave(3) == 3
