"""A law with closed forms that the tests of this folder share: two round modes, in a few lines."""

import jax
import jax.numpy as jnp
import numpy as np

#: Each round with its own variance, in a coordinate plane of which nothing is symmetric.
MEANS = np.array([[0.9, 0.4], [-0.7, 0.8]])
VARIANCES = np.array([0.3, 0.6])
LOG_WEIGHTS = np.log([0.6, 0.4])


@jax.jit
def log_density(x, level, y=0.0):
    """log p_t(x), normalised, shape (n,)."""
    variances, means, log_weights = (
        jnp.asarray(a, x.dtype) for a in (VARIANCES, MEANS, LOG_WEIGHTS)
    )
    alpha, sigma = (jnp.asarray(a, x.dtype) for a in (level.alpha, level.sigma))
    variance = alpha**2 * variances + sigma**2
    off = (x - level.beta * y)[:, None] - alpha[..., None] * means
    joint = log_weights - jnp.sum(off**2, -1) / (2 * variance) - jnp.log(2 * jnp.pi * variance)
    return jax.nn.logsumexp(joint, axis=1)


@jax.jit
def score(x, level):
    return jax.grad(lambda x: jnp.sum(log_density(x, level)))(x)


@jax.jit
def field(x, level):
    """The exact denoiser, by Tweedie's formula."""
    return denoiser_of(score)(x, level.astype(x.dtype))


def denoiser_of(score):
    """The field of a score (x, level) -> (n, d)."""
    return lambda x, level: (x + level.sigma**2 * score(x, level)) / level.alpha


def normal_score(scale, variance=0.4):
    """`scale` times the score of N(0, variance I) at the level."""
    return lambda x, level: -scale * x / (level.alpha**2 * variance + level.sigma**2)


def points(n=6, d=2, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(n, d)))


def samples(level, n, seed=0):
    """Draws of p_t."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(2, size=n, p=np.exp(LOG_WEIGHTS))
    spread = np.sqrt(level.alpha**2 * VARIANCES + level.sigma**2)[labels][:, None]
    return jnp.asarray(level.alpha * MEANS[labels] + spread * rng.normal(size=(n, 2)))
