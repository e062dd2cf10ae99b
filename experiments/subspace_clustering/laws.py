"""What needs no training: identities, the cost of hard labels, PCA with noise, angles.

Kept:

    identities   largest gaps of the exact denoiser, its Jacobian, the loss as an objective of
                 clustering, and the principal angles of four losses' minimisers to PCA
    hard_soft    loss of soft weights and of true labels by noise level, (seeds, levels)
    noise        errors of PCA with noise, (2 ambient dimensions, dims, counts, seeds)
    angles       errors of K-subspaces by principal angle, (angles, counts, seeds)
"""

from __future__ import annotations

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np

from dfx import fields, nets, schedules, subspaces, targets
from dfx.losses import weighting
from dfx.schedules import t_of_log_snr
from experiments.subspace_clustering import problems

#: Claim 1: three subspaces of R^12 at any angles, of unequal dimensions and weights.
DIMS, WEIGHTS, DIM = (3, 2, 4), (0.5, 0.3, 0.2), 12

SCHEDULES = {
    "vp": schedules.VPLinear(),
    "ve": schedules.VE(),
    "rectified": schedules.RectifiedLinear(),
}
WEIGHTINGS = {"uniform": weighting.uniform(), "snr": weighting.min_snr()}


def laws(config, run) -> None:
    """Compute the four tables."""
    run.arrays("identities", identities)
    run.arrays("hard_soft", lambda: hard_soft(config))
    run.arrays("noise", lambda: noise(config))
    run.arrays("angles", lambda: angles(config))


def level_at(schedule, ratio: float):
    """Return the noise level at which sigma / alpha has this value, in float64."""
    return schedule.at(time_at(schedule, ratio))


def time_at(schedule, ratio: float):
    """Return the time at which sigma / alpha has this value."""
    return t_of_log_snr(schedule, -2 * np.log(np.asarray(ratio, np.float64)))


def identities() -> dict[str, np.ndarray]:
    """Return the largest gap of each identity, relative to the largest value, in float64."""
    with jax.enable_x64(True):
        key = jax.random.key(0)
        gaps = {
            **denoiser_gaps(key),
            "objective": objective_gap(key, _losses()),
            "minimiser": minimiser_angle(jax.random.fold_in(key, 2), _losses()),
        }
        return {name: np.asarray(value) for name, value in gaps.items()}


@jax.jit
def denoiser_gaps(key):
    """Return how far the low-rank net at the true subspaces is from the posterior mean, and the
    written Jacobian from the posterior mean's derivative, over all schedules."""
    bases = targets.random_bases(key, DIM, DIMS, None, jnp.float64)
    x = jax.random.normal(jax.random.fold_in(key, 1), (16, DIM), jnp.float64)
    exact = fields.oracle(targets.union_of_subspaces(bases, weights=jnp.asarray(WEIGHTS)))
    net = nets.low_rank(DIM, DIMS, weights=WEIGHTS)
    field = fields.from_net(net, {"bases": bases}, "x0", nets.alpha_sigma)
    levels = [[s.at(np.linspace(0.1, 0.9, len(x)), 2), s.at(0.4)] for s in SCHEDULES.values()]
    both = jax.tree.map(lambda *leaves: jnp.stack(leaves), *levels)  # one program for all of them

    def gaps(both):
        each, level = both
        derivative = fields.jacobian(lambda z: exact(z, level), x)
        ours = jax.vmap(lambda z: jacobian(bases, z, level))(x)
        return _gap(field(x, each), exact(x, each)), _gap(ours, derivative)

    return dict(zip(("denoiser", "jacobian"), (gap.max() for gap in jax.lax.map(gaps, both))))


def jacobian(bases, x, level):
    """Return the Jacobian of the posterior mean at one point x (n,):

        J = c [ sum_k w_k P_k + 2 phi ( sum_k w_k P_k x x^T P_k - m m^T ) ],   m = sum_k w_k P_k x,

    c = alpha / (alpha^2 + sigma^2), phi = alpha^2 / (2 sigma^2 (alpha^2 + sigma^2)): derived.
    """
    power = level.alpha**2 + level.sigma**2
    phi = level.alpha**2 / (2 * level.sigma**2 * power)
    dims = (bases**2).sum((1, 2))
    seen = jnp.einsum("kir,kjr,j->ki", bases, bases, x)
    logits = jnp.log(jnp.asarray(WEIGHTS)) - dims / 2 * jnp.log(power / level.sigma**2)
    w = jax.nn.softmax(logits + phi * (seen * x).sum(1))
    m = w @ seen
    spread = jnp.einsum("k,ki,kj->ij", w, seen, seen) - jnp.outer(m, m)
    projectors = jnp.einsum("k,kir,kjr->ij", w, bases, bases)
    return level.alpha / power * (projectors + 2 * phi * spread)


