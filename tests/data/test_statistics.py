"""Reference statistics of features."""

import pickle

import numpy as np
import pytest

from dfx import data

MEAN, COVARIANCE = np.arange(3.0), np.diag([1.0, 2.0, 3.0])


@pytest.fixture
def path(tmp_path):
    np.savez(tmp_path / "fid.npz", mu=MEAN, sigma=COVARIANCE.astype(np.float32), other=1)
    return tmp_path / "fid.npz"


def message(path):
    with pytest.raises(data.DataError) as caught:
        data.read_statistics(path)
    assert "\n" not in str(caught.value) and str(caught.value).startswith(str(path))
    return str(caught.value)


def test_mean_and_covariance_are_read_in_double_precision(path):
    mean, covariance = data.read_statistics(path)
    np.testing.assert_array_equal(mean, MEAN)
    np.testing.assert_array_equal(covariance, COVARIANCE)
    assert mean.dtype == covariance.dtype == np.float64


@pytest.mark.parametrize("cut", [1, 30, 600])
def test_a_torn_file_is_named(path, cut):
    path.write_bytes(path.read_bytes()[:-cut])
    assert "no statistics" in message(path)


def test_a_flipped_byte_is_noticed(path):
    raw = bytearray(path.read_bytes())
    raw[raw.index(MEAN.tobytes()) + 6] ^= 1
    path.write_bytes(raw)
    assert "no statistics" in message(path)


def test_a_pickle_is_refused_unread(tmp_path):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("a pickle was loaded",))

    path = tmp_path / "fid.pkl"
    path.write_bytes(pickle.dumps(Trap()))
    assert "no statistics" in message(path)
    np.savez(path.with_suffix(".npz"), mu=np.array([None], object), sigma=COVARIANCE)
    assert "which is a pickle: refused" in message(path.with_suffix(".npz"))


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ({"mean": MEAN}, "allowed: .npz with mu and sigma"),
        ({"mu": MEAN, "sigma": np.eye(2)}, "mu is (3,), sigma is (2, 2)"),
        ({"mu": MEAN, "sigma": -COVARIANCE}, "sigma is no covariance, allowed: symmetric, with no"),
        ({"mu": MEAN, "sigma": COVARIANCE + np.eye(3, k=1)}, "sigma is no covariance"),
        ({"mu": MEAN * np.nan, "sigma": COVARIANCE}, "not finite"),
    ],
)
def test_what_is_no_mean_and_covariance_is_named(path, entries, expected):
    np.savez(path, **entries)
    assert expected in message(path)


def test_a_covariance_that_is_one_up_to_rounding_is_read(path):
    np.savez(path, mu=MEAN, sigma=np.diag([-1e-9, 0, 1]) + 1e-6 * np.eye(3, k=1))
    assert data.read_statistics(path)[1][0, 1] == 1e-6


def test_a_missing_file_is_named(tmp_path):
    assert "cannot be read" in message(tmp_path / "gone.npz")
