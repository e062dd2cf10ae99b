"""The intrinsic dimension from the flow's Jacobian: claims 7 and 8 of the study `gauge_freedom`.

Members are law x seed, laws outermost; one ensemble a dimension of space and a kind of net. The
singular values of d x_t / d x_1 are kept for every field at a hundred points of the noise, shape
(laws, seeds, times, points, largest dimension), NaN beyond the law's own dimension and where there
is no such field.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dfx import diagnostics, schedules, train
from experiments.gauge_freedom import manifolds
from experiments.gauge_freedom.exact import seed_keys
from experiments.gauge_freedom.training import KINDS, net_field, train_members

#: Fields in closed form: exact, and with a gauge error.
CLOSED = ("exact", "exact_gauge")

#: Tolerances of the flow and its Jacobian, in float32.
RTOL, ATOL = 1e-3, 1e-4

#: Points at which the errors of the nets are averaged, and how many noise levels.
ERROR_POINTS, ERROR_LEVELS = 2000, 8


def dimension(config, run) -> None:
    """Train every kind of net on every law, and take the singular values of all fields."""
    laws = [manifolds.make(name) for name in config.dimension.manifolds]
    schedule = schedules.make("vp_linear", **config.schedule)
    nets = train_all(config, run, laws, schedule)
    run.arrays("dimension_laws", lambda: _about(config, laws))
    run.arrays("net_errors", lambda: net_errors(config, laws, schedule, nets))
    for name in (*CLOSED, *KINDS):
        field_of = _closed(config, name) if name in CLOSED else nets[name]
        compute = functools.partial(values, config, run, name, laws, schedule, field_of)
        run.arrays(f"{name}_values", compute)


def stages(config) -> tuple[str, ...]:
    """Return the names of the long stages."""
    dims = sorted({manifolds.make(name).dim for name in config.dimension.manifolds})
    trainings = [f"{kind}{dim}" for dim in dims for kind in KINDS]
    return (*trainings, *(f"{name}_values" for name in (*CLOSED, *KINDS)))


def _about(config, laws) -> dict[str, np.ndarray]:
    return {
        "names": np.asarray([law.name for law in laws]),
        "dims": np.asarray([law.dim for law in laws]),
        "intrinsic": np.asarray([law.intrinsic for law in laws]),
        "times": read_times(config),
    }


def read_times(config) -> np.ndarray:
    """Return the times at which singular values are taken, falling to the last one."""
    settings = config.dimension
    return np.geomspace(1.0, settings.last_time, settings.num_times + 1)[1:]


def train_all(config, run, laws, schedule) -> dict[str, Callable]:
    """Return kind -> ((law, seed) -> field, by their numbers)."""
    settings, params = config.dimension, {}
    for dim in sorted({law.dim for law in laws}):
        group = [law for law in laws if law.dim == dim]
        number = np.repeat(np.arange(len(group)), settings.num_seeds)
        keys = seed_keys(config, len(number), 30 + dim)
        draws, free = [law.draw for law in group], None
        for kind in KINDS:
            teachers: Any = free if kind == "projected" else None
            found = train_members(
                run, f"{kind}{dim}", kind, dim, settings, schedule, draws, number, keys, teachers
            )
            free = found if kind == "free" else free
            for index, law in enumerate(group):
                for seed in range(settings.num_seeds):
                    own = train.member(found, index * settings.num_seeds + seed)
                    params[kind, law.name, seed] = own

    def fields_of(kind):
        return lambda law, seed: net_field(kind, law.dim, settings, params[kind, law.name, seed])

    return {kind: fields_of(kind) for kind in KINDS}


def _closed(config, name: str) -> Callable:
    """(law, seed) -> the exact field, with a random gauge error if so named; None without one."""
    size = config.dimension.gauge if name == "exact_gauge" else 0.0  # one program for both

    def field_of(law, seed):
        if law.exact is None:
            return None
        error = diagnostics.rotated(law.exact, antisymmetric(law.dim, seed))
        return diagnostics.with_error(law.exact, error, size)

    return field_of


def antisymmetric(dim: int, seed: int) -> np.ndarray:
    """Return a random antisymmetric matrix whose largest turn is 1, shape (dim, dim)."""
    a = np.random.default_rng([dim, seed]).normal(size=(dim, dim))
    return (a - a.T) / np.linalg.norm(a - a.T, 2)


def values(config, run, name, laws, schedule, field_of) -> dict[str, np.ndarray]:
    """Return the singular values of d x_t / d x_1 along the paths from draws of N(0, sigma^2 I)."""
    settings, times = config.dimension, read_times(config)
    shape = len(laws), settings.num_seeds, len(times), settings.num_points
    found = np.full((*shape, max(law.dim for law in laws)), np.nan, np.float32)
    keys = seed_keys(config, settings.num_seeds, 40)
    with run.progress(shape[0] * shape[1], f"{name}_values", unit="field") as bar:
        for i, law in enumerate(laws):
            for seed, key in enumerate(keys):
                field = field_of(law, seed)
                if field is not None:
                    start = jax.random.normal(key, (settings.num_points, law.dim))
                    start = float(schedule.at(schedule.end_time).sigma) * start
                    path = diagnostics.flow_jacobian(
                        schedule, field, start, times, rtol=RTOL, atol=ATOL
                    )
                    found[i, seed, ..., : law.dim] = singular_values(path.matrix)
                bar.update(1)
    return {"values": found}


def singular_values(matrix) -> np.ndarray:
    """Return the singular values along the last two axes, falling; NaN for a path cut short."""
    matrix = np.asarray(matrix, np.float64)
    whole = np.isfinite(matrix).all((-2, -1), keepdims=True)
    found = np.linalg.svd(np.where(whole, matrix, 0.0), compute_uv=False)
    return np.where(whole[..., 0], found, np.nan)


def net_errors(config, laws, schedule, nets) -> dict[str, np.ndarray]:
    """Return E|eps_hat - eps|^2 / d of every kind of net by level, shape (kinds, laws, seeds,
    levels), to the exact field; NaN without one. `to_teacher`: of the projected to the free net."""
    settings = config.dimension
    times = np.geomspace(settings.last_time, 1.0, ERROR_LEVELS)
    shape = len(laws), settings.num_seeds, len(times)
    error, to_teacher = np.full((len(KINDS), *shape), np.nan), np.full(shape, np.nan)
    key = seed_keys(config, 1, 41)[0]
    for place in np.ndindex(shape):
        law, seed, level = laws[place[0]], place[1], schedule.at(times[place[2]])
        x = _draw(law, jax.random.fold_in(key, seed), level)
        own = [nets[kind](law, seed) for kind in KINDS]
        for i, field in enumerate(own):
            if law.exact is not None:
                error[(i, *place)] = _mean_square(field, law.exact, x, level)
        to_teacher[place] = _mean_square(own[KINDS.index("projected")], own[0], x, level)
    return {"times": times, "error": error, "to_teacher": to_teacher}


def _draw(law, key, level):
    key_x, key_eps = jax.random.split(key)
    x0 = law.draw(key_x, ERROR_POINTS)
    return level.alpha * x0 + level.sigma * jax.random.normal(key_eps, x0.shape)


@jax.jit
def _mean_square(field, other, x, level):
    eps = [diagnostics.prediction_at(f, level, "eps")(x) for f in (field, other)]
    return jnp.mean((eps[0] - eps[1]) ** 2)
