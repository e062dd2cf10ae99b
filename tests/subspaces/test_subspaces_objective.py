"""The loss of the low-rank denoiser: closed form, and its equality with PCA and K-subspaces."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dfx import losses, nets, schedules, subspaces
from dfx.errors import PersonError

pytestmark = pytest.mark.usefixtures("x64")

VP = schedules.VPLinear()
SCHEDULES = {
    "vp": VP,
    "ve": schedules.VE(),
    "sub_vp": schedules.SubVP(),
    "linear": schedules.RectifiedLinear(),
}
KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
BASES = np.linalg.qr(RNG.normal(size=(2, 8, 3)))[0] * np.array([[[1, 1, 0]], [[1, 1, 1]]])
POINTS = np.einsum("kir,nr->nki", BASES, RNG.normal(size=(3, 3))).reshape(6, 8)
POINTS = POINTS + 0.3 * RNG.normal(size=(6, 8))
NET = nets.low_rank(8, (2, 3))


@jax.jit
def measured(level, key):
    """Squared errors of the net with labels of the clean points, at 4,000 noises: (noises, n)."""
    eps = jax.random.normal(key, (4000, *POINTS.shape), POINTS.dtype)
    labels = subspaces.assign(BASES, POINTS)

    def one(eps):
        t = jnp.broadcast_to(nets.alpha_sigma(level), (len(POINTS), 2))
        x = level.alpha * POINTS + level.sigma * eps
        guess = NET.apply({"bases": BASES}, x, t, labels)
        return ((guess - POINTS) ** 2).sum(1)

    return jax.lax.map(one, eps, batch_size=500)


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_closed_form_is_the_mean_over_the_noise(name):
    level = SCHEDULES[name].at(0.4)
    errors = np.asarray(measured(level, jax.random.key(1)))
    exact = subspaces.expected_loss(subspaces.coefficients_at(level), BASES, POINTS)
    # Four standard errors over 24 means: a chance of 2e-3, at a fixed key.
    assert (np.abs(errors.mean(0) - exact) < 4 * errors.std(0) / np.sqrt(len(errors))).all()


def test_the_coefficients_of_a_loss_are_sums_over_its_levels():
    times, weights = np.array([0.2, 0.5, 0.9]), np.array([0.3, 2.0, 0.7])
    for schedule in SCHEDULES.values():
        whole = subspaces.coefficients(schedule, times, weights)
        assert min(whole) > 0
        parts = [subspaces.coefficients_at(schedule.at(t)) for t in times]
        each = [subspaces.expected_loss(part, BASES, POINTS) for part in parts]
        loss = subspaces.expected_loss(whole, BASES, POINTS)
        np.testing.assert_allclose(loss, weights @ np.array(each), rtol=1e-12)
    mean = subspaces.coefficients(VP, times)
    np.testing.assert_allclose(mean, np.mean(parts_of(VP, times), 0), rtol=1e-12)


def parts_of(schedule, times):
    return [subspaces.coefficients_at(schedule.at(t)) for t in times]


def test_with_hard_weights_the_loss_is_k_subspaces_up_to_positive_constants():
    """Theorem 3: loss + gain * kept is one constant over 20 candidates, on every schedule."""
    x = POINTS
    candidates = np.linalg.qr(RNG.normal(size=(20, 2, 8, 2)))[0]
    kept = np.array([subspaces.kept(u, x) for u in candidates])
    for schedule in SCHEDULES.values():
        c = subspaces.coefficients(schedule, [0.1, 0.6], [1.0, 3.0])
        loss = np.array([subspaces.expected_loss(c, u, x).sum() for u in candidates])
        constant = c.total * float((x**2).sum()) + c.floor * 2 * len(x)
        np.testing.assert_allclose(loss + c.gain * kept, constant, rtol=1e-12)


def test_one_subspace_is_pca_for_every_schedule_and_weighting():
    """Theorem 1: the gradient of the loss by the net's parameters vanishes at the principal
    subspace, and is along the spanned plane nowhere; every other subspace tried costs more."""
    basis, energy = subspaces.principal_subspace(POINTS, 2)
    truth = np.linalg.svd(np.asarray(POINTS))[2][:2].T
    assert subspaces.projection_distance(basis, truth) < 1e-12
    np.testing.assert_allclose(energy, subspaces.kept(basis[None], POINTS), rtol=1e-12)

    def loss(w, c):
        return subspaces.expected_loss(c, jnp.linalg.qr(w)[0][None], POINTS).sum()

    slope = jax.jit(jax.value_and_grad(loss))
    others = np.random.default_rng(0).normal(size=(5, 8, 2))
    for schedule in SCHEDULES.values():
        for weights in ([1.0, 1.0], [0.1, 9.0]):
            c = subspaces.coefficients(schedule, [0.1, 0.6], weights)
            least, gradient = slope(basis, tuple(c))
            assert np.abs(gradient).max() < 1e-10 * c.gain * energy
            assert all(slope(w, tuple(c))[0] > least for w in others)


def test_the_training_loss_of_the_net_has_the_closed_form_as_its_mean():
    """Through `losses.denoising`, one time, labels of the clean points as cond."""
    fixed = lambda key, n, dtype: jnp.full(n, 0.4, dtype)  # noqa: E731
    loss = losses.denoising(NET, VP, "x0", time=nets.alpha_sigma, time_sampler=fixed)
    labels = subspaces.assign(BASES, POINTS)
    draw = jax.jit(jax.vmap(lambda key: loss({"bases": BASES}, key, POINTS, labels)[0]))
    values = np.asarray(draw(jax.random.split(KEY, 2000))) * 8  # a mean over 8 coordinates
    exact = subspaces.expected_loss(subspaces.coefficients_at(VP.at(0.4)), BASES, POINTS).mean()
    assert abs(values.mean() - exact) < 4 * values.std() / np.sqrt(len(values))


@jax.jit
def soft_and_hard(bases, x, x0, level):
    """Squared errors with weights of the noisy points and with labels of the clean ones."""
    net, t = nets.low_rank(48, (7, 7)), jnp.broadcast_to(nets.alpha_sigma(level), (len(x), 2))
    guesses = (net.apply({"bases": bases}, x, t, cond) for cond in (None, jnp.arange(len(x)) % 2))
    return jnp.stack([((guess - x0) ** 2).sum(1) for guess in guesses])


def test_labels_of_clean_points_hide_a_sixth_of_the_loss_where_noise_is_as_large_as_data():
    """Two subspaces of 7 dimensions in 48: at sigma = 1 the loss is 4.06, with true labels 3.50.

    True labels give d sigma^2 / (1 + sigma^2) exactly; at sigma = 0.1 both do. Four standard
    errors of 2,000 points, and 0.04 for the digits and the own error of the number 4.06.
    """
    rng = np.random.default_rng(4)
    bases = np.linalg.qr(rng.normal(size=(48, 14)))[0].reshape(48, 2, 7).swapaxes(0, 1)
    x0 = np.einsum("kir,nr->nki", bases, rng.normal(size=(1000, 7))).reshape(2000, 48)
    noise = rng.normal(size=x0.shape)
    for sigma, expected in ((0.1, 0.0693), (1.0, 4.06)):
        level = schedules.EDM().at(sigma)
        soft, hard = np.asarray(soft_and_hard(bases, x0 + sigma * noise, x0, level))
        exact = 7 * sigma**2 / (1 + sigma**2)
        closed = subspaces.expected_loss(subspaces.coefficients_at(level), bases, x0)
        four = 4 * np.array([soft.std(), hard.std()]) / np.sqrt(2000)
        assert abs(hard.mean() - exact) < four[1] and abs(hard.mean() - closed.mean()) < four[1]
        assert abs(soft.mean() - expected) < four[0] + 0.04 * (sigma == 1)


def test_masks_and_labels_choose_what_is_kept():
    each = np.asarray(subspaces.energies(BASES, POINTS))
    np.testing.assert_allclose(each, [[(u.T @ x) @ (u.T @ x) for u in BASES] for x in POINTS])
    labels, mask = np.array([0, 1, 1, 0, 0, 1]), np.array([True, True, False, True, False, True])
    mine = each[np.arange(6), labels]
    np.testing.assert_allclose(subspaces.kept(BASES, POINTS, labels, mask), mine[mask].sum())
    np.testing.assert_allclose(subspaces.kept(BASES, POINTS), each.max(1).sum())


def test_weights_must_be_positive_and_one_for_each_time():
    for weights in ([1.0], [1.0, -1.0]):
        with pytest.raises(PersonError, match="weights"):
            subspaces.coefficients(VP, [0.1, 0.2], weights)
