"""The law of any tableau on a normal law, exactly: no samples, errors down to rounding.

The denoiser of N(m, S) is affine in x, x0_hat = gain x + offset, and a row of a tableau is linear
in the lanes, x0_hat and fresh noise z. So the lanes y, stacked, follow

    y' = T y + u + N z,    mean' = T mean + u,    covariance' = T covariance T^T + N N^T,

and stay normal. All in float64 on the host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from dfx import metrics, solvers

X0 = solvers.output(0)


class Normal(NamedTuple):
    """N(mean, covariance): shapes (d,) and (d, d)."""

    mean: np.ndarray
    covariance: np.ndarray


class Path(NamedTuple):
    """The laws of the points that a solver evaluates, with their levels, and the law of its end.

    Attributes:
      levels: of the rows, in order.
      points: `Normal` for each row.
      end: of the answer.
    """

    levels: list
    points: list[Normal]
    end: Normal


#: Level -> (gain (d, d), offset (d,)) of an affine denoiser.
Denoiser = Callable[..., tuple[np.ndarray, np.ndarray]]


def normal_of(target) -> Normal:
    """Return the mean and the covariance of a target."""
    return Normal(np.asarray(target.mean()), np.asarray(target.covariance()))


def noised(law: Normal, level) -> Normal:
    """Return the law of x_t = alpha x0 + sigma eps."""
    mean, covariance = level.alpha * law.mean, level.alpha**2 * law.covariance
    return Normal(mean, covariance + level.sigma**2 * np.eye(len(law.mean)))


def denoiser_of(law: Normal) -> Denoiser:
    """Return E[x0 | x_t = x] = gain x + offset of a normal law, gain = alpha S Cov[x_t]^-1."""

    def at(level):
        seen = noised(law, level)
        gain = level.alpha * np.linalg.solve(seen.covariance, law.covariance)
        return gain, law.mean - gain @ seen.mean

    return at


def shifted(denoiser: Denoiser, shift, low: float = 0.0, high: float = np.inf) -> Denoiser:
    """Return the denoiser plus `shift` (d,) where low < sigma / alpha <= high: a pulse of error."""

    def at(level):
        gain, offset = denoiser(level)
        inside = low * level.alpha < level.sigma <= high * level.alpha
        return gain, offset + (np.asarray(shift) if inside else 0.0)

    return at


def propagate(tableau: solvers.Tableau, denoiser: Denoiser, start: Normal) -> Path:
    """Return the laws of the evaluated points and of the answer of a tableau started from `start`.

    Args:
      tableau: with numbers as coefficients and no further inputs.
      denoiser: affine.
      start: the law of x.
    """
    of_x, fresh = _start(tableau, len(start.mean))
    mean = of_x @ start.mean
    covariance = of_x @ start.covariance @ of_x.T + fresh @ fresh.T
    levels, points = [], []
    for level, step, shift, noise in _steps(tableau, denoiser, len(start.mean)):
        levels.append(level)
        points.append(_lane_0(mean, covariance, len(start.mean)))
        mean = step @ mean + shift
        covariance = step @ covariance @ step.T + noise @ noise.T
    return Path(levels, points, _lane_0(mean, covariance, len(start.mean)))


def responses(tableau: solvers.Tableau, denoiser: Denoiser, dim: int) -> np.ndarray:
    """Return what the answer owes to x and to each noise, shape (rows + 2, d, d).

    The answer is a constant plus R_0 x + R_1 z_start + sum_i R_(i+2) z_i, z_i the noise of row i.
    Found backwards: R of a row is what follows it, applied to its noise.
    """
    of_x, fresh = _start(tableau, dim)
    steps = list(_steps(tableau, denoiser, dim))
    after = np.eye(dim, len(of_x))
    found = []
    for _, step, _, noise in reversed(steps):
        found.append(after @ noise)
        after = after @ step
    return np.stack([after @ of_x, after @ fresh, *reversed(found)])


def strong_distance(coarse, fine, cells: np.ndarray, start: np.ndarray) -> float:
    """Return the root of E |difference of two answers|^2 on one start and one Brownian path.

    Both solvers take the same x; the noise of a coarse step over the cells j of the fine grid is
    sum_j sqrt(length_j / length) z_j, z_j that of the fine steps. Means are left out: theirs is the
    weak error.

    Args:
      coarse, fine: `responses`, for n and N steps, one row a step.
      cells: lengths of the fine steps in the clock of the noise, shape (N,), a multiple of n.
      start: the covariance of x, (d, d).
    """
    ratio = (len(fine) - 2) // (len(coarse) - 2)
    spans = np.repeat(cells.reshape(-1, ratio).sum(1), ratio)
    shared = np.sqrt(cells / spans)[:, None, None] * np.repeat(coarse[2:], ratio, axis=0)
    of_x = coarse[0] - fine[0]
    return float(np.sqrt(np.trace(of_x @ start @ of_x.T) + np.sum((shared - fine[2:]) ** 2)))


def errors(law: Normal, exact: Normal) -> np.ndarray:
    """Return the errors of the mean, of the covariance and W_2, in units of the exact law.

    The first two are those seen in coordinates where the exact law is standard normal, Euclidean
    and Frobenius; W_2 is over the root of the trace of the exact covariance.
    """
    inverse = _inverse_root(exact.covariance)
    mean = np.linalg.norm(inverse @ (law.mean - exact.mean))
    covariance = np.linalg.norm(inverse @ (law.covariance - exact.covariance) @ inverse)
    wasserstein = np.sqrt(metrics.frechet_gaussian(*law, *exact) / np.trace(exact.covariance))
    return np.array([mean, covariance, wasserstein])


def standard_errors(exact: Normal, n: int) -> np.ndarray:
    """Return the root mean square of `errors` of the moments of n exact samples.

    The squares are d / n for the mean, d (d + 1) / n for the covariance and for W_2, to first order
    in 1 / n and with the eigenvalues v of the covariance,
    [sum_i v_i + sum_ij (1 + [i = j]) v_i v_j / (2 (v_i + v_j))] / (n sum_i v_i).
    """
    values = np.linalg.eigvalsh(exact.covariance)
    d = len(values)
    pairs = (1 + np.eye(d)) * np.outer(values, values) / (2 * np.add.outer(values, values))
    squares = np.array([d, d * (d + 1), (values.sum() + pairs.sum()) / values.sum()])
    return np.sqrt(squares / n)


def _start(tableau, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """The lanes at the start in terms of x and of the noise before the first row."""
    parts = [np.zeros((tableau.lanes, 1)) for _ in range(2)]
    for (lane, source), value in tableau.start.items():
        parts[(0, solvers.NOISE).index(source)][lane] = value
    of_x, fresh = (np.kron(part, np.eye(dim)) for part in parts)
    return of_x, fresh


def _steps(tableau, denoiser: Denoiser, dim: int) -> Iterator[tuple]:
    """Yield (level, T, u, N) of each row, see the module."""
    lanes, eye = tableau.lanes, np.eye(dim)
    for row in solvers.unstack(tableau):
        gain, offset = denoiser(row.level)
        changed = {lane for lane, _ in row.coef}
        keep = np.diag([float(lane not in changed) for lane in range(lanes)])
        of_x0, noise = np.zeros(lanes), np.zeros(lanes)
        for (lane, source), value in row.coef.items():
            if source >= 0:
                keep[lane, source] = value
            else:
                {X0: of_x0, solvers.NOISE: noise}[source][lane] = value
        step = np.kron(keep, eye)
        step[:, :dim] += np.kron(of_x0[:, None], gain)
        yield row.level, step, np.kron(of_x0, offset), np.kron(noise[:, None], eye)


def _lane_0(mean, covariance, dim: int) -> Normal:
    return Normal(mean[:dim], covariance[:dim, :dim])


def _inverse_root(matrix) -> np.ndarray:
    """The power -1/2 of a symmetric positive definite matrix."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    return vectors * values**-0.5 @ vectors.T
