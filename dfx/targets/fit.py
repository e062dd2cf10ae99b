"""Gaussians and Gaussian mixtures fitted to data: pictures, flattened, or vectors.

All have the divisor n of maximum likelihood and are `Mixture`s on vectors; `fields.flattened` makes
of their fields ones on pictures. Data in [0, 1] and in [-1, 1] have different fits: prepare them as
the samples are.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from dfx.errors import PersonError, choose
from dfx.moments import CHUNK, Moments, blocks, moments
from dfx.targets.mixture import Mixture
from dfx.targets.modes import Modes, leading_modes, totals
from dfx.targets.spectrum import from_modes

#: The largest dimension whose covariance is formed and decomposed as a whole: 134 MB in float64.
LARGEST_EXACT = 4096

#: What the directions that a truncated covariance leaves out have: "mean", their mean variance, so
#: that the trace is kept (the likeliest covariance of this form); or "floor", the floor alone.
RESTS = {"mean": 1.0, "floor": 0.0}


def isotropic(data, spread: bool = True, **reading) -> Mixture:
    """Return N(m, v I) with v = tr S / d of the data, or without `spread` v = 0, the mean alone.

    Args:
      data: an array (n, *sample) or an iterable of such; no (d, d) matrix is formed.
      **reading: `chunk` and `prepare` of `moments`.

    Raises:
      PersonError: as `moments`.
    """
    total = totals(data, **reading)
    variance = total.trace / len(total.mean) if spread else 0.0
    return Mixture.isotropic(total.mean[None], np.sqrt(variance))


def gaussian(
    data,
    rank: int | None = None,
    floor: float = 0.0,
    rest: str = "mean",
    largest_exact: int = LARGEST_EXACT,
    **reading,
) -> Mixture:
    """Return N(m, S + floor I) with mean and covariance of the data, truncated to a rank if given.

    Args:
      data: an array (n, *sample), or the `Moments` or `Modes` of data that were read before.
      rank: directions kept with a variance of their own; None keeps all.
      floor: a variance added in every direction.
      rest: one of `RESTS`, for the directions that are not kept.
      largest_exact: above this dimension a truncated fit reads the data by `leading_modes`, whose
        error it then has, and never forms a (d, d) matrix.
      **reading: `chunk` and `prepare` of `moments`.

    Raises:
      PersonError: as `moments`; a rank below 1, a negative floor, an unknown rest.

    Source: Tipping & Bishop 1999, equations 7 and 8 (rest = "mean").
    """
    check(rank, floor, rest)
    return _mixture([_modes(data, rank, largest_exact, **reading)], floor, rest, None)


def kmeans_mixture(
    key,
    data,
    num_modes: int,
    rank: int | None = None,
    floor: float = 1e-5,
    rest: str = "floor",
    batch: int = 2048,
    num_starts: int = 3,
    **reading,
) -> Mixture:
    """Return the mixture of the clusters of the data: their shares, means and covariances.

    Clusters by mini-batch k-means; covariances as in `gaussian`, one cluster after another. A
    cluster without points is left out. With rank None the result holds (k, d, d) numbers,
    twice while it is made.

    Args:
      key: a typed key, for the k-means.
      data: an array (n, *sample); held once more as float32.
      num_modes: k, at most n.
      rank, floor, rest: as for `gaussian`; the source has rest = "floor". A cluster of few points
        is flat, so a floor of 0 is singular.
      batch, num_starts: points a step, and starts of which the best is kept.
      **reading: as for `gaussian`.

    Raises:
      PersonError: as `gaussian`, or a number of modes outside [1, n].

    Source: Wang & Vastola 2024 (Gaussian score approximation), the mixtures of its comparison of
    scores; Sculley 2010 (mini-batch k-means).
    """
    from sklearn.cluster import MiniBatchKMeans  # takes a second, and few runs need it

    check(rank, floor, rest)
    if not 1 <= num_modes <= len(data):
        raise PersonError(f"num_modes = {num_modes}: allowed are 1 to {len(data)}, one a point")
    chunk, prepare = reading.get("chunk", CHUNK), reading.get("prepare")
    flat = np.concatenate([b.astype(np.float32) for b in blocks(data, chunk, prepare)])
    seed = int(jax.random.bits(key, dtype=jnp.uint32))
    means = MiniBatchKMeans(num_modes, batch_size=batch, random_state=seed, n_init=num_starts)
    labels = means.fit(flat).labels_
    counts = np.bincount(labels, minlength=num_modes)
    kept = np.flatnonzero(counts)
    modes = [_modes(flat[labels == k], rank, LARGEST_EXACT, chunk) for k in kept]
    return _mixture(modes, floor, rest, counts[kept])


def check(rank, floor, rest) -> None:
    """Raise PersonError unless the options of a fit make sense."""
    choose("rest", rest, RESTS)
    if (rank is not None and rank < 1) or not floor >= 0:
        raise PersonError(f"rank = {rank}, floor = {floor}: at least 1 (or None), not negative")


def _modes(data, rank, largest_exact, chunk: int | None = None, prepare=None) -> Modes:
    """The leading modes; exact where the dimension allows it, all of them for rank None."""
    if isinstance(data, Modes):
        return data._replace(basis=data.basis[:, :rank], spectrum=data.spectrum[:rank])
    if not isinstance(data, Moments):
        if rank is not None and np.prod(np.shape(data)[1:]) > largest_exact:
            size = {} if chunk is None else {"chunk": chunk}
            return leading_modes(data, rank, prepare=prepare, **size)
        data = moments(data, chunk or CHUNK, prepare)
    spectrum, basis = np.linalg.eigh(data.covariance())
    spectrum, basis = np.maximum(spectrum[::-1], 0), basis[:, ::-1]
    return Modes(data.size, data.mean, float(spectrum.sum()), basis[:, :rank], spectrum[:rank])


def _mixture(modes: list[Modes], floor: float, rest: str, weights) -> Mixture:
    most = max(len(m.spectrum) for m in modes)
    variance = np.array([floor + RESTS[rest] * _mean_left(m) for m in modes])
    parts = [_filled(m, most, v, floor) for m, v in zip(modes, variance)]
    bases, spectra = (np.stack(part) for part in zip(*parts))
    return from_modes(np.stack([m.mean for m in modes]), bases, spectra, variance, weights)


def _mean_left(m: Modes) -> float:
    """The mean variance of the directions left out.

    At most the smallest kept one, which rounding and an incremental spectrum may fall short of.
    """
    left = len(m.mean) - len(m.spectrum)
    mean = max(m.trace - m.spectrum.sum(), 0) / max(left, 1)
    return float(min(mean, m.spectrum[-1])) if left else 0.0


def _filled(m: Modes, most: int, variance: float, floor: float):
    """Basis and spectrum with `most` columns: those of a cluster of few points are filled up by any
    others, with the variance of the rest."""
    r = len(m.spectrum)
    spectrum = np.append(m.spectrum + floor, np.full(most - r, variance))
    if r == most:
        return m.basis, spectrum
    basis = np.linalg.qr(np.hstack([m.basis, np.eye(len(m.mean), most)]))[0][:, r:most]
    return np.hstack([m.basis, basis]), spectrum
