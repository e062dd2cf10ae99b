"""Samples of many solvers on one law by one program, and what is counted in them."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dfx import fields, metrics, schedules, solvers, targets
from experiments.solver_laws.members import SCHEDULE

#: What is measured, with the means of the seeds' values 0 for the exact law in the limit of many
#: samples; `within` is a ratio of standard deviations less 1.
STATISTICS = ("mean", "covariance", "sliced", "frechet", "shares", "within")


class Draw(NamedTuple):
    """Two independent exact samples for each seed, shape (seeds, n, d): one to start from, one to
    compare with."""

    first: np.ndarray
    second: np.ndarray


def draw(target: targets.Mixture, key, num_seeds: int, n: int) -> Draw:
    """Return exact samples of a law."""

    def sample(part):
        x = _sample_target(target, jax.random.fold_in(key, part), num_seeds * n)
        return np.asarray(x).reshape(num_seeds, n, -1)

    return Draw(sample(0), sample(1))


def start_points(target, key, grid_start: float, num_samples: int, shift: float = 0.0):
    """Return x at the first level, alpha x0 + sigma eps of the exact law, shape (num_samples, d).

    Args:
      shift: of every coordinate, in units of sigma: a wrong prior.
    """
    level = SCHEDULE.at(grid_start).astype(np.float32)
    return _noised_sample(target, key, level, num_samples, shift)


# As whole programs: run operation by operation they would take longer to compile than to run.
_sample_target = jax.jit(lambda target, key, n: target.sample(key, n), static_argnames="n")


@functools.partial(jax.jit, static_argnames="n")
def _noised_sample(target, key, level, n: int, shift):
    noise, data = jax.random.split(key)
    x0 = target.sample(data, n)
    eps = jax.random.normal(noise, x0.shape, x0.dtype) + shift
    return schedules.marginal_sample(x0, eps, level)


def sample_all(tableaus: Sequence[solvers.Tableau], target, x, key, observe=None):
    """Return the ends of all tableaus from one start with one noise, leading axis: tableaus.

    Padded to one pattern and stacked, they are one compiled program whatever their number.
    """
    stacked = solvers.stack(solvers.pad(tableaus))
    return jax.tree.map(np.asarray, _sample_all(stacked, fields.oracle(target), x, key, observe))


@functools.partial(jax.jit, static_argnames="observe")
def _sample_all(stacked, field, x, key, observe):
    def run(tableau):  # one row a turn of the loop: the field is compiled once
        return solvers.sample(tableau, field, x, key, observe=observe, unroll=1)

    return jax.lax.map(run, stacked)


def statistics(target, x: np.ndarray, other: np.ndarray, key, num_directions: int) -> np.ndarray:
    """Return the `STATISTICS` of one set of samples (n, d), `other` an exact sample of that size.

    mean, covariance: Euclidean and Frobenius norms of the errors, divided by their root mean square
    for n exact samples, their standard errors. sliced: sliced W_2 to `other`. frechet: W_2 of the
    normal fit to the law's own moments. shares: half the sum of the errors of the modes' shares.
    within: standard deviation inside the modes over the exact one, less 1; of isotropic modes,
    otherwise nan.
    """
    exact_mean, exact_covariance = target.mean(), target.covariance()
    mean, covariance = x.mean(0, dtype=np.float64), np.cov(x, rowvar=False, dtype=np.float64)
    units = moment_errors(exact_mean, exact_covariance, other)
    return np.array(
        [
            np.linalg.norm(mean - exact_mean) / units[0],
            np.linalg.norm(covariance - exact_covariance) / units[1],
            metrics.sliced_wasserstein(key, x, other, num_directions),
            metrics.frechet_gaussian(mean, covariance, exact_mean, exact_covariance) ** 0.5,
            0.5 * np.abs(mode_shares(target, x) - np.exp(target.log_weights)).sum(),
            _within(target, x),
        ]
    )


def moment_errors(mean, covariance, sample: np.ndarray) -> tuple[float, float]:
    """Return the root mean square errors of the mean and of the covariance of n exact samples.

    tr C / n, and (E |x - m|^4 - |C|_F^2) / n, the fourth moment from the sample.
    """
    fourth = np.mean(np.sum((sample - mean) ** 2, axis=1) ** 2)
    squares = np.trace(covariance), fourth - np.sum(covariance**2)
    of_mean, of_covariance = np.sqrt(np.array(squares) / len(sample))
    return of_mean, of_covariance


def mode_shares(target, x: np.ndarray) -> np.ndarray:
    """Return the share of the samples whose most probable component is each one, shape (k,)."""
    labels = np.asarray(_labels(target, jnp.asarray(x)))
    return np.bincount(labels, minlength=target.num_components) / len(x)


@jax.jit
def _labels(target, x):
    return jnp.argmax(target.responsibilities(x, schedules.CLEAN.astype(x.dtype)), axis=1)


def _within(target, x) -> float:
    if target.spectrum is not None:
        return np.nan
    std = np.sqrt(target.variance[0])
    return float(metrics.within_mode_std(x, target.means, std, pooled=True) / std - 1)
