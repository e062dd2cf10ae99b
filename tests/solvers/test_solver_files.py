"""Tableaus in files: what comes back is what was written, or one line says why not."""

import jax
import numpy as np
import pytest

from dfx import schedules, solvers
from dfx.errors import PersonError

GRID = np.linspace(1.0, 0.0, 6)


def with_its_point():
    """The denoiser, and the point where it was found."""
    r = solvers.Recorder()
    x = r.start
    x0 = r.at(x, schedules.VPLinear().at(0.5)).x0
    return r.tableau(x0, keep=(x,))


TABLEAUS = {
    "ddpm": solvers.ddpm(schedules.VPLinear(), GRID),
    "heun": solvers.heun(schedules.VPLinear(), GRID, churn=2.0, churn_max=50.0),
    "two answers": with_its_point(),
    "tokens": solvers.ddim(schedules.VPLinear(), np.stack([GRID, GRID**2], axis=1)[..., None]),
}


@pytest.mark.parametrize("name", TABLEAUS)
def test_a_tableau_comes_back_to_the_bit(name, tmp_path):
    solvers.save(tmp_path / "a.npz", TABLEAUS[name])
    found = solvers.load(tmp_path / "a.npz")
    assert jax.tree.structure(found) == jax.tree.structure(TABLEAUS[name])
    jax.tree.map(np.testing.assert_array_equal, found, TABLEAUS[name])
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


def test_a_damaged_file_is_one_line(tmp_path):
    path = tmp_path / "a.npz"
    with pytest.raises(PersonError, match="there is no file"):
        solvers.load(path)
    solvers.save(path, TABLEAUS["heun"])
    whole = path.read_bytes()
    for torn in (whole[:100], whole[:-30], b"", b"text"):
        path.write_bytes(torn)
        with pytest.raises(PersonError, match="damaged or holds no tableau"):
            solvers.load(path)
    np.savez(path, x=np.zeros(3))
    with pytest.raises(PersonError, match="holds no tableau"):
        solvers.load(path)
    np.savez(path, keep=np.asarray([{}], object))
    with pytest.raises(PersonError, match="holds no tableau"):
        solvers.load(path)
    with pytest.raises(PersonError, match=r"ends in \.npz"):
        solvers.save(tmp_path / "a.pkl", TABLEAUS["heun"])
    with pytest.raises(PersonError, match="there is no folder"):
        solvers.save(tmp_path / "missing" / "a.npz", TABLEAUS["heun"])
