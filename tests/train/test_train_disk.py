"""A disk that cannot be written: one line, and what was whole stays."""

import errno
import os
import resource
import shutil
from pathlib import Path
from types import SimpleNamespace

import jax
import pytest
import train_toys as toys

from dfx import train
from dfx.train import disk

KEY = jax.random.key(0)


def tree(step):
    """Noise, which does not compress."""
    return {"w": jax.random.normal(jax.random.fold_in(KEY, step), (200, 500))}


@pytest.fixture
def saved(tmp_path):
    checkpoints = train.Checkpoints(tmp_path / "checkpoints", "hash", warn=pytest.fail)
    checkpoints.save(1, tree(1))
    checkpoints.wait()
    return checkpoints


def refused_save(checkpoints):
    """Try to save step 2 and return the line that says why not."""

    def save():
        checkpoints.save(2, tree(2))
        checkpoints.wait()

    with pytest.raises(train.NotSaved) as raised:
        save()
    again = train.Checkpoints(checkpoints.folder, "hash", warn=lambda line: None)
    toys.assert_same_bits(again.restore(tree(0)), tree(1))
    return str(raised.value)


def test_write_that_fails_is_one_line_and_the_checkpoint_before_stays(saved):
    """The system takes no file over 100 kB, as a full quota would, half-way through the save."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        line = refused_save(saved)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert line == (
        f"checkpoint 2 could not be written in {saved.folder}: {os.strerror(errno.EFBIG)}; step 1 "
        "is the last good one. Make room, and the same command goes on from there"
    )
    again = train.Checkpoints(saved.folder, "hash", warn=lambda line: None)
    again.save(2, tree(2))
    assert again.steps() == [1, 2]


def test_full_disk_is_seen_before_anything_is_written(saved, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=399_999))
    assert os.strerror(errno.ENOSPC) in refused_save(saved)
    assert [path.name for path in saved.folder.iterdir()] == ["1"]


def test_what_is_half_written_is_removed_when_the_disk_is_to_blame(tmp_path):
    cleared = []

    def fail(error):
        with disk.writing("it", tmp_path, lambda: cleared.append(error)):
            raise error

    full, wrong = OSError(errno.ENOSPC, "full"), KeyError("no")
    wrapped = ValueError("no")
    wrapped.__cause__ = OSError(errno.EDQUOT, "quota")
    with pytest.raises(train.NotSaved, match="it could not be written"):
        fail(full)
    with pytest.raises(train.NotSaved, match=os.strerror(errno.EDQUOT)):
        fail(wrapped)
    with pytest.raises(KeyError):
        fail(wrong)
    assert cleared == [full, wrapped]


def test_mistakes_of_the_code_are_not_put_on_the_disk(saved, monkeypatch):
    def save(*_, **__):
        raise ValueError("not about files")

    monkeypatch.setattr(saved._manager(), "save", save)
    with pytest.raises(ValueError, match="not about files"):
        saved.save(2, tree(2))


def fit(folder):
    optimizer = train.optimizer(1e-2)
    step, chunks = train.make_step(toys.loss, optimizer), []
    with pytest.raises(train.NotSaved) as raised:
        train.fit(
            step, toys.state(optimizer), toys.batch_fn, 20, 10, lambda *c: chunks.append(c),
            data=toys.regression(), checkpoints=train.Checkpoints(folder, "hash"),
        )  # fmt: skip
    assert chunks == []
    return str(raised.value)


def test_folder_that_cannot_be_written_ends_the_run_before_its_first_step(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    line = fit(tmp_path / "file" / "checkpoints")
    assert f"file/checkpoints: {os.strerror(errno.ENOTDIR)}; there is none before it" in line

    def write(*_):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "write_bytes", write)
    assert os.strerror(errno.EROFS) in fit(tmp_path / "checkpoints")
