"""Nets in two dimensions beside their exact score: eight modes on a ring, linear VP.

Three kinds with one body: "free" (an eps-net), "conservative" (the gradient of a scalar net) and
"regularised" (conservative with a Fokker-Planck penalty). Members are seeds, trained as one program
a kind. Kept, for each KIND:

    KIND_N          parameters after N steps
    KIND_fields     asymmetry, score error and Fokker-Planck residual by noise level, on draws of
                    p_t and on the model's own trajectories; samples of the ODE and the SDE
    KIND_loops      circulation by noise level and radius, in float64
    KIND_training   asymmetry and W_2 after each of the kept numbers of steps (free only)

`exact_fields` and `exact_loops` (the floor), `quiver` (the first free net's field) and `joint` (the
distances of the samples of every kind, by seed). What becomes of the free nets' errors is in
`projection`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dfx import diagnostics, evolution, fields, losses, metrics, nets, schedules, solvers, train
from experiments.score_or_flow.errors import level_grid
from experiments.score_or_flow.identities import SCHEDULE, ring
from experiments.score_or_flow.rates import time_of
from experiments.shared import perturbed
from experiments.shared.members import Training, first_states, fit

#: The earliest time that nets are trained at.
FIRST = 1e-3

#: Runge-Kutta steps from one noise level to the next, and steps of the reverse SDE.
SUBSTEPS, SDE_STEPS = 8, 1000


BED = perturbed.Bed(ring(), SCHEDULE)


def half_log_snr(level):
    """Return what the nets see as their time: log(alpha / sigma) / 3, of order one."""
    return level.half_log_snr / 3.0


def log_uniform_time(u):
    """Return the quantiles of the training times: log t uniform from `FIRST` to 1."""
    return FIRST ** (1 - u)


class Kind(NamedTuple):
    """A kind of net and its pure step."""

    net: Any
    step: Callable


def make_kind(name: str, settings) -> Kind:
    """Return the net of a kind and the step that trains it."""
    penalty = settings.regulariser.weight, settings.regulariser.num_points
    return _kind(name, settings.width, settings.depth, *penalty)


@functools.cache  # one step object a kind and size, so that what is compiled for it is found again
def _kind(name: str, width: int, depth: int, weight: float, num_points: int) -> Kind:
    body = nets.mlp(2, width, depth)
    net: Any = body if name == "free" else nets.energy.inner_product(body)
    sampler = losses.TimeSampler(log_uniform_time)
    loss = losses.denoising(net, SCHEDULE, "eps", time_sampler=sampler, time=half_log_snr)
    if name == "regularised":
        at = losses.Collocation(sampler, num_points=num_points)
        penalty = losses.fokker_planck(net, SCHEDULE, at, time=half_log_snr)
        loss = losses.plus(loss, penalty, weight)
    return Kind(net, train.make_step(loss, train.optimizer(schedule="cosine", total=1)))


def train_and_measure(config, run) -> dict[str, list]:
    """Train every kind and look at its fields; return the parameters by kind and kept step."""
    trained = {kind: train_kind(config, run, kind) for kind in config.toy.kinds}
    levels = time_of(SCHEDULE, level_grid(config))
    for kind in config.toy.kinds:
        field = net_field(kind, config, trained[kind][-1])
        run.arrays(f"{kind}_fields", lambda f=field, k=kind: measure(config, run, f, k, levels))
        run.arrays(f"{kind}_loops", lambda f=field: loops(config, f, levels))
    exact = stacked_oracle(config.num_seeds)
    run.arrays("exact_fields", lambda: measure_exact(config, exact, levels))
    run.arrays("exact_loops", lambda: loops(config, exact, levels))
    run.arrays("joint", lambda: joint(config, run))
    free = net_field("free", config, trained["free"][-1])
    run.arrays("quiver", lambda: quiver(free, levels))
    run.arrays("free_training", lambda: training_curve(config, trained["free"], levels))
    return trained


def snapshot_steps(config) -> tuple[int, ...]:
    """Return the numbers of steps after which nets are kept; the last is the training's."""
    return (*config.toy.snapshots, config.toy.num_steps)


