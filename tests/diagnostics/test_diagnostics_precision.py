"""Products of matrices keep the digits of float32 on devices that round factors by default."""

import diagnostics_laws as law
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dfx import diagnostics, schedules
from dfx.diagnostics.directions import directions
from dfx.evolution import make_grid, moments

LEVEL = schedules.VPLinear(0.5, 4.0).at(0.4)
TURN = np.array([[0.0, 0.8], [-0.8, 0.0]], np.float32)
WAVES = diagnostics.fourier(jax.random.key(0), 2, 3)
GRID = make_grid([-1, -1], [1, 1], [4, 5])

CALLS = {
    "features": WAVES,
    "gradient": lambda x: diagnostics.project(WAVES, x, x)(x),
    "weak": lambda x: diagnostics.weak_gauge_test(WAVES, x, x).statistic,
    "linear": lambda x: diagnostics.split_linear(x[:2], np.eye(2, dtype=np.float32)),
    "rotated": lambda x: diagnostics.rotated(law.field, TURN)(x, LEVEL),
    "sketch": lambda x: directions(jnp.sin, x, jax.random.key(0), 3, "hutch++").vectors,
    "moments": lambda x: moments(GRID, jnp.ones(GRID.shape, jnp.float32) * x[0, 0]),
}


@pytest.mark.parametrize("name", CALLS)
def test_no_product_rounds_its_factors(name):
    program = str(jax.make_jaxpr(CALLS[name])(jnp.ones((8, 2), jnp.float32)))
    assert program.count("dot_general[") == program.count("precision=(Precision.HIGHEST") > 0
