"""Laws with labels for the study `guided_sampling`, whose conditional scores are exact, and the
closed forms of what guidance makes of them.

The class law of a mixture is that of the components with the label, so p(c | x) is exact too. In
one dimension the guided equation is a monotone map of the noise, so its end is a law known on a
grid of quantiles: weights phi(z) on z from -REACH to REACH integrate to rounding.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import numpy as np
from scipy import integrate

from dfx import fields, schedules, solvers, targets
from experiments.shared import laws

#: The noise grid spans so many standard deviations; 3e-12 of the law lies beyond.
REACH = 7.0

#: Of the one-dimensional solves: what is reported is larger by four digits.
TOLERANCE = 1e-8


class Labelled(NamedTuple):
    """A law whose classes have equally many components.

    Attributes:
      law: of all classes together.
      classes: the laws of the classes, one mixture with a leading axis of classes on every array.
    """

    law: targets.Mixture
    classes: targets.Mixture

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.classes.means)

    def one(self, label: int) -> targets.Mixture:
        """The law of one class."""
        return jax.tree.map(lambda leaf: leaf[label], self.classes)


def labelled(law: targets.Mixture, labels) -> Labelled:
    """Return the law with component k in class labels[k]; classes are 0, 1, .. of equal size."""
    labels = np.asarray(labels)
    members = [np.flatnonzero(labels == label) for label in range(labels.max() + 1)]
    parts = [class_law(law, rows) for rows in members]
    return Labelled(law, jax.tree.map(lambda *leaves: np.stack(leaves), *parts))


def class_law(law: targets.Mixture, rows) -> targets.Mixture:
    """Return the mixture of some components, its weights normalised."""
    log_weights = law.log_weights[rows] - np.logaddexp.reduce(law.log_weights[rows])
    shape = (law.variance, law.basis, law.spectrum)
    kept = [a if a is None or len(a) == 1 else a[rows] for a in shape]
    return targets.Mixture(log_weights, law.means[rows], *kept)


#: Name -> labelled law: a class is a column of the grid, one component of the low-rank mixture.
LABELLED = {
    "grid": lambda: labelled(laws.grid(), np.arange(25) // 5),
    "low_rank": lambda: labelled(laws.low_rank(), np.arange(8)),
}


def quadrants() -> Labelled:
    """Return four modes at (+-1, +-1), standard deviation 0.5: a class for each quadrant."""
    return labelled(targets.grid_2d(2, spacing=2.0, std=0.5, standardise=False), np.arange(4))


def two_modes() -> tuple[targets.Mixture, targets.Mixture]:
    """Return the class N(1, 0.25) and the law (N(-1, 0.25) + N(1, 0.25)) / 2 it is a class of.

    Each has two components, as all one-dimensional laws here: they share compiled programs.
    """
    return targets.modes_1d((1.0, 1.0), 0.5), targets.modes_1d((-1.0, 1.0), 0.5)


def gaussian_pair(
    mean: float, variance: float, wide: float
) -> tuple[targets.Mixture, targets.Mixture]:
    """Return the class N(mean, variance) and the law N(0, wide) around it."""
    narrow = targets.modes_1d((mean, mean), math.sqrt(variance))
    return narrow, targets.modes_1d((0.0, 0.0), math.sqrt(wide))


def guided_field(toward, away, weight):
    """Return the field guided from the law `away` to the law `toward`.

    The weight becomes a plain float: a NumPy number would be another program.
    """
    return fields.classifier_free(fields.oracle(toward), fields.oracle(away), float(weight))


def noise_grid(num_points: int) -> np.ndarray:
    """Return equally spaced standard normal quantiles, shape (num_points,)."""
    return np.linspace(-REACH, REACH, num_points)


def flow(field, z, start_noise: float = math.inf) -> np.ndarray:
    """Return where the probability-flow equation takes the quantiles z of the noise, shape of z.

    Args:
      field: in one dimension.
      z: standard normal quantiles, shape (n,).
      start_noise: sigma / alpha at which it starts from N(0, sigma^2); the guided law there is
        another by O(1 / start_noise), and is normal at infinity alone.
    """
    return flow_between(field, np.sin(math.atan(start_noise)) * z, start_noise, 0.0)


def flow_between(field, x, start_noise: float, end_noise: float) -> np.ndarray:
    """Return where the equation takes the points x, shape (n,), from one sigma / alpha to another.

    The points are those of the schedule with alpha^2 + sigma^2 = 1.
    """
    start, end = (2 / np.pi * math.atan(noise) for noise in (start_noise, end_noise))
    with jax.enable_x64(True):
        path = solvers.sample_adaptive(
            schedules.Trigonometric(), field, x[:, None], start, end, rtol=TOLERANCE, atol=TOLERANCE
        )
        return np.asarray(path.state)[:, 0]


def tilted_density(toward, away, weight: float, x) -> np.ndarray:
    """Return p_away(x) (p_toward(x) / p_away(x))^weight, normalised on the grid x, shape of x."""
    with jax.enable_x64(True):
        of_toward, of_away = (np.asarray(_log_prob(law, x[:, None])) for law in (toward, away))
    log_density = of_away + weight * (of_toward - of_away)
    density = np.exp(log_density - log_density.max())
    return density / np.trapezoid(density, x)


@jax.jit
def _log_prob(law, x):
    return law.log_prob(x, schedules.CLEAN)


class Moments(NamedTuple):
    """Mean and variance of a law on the line."""

    mean: float
    variance: float


def pair_ode(weight: float, mean: float, variance: float, wide: float) -> Moments:
    """Return the end of the guided flow for the class N(m, s) of N(0, V), from infinite noise.

    With tau = sigma^2 (variance exploding) dx/dtau = -score / 2 is linear, and solving it gives
        var = s^w V^(1-w),
        mean = w m sqrt(var) int_0^inf (1/2) (s + tau)^(-w/2 - 1) (V + tau)^((w-1)/2) dtau.
    """
    end = variance**weight * wide ** (1 - weight)

    def pull(tau):
        return 0.5 * (variance + tau) ** (-weight / 2 - 1) * (wide + tau) ** ((weight - 1) / 2)

    return Moments(weight * mean * math.sqrt(end) * _to_infinity(pull), end)


def pair_sde(weight: float, mean: float, variance: float, wide: float) -> Moments:
    """Return the end of the guided reverse SDE, dx = -score dtau + dw, for the same pair:

    Phi = (s + tau)^w (V + tau)^(1-w),
    mean = Phi(0) int_0^inf w m / ((s + tau) Phi) dtau,    var = Phi(0)^2 int_0^inf dtau /
    Phi^2.
    """

    def phi(tau):
        return (variance + tau) ** weight * (wide + tau) ** (1 - weight)

    pull = _to_infinity(lambda tau: weight * mean / ((variance + tau) * phi(tau)))
    return Moments(phi(0.0) * pull, phi(0.0) ** 2 * _to_infinity(lambda tau: phi(tau) ** -2))


def pair_tilted(weight: float, mean: float, variance: float, wide: float) -> Moments:
    """Return p_u (p_c / p_u)^w of the pair: precision w / s + (1 - w) / V."""
    end = 1 / (weight / variance + (1 - weight) / wide)
    return Moments(end * weight * mean / variance, end)


def autoguidance_weight(variance: float, blur: float, more_blur: float) -> float:
    """Return the weight w* at which N(0, s) comes out exactly though the good score is blurred:

    the end has variance (s + k1)^w (s + k2)^(1-w), so w* = 1 + log((s + k1) / s) / log((s + k2) /
    (s + k1)).
    """
    good, bad = variance + blur, variance + more_blur
    return 1 + math.log(good / variance) / math.log(bad / good)


def _to_infinity(function) -> float:
    return integrate.quad(function, 0, np.inf, epsabs=1e-12, epsrel=1e-12, limit=500)[0]