def train_kind(config, run, kind: str) -> list[Any]:
    """Return the stacked parameters of a kind after each kept number of steps."""
    settings = config.toy
    net, step = make_kind(kind, settings)
    keys = jax.random.split(jax.random.key(config.seed + 4), config.num_seeds)
    optimizer = train.optimizer(settings.learning_rate, schedule="cosine", total=settings.num_steps)
    first = first_states(net.init, optimizer, keys)
    training = Training(step, _batches(settings.batch_size), settings.chunk)
    steps = snapshot_steps(config) if kind == "free" else (settings.num_steps,)
    return fit(run, kind, training, first, keys, steps)


@functools.cache
def _batches(batch_size: int) -> Callable:
    def batch(key, step):
        draw = jax.random.fold_in(jax.random.fold_in(key, _DATA), step)
        return (BED.target.sample(draw, batch_size),)

    return batch


_DATA = 2  # what `first_states` leaves of a member's key


def net_field(kind: str, config, params) -> fields.NetField:
    """Return the fields of all members, stacked."""
    return fields.from_net(make_kind(kind, config.toy).net, params, "eps", time=half_log_snr)


def stacked_oracle(count: int):
    """Return the exact field, `count` times."""
    repeat = lambda a: jnp.stack([jnp.asarray(a, jnp.float32)] * count)  # noqa: E731
    return fields.oracle(jax.tree.map(repeat, BED.target))


def member_keys(config, number: int) -> jax.Array:
    """Return one key a seed for the stage of that number."""
    return jax.random.split(jax.random.key(config.seed + 5 + number), config.num_seeds)


def draws(keys, n: int, t: float, dtype=jnp.float32):
    """Return draws of p_t for each key, shape (m, n, 2)."""
    return jax.vmap(lambda key: BED.draw(key, n, t, dtype))(keys)


def measure(config, run, field, kind: str, times) -> dict[str, np.ndarray]:
    """Return what `_look` and `_residuals` see at each level, (members, levels), on draws and, by
    names ending in _own, on the model's own trajectories; and samples of its ODE and SDE."""
    keys, settings = member_keys(config, 0), config.toy
    residual = _residuals(make_kind(kind, settings).net)
    paths = trajectories(field, keys, settings.num_samples, times)
    rows: dict[str, list] = {}
    with run.progress(len(times), f"{kind} fields", unit="level") as bar:
        for t, path in zip(map(float, times), paths):
            x, own = draws(keys, settings.num_points, t), path[:, : settings.num_points]
            seen = list(_look(field, x, jnp.float32(t)).items())
            seen += [(f"{n}_own", v) for n, v in _look(field, own, jnp.float32(t)).items()]
            for name, value in [*seen, *residual(field, x, jnp.float32(t)).items()]:
                rows.setdefault(name, []).append(np.asarray(value))
            bar.update(1)
    found = {name: np.stack(values, axis=1) for name, values in rows.items()}
    noise = sde_samples(config, field, keys, float(times[-1]))
    return {"t": times, "level": level_grid(config), **found, "ode": paths[-1], "sde": noise}


def measure_exact(config, field, times) -> dict[str, np.ndarray]:
    """Return what `_look` sees of the exact score on draws: the floor of the working precision."""
    keys = member_keys(config, 0)
    seen = [
        _look(field, draws(keys, config.toy.num_points, float(t)), jnp.float32(t)) for t in times
    ]
    found = {name: np.stack([np.asarray(row[name]) for row in seen], axis=1) for name in seen[0]}
    return {"t": times, "level": level_grid(config), **found}


@jax.jit
def _look(field, x, t) -> dict[str, Any]:
    """Pooled asymmetry with its standard error, median, and E|eps error|^2, for each member."""
    level = SCHEDULE.at(t)

    def one(field, x):
        found = diagnostics.asymmetry(diagnostics.prediction_at(field, level), x)
        ratio = diagnostics.pooled(found)
        error = level.sigma * diagnostics.score_error(field, BED.exact, level)(x)
        return {
            "asymmetry": ratio.ratio,
            "asymmetry_error": ratio.standard_error,
            "asymmetry_median": ratio.median,
            "error": jnp.mean(jnp.sum(error**2, axis=1)),
        }

    return jax.vmap(one)(field, x)


