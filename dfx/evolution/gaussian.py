"""The laws of the generative motions of a linear score, in closed form, for every schedule.

Data N(m, S_0) have p_t = N(alpha m, Sigma), Sigma = alpha^2 S_0 + sigma^2. A score that is wrong by
the factor 1 + e,

    s(x, t) = -(1 + e) (x - alpha m) / Sigma,

moves N(alpha m + a, V) at noise level lam to another Gaussian. With rho = Sigma / alpha^2, which
falls from the noise to the data, k = (1 + lam^2)(1 + e) and L = log(rho_start / rho_end),

    V_end / alpha_end^2 = e^{-k L} V_start / alpha_start^2
                          + lam^2 rho_end (1 - e^{-(k-1) L}) / (k - 1),
    a_end / alpha_end   = e^{-k L / 2} a_start / alpha_start,

since g^2 = alpha^2 d rho / dt. lam = 0 multiplies V by (Sigma_end / Sigma_start)^{1+e} (alpha_end /
alpha_start)^{-2e}: an ODE keeps every error that it has made. lam > 0 forgets the start as
e^{-kL}.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from dfx.errors import PersonError
from dfx.fields import from_function


class Line(NamedTuple):
    """A Gaussian that a linear score made: its variance, and the factor of a shift of its mean."""

    variance: np.ndarray
    gain: np.ndarray


def linear_law(
    schedule, variance, error=0.0, noise_level=1.0, start=None, end=0.0, start_variance=None
) -> Line:
    """Return variance V_end and gain a_end / a_start of the motion of a linear score.

    Arguments broadcast against one another (a d-vector of variances is a diagonal covariance).

    Args:
      schedule: the forward process, without a mean term.
      variance: S_0 of the data, positive.
      error: e, the relative error of the score; 0 is the exact one.
      noise_level: lam, 0 for the ODE.
      start, end: times, start the noisier; None is the end time of the schedule. alpha must not be
        0 at the start.
      start_variance: V_start; None is sigma^2 there, the usual prior.

    Returns:
      Line, float64 NumPy.

    Raises:
      PersonError: alpha = 0 at the start, or a start that is not noisier than the end.
    """
    first = schedule.at(schedule.end_time if start is None else start)
    last = schedule.at(end)
    if not first.alpha > 0:
        raise PersonError(f"no signal is left at t = {first.t:g}: start where alpha is above 0")
    rho = np.asarray(variance) + (first.sigma / first.alpha) ** 2
    rho_end = np.asarray(variance) + (last.sigma / last.alpha) ** 2
    if not (rho > rho_end).all():
        raise PersonError(f"start t = {first.t:g} must be noisier than the end, {last.t:g}")
    log_ratio = np.log(rho / rho_end)
    lam2 = np.square(noise_level)
    k = (1 + lam2) * (1 + np.asarray(error))
    v = (first.sigma**2 if start_variance is None else start_variance) / first.alpha**2
    v_end = np.exp(-k * log_ratio) * v + lam2 * rho_end * _ratio(k - 1, log_ratio)
    gain = np.exp(-0.5 * k * log_ratio) * last.alpha / first.alpha
    return Line(last.alpha**2 * v_end, gain)


def linear_field(variance, error=0.0, mean=0.0):
    """Return the field of the score -(1 + e) (x - alpha m) / Sigma, for `dfx.fields`.

    The denoiser (x + sigma^2 s) / alpha; Sigma as in the module's opening text. Arguments may be
    numbers or (d,).
    """

    def score(x, level):
        total = jnp.asarray(level.alpha**2 * variance + level.sigma**2, x.dtype)
        return -(1 + error) * (x - jnp.asarray(level.alpha * mean, x.dtype)) / total

    return from_function(score, "score")


def _ratio(c, log_ratio):
    """(1 - exp(-c L)) / c, L at c = 0."""
    safe = np.where(c == 0, 1.0, c)
    return np.where(c == 0, log_ratio, -np.expm1(-safe * log_ratio) / safe)
