"""What is measured of a net of the study `fokker_planck_gap` at points: residuals and errors."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from dfx import diagnostics, fields, losses
from dfx.losses import collocation
from dfx.nets.energy import log_density
from dfx.schedules import marginal_sample
from experiments.fokker_planck_gap import data

#: Denoising and score errors are taken at times above this, where both have a variance.
EARLIEST = 0.01


def points(config, schedule, law: int, key: jax.Array) -> dict[str, jax.Array]:
    """Return the points at which the nets of one data law are measured; all see the same.

    box: uniform in time and in the box of the loss; noised: of p_t, equally many at each of the
    times, times outermost; dsm: x0, noise and times of the denoising loss; small: of p_t at the
    times of the score equation.
    """
    s, keys = config.measures, jax.random.split(key, 7)
    end, width = schedule.end_time, config.collocation.half_width
    noised_t, small_t = residual_times(config), score_times(config)
    # Of the times of the loss, those above EARLIEST: a Beta(1, 2) law cut off below is one again.
    dsm_t = collocation.beta(schedule, EARLIEST)(keys[0], s.num_dsm)
    return {
        "box_x": jax.random.uniform(keys[1], (s.num_box, 2), minval=-width, maxval=width),
        "box_t": jax.random.uniform(keys[2], (s.num_box,), minval=config.start_time, maxval=end),
        **_noised(schedule, law, keys[3], "noised", noised_t, s.num_each),
        **_noised(schedule, law, keys[4], "small", small_t, s.num_each),
        "x0": data.draw(law, keys[5], s.num_dsm),
        "eps": jax.random.normal(keys[6], (s.num_dsm, 2)),
        "dsm_t": dsm_t,
    }


def residual_times(config) -> np.ndarray:
    """Return the times of the spatial residual, from 1 % to 99 % of the end time."""
    return config.end_time * np.linspace(0.01, 0.99, config.measures.num_times)


def score_times(config) -> np.ndarray:
    """Return the times of the score equation: from 0.01 to 3, in equal ratios."""
    return np.geomspace(0.01, 3.0, config.measures.num_score_times)


def _noised(schedule, law, key, name, at, each):
    key, noise = jax.random.split(key)
    t = jnp.repeat(jnp.asarray(at, jnp.float32), each)
    x0 = data.draw(law, key, len(t))
    eps = jax.random.normal(noise, x0.shape)
    return {f"{name}_x": marginal_sample(x0, eps, schedule.at(t, 2)), f"{name}_t": t}


@functools.partial(jax.jit, static_argnames=("net", "num_each"))
def measure(net, params, schedule, at: dict[str, jax.Array], num_each: int) -> dict:
    """Return the residuals and errors of a net.

    Returns:
      raw: mean of R^2 in the box of the loss. mean_square, constant, variance (times,): of R under
      p_t, its mean over x and its variance over x. score_residual (score times,): the root mean
      square over coordinates of the residual of the score equation. dsm: the denoising loss, mean
      over coordinates. score_error: the mean square of score - score of the mixture, over
      coordinates, of a meaning for the nets of the mixture alone.
    """
    potential = log_density(net, params)
    residual = lambda x, t: diagnostics.potential_residual(schedule, potential, x, t)  # noqa: E731
    noised = residual(at["noised_x"], at["noised_t"]).reshape(-1, num_each)
    split = diagnostics.spatial(noised)
    field = fields.from_net(net, params, net.prediction)
    eps = diagnostics.score_residual(schedule, field, at["small_x"], at["small_t"])
    each = losses.per_sample(net, schedule, "score")
    return {
        "raw": jnp.mean(residual(at["box_x"], at["box_t"]) ** 2),
        **split._asdict(),
        "score_residual": jnp.sqrt(jnp.mean(eps.reshape(-1, num_each, 2) ** 2, axis=(1, 2))),
        "dsm": jnp.mean(each(params, at["x0"], at["eps"], at["dsm_t"])),
        "score_error": _score_error(net, params, schedule, at),
    }


def _score_error(net, params, schedule, at):
    level = schedule.at(at["dsm_t"], 2)
    x = marginal_sample(at["x0"], at["eps"], level)
    exact = data.mixture().score(x, level)
    return jnp.mean((net.apply(params, x, at["dsm_t"]) - exact) ** 2)
