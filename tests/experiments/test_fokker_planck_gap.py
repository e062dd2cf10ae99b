"""Data laws, distances, bound and counts of the study `fokker_planck_gap`."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.stats import chi2

from analysis.fokker_planck_gap import claims, statistics
from configs import fokker_planck_gap as configs
from dfx import evolution, fields, losses
from dfx.nets.energy import EnergyNet
from dfx.runs import checks
from experiments.fokker_planck_gap import bound, data, laws, measures, nets, study

SMOKE = configs.get_config("smoke")
WINDOW = laws.Window(evolution.make_grid([-4.0] * 2, [4.0] * 2, [40] * 2), 5)


@pytest.mark.parametrize("law", data.SETS)
def test_samples_fall_into_cells_in_proportion_to_their_masses(law):
    n, grid = 20_000, evolution.make_grid([-4.0] * 2, [4.0] * 2, [13] * 2)
    x = np.asarray(data.draw(data.SETS.index(law), jax.random.key(0), n))
    counts = np.histogram2d(*x.T, [grid.edges(0), grid.edges(1)])[0]
    expected = n * data.masses(law, grid)
    assert expected.sum() == pytest.approx(n, rel=1e-6)
    seen = expected > 5
    square = ((counts - expected)[seen] ** 2 / expected[seen]).sum()
    assert 1e-3 < chi2.sf(square, seen.sum() - 1) < 1 - 1e-3


@pytest.mark.slow
def test_points_of_one_batch_share_no_offset_and_no_angle():
    board = np.asarray(data.draw_checkerboard(jax.random.key(0), 500))
    rings = np.asarray(data.draw_rings(jax.random.key(0), 500))
    angles = np.arctan2(*rings.T)
    nearest = np.diff(np.sort(angles)).min()
    # 500 independent angles: the nearest pair is about 2 pi / 500^2 = 2.5e-5 apart.
    assert 1e-8 < nearest < 1e-3
    # Equal offsets in two squares differ by multiples of the side, to rounding.
    rest = np.sort(np.mod(board[:, 0] + 3, data.SIDE))
    assert np.median(np.diff(rest)) > 1e-5


def test_the_mixture_has_the_papers_covariance():
    assert data.mixture().variance == pytest.approx([0.0845])
    assert np.abs(data.mixture().means).max() == pytest.approx(2.6)


def test_the_margin_is_cut_off_around_the_window():
    axis = WINDOW.grid.axis(0)
    inner = WINDOW.inner
    np.testing.assert_allclose(WINDOW.crop(np.add.outer(axis, 0 * axis))[:, 0], inner.axis(0))
    assert inner.shape == (30, 30) and inner.high == pytest.approx([3.0, 3.0])
    space = laws.window(SMOKE.laws)
    assert space.inner.shape == (SMOKE.laws.cells,) * 2
    assert space.inner.high == pytest.approx([SMOKE.laws.half_width] * 2)


def test_times_fall_from_the_noise_to_the_end_and_get_denser():
    t = laws.times(10.0, SMOKE.laws, 20)
    assert t[0] == 10 and t[-1] == pytest.approx(SMOKE.laws.end)
    assert (np.diff(t) < 0).all() and (np.diff(t, 2) > 0).all()
    assert len(t[::2]) == 11 and t[::2][-1] == t[-1]


@pytest.mark.slow
def test_what_leaves_the_window_is_counted():
    masses = np.zeros(WINDOW.grid.shape)
    masses[5:-5, 5:-5] = np.exp(-2 * np.add.outer(*[WINDOW.inner.axis(0) ** 2] * 2))
    masses *= 0.9 / masses.sum()
    ode, sde = masses.copy(), masses / 0.9
    ode[0, 0] = 0.07  # in the margin; 0.03 is beyond the box
    found = laws.distances(SMOKE_10, WINDOW, sde, {"ode": ode, "sde": sde}, jax.random.key(0))
    np.testing.assert_allclose(found["outside"], [0.1, 0, 0], atol=1e-12)
    assert found["lost"] == pytest.approx(0.03)
    np.testing.assert_allclose(found["smooth"], 0, atol=1e-12)  # each law is divided by its mass


SMOKE_10 = configs.get_config("smoke")
SMOKE_10.distances.cells = 10


def test_members_are_law_by_weight_by_seed_and_weights_share_their_seeds():
    members = nets.make_members(configs.get_config())
    law, weight = (a.reshape(3, 4, 3) for a in members[:2])
    keys = np.asarray(jax.random.key_data(members.keys)).reshape(3, 4, 3, -1)
    assert (law == np.arange(3)[:, None, None]).all()
    np.testing.assert_allclose(weight[1, :, 2], [0, 0.1, 1, 10], rtol=1e-6)
    assert (keys == keys[:, :1]).all()
    assert len(np.unique(keys[:, 0].reshape(9, -1), axis=0)) == 9


def test_the_rate_is_that_of_the_phase():
    """Adam moves by its rate along a constant gradient."""
    optimizer = nets.make_optimizer(SMOKE.train)
    steps, params = sum(SMOKE.train.phase_steps), jnp.zeros(())

    def one(carry, _):
        params, state = carry
        updates, state = optimizer.update(jnp.ones(()), state, params)
        return (optax.apply_updates(params, updates), state), updates

    moved = jax.lax.scan(one, (params, optimizer.init(params)), None, length=steps)[1]
    expected = np.repeat(SMOKE.train.phase_rates, SMOKE.train.phase_steps)
    np.testing.assert_allclose(-moved, expected, rtol=1e-4)


@pytest.mark.slow
def test_the_loss_is_denoising_plus_the_weight_times_the_mean_squared_residual():
    net = nets.make_net(SMOKE.net)
    schedule, loss = nets.make_schedule(SMOKE), nets.make_loss(SMOKE, net)
    params, x0 = net.init(jax.random.key(0)), data.draw(2, jax.random.key(1), 64)
    at = lambda w: jax.jit(loss)(params, jax.random.key(2), x0, jnp.full(64, w))  # noqa: E731
    (zero, _), (one, aux), (ten, _) = jax.tree.map(float, [at(0.0), at(1.0), at(10.0)])
    time = losses.collocation.beta(schedule, SMOKE.start_time)
    alone = losses.denoising(net, schedule, "score", time_sampler=time)
    assert zero == pytest.approx(float(alone(params, jax.random.key(2), x0)[0]), rel=1e-5)
    assert one - zero == pytest.approx(aux["fokker_planck"], rel=1e-4)
    assert ten - zero == pytest.approx(10 * aux["fokker_planck"], rel=1e-4)


SCHEDULE = data.OrnsteinUhlenbeck()


def normal_net(drift):
    """phi = log N(0, V_t I) + drift t^2 / 2, V_t = 0.3 alpha^2 + sigma^2: R = drift t at all x."""

    def potential(params, x, t, cond=None):
        level = SCHEDULE.at(t)
        v = 0.3 * level.alpha**2 + level.sigma**2
        return -0.5 * jnp.sum(x**2, 1) / v - jnp.log(v) + 0.5 * drift * t**2

    def apply(params, x, t, cond=None):
        return jax.grad(lambda x: jnp.sum(potential(params, x, t)))(x)

    return EnergyNet(lambda key: (), apply, potential, "score")


@pytest.mark.slow
def test_noise_and_data_of_the_denoising_loss_are_independent():
    """A correlation of 20,000 pairs is a normal number of variance 1 / 20,000: five of them."""
    config, nearest = configs.get_config("default"), lambda x: np.square(x - data.MODES).sum(-1)
    for law, name in enumerate(data.SETS):
        at = measures.points(config, SCHEDULE, law, jax.random.key(0))
        x0, eps = np.asarray(at["x0"]), np.asarray(at["eps"])
        within = {  # what is drawn last of each law
            "mixture": x0 - data.MODES[nearest(x0[:, None]).argmin(1)],
            "rings": np.linalg.norm(x0, axis=1, keepdims=True),
            "checkerboard": (x0 + 3) % data.SIDE,
        }[name]
        for part in (x0, within):
            correlation = np.corrcoef(part.T, eps.T)[: part.shape[1], part.shape[1] :]
            assert np.abs(correlation).max() < 5 / np.sqrt(len(x0))


def test_a_constant_of_each_time_shows_in_the_residual_and_not_in_its_spatial_part():
    """Float32 leaves 1e-3 of a residual whose terms are of the order 10."""
    config = configs.get_config("smoke")
    at = measures.points(config, SCHEDULE, 0, jax.random.key(0))
    each, t = config.measures.num_each, measures.residual_times(config)
    net = normal_net(0.5)
    found = measures.measure(net, (), SCHEDULE, at, each)
    np.testing.assert_allclose(found["constant"], 0.5 * t, atol=2e-3)
    np.testing.assert_allclose(found["variance"], 0, atol=1e-4)
    np.testing.assert_allclose(found["mean_square"], (0.5 * t) ** 2, rtol=1e-2)
    assert found["raw"] == pytest.approx(np.mean(0.25 * np.square(at["box_t"])), rel=1e-2)
    np.testing.assert_allclose(found["score_residual"], 0, atol=2e-2)
    level = SCHEDULE.at(at["dsm_t"], 2)
    x = level.alpha * at["x0"] + level.sigma * at["eps"]
    score = net.apply((), x, at["dsm_t"])
    for name, target in (
        ("dsm", -at["eps"] / level.sigma),
        ("score_error", data.mixture().score(x, level)),
    ):
        expected = np.mean(np.square(score - target))
        assert found[name] == pytest.approx(expected, rel=1e-4)


def test_the_bound_is_attained_by_a_linear_score():
    with jax.enable_x64(True):
        found = bound.linear(400)
    assert found["gap"] == pytest.approx(0.072999, abs=1e-6)
    assert found["bound"] == pytest.approx(found["gap"], rel=2e-5)  # order 2, 400 steps


@pytest.mark.slow
def test_the_gap_of_a_bump_is_the_reference_and_below_its_bound():
    """Order 2: 300 cells and 200 steps leave 64 times 1e-5 of the run of 2400 and 2000."""
    with jax.enable_x64(True):
        found = bound.on_the_line(0.1, 300, 200)
    assert found["gap"] == pytest.approx(0.196, abs=2e-3)
    assert found["bound"] > found["gap"]
    assert found["bound"] < found["growth"] * 0.5 * bound.END_TIME  # of an error below 1 in w


def test_the_slope_of_the_bump_is_its_derivative():
    x = jnp.linspace(-2, 2, 9)
    bump = lambda x: jnp.exp(-0.5 * x**2) * jnp.sin(2 * x)  # noqa: E731
    np.testing.assert_allclose(jax.vmap(jax.grad(bump))(x), bound.bump_slope(x), atol=1e-6)


@pytest.mark.slow
def test_both_laws_of_the_exact_score_are_the_data():
    """32 cells of 0.22 for modes of 0.29: of W_2^2 2e-3 is left, against 3 of the prior."""
    config = configs.get_config("smoke")
    config.laws.update(cells=32, margin=4, num_steps=40)
    config.distances.cells = 32
    space, oracle = laws.window(config.laws), fields.oracle(data.mixture())
    truth = data.masses("mixture", space.grid)
    found = laws.generated(SCHEDULE, oracle, space, laws.times(10.0, config.laws, 40))
    apart = laws.distances(config, space, truth, found, jax.random.key(0))
    assert apart["smooth"].max() < 2e-3
    assert abs(apart["lost"]) < 1e-2


class Folder:
    """A run folder with planted arrays of one law, 4 weights x 2 seeds."""

    config = configs.get_config("smoke")
    size = "default"

    def __init__(self, **stages):
        self.stages = stages

    def arrays(self, name):
        return self.stages[name]


def test_distances_keep_their_pairs_weights_and_seeds():
    kept = 100 * np.arange(8)[:, None] + np.arange(3)  # members x pairs
    found = statistics.distances(Folder(distances_rings={"smooth": kept}), "rings")
    assert found.shape == (3, 4, 2)
    assert found[statistics.SDE, 3, 1] == 702 and found[statistics.GAP, 2, 0] == 400


def test_the_spatial_part_of_the_residual_and_its_rest_are_told_apart():
    at_times = np.linspace(0.5, 1.5, 5)  # of mean 1
    stage = {"variance": np.tile(0.2 * at_times, (8, 1)), "mean_square": np.tile(at_times, (8, 1))}
    run = Folder(measures_rings=stage)
    np.testing.assert_allclose(statistics.spatial_residual(run, "rings"), 0.2)
    np.testing.assert_allclose(statistics.constant_share(run, "rings"), 0.8)


def test_signs_are_counted_for_every_law_and_seed():
    values = np.array([[4.0, 4.0], [3.0, 5.0], [2.0, 1.0], [1.0, 0.5]])  # weights x seeds
    np.testing.assert_array_equal(statistics.falls(values), [True, False])
    assert statistics.share([[True, False], [True, True]]) == 0.75
    claim = claims._signs([[True, False], [True, True]], id="x", paper="", statement="")
    assert claim.verdict == "fails" and claims._signs(
        [[True], [True]], id="x", paper="", statement=""
    ).verdict == "holds"  # fmt: skip


def test_slopes_are_those_of_logarithms():
    x = np.array([[1.0, 2.0], [10.0, 20.0], [100.0, 50.0]])
    np.testing.assert_allclose(statistics.slope(x, 3 * x**-0.5), -0.5)


def test_a_factor_must_reach_the_papers_at_the_papers_size_alone():
    run, values = Folder(), np.array([3.0, 3.1])
    fields = dict(id="x", paper="", statement="")
    assert claims._factor(run, values, 5.25, 5.2, **fields).verdict == "holds"
    run.size = "paper"
    assert claims._factor(run, values, 5.25, 5.2, **fields).verdict == "fails"


def test_losses_are_scaled_between_minus_and_plus_one_half():
    scaled = statistics.normalised_dsm(np.array([0.846, 0.845, 0.850]))
    np.testing.assert_allclose(scaled, [-0.3, -0.5, 0.5], atol=1e-9)


def test_halving_the_steps_is_compared_with_the_first_seed():
    kept = np.tile(np.repeat([[1.0], [2.0], [3.0], [4.0]], 2, axis=0), 3)
    kept[1::2] = 9  # second seeds
    halved = np.array([[1.5, 0, 0], [2, 0, 0], [3, 0, 0], [4, 0, 0]])
    run = Folder(distances_rings={"smooth": kept}, refined_rings={"smooth": halved})
    np.testing.assert_allclose(statistics.step_error(run, "rings"), [0.5, 0, 0, 0])


def test_each_member_gets_its_own_parameters_whatever_the_device():
    params = {"a": np.arange(6.0)}
    found = nets.each(lambda p, i: {"twice": 2 * p["a"], "i": i}, params, [4, 1, 5])
    assert [(float(row["twice"]), int(row["i"])) for row in found] == [(8, 4), (2, 1), (10, 5)]
    assert study.compare(lambda laws, member: laws + member, [10, 20], [0, 3], Bar) == [10, 23]


class Bar:
    @staticmethod
    def update(_):
        pass


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"weights": (0.0, 1.0)}, "config.weights"),
        ({"num_seeds": 1}, "config.num_seeds"),
        ({"train.phase_rates": (1e-3,)}, "config.train.phase_rates"),
        ({"train.slices": 3}, "config.train.batch_size"),
        ({"distances.cells": 48}, "config.distances.cells"),
        ({"laws.num_steps": 50}, "config.laws.num_steps"),
        ({"net.activation": "relu"}, "config.net.activation"),
        ({"collocation.points": "grid"}, "config.collocation.points"),
        ({"laws.end": 0.0}, "config.laws.end"),
        ({"laws.power": 1e9}, "config.laws.power"),
        ({"measures.num_each": 1}, "config.measures.num_each"),
        ({"net.sharpness": 1e9}, "config.net.sharpness"),
    ],
)
def test_settings_that_cannot_be_are_refused_in_one_line(change, name):
    config = configs.get_config()
    config.update_from_flattened_dict(change)
    with pytest.raises(checks.ConfigError, match=name) as caught:
        configs.validate(config)
    assert "allowed" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("size", configs.SIZES)
def test_every_size_is_valid(size):
    assert configs.validate(configs.get_config(size)) is None
