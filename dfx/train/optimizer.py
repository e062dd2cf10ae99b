"""Adam with warm-up, a learning-rate schedule and clipping, its numbers held in its state.

Because the numbers live in the state, one step function serves every setting of them: an ensemble
over learning rates is `vmap` over the states, and a checkpoint knows the rate it was trained with.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dfx.errors import PersonError, choose


class Held(NamedTuple):
    """The state of `optimizer`: the hyper-parameters by name, and the state of what they build."""

    numbers: dict[str, jax.Array]
    inner: Any


def constant(progress: jax.Array) -> jax.Array:
    """Return 1: the learning rate keeps its value after the warm-up."""
    return jnp.ones_like(progress)


def cosine(progress: jax.Array) -> jax.Array:
    """Return (1 + cos(pi progress)) / 2, which falls from 1 to 0 over the run."""
    return 0.5 * (1.0 + jnp.cos(jnp.pi * jnp.clip(progress, 0.0, 1.0)))


SCHEDULES = {"constant": constant, "cosine": cosine}


def optimizer(
    learning_rate: Any = 1e-3,
    *,
    warmup: Any = 0,
    schedule: str = "constant",
    total: Any = None,
    clip: Any = None,
    b1: Any = 0.9,
    b2: Any = 0.999,
    eps: Any = 1e-8,
) -> optax.GradientTransformation:
    """Return Adam (Kingma & Ba 2015) behind an optional clip, with `learning_rate_at` as its rate.

    Every number may be traced, so that `jax.vmap(lambda rate:
    optimizer(rate).init(params))(rates)` is the stacked state of an ensemble, which the update of
    any `optimizer(..)` with the same schedule, and with a clip or without one, then steps.

    Args:
      learning_rate: the largest rate, positive.
      warmup: steps of linear rise, 0 for none.
      schedule: "constant" or "cosine".
      total: number of steps of the run; "cosine" needs it and ends there at zero.
      clip: largest global norm of the gradient, None for no clipping.
      b1: decay of the gradient's mean, in [0, 1).
      b2: decay of the gradient's mean square, in [0, 1).
      eps: added to the root of the mean square, positive.

    Raises:
      PersonError: a number out of its range, an unknown schedule, or cosine without a total.
    """
    choose("learning-rate schedule", schedule, SCHEDULES)
    numbers = {"learning_rate": learning_rate, "warmup": warmup, "b1": b1, "b2": b2, "eps": eps}
    numbers |= {} if clip is None else {"clip": clip}
    numbers |= {} if total is None else {"total": total}
    _validate(numbers, schedule)

    def build(held: dict[str, Any]) -> optax.GradientTransformation:
        clipped = optax.clip_by_global_norm(held["clip"]) if "clip" in held else optax.identity()
        adam = optax.scale_by_adam(held["b1"], held["b2"], held["eps"])
        rate = optax.scale_by_schedule(lambda count: -learning_rate_at(count, held, schedule))
        return optax.chain(clipped, adam, rate)

    return hold(build, numbers)


def learning_rate_at(count: Any, numbers: dict[str, Any], schedule: str = "constant") -> jax.Array:
    """Return the learning rate of step `count` (0 for the first).

    learning_rate * min(1, (count + 1) / warmup) * shape((count - warmup) / (total - warmup)),
    where `shape` is the function that the schedule names.

    Args:
      count: number of the step, any shape.
      numbers: learning_rate, warmup and, for "cosine", total: those of a `Held` state, for
        example.
      schedule: "constant" or "cosine".
    """
    count = jnp.asarray(count, jnp.result_type(float))
    rise = jnp.minimum(1.0, (count + 1.0) / jnp.maximum(numbers["warmup"], 1.0))
    left = jnp.maximum(numbers.get("total", jnp.inf) - numbers["warmup"], 1.0)
    shape = SCHEDULES[schedule]
    return numbers["learning_rate"] * rise * shape((count - numbers["warmup"]) / left)


def hold(
    build: Callable[[dict[str, Any]], optax.GradientTransformation], numbers: dict[str, Any]
) -> optax.GradientTransformation:
    """Return the optimizer that `build(numbers)` gives, with the numbers kept in its state."""

    def init(params):
        held = {name: jnp.asarray(n, jnp.result_type(float)) for name, n in numbers.items()}
        return Held(held, build(held).init(params))

    def update(grads, state, params=None):
        updates, inner = build(state.numbers).update(grads, state.inner, params)
        return updates, Held(state.numbers, inner)

    return optax.GradientTransformation(init, update)


RANGES = {
    "learning_rate": (lambda n: n > 0, "positive numbers"),
    "warmup": (lambda n: n >= 0, "0 and positive numbers of steps"),
    "total": (lambda n: n > 0, "positive numbers of steps"),
    "clip": (lambda n: n > 0, "positive numbers, or None for no clipping"),
    "b1": (lambda n: (n >= 0) & (n < 1), "numbers from 0 up to, not including, 1"),
    "b2": (lambda n: (n >= 0) & (n < 1), "numbers from 0 up to, not including, 1"),
    "eps": (lambda n: n > 0, "positive numbers"),
}


def _validate(numbers: dict[str, Any], schedule: str) -> None:
    """Raise a PersonError that names the first number out of its range; traced ones pass."""
    if schedule == "cosine" and "total" not in numbers:
        raise PersonError("learning-rate schedule 'cosine' needs total, the number of steps")
    known = {k: n for k, n in numbers.items() if not isinstance(n, jax.core.Tracer)}
    for name, number in known.items():
        within, allowed = RANGES[name]
        if not np.all(np.isfinite(number) & within(np.asarray(number))):
            raise PersonError(f"{name} {number!r}: allowed are {allowed}")
    if np.any(np.greater(known.get("warmup", 0), known.get("total", np.inf))):
        raise PersonError(f"warmup {known['warmup']!r} is longer than total {known['total']!r}")
