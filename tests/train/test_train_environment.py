"""What is asked of the C library, on a stand-in for it: the real one keeps what it was told."""

import ctypes
import sys
from types import SimpleNamespace

import pytest

from dfx import train


@pytest.fixture
def library(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")

    def install(**functions):
        monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace(**functions))

    return install


def test_freed_memory_is_kept_when_the_library_takes_every_setting(library):
    asked = {}
    library(mallopt=lambda name, value: asked.update({name: value}) or 1)
    assert train.keep_freed_memory()
    # <malloc.h>: M_TRIM_THRESHOLD = -1, M_MMAP_MAX = -4, M_ARENA_MAX = -8
    assert asked == {-4: 0, -1: 2**31 - 1, -8: 1}


def test_freed_memory_is_not_kept_when_a_setting_is_refused_or_there_is_no_glibc(library):
    library(mallopt=lambda name, value: int(name != -8))
    assert not train.keep_freed_memory()
    library()
    assert not train.keep_freed_memory()
