"""Shared fixtures."""

import os
from pathlib import Path

from experiments import compiled

# The suite compiles thousands of small programs and runs each once. Before JAX is imported.
os.environ["XLA_FLAGS"] = " ".join(
    [os.environ.get("XLA_FLAGS", ""), "--xla_backend_optimization_level=0", compiled.HASTY_FLAG]
)

import jax
import pytest

#: Compiled programs are areas of memory, of which Linux gives a process 65,530; a compilation
#: beyond ends it.
MOST_AREAS = 40_000


def pytest_collection_modifyitems(items):
    """Files with slow tests come first: a file stays in one process, and at the end no other should
    wait for it."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="module", autouse=True)
def _room_for_programs():
    """Let go of all compiled programs after a file that leaves too many."""
    yield
    areas = Path("/proc/self/maps")
    if areas.exists() and areas.read_bytes().count(b"\n") > MOST_AREAS:
        jax.clear_caches()


@pytest.fixture
def x64():
    """Run a whole test in float64."""
    with jax.enable_x64(True):
        yield
