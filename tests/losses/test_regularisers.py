"""Penalties of physics: zero on exact laws, closed forms on wrong ones, estimates without bias."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dfx import losses, nets, schedules
from dfx.errors import PersonError
from dfx.losses import collocation
from dfx.nets.energy import EnergyNet
from dfx.pytree import pytree

OU = schedules.VPLinear(2.0, 2.0)  # dx = -x dt + sqrt(2) dw
ALL = (
    schedules.VPLinear(),
    schedules.VPCosine(),
    schedules.SubVP(),
    schedules.VE(),
    schedules.EDM(),
    schedules.RectifiedLinear(),
    schedules.MeanReverting(OU, np.sqrt(0.5)),  # dx = (y - x) dt + dw
)
MEANS = np.array([[1.0, 0.2], [-0.7, 0.5]])
TIMES = np.array([0.2, 0.35, 0.5, 0.65, 0.8])  # the times of the tests


@pytree
@dataclasses.dataclass(frozen=True)
class OneOf(schedules.Schedule):
    """`ALL[index]`, so that one compiled program serves them all."""

    index: jax.Array

    def alpha(self, t):
        return jax.lax.switch(self.index, [s.alpha for s in ALL], t)

    def beta(self, t):
        return jax.lax.switch(self.index, [s.beta for s in ALL], t)

    def variance(self, t):
        return jax.lax.switch(self.index, [s.variance for s in ALL], t)


def at_times(*t, points=collocation.noised):
    """Look at these times, one point each."""
    t = np.asarray(t or TIMES)
    sampler = lambda key, n, dtype: jnp.asarray(t, dtype)  # noqa: E731
    return losses.Collocation(sampler, points, len(t))


def energy(log_p):
    """The energy net of (x, t, cond) -> log p."""
    potential = lambda params, x, t, cond=None: log_p(x, t, cond)  # noqa: E731
    apply = lambda params, x, t, cond=None: jax.grad(  # noqa: E731
        lambda x: jnp.sum(log_p(x, t, cond))
    )(x)
    return EnergyNet(lambda key: (), apply, potential, "score")


def exact(schedule):
    """Two Gaussians of one isotropic covariance 0.1 I, around beta y; y comes as cond."""

    def log_p(x, t, y=None):
        level = schedule.at(t, x.ndim)
        v = 0.1 * level.alpha**2 + level.sigma**2
        # A new array each time: one used in float64 would stay so in a float32 trace.
        centres = level.alpha[:, None] * jnp.asarray(MEANS.copy(), x.dtype)
        gaps = (x if y is None else x - level.beta * y)[:, None] - centres
        terms = -jnp.sum(gaps**2, -1) / (2 * v) + jnp.log(jnp.array([0.3, 0.7]))
        return jax.nn.logsumexp(terms, axis=1) - jnp.log(2 * jnp.pi * v)[:, 0]

    return log_p


def skewed(schedule, factor, v0=0.3):
    """`factor` times log N(0, v I) without its normalisation."""

    def log_p(x, t, cond=None):
        level = schedule.at(t, x.ndim)
        return -factor * jnp.sum(x**2 / (2 * (v0 * level.alpha**2 + level.sigma**2)), -1)

    return log_p


def value(penalty, x0, key=None, **others):
    key = jax.random.key(0) if key is None else key
    return jax.jit(lambda x0, key: penalty((), key, x0, **others)[0])(jnp.asarray(x0), key)


@partial(jax.jit, static_argnames="weighting")
def on_exact_laws(index, key, t, weighting):
    """The scalar and the score penalty of log p + c sin t, for c = 0 and 1."""
    schedule = OneOf(index)
    x0 = jnp.asarray(MEANS.copy(), t.dtype)[jnp.arange(len(t)) % 2]
    y = jnp.asarray([0.4, -0.3], t.dtype) * jnp.ones_like(x0)
    law, look = exact(schedule), losses.Collocation(lambda key, n, dtype: t)

    def both(c):
        net = energy(lambda x, t, y: law(x, t, y) + c * jnp.sin(t))
        scalar = losses.fokker_planck(net, schedule, look, weighting=weighting)
        vector = losses.score_fokker_planck(net, schedule, "score", look, weighting=weighting)
        return jnp.stack([scalar((), key, x0, y, y)[0], vector((), key, x0, y, y)[0]])

    return jax.vmap(both)(jnp.arange(2.0, dtype=t.dtype))


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("index", range(len(ALL)), ids=[type(s).__name__ for s in ALL])
def test_exact_laws_have_no_residual_and_a_free_constant_shows_in_the_scalar_one_alone(index):
    (scalar, vector), (shifted, same) = on_exact_laws(
        index, jax.random.key(0), jnp.asarray(TIMES), "uniform"
    )
    # Rounding, 1e-16, of terms of the size g^2 |s|^2 and g^2 |s|^3, squared.
    level, rate = ALL[index].at(TIMES), schedules.diffusion(ALL[index], TIMES)
    size = np.max(rate / level.sigma**2)
    assert scalar < (1e-13 * size) ** 2
    assert max(vector, same) < (1e-13 * np.max(rate / level.sigma**3)) ** 2
    assert shifted == pytest.approx(np.mean(np.cos(TIMES) ** 2), rel=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("index", range(len(ALL)), ids=[type(s).__name__ for s in ALL])
def test_the_residual_per_unit_of_log_snr_stays_within_rounding_at_both_ends_in_float32(index):
    times = jnp.asarray([6e-8, 1e-4, 0.5, 1 - 1e-4, 1 - 6e-8], jnp.float32)
    values = on_exact_laws(index, jax.random.key(0), times, "log_snr")
    # Terms of order one to 10 (100 for scores), a few hundred roundings of 6e-8 each, squared.
    assert values[0, 0] < 1e-6 and values[0, 1] < 1e-4


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("index", [0, 5], ids=["OU", "RectifiedLinear"])
def test_a_wrong_score_of_a_gaussian_has_the_residual_of_its_closed_form(index):
    """log p = -(1 + e) |x|^2 / (2 v): with v' = 2 f v + g^2, by hand,

    R = d v' / (2 v) + e d g^2 / (2 v) - e (1 + e) g^2 |x|^2 / (2 v^2), grad R its gradient.
    """
    schedule, t = (OU, schedules.RectifiedLinear())[index > 0], TIMES
    f, rate = (-1 + 0 * t, 2 + 0 * t) if index == 0 else (-1 / (1 - t), 2 * t / (1 - t))
    variance = 1 - np.exp(-2 * t) if index == 0 else t**2
    v = (np.exp(-2 * t) if index == 0 else (1 - t) ** 2) * 0.3 + variance
    e, x = 0.4, np.random.default_rng(0).normal(size=(5, 3))
    squares = (x**2).sum(1)
    residual = 3 * (2 * f * v + rate * (1 + e)) / (2 * v)
    residual -= e * (1 + e) * rate * squares / (2 * v**2)
    slope = (e * (1 + e) * rate / v**2) ** 2 * squares / 3

    # Each point has its own time, so the points must come in their order.
    look = at_times(points=lambda key, x0, level, y: x0)
    net = energy(skewed(schedule, 1 + e))
    weights = {"uniform": 1, "diffusion": rate, "log_snr": (variance / rate) ** 2}
    for weighting, weight in weights.items():
        scalar = losses.fokker_planck(net, schedule, look, weighting=weighting)
        assert value(scalar, x) == pytest.approx(np.mean(weight * residual**2), rel=1e-10)
        if weighting != "diffusion":
            weight = weight * (variance if weighting == "log_snr" else 1)
            vector = losses.score_fokker_planck(net, schedule, "score", look, weighting=weighting)
            assert value(vector, x) == pytest.approx(np.mean(weight * slope), rel=1e-10)


@pytest.mark.usefixtures("x64")
def test_a_linear_potential_has_the_residual_of_its_drift():
    """phi = a . x, dx = (y - x) dt + g dw: R = -d + a . (y - x) - g^2 / 2 |a|^2, grad R = -a.

    All probes see a divergence of 0, so their estimates are the exact value.
    """
    schedule, rate = schedules.MeanReverting(OU, 1.5), 4.5
    a, (x, y) = np.array([0.7, -0.4, 1.1]), np.random.default_rng(0).normal(size=(2, 5, 3))
    look = at_times(points=lambda key, x0, level, y: x0)
    net = energy(lambda x, t, cond=None: x @ a)
    ways = [dict(weighting=w) for w in ("uniform", "diffusion", "log_snr")]
    ways.append(dict(weighting="uniform", num_probes=3))

    @jax.jit
    def both(x, y):
        scalar = [losses.fokker_planck(net, schedule, look, **way) for way in ways]
        vector = [losses.score_fokker_planck(net, schedule, "score", look, **way) for way in ways]
        return jnp.stack([f((), jax.random.key(0), x, y=y)[0] for f in scalar + vector])

    residual, variance = (y - x) @ a - 3 - rate / 2 * (a @ a), 2.25 * (1 - np.exp(-2 * TIMES))
    weights = [[1, rate, variance**power / rate**2, 1] for power in (2, 3)]
    scalar = [np.mean(w * residual**2) for w in weights[0]]
    vector = [np.mean(w) * (a @ a) / 3 for w in weights[1]]
    np.testing.assert_allclose(both(jnp.asarray(x), jnp.asarray(y)), scalar + vector, rtol=1e-10)


def swirl(params, x, t, cond=None):
    """A score with a dense, asymmetric Jacobian and a curved divergence."""
    matrix = np.array([[-1.0, 0.8, 0.3], [-0.2, -0.7, 0.5], [0.6, -0.4, -1.2]])
    return jnp.tanh(x @ matrix.T) * (1 + t[:, None])


SWIRL = nets.Net(lambda key: (), swirl)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("fokker_planck", marks=pytest.mark.slow),
        "score_fokker_planck",
        pytest.param("asymmetry", marks=pytest.mark.slow),
    ],
)
def test_probes_leave_the_penalty_without_bias(kind):
    """10,000 estimates at one point, their mean within 4 standard errors of the exact value."""
    look = at_times(0.3, points=lambda key, x0, level, y: x0)
    x, keys = jnp.asarray([[0.4, -0.8, 0.5]]), jax.random.split(jax.random.key(1), 10_000)
    mixed = energy(lambda x, t, cond=None: jnp.sin(x @ np.ones(3)) * jnp.cos(x[:, 0] - t))
    args = (mixed, OU) if kind == "fokker_planck" else (SWIRL, OU, "score")
    make = partial(getattr(losses, kind), *args, at=look)

    def estimates(num_probes, probe):
        penalty = make(num_probes=num_probes, probe=probe)
        values = np.asarray(jax.jit(jax.vmap(lambda key: penalty((), key, x)[0]))(keys))
        assert 0 < abs(values.mean() - expected) < 4 * values.std() / 100
        return values

    expected = value(make(), x)
    first = estimates(3, "rademacher")
    assert first.std() > 0.01 * expected
    if kind == "asymmetry":  # a plain mean: variance as 1 / k, each known to a few percent
        ratio = estimates(2, "normal").var() / estimates(8, "normal").var()
        assert 4 / 1.2 < ratio < 4 * 1.2


@pytest.mark.usefixtures("x64")
def test_asymmetry_is_that_of_the_quantity_named():
    """eps = B x has |B - B^T|^2 / d; the score -eps / sigma has it / sigma^2."""
    matrix = np.random.default_rng(0).normal(size=(3, 3))
    net = nets.Net(lambda key: (), lambda params, x, t, cond=None: x @ matrix.T)
    level, x = OU.at(0.3), np.zeros((4, 3))
    gap = np.sum((matrix - matrix.T) ** 2) / 3
    scales = {"eps": 1, "score": 1 / level.sigma, "x0": level.sigma / level.alpha}
    for of, scale in scales.items():
        penalty = losses.asymmetry(net, OU, "eps", at_times(0.3), of=of)
        assert value(penalty, x) == pytest.approx(gap * scale**2, rel=1e-10)
    assert value(losses.asymmetry(energy(exact(OU)), OU, "score", at_times()), x[:, :2]) < 1e-25


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_the_slope_of_a_penalty_in_the_parameters_is_that_of_its_values():
    """Third and fourth derivatives of a net, against a difference of order h^2 = 1e-8."""
    net = nets.energy_mlp(2, "inner_product", width=6, depth=1)
    wide = partial(jax.tree.map, lambda a: a.astype(jnp.float64))
    params, way = (wide(net.init(jax.random.key(i))) for i in (0, 1))
    denoise = losses.denoising(net, OU, net.prediction, time_sampler=losses.uniform(OU, 0.1))
    loss = losses.plus(denoise, losses.fokker_planck(net, OU, at_times()), 0.1)
    loss = losses.plus(loss, losses.score_fokker_planck(net, OU, at=at_times()), 0.1)

    @jax.jit
    def along(h):
        moved = jax.tree.map(lambda a, b: a + h * b, params, way)
        total = lambda p: loss(p, jax.random.key(2), jnp.asarray(MEANS))[0]  # noqa: E731
        slope, way_flat = jax.tree.leaves(jax.grad(total)(moved)), jax.tree.leaves(way)
        return total(moved), sum(jnp.vdot(a, b) for a, b in zip(slope, way_flat))

    difference = (along(1e-4)[0] - along(-1e-4)[0]) / 2e-4
    assert difference == pytest.approx(float(along(0.0)[1]), rel=1e-5)


def test_weight_zero_is_the_loss_alone_and_aux_holds_both_terms():
    drawn = lambda params, key, x0: (jax.random.normal(key) * params, {"mse": params})  # noqa: E731
    fixed = lambda params, key, x0: (params * 3, {"fixed": params})  # noqa: E731
    key = jax.random.key(3)
    alone, aux = drawn(2.0, key, None)
    assert losses.plus(drawn, fixed, 0.0)(2.0, key, None)[0] == alone
    total, both = losses.plus(drawn, fixed, 0.5)(2.0, key, None)
    assert total == pytest.approx(float(alone + 3), rel=1e-6)
    assert both == {**aux, "fixed": 2.0}
    # The penalty draws other numbers than the loss, as do the keys that the loss splits its own in.
    other = lambda params, key, x0: (jax.random.normal(key), {})  # noqa: E731
    penalty = losses.plus(lambda params, key, x0: (0.0, {}), other, 1.0)(2.0, key, None)[0]
    assert penalty not in [jax.random.normal(k) for k in (key, *jax.random.split(key, 4))]
    with pytest.raises(PersonError, match="two terms of the loss are called mse"):
        losses.plus(drawn, drawn, 1)(2.0, key, None)


def test_mistakes_are_refused_in_one_line():
    net = energy(exact(OU))
    with pytest.raises(PersonError, match="num_probes = 1: need 2 or more, or None for exact"):
        losses.fokker_planck(net, OU, num_probes=1)
    with pytest.raises(PersonError, match="num_probes = 0: need 1 or more"):
        losses.asymmetry(net, OU, "score", num_probes=0)
    with pytest.raises(PersonError, match="unknown weighting 'logsnr': did you mean 'log_snr'"):
        losses.score_fokker_planck(net, OU, "score", weighting="logsnr")
    with pytest.raises(PersonError, match="unknown prediction 'scores'"):
        losses.asymmetry(net, OU, "scores")
    with pytest.raises(PersonError, match="unknown probe 'gauss'"):
        losses.asymmetry(net, OU, "score", probe="gauss")
    with pytest.raises(PersonError, match="unknown time sampler 'bet'"):
        losses.Collocation("bet").bind(OU)
    with pytest.raises(PersonError, match="num_points = 0"):
        losses.Collocation(num_points=0).bind(OU)
    with pytest.raises(PersonError, match="low must be below high"):
        collocation.box(1.0, 1.0)
    with pytest.raises(PersonError, match="weight = -1: must not be negative"):
        losses.plus(losses.denoising(net, OU), losses.fokker_planck(net, OU), -1)
    reverting = losses.asymmetry(net, ALL[-1], "score")
    with pytest.raises(PersonError, match="has a mean term: give y to the loss"):
        reverting((), jax.random.key(0), jnp.zeros((2, 2)))
