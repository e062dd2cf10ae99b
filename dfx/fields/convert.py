"""Prediction types and the conversion between them: one 2 by 2 linear system.

With x' = x - beta y, the noisy point and any prediction p are linear in the clean point and the
noise,

    x' = alpha x0 + sigma eps,
    p  = c     x0 + s     eps,

so a prediction type is its pair (c, s), and every other type follows from the solution. Notation as
in `dfx.schedules.schedule`. The pairs hold for the coupling in which x0 and eps are independent.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from dfx.errors import PersonError, choose
from dfx.schedules.schedule import Level, check_mean, is_known

#: The spread of the data that the preconditioned net output "edm" supposes (Karras et al. 2022,
#: table 1).
SIGMA_DATA = 0.5


def _edm(level: Level):
    """F of D = c_skip X + c_out F, X = x / alpha (Karras et al. 2022, eq. 7; sigma / alpha)."""
    # Multiplied by alpha throughout: sigma / alpha overflows where next to nothing of x0 is left.
    root = (level.sigma**2 + (SIGMA_DATA * level.alpha) ** 2) ** 0.5
    return level.sigma / (SIGMA_DATA * root), -SIGMA_DATA * level.alpha / root


_PAIRS = {
    "x0": lambda level: (1.0, 0.0),
    "eps": lambda level: (0.0, 1.0),
    "v": lambda level: (-level.sigma, level.alpha),
    "score": lambda level: (0.0, -1.0 / level.sigma),
    "velocity": lambda level: (level.alpha_dot, level.sigma_dot),
    "edm": _edm,
}

#: The names of the prediction types.
PREDICTIONS = tuple(_PAIRS)


def pair(prediction: str, level: Level):
    """Return (c, s) with prediction = c x0 + s eps (a velocity has beta_dot y besides).

    Args:
      prediction: one of `PREDICTIONS`.
      level: the noise level; c and s have the shape of its entries.

    Raises:
      PersonError: unknown name; the message holds the nearest valid one.

    >>> pair("v", Level(0.5, 0.8, 0.0, 0.6, 0.0, 0.0, 0.0))
    (-0.6, 0.8)
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return choose("prediction", prediction, _PAIRS)(level)


def convert(value, x, level: Level, source: str, target: str, y=None):
    """Return the quantity `target` at x, given the quantity `source` there.

    From the pairs (c, s) of the source and (c', s') of the target, with det = alpha s - sigma c,

        target = ((c' s - s' c) (x - beta y) + (alpha s' - sigma c') source) / det.

    The two weights are computed in the precision of the level, then cast to that of x.

    Args:
      value: the source quantity, shape of x.
      x: noisy points, shape (n, *sample).
      level: the noise level of x; entries broadcast against x (`Schedule.at(t, x.ndim)`).
      source, target: two of `PREDICTIONS`.
      y: endpoints of the mean term, shape of x; needed where beta is not zero.

    Raises:
      PersonError: unknown name, entries that do not broadcast against x, a mean term without y, or
        a level at which the source does not determine the target (eps does not give x0 where alpha
        = 0).
    """
    (c, s), (c_new, s_new) = pair(source, level), pair(target, level)
    if source == target:
        return value
    _check_shape(level, x)
    check_mean(level.beta, y, "the conversion")
    det = check_regular(level, source, target)
    of_x = (c_new * s - s_new * c) / det
    of_value = (level.alpha * s_new - level.sigma * c_new) / det
    if y is not None:
        x = x - _like(level.beta, x) * y
        value = value - _mean_part(source, level, x, y)
    result = _like(of_x, x) * x + _like(of_value, x) * value
    return result if y is None else result + _mean_part(target, level, x, y)


def check_regular(level: Level, source: str, target: str):
    """Return det, or raise PersonError where it is known to be 0 or not finite."""
    c, s = pair(source, level)
    with np.errstate(invalid="ignore"):
        det = level.alpha * s - level.sigma * c
    if is_known(det):
        bad = ~np.isfinite(np.asarray(det)) | (np.asarray(det) == 0)
        if bad.any():
            t = np.broadcast_to(np.asarray(level.t), bad.shape)[bad].flat[0]
            raise PersonError(
                f"{source} does not determine {target} at t = {t:g}: the equations for x0 and eps "
                "are singular there; keep the times away from this end of the schedule"
            )
    return det


def _mean_part(prediction, level, x, y):
    return _like(level.beta_dot, x) * y if prediction == "velocity" else 0.0


def _like(coefficient, x):
    return jnp.asarray(coefficient, jnp.result_type(x))


def _check_shape(level, x):
    for entry in level:
        try:
            fits = np.broadcast_shapes(np.shape(entry), np.shape(x)) == np.shape(x)
        except ValueError:
            fits = False
        if not fits:
            raise PersonError(
                f"a level of shape {np.shape(entry)} does not broadcast against x of shape "
                f"{np.shape(x)}: make it by schedule.at(t, x.ndim)"
            )
