"""Shared fixtures."""

import os

from experiments import compiled

# The suite compiles thousands of small programs and runs each once. Before JAX is imported.
os.environ["XLA_FLAGS"] = " ".join(
    [os.environ.get("XLA_FLAGS", ""), "--xla_backend_optimization_level=0", compiled.HASTY_FLAG]
)

import jax
import pytest


@pytest.fixture
def x64():
    """Run a whole test in float64."""
    with jax.enable_x64(True):
        yield