def exact_loss(net, bases, x, table, labels):
    """Return sum_t weight_t E |net(alpha x + sigma eps) - x|^2 over points and times, E by the
    2 d points eps = +- sqrt(d) e_i: exact for nets that are linear in x_t, as with given
    labels.

    Args:
      net: `nets.low_rank`.
      bases, x: its parameters, and clean points (n, d).
      table: alpha, sigma and weight of each time, (3, times).
      labels: (n,).
    """
    d = x.shape[1]
    nodes = math.sqrt(d) * jnp.concatenate([jnp.eye(d), -jnp.eye(d)]).astype(x.dtype)

    def at(row, eps):
        alpha, sigma, weight = row
        t = jnp.broadcast_to(row[:2], (len(x), 2))
        seen = net.apply({"bases": bases}, alpha * x + sigma * eps, t, labels)
        return weight * ((seen - x) ** 2).sum()

    return jax.vmap(lambda row: jax.vmap(lambda eps: at(row, eps))(nodes).mean())(table.T).sum()


#: Times of the losses that are compared.
TIMES = np.linspace(0.05, 0.95, 5)


def _losses() -> tuple[np.ndarray, ...]:
    """Return two schedules with two weightings each: levels and weights as `exact_loss` takes them,
    (4, 3, times), and the three coefficients of the objective, (4,) each."""
    rows = []
    for name, weigh in itertools.product(("vp", "ve"), WEIGHTINGS.values()):
        schedule = SCHEDULES[name]
        levels = [schedule.at(t) for t in TIMES]
        points = [(level.alpha, level.sigma, float(weigh(level, "x0"))) for level in levels]
        table = np.asarray(points, np.float64).T
        rows.append((table, *subspaces.coefficients(schedule, TIMES, table[2])))
    return tuple(map(np.stack, zip(*rows)))


@functools.partial(jax.jit, static_argnames=("n", "d", "count"))
def objective_gap(key, of_losses, n: int = 16, d: int = 3, count: int = 20):
    """Return the largest gap between the net's loss with labels by the clean point, and the affine
    function of the energy that K-subspaces maximises, over losses as `_losses` returns them and
    K = 1 to 3."""
    tables, total, gain, floor = of_losses
    gaps = []
    for k in (1, 2, 3):
        of_x, of_bases = jax.random.split(jax.random.fold_in(key, k))
        x = jax.random.normal(of_x, (count, n), jnp.float64)
        bases = targets.random_bases(of_bases, n, (d,) * k, None, jnp.float64)
        labels, net = subspaces.assign(bases, x), nets.low_rank(n, (d,) * k)
        found = jax.lax.map(lambda table: exact_loss(net, bases, x, table, labels), tables)  # noqa: B023
        expected = total * (x**2).sum() - gain * subspaces.kept(bases, x) + floor * count * d
        gaps.append((jnp.abs(expected - found) / jnp.abs(found)).max())
    return jnp.stack(gaps).max()


#: Steps of the descent to a minimiser: the error falls to a third or less at each.
DESCENT = 60


@functools.partial(jax.jit, static_argnames=("n", "d", "count"))
def minimiser_angle(key, of_losses, n: int = 12, d: int = 3, count: int = 20):
    """Return the largest principal angle, in radians, between PCA and the subspace that descent of
    the exact loss of one subspace ends at, over losses as `_losses` returns them.

    The points have d singular values from 2 to 1.8 and n - d from 0.6 to 0.3, in random
    directions."""
    left, right, start = (
        jnp.linalg.qr(jax.random.normal(jax.random.fold_in(key, i), shape, jnp.float64))[0]
        for i, shape in enumerate(((count, n), (n, n), (n, d)))
    )
    values = jnp.concatenate([jnp.linspace(2.0, 1.8, d), jnp.linspace(0.6, 0.3, n - d)])
    x = (left * values) @ right.T
    found = subspaces.principal_subspace(x, d)[0]
    tables, _, gain, _ = of_losses
    ends = jax.lax.map(lambda loss: _descend(start, x, *loss), (tables, gain))
    return jax.vmap(lambda end: subspaces.principal_angles(end, found)[0])(ends).max()


