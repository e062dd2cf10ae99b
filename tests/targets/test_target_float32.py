"""Float32 against float64 at the same inputs: t from 1e-5 to 1, up to 100 sd away, 1 to 1,000
modes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dfx.schedules import EDM, VE, Level, RectifiedLinear, VPLinear
from dfx.targets import Mixture, grid_2d, modes_1d, rotated_grid_2d

SCHEDULES = [VPLinear(), VE(), EDM(), RectifiedLinear()]
TIMES = [1e-5, 1e-4, 1e-3, 1e-2, 0.03, 0.1, 0.3, 0.7, 1.0]
RNG = np.random.default_rng(0)
TURN = 2 * np.pi * np.arange(1000) / 1000
MIXTURES = {
    "one mode": Mixture.isotropic([[0.3, -0.7]], 0.05),
    "three modes": modes_1d(),
    "a thousand in a row": modes_1d(np.arange(1000.0)),
    "the paper's grid": grid_2d(),
    "the paper's turned grid": rotated_grid_2d(),
    "far from the origin": Mixture.isotropic(grid_2d(standardise=False).means + 100, 0.1),
    "a thousand on a circle": Mixture.isotropic(np.stack([np.cos(TURN), np.sin(TURN)], 1), 0.01),
    "a thousand anywhere": Mixture.isotropic(RNG.uniform(-2, 2, (1000, 2)), 0.01),
    "unequal": Mixture.isotropic(RNG.normal(size=(30, 5)), RNG.uniform(0.01, 0.3, 30)),
    "diagonal": Mixture.diagonal(RNG.normal(size=(30, 2)), RNG.uniform(1e-4, 0.1, (30, 2))),
}
FAST = ["the paper's grid", "a thousand on a circle", "unequal"]
NAMES = ["denoise", "score", "log_prob", "responsibilities", "posterior_covariance"]
#: The log of a share is rounded by a few eps (gap / 2)^2 / (2 v), 200 eps for neighbours 40 sd
#: apart as in the paper's grid. These quantities, and between modes the score, see that directly.
SHARES, TOLERANCE_OF_SHARES = ("responsibilities", "posterior_covariance"), 5e-5
mixtures = pytest.mark.parametrize(
    "name", [n if n in FAST else pytest.param(n, marks=pytest.mark.slow) for n in MIXTURES]
)


def levels(n=20):
    """n rows of each schedule at each time, entries (len, 1) in float32."""
    rows = [schedule.at(np.repeat(TIMES, n)) for schedule in SCHEDULES]
    return Level(*(np.float32(np.concatenate(entry))[:, None] for entry in zip(*rows)))


def width(mixture, level):
    """The largest standard deviation of a mode of x_t, shape (n, 1)."""
    spectrum = 0 if mixture.spectrum is None else mixture.spectrum
    largest = np.max(np.reshape(mixture.variance, (-1, 1)) + spectrum)
    return np.sqrt(level.alpha**2 * largest + level.sigma**2)


def directions(rng, n, d):
    v = rng.normal(size=(n, d))
    return v / np.linalg.norm(v, axis=1, keepdims=True)


def around(mixture, level):
    """Points at 0 to 100 widths from a mode, half of them within 4."""
    n, rng = len(level.t), np.random.default_rng(1)
    reach = np.where(rng.random((n, 1)) < 0.5, 4, 100) * rng.random((n, 1))
    modes = mixture.means[rng.integers(mixture.num_components, size=n)]
    return level.alpha * modes + reach * width(mixture, level) * directions(rng, n, mixture.dim)


def between(mixture, level):
    """Points halfway between neighbours, give or take 1e-6 to 1 widths."""
    n, rng = len(level.t), np.random.default_rng(1)
    first = rng.integers(mixture.num_components, size=n)
    distance = np.linalg.norm(mixture.means[first][:, None] - mixture.means, axis=-1)
    distance[np.arange(n), first] = np.inf
    middle = (mixture.means[first] + mixture.means[distance.argmin(1)]) / 2
    reach = 10.0 ** rng.uniform(-6, 0, (n, 1))
    return level.alpha * middle + reach * width(mixture, level) * directions(rng, n, mixture.dim)


@jax.jit
def compiled(mixture, x, level):
    return {name: getattr(mixture, name)(x, level) for name in NAMES}


def call(mixture, x, level, dtype):
    """The values in `dtype` at inputs that float32 holds: what is compared is the arithmetic."""
    with jax.enable_x64(dtype == np.float64):
        rounded = jax.tree.map(lambda a: np.asarray(a, np.float32), (mixture, x, level))
        out = compiled(*jax.tree.map(lambda a: a.astype(dtype), rounded))
        assert all(a.dtype == dtype for a in out.values())
        return jax.tree.map(lambda a: np.asarray(a, np.float64), out)


def errors(mixture, x, level):
    """Norms of the errors over norms of the truth, plus a scale where the truth may cross zero.

    The scale is the posterior standard deviation for the denoiser, that over sigma^2 / alpha for
    the score, and the dimension for the log density.
    """
    got, truth = (call(mixture, x, level, dtype) for dtype in (np.float32, np.float64))
    spread = np.sqrt(np.trace(truth["posterior_covariance"], axis1=1, axis2=2))
    alpha, sigma = (np.asarray(a, np.float64)[:, 0] for a in (level.alpha, level.sigma))
    scales = dict(zip(NAMES, (spread, alpha * spread / sigma**2, mixture.dim, 0.0, 0.0)))
    norm = lambda a: np.linalg.norm(a.reshape(len(x), -1), axis=1)  # noqa: E731
    return {k: norm(got[k] - truth[k]) / (norm(truth[k]) + scales[k]) for k in NAMES}


@pytest.mark.slow
@mixtures
def test_oracles_are_right_to_1e_5_up_to_100_sd_away(name):
    mixture, level = MIXTURES[name], levels()
    for quantity, error in errors(mixture, around(mixture, level), level).items():
        tolerance = TOLERANCE_OF_SHARES if quantity in SHARES else 1e-5
        assert np.isfinite(error).all() and error.max() < tolerance, (quantity, error.max())


@mixtures
def test_oracles_are_right_halfway_between_modes(name):
    mixture, level = MIXTURES[name], levels()
    if mixture.num_components == 1:
        pytest.skip("one mode has no neighbour")
    for quantity, error in errors(mixture, between(mixture, level), level).items():
        tolerance = 1e-5 if quantity in ("denoise", "log_prob") else TOLERANCE_OF_SHARES
        assert np.isfinite(error).all() and error.max() < tolerance, (quantity, error.max())


def test_parameters_keep_the_digits_that_float32_has_not():
    # A float32 near 1000 is off by up to 3e-5, which would change the odds by 3e-5 / 0.05^2 = 1 %.
    means, std = np.array([[1000.1], [1001.1]]), 0.05
    mixture, level = Mixture.isotropic(means, std), VPLinear().at(0.001)
    x = np.float32(level.alpha * means.mean() + np.array([[-2e-3], [0.0], [1e-3]]))
    with jax.enable_x64(True):
        truth = mixture.responsibilities(jnp.asarray(x, jnp.float64), level)
    share = mixture.responsibilities(jnp.asarray(x), level)
    assert share.dtype == jnp.float32
    np.testing.assert_allclose(share, truth, rtol=1e-5)


def test_rotated_covariances_lose_only_the_ratio_of_their_axes():
    # Axes 30 : 1 apart; a rotation rounds by eps |x|, which the short axis sees 30 times larger.
    rng = np.random.default_rng(1)
    turn, _ = np.linalg.qr(rng.normal(size=(5, 5)))
    spectrum = np.array([1.0, 0.5, 0.1, 0.01, 0.001])
    mixture = Mixture.full(rng.normal(size=(6, 5)), [turn @ np.diag(spectrum) @ turn.T])
    level = levels()
    for quantity, error in errors(mixture, around(mixture, level), level).items():
        assert np.isfinite(error).all() and np.quantile(error, 0.99) < 3e-5, (quantity, error.max())
