"""Edits of noisy points along directions of the exact denoiser of a union of subspaces."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dfx import diagnostics, fields, nets, schedules, solvers, subspaces
from dfx.errors import PersonError

pytestmark = pytest.mark.usefixtures("x64")

VP = schedules.VPLinear()
RNG = np.random.default_rng(0)
SHAPE, N = (4, 4, 1), 16
BASES = np.moveaxis(np.linalg.qr(RNG.normal(size=(N, 6)))[0].reshape(N, 2, 3), 1, 0)


def points(time, num=6):
    """Noisy points of both subspaces in turn, and their level."""
    level = VP.at(time)
    x0 = np.einsum("kir,nr->nki", BASES, RNG.normal(size=(num // 2, 3))).reshape(num, *SHAPE)
    return jnp.asarray(level.alpha * x0 + level.sigma * RNG.normal(size=x0.shape)), level


def field():
    return fields.from_net(nets.low_rank(N, (3, 3)), {"bases": BASES}, "x0", nets.alpha_sigma)


@jax.jit
def guess(x, level):
    return field()(x, level)


@jax.jit
def push(x, level, v):
    """J v."""
    return jax.jvp(lambda x: field()(x, level), (x,), (v,))[1]


def test_a_step_along_a_direction_moves_the_estimate_by_its_value_to_second_order():
    """Claim: x0_hat moves by lambda s_1 u_1 + O(lambda^2); halving lambda quarters the rest."""
    x, level = points(0.4)
    found = diagnostics.jacobian_svd(field(), x, level, 1)
    u, s, v = found.left[:, 0], found.values[:, 0], found.right[:, 0]
    base, rests = guess(x, level), []
    for strength, there in zip((0.02, 0.01), subspaces.moved(x, v, [0.02, 0.01])):
        step = guess(there, level) - base
        rests.append(np.abs(step - strength * s[:, None, None, None] * u).max())
    assert 3 < rests[0] / rests[1] < 5
    assert rests[1] < 0.05 * 0.01 * s.max()


@pytest.mark.slow
def test_at_low_noise_directions_are_in_the_active_subspace_and_random_ones_do_little():
    """v_1 .. v_3 span the own U_k with values c = alpha / (alpha^2 + sigma^2); a random direction
    moves x0_hat by c sqrt(d_k / n) in the root mean square."""
    x, level = points(0.03)  # where the other subspace has weights below 1e-5
    found = diagnostics.jacobian_svd(field(), x, level, 4)
    c = level.alpha / (level.alpha**2 + level.sigma**2)
    np.testing.assert_allclose(found.values[:, :3], c, rtol=1e-4)  # the other weights
    assert found.values[:, 3].max() < 1e-4
    for i in range(len(x)):
        plane = found.right[i, :3].reshape(3, N).T
        assert subspaces.projection_distance(plane, BASES[i % 2]) < 1e-4
    v = RNG.normal(size=(60, *x.shape))
    v = v / np.sqrt((v**2).sum((2, 3, 4), keepdims=True))
    squares = np.mean([(push(x, level, z) ** 2).sum((1, 2, 3)) for z in v]) / c**2
    # d_k / n, four standard errors: the variance of a squared share is below 2 d_k / n^2.
    assert abs(squares - 3 / N) < 4 * math.sqrt(2 * 3) / N / math.sqrt(60 * 6)


def test_decoding_one_gaussian_moves_data_along_the_direction_by_the_flow():
    """Of one subspace the flow is linear: the decoded step is lambda / sqrt(alpha^2 + sigma^2)
    inside it. DDIM on 200 steps is right to about 1/200."""
    one = fields.from_net(nets.low_rank(N, 3), {"bases": BASES[:1]}, "x0", nets.alpha_sigma)
    x, level = points(0.5)
    tableau = solvers.ddim(VP, np.linspace(0.5, 0.0, 201))
    v = BASES[0, :, 0].reshape(SHAPE)
    strengths = np.array([0.0, 0.5, -1.0])
    ends = subspaces.edited(tableau, one, x, v, strengths)
    assert ends.shape == (3, *x.shape)
    scale = 1 / math.sqrt(level.alpha**2 + level.sigma**2)
    inside = np.reshape(x, (6, N)) @ BASES[0] @ BASES[0].T
    np.testing.assert_allclose(ends[0], scale * inside.reshape(x.shape), atol=0.02)
    for strength, end in zip(strengths, ends):
        np.testing.assert_allclose(
            end - ends[0], np.tile(strength * scale * v, (6, 1, 1, 1)), atol=0.01
        )


def test_local_directions_leave_the_outside_to_first_order():
    """All directions seen from outside projected out: the Jacobian outside takes v_p to zero."""
    x, level = points(0.5)
    region = np.zeros(SHAPE)
    region[:2, :2] = 1  # 4 of 16 pixels; J has rank 6, and 3 directions outside are taken off
    v = diagnostics.jacobian_svd(field(), x, level, 1, mask=region).right[:, 0]
    away = diagnostics.jacobian_svd(field(), x, level, 6, mask=1 - region)
    local = subspaces.project_out(v, away.right[:, :3])
    np.testing.assert_allclose((local**2).sum((1, 2, 3)), 1, rtol=1e-12)
    overlaps = jnp.einsum("nhwc,nrhwc->nr", local, away.right[:, :3])
    np.testing.assert_allclose(overlaps, 0, atol=1e-14)
    step = push(x, level, local) * (1 - region)
    norms = jnp.sqrt((step**2).sum((1, 2, 3)))
    assert (norms <= away.values[:, 3] * (1 + 1e-9)).all()
    with pytest.raises(PersonError, match="do not fit"):
        subspaces.project_out(v, away.right[0])
