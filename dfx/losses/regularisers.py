"""Penalties for what denoising does not ask of a net: that its score is a gradient, and that its
scores at different times belong to one process.

With the forward equation dx = (f x + h y) dt + g dw (`dfx.schedules.derived`), drift b = f x + h y
and s = grad log p, the laws p_t obey for all x and t (Fokker-Planck, divided by p; d is the size of
a sample)

    R = d_t log p + d f + b . s - g^2 / 2 (div s + |s|^2) = 0,
    grad R = d_t s - grad [ g^2 / 2 (div s + |s|^2) - b . s ] = 0,
    J - J^T = 0,    J = d s / d x.

Each penalty has the form of a loss, `penalty(params, key, x0, cond=None, y=None) -> (value, aux)`;
`plus` adds it to one. Time derivatives are exact (`jvp`), and so is all else unless `num_probes` is
given. The net must be smooth (SiLU, GELU, softplus, tanh) in x and t.

R per unit of time is of the order 1 / t next to the data and grows without bound where alpha = 0.
The weighting "log_snr" measures it per unit of log-SNR instead, d log-SNR = -(g / sigma)^2 dt, and
scores in units of 1 / sigma: of order one at every level, and the same for all schedules that pass
through the same levels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from dfx.errors import PersonError, choose
from dfx.fields import convert, divergence, equation, jacobian, net_time, pair
from dfx.fields.derivatives import dot, slope_of_pull
from dfx.fields.equation import Equation
from dfx.fields.probes import check_probes, draw_probes
from dfx.losses.collocation import Collocation
from dfx.nets.energy import EnergyNet, log_density
from dfx.schedules import Level, Schedule

#: Name -> (sigma, g^2, whether R is a vector) -> the factor of R.
WEIGHTINGS: dict[str, Callable] = {
    "uniform": lambda sigma, rate, vector: jnp.ones_like(rate),
    "diffusion": lambda sigma, rate, vector: jnp.sqrt(rate),
    "log_snr": lambda sigma, rate, vector: sigma ** (3 if vector else 2) / rate,
}

#: What `plus` folds into the key: `jax.random.split` folds in small numbers.
_FOLD = 0x70656E61


def plus(loss: Callable, penalty: Callable, weight: float) -> Callable:
    """Return the loss `loss + weight * penalty`, whose aux holds that of both.

    The loss is given the key itself, so that weight 0 is the loss alone, with the same noise. Of
    `plus(plus(loss, a), b)` the penalties a and b see the same times and points.

    Args:
      loss: `loss(params, key, x0, cond=None, y=None) -> (value, aux)`, such as `denoising`.
      penalty: the same form, from this module; its aux is its value without the weight.
      weight: not negative.

    Raises:
      PersonError: a negative weight, or two entries of one name in aux, at the first call.
    """
    if not isinstance(weight, jax.core.Tracer) and not weight >= 0:
        raise PersonError(f"weight = {weight}: must not be negative")

    def total(params, key, *batch, **others):
        value, aux = loss(params, key, *batch, **others)
        extra, more = penalty(params, jax.random.fold_in(key, _FOLD), *batch, **others)
        if set(aux) & set(more):
            raise PersonError(f"two terms of the loss are called {', '.join(set(aux) & set(more))}")
        return value + weight * extra, {**aux, **more}

    return total


def fokker_planck(
    net: EnergyNet,
    schedule: Schedule,
    at: Collocation | None = None,
    num_probes: int | None = None,
    probe: str = "rademacher",
    weighting: str = "log_snr",
    time: Callable[[Level], jax.Array] | None = None,
) -> Callable:
    """Return the penalty mean (w R)^2 of the log-density of an energy net; aux "fokker_planck".

    Denoising leaves a constant c(t) of log p free, and R contains its slope c'(t), which changes no
    law; `score_fokker_planck` of the same net is the mean of |grad R|^2 and does not see it.

    Without `num_probes` the divergence is exact, at d forward derivatives of the score. With k
    probes it is estimated; the square is then the mean product of two different estimates,

        ((sum_i R_i)^2 - sum_i R_i^2) / (k (k - 1)),

    which has mean R^2 and may be negative; the square of one estimate would also penalise its
    variance. Costs k derivatives.

    Args:
      net: an energy net, or anything with `potential` and `prediction` like one.
      schedule: the forward process.
      at: where to look; None is uniform times and points of p_t.
      num_probes: at least 2, or None.
      probe: "rademacher" or "normal".
      weighting: w, one of `WEIGHTINGS`: "log_snr" is sigma^2 / g^2 (R is per unit of time, w R per
        unit of log-SNR); "uniform" is 1, "diffusion" is g.
      time: level -> what the net gets as t, as in `denoising`.

    Raises:
      PersonError: an unknown name, too few probes.

    Source: Deveney et al. 2023, whose loss is weighting "uniform", times "beta" for the denoising,
    uniform times and a uniform box for R.
    """
    draw, weigh = (at or Collocation()).bind(schedule), choose("weighting", weighting, WEIGHTINGS)
    _check_probes(num_probes, probe, 2)

    def penalty(params, key, x0, cond=None, y=None):
        key_x, key_z = jax.random.split(key)
        x, t, cond, y = draw(key_x, x0, cond, y)
        eq, log_p = equation.at(schedule, x, t, y), log_density(net, params, time, cond)

        def traces(flow):
            if num_probes is None:
                return divergence(flow, x)[None]
            _, slope = jax.linearize(flow, x)
            return jax.vmap(lambda z: dot(z, slope(z)))(draw_probes(key_z, x, num_probes, probe))

        residual = equation.potential_residual(log_p, eq, x, traces)
        value = jnp.mean(_square(_factor(weigh, eq, False).reshape(-1) * residual))
        return value, {"fokker_planck": value}

    return penalty


def score_fokker_planck(
    net: Any,
    schedule: Schedule,
    prediction: str = "eps",
    at: Collocation | None = None,
    num_probes: int | None = None,
    probe: str = "rademacher",
    weighting: str = "log_snr",
    time: Callable[[Level], jax.Array] | None = None,
) -> Callable:
    """Return the penalty mean |w grad R|^2 / d of the score; aux "score_fokker_planck".

    For any net, energy or free; grad R stands for its second form in the module's opening text,
    which needs no log-density. Costs a reverse pass through each derivative of the divergence.
    Arguments and estimate as `fokker_planck`; "log_snr" is here sigma^3 / g^2.

    Args:
      net: anything with `apply(params, x, t, cond=None)`.
      prediction: what it predicts, one of `dfx.fields.PREDICTIONS`.

    Source: Lai et al. 2023 (FP-Diffusion), the score Fokker-Planck equation; their loss has
    weighting "diffusion" on points of p_t, one probe, and differences in time.
    """
    draw, weigh = (at or Collocation()).bind(schedule), choose("weighting", weighting, WEIGHTINGS)
    _check_probes(num_probes, probe, 2)
    predict = _predictor(net, schedule, prediction, "score", time)

    def penalty(params, key, x0, cond=None, y=None):
        key_x, key_z = jax.random.split(key)
        x, t, cond, y = draw(key_x, x0, cond, y)
        eq = equation.at(schedule, x, t, y)
        score = lambda x, level: predict(params, x, level, cond, y)  # noqa: E731

        def slopes(flow):
            if num_probes is None:
                # Cheaper than `gradient_of_divergence` where the whole is differentiated again.
                return jax.grad(lambda x: jnp.sum(divergence(flow, x)))(x)[None]
            z = draw_probes(key_z, x, num_probes, probe)
            return jax.vmap(lambda z: slope_of_pull(flow, x, z))(z)

        residual = equation.score_residual(score, eq, x, slopes)
        value = jnp.mean(_square(_factor(weigh, eq, True) * residual))
        return value, {"score_fokker_planck": value}

    return penalty


def asymmetry(
    net: Any,
    schedule: Schedule,
    prediction: str = "eps",
    at: Collocation | None = None,
    num_probes: int | None = None,
    probe: str = "rademacher",
    of: str = "eps",
    time: Callable[[Level], jax.Array] | None = None,
) -> Callable:
    """Return the penalty mean |J - J^T|_F^2 / d of a prediction's Jacobian; aux "asymmetry".

    With probes it is the mean of |J z - J^T z|^2 / d: one forward and one reverse derivative each,
    unbiased with a single one.

    Args:
      net, schedule, prediction, at, probe, time: as in `score_fokker_planck`.
      num_probes: at least 1; None for the exact value at d forward derivatives.
      of: the quantity that J is the Jacobian of. Those of the score and of eps = -sigma score
        differ by the factor sigma^2, x0_hat has (sigma^2 / alpha)^2 times that of the score.

    Raises:
      PersonError: an unknown name, no probes.

    Source: Chao et al. 2023 (quasi-conservative score models), whose penalty is d / 2 times this.
    """
    draw, predict = (
        (at or Collocation()).bind(schedule),
        _predictor(net, schedule, prediction, of, time),
    )
    _check_probes(num_probes, probe, 1)

    def penalty(params, key, x0, cond=None, y=None):
        key_x, key_z = jax.random.split(key)
        x, t, cond, y = draw(key_x, x0, cond, y)
        level = schedule.at(t, x.ndim)
        f = lambda x: predict(params, x, level, cond, y)  # noqa: E731
        if num_probes is None:
            j = jacobian(f, x)
            gaps = j - jnp.swapaxes(j, 1, 2)
            value = jnp.mean(jnp.sum(gaps**2, axis=1))
        else:
            _, slope = jax.linearize(f, x)
            pull = jax.linear_transpose(slope, x)
            z = draw_probes(key_z, x, num_probes, probe)
            value = jnp.mean(jax.vmap(lambda z: slope(z) - pull(z)[0])(z) ** 2)
        return value, {"asymmetry": value}

    return penalty


def _predictor(net, schedule, prediction, target, time):
    """(params, x, level, cond, y) -> the quantity `target` of the net."""
    end = schedule.at(schedule.end_time)
    for name in (prediction, target):
        pair(name, end)  # an unknown name stops here, before anything is compiled

    def predict(params, x, level, cond, y):
        seen = net_time(level.t if time is None else time(level), x)
        return convert(net.apply(params, x, seen, cond), x, level, prediction, target, y)

    return predict


def _factor(weigh, eq: Equation, vector: bool):
    return weigh(eq.level.sigma, 2 * eq.half_noise, vector)


def _square(estimates):
    """The square of the one exact value, or the mean product of two different estimates."""
    k = len(estimates)
    squares = jnp.sum(estimates**2, axis=0)
    return squares if k == 1 else (jnp.sum(estimates, axis=0) ** 2 - squares) / (k * (k - 1))


def _check_probes(num_probes, probe, least):
    check_probes(1 if num_probes is None else max(num_probes, 1), probe)
    if num_probes is not None and num_probes < least:
        raise PersonError(f"num_probes = {num_probes}: need {least} or more, or None for exact")