@functools.cache
def _residuals(net) -> Callable:
    """Return the function that gives the mean square of the score residual, times (sigma^3 /
    g^2)^2, and of an energy net the variance over x of R, times (sigma^2 / g^2)^2."""

    def one(field, x, t):
        level, rate = SCHEDULE.at(t), schedules.diffusion(SCHEDULE, t)
        score = diagnostics.score_residual(SCHEDULE, field, x, t) * level.sigma**3 / rate
        found = {"score_residual": jnp.mean(jnp.sum(score**2, axis=1))}
        if isinstance(net, nets.energy.EnergyNet):
            log_p = nets.energy.log_density(net, field.params, time=half_log_snr)
            residual = diagnostics.potential_residual(SCHEDULE, log_p, x, t)
            variance = diagnostics.spatial(residual).variance
            found["potential_residual"] = variance * (level.sigma**2 / rate) ** 2
        return found

    return jax.jit(jax.vmap(one, in_axes=(0, 0, None)))


def trajectories(field, keys, n: int, times) -> np.ndarray:
    """Return samples of each member's flow at each time, (levels, m, n, 2), from exact starts."""
    x = draws(keys, n, float(SCHEDULE.end_time))
    found = []
    for start, end in zip(np.append(float(SCHEDULE.end_time), times[:-1]), times):
        grid = schedules.grids.uniform_log_snr(SCHEDULE, SUBSTEPS, float(start), float(end))
        x = _flow(field, x, jnp.asarray(grid, jnp.float32))
        found.append(np.asarray(x))
    return np.stack(found)


@jax.jit
def _flow(field, x, times):
    move = lambda field, x: evolution.move(  # noqa: E731
        evolution.reverse(SCHEDULE, field, 0.0), x, times
    )
    return jax.vmap(move)(field, x)


def sde_samples(config, field, keys, end: float) -> np.ndarray:
    """Return samples of each member by its reverse SDE, shape (m, n, 2)."""
    grid = schedules.grids.uniform_log_snr(SCHEDULE, SDE_STEPS, end=end)
    tableau = solvers.make("ddpm", SCHEDULE, grid)
    x = draws(keys, config.toy.num_samples, float(SCHEDULE.end_time))
    found = []
    for i, key in enumerate(keys):
        one = jax.tree.map(lambda leaf, i=i: leaf[i], field)
        found.append(np.asarray(solvers.sample(tableau, one, x[i], jax.random.fold_in(key, 1))))
    return np.stack(found)


def truth(config, copy: int) -> np.ndarray:
    """Return exact draws at the last level, shape (m, n, 2)."""
    keys = member_keys(config, 20 + copy)
    return np.asarray(draws(keys, config.toy.num_samples, _last(config)))


def _last(config) -> float:
    return float(time_of(SCHEDULE, config.levels.low))


def loops(config, field, times) -> dict[str, np.ndarray]:
    """Return normalised circulations (m, levels, radii, loops) round draws of p_t, and the ratio
    of C to pi r^2 e2.(J - J^T) e1 at the centre; radii in units of sigma; in float64."""
    settings = config.toy
    with jax.enable_x64(True):
        field = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), field)
        keys, rows = member_keys(config, 1), []
        for t in times:
            x = draws(keys, settings.num_loops, float(t), jnp.float64)
            radii = jnp.asarray(settings.radii) * SCHEDULE.at(float(t)).sigma
            rows.append(jax.tree.map(np.asarray, _loops(field, x, jnp.float64(t), radii)))
    value, curl = (np.stack(parts, axis=1) for parts in zip(*rows))
    return {"level": level_grid(config), "circulation": value, "over_curl": curl}


NODES = 256


