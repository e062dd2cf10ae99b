"""The orthogonal split s_theta = grad phi + r in L^2(p): claim 5 of the study `gauge_freedom`."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from dfx import diagnostics
from experiments.gauge_freedom.exact import make_bed, seed_keys
from experiments.shared import perturbed

#: Lengths over which the features vary, from the width of a mode to that of the law.
WIDTHS = (0.2, 1.5)

#: Keys of the part; of a seed: draws of the fit, of the judgement.
_LINEAR, _MIXTURE, _FEATURES = 10, 11, 12


def split(config, run) -> None:
    """The split of random linear fields in closed form, and of a planted error from samples."""
    run.arrays("linear", lambda: linear(config))
    run.arrays("mixture", lambda: mixture(config, run))


def linear(config) -> dict[str, np.ndarray]:
    """Return what should vanish for random linear fields B x on random Gaussians N(0, C):

        |E|B x|^2 - E|S x|^2 - E|r|^2|,  |tr(B - S)|,  |sym(C^-1 (B - S))|,

    each over its natural size, shape (dims, seeds); the last two are the gauge condition. The inner
    product of the plain symmetric and antisymmetric parts is kept as a contrast.
    """
    settings, rows = config.split, []
    with jax.enable_x64(True):
        for dim in settings.dims:
            keys = seed_keys(config, settings.num_seeds, _LINEAR + 100 * dim)
            rows.append(jax.tree.map(np.asarray, _linear_residuals(keys, dim)))
    found = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    return {"dims": np.asarray(settings.dims), **found}


@functools.partial(jax.jit, static_argnames="dim")
@functools.partial(jax.vmap, in_axes=(0, None))
def _linear_residuals(key, dim: int) -> dict[str, jax.Array]:
    key_b, key_c = jax.random.split(key)
    b = jax.random.normal(key_b, (dim, dim), jnp.float64)
    root = jax.random.normal(key_c, (dim, dim), jnp.float64)
    covariance = root @ root.T + 0.1 * jnp.eye(dim)
    found = diagnostics.split_linear(b, covariance)
    total, gradient, remainder = found.parts.total, found.parts.gradient, found.parts.remainder
    weighted = jnp.linalg.solve(covariance, found.remainder)
    symmetric = jnp.linalg.norm(weighted + weighted.T) / jnp.linalg.norm(weighted)
    plain = jnp.trace(0.5 * (b + b.T).T @ (0.5 * (b - b.T)) @ covariance) / total
    return {
        "pythagoras": abs(total - gradient - remainder) / total,
        "trace": abs(jnp.trace(found.remainder)) / jnp.linalg.norm(found.remainder),
        "symmetric": symmetric,
        "plain": abs(plain),
    }


def make_features(key, num: int):
    """Return x_a, x_a x_b and `num` random waves in the plane, of lengths spread over `WIDTHS`."""
    key_width, key_wave = jax.random.split(key)
    low, high = np.log(WIDTHS)
    width = jnp.exp(jax.random.uniform(key_width, (num, 1), minval=low, maxval=high))
    return diagnostics.joined(
        diagnostics.quadratic, diagnostics.fourier(key_wave, 2, num, width=width)
    )


def mixture(config, run) -> dict[str, np.ndarray]:
    """Split s_theta = s + r + grad u with planted r and u on the mixture, from samples.

    The score is a gradient itself, so the error r + grad u alone is projected: log p is one of the
    features, and waves need not follow its modes.

    Returns, shape (times, seeds), on draws that the fit has not seen: `inner` E[grad phi . r], its
    standard error, `excess` = E|s_theta - s|^2 - E|grad phi - s|^2 - E|r|^2 with its standard
    error, and the sizes.
    """
    settings, bed = config.split, make_bed(config)
    keys = seed_keys(config, settings.num_seeds, _MIXTURE)
    features = make_features(seed_keys(config, 1, _FEATURES)[0], settings.num_features)
    rows = []
    with run.progress(len(settings.times) * len(keys), "mixture", unit="split") as bar:
        for t in settings.times:
            for key in keys:
                rows.append(_split_once(settings, bed, features, t, key))
                bar.update(1)
    shape = len(settings.times), len(keys)
    return {name: np.reshape([row[name] for row in rows], shape) for name in rows[0]}


def _split_once(settings, bed, features, t, key) -> dict[str, float]:
    level, planted = bed.schedule.at(t), (settings.gauge, settings.gradient)
    fit, judge = (
        bed.draw(jax.random.fold_in(key, i), n, t)
        for i, n in enumerate((settings.num_fit, settings.num_judge))
    )
    _, gauge, gradient = _planted(bed, fit, level, planted)
    potential = diagnostics.project(features, fit, gauge + gradient)
    found = _judged(bed, potential, judge, level, planted)
    return {name: float(value) for name, value in found.items()}


@jax.jit
def _planted(bed, x, level, planted):
    """s, r and grad u at x, shapes of x."""
    size, slope = planted
    score = diagnostics.prediction_at(bed.exact, level)(x)
    gauge = size * perturbed.gauge_error(bed)(x, level)
    return score, gauge, slope * diagnostics.gradient_of(perturbed.ripple)(x, level)


@jax.jit
def _judged(bed, potential, x, level, planted) -> dict:
    score, gauge, gradient = _planted(bed, x, level, planted)
    values, slope = score + gauge + gradient, score + potential(x)
    found = diagnostics.parts(lambda x: slope, x, values)
    off, remainder = slope - score, values - slope
    products = 2 * jnp.sum(off * remainder, axis=1)
    square = lambda a: jnp.mean(jnp.sum(a * a, axis=1))  # noqa: E731
    return {
        "inner": found.inner,
        "inner_error": found.inner_error,
        "excess": jnp.mean(products),
        "excess_error": jnp.std(products, ddof=1) / len(x) ** 0.5,
        "loss": square(values - score),
        "remainder": found.remainder,
        "planted": square(gauge),
        "off": square(off),
        "planted_off": square(gradient),
    }
