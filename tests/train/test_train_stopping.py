"""SIGTERM while a run has somewhere to save."""

import os
import signal
import threading

import pytest
import train_toys as toys

from dfx import train

OPTIMIZER = train.optimizer(0.05)
STEP = train.make_step(toys.loss, OPTIMIZER)


class Ended(BaseException):
    """What the process's own handler does."""


@pytest.fixture
def ends():
    """A process that ends by an exception on SIGTERM."""

    def end(*_):
        raise Ended

    before = signal.signal(signal.SIGTERM, end)
    yield end
    assert signal.getsignal(signal.SIGTERM) in (end, signal.SIG_IGN, signal.SIG_DFL, keep_on)
    signal.signal(signal.SIGTERM, before)


def keep_on(*_):
    """A handler that returns."""


def term_at(step, times=1):
    def on_chunk(state, metrics, done):
        for _ in range(times if done == step else 0):
            os.kill(os.getpid(), signal.SIGTERM)

    return on_chunk


def fit(folder, on_chunk=None, state=None, num_steps=50):
    checkpoints = None if folder is None else train.Checkpoints(folder, "hash")
    state = toys.state(OPTIMIZER) if state is None else state
    settings = {"data": toys.regression(), "checkpoints": checkpoints, "save_every": 1000}
    return train.fit(STEP, state, toys.batch_fn, num_steps, 10, on_chunk, **settings)


def test_chunk_is_saved_the_process_ends_as_it_would_have_and_resumes_to_the_same_bits(
    tmp_path, ends
):
    whole = fit(None)
    with pytest.raises(Ended):
        fit(tmp_path, term_at(20))
    assert signal.getsignal(signal.SIGTERM) is ends
    checkpoints = train.Checkpoints(tmp_path, "hash")
    assert checkpoints.steps() == [20]
    restored = checkpoints.restore(toys.state(OPTIMIZER))
    toys.assert_same_bits(fit(tmp_path, state=restored), whole)


def test_second_signal_does_not_wait(tmp_path, ends):
    with pytest.raises(Ended):
        fit(tmp_path, term_at(20, times=2))
    assert train.Checkpoints(tmp_path, "hash").steps() == []


def test_signal_in_the_last_chunk_ends_the_process_when_all_is_saved(tmp_path, ends):
    with pytest.raises(Ended):
        fit(tmp_path, term_at(50))
    assert train.Checkpoints(tmp_path, "hash").steps() == [50]


@pytest.mark.parametrize("step", [20, 50])
def test_signal_during_a_save_is_heard_after_the_next_chunk_or_at_the_end(tmp_path, ends, step):
    class Checkpoints(train.Checkpoints):
        def save(self, done, state):
            super().save(done, state)
            term_at(step)(state, None, done)

    checkpoints, state = Checkpoints(tmp_path, "hash"), toys.state(OPTIMIZER)
    settings = {"data": toys.regression(), "checkpoints": checkpoints, "save_every": 20}
    with pytest.raises(Ended):
        train.fit(STEP, state, toys.batch_fn, 50, 10, **settings)
    assert checkpoints.latest() == min(step + 10, 50)


def test_run_ends_with_one_line_where_the_handler_returns(tmp_path, ends):
    signal.signal(signal.SIGTERM, keep_on)
    with pytest.raises(train.Preempted, match="step 20 is saved in") as raised:
        fit(tmp_path, term_at(20))
    assert "\n" not in str(raised.value)


def test_signal_is_left_alone_without_checkpoints_where_ignored_and_in_threads(tmp_path, ends):
    with pytest.raises(Ended):
        fit(None, term_at(20))
    inside = []
    thread = threading.Thread(
        target=fit,
        args=(tmp_path / "thread", lambda *_: inside.append(signal.getsignal(signal.SIGTERM))),
    )
    thread.start()
    thread.join()
    assert inside == [ends] * 5
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    fit(tmp_path / "ignored", term_at(20))
    assert train.Checkpoints(tmp_path / "ignored", "hash").steps() == [50]