@jax.jit
def _loops(field, x, t, radii):
    level, plane = SCHEDULE.at(t), jnp.eye(2, dtype=x.dtype)

    def one(field, x, radius):
        view = diagnostics.prediction_at(field, level)
        found = diagnostics.circulation(
            view, diagnostics.circle(x, radius, plane[0], plane[1], NODES)
        )
        jacobian = fields.jacobian(view, x[None])[0]
        curl = jacobian[1, 0] - jacobian[0, 1]
        return found.normalised, found.value / (jnp.pi * radius**2 * curl)

    for axes in ((None, 0, None), (None, None, 0), (0, 0, None)):
        one = jax.vmap(one, axes)
    value, curl = one(field, x, radii)
    return value, curl


def training_curve(config, snapshots, times) -> dict[str, np.ndarray]:
    """Return asymmetry and eps error (m, steps, levels) and W_2 (m, steps) along the training of
    the free nets, the same draws and starts after every number of steps."""
    keys, exact = member_keys(config, 0), truth(config, 0)
    asymmetry, error, distance = [], [], []
    for params in snapshots:
        field = net_field("free", config, params)
        seen = [
            _look(field, draws(keys, config.toy.num_points, float(t)), jnp.float32(t))
            for t in times
        ]
        asymmetry.append(np.stack([row["asymmetry"] for row in seen], axis=1))
        error.append(np.stack([row["error"] for row in seen], axis=1))
        x = trajectories(field, keys, config.toy.num_samples, times)[-1]
        distance.append(perturbed.distances(x, exact))
    return {
        "steps": np.asarray(snapshot_steps(config)),
        "asymmetry": np.stack(asymmetry, axis=1),
        "error": np.stack(error, axis=1),
        "w2": np.stack(distance, axis=1),
    }


def quiver(field, times) -> dict[str, np.ndarray]:
    """Return the score of the first net on a square grid, (n, 2) each, at the level nearest to
    sigma / alpha = 0.3, with the exact score and density there."""
    t = times[np.argmin(np.abs(times - time_of(SCHEDULE, 0.3)))]
    level, side = SCHEDULE.at(float(t)), np.linspace(-1.9, 1.9, 24, dtype=np.float32)
    x = np.stack(np.meshgrid(side, side, indexing="ij"), -1).reshape(-1, 2)
    first = jax.tree.map(lambda a: a[0], field)
    score = diagnostics.prediction_at(first, level)(x)
    exact, log_p = BED.target.score(x, level), BED.target.log_prob(x, level)
    found = {"score": score, "exact": exact, "log_p": log_p}
    scales = {"sigma": level.sigma, "ratio": level.sigma / level.alpha}
    return {"x": x, **{name: np.asarray(a) for name, a in (found | scales).items()}}


def joint(config, run) -> dict[str, np.ndarray]:
    """Return W_2 by kind and seed: ode and sde to the truth, between both, and the share of each
    beyond 6 sd of every mode; `floor` is W_2 of two exact sets."""
    exact, kinds = truth(config, 0), config.toy.kinds
    samples = [run.arrays(f"{kind}_fields", _missing) for kind in kinds]
    rows = {
        "ode": [perturbed.distances(row["ode"], exact) for row in samples],
        "sde": [perturbed.distances(row["sde"], exact) for row in samples],
        "between": [perturbed.distances(row["ode"], row["sde"]) for row in samples],
        "ode_beyond": [beyond(config, row["ode"]) for row in samples],
        "sde_beyond": [beyond(config, row["sde"]) for row in samples],
    }
    found = {name: np.stack(values) for name, values in rows.items()}
    floor = perturbed.distances(truth(config, 1), exact)
    return {"kinds": np.asarray(kinds), "floor": floor, **found, "truth": exact}


def _missing():
    raise RuntimeError("the stage before has not been computed")


def beyond(config, x) -> np.ndarray:
    """Return the share of samples (m, n, 2) of the last level more than 6 sd from every mode."""
    law = BED.target.at(SCHEDULE.at(_last(config)))
    std = np.sqrt(law.variance[0])
    return np.asarray([metrics.hallucinated_fraction(one, law.means, std) for one in x])
