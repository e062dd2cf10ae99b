"""Leading directions read in chunks, fits of Gaussians and mixtures, Gaussians by spectra."""

import itertools

import jax
import numpy as np
import pytest

from dfx.errors import PersonError
from dfx.moments import moments
from dfx.targets import Mixture, cosine_basis, fit, from_modes, leading_modes, power_spectrum

RNG = np.random.default_rng(0)
TURN = np.linalg.qr(RNG.normal(size=(6, 6)))[0]
DATA = (RNG.normal(size=(101, 6)) * [3, 2, 1, 0.5, 0.2, 0.1]) @ TURN.T + 7
COVARIANCE = np.cov(DATA.T, bias=True)
#: Float64 rounding of a hundred sums.
ROUNDING = dict(rtol=1e-12, atol=1e-12)


def test_the_incremental_basis_is_exact_where_nothing_is_cut():
    """Rank + spare of 6 dimensions, or data of that rank: the eigenvectors of the covariance."""
    values, vectors = np.linalg.eigh(COVARIANCE)
    for spare in (3, 16):
        found = leading_modes(DATA, 3, spare, chunk=11)
        np.testing.assert_allclose(found.spectrum, values[::-1][:3], rtol=1e-10)
        np.testing.assert_allclose(np.abs(found.basis.T @ vectors[:, ::-1][:, :3]), np.eye(3),
                                   atol=1e-7)  # fmt: skip
        np.testing.assert_allclose(found.trace, np.trace(COVARIANCE), **ROUNDING)
        np.testing.assert_allclose(found.mean, DATA.mean(0), **ROUNDING)


def test_a_cut_basis_lies_below_by_little_and_keeps_the_trace():
    """Variances k^-2 in 60 dimensions: a cut takes of a direction what rotates it past the cut."""
    data = RNG.normal(size=(400, 60)) * np.arange(1, 61) ** -1.0 + 1.0
    exact = np.linalg.eigvalsh(np.cov(data.T, bias=True))[::-1]
    found = leading_modes(data, 5, 10, chunk=40)
    assert (found.spectrum <= exact[:5] * (1 + 1e-12)).all()
    np.testing.assert_allclose(found.spectrum, exact[:5], rtol=0.01)
    np.testing.assert_allclose(found.trace, exact.sum(), rtol=1e-12)
    np.testing.assert_allclose(found.basis.T @ found.basis, np.eye(5), atol=1e-12)


