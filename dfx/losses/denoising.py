"""Denoising regression: teach a net the posterior mean of what was mixed into x_t.

    x_t = alpha x0 + beta y + sigma eps,        loss = mean w |net(x_t, t) - p|^2,

with p = c x0 + s eps the prediction (eps, x0, v, velocity, ..; `dfx.fields.convert`) and w a
weighting. The minimum over all functions of (x_t, t) is E[p | x_t], and the value there is the
weighted posterior variance of p. Score matching is the prediction eps; flow matching is the
prediction velocity, which is eps - x0 on the rectified linear schedule.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from dfx.fields import net_time, pair
from dfx.losses import times
from dfx.losses import weighting as weightings
from dfx.schedules import Level, Schedule, marginal_sample, marginal_velocity
from dfx.schedules.schedule import check_endpoint


def denoising(
    net: Any,
    schedule: Schedule,
    prediction: str = "eps",
    weighting: str | weightings.Weighting = "uniform",
    time_sampler: str | Callable = "uniform",
    time: Callable[[Level], jax.Array] | None = None,
    noise: Callable | None = None,
) -> Callable:
    """Return the denoising loss of a batch.

    The result is `loss(params, key, x0, cond=None, y=None) -> (value, aux)`: the mean over batch
    and coordinates of the weighted squared error at random times and noise, and under "mse" the
    same mean without weights. x0 has shape (n, *sample), cond is passed to the net, y is the
    endpoint of the mean term. Everything outside the net is float32, or the wider dtype of x0.

    Args:
      net: anything with `apply(params, x, t, cond=None)`, such as a `dfx.nets.Net`.
      schedule: the forward process.
      prediction: what the net predicts, one of `dfx.fields.PREDICTIONS`. A velocity needs sigma_dot
        finite over the times drawn.
      weighting: a name in `dfx.losses.weighting.REGISTRY`, or a function (level, prediction) ->
        factor.
      time_sampler: a name in `dfx.losses.times.REGISTRY`, or a function (key, n, dtype) -> t of
        shape (n,), or (n, T) for one time per token.
      time: level -> the number the net gets as its time, level.t by default. The field of the
        trained net (`dfx.fields.from_net`) needs the same function.
      noise: (key, x0) -> eps in place of independent normal noise: a coupling of noise and data.

    Raises:
      PersonError: an unknown name, at once; a schedule with a mean term and no y, at the first
        call.
    """
    errors = _squared_errors(net, schedule, prediction, weighting, time)
    if isinstance(time_sampler, str):
        time_sampler = times.make(time_sampler, schedule)
    noise = noise or (lambda key, x0: jax.random.normal(key, x0.shape, x0.dtype))

    def loss(params, key, x0, cond=None, y=None):
        key_t, key_eps = jax.random.split(key)
        x0 = x0.astype(jnp.promote_types(x0.dtype, jnp.float32))
        t = time_sampler(key_t, x0.shape[0], x0.dtype)
        squares, weight = errors(params, x0, noise(key_eps, x0), t, cond, y)
        return jnp.mean(weight * squares), {"mse": jnp.mean(squares)}

    return loss


def per_sample(
    net: Any,
    schedule: Schedule,
    prediction: str = "eps",
    weighting: str | weightings.Weighting = "uniform",
    time: Callable[[Level], jax.Array] | None = None,
) -> Callable:
    """Return the loss of each sample at given noise and times, arguments as `denoising`.

    The result is `losses(params, x0, eps, t, cond=None, y=None)`, shape (n,): the weighted
    squared error, mean over the coordinates. eps has the shape of x0; t has shape (n,), or (n, T)
    for one time per token.
    """
    errors = _squared_errors(net, schedule, prediction, weighting, time)

    def losses(params, x0, eps, t, cond=None, y=None):
        squares, weight = errors(params, x0, eps, t, cond, y)
        return jnp.mean(weight * squares, axis=tuple(range(1, x0.ndim)))

    return losses


def prediction_target(x0, eps, level: Level, prediction: str, y=None):
    """Return what a net of that prediction is regressed on: c x0 + s eps.

    A velocity has beta_dot y besides. It is made from x0 and eps, not from x_t, so that it is exact
    also where either vanishes from x_t.
    """
    if prediction == "velocity":
        return marginal_velocity(x0, eps, level, y)
    c, s = pair(prediction, level)
    return c * x0 + s * eps


def _squared_errors(net, schedule, prediction, weighting, time):
    """Return (params, x0, eps, t, cond, y) -> (squared errors, weights that broadcast to them)."""
    weigh = weightings.make(weighting) if isinstance(weighting, str) else weighting
    end = schedule.at(schedule.end_time)
    pair(prediction, end)  # an unknown prediction stops here, before anything is compiled

    def errors(params, x0, eps, t, cond, y):
        check_endpoint(schedule, y, "the loss")
        level = schedule.at(t, x0.ndim)
        x = marginal_sample(x0, eps, level, y)
        seen = net_time(level.t if time is None else time(level), x)
        output = net.apply(params, x, seen, cond)
        target = prediction_target(x0, eps, level, prediction, y)
        return (output - target) ** 2, weigh(level, prediction)

    return errors