def _descend(start, x, table, gain):
    net, labels = nets.low_rank(x.shape[1], start.shape[1]), jnp.zeros(len(x), jnp.int32)
    loss = lambda u: exact_loss(net, u[None], x, table, labels)  # noqa: E731
    # The loss is -gain |X U|^2 and constants. An error along v_j of what belongs to v_i is
    # multiplied by 1 - (s_i^2 - s_j^2) / s_1^2 in each step of this rate.
    rate = 1 / (2 * gain * jnp.linalg.norm(x, 2) ** 2)

    def step(u, _):
        return jnp.linalg.qr(u - rate * jax.grad(loss)(u))[0], None

    return jax.lax.scan(step, start, None, DESCENT)[0]


def _gap(a, b):
    return jnp.abs(a - b).max() / jnp.abs(b).max()


def hard_soft(config) -> dict[str, np.ndarray]:
    """Return the loss of x0 at noise levels sigma / alpha, summed over coordinates, of the exact
    denoiser, and of the one that is told the subspace: two orthogonal ones of dimension 7."""
    settings = config.laws
    keys = jax.random.split(jax.random.key(config.seed + 30), settings.num_seeds)
    levels = jnp.asarray(settings.levels, jnp.float32)
    found = _hard_soft(keys, levels, n=config.dim, count=settings.num_draws)
    soft, hard = map(np.asarray, found)
    return {"levels": np.asarray(settings.levels), "soft": soft, "hard": hard}


#: Dimension of the subspaces of the paper's shipped example.
SHIPPED_DIM = 7


@functools.partial(jax.jit, static_argnames=("n", "count"))
def _hard_soft(keys, levels, *, n, count):
    net = nets.low_rank(n, (SHIPPED_DIM,) * 2)

    def one(key, ratio):
        of_bases, of_points, of_noise = jax.random.split(key, 3)
        bases = targets.random_bases(of_bases, n, (SHIPPED_DIM,) * 2)
        x0 = targets.union_of_subspaces(bases).sample(of_points, count, balanced=True)
        x = x0 + ratio * jax.random.normal(of_noise, x0.shape)
        t = jnp.broadcast_to(jnp.stack([jnp.ones(()), ratio]), (count, 2))
        soft = net.apply({"bases": bases}, x, t)
        hard = net.apply({"bases": bases}, x, t, subspaces.assign(bases, x0))
        return tuple(((guess - x0) ** 2).sum(1).mean() for guess in (soft, hard))

    over_levels = lambda key: jax.lax.map(lambda ratio: one(key, ratio), levels)  # noqa: E731
    return jax.lax.map(over_levels, keys)


def noise(config) -> dict[str, np.ndarray]:
    """Return the errors of PCA with noise of one total energy in two ambient dimensions."""
    settings, rows = config.laws, []
    ambient, dims = (config.dim, settings.large_dim), settings.noise_dims
    shape = len(ambient), len(dims), len(settings.noise_counts), settings.noise_seeds
    for i, (n, d) in enumerate(itertools.product(ambient, dims)):  # in parts, which bounds memory
        size = jnp.float32(settings.noise * math.sqrt(config.dim / n))
        key = jax.random.fold_in(jax.random.key(config.seed + 31), i)
        members = problems.cells((d,), settings.noise_counts, settings.noise_seeds)
        of = problems.draw(key, *members, n, 1, size, width=max(dims))
        rows.append(problems.principal(of))
    return {
        "ambient": np.asarray(ambient),
        "dims": np.asarray(settings.noise_dims),
        "counts": np.asarray(settings.noise_counts),
        "error": np.stack(rows).reshape(shape),
    }


#: Dimension of the two subspaces at an angle.
ANGLE_DIM = 3


def angles(config) -> dict[str, np.ndarray]:
    """Return errors of K-subspaces on two subspaces at each principal angle."""
    settings, restarts = config.laws, config.maps.restarts[0]
    shape, rows = (len(settings.angle_counts), settings.angle_seeds), []
    _, counts = problems.cells((ANGLE_DIM,), settings.angle_counts, settings.angle_seeds)
    for angle in settings.angles:
        key = jax.random.fold_in(jax.random.key(config.seed + 33), round(angle * 1000))
        dims = np.full(len(counts), ANGLE_DIM)
        of = problems.draw(key, dims, counts, config.dim, 2, angle=math.radians(angle))
        error = problems.cluster(of, ANGLE_DIM, restarts, "uniform")["error"]
        rows.append(error.reshape(shape))
    return {
        "angles": np.asarray(settings.angles),
        "counts": np.asarray(settings.angle_counts),
        "error": np.stack(rows),
    }