def test_a_gaussian_has_the_moments_of_the_data():
    law = fit.gaussian(DATA, chunk=10)
    np.testing.assert_allclose(law.mean(), DATA.mean(0), **ROUNDING)
    np.testing.assert_allclose(law.covariance(), COVARIANCE, rtol=1e-9, atol=1e-9)
    floored = fit.gaussian(moments(DATA), floor=0.5).covariance()
    np.testing.assert_allclose(floored, COVARIANCE + 0.5 * np.eye(6), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("largest_exact", [4096, 2])
def test_a_truncated_gaussian_spreads_the_rest_evenly(largest_exact):
    """Exactly, and by the incremental basis, which here cuts nothing."""
    values, vectors = np.linalg.eigh(COVARIANCE)
    rest = values[:4].mean()
    expected = vectors * np.append(np.full(4, rest), values[4:]) @ vectors.T
    law = fit.gaussian(DATA, rank=2, largest_exact=largest_exact)
    assert law.basis.shape == (1, 6, 2)
    np.testing.assert_allclose(law.covariance(), expected, rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(np.trace(law.covariance()), np.trace(COVARIANCE), rtol=1e-12)
    both = fit.gaussian(moments(DATA), rank=2, floor=0.1)
    np.testing.assert_allclose(both.covariance(), expected + 0.1 * np.eye(6), rtol=1e-7, atol=1e-7)
    cut = fit.gaussian(leading_modes(DATA, 3), rank=2, rest="floor", floor=0.1).covariance()
    expected = vectors[:, 4:] * values[4:] @ vectors[:, 4:].T + 0.1 * np.eye(6)
    np.testing.assert_allclose(cut, expected, rtol=1e-7, atol=1e-7)


def test_isotropic_fits_know_the_mean_and_one_variance():
    law = fit.isotropic(DATA.reshape(101, 3, 2), chunk=13)
    np.testing.assert_allclose(law.mean(), DATA.mean(0), **ROUNDING)
    np.testing.assert_allclose(law.variance, np.trace(COVARIANCE) / 6, **ROUNDING)
    assert fit.isotropic(DATA, spread=False).variance == 0


@pytest.mark.parametrize("rank", [None, 1])
def test_kmeans_recovers_a_planted_mixture(rank):
    """Three clusters 50 deviations apart: the moments of each, in any order, to rounding."""
    centres = np.array([[30.0, 0, 0], [0, 50, 0], [0, 0, -40]])
    labels = np.repeat([0, 1, 2], [50, 100, 100])
    data = centres[labels] + RNG.normal(size=(len(labels), 3)) * [1, 0.3, 0.1]
    data = np.float32(data)
    law = fit.kmeans_mixture(jax.random.key(0), data.reshape(-1, 1, 3), 3, rank, floor=0.01)
    for k, centre in enumerate(centres):
        place = int(np.argmin(np.linalg.norm(law.means - centre, axis=1)))
        part = np.float64(data[labels == k])
        values, vectors = np.linalg.eigh(np.cov(part.T, bias=True))
        values[: 0 if rank is None else 3 - rank] = 0
        np.testing.assert_allclose(np.exp(law.log_weights[place]), np.mean(labels == k), rtol=1e-9)
        np.testing.assert_allclose(law.means[place], part.mean(0), rtol=1e-9, atol=1e-9)
        single = Mixture(np.zeros(1), *(np.asarray(a)[[place]] for a in (
            law.means, law.variance, law.basis, law.spectrum)))  # fmt: skip
        expected = vectors * (values + 0.01) @ vectors.T
        np.testing.assert_allclose(single.covariance(), expected, rtol=1e-7, atol=1e-7)


def test_a_cluster_of_fewer_points_than_modes_is_flat_beyond_them(monkeypatch):
    """Three points span two directions; the columns that the other cluster has are any others."""
    monkeypatch.setattr(fit, "LARGEST_EXACT", 2)  # read by the incremental basis
    data = np.float32(DATA[:20] + 100 * (np.arange(20) < 3)[:, None])
    law = fit.kmeans_mixture(jax.random.key(0), data, 2, rank=4, floor=0.01)
    place = int(np.argmax(law.means[:, 0]))
    single = Mixture(np.zeros(1), *(np.asarray(a)[[place]] for a in (
        law.means, law.variance, law.basis, law.spectrum)))  # fmt: skip
    expected = np.cov(np.float64(data[:3]).T, bias=True) + 0.01 * np.eye(6)
    np.testing.assert_allclose(single.covariance(), expected, rtol=1e-7, atol=1e-7)


def test_the_whole_covariance_of_a_kmeans_mixture_is_that_of_the_data():
    """Between and within clusters add up, whatever the clusters: no floor, full rank."""
    law = fit.kmeans_mixture(jax.random.key(1), DATA, 4, floor=0.0)
    np.testing.assert_allclose(law.mean(), DATA.mean(0), rtol=1e-6)  # held as float32
    np.testing.assert_allclose(law.covariance(), COVARIANCE, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("exponent", [0.0, 1.0, 1.5])
def test_a_power_spectrum_falls_by_its_power_and_has_its_trace(exponent):
    law = power_spectrum(50, exponent, 0.25)
    np.testing.assert_allclose(law.spectrum.mean(), 0.25, rtol=1e-12)
    slopes = np.diff(np.log(law.spectrum[0])) / np.diff(np.log(np.arange(1, 51)))
    np.testing.assert_allclose(slopes, -exponent, atol=1e-10)
    turned = power_spectrum(6, exponent, 0.25, TURN, np.ones(6))
    spectrum = power_spectrum(6, exponent, 0.25).spectrum[0]
    np.testing.assert_allclose(turned.covariance(), TURN * spectrum @ TURN.T, **ROUNDING)
    flat = power_spectrum(6, exponent, 0.25, TURN[:, :2])
    values = np.linalg.eigvalsh(flat.covariance())
    np.testing.assert_allclose(values[:4], 0, atol=1e-12)
    np.testing.assert_allclose(values.sum(), 1.5, rtol=1e-12)


def test_cosine_waves_are_orthonormal_and_sorted_by_frequency():
    shape = (4, 3, 2)
    basis = cosine_basis(shape)
    np.testing.assert_allclose(basis.T @ basis, np.eye(24), atol=1e-12)
    np.testing.assert_allclose(basis[:, 0], 24**-0.5, rtol=1e-12)
    # The slowest wave but one runs along the longest axis, by half a period.
    wave = basis[:, 1].reshape(shape)
    np.testing.assert_allclose(wave[:, 0, 0], 12**-0.5 * np.cos(np.pi * (np.arange(4) + 0.5) / 4),
                               rtol=1e-12)  # fmt: skip
    np.testing.assert_allclose(wave, np.broadcast_to(wave[:, :1, :1], shape), rtol=1e-12)
    # Sums of squares of cycles per pixel: (1, 1) comes before (2, 0), along axes of any length.
    waves = sorted(
        itertools.product(range(7), range(5)), key=lambda w: np.hypot(w[0] / 7, w[1] / 5)
    )
    phases = [np.pi * (np.arange(size) + 0.5) / size for size in (7, 5)]
    columns = np.stack([np.outer(*(np.cos(w * p) for w, p in zip(wave, phases))).ravel()
                        for wave in waves], 1)  # fmt: skip
    columns /= np.linalg.norm(columns, axis=0)
    np.testing.assert_allclose(cosine_basis((7, 5)), columns, atol=1e-12)
    # Squared differences between neighbours, summed, rise with the frequency along one axis.
    line = cosine_basis((8,))
    roughness = np.sum(np.diff(line, axis=0) ** 2, axis=0)
    np.testing.assert_allclose(roughness, 4 * np.sin(np.pi * np.arange(8) / 16) ** 2, atol=1e-12)


def test_modes_are_stored_as_they_are_given():
    law = from_modes(np.zeros((2, 6)), np.stack([TURN[:, :2]] * 2), [[3, 2], [4, 1]], [0.5, 1.0])
    # Of equal means and weights: the mean of the two covariances.
    inside = TURN[:, :2] * [3.5, 1.5] @ TURN[:, :2].T
    outside = 0.75 * TURN[:, 2:] @ TURN[:, 2:].T
    np.testing.assert_allclose(law.covariance(), inside + outside, **ROUNDING)


def test_mistakes_are_named():
    for text, call in {
        "rank = 0": lambda: leading_modes(DATA, 0),
        "floor = -1": lambda: fit.gaussian(DATA, floor=-1),
        "did you mean 'mean'": lambda: fit.gaussian(DATA, 2, rest="maen"),
        "num_modes = 200": lambda: fit.kmeans_mixture(jax.random.key(0), DATA, 200),
        "exponent = -1": lambda: power_spectrum(3, -1),
        "not orthonormal": lambda: power_spectrum(6, basis=2 * TURN),
        r"need \(k, d\)": lambda: power_spectrum(5, basis=TURN),
        "every axis": lambda: cosine_basis((3, 0)),
    }.items():
        with pytest.raises(PersonError, match=text):
            call()
