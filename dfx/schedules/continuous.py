"""Schedules with closed forms in continuous time.

Each is a frozen dataclass of numbers with alpha and sigma, or sigma^2 (see `schedule.py` for the
notation). All start at the data: alpha(0) = 1, beta(0) = 0, sigma(0) = 0. The forms keep relative
accuracy in float32 at both ends: a difference of nearly equal numbers is replaced by expm1 or by a
product of sines.
"""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp

from dfx.pytree import pytree
from dfx.schedules.schedule import Schedule

record = dataclasses.dataclass(frozen=True)


@pytree
@record
class VPLinear(Schedule):
    """Variance preserving, with a noise rate b that rises linearly from beta_min to beta_max.

    dx = -b(t)/2 x dt + sqrt(b(t)) dw, so with B(t) the integral of b over [0, t]:
    alpha = exp(-B/2), sigma^2 = 1 - exp(-B). Times in [0, 1].

    Source: Song et al. 2021 (score SDE), appendices B and C.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def alpha(self, t):
        return jnp.exp(-0.5 * _integral_of_ramp(self.beta_min, self.beta_max, t))

    def variance(self, t):
        return one_minus_exp(_integral_of_ramp(self.beta_min, self.beta_max, t))


@pytree
@record
class SubVP(Schedule):
    """Sub-variance preserving: the drift of `VPLinear` with g^2 = b (1 - exp(-2 B)).

    alpha = exp(-B/2), sigma = 1 - exp(-B): less noise than VP at every time. Times in [0, 1].

    Source: Song et al. 2021 (score SDE), appendices B and C.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def alpha(self, t):
        return jnp.exp(-0.5 * _integral_of_ramp(self.beta_min, self.beta_max, t))

    def sigma(self, t):
        return one_minus_exp(_integral_of_ramp(self.beta_min, self.beta_max, t))


@pytree
@record
class VPCosine(Schedule):
    """Variance preserving with a squared-cosine signal: alpha = cos(a) / cos(b).

    Here a = pi/2 (t + offset) / (1 + offset) and b is its value at t = 0, so that
    sigma^2 = sin(a - b) sin(a + b) / cos(b)^2. No signal is left at t = 1: log-SNR is -inf there.
    Times in [0, 1].

    Source: Nichol & Dhariwal 2021, equation 17, without their bound on beta.
    """

    offset: float = 0.008

    @property
    def _quarter_turn(self):
        return 0.5 * jnp.pi / (1 + self.offset)

    def alpha(self, t):
        cos_a = _cos(self._quarter_turn * (t + self.offset), self._quarter_turn * (1 - t))
        return cos_a / jnp.cos(self._quarter_turn * self.offset)

    def variance(self, t):
        a_minus_b = self._quarter_turn * t
        a_plus_b = self._quarter_turn * (t + 2 * self.offset)
        cos_b = jnp.cos(self._quarter_turn * self.offset)
        return jnp.sin(a_minus_b) * jnp.sin(a_plus_b) / cos_b**2


@pytree
@record
class VE(Schedule):
    """Variance exploding along the geometric s(t) = sigma_min (sigma_max / sigma_min)^t.

    dx = g dw with g^2 = d(s^2)/dt, so alpha = 1 and sigma^2 = s(t)^2 - sigma_min^2, the kernel of
    this equation started at the data. (The authors' code leaves out the last term and so starts
    with noise sigma_min.) Times in [0, 1].

    Source: Song et al. 2021 (score SDE), appendices B and C.
    """

    sigma_min: float = 0.01
    sigma_max: float = 50.0

    def alpha(self, t):
        return jnp.ones_like(t)

    def variance(self, t):
        return self.sigma_min**2 * jnp.expm1(2 * t * jnp.log(self.sigma_max / self.sigma_min))


@pytree
@record
class EDM(Schedule):
    """The noise level is the time: alpha = 1, sigma = t, for t in [0, sigma_max].

    Source: Karras et al. 2022, table 1.
    """

    sigma_max: float = 80.0

    @property
    def end_time(self):
        return self.sigma_max

    def alpha(self, t):
        return jnp.ones_like(t)

    def sigma(self, t):
        return t


@pytree
@record
class RectifiedLinear(Schedule):
    """The straight path alpha = 1 - t, sigma = t. Log-SNR is -inf at t = 1. Times in [0, 1].

    Source: Liu et al. 2023 (rectified flow); Lipman et al. 2023; both run time the other way.
    """

    def alpha(self, t):
        return 1 - t

    def sigma(self, t):
        return t


@pytree
@record
class Trigonometric(Schedule):
    """The circular path alpha = cos(pi t/2), sigma = sin(pi t/2). Times in [0, 1].

    Log-SNR is -inf at t = 1.

    Source: Albergo & Vanden-Eijnden 2023; the angle of Salimans & Ho 2022 is pi t/2.
    """

    def alpha(self, t):
        return _cos(0.5 * jnp.pi * t, 0.5 * jnp.pi * (1 - t))

    def sigma(self, t):
        return jnp.sin(0.5 * jnp.pi * t)


@pytree
@record
class MeanReverting(Schedule):
    """From x0 to noise around y: x_t - y follows `base` from x0 - y, so beta = 1 - alpha.

    With theta = -alpha_dot / alpha this is dx = theta (y - x) dt + g dw, an Ornstein-Uhlenbeck
    process when `base` is VP. Its noise is `noise_scale` times that of `base`: the stationary
    deviation of IR-SDE. Times as for `base`. In float32 beta is rounded by 6e-8 of 1, not of
    itself.

    Source: Luo et al. 2023 (IR-SDE), section 3.
    """

    base: Schedule = VPLinear()
    noise_scale: float = 1.0

    @property
    def end_time(self):
        return self.base.end_time

    def alpha(self, t):
        return self.base.alpha(t)

    def beta(self, t):
        return 1 - self.base.alpha(t)

    # Both: the one that the base writes down is smooth where the other is not.
    def sigma(self, t):
        return self.noise_scale * self.base.sigma(t)

    def variance(self, t):
        return self.noise_scale**2 * self.base.variance(t)


def one_minus_exp(b):
    """Return 1 - exp(-b) for b >= 0, with its derivative, to full relative accuracy.

    The derivative of expm1 is its value plus one, which cancels for large b; that of exp does not.
    """
    return jnp.where(b < 1, -jnp.expm1(-b), 1 - jnp.exp(-b))


def _cos(angle, complement):
    """Return cos(angle) = sin(complement) for two positive angles that add up to pi/2.

    The smaller one is used: the value or its derivative is then accurate where it vanishes.
    """
    return jnp.where(angle < complement, jnp.cos(angle), jnp.sin(complement))


def _integral_of_ramp(start, end, t):
    """Return the integral over [0, t] of the line from `start` at 0 to `end` at 1."""
    return t * (start + 0.5 * t * (end - start))
