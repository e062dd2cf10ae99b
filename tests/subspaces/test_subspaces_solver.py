"""K-subspaces: the transitions at N = d and N_k = d + 1, masks, starts, and what it maximises."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dfx import subspaces, targets
from dfx.errors import PersonError
from dfx.subspaces import solver

N = 48
KEY = jax.random.key(0)


def data(key, dims, num):
    """Random orthogonal subspaces and points of them in turn."""
    key_bases, key_points = jax.random.split(key)
    bases = targets.random_bases(key_bases, N, dims)
    return bases, targets.union_of_subspaces(bases).sample(key_points, num, balanced=True)


@functools.partial(jax.jit, static_argnums=(1, 2))
def pca_errors(key, d, trials):
    """Projection distances of PCA from N = 1 .. d + 2 points, shape (trials, d + 2)."""
    masks = jnp.arange(d + 2) < jnp.arange(1, d + 3)[:, None]

    def one(key):
        bases, x = data(key, (d,), d + 2)
        fit = lambda mask: subspaces.principal_subspace(x, d, mask)[0]  # noqa: E731
        return jax.vmap(lambda mask: subspaces.projection_distance(fit(mask), bases[0]))(masks)

    return jax.vmap(one)(jax.random.split(key, trials))


@pytest.mark.slow
def test_pca_finds_a_subspace_from_d_points_and_never_from_fewer():
    """With N < d points the distance is sqrt(2 (d - N)) less the chance overlap of d - N free
    directions with d - N missing ones in n - N dimensions: (d - N)^2 / (n - N) in the mean."""
    d, trials = 6, 30
    errors = np.asarray(pca_errors(KEY, d, trials), np.float64)
    assert (errors[:, : d - 1] > 1).all() and (errors[:, d - 1 :] < 0.01).all()
    missing = d - np.arange(1, d)
    squares = errors[:, : d - 1] ** 2
    exact = 2 * missing * (1 - missing / (N - np.arange(1, d)))
    assert (squares <= 2 * missing * (1 + 1e-5)).all()
    # The free directions are what the LAPACK driver completes with, random against the truth.
    spread = squares.std(0) / np.sqrt(trials)
    assert (np.abs(squares.mean(0) - exact) < 4 * spread).all()


@functools.partial(jax.jit, static_argnums=(1, 2))
def recoveries(keys, d, restarts):
    """Recovered, share of the energy kept at N_k = d, d + 1, d + 2, for two orthogonal planes."""
    masks = jnp.arange(2 * d + 4) // 2 < jnp.arange(d, d + 3)[:, None]

    def one(key):
        bases, x = data(key, (d, d), 2 * d + 4)

        def fit(mask):
            found = subspaces.k_subspaces(key, x, (d, d), mask, restarts)
            share = found.objective / (x**2 * mask[:, None]).sum()
            return subspaces.recovery(found.bases, bases).recovered, share

        return jax.vmap(fit)(masks)

    return jax.vmap(one)(keys)


@pytest.mark.slow
def test_two_subspaces_need_one_point_more_than_their_dimension():
    """At N_k = d all energy is kept and yet the subspaces are wrong in most trials, since every
    split into d and d points keeps all; from d + 1 on they are found."""
    found, share = recoveries(jax.random.split(KEY, 12), 3, 20)
    found, share = np.asarray(found), np.asarray(share)
    assert (share[:, 0] > 1 - 1e-5).all() and found[:, 0].mean() < 0.7
    assert found[:, 2].mean() > 0.9
    np.testing.assert_array_equal(found[:, 1:], share[:, 1:] > 1 - 1e-5)


def planes(seed, dims, num, noise=0.0):
    """Float64 points of orthogonal subspaces in turn."""
    rng = np.random.default_rng(seed)
    frame = np.linalg.qr(rng.normal(size=(N, sum(dims))))[0]
    bases = np.split(frame, np.cumsum(dims)[:-1], axis=1)
    x = [u @ rng.normal(size=u.shape[1]) for _ in range(num) for u in bases]
    return bases, np.array(x) + noise * rng.normal(size=(num * len(dims), N))


@jax.jit
def solve(keys, x, mask, start):
    """Two problems of up to 12 points on two planes, side by side."""
    one = lambda key, x, mask: subspaces.k_subspaces(  # noqa: E731
        key, x, (2, 2), mask, 6, start=start
    )
    return jax.vmap(one)(keys, x, mask)


@pytest.mark.usefixtures("x64")
def test_every_split_at_the_edge_is_a_maximiser_and_the_true_start_returns_the_truth():
    bases, x = planes(0, (2, 2), 6)
    edge = np.arange(12) < 4
    total = (x[:4] ** 2).sum()
    for pair in itertools.combinations(range(4), 2):
        split = np.isin(np.arange(4), pair)
        own = np.stack([np.linalg.svd(x[:4][m])[2][:2].T for m in (split, ~split)])
        np.testing.assert_allclose(((x[:4] @ own) ** 2).sum(2).max(0).sum(), total, rtol=1e-12)
    keys, masks = jax.random.split(KEY, 2), np.stack([edge, np.arange(12) < 12])
    found = solve(keys, np.stack([x, x]), masks, np.stack(bases))
    np.testing.assert_allclose(found.objective, [total, (x**2).sum()], rtol=1e-12)
    np.testing.assert_allclose(found.objectives[:, 0], found.objective, rtol=1e-12)
    projections = np.einsum("pkir,pkjr->pkij", found.bases, found.bases)[1]
    np.testing.assert_allclose(projections, [u @ u.T for u in bases], atol=1e-7)


@pytest.mark.usefixtures("x64")
def test_padded_points_change_nothing():
    """The same 8 points, with two kinds of rubbish behind them, and the same starts."""
    x = planes(1, (2, 2), 6, 0.05)[1]
    rubbish = np.where(np.arange(12)[:, None] < 8, x, np.nan)
    key, mask = jnp.stack([KEY, KEY]), np.tile(np.arange(12) < 8, (2, 1))
    found = solve(key, np.stack([x, rubbish]), mask, np.zeros((2, N, 2)))
    for a, b in (found.objectives, found.labels[:, :8], found.bases):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    kept = [np.linalg.svd(x[:8][found.labels[0, :8] == k])[1][:2] for k in range(2)]
    np.testing.assert_allclose(found.objective[0], np.sum(np.square(kept)), rtol=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("starts", ["points", pytest.param("uniform", marks=pytest.mark.slow)])
def test_the_answer_is_a_fixed_point_with_the_objective_of_its_bases_and_labels(starts):
    """More points than coordinates or fewer, unequal dimensions, noise, and any kind of start."""
    points = planes(2, (3, 2), 30, 0.2)[1]
    x = points[:30] if starts == "uniform" else points[:, :12]
    found = subspaces.k_subspaces(KEY, x, (3, 2), restarts=4, starts=starts)
    bases, labels = np.asarray(found.bases), np.asarray(found.labels)
    energies = ((x @ bases) ** 2).sum(2)
    np.testing.assert_array_equal(labels, energies.argmax(0))
    np.testing.assert_allclose(found.objective, energies.max(0).sum(), rtol=1e-12)
    np.testing.assert_allclose(found.objective, found.objectives.max(), rtol=1e-14)
    gram = np.einsum("kir,kis->krs", bases, bases)
    np.testing.assert_allclose(gram, [np.eye(3), np.diag([1, 1, 0])], atol=1e-13)
    for k, d in enumerate((3, 2)):
        plane = np.linalg.svd(x[labels == k])[2][:d].T
        projection = bases[k] @ bases[k].T
        np.testing.assert_allclose(projection, plane @ plane.T, atol=1e-10)


def test_lines_through_points_are_drawn_in_proportion_to_energy():
    """|x|^2 of 1, 4, 9 and 0: the first line in 4,000 draws, each share to 4 standard errors."""
    x = jnp.asarray(np.diag([1.0, 2.0, 3.0, 0.0]), jnp.float32)
    draw = jax.jit(jax.vmap(lambda key: solver.STARTS["points"](key, x, (1, 2))))
    lines = np.asarray(draw(jax.random.split(KEY, 4000)))
    np.testing.assert_allclose((lines**2).sum(2), np.tile([1.0, 0], (4000, 2, 1)), rtol=1e-6)
    p = np.array([1, 4, 9, 0]) / 14
    shares = np.abs(lines[:, 0, :, 0]).mean(0)
    assert (np.abs(shares - p) <= 4 * np.sqrt(p * (1 - p) / 4000) + 1e-9).all()
    assert (lines[:, 0] != lines[:, 1]).any((1, 2)).all()  # no point twice


def test_bad_input_is_said_in_one_line():
    x = jnp.zeros((5, 4))
    for dims in ((), (0, 2), (5,)):
        with pytest.raises(PersonError, match="dims"):
            subspaces.k_subspaces(KEY, x, dims)
    with pytest.raises(PersonError, match="restarts = 0"):
        subspaces.k_subspaces(KEY, x, (2,), restarts=0)
    with pytest.raises(PersonError, match="unknown starts"):
        subspaces.k_subspaces(KEY, x, (2,), starts="point")
