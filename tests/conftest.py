"""Shared fixtures."""

import os

from experiments import compiled

# The suite compiles thousands of small programs and runs each once. Before JAX is imported.
os.environ["XLA_FLAGS"] = " ".join(
    [os.environ.get("XLA_FLAGS", ""), "--xla_backend_optimization_level=0", compiled.HASTY_FLAG]
)

import jax
import pytest


def pytest_collection_modifyitems(items):
    """Files with slow tests come first: a file stays in one process, and at the end no other should
    wait for it."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture
def x64():
    """Run a whole test in float64."""
    with jax.enable_x64(True):
        yield
